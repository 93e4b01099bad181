"""Lines of the experiment's two files: trials of learning rates, and runs on held-out seeds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, FiniteFloat

from schedrl.benchmark.store import Line
from schedrl.experiments.watch import Traces

__all__ = ["Run", "Trial"]


class Trial(Line):
    """A learning rate tried for a row.

    Attributes:
        row: Name of the row.
        row_fingerprint: Hash of what acts in it.
        setting: Hash of what it was tried on.
        rate: The learning rate.
        bound: Mean validation bound at the end over the trial's seeds, bits/dim; a run that diverged enters with the
            bound at which it counts as such.
        diverged: How many of them did.
        runs: How many there were.
        optimizer_steps: Spent by all of them.
    """

    row: str
    row_fingerprint: str
    setting: str
    rate: FiniteFloat
    bound: FiniteFloat
    diverged: Annotated[int, Field(ge=0)]
    runs: Annotated[int, Field(ge=1)]
    optimizer_steps: Annotated[int, Field(ge=1)]

    @property
    def key(self) -> tuple[str, str, str, float]:
        """Row, setting and rate."""
        return self.row, self.row_fingerprint, self.setting, self.rate


class Run(Line):
    """One training run.

    Attributes:
        row: Name of the row.
        row_fingerprint: Hash of what acts in it; of the policy's weights too, for an agent.
        setting: Hash of what it was trained on.
        tuned: Whether the learning rate is the best of the row's trials.
        rate: The learning rate.
        seed: Of weights, batches and noise.
        steps: Optimizer steps at which the validation bound was measured.
        bounds: That bound, bits/dim; the bound at which a run counts as diverged, from there on.
        test_bound: On test images at the end.
        frechet: Fréchet distance of samples to training images over the features of ``extractor``; absent where the
            run diverged.
        extractor: Name of the feature network.
        samples: Images drawn; the distance is biased in their number.
        diverged_at: Optimizer steps after which it had diverged; absent if it did not.
        traces: What moved.
        train_images_per_second: While it was trained, its share of the population's time.
        sampled_images_per_second: While it was sampled from, likewise.
        search_steps: Optimizer steps that went into finding the row's learning rate or its agent.
        versions: Of the software.
        hardware: Processor or GPU.
        created: When, UTC, ISO 8601.
    """

    row: str
    row_fingerprint: str
    setting: str
    tuned: bool
    rate: FiniteFloat
    seed: int
    steps: tuple[int, ...]
    bounds: tuple[FiniteFloat, ...]
    test_bound: FiniteFloat
    frechet: FiniteFloat | None
    extractor: str
    samples: int
    diverged_at: int | None
    traces: Traces
    train_images_per_second: Annotated[FiniteFloat, Field(gt=0.0)]
    sampled_images_per_second: Annotated[FiniteFloat, Field(gt=0.0)] | None
    search_steps: Annotated[int, Field(ge=0)]
    versions: dict[str, str]
    hardware: str
    created: str

    @property
    def key(self) -> tuple[str, str, str, bool, float, int]:
        """Row, setting, learning rate and seed."""
        return self.row, self.row_fingerprint, self.setting, self.tuned, self.rate, self.seed
