"""What an agent decides in a training environment, and how a decision becomes a noise schedule.

Each kind of action is a frozen model that a variant names by ``kind``. To add one, write a subclass of :class:`Action`
and put it into :data:`AnyAction`. Decoding is pure: the schedules of the next phase follow from the actions of one
sweep and from what the run carries between phases (log K for ``gain``, for example). ``encode`` goes the other way: it
finds the actions that come closest to a given schedule, so that a hand-made schedule can act as a policy.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from schedrl import schedules
from schedrl.diffusion.training_spec import DSCCoefficients, TrainingSpec
from schedrl.errors import SchedrlError, Spec
from schedrl.schedules import AnySchedule, Schedule, conversions

if TYPE_CHECKING:
    from schedrl.diffusion.local_variance import LocalDeviation
    from schedrl.diffusion.noise import NoiseSampler


Array = NDArray[np.float64]

Memory = tuple[float, ...]
"""What one run carries from phase to phase."""

Range = tuple[float, float]
"""Pinned log-SNR end points of the measurement: (data end, noise end)."""


class Action(Spec, ABC):
    """One way of deciding a schedule.

    By default an agent takes one action per phase, a run carries nothing between phases, and the variant sets the
    optimizer and the timesteps.

    Attributes:
        kind: Name in the variant.
        paper: Name of the paper whose learned agent makes these decisions, if there is one.
    """

    paper: ClassVar[str] = ""

    kind: str

    @property
    def num_knots(self) -> int:
        """Environment steps in the sweep before each phase of training."""
        return 1

    @property
    def initial_memory(self) -> Memory:
        """What a run carries from phase to phase, at the start of an episode."""
        return ()

    @property
    def own_timesteps(self) -> int | None:
        """T of the training noise, where the action sets it."""
        return None

    @property
    def walks_images(self) -> bool:
        """Whether every training image has its own noise, see :meth:`image_noise`."""
        return False

    def check_training(self, training: TrainingSpec) -> None:
        """Raise ``ValueError`` if the networks are trained in a way that the action does not work with."""

    @abstractmethod
    def space(self) -> gym.spaces.Box | gym.spaces.Discrete:
        """Action space of one run."""

    @abstractmethod
    def schedules(self, sweep: NDArray[Any], memory: Array, limits: Range) -> tuple[list[Schedule], Array]:
        """Decode a sweep.

        Args:
            sweep: ``[knots, runs, ...]`` actions.
            memory: ``[runs, entries]``, carried from the last phase.
            limits: Log-SNR at the data end and at the noise end of the measurement.

        Returns:
            One schedule per run, and the memory to carry on.
        """

    @abstractmethod
    def encode(self, schedule: Schedule, knot: int, memory: Memory, limits: Range) -> NDArray[Any]:
        """Action at ``knot`` that reproduces ``schedule``.

        Raises:
            SchedrlError: This kind cannot represent the schedule.
        """

    def coefficients(self, memory: Array) -> DSCCoefficients | None:
        """DSC's γ and λ for the next phase, where the agent sets them."""
        return None

    def gains(self, memory: Array) -> Array | None:
        """AVA's K of every run, ``[runs]``, where the agent sets it."""
        return None

    def walked(self, sweep: NDArray[Any], images: LocalDeviation, limits: Range) -> tuple[Array, Array]:
        """Log ᾱ reached after the knots walked so far, and σ_local of ``images`` there, each ``[runs]``."""
        reached = np.zeros(sweep.shape[1])
        return reached, images.at(reached)

    def image_noise(
        self, sweep: NDArray[Any], images: LocalDeviation, limits: Range
    ) -> tuple[list[Schedule], NoiseSampler]:
        """The noise of every training image, and per run the schedule of mean log ᾱ over the images."""
        raise NotImplementedError


class BoxAction(Action):
    """Base of the continuous kinds: a Box of [−1, 1], in which 0 is the reference."""

    @property
    def width(self) -> int:
        return 1

    def space(self) -> gym.spaces.Box:
        """Box of [−1, 1]."""
        return gym.spaces.Box(-1.0, 1.0, (self.width,), np.float32)


class KernelAction(BoxAction):
    """AKOD's kernel: one action at each of ``knots`` points in t, which sets β from what is seen there.

    At knot j the action gives log β_j = log β_j^ref + ``scale`` × action, and β_j holds for T/K steps. β^ref is chosen
    so that action 0 at every knot passes through the reference's ᾱ at the knots.

    With ``per_image`` every training image has its own β. An action is then a level and a slope: log β_j of an image is
    log β_j^ref + ``scale`` × (level + slope × s), where s is the image's σ_local relative to that of the others,
    (σ − mean) over two standard deviations, within ±1. That is β = f(t, σ_local) to first order in σ_local; with slope
    0 all images have the same schedule.

    Attributes:
        knots: K, points in t.
        num_train_timesteps: T, a multiple of K.
        scale: Change of log β at action ±1.
        reference: The schedule of action 0.
        per_image: Whether the β of an image depends on its own σ_local.
    """

    paper: ClassVar[str] = "AKOD"

    kind: Literal["kernel"] = "kernel"
    knots: Annotated[int, Field(ge=1, le=1000)] = 10
    num_train_timesteps: Annotated[int, Field(ge=1, le=100_000)] = 1000
    scale: Annotated[float, Field(gt=0.0, le=20.0)] = 1.0
    reference: AnySchedule
    per_image: bool = False

    @model_serializer(mode="wrap")
    def _without_absent_parts(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # What does not act does not enter a variant's fingerprint.
        content: dict[str, Any] = serialize(self)
        if not self.per_image:
            content.pop("per_image", None)
        return content

    @model_validator(mode="after")
    def _whole_knots(self) -> KernelAction:
        if self.num_train_timesteps % self.knots:
            raise ValueError(
                f"num_train_timesteps must be a multiple of knots = {self.knots} (got {self.num_train_timesteps})"
            )
        return self

    @property
    def num_knots(self) -> int:
        return self.knots

    @property
    def own_timesteps(self) -> int:
        return self.num_train_timesteps

    @property
    def walks_images(self) -> bool:
        return self.per_image

    @property
    def width(self) -> int:
        return 2 if self.per_image else 1

    def betas(self, sweep: NDArray[Any], limits: Range) -> Array:
        """β of an average image at the knots walked so far: actions ``[knots, runs, width]`` to ``[knots, runs]``."""
        reference = self.knot_betas(self.reference, limits)[: len(sweep), None]
        log_betas: Array = np.log(reference) + self.scale * sweep[..., 0].astype(np.float64)
        return np.minimum(np.exp(log_betas), 0.999)

    def walked(self, sweep: NDArray[Any], images: LocalDeviation, limits: Range) -> tuple[Array, Array]:
        if self.per_image:
            each = self.image_walk(sweep, images, limits)[..., -1]
            return each.mean(axis=1), images.at_images(each).mean(axis=1)
        steps = self.num_train_timesteps / self.knots
        reached = steps * np.log1p(-self.betas(sweep, limits)).sum(axis=0)
        return reached, images.at(reached)

    def image_noise(
        self, sweep: NDArray[Any], images: LocalDeviation, limits: Range
    ) -> tuple[list[Schedule], NoiseSampler]:
        from schedrl.diffusion.noise import ImageScheduleNoise  # loads PyTorch

        walk = self.image_walk(sweep, images, limits)
        per_knot = self.num_train_timesteps / self.knots
        betas = -np.expm1(np.diff(walk.mean(axis=1), axis=-1) / per_knot)
        noise = ImageScheduleNoise(walk, self.num_train_timesteps)
        return [self._schedule(row) for row in betas.tolist()], noise

    def image_walk(self, sweep: NDArray[Any], deviation: LocalDeviation, limits: Range) -> Array:
        """log ᾱ of every image at the knots walked so far, 0 at the first, ``[runs, images, knots + 1]``."""
        reference = np.log(self.knot_betas(self.reference, limits))
        reached = [np.zeros((sweep.shape[1], len(deviation)))]
        for log_beta, actions in zip(reference, sweep.astype(np.float64), strict=False):
            relative = relative_deviation(deviation.at_images(reached[-1]))
            level, slope = actions[:, :1], actions[:, 1:]
            betas = np.minimum(np.exp(log_beta + self.scale * (level + slope * relative)), 0.999)
            reached.append(reached[-1] + self.num_train_timesteps / self.knots * np.log1p(-betas))
        return np.stack(reached, axis=-1)

    def schedules(self, sweep: NDArray[Any], memory: Array, limits: Range) -> tuple[list[Schedule], Array]:
        """Piecewise-constant β of an average image."""
        return [self._schedule(row) for row in self.betas(sweep, limits).T.tolist()], memory

    def _schedule(self, betas: list[float]) -> Schedule:
        return schedules.BetaKnots(betas=tuple(betas), num_train_timesteps=self.num_train_timesteps)

    def encode(self, schedule: Schedule, knot: int, memory: Memory, limits: Range) -> NDArray[np.float32]:
        """Match the schedule's ᾱ at the next knot."""
        wanted = self.knot_betas(schedule, limits)[knot] / self.knot_betas(self.reference, limits)[knot]
        level = np.clip(math.log(wanted) / self.scale, -1.0, 1.0)
        return np.array([level, 0.0][: self.width], dtype=np.float32)

    def knot_betas(self, schedule: Schedule, limits: Range) -> Array:
        """Constant β between knots that passes through the schedule's ᾱ at them, cut to the measured range."""
        per_knot = self.num_train_timesteps // self.knots
        highest, lowest = conversions.log_alpha_bar_from_logsnr(limits)
        reached = schedule.log_alphas_cumprod(self.num_train_timesteps)[per_knot - 1 :: per_knot]
        betas: Array = -np.expm1(np.diff(reached.clip(lowest, highest), prepend=0.0) / per_knot)
        return betas.clip(1e-8, 0.999)


def relative_deviation(sigma: Array) -> Array:
    """σ_local of images ``[runs, images]`` relative to the others of the run, within ±1."""
    centred = sigma - sigma.mean(axis=1, keepdims=True)
    spread = 2.0 * sigma.std(axis=1, keepdims=True)
    relative: Array = np.where(spread > 1e-12, centred / np.maximum(spread, 1e-12), 0.0).clip(-1.0, 1.0)
    return relative


class KnotsAction(BoxAction):
    """The whole schedule at once: the share of training noise in each of ``bins`` equal cells of log-SNR.

    The shares are softmax(log of the reference's shares + ``scale`` × action); their cumulative sum places the knots
    of a monotone piecewise-linear λ(u). Action 0 is the reference, cut to the measured range.

    Attributes:
        bins: Cells between the measurement's end points.
        scale: Change of a log share at action ±1.
        reference: The schedule of action 0.

    Examples:
        >>> action = KnotsAction(bins=2, reference={"name": "uniform", "logsnr_max": 8.0, "logsnr_min": -6.0})
        >>> sweep = np.array([[[1.0, -1.0]]])  # one knot, one run: data end up, noise end down
        >>> (schedule,), _ = action.schedules(sweep, np.zeros(1), (8.0, -6.0))
        >>> schedule.fraction_above(1.0).round(3)  # 1 / (1 + exp(-2 * scale))
        np.float64(0.982)
    """

    kind: Literal["knots"] = "knots"
    bins: Annotated[int, Field(ge=2, le=200)] = 10
    scale: Annotated[float, Field(gt=0.0, le=20.0)] = 2.0
    reference: AnySchedule

    @property
    def width(self) -> int:
        return self.bins

    def schedules(self, sweep: NDArray[Any], memory: Array, limits: Range) -> tuple[list[Schedule], Array]:
        logits = np.log(self._shares(self.reference, limits)) + self.scale * sweep[-1].astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        edges = np.linspace(*limits, self.bins + 1)
        return [schedules.PiecewiseLogSNR.from_density(edges, row) for row in shares], memory

    def encode(self, schedule: Schedule, knot: int, memory: Memory, limits: Range) -> NDArray[np.float32]:
        logits = np.log(self._shares(schedule, limits) / self._shares(self.reference, limits)) / self.scale
        # Logits matter only up to a constant: centring uses the box best.
        logits -= 0.5 * (logits.max() + logits.min())
        return logits.clip(-1.0, 1.0).astype(np.float32)

    def _shares(self, schedule: Schedule, limits: Range) -> Array:
        edges = np.linspace(*limits, self.bins + 1)
        shares = np.diff(schedule.fraction_above(edges))
        # A floor keeps every share reachable: the logarithm of an empty cell is not an action.
        shares = np.maximum(shares, 1e-4 * max(float(shares.sum()), 1e-12))
        normalised: Array = shares / shares.sum()
        return normalised


class ChoiceAction(Action):
    """One of the given schedules, exactly.

    Attributes:
        choices: The schedules, two or more.
    """

    kind: Literal["choice"] = "choice"
    choices: Annotated[tuple[AnySchedule, ...], Field(min_length=2)]

    @classmethod
    def of(cls, *choices: Schedule) -> ChoiceAction:
        """A choice among any number of schedules. A variant needs two, so a single schedule is offered twice."""
        return cls.model_validate({"choices": choices if len(choices) > 1 else choices * 2})

    def space(self) -> gym.spaces.Discrete:
        return gym.spaces.Discrete(len(self.choices))

    def schedules(self, sweep: NDArray[Any], memory: Array, limits: Range) -> tuple[list[Schedule], Array]:
        return [self.choices[int(index)] for index in sweep[-1]], memory

    def encode(self, schedule: Schedule, knot: int, memory: Memory, limits: Range) -> NDArray[np.int64]:
        if schedule not in self.choices:
            raise SchedrlError(f"action kind 'choice' does not offer schedule {schedule.model_dump_json()}")
        return np.asarray(self.choices.index(schedule), dtype=np.int64)


class GainAction(BoxAction):
    """AVA's K: each phase changes log K in β(t) = β_init + K (1 − exp(−αt)).

    Attributes:
        beta_init: β_init.
        alpha: α.
        initial_gain: K at the start of an episode.
        minimum: Smallest K.
        maximum: Largest K.
        scale: Change of log K at action ±1.
    """

    kind: Literal["gain"] = "gain"
    beta_init: Annotated[float, Field(gt=0.0, le=1e6)] = 0.1
    alpha: Annotated[float, Field(gt=0.0, le=1e6)] = 2.0
    initial_gain: Annotated[float, Field(ge=1e-6, le=1e6)] = 20.0
    minimum: Annotated[float, Field(ge=1e-6, le=1e6)] = 0.5
    maximum: Annotated[float, Field(ge=1e-6, le=1e6)] = 200.0
    scale: Annotated[float, Field(gt=0.0)] = 1.5

    @model_validator(mode="after")
    def _ordered(self) -> GainAction:
        if not self.minimum <= self.initial_gain <= self.maximum:
            raise ValueError(
                f"initial_gain must lie in [minimum, maximum] = [{self.minimum}, {self.maximum}] "
                f"(got {self.initial_gain})"
            )
        return self

    @property
    def initial_memory(self) -> Memory:
        return (math.log(self.initial_gain),)

    def schedules(self, sweep: NDArray[Any], memory: Array, limits: Range) -> tuple[list[Schedule], Array]:
        moved = memory + self.scale * sweep[-1].astype(np.float64)
        memory = moved.clip(math.log(self.minimum), math.log(self.maximum))
        return [self.ava(math.exp(log_gain)) for log_gain in memory[:, 0].tolist()], memory

    def gains(self, memory: Array) -> Array:
        return np.exp(memory[:, 0])

    def ava(self, gain: float) -> Schedule:
        """AVA's law at a given K."""
        return schedules.AVA(beta_init=self.beta_init, K=gain, alpha=self.alpha)

    def encode(self, schedule: Schedule, knot: int, memory: Memory, limits: Range) -> NDArray[np.float32]:
        """The change of log K towards the K of an AVA law."""
        change = (math.log(_ava(schedule, self.kind).K) - memory[0]) / self.scale
        return np.array([np.clip(change, -1.0, 1.0)], dtype=np.float32)


class LogRange(Spec):
    """A positive number that an agent moves by steps of its logarithm.

    Attributes:
        initial: Value at the start of an episode.
        minimum: Smallest value.
        maximum: Largest value.
        scale: Change of the logarithm at action ±1.
    """

    initial: Annotated[float, Field(ge=1e-6, le=1e6)]
    minimum: Annotated[float, Field(ge=1e-6, le=1e6)]
    maximum: Annotated[float, Field(ge=1e-6, le=1e6)]
    scale: Annotated[float, Field(gt=0.0, le=20.0)] = 1.5

    @model_validator(mode="after")
    def _ordered(self) -> LogRange:
        if not self.minimum <= self.initial <= self.maximum:
            raise ValueError(
                f"initial must lie in [minimum, maximum] = [{self.minimum}, {self.maximum}] (got {self.initial})"
            )
        return self


class DSCAction(BoxAction):
    """AVA-DSC's future work: each phase changes the logs of AVA's K and α and of DSC's γ and λ.

    AVA's law is β(t) = β_init + K (1 − exp(−αt)), the learning rate η_t = η · exp(−γ β) · (1 + λ ‖∇L‖); the optimizer
    must be ``"dsc"``. Action 0 leaves all four as they are.

    Attributes:
        beta_init: β_init.
        gain: K.
        alpha: α.
        gamma: γ; at its minimum it has almost no effect.
        boost: λ; likewise.

    Examples:
        >>> action = DSCAction()
        >>> sweep = np.array([[[1.0, 0.0, 0.0, -1.0]]])  # one knot, one run: more noise, less boost
        >>> (ava,), memory = action.schedules(sweep, np.array([action.initial_memory]), (8.0, -6.0))
        >>> round(ava.K, 2), action.coefficients(memory).boost.round(4).tolist()
        (89.63, [0.0223])
    """

    paper: ClassVar[str] = "AVA-DSC"

    kind: Literal["dsc"] = "dsc"
    beta_init: Annotated[float, Field(gt=0.0, le=1e6)] = 0.1
    gain: LogRange = LogRange(initial=20.0, minimum=0.5, maximum=200.0)
    alpha: LogRange = LogRange(initial=2.0, minimum=0.1, maximum=50.0)
    gamma: LogRange = LogRange(initial=1.0, minimum=0.01, maximum=100.0)
    boost: LogRange = LogRange(initial=0.1, minimum=0.001, maximum=10.0)

    @property
    def _ranges(self) -> tuple[LogRange, LogRange, LogRange, LogRange]:
        return self.gain, self.alpha, self.gamma, self.boost

    @property
    def width(self) -> int:
        return len(self._ranges)

    @property
    def initial_memory(self) -> Memory:
        return tuple(math.log(each.initial) for each in self._ranges)

    def schedules(self, sweep: NDArray[Any], memory: Array, limits: Range) -> tuple[list[Schedule], Array]:
        scale, low, high = (
            np.array([getattr(each, name) for each in self._ranges])
            for name in ("scale", "minimum", "maximum")
        )
        memory = (memory + scale * sweep[-1].astype(np.float64)).clip(np.log(low), np.log(high))
        made: list[Schedule] = [
            schedules.AVA(beta_init=self.beta_init, K=gain, alpha=alpha)
            for gain, alpha in np.exp(memory[:, :2]).tolist()
        ]
        return made, memory

    def check_training(self, training: TrainingSpec) -> None:
        if (name := training.optimizer.name) != "dsc":
            raise ValueError(f"training.optimizer.name: the dsc action needs 'dsc' (got '{name}')")

    def coefficients(self, memory: Array) -> DSCCoefficients:
        return DSCCoefficients(gamma=np.exp(memory[:, 2]), boost=np.exp(memory[:, 3]))

    def gains(self, memory: Array) -> Array:
        return np.exp(memory[:, 0])

    def encode(self, schedule: Schedule, knot: int, memory: Memory, limits: Range) -> NDArray[np.float32]:
        """The changes towards the K and α of an AVA law; γ and λ stay as they are."""
        return self.towards(schedule, math.exp(memory[2]), math.exp(memory[3]), memory)

    def towards(self, schedule: Schedule, gamma: float, boost: float, memory: Memory) -> NDArray[np.float32]:
        """The changes towards an AVA law, γ and λ."""
        ava = _ava(schedule, self.kind)
        wanted = (ava.K, ava.alpha, gamma, boost)
        changes = [
            (math.log(min(max(value, each.minimum), each.maximum)) - now) / each.scale
            for value, now, each in zip(wanted, memory, self._ranges, strict=True)
        ]
        return np.clip(changes, -1.0, 1.0).astype(np.float32)


def _ava(schedule: Schedule, kind: str) -> schedules.AVA:
    if not isinstance(schedule, schedules.AVA):
        raise SchedrlError(
            f"action kind '{kind}' can represent AVA's law only, not schedule '{schedule.name}'"
        )
    return schedule


AnyAction = Annotated[
    KernelAction | KnotsAction | GainAction | DSCAction | ChoiceAction, Field(discriminator="kind")
]
"""Any action kind, chosen by ``kind``."""
