"""Exact continuation of a PPO training: policy, optimizer, environment and random numbers in one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from stable_baselines3.common.vec_env import VecMonitor

from schedrl.environments.vector import PopulationEnv
from schedrl.errors import AgentFileError
from schedrl.files import write_arrays
from schedrl.policies.ppo import SteppedPPO

__all__ = ["CHECKPOINT", "restore_checkpoint", "save_checkpoint"]

CHECKPOINT = "checkpoint.safetensors"


def save_checkpoint(path: Path, model: SteppedPPO, extra: dict[str, Any]) -> None:
    """Write everything that the next rollout depends on; call between updates.

    Args:
        path: The file.
        model: SteppedPPO on a :class:`~schedrl.environments.sb3.Sb3VectorEnv`.
        extra: More plain JSON to keep.
    """
    vector, monitor = _parts(model)
    arrays, meta = vector.state()
    arrays = {f"env.{name}": array for name, array in arrays.items()}
    arrays |= {f"policy.{name}": tensor.numpy() for name, tensor in model.policy.state_dict().items()}
    optimizer = model.policy.optimizer.state_dict()
    for index, state in optimizer["state"].items():
        arrays |= {f"optimizer.{index}.{name}": np.asarray(value) for name, value in state.items()}
    arrays["torch_rng"] = torch.get_rng_state().numpy()
    assert model._last_obs is not None
    arrays["last_obs"] = np.asarray(model._last_obs)
    arrays["last_starts"] = np.asarray(model._last_episode_starts)
    arrays["returns"], arrays["lengths"] = monitor.episode_returns, monitor.episode_lengths
    # SB3 shuffles its minibatches with NumPy's global generator.
    name, keys, position, gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    arrays["numpy_rng"] = np.asarray(keys)
    content = {
        "env": meta,
        "numpy_rng": [name, position, gauss, cached],
        "timesteps": model.num_timesteps,
        "updates": model._n_updates,
        **extra,
    }
    write_arrays(path, arrays, {"schedrl": json.dumps(content, allow_nan=False)})


def restore_checkpoint(path: Path, model: SteppedPPO) -> dict[str, Any]:
    """Bring a freshly built model and its environment to where :func:`save_checkpoint` left them.

    Returns:
        What was kept beside them.

    Raises:
        AgentFileError: The file is missing or damaged, or belongs to another training.
    """
    try:
        arrays, content = _read(path)
        _restore(model, arrays, content)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise AgentFileError(
            f"checkpoint {path}: missing, damaged or of another training: {reason}"
        ) from None
    return content


def _restore(model: SteppedPPO, arrays: dict[str, NDArray[Any]], content: dict[str, Any]) -> None:
    vector, monitor = _parts(model)
    model.policy.load_state_dict({n: torch.from_numpy(a) for n, a in _below(arrays, "policy.").items()})
    optimizer = model.policy.optimizer.state_dict()
    for name, array in _below(arrays, "optimizer.").items():
        index, key = name.split(".")
        optimizer["state"].setdefault(int(index), {})[key] = torch.from_numpy(array)
    model.policy.optimizer.load_state_dict(optimizer)
    vector.restore(_below(arrays, "env."), content["env"])
    model._last_obs = arrays["last_obs"]
    model._last_episode_starts = arrays["last_starts"]
    monitor.episode_returns, monitor.episode_lengths = arrays["returns"], arrays["lengths"]
    model.num_timesteps = model.completed_timesteps = int(content["timesteps"])
    model._n_updates = int(content["updates"])
    torch.set_rng_state(torch.from_numpy(arrays["torch_rng"]))
    name, position, gauss, cached = content["numpy_rng"]
    np.random.set_state((name, arrays["numpy_rng"], position, gauss, cached))  # noqa: NPY002


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    with safe_open(path, framework="numpy") as file:
        arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        content: dict[str, Any] = json.loads(file.metadata()["schedrl"])
    return arrays, content


def _below(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _parts(model: SteppedPPO) -> tuple[PopulationEnv, VecMonitor]:
    """The native environment and the monitor below SB3's wrappers."""
    env: Any = model.get_env()
    while not isinstance(env, VecMonitor):
        env = env.venv
    adapter: Any = env.venv
    vector: PopulationEnv = adapter.env.unwrapped
    return vector, env
