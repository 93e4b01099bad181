"""One agent on one sampling problem, as one line of a result file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schedrl.benchmark.store import Line

__all__ = ["SamplingResult"]


class SamplingResult(Line):
    """One problem solved.

    Attributes:
        agent: Label of the row that it belongs to.
        kind: Kind of agent.
        agent_hash: Hash of the agent's definition; of its weights, for a trained one.
        env_id: The environment.
        fingerprint: Of that environment.
        seed: Of ``reset``: decides the source and the number of steps.
        num_steps: N.
        error: Exact final error (of a Gaussian: KL divergence in nats).
        optimum: The least error that is possible between the environment's end points; None where it is not known.
        reference: Error of the environment's reference grid.
        parts: What the error is made of.
        evaluations: Sampler runs spent on this source to find the grid.
        training_steps: Sampler steps that the agent's own training spent, once for all sources.
        seconds: Wall-clock time of finding the grid, this source's share.
        versions: Of the software.
        hardware: Processor.
        created: When, UTC, ISO 8601.
        revision: Git revision of the package, with ``-dirty`` when it was changed; empty outside a checkout.
    """

    agent: Annotated[str, Field(min_length=1)]
    kind: Literal["grid", "search", "random", "trained"]
    agent_hash: str
    env_id: str
    fingerprint: str
    seed: int
    num_steps: Annotated[int, Field(ge=1)]
    error: Annotated[float, Field(ge=0.0)]
    optimum: Annotated[float, Field(ge=0.0)] | None
    reference: Annotated[float, Field(ge=0.0)]
    parts: dict[str, float]
    evaluations: Annotated[int, Field(ge=0)]
    training_steps: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0.0)]
    versions: dict[str, str]
    hardware: str
    created: str
    revision: str = ""

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """Agent, environment and seed."""
        return self.agent, self.agent_hash, self.env_id, self.fingerprint, self.seed
