"""PPO from Stable-Baselines3 on the population of a vector environment: hyperparameters, training, checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from schedrl.catalogue import folder
from schedrl.diffusion.run_stream import folded_seed
from schedrl.environments.registration import variant_of
from schedrl.environments.sb3 import Sb3VectorEnv
from schedrl.environments.vector import PopulationEnv
from schedrl.errors import AgentFileError, SchedrlError, Spec, parse
from schedrl.files import parse_object, read_arrays, read_object, write_arrays

CHECKPOINT = "checkpoint.safetensors"


class PPOSpec(Spec):
    """How PPO learns in one environment.

    Attributes:
        total_timesteps: Environment steps of a whole training.
        num_envs: Runs trained side by side.
        episodes_per_update: Whole episodes of every run between two updates. Rollouts end where episodes end.
        n_epochs: Passes over a rollout.
        minibatches: Parts a rollout is cut into in each pass.
        learning_rate: Of the policy and value networks (Adam).
        anneal: Let it fall linearly to 0 at ``total_timesteps``: updates rest on few runs, and a constant rate keeps
            wandering around the optimum.
        gamma: Discount; 1 because returns telescope.
        gae_lambda: 1 uses whole returns, 0 one-step differences.
        clip_range: PPO's ε.
        ent_coef: Weight of the entropy bonus.
        vf_coef: Weight of the value loss.
        max_grad_norm: Clip of the update's gradient.
        net_arch: Hidden widths of policy and value networks.
        log_std_init: Log of the exploration's standard deviation at the start (actions live in [−1, 1]).
        use_sde: Exploration by a random function of the state that is drawn once per rollout, so that it is
            constant over a sweep, instead of independent noise at each step.
        shared_seed: All runs of an update share seeds, so they differ by their actions alone.
        group_size: With ``shared_seed``, the number of runs in a row that share a seed, a divisor of ``num_envs``; all
            of them when absent.
        center_rewards: Subtract from each run's reward the mean of the other runs' at the same step. With shared
            seeds this removes the effect of the seed without bias.
        reward_scale: Factor on rewards, for the value network.
    """

    total_timesteps: Annotated[int, Field(ge=1, le=2**53)] = 1024
    num_envs: Annotated[int, Field(ge=1, le=4096)] = 32
    episodes_per_update: Annotated[int, Field(ge=1, le=1024)] = 1
    n_epochs: Annotated[int, Field(ge=1, le=10_000)] = 8
    minibatches: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3
    anneal: bool = True
    gamma: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    gae_lambda: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    clip_range: Annotated[float, Field(gt=0.0)] = 0.2
    ent_coef: Annotated[float, Field(ge=0.0)] = 0.0
    vf_coef: Annotated[float, Field(ge=0.0)] = 0.5
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 0.5
    net_arch: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(max_length=8)] = (32, 32)
    log_std_init: float = -1.0
    use_sde: bool = False
    shared_seed: bool = True
    group_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    center_rewards: bool = True
    reward_scale: Annotated[float, Field(gt=0.0)] = 10.0

    @model_validator(mode="after")
    def _whole_groups(self) -> PPOSpec:
        if self.group_size is not None and self.num_envs % self.group_size:
            raise ValueError(f"group_size must divide num_envs = {self.num_envs} (got {self.group_size})")
        return self


def ppo_spec(env_id: str, **overrides: Any) -> PPOSpec:
    """Hyperparameters for an environment: the defaults, then its own table, then ``overrides``."""
    table = read_object(folder("agents") / "ppo.toml", "agent file")
    fields = {**table.get("defaults", {}), **table.get("environments", {}).get(env_id, {}), **overrides}
    return parse(PPOSpec, fields, f"PPO hyperparameters of {env_id}")


class CommonBaseline(VecEnvWrapper):
    """Scale rewards and subtract, at every step, the mean reward of the other runs of the group.

    Runs that share a seed differ by their actions alone, so what they have in common says nothing about an action.
    Leaving a run's own reward out of its baseline keeps the policy gradient unbiased (Kool et al. 2019).

    Args:
        venv: The environment, the runs of a group in step with each other.
        center: Subtract the baseline; with one run there is none.
        scale: Factor on rewards.
        group_size: Runs in a group; all of them when absent.
    """

    def __init__(self, venv: VecEnv, *, center: bool, scale: float, group_size: int | None = None) -> None:
        super().__init__(venv)
        self.group_size = group_size or venv.num_envs
        self.center, self.scale = center and self.group_size > 1, scale

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, dones, infos = self.venv.step_wait()
        changed = self.scale * rewards.astype(np.float64)
        if self.center:
            groups = changed.reshape(-1, self.group_size)
            others = (groups.sum(axis=1, keepdims=True) - groups) / (self.group_size - 1)
            changed = (groups - others).ravel()
        return observations, changed.astype(np.float32), dones, infos


def make_training_env(env_id: str, spec: PPOSpec, seed: int, **overrides: Any) -> VecEnv:
    """The environment as PPO sees it: monitored, rewards centred, test images left out."""
    fixed = variant_of(env_id, overrides).while_learning
    overrides = {key: value for key, value in overrides.items() if key.split(".")[0] not in fixed}
    vector = gym.make_vec(env_id, num_envs=spec.num_envs, **overrides, **fixed)
    env = VecMonitor(Sb3VectorEnv(vector, shared_seed=spec.shared_seed, group_size=spec.group_size))
    env.seed(seed)
    return CommonBaseline(
        env, center=spec.center_rewards, scale=spec.reward_scale, group_size=spec.group_size
    )


class SteppedPPO(PPO):
    """PPO that reports when an update is complete, the one moment at which its state is small and whole.

    An update after which the policy is not finite is undone, and ends the training with an error.

    Attributes:
        after_update: Called with the number of updates so far.
        completed_timesteps: Environment steps that have entered an update.
    """

    after_update: Callable[[int], None] | None = None
    completed_timesteps: int = 0

    def train(self) -> None:
        """Update the policy, then report. An update that is interrupted leaves nothing behind."""
        before = {name: tensor.clone() for name, tensor in self.policy.state_dict().items()}
        try:
            super().train()
            self._check_finite()
        except BaseException as error:
            self.policy.load_state_dict(before)
            if not isinstance(error, ValueError):
                raise
            raise SchedrlError(
                f"training diverged after {self.completed_timesteps} environment steps: PPO's update made the policy's "
                "numbers infinite or NaN; the agent from before it is kept; lower the learning_rate (--hp)"
            ) from None
        self.completed_timesteps = self.num_timesteps
        if self.after_update is not None:
            self.after_update(self.completed_timesteps // (self.n_steps * self.n_envs))

    def _check_finite(self) -> None:
        """Raise a ValueError, as torch's distributions do, if the policy cannot act on the last observations."""
        assert isinstance(self._last_obs, np.ndarray)
        rows = torch.from_numpy(self._last_obs)
        with torch.no_grad():
            distribution = self.policy.get_distribution(rows)
            numbers = distribution.log_prob(distribution.mode()), self.policy.predict_values(rows)
        if not all(bool(torch.isfinite(part).all()) for part in (*numbers, *self.policy.parameters())):
            raise ValueError


def build(
    env: VecEnv, spec: PPOSpec, seed: int, after_update: Callable[[int], None] | None = None
) -> SteppedPPO:
    """SB3's PPO with the given hyperparameters, on the CPU (its network is tiny)."""
    n_steps = spec.episodes_per_update * env.get_attr("variant", 0)[0].episode_steps
    rate = spec.learning_rate
    same = {
        "n_epochs",
        "gamma",
        "gae_lambda",
        "clip_range",
        "ent_coef",
        "vf_coef",
        "max_grad_norm",
        "use_sde",
    }
    model = SteppedPPO(
        "MlpPolicy",
        env,
        **spec.model_dump(include=same),
        learning_rate=(lambda remaining: rate * remaining) if spec.anneal else rate,
        n_steps=n_steps,
        batch_size=max(n_steps * spec.num_envs // spec.minibatches, 2),
        policy_kwargs={"net_arch": list(spec.net_arch), "log_std_init": spec.log_std_init},
        stats_window_size=spec.episodes_per_update * spec.num_envs,
        seed=folded_seed(seed, 32),
        device="cpu",
    )
    model.after_update = after_update
    return model


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
        The plain JSON that was kept.

    Raises:
        AgentFileError: The file is missing or damaged, or belongs to another training.
    """
    try:
        arrays, metadata = read_arrays(path)
        content = parse_object(metadata["schedrl"], "schedrl")
        _restore(model, arrays, content)
    except Exception as error:  # torch, NumPy and the environment refuse foreign state with almost anything
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
    for parameter, moments in model.policy.optimizer.state.items():
        sizes = {name: value.numel() for name, value in moments.items()}
        if sizes != {"step": 1, "exp_avg": parameter.numel(), "exp_avg_sq": parameter.numel()}:
            raise ValueError(f"the optimizer keeps {sizes} of {parameter.numel()} numbers")
    vector.restore(_below(arrays, "env."), content["env"])
    for name in ("last_obs", "last_starts", "returns", "lengths"):
        entries = (model.observation_space.shape or ()) if name == "last_obs" else ()
        if arrays[name].shape != (model.n_envs, *entries) or not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name}: has shape {arrays[name].shape}, or is not finite")
    model._last_obs = arrays["last_obs"]
    model._last_episode_starts = arrays["last_starts"]
    monitor.episode_returns, monitor.episode_lengths = arrays["returns"], arrays["lengths"]
    model.num_timesteps = model.completed_timesteps = int(content["timesteps"])
    model._n_updates = int(content["updates"])
    torch.set_rng_state(torch.from_numpy(arrays["torch_rng"]))
    name, position, gauss, cached = content["numpy_rng"]
    np.random.set_state((name, arrays["numpy_rng"], position, gauss, cached))  # noqa: NPY002


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
