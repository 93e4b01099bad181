"""One agent in one environment on one seed, as one line of a result file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from schedrl.benchmark.store import Line
from schedrl.errors import Spec
from schedrl.metrics.metric_specs import SampleSpec
from schedrl.policies.agents import Form

__all__ = ["Quality", "SamplingResult", "TrainingResult"]


class Quality(Spec):
    """Samples of a trained network against the training images, over one feature network.

    Attributes:
        features: Name of the feature network.
        samples: Images drawn.
        steps: Of the sampler.
        sampler: Which.
        reference_samples: Images compared with.
        frechet: Fréchet distance; called FID only where the features are ``inception``. None for a run that diverged,
            as the others.
        kid: Kernel distance, unbiased.
        precision: Share of samples that lie among the data.
        recall: Share of the data that lies among samples.
    """

    features: str
    samples: int
    steps: int
    sampler: Literal["ddim", "ddpm"]
    reference_samples: int | None = None
    frechet: float | None = None
    kid: float | None = None
    precision: float | None = None
    recall: float | None = None

    @property
    def spec(self) -> SampleSpec:
        """How it was measured."""
        return SampleSpec(count=self.samples, steps=self.steps, sampler=self.sampler, features=self.features)


class TrainingResult(Line):
    """One training run.

    Attributes:
        agent: Label of the row that it belongs to.
        kind: Kind of agent: ``schedule``, ``ava``, ``ava-dsc``, ``sequence``, ``random`` or ``trained``.
        agent_hash: Hash of the agent's definition; of its weights, for a trained one.
        form: How it was measured.
        env_id: The environment that the comparison is about.
        fingerprint: Of that environment.
        protocol: Of what results have in common that can be compared: data, training, measurement, optimizer steps.
        reward: Kind of reward that the return is made of.
        seed: Of ``reset``.
        test_bound: Bits/dim on test images.
        bound: Bits/dim on validation images.
        test_bins: The diffusion part of ``test_bound`` by cell of λ, from λ_max on, bits/dim; empty in older files.
        quality: Of its samples, where the comparison asks for it.
        episode_return: Sum of rewards. Written ``return``.
        diverged: Whether the run diverged; its bounds then are those at which a run counts as diverged.
        optimizer_steps: Spent in the run.
        search_steps: Optimizer steps that finding the agent cost, over all its training runs; 0 for a hand-made law.
        seconds: Wall-clock time, the run's share of its population's.
        schedule: The schedule of every phase.
        versions: Of the software.
        hardware: Processor or GPU.
        created: When, UTC, ISO 8601.
        revision: Git revision of the package, with ``-dirty`` when it was changed; empty outside a checkout.
    """

    agent: Annotated[str, Field(min_length=1)]
    kind: Literal["schedule", "ava", "ava-dsc", "sequence", "random", "trained"]
    agent_hash: str
    form: Form
    env_id: str
    fingerprint: str
    protocol: str
    reward: str
    seed: int
    test_bound: float
    bound: float
    episode_return: Annotated[float, Field(alias="return")]
    diverged: bool
    optimizer_steps: Annotated[int, Field(ge=0)]
    search_steps: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0.0)]
    schedule: tuple[dict[str, Any], ...]
    test_bins: tuple[float, ...] = ()
    quality: Quality | None = None
    versions: dict[str, str]
    hardware: str
    created: str
    revision: str = ""

    @property
    def key(self) -> tuple[str, str, str, str, str, SampleSpec | None, int]:
        """Agent, form, environment, samples asked for, and seed."""
        asked = self.quality.spec if self.quality is not None else None
        return self.agent, self.agent_hash, self.form, self.env_id, self.fingerprint, asked, self.seed


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
