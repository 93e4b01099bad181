"""Statements of the papers, checked against what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.training_summary import TrainingSummary, named_groups, paired_by_seed
from schedrl.environments.training.variant import TrainingVariant
from schedrl.report.document import Block, Paragraph, Table
from schedrl.stats.intervals import Interval

__all__ = ["NOT_MEASURED", "READING", "Claim", "by_interval", "paper_claims", "verdicts"]

NOT_MEASURED = "not measured here"

READING = (
    "The measure is the test bound of small networks after equally many optimizer steps; both rows of a pair use the "
    "same seeds. Lower is better. A verdict depends on whether the 95 % interval of its own difference excludes zero. "
    "The papers report FID on CIFAR-10."
)
"""How to read the table of :func:`paper_claims`."""

_COMPARISONS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "AVA-DSC's table: the cosine schedule (FID 28.5) is better than the linear one, β = t/T (35.2)",
        ("cosine",),
        ("printed-linear",),
    ),
    (
        "AVA-DSC: K moves “When the gradient magnitude falls below τ, K increases”, and that is better than cosine",
        ("ava-prose",),
        ("cosine",),
    ),
    (
        "AVA-DSC: K moves by “K + η (‖∇L(θ)‖ − τ)”, which is the opposite, and that is better than cosine",
        ("ava-equation",),
        ("cosine",),
    ),
    (
        "AVA-DSC: moving K is better than leaving it alone (“dynamically adjusting the noise schedule”)",
        ("ava-prose", "ava-equation"),
        ("ava-fixed",),
    ),
    (
        "AVA-DSC's table: AVA with DSC (FID 22.3) is better than cosine (28.5)",
        ("ava-dsc-tuned", "ava-dsc-prose", "ava-dsc-equation"),
        ("cosine",),
    ),
)
"""Statements that one agent is better than another: for each side the names of agents, the first that was measured."""

_LEARNED: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "AVA-DSC: “integrating reinforcement learning for automated hyperparameter tuning of AVA and DSC” pays",
        "AVA-DSC",
        ("ava-dsc-tuned", "ava-dsc-prose", "ava-dsc-equation"),
    ),
    (
        "AKOD: a β learned with PPO as a function of t and local variance beats a fixed linear schedule",
        "AKOD",
        ("linear", "printed-linear"),
    ),
)
"""Statements that a paper's learned agent is better than others: the paper, and names of the others."""

_SPEED = (
    "AVA-DSC: “AVA-DSC significantly reduces training iterations (1.8x faster than linear and 1.18x faster than "
    "cosine)”"
)
_FID = (
    "AKOD: “AKOD reduces the FID score (representing improved sample quality) by 9.4% while reducing training time by "
    "22.8%”"
)

Groups = Mapping[str, Sequence[TrainingResult]]


@dataclass(frozen=True)
class Claim:
    """A statement of a paper, or a question it leaves open, and the verdict.

    Attributes:
        text: The statement.
        verdict: ``"holds"``, ``"does not hold"``, ``"not decided"`` or :data:`NOT_MEASURED`.
        measured: The numbers, or why there are none.
    """

    text: str
    verdict: str
    measured: str


def by_interval(difference: Interval) -> str:
    """The verdict on "is lower", from the interval of a difference."""
    if not difference.excludes_zero:
        return "not decided"
    return "holds" if difference.high < 0.0 else "does not hold"


def verdicts(made: Sequence[Claim], reading: str, whose: str = "the paper claims") -> list[Block]:
    """The claims as a table of a report.

    Args:
        made: The claims.
        reading: How to read them.
        whose: Whose claims they are.
    """
    if not made:
        return [Paragraph("None of the rows that the paper's claims are about was measured.")]
    lines = [[claim.text, f"**{claim.verdict}**", claim.measured] for claim in made]
    return [
        Paragraph(f"What {whose}, at this scale. {reading}"),
        Table(("claim", "verdict", "measured"), lines, left=3, caption="Claims, verdicts and measurements."),
    ]


def paper_claims(
    variant: TrainingVariant, results: Sequence[TrainingResult], summary: TrainingSummary
) -> list[Claim]:
    """What a benchmark in a training environment says about the papers' statements."""
    groups = named_groups(results)
    learned = next((row.name for row in summary.rows if row.learned), None)
    made = [_comparison(text, better, worse, groups) for text, better, worse in _COMPARISONS]
    for text, paper, rivals in _LEARNED:
        if variant.action.paper != paper:
            made.append(Claim(text, NOT_MEASURED, "here an agent decides something else"))
        elif learned is None:
            made.append(Claim(text, NOT_MEASURED, "no learned agent"))
        else:
            made.append(_comparison(text, (learned,), rivals, groups))
    return [
        *made,
        _against_best(summary),
        _reward(summary),
        Claim(_SPEED, NOT_MEASURED, "`schedrl experiment ava-dsc` measures iterations to a target quality"),
        Claim(_FID, NOT_MEASURED, "`schedrl experiment akod` measures the parts of AKOD, and time"),
    ]


def _comparison(text: str, better: Sequence[str], worse: Sequence[str], groups: Groups) -> Claim:
    one, other = _row(better, groups), _row(worse, groups)
    if one is None or other is None:
        missing = " or ".join(f"`{name}`" for name in (better if one is None else worse))
        return Claim(text, NOT_MEASURED, f"no row of {missing}")
    difference = paired_by_seed(groups[one], groups[other])
    if difference is None:
        return Claim(text, NOT_MEASURED, f"`{one}` and `{other}` share no seed")
    if len(groups[one]) < 2:
        measured = f"`{one}` minus `{other}`: {difference.value:+.4f} bits/dim, one seed"
        return Claim(text, "not decided", measured)
    diverged = "".join(
        f"; {count} of {len(groups[name])} runs of `{name}` diverged"
        for name in (one, other)
        if (count := sum(result.diverged for result in groups[name]))
    )
    measured = f"`{one}` minus `{other}`: {difference:+.4f} bits/dim{diverged}"
    return Claim(text, by_interval(difference), measured)


def _row(names: Sequence[str], groups: Groups) -> str | None:
    """The row of the first of these agents that was measured, preferably in its exact form."""
    rows = (row for name in names for row in (name, f"{name} (exact)", f"{name} (action)"))
    return next((row for row in rows if row in groups), None)


def _against_best(summary: TrainingSummary) -> Claim:
    text = "AKOD: “dynamically adapting the noise schedule” beats the best hand-made schedule there is"
    for answer in summary.answers:
        if answer.against == "hand-made" and (difference := answer.difference) is not None:
            shown = f"{difference:+.4f}" if answer.num_pairs > 1 else f"{difference.value:+.4f}"
            measured = f"`{answer.learned}` minus `{answer.rival}`: {shown} bits/dim"
            return Claim(text, by_interval(difference), measured)
    return Claim(text, NOT_MEASURED, "no learned agent, or no hand-made one")


def _reward(summary: TrainingSummary) -> Claim:
    text = "AKOD: the negative validation loss under the schedule that is judged tells a better schedule from a worse"
    if summary.reward != "own_loss":
        return Claim(
            text,
            NOT_MEASURED,
            f"the reward here is `{summary.reward}`; docs/results/gaming.md has the measurement",
        )
    most, best = summary.row(summary.ranking_by_reward[0][0]), summary.rows[0]
    measured = f"the most rewarded row is `{most.name}`, the one with the best test bound `{best.name}`"
    if most.name == best.name:
        return Claim(text, "holds", measured)
    bounds = f"{best.test_bound.value:.4f} against {most.test_bound.value:.4f}"
    return Claim(text, "does not hold", f"{measured}: {bounds}")
