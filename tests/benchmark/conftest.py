"""Results made up for tables and reports, and the tiny environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from schedrl.benchmark.results import TrainingResult
from schedrl.environments.registration import training_variant
from schedrl.environments.training.variant import TrainingVariant

MakeResult = Callable[..., TrainingResult]


@pytest.fixture
def variant(tiny: dict[str, Any]) -> TrainingVariant:
    """The tiny ``schedrl/DigitsKnots-v0``."""
    return training_variant("schedrl/DigitsKnots-v0", tiny)


@pytest.fixture
def make_result(variant: TrainingVariant) -> MakeResult:
    """A result of the tiny environment; fields can be changed, ``return`` as ``earned``."""

    def make(agent: str, seed: int, test_bound: float, **changes: Any) -> TrainingResult:
        fields: dict[str, Any] = {
            "agent": agent,
            "kind": "schedule",
            "agent_hash": f"hash of {agent}",
            "form": "exact",
            "env_id": variant.id,
            "fingerprint": variant.fingerprint(),
            "protocol": variant.protocol_fingerprint(),
            "reward": "bound",
            "seed": seed,
            "test_bound": test_bound,
            "bound": test_bound + 0.01,
            "return": changes.pop("earned", 9.0 - test_bound),
            "diverged": False,
            "optimizer_steps": variant.optimizer_steps,
            "search_steps": 0,
            "seconds": 0.5,
            "schedule": [{"name": "cosine"}],
            "versions": {"schedrl": "0"},
            "hardware": "a test",
            "created": "2024-01-01T00:00:00+00:00",
        }
        if changes.get("kind") in ("trained", "random"):
            fields["form"] = "action"
        return TrainingResult.model_validate({**fields, **changes})

    return make
