"""Gymnasium environments in which the schedule of a diffusion training run is decided while it trains."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.utils import seeding
from numpy.typing import NDArray

from schedrl.environments.training.rendering import draw_lines, draw_pictures
from schedrl.environments.training.runs import TrainingRuns
from schedrl.environments.training.variant import TrainingVariant
from schedrl.environments.vector import Observation, PopulationEnv, SingleEnv
from schedrl.metrics.variational_bound import BoundValue

__all__ = ["AtEnd", "TrainingEnv", "TrainingVectorEnv"]

AtEnd = Callable[[TrainingRuns, NDArray[np.bool_]], Mapping[int, Mapping[str, Any]]]
"""``at_end(runs, survivors)`` returns further entries of the last info, by the run's number. It is called while the
networks of the runs that ended are still there."""


class TrainingVectorEnv(PopulationEnv):
    """Many environments :class:`TrainingEnv`, whose networks are trained as one population.

    Seeding and autoreset are those of :class:`~schedrl.environments.vector.PopulationEnv`. Runs that are seeded alike
    share images, noise and initial weights in every episode (common random numbers), until one of them diverges alone.

    Args:
        num_envs: Number of runs.
        device: Torch device of the networks.
        timing: Put ``seconds`` of the training into the last info. Off by default, because a seed does not fix it.
        at_end: Measures the networks of episodes that have ended without divergence, for their last info.
        arguments: Those of :class:`~schedrl.environments.vector.PopulationEnv`.
    """

    metadata: dict[str, Any] = {**PopulationEnv.metadata, "render_fps": 1}  # noqa: RUF012

    variant_type = TrainingVariant
    renderers: ClassVar[dict[str, Any]] = {"ansi": draw_lines, "rgb_array": draw_pictures}
    variant: TrainingVariant

    def __init__(
        self,
        num_envs: int = 1,
        *,
        device: str = "cpu",
        timing: bool = False,
        at_end: AtEnd | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(num_envs, **arguments)
        self.timing, self._at_end = timing, at_end
        self.runs: TrainingRuns = TrainingRuns(self.variant, num_envs, device)
        self._rngs: list[np.random.Generator | None] = [None] * num_envs

    def observe(self) -> Observation:
        return self.variant.observation.observe(self.runs.view())

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        arrays, meta = super().state()
        return arrays, {**meta, "rngs": [rng.bit_generator.state if rng else None for rng in self._rngs]}

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        super().restore(arrays, meta)
        for run, state in enumerate(meta["rngs"]):
            self._rngs[run] = None
            if state is not None:
                rng, _ = seeding.np_random(0)
                rng.bit_generator.state = state
                self._rngs[run] = rng

    def _seed(self, seeds: Sequence[int | None]) -> None:
        for run, seed in enumerate(seeds):
            if seed is not None or self._rngs[run] is None:
                self._rngs[run], _ = seeding.np_random(seed)
        self.runs.sweep = []

    def _start(self, rows: NDArray[np.int64]) -> None:
        for run in rows.tolist():
            rng = self._rngs[run]
            assert rng is not None
            self.runs.start(run, int(rng.integers(2**31)))

    def _advance(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[str, Any]]:
        """Add one action per run; the last of a sweep trains a phase."""
        if not self.runs.walk(actions):
            return np.zeros(self.num_envs), np.zeros(self.num_envs, dtype=np.bool_), {}
        rewards, ended = self.runs.train_phase()
        everyone = np.ones(self.num_envs, dtype=np.bool_)
        infos = {"bound": self.runs.current.copy(), "diverged": self.runs.diverged.copy()}
        return rewards, ended, infos | {"_bound": everyone, "_diverged": everyone.copy()}

    def _report(self, ended: NDArray[np.bool_], infos: dict[str, Any]) -> dict[str, Any]:
        survivors = ended & ~self.runs.diverged
        tests = self.runs.test_bounds() if survivors.any() else None
        more = self._at_end(self.runs, survivors) if self._at_end is not None and survivors.any() else {}
        for run in np.flatnonzero(ended).tolist():
            self._add_info(infos, {**self._final_info(run, tests), **more.get(run, {})}, run)
        return infos

    def _last_observations(self, ended: NDArray[np.bool_]) -> NDArray[Any]:
        last, observed = np.full(self.num_envs, None, dtype=object), self.observe()
        for run in np.flatnonzero(ended):
            last[run] = observed[run]
        return last

    def _final_info(self, run: int, tests: BoundValue | None) -> dict[str, Any]:
        runs, diverged = self.runs, bool(self.runs.diverged[run])
        info: dict[str, Any] = {
            "bound": float(runs.current[run]),
            "diverged": diverged,
            "optimizer_steps": int(runs.phase[run]) * self.variant.episode.steps_per_phase,
            "schedule": json.dumps([s.model_dump(mode="json") for s in runs.history[run]]),
        }
        if (spec := self.variant.test_bound) is not None:
            # A diverged run has no finite bound.
            if diverged or tests is None:
                worst = np.full(spec.levels, runs.divergence.worst_error)
                info["test_bound"], cells = runs.divergence.worst_bound, spec.cell_bits(worst)
            else:
                info["test_bound"], cells = float(tests.bits_per_dim[run]), tests.diffusion[run]
            info["test_bins"] = tuple(cells.tolist())
        if self.timing:
            info["seconds"] = float(runs.seconds[run])
        return info


class TrainingEnv(SingleEnv):
    """One training run of a small diffusion network, its noise schedule decided by the agent.

    ### Description
    An episode trains a U-Net from scratch on an image set, in phases of a fixed number of optimizer steps. Before each
    phase the agent decides the schedule, that is, the noise the network trains on. :func:`gymnasium.make_vec` trains
    many networks at once, as one population.

    ### Action Space
    By ``action.kind`` of the variant, see :mod:`schedrl.environments.training.actions`: ``kernel`` Box(1), one step
    per knot; ``knots`` Box(bins), ``gain`` Box(1), ``dsc`` Box(4), ``choice`` Discrete, one step per phase. Boxes are
    [−1, 1]; 0 is the variant's reference schedule, or leaves the present one as it is.

    ### Observation Space
    Box of ±5, float32; entries named by ``observation_names`` and in the info of ``reset``; meanings in
    :class:`schedrl.environments.training.observations.ObservationSpec`.

    ### Rewards
    ``bound``: decrease of the validation bound over the phase in bits/dim, 0 within a sweep; the return is the first
    bound minus the last. ``own_loss``: AKOD's printed reward, which an agent can game.

    ### Starting State
    ``reset(seed=s)`` alone fixes initial weights, batches and noise, bit for bit on one machine. The split into train,
    validation and test images is part of the variant (``data.split_seed``), so no episode trains on the test images of
    another.

    ### Episode End
    ``terminated`` when the budget is spent, or when the run diverges (non-finite loss, or an error above
    ``episode.divergence_error``). The reward is then a finite penalty below that of any surviving run, and
    ``info["diverged"]`` is true. ``truncated`` is always False.

    ### Info
    After a phase ``bound`` and ``diverged``; at the end also ``test_bound``, ``test_bins`` (its diffusion part by cell
    of λ, from λ_max on), ``schedule`` (a JSON list, one entry per phase), ``optimizer_steps`` and, with
    ``timing=True``, ``seconds``.

    ### Arguments
    Every field of the variant, by name; ``render_mode``; ``device``; ``timing``.

    ### Version History
    v0: first version.
    """

    vector_type = TrainingVectorEnv
