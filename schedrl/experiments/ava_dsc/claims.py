"""The paper's sentences, held against what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from schedrl.experiments.ava_dsc.table import BASELINE, LINEAR, Entry, find, reach
from schedrl.report.claims import Claim, by_interval

__all__ = ["INCONSISTENCIES", "READING", "claims"]

INCONSISTENCIES = (
    "Iterations are printed as 150k, 120k, 102k for linear, cosine, AVA-DSC: 150/102 is 1.47, the text says 1.8.",
    "FID is printed as 35.2, 28.5, 22.3: that is 36.6 % and 21.8 % better, the text says 12.8 % and 8.5 %.",
    "The abstract calls a 22 % *increase* of FID an improvement; a lower FID is better.",
    "K is said to grow while the gradient is *below* τ, twice; the equation makes it grow while it is *above*.",
    "The boost (1 + λ‖∇L‖) is said to act when gradients are *scarce*; it is largest when they are large.",
    "The update is called Adam and printed with another factor ∇L, which takes the gradient's sign out of the step.",
    "The printed SDE, dx = −βx dt + √β dw, has stationary variance ½; it does not preserve variance.",
    "The linear schedule β(t) = t/T leaves no signal after a few dozen of T = 1000 steps.",
    "Generation is said to be faster for needing fewer training iterations; it is the same network and sampler.",
)
"""What the paper prints that contradicts itself or arithmetic."""


READING = (
    "Where the paper leaves a reading open, the one with the better validation bound is judged, on test images. Each "
    "verdict is that of its own 95 % interval: among two dozen, one may be wrong by chance."
)
"""How to read the verdicts."""

_READINGS = {
    "AVA-DSC": ("ava-equation-dsc", "ava-prose-dsc"),
    "AVA alone": ("ava-equation", "ava-prose"),
    "DSC alone, Adam's update": ("dsc", "dsc-per-sample"),
    "DSC alone, update as printed": ("dsc-printed", "dsc-printed-per-sample"),
    "AVA-DSC with constants tuned by CMA-ES": ("ava-dsc-tuned",),
    "AVA-DSC moved by the trained agent": ("ava-dsc-ppo",),
}
_WHOLE = "AVA-DSC"


def claims(table: Sequence[Entry]) -> list[Claim]:
    """Verdicts at the fixed and at the tuned learning rate, as far as the rows are there."""
    made: list[Claim] = []
    for tuned in (False, True):
        where = "tuned rates" if tuned else "one rate for all"
        cosine, linear = (find(table, name, tuned) for name in (BASELINE, LINEAR))
        chosen = {what: _better(table, names, tuned) for what, names in _READINGS.items()}
        whole = chosen[_WHOLE]
        for what, entry in chosen.items():
            made += [
                _quality(f"{what} has a better bound than {rival.row} ({where})", entry, rival)
                for rival in ((cosine, linear) if what == _WHOLE else (cosine,))
                if entry is not None and rival is not None
            ]
        if whole is not None:
            for rival, factor in ((linear, 1.8), (cosine, 1.18)):
                if rival is not None:
                    made.append(_speed(whole, rival, factor, where))
            if cosine is not None:
                made.append(_frechet(whole, cosine, where))
        prose, equation = (find(table, f"ava-{rule}", tuned) for rule in ("prose", "equation"))
        if prose is not None and equation is not None:
            made.append(
                _quality(f"K by the prose beats K by the equation, AVA alone ({where})", prose, equation)
            )
    speeds = [entry.sampled_images_per_second for entry in table]
    known = [speed for speed in speeds if speed is not None]
    if known:
        span = f"single timings from {min(known):.0f} to {max(known):.0f}/s"
        measured = f"the same network and sampler for every row; {span}"
        made.append(Claim("AVA-DSC generates more samples per second", "does not hold", measured))
    return made


def _better(table: Sequence[Entry], names: Sequence[str], tuned: bool) -> Entry | None:
    found = [entry for name in names if (entry := find(table, name, tuned)) is not None]
    return min(found, key=lambda entry: entry.validation_bound) if found else None


def _lost(*entries: Entry) -> str:
    return "".join(
        f"; {e.diverged} of {len(e.runs)} runs of `{e.row}` diverged" for e in entries if e.diverged
    )


def _quality(text: str, entry: Entry, rival: Entry) -> Claim:
    difference = entry.minus(rival)
    measured = (
        f"`{entry.row}` minus `{rival.row}`: {difference.plus_minus('+.3f')} bits/dim{_lost(entry, rival)}"
    )
    return Claim(text, "not decided" if rival.diverged else by_interval(difference), measured)


def _frechet(entry: Entry, rival: Entry, where: str) -> Claim:
    text = f"AVA-DSC has better samples than {rival.row} ({where})"
    difference = entry.frechet_minus(rival)
    if difference is None:
        return Claim(text, "not decided", f"too few runs to compare{_lost(entry, rival)}")
    measured = f"Fréchet distance of `{entry.row}` minus `{rival.row}`: {difference.plus_minus('+.2f')}"
    lost = _lost(entry, rival)
    return Claim(text, "not decided" if lost else by_interval(difference), measured + lost)


def _speed(entry: Entry, rival: Entry, factor: float, where: str) -> Claim:
    text = f"AVA-DSC needs {factor:g} times fewer iterations than {rival.row} ({where})"
    found, lost = reach(entry, rival), _lost(entry, rival)
    if found.speed_up is None:
        measured = f"{found.reached} of {found.runs} runs of `{entry.row}` get as far as `{rival.row}`{lost}"
        few = found.runs > 0 and 2 * found.reached <= found.runs
        return Claim(text, "does not hold" if few else "not decided", measured)
    measured = f"`{entry.row}` needs {found.speed_up:.2f} times fewer to get as far as `{rival.row}`{lost}"
    if found.speed_up.low >= factor:
        return Claim(text, "holds", measured)
    return Claim(text, "does not hold" if found.speed_up.high < factor else "not decided", measured)
