"""Gymnasium environments in which the steps of a sampler are placed on an exact source or a trained network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from schedrl.environments.sampling.rendering import draw_line, draw_picture
from schedrl.environments.sampling.runs import SamplingRuns
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.environments.variants import apply_overrides, of_family
from schedrl.errors import SchedrlError

__all__ = ["SamplingEnv", "SamplingVectorEnv"]


class SamplingVectorEnv(VectorEnv[Observation, NDArray[Any], NDArray[Any]]):
    """Thousands of sampling environments as a few NumPy operations.

    Meaning, spaces and rewards are those of :class:`SamplingEnv`, per run. A finished run begins a new episode within
    the same step; its last observation and info are in ``infos["final_obs"]`` and ``infos["final_info"]``.

    ``reset(seed=s)`` seeds run i with ``s + i``; ``reset(seed=[s, s, ...])`` seeds them alike, and they then meet the
    same sources in every episode.

    Args:
        num_envs: Number of runs.
        variant: The definition, as a model or as plain data.
        render_mode: ``"rgb_array"``, ``"ansi"`` or None.
        autoreset_mode: ``SAME_STEP`` or ``DISABLED``.
        overrides: Fields of the variant to change; see :func:`schedrl.environments.variants.apply_overrides`.

    Raises:
        SchedrlError: Bad definition, missing data, unknown render mode.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium declares it so)
        "render_modes": list(RENDER_MODES),
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        *,
        variant: SamplingVariant | Mapping[str, Any],
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
        **overrides: Any,
    ) -> None:
        definition = variant.model_dump(mode="json") if isinstance(variant, SamplingVariant) else variant
        self.variant = of_family(apply_overrides(definition, overrides), SamplingVariant)
        self.render_mode = checked_render_mode(render_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": autoreset_mode}
        self.num_envs = num_envs
        self.runs = SamplingRuns(self.variant, num_envs)
        self.single_action_space = self.variant.action_space()
        self.single_observation_space = self.variant.observation_space()
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
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
        if seeds[0] is not None or self._np_random is None:
            self._np_random, self._np_random_seed = seeding.np_random(seeds[0])
        for run, given in enumerate(seeds):
            if given is not None:
                self.runs.streams.seed(run, given)
            elif self.runs.streams.seeds[run] < 0:
                self.runs.streams.seed(run, int(self._np_random.integers(2**31)))
        self.runs.start(np.arange(self.num_envs))
        self._ready = True
        names = np.empty(self.num_envs, dtype=object)
        names[:] = [self.observation_names] * self.num_envs
        return self.runs.observe(), {
            "observation_names": names,
            "_observation_names": np.ones(self.num_envs, dtype=np.bool_),
        }

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Take one sampler step in every run.

        Raises:
            SchedrlError: An action is not finite, out of range or wrongly shaped, or :meth:`reset` was not called.
        """
        if not self._ready:
            raise SchedrlError("no episode is running: call reset() before step()")
        actions = checked_actions(actions, self.action_space, self.single_action_space)
        rewards, ended = self.runs.advance(actions[:, 0].astype(np.float64))
        infos: dict[str, Any] = {}
        never = np.zeros(self.num_envs, dtype=np.bool_)
        if ended.any():
            outcome = self._outcome(ended)
            if not self._autoreset:
                infos = outcome
                # Without autoreset nothing follows an episode's end but a reset.
                self._ready = not ended.all()
            else:
                rows = np.flatnonzero(ended)
                infos = {
                    "final_obs": self.runs.observe(),
                    "_final_obs": ended.copy(),
                    "final_info": outcome,
                    "_final_info": ended.copy(),
                }
                self.runs.start(rows)
        return self.runs.observe(), rewards, ended, never, infos

    def render(self) -> tuple[Any, ...] | None:
        """A picture or a line per run, as ``render_mode`` says."""
        if self.render_mode is None:
            return None
        draw = draw_line if self.render_mode == "ansi" else draw_picture
        return tuple(draw(self.runs, run) for run in range(self.num_envs))

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything needed to go on exactly: arrays, and plain JSON."""
        arrays, meta = self.runs.state()
        return arrays, {**meta, "ready": self._ready}

    def restore(self, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.runs.restore(arrays, meta)
        self._ready = bool(meta["ready"])

    def _outcome(self, ended: NDArray[np.bool_]) -> dict[str, Any]:
        """Infos of the episodes that ended, in Gymnasium's form: every array has a row per run, and a mask."""
        rows = np.flatnonzero(ended)
        infos: dict[str, Any] = {}
        for name, values in self.runs.outcome(rows).items():
            infos[name] = np.zeros((self.num_envs, *values.shape[1:]), dtype=values.dtype)
            infos[name][rows] = values
            infos[f"_{name}"] = ended.copy()
        return infos


class SamplingEnv(SingleEnv):
    """The few steps of one sampler, placed one after the other from noise to data.

    ### Description
    A diffusion sampler turns noise into samples of a source in N steps; where it steps decides how well. The source's
    denoiser is known in closed form, so the error of the result is exact; or it is a trained network, whose samples are
    held against its own fine-grid flow or real images. An episode draws a source, or starting noise for the network
    (and N, where it is not fixed), and walks from noise to data. :func:`gymnasium.make_vec` runs many at once.

    ### Action Space
    Box(1) of [−1, 1]: the share of the remaining way that the next step takes, relative to an even one; see
    :class:`schedrl.environments.sampling.placement.Placement`. Zeros reproduce the variant's reference grid. The last
    step ends at data whatever the action.

    ### Observation Space
    Box of ±5, float32; entries named by ``observation_names`` and in the info of ``reset``: the share of the steps
    left, its log, the place along the reference, then what the source kind shows of itself and of the sampler's state
    (``write_features`` of :mod:`schedrl.environments.sampling.gaussian`, ``high_dimension`` and ``network``).

    ### Rewards
    ``predicted``: the drop, at each step, in the log of the final error that would follow if the reference took the
    rest. ``final``: the same return, paid at the end. The return is log(error of the reference / error of the agent):
    0 for the reference, positive for what is better. The error is the exact KL divergence in nats for a Gaussian, and
    the relative error of the modes' balance plus that of their variance for mixtures and magnets, and the mean squared
    distance to the teacher's images or a Fréchet distance for networks, which pay ``final`` only.

    ### Starting State
    ``reset(seed=s)`` alone decides the sources, or the noise, of all episodes that follow. The sampler stands at pure
    noise.

    ### Episode End
    ``terminated`` after N steps. ``truncated`` is always False.

    ### Info
    At the end ``error``, ``reference_error``, its parts (``kl`` and ``reverse_kl``, ``majority`` and
    ``within_variance``, or ``teacher_mse`` and ``frechet``), ``num_steps`` and ``sigmas``, the grid that was walked,
    padded with zeros.

    ### Arguments
    Every field of the variant, by name; ``render_mode``.

    ### Version History
    v0: first version.
    """

    vector_type = SamplingVectorEnv
