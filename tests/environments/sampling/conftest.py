"""Small sampling environments of every source kind."""

from __future__ import annotations

from typing import Any, Protocol

import pytest

from schedrl.environments.sampling.env import SamplingVectorEnv
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.environments.variants import of_family, parse_variant

SOURCES: dict[str, dict[str, Any]] = {
    "gaussian": {
        "kind": "gaussian",
        "spectrum": {"name": "log-uniform", "eigenvalues": 5, "decades": 3.0},
        "quantiles": 5,
    },
    "padded": {
        "kind": "gaussian",
        "spectrum": {"name": "log-uniform", "eigenvalues": 2, "max_eigenvalues": 6},
        "quantiles": 3,
    },
    "images": {"kind": "images", "data": {"name": "digits", "limit": 100, "validation": 30, "test": 30}},
    "mixture": {"kind": "mixture", "dimension": [1e2, 1e8], "quantiles": 64},
    "network": {"kind": "network", "images": 2, "teacher_steps": 4},
    "curie-weiss": {"kind": "curie-weiss", "dimension": [200, 2000], "samples": 8, "strata": 8},
}

KINDS = tuple(SOURCES)


def small(kind: str) -> dict[str, Any]:
    """Plain data of a small environment."""
    two_mode = kind in ("mixture", "curie-weiss")
    return {
        "id": f"test/{kind.capitalize()}Sampling-v0",
        "family": "sampling",
        "source": SOURCES[kind],
        "steps": {"minimum": 3, "maximum": 6},
        "action": {"reference": {"name": "two-scale" if two_mode else "tangent"}, "scale": 3.0},
        "reward": {"kind": "final" if kind == "network" else "predicted"},
    }


class MakeVariant(Protocol):
    """Build the small variant of a source kind."""

    def __call__(self, kind: str, **overrides: Any) -> SamplingVariant:
        """Fields to change are named as for ``gymnasium.make``."""


class MakeVector(Protocol):
    """Build a small vector environment."""

    def __call__(self, kind: str, num_envs: int, **arguments: Any) -> SamplingVectorEnv:
        """Further arguments are those of the environment."""


@pytest.fixture
def make_variant() -> MakeVariant:
    return lambda kind, **overrides: of_family(parse_variant(small(kind), overrides), SamplingVariant)


@pytest.fixture
def make_vector() -> MakeVector:
    return lambda kind, num_envs, **arguments: SamplingVectorEnv(num_envs, variant=small(kind), **arguments)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Every source kind."""
    return str(request.param)
