"""What the files of an experiment hold: its setting, training runs, trials of learning rates, and timings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, SerializerFunctionWrapHandler, model_serializer

from schedrl.benchmark.store import Line
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import Spec
from schedrl.provenance import content_hash

DataName = Literal["digits", "fashion-mnist", "cifar10"]


class Sampling(Spec):
    """A way of drawing samples.

    Attributes:
        sampler: ``"ddim"`` or ``"ddpm"``.
        steps: Number of steps.
    """

    sampler: Literal["ddim", "ddpm"]
    steps: Annotated[int, Field(ge=1)]

    @property
    def label(self) -> str:
        """Name in tables and files, e.g. ``DDIM 20``."""
        return f"{self.sampler.upper()} {self.steps}"


class ExperimentSetting(Spec):
    """What all rows of an experiment have in common. Fields that are empty do not enter its file or its hash.

    Attributes:
        data: Name of the image set.
        variant: Environment that sets data, network, measurement and budget.
        measure_every: Optimizer steps between two measurements of the validation bound.
        rates: Learning rates tried for every row. Without any, all rows have the environment's.
        trial_seeds: Number of seeds of each trial, none of them held out.
        samples: Number of images drawn from every trained network for each Fréchet distance.
        samplings: Ways of drawing samples; or
        sampler_steps: DDIM steps, if that is the only way.
        extractor: Network over whose features Fréchet distances are taken.
    """

    data: DataName
    variant: TrainingVariant
    measure_every: Annotated[int, Field(ge=1)] = 10
    rates: tuple[Annotated[float, Field(gt=0.0, le=10.0)], ...] = ()
    trial_seeds: Annotated[int, Field(ge=0)] = 0
    samples: Annotated[int, Field(ge=2)]
    samplings: tuple[Sampling, ...] = ()
    sampler_steps: Annotated[int, Field(ge=0)] = 0
    extractor: str

    @model_serializer(mode="wrap")
    def _without_empty_fields(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialize(self)
        return {name: value for name, value in content.items() if value}

    @property
    def ways(self) -> tuple[Sampling, ...]:
        return self.samplings or (Sampling(sampler="ddim", steps=self.sampler_steps),)

    @property
    def learning_rate(self) -> float:
        return self.variant.training.optimizer.learning_rate

    @property
    def steps(self) -> int:
        return self.variant.optimizer_steps

    @property
    def passes(self) -> tuple[bool, ...]:
        """Whether the learning rate is tuned, for each set of runs."""
        return (False, True) if self.rates else (False,)

    @property
    def trial_steps(self) -> int:
        """Optimizer steps of all trials of a row."""
        return self.trial_seeds * len(self.rates) * self.steps

    @property
    def fingerprint(self) -> str:
        """Hash of everything that affects the numbers."""
        own = self.model_dump(mode="json", exclude={"variant"})
        return content_hash({**own, "variant": self.variant.fingerprint()})


class Traces(Spec):
    """What changed during a run, one value per measurement; a diverged run has none after its divergence.

    Attributes:
        gain: AVA's K.
        threshold: AVA's τ.
        gradient_norm: Root mean square of ‖∇L‖ since the last measurement.
        rate: Mean learning rate η_t since the last measurement.
    """

    gain: tuple[FiniteFloat, ...] = ()
    threshold: tuple[FiniteFloat, ...] = ()
    gradient_norm: tuple[FiniteFloat, ...] = ()
    rate: tuple[FiniteFloat, ...] = ()


class _RowLine(Line):
    """What belongs to a row.

    Attributes:
        row: Name of the row.
        row_fingerprint: Hash of what the row trains with, including the weights of a trained agent.
        setting: Hash of the setting.
    """

    row: str
    row_fingerprint: str
    setting: str


class RateTrial(_RowLine):
    """A learning rate tried for a row.

    Attributes:
        rate: The learning rate.
        bound: Mean validation bound at the end over the trial's seeds, bits/dim. A diverged run counts with the bound
            at which a run is taken to have diverged.
        diverged: Number of diverged runs.
        runs: Number of runs.
        optimizer_steps: Steps of all runs together.
    """

    rate: FiniteFloat
    bound: FiniteFloat
    diverged: Annotated[int, Field(ge=0)]
    runs: Annotated[int, Field(ge=1)]
    optimizer_steps: Annotated[int, Field(ge=1)]

    @property
    def key(self) -> tuple[str, str, str, float]:
        return self.row, self.row_fingerprint, self.setting, self.rate


class ExperimentRun(_RowLine):
    """A training run on a held-out seed.

    Fields with a default are missing from older files of one of the papers.

    Attributes:
        tuned: Whether the learning rate is the best of the row's trials.
        rate: The learning rate; absent where none are tried and the environment's own is used.
        seed: Seed of weights, batches and noise.
        steps: Optimizer steps at which the validation bound was measured.
        bounds: The validation bound there, bits/dim; after a divergence, the bound at which a run is taken to have
            diverged.
        test_bound: Bound on test images at the end, bits/dim.
        frechet: Fréchet distance of samples to the training images over the features of ``extractor``: by way of
            sampling where there are several, else a single number; absent if the run diverged.
        extractor: Name of the feature network.
        samples: Number of images drawn. The distance is biased in it.
        diverged_at: Optimizer step by which the run had diverged; absent if it did not.
        traces: What changed during the run.
        parameters: Parameters of the network.
        step_flops: Floating-point operations of the matrix products in one optimizer step.
        step_seconds: Median wall-clock time of one optimizer step, the run's share of all seeds together.
        train_images_per_second: Training throughput of all seeds together.
        sampled_images_per_second: Sampling throughput of all seeds together.
        surrogate_error: Relative error, at each of ``surrogate_levels``, of the feature that a sampler uses for t−1;
            for networks with MSFI.
        standing_still: The same error if F(t) is used instead.
        surrogate_levels: λ.
        search_steps: Optimizer steps spent on finding the row's learning rate and training or tuning its agent.
        versions: Software versions.
        hardware: Processor or GPU.
        created: Time of writing, UTC, ISO 8601.
    """

    tuned: bool = False
    rate: FiniteFloat | None = None
    seed: int
    steps: tuple[int, ...]
    bounds: tuple[FiniteFloat, ...]
    test_bound: FiniteFloat
    frechet: dict[str, FiniteFloat | None] | FiniteFloat | None
    extractor: str
    samples: int
    diverged_at: int | None
    traces: Traces = Traces()
    parameters: Annotated[int, Field(ge=0)] = 0
    step_flops: Annotated[int, Field(ge=0)] = 0
    step_seconds: Annotated[FiniteFloat, Field(ge=0.0)] = 0.0
    train_images_per_second: Annotated[FiniteFloat, Field(gt=0.0)] | None = None
    sampled_images_per_second: Annotated[FiniteFloat, Field(gt=0.0)] | None = None
    surrogate_error: tuple[FiniteFloat, ...] = ()
    standing_still: tuple[FiniteFloat, ...] = ()
    surrogate_levels: tuple[FiniteFloat, ...] = ()
    search_steps: Annotated[int, Field(ge=0)]
    versions: dict[str, str]
    hardware: str
    created: str

    @property
    def key(self) -> tuple[str, str, str, bool, float | None, int]:
        return self.row, self.row_fingerprint, self.setting, self.tuned, self.rate, self.seed

    def distance(self, way: str = "") -> float | None:
        """The Fréchet distance for a way of sampling; the name is not needed where there is only one."""
        return self.frechet.get(way) if isinstance(self.frechet, dict) else self.frechet


class StepTimings(Spec):
    """Time of an optimizer step, all rows measured in turns so that a busy machine affects them alike.

    Attributes:
        setting: Hash of the setting.
        step_seconds: Median time of an optimizer step of one run, by row.
        spread: Shortest and longest of the rounds, by row.
        rounds: Number of rounds.
        hardware: Processor or GPU.
    """

    setting: str
    step_seconds: dict[str, Annotated[float, Field(gt=0.0)]]
    spread: dict[str, tuple[float, float]]
    rounds: int
    hardware: str
