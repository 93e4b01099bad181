"""Episodes of many training runs at once, without Gymnasium's conventions around them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedrl import data
from schedrl.diffusion.local_variance import LocalDeviation
from schedrl.diffusion.noise import NoiseSampler, ScheduleNoise, logsnr_quantiles
from schedrl.diffusion.population import PhaseRecord, Population
from schedrl.diffusion.training_spec import DSCCoefficients
from schedrl.environments.training.divergence import DivergenceRule
from schedrl.environments.training.observations import RunView
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.metrics.variational_bound import Bound, BoundValue, OwnLoss
from schedrl.schedules import Schedule, conversions

Array = NDArray[np.float64]

_LOCAL_IMAGES = 32
"""Training images from which σ_local is computed."""

_EVERY_IMAGE = 1_000_000_000
"""Most pixels of all images and runs for a kernel over single images, whose local variance it computes at a knot."""


@dataclass(frozen=True)
class Phase:
    """A phase of training that may be trained in parts.

    Attributes:
        population: The networks.
        schedules: The schedule of every run.
        noise: Their training noise.
        coefficients: DSC's γ and λ, where the agent sets them.
        due: The runs that are trained, ``[runs]``; all when absent.
        records: Records of the parts trained so far.
    """

    population: Population
    schedules: list[Schedule]
    noise: NoiseSampler
    coefficients: DSCCoefficients | None
    due: NDArray[np.bool_] | None = None
    records: list[PhaseRecord] = field(default_factory=list)

    def advance(self, num_steps: int) -> PhaseRecord:
        """Continue training; the numbers do not depend on how a phase is cut into parts."""
        self.records.append(self.population.train(self.noise, num_steps, self.coefficients, self.due))
        return self.records[-1]


class TrainingRuns:
    """Episodes of a variant, trained side by side.

    Args:
        variant: The environment.
        num_runs: Number of episodes.
        device: Torch device of the networks.

    Raises:
        SchedrlError: The data is missing or does not fit the variant.

    Attributes:
        phase: Phases trained so far, ``[runs]``.
        mse: Validation ε error at each λ of the bound, ``[runs, levels]``.
        current: Validation bound in bits/dim, ``[runs]``.
        memory: What the action carries between phases, ``[runs, entries]``.
        sweep: Actions of the present sweeps so far, one entry per environment step.
        begun: Where in ``sweep`` each run's begins, ``[runs]``; 0 unless a run was reset within the others' sweep.
        history: Schedules of the phases so far, per run.
        losses: Training losses of the phases so far, per run.
    """

    def __init__(self, variant: TrainingVariant, num_runs: int, device: str = "cpu") -> None:
        self.variant, self.num_runs = variant, num_runs
        images = data.load(variant.data)
        self.images = images
        self.population = Population(variant.training, images.train, num_runs, device)
        self.bound = Bound(variant.bound, images.validation, images.levels, device)
        self._test: Bound | None = None
        self._own_loss: OwnLoss | None = None
        if variant.reward.needs_own_loss:
            chosen = images.validation[: variant.bound.images]
            self._own_loss = OwnLoss(chosen, variant.bound.levels, device)
        self.local_deviation = LocalDeviation.of(images.train[:_LOCAL_IMAGES])
        self._every_image = self._image_deviation()
        self.limits = (variant.bound.logsnr_max, variant.bound.logsnr_min)
        self.divergence = DivergenceRule(variant, self.bound)
        self.phase, self.seeds = (np.zeros(num_runs, dtype=np.int64) for _ in range(2))
        self.mse = np.ones((num_runs, variant.bound.levels))
        self.memory = np.zeros((num_runs, len(variant.action.initial_memory)))
        self.current, self.gradient_sum, self.gradient_weight, self.seconds = np.zeros((4, num_runs))
        self.gradient_norm = np.ones(num_runs)
        self.diverged = np.zeros(num_runs, dtype=np.bool_)
        self.sweep: list[NDArray[Any]] = []
        self.begun = np.zeros(num_runs, dtype=np.int64)
        self.history: list[list[Schedule]] = [[] for _ in range(num_runs)]
        self.losses: list[list[NDArray[np.float32]]] = [[] for _ in range(num_runs)]

    def start(self, run: int, seed: int) -> None:
        """Begin a new episode in ``run``."""
        self.population.start(run, seed)
        self.phase[run], self.seeds[run] = 0, seed
        self.mse[run] = self.divergence.untrained_mse
        self.current[run] = self.bound.bits_per_dim(self.divergence.untrained_mse)
        self.memory[run] = self.variant.action.initial_memory
        self.gradient_norm[run] = 1.0
        self.gradient_sum[run] = self.gradient_weight[run] = self.seconds[run] = 0.0
        self.diverged[run] = False
        self.history[run], self.losses[run] = [], []
        self._drop(np.arange(self.num_runs) == run)

    def walk(self, actions: NDArray[Any], idle: NDArray[np.bool_] | None = None) -> bool:
        """Add one action per run to its sweep, but for the ``idle`` ones.

        Returns:
            Whether a sweep is complete, and :meth:`train_phase` is next.
        """
        self.sweep.append(actions.copy())
        if idle is not None:
            self._drop(idle)
        return bool(self._due().any())

    def _due(self) -> NDArray[np.bool_]:
        """The runs whose sweep is complete."""
        complete: NDArray[np.bool_] = len(self.sweep) - self.begun == self.variant.action.num_knots
        return complete

    def _drop(self, chosen: NDArray[np.bool_]) -> None:
        """Let the sweeps of some runs begin with the next action."""
        begun = np.where(chosen, len(self.sweep), self.begun)
        unused = int(begun.min())
        self.sweep, self.begun = self.sweep[unused:], begun - unused

    def view(self) -> RunView:
        """The state that observations are made from."""
        runs, action = self.num_runs, self.variant.action
        sigma, logsnr = self.local_deviation.at(np.zeros(runs)), np.full(runs, self.limits[0])
        for begin in set(self.begun.tolist()) - {len(self.sweep)}:
            rows = self.begun == begin
            sweep = np.stack(self.sweep[begin:])[:, rows]
            reached, sigma[rows] = action.walked(sweep, self.local_deviation, self.limits)
            logsnr[rows] = conversions.logsnr_from_log_alpha_bar(reached)
        unseen = self.gradient_weight == 0.0
        average = np.where(unseen, 1.0, self.gradient_sum / np.where(unseen, 1.0, self.gradient_weight))
        return RunView(
            time=(len(self.sweep) - self.begun) / action.num_knots,
            sigma_local=sigma,
            logsnr=logsnr,
            budget=1.0 - self.phase / self.variant.episode.phases,
            mse=self.mse,
            gradient_norm=self.gradient_norm,
            gradient_average=average,
            memory=self.memory,
        )

    def train_phase(self) -> tuple[Array, NDArray[np.bool_]]:
        """Train the runs whose sweep is complete for one phase under its schedule; see :meth:`finish_phase`."""
        began = time.perf_counter()
        phase = self.begin_phase()
        phase.advance(self.variant.episode.steps_per_phase)
        outcome = self.finish_phase(phase)
        self.seconds += (time.perf_counter() - began) / self.num_runs
        return outcome

    def begin_phase(self) -> Phase:
        """Decode the sweep into the schedules of the next phase."""
        action, due = self.variant.action, self._due()
        sweep = np.stack(
            self.sweep[-action.num_knots :]
        )  # of a run that is not due, the numbers are not used
        schedules, memory = action.schedules(sweep, self.memory, self.limits)
        self.memory = np.where(due[:, None], memory, self.memory)
        noise: NoiseSampler
        if self._every_image is not None:
            schedules, noise = action.image_noise(sweep, self._every_image, self.limits)
        else:
            betas = self.variant.training.reads_betas
            noise = ScheduleNoise.of(schedules, self.variant.timesteps, betas=betas)
        self._drop(due)
        return Phase(
            self.population, schedules, noise, action.coefficients(self.memory), None if due.all() else due
        )

    def finish_phase(self, phase: Phase) -> tuple[Array, NDArray[np.bool_]]:
        """Measure the networks after a phase.

        Returns:
            Finite rewards ``[runs]``, and which episodes ended: their budget is spent or they diverged.
        """
        episode, reward, worst_error = self.variant.episode, self.variant.reward, self.divergence.worst_error
        due = np.ones(self.num_runs, dtype=np.bool_) if phase.due is None else phase.due
        schedules, record = phase.schedules, PhaseRecord.joined(phase.records)
        value = self.bound.evaluate(self.population.predict_epsilon, self.num_runs)
        diverged = self.divergence.diverged(record, value)
        own_loss = None
        if self._own_loss is not None:
            places, steps = self._own_loss.places, self.variant.timesteps
            levels = np.stack([logsnr_quantiles(schedule, places, steps) for schedule in schedules])
            own_loss = self._own_loss.evaluate(self.population.predict_epsilon, levels)
            diverged |= ~(own_loss <= worst_error)
        after = np.where(diverged, self.divergence.worst_bound, value.bits_per_dim)
        earned = reward.earned(self.current, after, own_loss)
        penalty = reward.penalty(self.divergence.worst_bound, worst_error, episode.phases)
        earned = np.where(due, np.where(diverged, penalty, earned), 0.0)
        mse = np.where(diverged[:, None], worst_error, value.mse)
        self.mse = np.where(due[:, None], mse, self.mse)
        self.current = np.where(due, after, self.current)
        self._average_gradients(record.gradient_norm.astype(np.float64), due)
        self.phase += due
        for run in np.flatnonzero(due).tolist():
            self.history[run].append(schedules[run])
            self.losses[run].append(record.loss[:, run])
        self.diverged = np.where(due, diverged, self.diverged)
        return earned, due & (diverged | (self.phase >= episode.phases))

    def test_bounds(self) -> BoundValue | None:
        """Bounds on test images, or None when the variant leaves them out."""
        spec = self.variant.test_bound
        if spec is None:
            return None
        if self._test is None:
            self._test = Bound(spec, self.images.test, self.images.levels, self.population.device)
        return self._test.evaluate(self.population.predict_epsilon, self.num_runs)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything needed to continue exactly: arrays, and plain JSON."""
        arrays, meta = self.population.state()
        arrays |= {name: getattr(self, name).copy() for name in _STATE}
        meta |= {
            "sweep": [actions.tolist() for actions in self.sweep],
            "sweep_dtype": str(self.sweep[0].dtype) if self.sweep else "",
            "begun": self.begun.tolist(),
            "history": [[s.model_dump(mode="json") for s in made] for made in self.history],
        }
        return arrays, meta

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Continue from :meth:`state` (the loss curves of unfinished episodes are not kept)."""
        from schedrl import schedules

        self.population.restore(arrays, meta)
        for name in _STATE:
            if arrays[name].shape != getattr(self, name).shape:
                raise SchedrlError(
                    f"state '{name}': must have shape {getattr(self, name).shape} (got {arrays[name].shape})"
                )
            setattr(self, name, np.array(arrays[name]))
        self.sweep = [np.asarray(actions, dtype=meta["sweep_dtype"]) for actions in meta["sweep"]]
        self.begun = np.array(meta.get("begun", [0] * self.num_runs), dtype=np.int64)
        self.history = [[schedules.from_dict(s) for s in made] for made in meta["history"]]
        self.losses = [[] for _ in range(self.num_runs)]

    def _image_deviation(self) -> LocalDeviation | None:
        """Every training image, where every image has its own β."""
        images = self.images.train
        if not self.variant.action.walks_images:
            return None
        if (numbers := self.num_runs * images.size) > _EVERY_IMAGE:
            raise SchedrlError(
                f"action.per_image: {self.num_runs} runs x {images.size} pixels are {numbers:.1e} numbers at every "
                f"knot, more than {_EVERY_IMAGE:.0e}; lower data.limit or the number of environments"
            )
        return LocalDeviation.of(images)

    def _average_gradients(self, norms: Array, due: NDArray[np.bool_]) -> None:
        self.gradient_norm = np.where(due, np.sqrt(np.square(norms).mean(axis=0)), self.gradient_norm)
        decay = self.variant.episode.gradient_decay
        for row in norms:
            self.gradient_sum = np.where(
                due, decay * self.gradient_sum + (1.0 - decay) * row, self.gradient_sum
            )
            weight = decay * self.gradient_weight + (1.0 - decay)
            self.gradient_weight = np.where(due, weight, self.gradient_weight)


_STATE = (
    "phase", "seeds", "mse", "current", "memory", "gradient_norm", "gradient_sum", "gradient_weight", "seconds",
)  # fmt: skip
