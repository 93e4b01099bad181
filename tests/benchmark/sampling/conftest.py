"""Sampling results made up for tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from schedrl.benchmark.results import SamplingResult

MakeResult = Callable[..., SamplingResult]


@pytest.fixture
def make_result() -> MakeResult:
    """A result with an error; fields can be changed."""

    def make(agent: str, seed: int, error: float, **changes: Any) -> SamplingResult:
        fields: dict[str, Any] = {
            "agent": agent,
            "kind": "grid",
            "agent_hash": f"hash of {agent}",
            "env_id": "test/Sampling-v0",
            "fingerprint": "same",
            "seed": seed,
            "num_steps": 10,
            "error": error,
            "optimum": 1.0,
            "reference": 2.0,
            "parts": {"kl": error},
            "evaluations": 0,
            "training_steps": 0,
            "seconds": 0.001,
            "versions": {"schedrl": "0"},
            "hardware": "a test",
            "created": "2024-01-01T00:00:00+00:00",
        }
        return SamplingResult.model_validate({**fields, **changes})

    return make
