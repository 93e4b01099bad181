"""Adaptive variance annealing (AVA-DSC paper): K of AVA's law follows the gradient norm while a network trains.

No torch here: agents use the law as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from pydantic import Field, model_validator

from schedrl import schedules
from schedrl.errors import SchedrlError, Spec

Array = NDArray[np.float64]


class AVALaw(Spec):
    """The law β(t) = β_init + K (1 − exp(−αt)) and how K moves.

    Attributes:
        rule: ``"equation"``: K ← K + η (‖∇L‖ − τ). ``"prose"``: the opposite sign, as the paper's text says (twice).
        rate: η.
        beta_init: β_init of the law.
        alpha: α of the law.
        initial_gain: K at the start.
        minimum: Least K.
        maximum: Greatest K.
    """

    rule: Literal["equation", "prose"]
    rate: Annotated[float, Field(ge=0.0)] = 20.0
    beta_init: Annotated[float, Field(gt=0.0, le=1e6)] = 0.1
    alpha: Annotated[float, Field(gt=0.0, le=1e6)] = 2.0
    initial_gain: Annotated[float, Field(ge=1e-6, le=1e6)] = 20.0
    minimum: Annotated[float, Field(ge=1e-6, le=1e6)] = 0.5
    maximum: Annotated[float, Field(ge=1e-6, le=1e6)] = 200.0

    @model_validator(mode="after")
    def _ordered(self) -> AVALaw:
        if not self.minimum <= self.initial_gain <= self.maximum:
            raise ValueError(
                f"initial_gain must lie in [minimum, maximum] = [{self.minimum}, {self.maximum}] "
                f"(got {self.initial_gain})"
            )
        return self

    def moved(self, gain: npt.ArrayLike, norm: npt.ArrayLike, threshold: npt.ArrayLike) -> Array:
        """K after one move, within its bounds; a norm that is not finite leaves K unchanged.

        Args:
            gain: K, any shape.
            norm: ‖∇L‖, of the same shape.
            threshold: τ, of the same shape.

        Examples:
            >>> AVALaw(rule="equation", rate=2.0).moved(20.0, 1.5, 1.0)
            array(21.)
            >>> AVALaw(rule="prose", rate=2.0).moved(20.0, 1.5, 1.0)
            array(19.)
        """
        before, norms, tau = (np.asarray(part, dtype=np.float64) for part in (gain, norm, threshold))
        sign = 1.0 if self.rule == "equation" else -1.0
        with np.errstate(invalid="ignore"):
            change = sign * self.rate * (norms - tau)
        after: Array = np.clip(
            before + np.where(np.isfinite(change), change, 0.0), self.minimum, self.maximum
        )
        return np.asarray(after)

    def law(self, gain: float) -> schedules.Schedule:
        return schedules.AVA(beta_init=self.beta_init, K=gain, alpha=self.alpha)


class AVASpec(AVALaw):
    """AVA as a controller of training.

    Attributes:
        decay: Decay per move of τ, the bias-corrected exponential moving average of gradient norms.
    """

    decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.98


@dataclass
class AVAController:
    """AVA for any number of runs, each with its own K.

    A norm first enters τ, and K then moves by the difference from the new τ, as in the environments. So the first norm,
    which equals its average, does not move K.

    Args:
        spec: The law and the rule.
        num_runs: Number of runs.

    Attributes:
        gain: K, ``[runs]``.

    Examples:
        In a plain training loop, with :class:`~schedrl.diffusion.DSC` as the optimizer:

        >>> import torch
        >>> from schedrl.diffusion import DSC
        >>> generator = torch.Generator().manual_seed(0)
        >>> images = torch.rand(8, 1, 4, 4, generator=generator) * 2 - 1
        >>> network = torch.nn.Conv2d(1, 1, 3, padding=1)
        >>> optimizer = DSC(network.parameters(), lr=1e-3, gamma=20.0, boost=0.1)
        >>> controller = AVAController(AVASpec(rule="prose", rate=2.0))
        >>> for _ in range(3):
        ...     (schedule,) = controller.schedules()
        ...     steps = torch.randint(1000, (8,), generator=generator)
        ...     betas = torch.tensor(schedule.betas(1000))[steps]
        ...     signal = torch.tensor(schedule.alphas_cumprod(1000))[steps].float()[:, None, None, None]
        ...     noise = torch.randn(images.shape, generator=generator)
        ...     estimate = network(signal.sqrt() * images + (1 - signal).sqrt() * noise)
        ...     optimizer.zero_grad()
        ...     (estimate - noise).square().mean().backward()
        ...     optimizer.set_noise_level(betas)
        ...     optimizer.step()
        ...     norm = torch.nn.utils.get_total_norm([p.grad for p in network.parameters()])
        ...     controller.update([norm.item()])
        >>> bool(controller.tau[0] > 0), bool(optimizer.last_rate > 0)
        (True, True)
    """

    spec: AVASpec
    num_runs: int = 1

    def __post_init__(self) -> None:
        self.gain: Array = np.full(self.num_runs, self.spec.initial_gain)
        self._sum: Array = np.zeros(self.num_runs)
        self._weight: Array = np.zeros(self.num_runs)

    @property
    def tau(self) -> Array:
        """τ, ``[runs]``: the average of the norms so far; 0 before the first."""
        seen = self._weight > 0.0
        return np.where(seen, self._sum / np.where(seen, self._weight, 1.0), 0.0)

    def observe(self, norms: npt.ArrayLike) -> None:
        """Add the norms ``[runs]`` of an optimizer step to τ without moving K."""
        values = self._row(norms)
        finite, decay = np.isfinite(values), self.spec.decay
        taken = decay * self._sum + (1.0 - decay) * np.where(finite, values, 0.0)
        self._sum = np.where(finite, taken, self._sum)
        self._weight = np.where(finite, decay * self._weight + (1.0 - decay), self._weight)

    def move(self, norms: npt.ArrayLike) -> None:
        """Move K by the difference of the norms ``[runs]`` from τ."""
        self.gain = self.spec.moved(self.gain, self._row(norms), self.tau)

    def update(self, norms: npt.ArrayLike) -> None:
        """:meth:`observe`, then :meth:`move`, with the norms ‖∇L‖ ``[runs]`` of an optimizer step.

        A run whose norm is not finite (it diverged) is left unchanged.
        """
        self.observe(norms)
        self.move(norms)

    def schedules(self) -> list[schedules.Schedule]:
        """The schedule of every run at its current K."""
        return [self.spec.law(gain) for gain in self.gain.tolist()]

    def reset(self, run: int) -> None:
        """Restart one run."""
        self.gain[run] = self.spec.initial_gain
        self._sum[run] = self._weight[run] = 0.0

    def state(self) -> dict[str, Array]:
        """Everything needed to continue exactly."""
        return {"gain": self.gain.copy(), "sum": self._sum.copy(), "weight": self._weight.copy()}

    def restore(self, arrays: dict[str, Array]) -> None:
        """Continue from :meth:`state`."""
        self.gain, self._sum, self._weight = (
            np.array(arrays[name], dtype=np.float64) for name in ("gain", "sum", "weight")
        )

    def _row(self, norms: npt.ArrayLike) -> Array:
        values = np.asarray(norms, dtype=np.float64)
        if values.shape != (self.num_runs,):
            raise SchedrlError(
                f"norms: must hold one number per run, {self.num_runs} (got shape {values.shape})"
            )
        return values
