"""Gymnasium environments in which the schedule of a diffusion training run is decided while it trains."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.utils import seeding
from numpy.typing import NDArray

from schedrl.environments.training.rendering import draw_lines, draw_pictures
from schedrl.environments.training.runs import TrainingRuns
from schedrl.environments.training.variant import TrainingVariant
from schedrl.environments.vector import Observation, PopulationEnv, SingleEnv
from schedrl.schedules import Schedule

AtEnd = Callable[[TrainingRuns, NDArray[np.bool_]], None]
"""``at_end(runs, survivors)`` is called while the networks of the runs that ended are still there."""


class TrainingVectorEnv(PopulationEnv):
    """Many environments :class:`TrainingEnv`, whose networks are trained as one population.

    Seeding and autoreset are those of :class:`~schedrl.environments.vector.PopulationEnv`. Runs that are seeded alike
    share images, noise and initial weights in every episode (common random numbers), until one of them diverges alone.

    Args:
        num_envs: Number of runs.
        device: Torch device of the networks.
        timing: Put ``seconds`` of the training into infos. Off by default, because a seed does not fix it.
        at_end: Measures the networks of episodes that have ended without divergence.
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
        self._closed: dict[int, str] = {}
        self._tests: dict[str, NDArray[np.float64]] = {}
        if (spec := self.variant.test_bound) is not None:
            shapes = {"test_bound": (num_envs,), "test_bins": (num_envs, spec.levels)}
            self._tests = {name: np.zeros(shape) for name, shape in shapes.items()}

    @property
    def schedule(self) -> list[str]:
        """Per run a JSON list, one schedule per phase, of the episode that ended with the last step or goes on."""
        return [self._closed.get(run, _as_json(made)) for run, made in enumerate(self.runs.history)]

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

    def _start(self, rows: NDArray[np.int64]) -> None:
        for values in self._tests.values():
            values[rows] = 0.0
        for run in rows.tolist():
            rng = self._rngs[run]
            assert rng is not None
            self.runs.start(run, int(rng.integers(2**31)))

    def _advance(
        self, actions: NDArray[Any], idle: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Add one action per run; the last of a sweep trains a phase."""
        self._closed = {}
        if self.runs.walk(actions, idle):
            return self.runs.train_phase()
        return np.zeros(self.num_envs), np.zeros(self.num_envs, dtype=np.bool_)

    def _finish(self, ended: NDArray[np.bool_]) -> None:
        runs, spec = self.runs, self.variant.test_bound
        survivors = ended & ~runs.diverged
        tests = runs.test_bounds() if survivors.any() else None
        if self._at_end is not None and survivors.any():
            self._at_end(runs, survivors)
        for run in np.flatnonzero(ended).tolist():
            self._closed[run] = _as_json(runs.history[run])
            if spec is None:
                continue
            if tests is not None and survivors[run]:
                measured = tests.bits_per_dim[run], tests.diffusion[run]
            else:  # a diverged run has no finite bound
                worst = np.full(spec.levels, runs.divergence.worst_error)
                measured = runs.divergence.worst_bound, spec.cell_bits(worst)
            self._tests["test_bound"][run], self._tests["test_bins"][run] = measured

    def _infos(self) -> dict[str, NDArray[Any]]:
        runs = self.runs
        infos: dict[str, NDArray[Any]] = {
            "bound": runs.current,
            "diverged": runs.diverged,
            "optimizer_steps": runs.phase * self.variant.episode.steps_per_phase,
            **self._tests,
        }
        return {**infos, "seconds": runs.seconds} if self.timing else infos

    def _last_observations(self, ended: NDArray[np.bool_]) -> NDArray[Any]:
        last, observed = np.full(self.num_envs, None, dtype=object), self.observe()
        for run in np.flatnonzero(ended):
            last[run] = observed[run]
        return last


def _as_json(made: Sequence[Schedule]) -> str:
    return json.dumps([schedule.model_dump(mode="json") for schedule in made])


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
    Box of ±5, float32; entries named by ``env.get_wrapper_attr("observation_names")``; meanings in
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
    ``bound``, ``diverged``, ``optimizer_steps`` and, with ``timing=True``, ``seconds``; ``test_bound`` and
    ``test_bins`` (its diffusion part by cell of λ, from λ_max on), 0 before the end. The schedules, a JSON list with
    one entry per phase, are ``env.get_wrapper_attr("schedule")``.

    ### Arguments
    Every field of the variant, by name; ``render_mode``; ``device``; ``timing``.

    ### Version History
    v0: first version.
    """

    vector_type = TrainingVectorEnv

    @property
    def schedule(self) -> str:
        """The schedules of the phases so far, a JSON list."""
        made: str = self.vector.schedule[0]
        return made
