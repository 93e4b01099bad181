"""The AKOD paper's experiment: ``schedrl experiment akod``.

The kernel over local variance, multi-scale feature integration (MSFI) and β modulation, each alone and all together,
against a plain network under a fixed schedule; a plain network with MSFI's arithmetic; and hand-made schedules in the
kernel's place. Under AdamW, which the paper uses, and under DSC.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal

import numpy as np
from matplotlib.figure import Figure
from pydantic import model_validator

from schedrl import data as image_sets
from schedrl import schedules
from schedrl.diffusion.engines.engine import record
from schedrl.diffusion.training_spec import DSCSpec, MSFISpec, UNetSpec
from schedrl.diffusion.unet import UNet
from schedrl.experiments.experiment import Experiment, ExperimentRow, environment_of
from schedrl.experiments.paper_figures import frechet_figure, line_styles, quality_figure, surrogate_figure
from schedrl.experiments.records import ExperimentSetting, Sampling
from schedrl.experiments.row_runs import RowRuns, below, find_row
from schedrl.policies.agents import Agent, find
from schedrl.report.claims import Claim
from schedrl.report.document import Block, Heading, Paragraph, Sentences, Table
from schedrl.report.figures import image

_WORDS = Sentences("experiments.txt.j2")

BASELINE = "plain"
"""The row that the paper compares with, under either optimizer."""


class AKODRow(ExperimentRow):
    """A row with either a schedule or a kernel.

    Attributes:
        kernel: The trained kernel: that of the environment with all of AKOD's parts, or that of a plain network.
        msfi: Multi-scale feature integration.
        modulation: β modulation.
        wide: A plain network so wide that a training step costs what it costs with MSFI.
    """

    kernel: Literal["plain", "akod"] | None = None
    msfi: MSFISpec | None = None
    modulation: bool = False
    wide: bool = False

    @model_validator(mode="after")
    def _one_law(self) -> AKODRow:
        if (self.schedule is None) == (self.kernel is None):
            raise ValueError("give exactly one of schedule and kernel")
        return self

    def acting_agent(self, setting: ExperimentSetting) -> Agent | None:
        kind = {"akod": "AKOD", "plain": "Kernel"}
        return None if self.kernel is None else find("ppo", environment_of(setting.data, kind[self.kernel]))

    def network(self, setting: ExperimentSetting) -> UNetSpec:
        changes = {"msfi": None, "modulation": False}
        plain = setting.variant.training.network.model_copy(update=changes)
        if not self.wide:
            return plain.model_copy(update={"msfi": self.msfi, "modulation": self.modulation})
        shape = image_sets.load(setting.variant.data).image_shape
        target = step_flops(plain.model_copy(update={"msfi": MSFISpec()}), shape)
        widths = [range(width, 2 * width + 1, plain.groups) for width in plain.channels]
        wider = (plain.model_copy(update={"channels": channels}) for channels in itertools.product(*widths))
        return min(wider, key=lambda spec: (abs(step_flops(spec, shape) / target - 1.0), spec.channels))


def step_flops(network: UNetSpec, image_shape: tuple[int, int, int]) -> int:
    """Floating-point operations of the matrix products for one image ``(C, H, W)`` in training, both directions."""
    return record(UNet(network, image_shape), image_shape, 1).flops[1]


_DSC = DSCSpec(gamma=30.0, boost=0.5)
"""As in the AVA-DSC experiment."""

_COSINE, _TANGENT = schedules.get("cosine"), schedules.get("tangent", gamma=0.2)
_FAR, _NEAR = MSFISpec(), MSFISpec(gap=(0.03, 0.03))


_row = AKODRow.of

_ADAMW: tuple[AKODRow, ...] = (
    _row("plain", "the paper's baseline: a fixed schedule, the cosine, and a plain U-Net", _COSINE),
    _row(
        "msfi", "the cosine, with MSFI, its neighbours as far as any sampler's of ten to a thousand steps",
        _COSINE, msfi=_FAR,
    ),
    _row("msfi-near", "the cosine, with MSFI, its neighbours one of a thousand steps away", _COSINE, msfi=_NEAR),
    _row("modulation", "the cosine, with β modulation", _COSINE, modulation=True),
    _row("dko", "the learned kernel, with a plain U-Net", kernel="plain"),
    _row("akod", "the learned kernel, MSFI and β modulation", kernel="akod", msfi=_FAR, modulation=True),
    _row("wide", "the cosine, and a plain U-Net with the arithmetic of MSFI's", _COSINE, wide=True),
    _row("tangent", "a hand-made schedule, tangent 0.2, and a plain U-Net", _TANGENT),
    _row(
        "akod-tangent", "MSFI and β modulation under the hand-made schedule instead of the kernel",
        _TANGENT, msfi=_FAR, modulation=True,
    ),
    _row(
        "akod-tangent-near", "the same with neighbours one of a thousand steps away",
        _TANGENT, msfi=_NEAR, modulation=True,
    ),
)  # fmt: skip

_UNDER_DSC = (
    row.model_copy(update={"name": f"{row.name}-dsc", "what": f"{row.what}; DSC", "dsc": _DSC})
    for row in _ADAMW
)

ROWS: tuple[AKODRow, ...] = (*_ADAMW, *_UNDER_DSC)

_DDPM = "DDPM 1000"

_LEFT_OUT = "Rows with a diverged run are left out."

_PARTS = (
    ("MSFI alone improves the bound", "msfi", BASELINE),
    ("MSFI is better than a plain U-Net of the same arithmetic", "msfi", "wide"),
    ("MSFI with near neighbours improves the bound", "msfi-near", BASELINE),
    ("MSFI does more harm with far neighbours, which tell the answer in training", "msfi-near", "msfi"),
    ("β modulation alone improves the bound", "modulation", BASELINE),
    ("the learned kernel alone improves the bound", "dko", BASELINE),
    ("the learned kernel is better than a hand-made schedule, plain U-Net", "dko", "tangent"),
    ("the learned kernel is better than a hand-made schedule, all parts", "akod", "akod-tangent"),
)
"""Claims about AKOD's parts: that a row has a better bound than another."""

_SAVINGS = {
    "dko": "what the learned schedule saves",
    "tangent": "what a hand-made schedule saves",
    "msfi": "what MSFI costs",
}


class AKODExperiment(Experiment):
    """AKOD and its parts, one by one and together."""

    title: ClassVar = "AKOD"
    all_rows: ClassVar = ROWS
    environment: ClassVar = "AKOD"
    defaults: ClassVar = {
        "samples": 300,
        "samplings": (
            Sampling(sampler="ddpm", steps=1000),
            *(Sampling(sampler="ddim", steps=steps) for steps in (50, 20, 10)),
        ),
    }
    num_seeds: ClassVar = 5
    learned: ClassVar = ("dko", "akod", "dko-dsc", "akod-dsc")
    columns: ClassVar = (
        "row", "test bound", f"minus {BASELINE}", "steps", "time", "ms/step", "MFLOP", "weights", "div.", "cost",
    )  # fmt: skip
    timed: ClassVar = True
    reading: ClassVar = (
        "Each verdict is that of its own 95 % interval over the seeds: among so many, one may be wrong by chance. "
        "Comparisons of seconds hold for this machine and these networks."
    )
    remark: ClassVar = (
        "Each row is compared with `plain` under its own optimizer. A network with MSFI is given the feature of the "
        "sampler's previous step, and its own one-step prediction for the next one."
    )
    inconsistencies: ClassVar = (
        "FID falls from 35.2 to 32.1: that is 8.8 % or 1.10 times; the text says 9.4 %, the abstract 1.5 times.",
        "Training time falls from 24.5 to 18.8 hours: 23.3 % or 1.30 times; the text says 22.8 %, the abstract 1.8.",
        "“Iterations 1000” are the diffusion steps of both, not how long either was trained.",
        "Features of t−1 and t+1 take two more passes through the encoder; what complexity is comparable is not said.",
        "The reward is the loss under the chosen schedule, which falls as noise is added (docs/results/gaming.md).",
        "F(t−1) and F(t+1) are outputs of the U-Net and enter its bottleneck; a sampler does not have x_{t−1} yet.",
        "The projections are added in the equation and concatenated in the prose.",
        "DDIM is called faster with its schedule left as it was, and is not compared with.",
    )

    rows: tuple[AKODRow, ...]

    @staticmethod
    def baseline(row: str) -> str:
        """The plain row under the same optimizer."""
        return f"{BASELINE}-dsc" if row.endswith("-dsc") else BASELINE

    def pictures(self, table: Sequence[RowRuns]) -> list[Block]:
        rows = [row for row in table if not row.row.endswith("-dsc")] or table
        styles = line_styles([row.row for row in rows], self.learned)
        quality = partial(quality_figure, rows, styles)
        samples = frechet_figure(rows, styles, [way.label for way in self.setting.ways], "Samples")
        means = "Means over seeds"
        return [
            image("quality-steps", quality("Quality over optimizer steps"), f"{means}. {_LEFT_OUT}"),
            image("quality-seconds", quality("Quality over time", seconds=True), f"{means}. {_LEFT_OUT}"),
            image("samples", samples, f"{means} and 95 % intervals."),
            *_surrogates(table, surrogate_figure(rows, styles, "What a sampler has for the feature of t−1")),
        ]

    @staticmethod
    def summary(table: Sequence[RowRuns]) -> str:
        akod, plain, made = (find_row(table, name) for name in ("akod", BASELINE, "akod-tangent"))
        return "" if akod is None or plain is None else _WORDS.akod_summary(akod, plain, made)

    @staticmethod
    def claims(table: Sequence[RowRuns]) -> list[Claim]:
        """The paper's claims, then what each part costs and brings, under each optimizer."""
        adamw = {row.row: row for row in table if not row.row.endswith("-dsc")}
        dsc = {row.row.removesuffix("-dsc"): row for row in table if row.row.endswith("-dsc")}
        return [*_claims_of(adamw, "AdamW"), *_claims_of(dsc, "DSC")]


def _surrogates(table: Sequence[RowRuns], figure: Figure) -> list[Block]:
    lines = []
    for row in table:
        if runs := [run for run in row.runs if run.surrogate_error]:
            error, still = (
                np.array([getattr(r, name) for r in runs]) for name in ("surrogate_error", "standing_still")
            )
            numbers = np.median(error, axis=1), error.max(axis=1), np.median(still, axis=1)
            lines.append([row.row, *(f"{number.mean():.4f}" for number in numbers)])
    if not lines:
        return []
    return [
        Heading("MSFI's surrogate"),
        Paragraph(_WORDS.surrogate()),
        Table(("row", "median", "worst", "F(t) instead"), lines, left=1),
        image("surrogate", figure, "Dotted: F(t) instead. Where it is as good, the surrogate adds nothing."),
    ]


def _claims_of(rows: dict[str, RowRuns], where: str) -> list[Claim]:
    plain, akod = rows.get(BASELINE), rows.get("akod")
    made = []
    if plain is not None and akod is not None:
        time = f"AKOD gets to the fixed schedule's quality in 22.8 % less time ({where})"
        whole = f"AKOD has a better bound than a fixed schedule with a plain U-Net ({where})"
        made = [
            akod.better_bound(whole, plain),
            _samples(f"AKOD's samples are 8.8 % closer, DDPM with 1000 steps ({where})", akod, plain),
            akod.sooner(time, plain, 1.0 - 0.228, seconds=True),
            _complexity(f"AKOD has comparable complexity, within 10 % ({where})", akod, plain),
        ]
    made += [
        rows[name].better_bound(f"{text} ({where})", rows[rival])
        for text, name, rival in _PARTS
        if name in rows and rival in rows
    ]
    if plain is not None:
        made += [
            _saved(f"{text} ({where})", rows[name], plain) for name, text in _SAVINGS.items() if name in rows
        ]
    return made


def _samples(text: str, row: RowRuns, rival: RowRuns) -> Claim:
    ratio, lost = row.frechet_ratio(rival, _DDPM), row.diverged_beside(rival)
    if ratio is None:
        return Claim(text, "not decided", f"too few runs to compare{lost}")
    measured = f"Fréchet distance of `{row.row}` over that of `{rival.row}`: {ratio:.3f}{lost}"
    return Claim(text, below(ratio, 1.0 - 0.088), measured)


def _complexity(text: str, row: RowRuns, rival: RowRuns) -> Claim:
    flops, seconds = row.step_flops / rival.step_flops, row.step_seconds / rival.step_seconds
    measured = f"a step takes {flops:.2f} times the operations and {seconds:.2f} times the seconds"
    return Claim(text, "holds" if flops <= 1.1 else "does not hold", measured)


def _saved(text: str, row: RowRuns, rival: RowRuns) -> Claim:
    """Not a claim of the paper: costs and savings apart."""
    steps, seconds = row.reach(rival), row.reach(rival, seconds=True)
    if steps.speed_up is None or seconds.speed_up is None:
        reached = steps.count(rival)
    else:
        reached = (
            f"the quality of `{rival.row}` in {steps.speed_up:.2f} times fewer iterations, "
            f"{seconds.speed_up:.2f} times fewer seconds"
        )
    per_step = row.step_seconds / rival.step_seconds
    measured = f"{per_step:.2f} times the seconds a step; {reached}{row.diverged_beside(rival)}"
    return Claim(text, "measured", measured)
