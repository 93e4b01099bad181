"""Gymnasium environments in which the schedule of a diffusion training run is decided while it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from schedrl.environments.conventions import (
    RENDER_MODES,
    Observation,
    SingleEnv,
    checked_actions,
    checked_render_mode,
    spread_seeds,
)
from schedrl.environments.training.rendering import RunPicture, draw_line, draw_picture
from schedrl.environments.training.runs import TrainingRuns
from schedrl.environments.training.variant import TrainingVariant
from schedrl.environments.variants import apply_overrides, of_family
from schedrl.errors import SchedrlError
from schedrl.metrics.variational_bound import BoundValue

__all__ = ["AtEnd", "TrainingEnv", "TrainingVectorEnv"]

AtEnd = Callable[[TrainingRuns, NDArray[np.bool_]], Mapping[int, Mapping[str, Any]]]
"""``at_end(runs, survivors)``: more of the last info, by the run's number, while its network is there."""


class TrainingVectorEnv(VectorEnv[Observation, NDArray[Any], NDArray[Any]]):
    """Many training environments whose networks are trained as one population.

    Meaning, spaces and rewards are those of :class:`TrainingEnv`, per run. A finished run begins a new episode within
    the same step; its last observation and info are in ``infos["final_obs"]`` and ``infos["final_info"]``.

    ``reset(seed=s)`` seeds run i with ``s + i``; ``reset(seed=[s, s, ...])`` seeds them alike, and they then share
    images, noise and initial weights in every episode (common random numbers) for as long as none diverges alone.

    Args:
        num_envs: Number of runs.
        variant: The definition, as a model or as plain data.
        render_mode: ``"rgb_array"``, ``"ansi"`` or None.
        device: Torch device of the networks.
        autoreset_mode: ``SAME_STEP`` or ``DISABLED``.
        timing: Put ``seconds`` of the training into the last info. Off by default: wall-clock time is the one thing a
            seed does not fix.
        at_end: Measures the networks of episodes that have ended without divergence, for their last info.
        overrides: Fields of the variant to change; see :func:`schedrl.environments.variants.apply_overrides`.

    Raises:
        SchedrlError: Bad definition, missing data, unknown render mode.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium declares it so)
        "render_modes": list(RENDER_MODES),
        "render_fps": 1,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        *,
        variant: TrainingVariant | Mapping[str, Any],
        render_mode: str | None = None,
        device: str = "cpu",
        autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
        timing: bool = False,
        at_end: AtEnd | None = None,
        **overrides: Any,
    ) -> None:
        definition = variant.model_dump(mode="json") if isinstance(variant, TrainingVariant) else variant
        self.variant = of_family(apply_overrides(definition, overrides), TrainingVariant)
        checked_render_mode(render_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": autoreset_mode}
        self.num_envs, self.render_mode, self.timing, self._at_end = num_envs, render_mode, timing, at_end
        self.runs = TrainingRuns(self.variant, num_envs, device)
        self.single_action_space = self.variant.action_space()
        self.single_observation_space = self.variant.observation_space()
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._rngs: list[np.random.Generator | None] = [None] * num_envs
        self._autoreset = autoreset_mode is AutoresetMode.SAME_STEP
        self._ready = False

    @property
    def observation_names(self) -> tuple[str, ...]:
        """Name of every entry of an observation."""
        return self.variant.observation_names

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin new episodes in all runs.

        Args:
            seed: One seed for run 0, counted up for the others; or one seed per run; or None to go on drawing.
            options: Not used.
        """
        seeds = spread_seeds(seed, self.num_envs)
        for run, run_seed in enumerate(seeds):
            if run_seed is not None or self._rngs[run] is None:
                self._rngs[run], _ = seeding.np_random(run_seed)
        if seeds[0] is not None or self._np_random is None:
            self._np_random, self._np_random_seed = seeding.np_random(seeds[0])
        self.runs.sweep = []
        for run in range(self.num_envs):
            self._begin(run)
        self._ready = True
        infos: dict[str, Any] = {}
        for run in range(self.num_envs):
            infos = self._add_info(infos, {"observation_names": self.observation_names}, run)
        return self.observe(), infos

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Take one action per run; the last of a sweep trains a phase.

        Raises:
            SchedrlError: An action is not finite, out of range or wrongly shaped, or :meth:`reset` was not called.
        """
        if not self._ready:
            raise SchedrlError("no episode is running: call reset() before step()")
        actions = checked_actions(actions, self.action_space, self.single_action_space)
        never = np.zeros(self.num_envs, dtype=np.bool_)
        if not self.runs.walk(actions):
            return self.observe(), np.zeros(self.num_envs), never.copy(), never, {}
        outcome = self.runs.train_phase()
        infos = self._phase_info(outcome.diverged)
        # Without autoreset nothing follows an episode's end but a reset.
        self._ready = self._autoreset or not outcome.ended.all()
        if outcome.ended.any():
            self._finish(outcome.ended, outcome.diverged, infos)
        return self.observe(), outcome.reward, outcome.ended.copy(), never, infos

    def observe(self) -> Observation:
        """The present observations ``[runs, entries]``."""
        return self.variant.observation.observe(self.runs.view())

    def render(self) -> tuple[Any, ...] | None:
        """A picture or a line per run, as ``render_mode`` says."""
        if self.render_mode is None:
            return None
        draw = draw_line if self.render_mode == "ansi" else draw_picture
        return tuple(draw(picture) for picture in RunPicture.of(self.runs))

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything needed to go on exactly: arrays, and plain JSON."""
        arrays, meta = self.runs.state()
        rngs = [rng.bit_generator.state if rng else None for rng in self._rngs]
        return arrays, {**meta, "rngs": rngs, "ready": self._ready}

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.runs.restore(arrays, meta)
        for run, state in enumerate(meta["rngs"]):
            self._rngs[run] = None
            if state is not None:
                rng, _ = seeding.np_random(0)
                rng.bit_generator.state = state
                self._rngs[run] = rng
        self._ready = bool(meta["ready"])

    def _begin(self, run: int) -> None:
        rng = self._rngs[run]
        assert rng is not None
        self.runs.start(run, int(rng.integers(2**31)))

    def _phase_info(self, diverged: NDArray[np.bool_]) -> dict[str, Any]:
        infos: dict[str, Any] = {}
        for run in range(self.num_envs):
            values = {"bound": float(self.runs.current[run]), "diverged": bool(diverged[run])}
            infos = self._add_info(infos, values, run)
        return infos

    def _finish(self, ended: NDArray[np.bool_], diverged: NDArray[np.bool_], infos: dict[str, Any]) -> None:
        """Add the last infos of the runs that ended, and begin their next episodes."""
        survivors = ended & ~diverged
        tests = self.runs.test_bounds() if survivors.any() else None
        more = self._at_end(self.runs, survivors) if self._at_end is not None and survivors.any() else {}
        finals = {
            int(run): {**self._final_info(int(run), bool(diverged[run]), tests), **more.get(int(run), {})}
            for run in np.flatnonzero(ended)
        }
        if not self._autoreset:
            for run, final in finals.items():
                infos.update(self._add_info(infos, final, run))
            return
        last = self.observe()
        for run, final in finals.items():
            infos.update(self._add_info(infos, {"final_obs": last[run], "final_info": final}, run))
            self._begin(run)

    def _final_info(self, run: int, diverged: bool, tests: BoundValue | None) -> dict[str, Any]:
        import json

        runs = self.runs
        info: dict[str, Any] = {
            "bound": float(runs.current[run]),
            "diverged": diverged,
            "optimizer_steps": int(runs.phase[run]) * self.variant.episode.steps_per_phase,
            "schedule": json.dumps([s.model_dump(mode="json") for s in runs.history[run]]),
        }
        if self.variant.test_bound is not None:
            # A run without a finite bound is reported at the bound that counts as diverged.
            if diverged or tests is None:
                info["test_bound"], info["test_bins"] = runs.divergence.worst_bound, self._worst_bins()
            else:
                info["test_bound"] = float(tests.bits_per_dim[run])
                info["test_bins"] = tuple(tests.diffusion[run].tolist())
        if self.timing:
            info["seconds"] = float(runs.seconds[run])
        return info

    def _worst_bins(self) -> tuple[float, ...]:
        spec = self.variant.test_bound
        assert spec is not None
        return tuple(spec.cell_bits(np.full(spec.levels, self.runs.divergence.worst_error)).tolist())


class TrainingEnv(SingleEnv):
    """One training run of a small diffusion network, its noise schedule decided by the agent.

    ### Description
    An episode trains a U-Net from scratch on an image set, in phases of a fixed number of optimizer steps. Before
    each phase the agent decides the schedule: the noise levels the network trains on. It is a vector environment of
    one; :func:`gymnasium.make_vec`
    trains many at once, as one population.

    ### Action Space
    By ``action.kind`` of the variant, see :mod:`schedrl.environments.training.actions`: ``kernel`` Box(1), one step
    per knot; ``knots`` Box(bins), ``gain`` Box(1), ``dsc`` Box(4), ``choice`` Discrete, one step per phase. Boxes are
    [−1, 1]; 0 is the variant's reference schedule, or what is in force.

    ### Observation Space
    Box of ±5, float32; entries named by ``observation_names`` and in the info of ``reset``; meanings in
    :class:`schedrl.environments.training.observations.ObservationSpec`.

    ### Rewards
    ``bound``: decrease of the validation bound over the phase in bits/dim, 0 within a sweep; the return is the first
    bound minus the last. ``own_loss``: paper B's printed reward, which can be gamed.

    ### Starting State
    ``reset(seed=s)`` alone fixes initial weights, batches and noise, bit for bit on one machine. The split into
    train, validation and test images is part of the variant (``data.split_seed``), so that no episode trains on
    images another one is tested on.

    ### Episode End
    ``terminated`` when the budget is spent, or when the run diverges (non-finite loss, or an error beyond
    ``episode.divergence_error``): then the reward is a finite penalty below any surviving run's, and
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
