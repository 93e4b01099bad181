"""What an agent sees: a row of named, normalised numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schedrl.errors import Spec

__all__ = ["LIMIT", "LOG_UNIT", "MEMORY_FEATURES", "FeatureName", "ObservationSpec", "RunView"]

Array = NDArray[np.float64]

LIMIT = 5.0
"""Observations are clipped to ± this; every feature is scaled to lie well inside."""

LOG_UNIT = 3.0
"""log K per unit of ``log_gain``, and so on: all that an action can reach stays inside ± ``LIMIT``."""

FeatureName = Literal[
    "time", "sigma_local", "logsnr", "budget", "bound_bins", "gradient_norm", "gradient_average", "log_gain",
    "log_alpha", "log_gamma", "log_boost",
]  # fmt: skip


@dataclass
class RunView:
    """The state that observations are made from, one row per run.

    Attributes:
        time: t/T of the knot about to be set; 0 outside a sweep. ``[runs]``
        sigma_local: Mean local standard deviation of x_t there. ``[runs]``
        logsnr: λ of x_t. ``[runs]``
        budget: Share of the episode's optimizer steps still to come. ``[runs]``
        mse: Validation ε error per level of the bound. ``[runs, levels]``
        gradient_norm: Root mean square gradient norm over the last phase. ``[runs]``
        gradient_average: Its exponential moving average τ, bias-corrected. ``[runs]``
        memory: What the action kind carries: logs of K, α, γ, λ, as far as it sets them. ``[runs, entries]``
    """

    time: Array
    sigma_local: Array
    logsnr: Array
    budget: Array
    mse: Array
    gradient_norm: Array
    gradient_average: Array
    memory: Array


def _bound_bins(view: RunView, bins: int) -> Array:
    groups = np.array_split(np.log(np.maximum(view.mse, 1e-8)), bins, axis=1)
    return np.stack([group.mean(axis=1) for group in groups], axis=1)


MEMORY_FEATURES = ("log_gain", "log_alpha", "log_gamma", "log_boost")
"""What an action kind may carry from phase to phase, in the order of its entries."""


def _memory_feature(place: int) -> Callable[[RunView], Array]:
    def feature(view: RunView) -> Array:
        carried = view.memory.shape[1] > place
        return view.memory[:, place] / LOG_UNIT if carried else np.zeros(len(view.memory))

    return feature


_FEATURES: dict[str, Callable[[RunView], Array]] = {
    "time": lambda view: view.time,
    "sigma_local": lambda view: view.sigma_local,
    "logsnr": lambda view: view.logsnr / 10.0,
    "budget": lambda view: view.budget,
    "gradient_norm": lambda view: np.log(np.maximum(view.gradient_norm, 1e-8)),
    "gradient_average": lambda view: np.log(np.maximum(view.gradient_average, 1e-8)),
    **{name: _memory_feature(place) for place, name in enumerate(MEMORY_FEATURES)},
}


class ObservationSpec(Spec):
    """Which features an agent sees, in which order.

    ``time`` t/T in [0, 1); ``sigma_local`` of images in [−1, 1]; ``logsnr`` λ/10; ``budget`` in [0, 1];
    ``bound_bins`` log ε error in each group of levels, data end first; ``gradient_norm`` and ``gradient_average``
    natural logs; ``log_gain`` log K / 3, likewise ``log_alpha``, ``log_gamma``, ``log_boost``. All clipped to ±5.

    Attributes:
        features: Their names; the paper's bare kernel sees ``("time", "sigma_local")``.
        bins: Number of ``bound_bins``.

    Examples:
        >>> ObservationSpec(features=("budget", "bound_bins"), bins=2).names
        ('budget', 'bound_bin_0', 'bound_bin_1')
    """

    features: Annotated[tuple[FeatureName, ...], Field(min_length=1)] = (
        "budget", "bound_bins", "gradient_norm", "gradient_average",
    )  # fmt: skip
    bins: Annotated[int, Field(ge=1, le=1000)] = 7

    @property
    def names(self) -> tuple[str, ...]:
        """Name of every entry."""
        return tuple(
            name
            for feature in self.features
            for name in (
                [f"bound_bin_{i}" for i in range(self.bins)] if feature == "bound_bins" else [feature]
            )
        )

    def space(self) -> gym.spaces.Box:
        """Box of ±5, one entry per name."""
        return gym.spaces.Box(-LIMIT, LIMIT, (len(self.names),), np.float32)

    def observe(self, view: RunView) -> NDArray[np.float32]:
        """Observations ``[runs, entries]``; a value that is not finite (a diverged run) shows as the limit."""
        columns = [
            _bound_bins(view, self.bins) if feature == "bound_bins" else _FEATURES[feature](view)[:, None]
            for feature in self.features
        ]
        rows = np.nan_to_num(np.concatenate(columns, axis=1), nan=LIMIT, posinf=LIMIT, neginf=-LIMIT)
        return rows.clip(-LIMIT, LIMIT).astype(np.float32)


assert set(get_args(FeatureName)) == {*_FEATURES, "bound_bins"}
