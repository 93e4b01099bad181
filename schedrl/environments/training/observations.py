"""What an agent sees: a row of named, normalised numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schedrl.environments.definition import OBSERVATION_LIMIT
from schedrl.errors import Spec

Array = NDArray[np.float64]

LOG_UNIT = 3.0
"""log K per unit of ``log_gain``, and so on: all that an action can reach stays inside the limit."""

MEMORY_FEATURES = ("log_gain", "log_alpha", "log_gamma", "log_boost")
"""What an action kind may carry from phase to phase, in the order of its entries."""

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
        budget: Remaining share of the episode's optimizer steps. ``[runs]``
        mse: Validation ε error per λ of the bound's grid. ``[runs, levels]``
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


def _log(values: Array) -> Array:
    return np.asarray(np.log(np.maximum(values, 1e-8)))


def _carried(view: RunView, entry: int) -> Array:
    shown = view.memory.shape[1] > entry
    return view.memory[:, entry] / LOG_UNIT if shown else np.zeros(len(view.memory))


_FEATURES: dict[str, Callable[[RunView], Array]] = {
    "time": lambda view: view.time,
    "sigma_local": lambda view: view.sigma_local,
    "logsnr": lambda view: view.logsnr / 10.0,
    "budget": lambda view: view.budget,
    "gradient_norm": lambda view: _log(view.gradient_norm),
    "gradient_average": lambda view: _log(view.gradient_average),
    "log_gain": lambda view: _carried(view, 0),
    "log_alpha": lambda view: _carried(view, 1),
    "log_gamma": lambda view: _carried(view, 2),
    "log_boost": lambda view: _carried(view, 3),
}
"""The features of one entry."""


class ObservationSpec(Spec):
    """Which features an agent sees, in which order.

    ``time`` t/T in [0, 1); ``sigma_local`` of images in [−1, 1]; ``logsnr`` λ/10; ``budget`` in [0, 1];
    ``bound_bins`` log ε error in each group of neighbouring λ, data end first; ``gradient_norm`` and
    ``gradient_average`` natural logs; ``log_gain`` log K / 3, likewise ``log_alpha``, ``log_gamma``, ``log_boost``. All
    are clipped to ±5.

    Attributes:
        features: Their names; AKOD's kernel as printed sees ``("time", "sigma_local")``.
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
        bins = [f"bound_bin_{i}" for i in range(self.bins)]
        return tuple(
            name for feature in self.features for name in (bins if feature == "bound_bins" else [feature])
        )

    def observe(self, view: RunView) -> NDArray[np.float32]:
        """Observations ``[runs, entries]``; a value that is not finite (a diverged run) becomes the limit."""
        columns: list[Array] = []
        for feature in self.features:
            if feature == "bound_bins":
                columns += [group.mean(axis=1) for group in np.array_split(_log(view.mse), self.bins, axis=1)]
            else:
                columns.append(_FEATURES[feature](view))
        most = OBSERVATION_LIMIT
        rows: Array = np.nan_to_num(np.stack(columns, axis=1), nan=most, posinf=most, neginf=-most)
        return rows.clip(-most, most).astype(np.float32)
