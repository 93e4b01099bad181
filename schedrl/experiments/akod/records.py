"""Lines of the experiment's file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, FiniteFloat

from schedrl.benchmark.store import Line

__all__ = ["Run"]


class Run(Line):
    """One training run.

    Attributes:
        row: Name of the row.
        row_fingerprint: Hash of what acts in it; of the kernel's weights too.
        setting: Hash of what it was trained on.
        seed: Of weights, batches and noise.
        steps: Optimizer steps at which the validation bound was measured.
        bounds: That bound, bits/dim; the bound at which a run counts as diverged, from there on.
        test_bound: On test images at the end.
        frechet: By way of sampling, the Fréchet distance of samples to training images over the features of
            ``extractor``; absent where the run diverged.
        extractor: Name of the feature network.
        samples: Images drawn; the distance is biased in their number.
        diverged_at: Optimizer steps after which it had diverged; absent if it did not.
        parameters: Of the network.
        step_flops: Floating-point operations of the matrix products in one optimizer step.
        step_seconds: Wall-clock time of one optimizer step, its share of the time of all seeds together; the median
            over the training.
        surrogate_error: For MSFI, at each level of ``surrogate_levels``: relative error of the feature that a sampler
            has for t−1.
        standing_still: The same of F(t) in its place.
        surrogate_levels: Log-SNR.
        search_steps: Optimizer steps that went into the row's kernel.
        versions: Of the software.
        hardware: Processor or GPU.
        created: When, UTC, ISO 8601.
    """

    row: str
    row_fingerprint: str
    setting: str
    seed: int
    steps: tuple[int, ...]
    bounds: tuple[FiniteFloat, ...]
    test_bound: FiniteFloat
    frechet: dict[str, FiniteFloat | None]
    extractor: str
    samples: int
    diverged_at: int | None
    parameters: Annotated[int, Field(ge=1)]
    step_flops: Annotated[int, Field(ge=1)]
    step_seconds: Annotated[FiniteFloat, Field(gt=0.0)]
    surrogate_error: tuple[FiniteFloat, ...]
    standing_still: tuple[FiniteFloat, ...]
    surrogate_levels: tuple[FiniteFloat, ...]
    search_steps: Annotated[int, Field(ge=0)]
    versions: dict[str, str]
    hardware: str
    created: str

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Row, setting and seed."""
        return self.row, self.row_fingerprint, self.setting, self.seed
