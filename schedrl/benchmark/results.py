"""One agent in one environment on one seed, as one line of a result file."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Annotated, Any, Literal

from pydantic import Field

from schedrl.benchmark.store import Line
from schedrl.errors import Spec
from schedrl.metrics.metric_specs import SampleSpec
from schedrl.metrics.sample_quality import SampleQuality
from schedrl.policies.agents import Form, Role, role_of

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(ge=0.0)]

RowKey = tuple[str, str, Form | None, SampleSpec | None]
"""Label and hash of an agent, its form, and the samples asked for."""


class Result(Line):
    """What an agent came to on one seed; each family of environments adds what it measures.

    Attributes:
        agent: The agent's label in the benchmark.
        kind: Kind of agent.
        agent_hash: Hash of the agent's definition; of its weights, for a trained one.
        env_id: The benchmark's environment.
        fingerprint: Hash of that environment.
        seed: Seed of ``reset``.
        seconds: Wall-clock time, this run's share of the time of all runs beside it.
        versions: Versions of the software.
        hardware: Processor or GPU.
        created: When, UTC, ISO 8601.
        revision: Git revision of the package, with ``-dirty`` when it was changed; empty outside a checkout.
    """

    agent: Annotated[str, Field(min_length=1)]
    kind: str
    agent_hash: str
    env_id: str
    fingerprint: str
    seed: int
    seconds: Positive
    versions: dict[str, str]
    hardware: str
    created: str
    revision: str = ""

    @property
    def row(self) -> RowKey:
        """What the runs of one row of the table have in common, and no other row of the environment has."""
        return self.agent, self.agent_hash, None, None

    @property
    def key(self) -> tuple[Hashable, ...]:
        return *self.row, self.env_id, self.fingerprint, self.seed

    @property
    def role(self) -> Role:
        """Learned, hand-made, searched or random."""
        return role_of(self.kind)


class Quality(Spec):
    """Samples of a trained network against the training images, over one feature network.

    Attributes:
        features: Name of the feature network.
        samples: Number of images drawn.
        steps: Steps of the sampler.
        sampler: The sampler.
        reference_samples: Number of images that they are compared with.
        frechet: Fréchet distance; called FID only where the features are ``inception``. None for a run that diverged,
            like the other three.
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

    @classmethod
    def of(cls, spec: SampleSpec, found: SampleQuality | None) -> Quality:
        """What was found with samples drawn as ``spec`` says."""
        assert spec.features is not None
        numbers: dict[str, Any] = {}
        if found is not None:
            numbers = {
                "reference_samples": found.reference_samples,
                "frechet": found.frechet.value,
                "kid": found.kid.value,
                "precision": found.precision_recall.precision,
                "recall": found.precision_recall.recall,
            }
        return cls(
            features=spec.features, samples=spec.count, steps=spec.steps, sampler=spec.sampler, **numbers
        )

    @property
    def spec(self) -> SampleSpec:
        return SampleSpec(count=self.samples, steps=self.steps, sampler=self.sampler, features=self.features)


class Episode(Spec):
    """One episode of a training environment.

    Attributes:
        seed: Seed of ``reset``.
        test_bound: Bound on test images at the end, bits/dim; that at which a run counts as diverged, if it did. None
            where the environment leaves it out.
        bound: Bound on validation images at the end, bits/dim, likewise.
        test_bins: The diffusion part of ``test_bound`` by cell of λ, from λ_max on, bits/dim; empty in older files.
        quality: Quality of its samples, if they were asked for.
        episode_return: Sum of rewards. Written ``return``.
        diverged: Whether the run diverged.
        optimizer_steps: Optimizer steps of the run.
        seconds: Wall-clock time, this run's share of the time of all runs beside it.
        schedule: The schedule of every phase.
    """

    seed: int
    test_bound: float | None
    bound: float
    episode_return: Annotated[float, Field(alias="return")]
    diverged: bool
    optimizer_steps: Count
    seconds: Positive
    schedule: tuple[dict[str, Any], ...]
    test_bins: tuple[float, ...] = ()
    quality: Quality | None = None


class TrainingResult(Episode, Result):
    """One training run.

    Attributes:
        form: How the agent was measured.
        protocol: Hash of data, training, measurement and optimizer steps: results with the same can be compared.
        reward: Kind of reward that the return is made of.
        search_steps: Optimizer steps that finding the agent took, over all training runs; 0 for a hand-made schedule.
    """

    kind: Literal["schedule", "ava", "ava-dsc", "sequence", "random", "trained"]
    form: Form
    protocol: str
    reward: str
    test_bound: float
    search_steps: Count

    @property
    def row(self) -> RowKey:
        asked = None if self.quality is None else self.quality.spec
        return self.agent, self.agent_hash, self.form, asked


class SamplingResult(Result):
    """One sampling problem solved.

    Attributes:
        num_steps: N.
        error: Final error; exact where the source's denoiser is (of a Gaussian: KL divergence in nats).
        optimum: Least possible error between the environment's end points; None where it is not known.
        reference: Error of the environment's reference grid.
        parts: What the error is made of.
        evaluations: Sampler runs spent on this source to find the grid.
        training_steps: Sampler steps that training the agent took, once for all sources.
    """

    kind: Literal["grid", "search", "random", "trained"]
    num_steps: Annotated[int, Field(ge=1)]
    error: Positive
    optimum: Positive | None
    reference: Positive
    parts: dict[str, float]
    evaluations: Count
    training_steps: Count
