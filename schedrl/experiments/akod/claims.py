"""The paper's sentences, held against what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from schedrl.experiments.akod.table import BASELINE, Entry, find
from schedrl.report.claims import Claim, by_interval
from schedrl.stats.intervals import Interval

__all__ = ["INCONSISTENCIES", "READING", "claims"]

INCONSISTENCIES = (
    "FID falls from 35.2 to 32.1: that is 8.8 % or a factor of 1.10; the text says 9.4 %, the abstract 1.5 times.",
    "Training time falls from 24.5 to 18.8 hours, 23.3 % or 1.30 times; text and abstract say 22.8 % and 1.8 times.",
    "“Iterations 1000” are the diffusion steps of both, not how long either was trained.",
    "Features of t−1 and t+1 take two more passes through the encoder; it is not said what complexity is comparable.",
    "The reward is the loss under the schedule that is being chosen, which falls as noise is added (docs/gaming.md).",
    "F(t−1) and F(t+1) are outputs of the U-Net that enter its bottleneck; when sampling, x_{t−1} is not there yet.",
    "The projections are added in the equation and concatenated in the prose.",
    "DDIM is called faster with its schedule left as it was, and is not compared with.",
)
"""What the paper prints that contradicts itself, arithmetic, or what can be done."""

READING = (
    "Each verdict is that of its own 95 % interval over the seeds: among so many, one may be wrong by chance. What "
    "compares seconds holds for this machine and these networks."
)
"""How to read the verdicts."""

_DDPM = "DDPM 1000"


def claims(table: Sequence[Entry]) -> list[Claim]:
    """The paper's claims, then what each part costs and brings, under each optimizer, as far as the rows are there."""
    made: list[Claim] = []
    for suffix, where in (("", "AdamW"), ("-dsc", "DSC")):
        rows = {entry.row.removesuffix(suffix): entry for entry in table if entry.row.endswith(suffix)}
        if not suffix:
            rows = {name: entry for name, entry in rows.items() if not name.endswith("-dsc")}
        made += [claim for claim in _of(rows, where) if claim is not None]
    return made


def _of(rows: dict[str, Entry], where: str) -> list[Claim | None]:
    def bound(text: str, name: str, rival: str) -> Claim | None:
        if name not in rows or rival not in rows:
            return None
        return _bound(f"{text} ({where})", rows[name], rows[rival])

    made: list[Claim | None] = [
        bound("AKOD has a better bound than a fixed schedule with a plain U-Net", "akod", BASELINE)
    ]
    if "akod" in rows and BASELINE in rows:
        akod, plain = rows["akod"], rows[BASELINE]
        made += [
            _samples(f"AKOD's samples are 8.8 % closer, DDPM with 1000 steps ({where})", akod, plain),
            _time(f"AKOD gets to the fixed schedule's quality in 22.8 % less time ({where})", akod, plain),
            _complexity(f"AKOD has comparable complexity, within 10 % ({where})", akod, plain),
        ]
    made += [
        bound("MSFI alone improves the bound", "msfi", BASELINE),
        bound("MSFI is better than a plain U-Net of the same arithmetic", "msfi", "wide"),
        bound("MSFI with near neighbours improves the bound", "msfi-near", BASELINE),
        bound(
            "MSFI does more harm with far neighbours, which tell the answer in training", "msfi-near", "msfi"
        ),
        bound("β modulation alone improves the bound", "modulation", BASELINE),
        bound("the learned kernel alone improves the bound", "dko", BASELINE),
        bound("the learned kernel is better than a hand-made schedule, plain U-Net", "dko", "tangent"),
        bound("the learned kernel is better than a hand-made schedule, all parts", "akod", "akod-tangent"),
    ]
    if BASELINE in rows:
        made += [
            _saved(what, rows[name], rows[BASELINE], where)
            for name, what in (
                ("dko", "what the learned schedule saves"),
                ("tangent", "what a hand-made schedule saves"),
                ("msfi", "what MSFI costs"),
            )
            if name in rows
        ]
    return made


def _lost(*entries: Entry) -> str:
    return "".join(
        f"; {e.diverged} of {len(e.runs)} runs of `{e.row}` diverged" for e in entries if e.diverged
    )


def _bound(text: str, entry: Entry, rival: Entry) -> Claim:
    difference = entry.minus(rival)
    measured = (
        f"`{entry.row}` minus `{rival.row}`: {difference.plus_minus('+.3f')} bits/dim{_lost(entry, rival)}"
    )
    return Claim(text, "not decided" if rival.diverged else by_interval(difference), measured)


def _samples(text: str, entry: Entry, rival: Entry) -> Claim:
    ratio = entry.frechet_ratio(rival, _DDPM)
    if ratio is None:
        return Claim(text, "not decided", f"too few runs to compare{_lost(entry, rival)}")
    measured = (
        f"Fréchet distance of `{entry.row}` over that of `{rival.row}`: {ratio:.3f}{_lost(entry, rival)}"
    )
    return Claim(text, _below(ratio, 1.0 - 0.088), measured)


def _below(value: Interval, limit: float) -> str:
    if value.high <= limit:
        return "holds"
    return "does not hold" if value.low > limit else "not decided"


def _time(text: str, entry: Entry, rival: Entry) -> Claim:
    found = entry.reach(rival, seconds=True)
    if found.speed_up is None:
        measured = f"{found.reached} of {found.runs} runs of `{entry.row}` get there{_lost(entry, rival)}"
        few = found.runs > 0 and 2 * found.reached <= found.runs
        return Claim(text, "does not hold" if few else "not decided", measured)
    faster = found.speed_up
    saved = Interval(*(1.0 / x for x in (faster.value, faster.high, faster.low)))
    measured = f"its seconds over those of `{rival.row}`: {saved:.2f}{_lost(entry, rival)}"
    return Claim(text, _below(saved, 1.0 - 0.228), measured)


def _complexity(text: str, entry: Entry, rival: Entry) -> Claim:
    flops, seconds = entry.step_flops / rival.step_flops, entry.step_seconds / rival.step_seconds
    measured = f"a step takes {flops:.2f} times the operations and {seconds:.2f} times the seconds"
    return Claim(text, "holds" if flops <= 1.1 else "does not hold", measured)


def _saved(what: str, entry: Entry, rival: Entry, where: str) -> Claim:
    """Not a claim of the paper: costs and savings kept apart."""
    steps, seconds = entry.reach(rival), entry.reach(rival, seconds=True)
    per_step = entry.step_seconds / rival.step_seconds
    if steps.speed_up is None or seconds.speed_up is None:
        reached = f"{steps.reached} of {steps.runs} runs get to the quality of `{rival.row}`"
    else:
        reached = (
            f"the quality of `{rival.row}` in {steps.speed_up:.2f} times fewer iterations, "
            f"{seconds.speed_up:.2f} times fewer seconds"
        )
    return Claim(
        f"{what} ({where})",
        "measured",
        f"{per_step:.2f} times the seconds a step; {reached}{_lost(entry, rival)}",
    )


def first_lines(table: Sequence[Entry]) -> str:
    """The comparison that the paper is about, in one sentence; empty if its rows are missing."""
    akod, plain, made = (find(table, name) for name in ("akod", BASELINE, "akod-tangent"))
    if akod is None or plain is None:
        return ""
    text = (
        f"AKOD minus the fixed schedule with a plain U-Net: {akod.minus(plain).plus_minus('+.3f')} bits/dim"
    )
    if made is not None:
        text += f"; minus the same network under a hand-made schedule: {akod.minus(made).plus_minus('+.3f')}"
    return f"{text}. One of its steps takes {akod.step_flops / plain.step_flops:.2f} times the operations."
