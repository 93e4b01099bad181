"""Adding a kind takes one class: kinds from outside the package run, and nothing asks for a kind by name or class."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import schedrl
from schedrl import schedules
from schedrl.diffusion.local_variance import LocalDeviation
from schedrl.environments.sampling.env import SamplingVectorEnv
from schedrl.environments.sampling.gaussian_source import GaussianBatch
from schedrl.environments.sampling.source_kind import Features, Rows, SourceBatch, SourceKind
from schedrl.environments.sampling.variant import SamplingVariant, StepsSpec
from schedrl.environments.training.actions import BoxAction, Memory, Range
from schedrl.environments.training.env import TrainingVectorEnv
from schedrl.environments.training.rewards import TrainingReward
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import parse
from schedrl.schedules import Schedule
from schedrl.sources.gaussian.recursions import SamplerName

PACKAGE = Path(schedrl.__file__).parent

Array = NDArray[np.float64]


class TwoGammas(BoxAction):
    """Two knots, each an action in [-1, 1]; their sum moves the logarithm of the tangent law's γ."""

    kind: Literal["two-gammas"] = "two-gammas"

    @property
    def num_knots(self) -> int:
        return 2

    @property
    def own_timesteps(self) -> int:
        return 50

    @property
    def initial_memory(self) -> Memory:
        return (0.0,)

    def schedules(self, sweep: NDArray[Any], memory: Array, limits: Range) -> tuple[list[Schedule], Array]:
        memory = memory + sweep.sum(axis=0)
        return [schedules.Tangent(gamma=float(np.exp(row[0]))) for row in memory], memory

    def encode(self, schedule: Schedule, knot: int, memory: Memory, limits: Range) -> NDArray[np.float32]:
        return np.zeros(1, np.float32)

    def walked(self, sweep: NDArray[Any], images: LocalDeviation, limits: Range) -> tuple[Array, Array]:
        reached = np.full(sweep.shape[1], -0.5)
        return reached, images.at(reached)


class LevelReward(TrainingReward):
    """Minus the bound after the phase."""

    kind: Literal["level"] = "level"

    def earned(self, before: Array, after: Array, own_loss: Array | None) -> Array:
        return -after

    def penalty(self, worst_bound: float, worst_error: float, phases: int) -> float:
        return -worst_bound * phases


class OwnTrainingVariant(TrainingVariant):
    """A variant with an action and a reward of one's own."""

    action: TwoGammas = TwoGammas()  # type: ignore[assignment]
    reward: LevelReward = LevelReward()  # type: ignore[assignment]


class OneEigenvalue(SourceKind):
    """A Gaussian with a single eigenvalue in [1, 2]."""

    kind: Literal["one-eigenvalue"] = "one-eigenvalue"

    @property
    def num_uniforms(self) -> int:
        return 1

    @property
    def feature_widths(self) -> Features:
        return ("spectrum", 1), ("angle", 1), ("deficit", 1), ("speed", 1), ("ahead", 1)

    def batch(self, count: int, sampler: SamplerName) -> SourceBatch:
        return GaussianBatch(np.ones((count, 1)), np.ones((count, 1)), sampler, quantiles=1)

    def assign(self, batch: Any, rows: Rows, uniforms: Array) -> None:
        batch.assign(rows, 1.0 + uniforms, np.ones_like(uniforms))


class OwnSamplingVariant(SamplingVariant):
    """A variant with a source of one's own."""

    source: OneEigenvalue = OneEigenvalue()  # type: ignore[assignment]


def test_an_action_and_a_reward_from_outside() -> None:
    definition = {
        "id": "me/Own-v0",
        "data": {"name": "digits", "limit": 40, "validation": 10, "test": 10},
        "training": {"batch_size": 4, "network": {"channels": [4]}},
        "observation": {"features": ["time", "logsnr", "log_gain"]},
        "bound": {"images": 4},
        "test_bound": {"images": 4},
        "episode": {"phases": 2, "steps_per_phase": 2},
    }
    variant = parse(OwnTrainingVariant, definition, "variant")
    assert variant.timesteps == 50
    assert variant.overview == ("two-gammas", "digits", "2 x 2")
    overrides: dict[str, Any] = {"episode.steps_per_phase": 1}
    env = TrainingVectorEnv(2, variant=variant, **overrides)
    assert type(env.variant) is OwnTrainingVariant
    observations, _ = env.reset(seed=1)
    np.testing.assert_allclose(observations[0], [0.0, 0.1 * variant.bound.logsnr_max, 0.0], rtol=1e-6)
    up = np.array([[0.5], [-0.5]], np.float32)
    observations, rewards, *_ = env.step(up)
    np.testing.assert_allclose(observations[:, 0], 0.5)
    np.testing.assert_array_equal(rewards, 0.0)
    observations, rewards, _, _, infos = env.step(up)
    np.testing.assert_allclose(observations[:, 2], [1.0 / 3.0, -1.0 / 3.0], rtol=1e-6)
    np.testing.assert_array_equal(rewards, -infos["bound"])
    env.step(up)
    _, _, ended, *_ = env.step(up)
    assert ended.all()
    made = [json.loads(text)[-1]["gamma"] for text in env.schedule]
    np.testing.assert_allclose(made, np.exp([2.0, -2.0]))


def test_a_source_from_outside() -> None:
    variant = OwnSamplingVariant(id="me/Own-v0", steps=StepsSpec(minimum=2, maximum=2))
    env = SamplingVectorEnv(2, variant=variant)
    assert "angle" in env.observation_names
    env.reset(seed=1)
    still = np.zeros((2, 1), np.float32)
    _, first, *_ = env.step(still)
    _, last, ended, _, infos = env.step(still)
    assert ended.all()
    np.testing.assert_allclose(first + last, 0.0, atol=1e-12)
    assert (infos["final_info"]["kl"] > 0.0).all()


TAGS = tuple(
    f".{part}.{tag}" for part in ("action", "source", "reward", "reference") for tag in ("kind", "name")
)
"""Endings of expressions that name the kind of a part of a variant."""

NEEDED = {
    (
        "policies/agents.py",
        "DSCAction",
    ): "the agent sets AVA's and DSC's constants, which only this action takes",
    ("policies/policy.py", "DSCAction"): "the same agent's policy",
    ("policies/dko.py", "KernelAction"): "the kernel outside an environment",
}
"""Modules that work with one kind only, and why."""


def kind_checks(place: str, text: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Compare):
            sides = [f".{ast.unparse(side)}" for side in (node.left, *node.comparators)]
            if any(side.endswith(TAGS) for side in sides):
                found.append(f"{place}: {ast.unparse(node)}")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            names = {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
            kinds = {
                name for name in names if name.endswith(("Action", "Source", "Reward", "Reference", "Batch"))
            }
            found += [f"{place}: {ast.unparse(node)}" for name in kinds if (place, name) not in NEEDED]
    return found


def test_nothing_outside_asks_for_a_kind() -> None:
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    assert len(files) > 100
    asking = [check for place, path in files.items() for check in kind_checks(place, path.read_text("utf-8"))]
    assert asking == []
    for text in ('variant.action.kind == "kernel"', "source.kind in KINDS", "isinstance(x, (A, DSCAction))"):
        assert kind_checks("report/page.py", text)
