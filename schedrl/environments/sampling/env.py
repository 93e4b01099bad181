"""Gymnasium environments in which the steps of a sampler are placed on an exact source or a trained network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from schedrl.environments.sampling.rendering import draw_lines, draw_pictures
from schedrl.environments.sampling.runs import SamplingRuns
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.environments.vector import Observation, PopulationEnv, SingleEnv


class SamplingVectorEnv(PopulationEnv):
    """Many environments :class:`SamplingEnv`, advanced together by NumPy operations.

    Seeding, autoreset and arguments are those of :class:`~schedrl.environments.vector.PopulationEnv`. Runs seeded alike
    get the same sources in every episode.
    """

    metadata: dict[str, Any] = {**PopulationEnv.metadata, "render_fps": 4}  # noqa: RUF012

    variant_type = SamplingVariant
    renderers: ClassVar[dict[str, Any]] = {"ansi": draw_lines, "rgb_array": draw_pictures}
    variant: SamplingVariant

    def __init__(self, num_envs: int = 1, **arguments: Any) -> None:
        super().__init__(num_envs, **arguments)
        self.runs: SamplingRuns = SamplingRuns(self.variant, num_envs)
        names = ("error", *self.runs.batch.targets())
        self._ends = {name: np.zeros(num_envs) for name in names}

    def observe(self) -> Observation:
        return self.runs.observe()

    def _seed(self, seeds: Sequence[int | None]) -> None:
        for run, given in enumerate(seeds):
            if given is not None:
                self.runs.streams.seed(run, given)
            elif self.runs.streams.seeds[run] < 0:
                self.runs.streams.seed(run, int(self.np_random.integers(2**31)))

    def _start(self, rows: NDArray[np.int64]) -> None:
        self.runs.start(rows)
        for values in self._ends.values():
            values[rows] = 0.0

    def _advance(
        self, actions: NDArray[Any], idle: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return self.runs.advance(actions[:, 0].astype(np.float64))  # a sampler at data stays there

    def _finish(self, ended: NDArray[np.bool_]) -> None:
        rows = np.flatnonzero(ended)
        for name, values in self.runs.outcome(rows).items():
            self._ends[name][rows] = values

    def _infos(self) -> dict[str, NDArray[Any]]:
        runs = self.runs
        known = {
            "reference_error": np.exp(runs.reference_error),
            "num_steps": runs.total,
            "sigmas": runs.levels,
        }
        return {**self._ends, **known}


class SamplingEnv(SingleEnv):
    """The few steps of one sampler, placed one after the other from noise to data.

    ### Description
    A diffusion sampler turns noise into samples of a source in N steps, and its error depends on where it steps. The
    source's denoiser is known in closed form, so the error is exact; or it is a trained network, whose samples are
    compared with its own fine-grid flow or with real images. An episode draws a source, or starting noise for the
    network, and N if it is not fixed; it then steps from noise to data. :func:`gymnasium.make_vec` runs many at once.

    ### Action Space
    Box(1) of [−1, 1]: the share of the remaining way that the next step takes, relative to an even step; see
    :class:`schedrl.environments.sampling.actions.Placement`. Zeros reproduce the variant's reference grid. The last
    step always ends at data.

    ### Observation Space
    Box of ±5, float32; entries named by ``env.get_wrapper_attr("observation_names")``: the share of the remaining
    steps, their logarithm, the place along the reference, then features of the source and of the sampler's state; see
    ``write_features`` of the batches beside each source.

    ### Rewards
    The return is log(error of the reference / error of the agent): 0 for the reference, positive for a better grid.
    ``final`` pays it at the end. ``predicted`` pays at each step the drop in the log of the final error that would
    follow if the reference took the rest. The error is the exact KL divergence in nats for a Gaussian; for mixtures and
    magnets the relative error of the modes' balance plus that of their variance; for networks, which pay ``final``
    only, the mean squared distance to the teacher's images or a Fréchet distance.

    ### Starting State
    ``reset(seed=s)`` alone decides the sources, or the noise, of all following episodes. The sampler starts at pure
    noise.

    ### Episode End
    ``terminated`` after N steps. ``truncated`` is always False.

    ### Info
    ``reference_error``, ``num_steps`` and ``sigmas``, the agent's grid so far, padded with zeros; ``error`` and its
    parts (``kl`` and ``reverse_kl``, ``majority`` and ``within_variance``, or ``teacher_mse`` and ``frechet``), 0
    before the end.

    ### Arguments
    Every field of the variant, by name; ``render_mode``.

    ### Version History
    v0: first version.
    """

    vector_type = SamplingVectorEnv
