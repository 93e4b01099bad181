"""A trained agent on disk: ``policy.safetensors``, ``agent.json`` and a card. Nothing is ever unpickled."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from stable_baselines3.common.policies import ActorCriticPolicy

from schedrl.environments.definition import Variant
from schedrl.environments.variants import AnyVariant
from schedrl.errors import AgentFileError, Spec
from schedrl.files import dump_json, read_model, write_arrays, write_text
from schedrl.policies.policy import BatchPolicy, Rows, State
from schedrl.policies.ppo import PPOSpec

FORMAT: Literal[1] = 1
WEIGHTS, DESCRIPTION, CARD = "policy.safetensors", "agent.json", "README.md"
REQUEST = "training.json"
"""What a training keeps in the same folder: what to train."""

log = logging.getLogger(__name__)


class AgentFile(Spec):
    """Contents of ``agent.json``.

    Attributes:
        format: Version of the layout.
        algo: The algorithm.
        variant: The environment it was trained in, whole.
        hyperparameters: Of the algorithm.
        seed: Of the training.
        timesteps: Environment steps taken.
        optimizer_steps: Inner optimizer steps its training spent, over all runs: what learning cost. 0 where
            nothing is trained inside, as in sampling environments.
        seconds: Wall-clock time of the training.
        versions: Of the software it was made with.
    """

    format: Literal[1] = FORMAT
    algo: Literal["ppo"] = "ppo"
    variant: AnyVariant
    hyperparameters: PPOSpec
    seed: int
    timesteps: int = Field(ge=0)
    optimizer_steps: int = Field(ge=0)
    seconds: float = Field(ge=0.0)
    versions: dict[str, str]

    @property
    def unfinished(self) -> str | None:
        """What to tell its user, unless it was trained to the end."""
        total = self.hyperparameters.total_timesteps
        if self.timesteps >= total:
            return None
        return f"has not finished training: {self.timesteps} of {total} steps; `schedrl train --resume` continues"


class LearnedPolicy(BatchPolicy):
    """A trained policy network, acting.

    Args:
        network: SB3's policy.
        description: What is known of it.
    """

    def __init__(self, network: ActorCriticPolicy, description: AgentFile) -> None:
        self.network, self.description = network, description

    def act(self, rows: Rows, state: State, deterministic: bool) -> tuple[NDArray[Any], State]:
        """Actions of the network, found row by row.

        A matrix product of many rows may round each otherwise than alone, and a run's actions, and so all its numbers,
        would depend on how many others it happens to be measured with.
        """
        network, space = self.network, self.network.action_space
        if not deterministic:
            return network.predict(rows)[0], ()
        inputs, _ = network.obs_to_tensor(rows)
        assert isinstance(inputs, torch.Tensor)
        with torch.no_grad():
            # What SB3's predict does for the most likely action, without its cost for every row.
            latent = (network.mlp_extractor.forward_actor(row.flatten(1)) for row in inputs.split(1))
            outputs = torch.cat([network.action_net(part) for part in latent])
        if isinstance(space, gym.spaces.Discrete):
            return outputs.argmax(dim=1).numpy(), ()
        assert isinstance(space, gym.spaces.Box)
        return np.clip(outputs.numpy(), space.low, space.high), ()


def save_agent(folder: Path, network: ActorCriticPolicy, description: AgentFile) -> None:
    """Write an agent's three files into ``folder``, each whole or not at all."""
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
    write_arrays(folder / WEIGHTS, weights)
    write_text(folder / DESCRIPTION, dump_json(description.model_dump(mode="json")))
    write_text(folder / CARD, _card(description))


def load_agent(folder: str | Path, variant: Variant | None = None) -> LearnedPolicy:
    """Load a trained agent.

    Args:
        folder: Where :func:`save_agent` wrote it.
        variant: The environment to act in, with the spaces that it was trained with.
    """
    path = Path(folder)
    description = read_description(path)
    if description.unfinished is not None:
        _warn(f"agent {path}: {description.unfinished}")
    if variant is not None and not fits(description, variant):
        raise AgentFileError(
            f"agent {path}: was trained in {description.variant.id}, whose observations or actions are not those "
            f"of {variant.id}"
        )
    network = build_network(description)
    try:
        weights = load_tensors((path / WEIGHTS).read_bytes())
        network.load_state_dict(weights)
    except OSError as error:
        raise AgentFileError(f"agent {path}: {WEIGHTS} cannot be read: {error.strerror or error}") from None
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise AgentFileError(
            f"agent {path}: {WEIGHTS} is damaged or belongs to another agent: {reason}"
        ) from None
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
        raise AgentFileError(f"agent {path}: {WEIGHTS} holds values that are not finite")
    network.set_training_mode(False)
    return LearnedPolicy(network, description)


def build_network(description: AgentFile) -> ActorCriticPolicy:
    """The policy network an agent file describes, its weights untrained."""
    spec, variant = description.hyperparameters, description.variant
    return ActorCriticPolicy(
        variant.observation_space(),
        variant.action_space(),
        lambda _: spec.learning_rate,
        net_arch=list(spec.net_arch),
        log_std_init=spec.log_std_init,
        use_sde=spec.use_sde,
    )


def read_description(path: Path) -> AgentFile:
    """What ``agent.json`` says, without the weights."""
    if (path / REQUEST).is_file() and not (path / DESCRIPTION).is_file():
        raise AgentFileError(
            f"agent {path}: has not finished training: there is no {DESCRIPTION}; `schedrl train --resume {path}` "
            "continues"
        )
    return read_model(path / DESCRIPTION, AgentFile, "agent file", error=AgentFileError)


@cache
def _warn(text: str) -> None:
    log.warning("%s", text)


def fits(description: AgentFile, variant: Variant) -> bool:
    """Whether an agent can act in an environment: it must see and decide the same things as in training."""
    trained = description.variant
    sees = trained.observation_names == variant.observation_names
    return sees and trained.action_space() == variant.action_space()


def _card(description: AgentFile) -> str:
    variant, spec = description.variant, description.hyperparameters
    rows = "\n".join(f"| {name} | {value} |" for name, value in spec.model_dump().items())
    software = ", ".join(f"{name} {number}" for name, number in description.versions.items())
    return f"""# PPO in {variant.id}

{variant.description}.

Trained for {description.timesteps} environment steps with seed {description.seed}, in
{description.seconds:.0f} s. {variant.cost(description.optimizer_steps)}

It sees {", ".join(variant.observation_names)} and decides {variant.decision}; it applies to that environment and
others with the same spaces.

Reproduce: `schedrl train --env {variant.id} --algo ppo -n {description.timesteps} --seed {description.seed}`,
with the variant and the hyperparameters that `agent.json` records.

| hyperparameter | value |
|---|---|
{rows}

Made with {software}.
"""
