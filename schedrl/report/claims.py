"""Statements of the papers, checked against what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.training_summary import Groups, TrainingSummary, named_groups, paired_by_seed
from schedrl.environments.training.variant import TrainingVariant
from schedrl.report.document import Block, Paragraph, Sentences, Table
from schedrl.stats.intervals import Interval

_WORDS = Sentences("claims.txt.j2")

READING = _WORDS.reading()
"""How to read the table of :func:`paper_claims`."""

NOT_MEASURED = "not measured here"

_AVA_DSC = ("ava-dsc-tuned", "ava-dsc-prose", "ava-dsc-equation")


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
    """Claims as a table of a report, after a sentence on how to read it."""
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
    groups, learned = named_groups(results), [row.name for row in summary.rows if row.learned][:1]

    def decisions(paper: str, text: str, rivals: Sequence[str]) -> Claim:
        """Whether the agent that learned to make a paper's decisions is better than its rivals."""
        if variant.action.paper != paper:
            return Claim(text, NOT_MEASURED, "in this environment an agent decides something else")
        return _comparison(text, learned, rivals, groups)

    speed = "`schedrl experiment ava-dsc` measures iterations to a target quality"
    quality = "`schedrl experiment akod` measures the parts of AKOD, and time"
    return [
        _comparison(_WORDS.cosine_beats_linear(), ("cosine",), ("printed-linear",), groups),
        _comparison(_WORDS.prose_beats_cosine(), ("ava-prose",), ("cosine",), groups),
        _comparison(_WORDS.equation_beats_cosine(), ("ava-equation",), ("cosine",), groups),
        _comparison(_WORDS.moving_beats_fixed(), ("ava-prose", "ava-equation"), ("ava-fixed",), groups),
        _comparison(_WORDS.dsc_beats_cosine(), _AVA_DSC, ("cosine",), groups),
        decisions("AVA-DSC", _WORDS.tuning_pays(), _AVA_DSC),
        decisions("AKOD", _WORDS.kernel_beats_linear(), ("linear", "printed-linear")),
        _against_best(summary),
        _reward(summary),
        Claim(_WORDS.ava_dsc_is_faster(), NOT_MEASURED, speed),
        Claim(_WORDS.akod_lowers_fid(), NOT_MEASURED, quality),
    ]


def _comparison(text: str, better: Sequence[str], worse: Sequence[str], groups: Groups) -> Claim:
    """Whether one agent is better than another; of each list of names the first that was measured counts.

    ``better`` is empty where the learned agent is meant and there is none.
    """
    one, other = _row(better, groups), _row(worse, groups)
    if one is None or other is None:
        missing = " or ".join(f"`{name}`" for name in (better if one is None else worse))
        return Claim(text, NOT_MEASURED, f"no row of {missing}" if missing else "no learned agent")
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
    text = _WORDS.best_is_beaten()
    for answer in summary.answers:
        if answer.against == "hand-made" and (difference := answer.difference) is not None:
            shown = f"{difference:+.4f}" if answer.num_pairs > 1 else f"{difference.value:+.4f}"
            measured = f"`{answer.learned}` minus `{answer.rival}`: {shown} bits/dim"
            return Claim(text, by_interval(difference), measured)
    return Claim(text, NOT_MEASURED, "no learned agent, or no hand-made one")


def _reward(summary: TrainingSummary) -> Claim:
    text = _WORDS.own_loss_ranks()
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
