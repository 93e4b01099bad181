"""The paper's sentences, held against what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schedrl.benchmark.ava_dsc.table import BASELINE, Entry

__all__ = ["INCONSISTENCIES", "Claim", "claims"]

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


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper and the verdict on it.

    Attributes:
        text: What is claimed.
        verdict: ``"holds"``, ``"does not hold"`` or ``"not decided"`` (the interval includes no difference).
        measured: The numbers, for people.
    """

    text: str
    verdict: str
    measured: str


def claims(table: Sequence[Entry]) -> list[Claim]:
    """Verdicts at the fixed and at the tuned learning rate.

    AVA-DSC is judged by the better of its two K rules, which favours the claim.
    """
    made: list[Claim] = []
    for tuned in (False, True):
        found = {entry.row: entry for entry in table if entry.tuned == tuned}
        if BASELINE not in found:
            continue
        where = "tuned learning rate" if tuned else "fixed learning rate"
        whole = [found[name] for name in ("ava-dsc-equation", "ava-dsc-prose") if name in found]
        if whole:
            best = min(whole, key=lambda entry: entry.test_bound.value)
            made += [_quality(best, f"AVA-DSC has better quality than cosine ({where})"), _speed(best, where)]
        parts = {
            "AVA alone": ("ava-equation", "ava-prose"),
            "DSC alone, Adam's update": ("dsc", "dsc-per-sample"),
            "DSC alone, update as printed": ("dsc-printed", "dsc-printed-per-sample"),
            "AVA-DSC moved by the trained agent": ("ava-dsc-ppo",),
        }
        for what, names in parts.items():
            own = [found[name] for name in names if name in found]
            if own:
                best = min(own, key=lambda entry: entry.test_bound.value)
                made.append(_quality(best, f"{what} improves on cosine ({where})"))
    return made


def _quality(entry: Entry, text: str) -> Claim:
    difference = entry.difference
    assert difference is not None
    measured = (
        f"`{entry.row}` minus `{BASELINE}`: {difference.plus_minus('+.4f')} bits/dim (lower is better), "
        f"{entry.diverged} of {entry.runs} runs diverged"
    )
    if not difference.excludes_zero:
        return Claim(text, "not decided", measured)
    return Claim(text, "holds" if difference.high < 0.0 else "does not hold", measured)


def _speed(entry: Entry, where: str) -> Claim:
    text = f"AVA-DSC needs 1.8 times fewer iterations ({where}; against cosine the paper prints 1.18)"
    reach = entry.reach
    if reach.speed_up is None:
        measured = f"`{entry.row}`: {reach.reached} of {reach.runs} runs reach the end quality of `{BASELINE}` at all"
        return Claim(text, "does not hold", measured)
    measured = f"`{entry.row}` reaches the end quality of `{BASELINE}` in {reach.speed_up:.2f} times fewer iterations"
    if reach.speed_up.low >= 1.8:
        return Claim(text, "holds", measured)
    return Claim(text, "does not hold" if reach.speed_up.high < 1.8 else "not decided", measured)
