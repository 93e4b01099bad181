"""Training of an agent: a folder that fills with checkpoints, TensorBoard curves and, at the end, the agent."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure, Logger, TensorBoardOutputFormat

from schedrl.environments.vector import PopulationEnv
from schedrl.errors import AgentFileError, SchedrlError, Spec
from schedrl.files import curves_at_once, dump_json, ensure_folder, locked_folder, read_model, write_text
from schedrl.policies.agent_files import DESCRIPTION, REQUEST, AgentFile, read_description, save_agent
from schedrl.policies.agents import slug
from schedrl.policies.ppo import (
    CHECKPOINT,
    PPOSpec,
    build,
    make_training_env,
    ppo_spec,
    restore_checkpoint,
    save_checkpoint,
)
from schedrl.policies.preview import draw_choice
from schedrl.policies.progress import TrainingProgress, append_progress, trim_progress
from schedrl.provenance import versions

_FIGURE_EVERY = 10


class TrainingRequest(Spec):
    """What to train: the contents of ``training.json``.

    Attributes:
        env_id: The environment.
        spec: Hyperparameters; ``total_timesteps`` is where training ends.
        seed: Fixes everything random.
        overrides: Fields of the environment's variant to change.
    """

    env_id: str
    spec: PPOSpec
    seed: int
    overrides: dict[str, Any]


Listener = Callable[[TrainingProgress], None]
"""Called after every update."""


def new_folder(root: Path, algo: str, request: TrainingRequest) -> Path:
    """The next unused folder ``root/algo/Env-v0_N``. It holds the request, and can be resumed, once it is there."""
    parent, name = ensure_folder(root / algo, "output folder"), slug(request.env_id)
    with locked_folder(parent, wait=True):
        begun = parent / ".begun"
        shutil.rmtree(begun, ignore_errors=True)  # of a kill
        _write_request(begun, request)
        taken = [int(p.name.rsplit("_", 1)[-1]) for p in parent.glob(f"{name}_*") if p.name[-1].isdigit()]
        return begun.rename(parent / f"{name}_{max(taken, default=0) + 1}")


def train(request: TrainingRequest, folder: Path, listen: Listener | None = None) -> Path:
    """Train PPO from the start.

    An interrupt (Ctrl-C) saves the agent as of the last update and is raised again; :func:`resume` continues from there
    and ends with the same agent as an unbroken training.

    Args:
        request: What to train.
        folder: Where to; must be writable.
        listen: Called after every update.

    Returns:
        The folder, which now holds a loadable agent.
    """
    ensure_folder(folder, "output folder")
    with locked_folder(folder):
        for name in (CHECKPOINT, DESCRIPTION):  # of another training
            (folder / name).unlink(missing_ok=True)
        trim_progress(folder, 0)
        _write_request(folder, request)
        return _Training(request, folder, listen).run()


def resume(folder: Path, total_timesteps: int | None = None, listen: Listener | None = None) -> Path:
    """Continue a training from its last checkpoint.

    Args:
        folder: Where it was.
        total_timesteps: A new end, to train longer. With ``anneal`` the learning rate then falls towards the new end,
            so the result is not that of one long training.
        listen: Called after every update.

    Raises:
        AgentFileError: There is nothing to resume, or its files are damaged.
    """
    request = read_request(folder, total_timesteps)
    ensure_folder(folder, "output folder")
    with locked_folder(folder):
        session = _Training(request, folder, listen)
        described = os.path.isfile(folder / DESCRIPTION) and read_description(folder).timesteps > 0
        if described or os.path.isfile(folder / CHECKPOINT):
            session.restore()
            session.save()  # a new end makes it unfinished
        else:
            trim_progress(folder, 0)
        _write_request(folder, request)  # its end may be a new one
        return session.run()


def begin_or_resume(request: TrainingRequest, folder: Path, listen: Listener | None = None) -> Path:
    """Train, or continue the same training where it was interrupted."""
    if not os.path.isfile(folder / REQUEST):
        return train(request, folder, listen)
    check_folder(request, folder)
    return resume(folder, listen=listen)


def check_folder(request: TrainingRequest, folder: Path) -> None:
    """Raise if a folder holds another training."""
    if os.path.isfile(folder / REQUEST) and read_request(folder) != request:
        raise SchedrlError(f"{folder}: holds another training; give another folder, or delete this one")


def request_for(
    env_id: str, seed: int, overrides: dict[str, Any] | None = None, **hyperparameters: Any
) -> TrainingRequest:
    """A request with the hyperparameters of ``agents/ppo.toml``, some of them changed."""
    return TrainingRequest(
        env_id=env_id, spec=ppo_spec(env_id, **hyperparameters), seed=seed, overrides=dict(overrides or {})
    )


def read_request(folder: Path, total_timesteps: int | None = None) -> TrainingRequest:
    """The request of a folder's training.

    Args:
        folder: The training's.
        total_timesteps: Another end than was asked for.
    """
    if not os.path.isfile(folder / REQUEST):
        raise AgentFileError(f"{folder}: no training to resume: there is no {REQUEST}")
    request = read_model(folder / REQUEST, TrainingRequest, "training request", error=AgentFileError)
    if total_timesteps is None:
        return request
    return request.model_copy(
        update={"spec": request.spec.model_copy(update={"total_timesteps": total_timesteps})}
    )


def _write_request(folder: Path, request: TrainingRequest) -> None:
    write_text(folder / REQUEST, dump_json(request.model_dump(mode="json")))


class _Training:
    """One process's part of a training."""

    def __init__(self, request: TrainingRequest, folder: Path, listen: Listener | None) -> None:
        self.request, self.folder, self.listen = request, folder, listen
        self.env = make_training_env(request.env_id, request.spec, request.seed, **request.overrides)
        self.model = build(self.env, request.spec, request.seed, after_update=self._after_update)
        self.vector: PopulationEnv = self.env.get_attr("unwrapped", 0)[0]
        with curves_at_once():
            curves = TensorBoardOutputFormat(str(folder / "tensorboard"))
        self.model.set_logger(Logger(None, [curves]))
        self.earlier_seconds = 0.0
        self.began = time.perf_counter()

    def run(self) -> Path:
        """Learn until the end, saving after every update."""
        remaining = self.request.spec.total_timesteps - self.model.num_timesteps
        try:
            if remaining > 0:
                self.model.learn(remaining, callback=_NoCallback(), reset_num_timesteps=False)
        finally:
            self.save()
            self.model.logger.close()
            self.env.close()
        return self.folder

    def restore(self) -> None:
        content = restore_checkpoint(self.folder / CHECKPOINT, self.model)
        self.earlier_seconds = float(content["seconds"])
        trim_progress(self.folder, self.model.completed_timesteps)

    def save(self) -> None:
        """Write the agent as of the last update; a rollout that was interrupted is taken again on resuming."""
        steps, variant = self.model.completed_timesteps, self.vector.variant
        description = AgentFile(
            variant=variant,
            hyperparameters=self.request.spec,
            seed=self.request.seed,
            timesteps=steps,
            optimizer_steps=steps // variant.episode_steps * variant.optimizer_steps,
            seconds=round(self.seconds, 3),
            versions=versions(),
        )
        save_agent(self.folder, self.model.policy, description)

    @property
    def seconds(self) -> float:
        """Wall-clock time of the training, over all its parts."""
        return self.earlier_seconds + time.perf_counter() - self.began

    def _after_update(self, update: int) -> None:
        returns = [episode["r"] for episode in self.model.ep_info_buffer or ()]
        mean, std = (float(np.mean(returns)), float(np.std(returns))) if returns else (0.0, 0.0)
        # The curve first: what a kill leaves beyond the checkpoint is cut off on resuming.
        progress = TrainingProgress(self.model.num_timesteps, self.seconds, mean, std)
        append_progress(self.folder, progress)
        save_checkpoint(self.folder / CHECKPOINT, self.model, {"seconds": self.seconds})
        self.model.logger.record("rollout/return_mean", mean)
        self.model.logger.record("rollout/return_std", std)
        if update % _FIGURE_EVERY == 1:
            figure = draw_choice(self.model, self.vector)
            self.model.logger.record(
                "schedule/chosen", Figure(figure, close=True), exclude=("stdout", "log", "json", "csv")
            )
        self.model.logger.dump(self.model.num_timesteps)
        if self.listen is not None:
            self.listen(progress)


class _NoCallback(BaseCallback):
    def _on_step(self) -> bool:
        return True
