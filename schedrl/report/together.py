"""The first part of a report on several environments: the answers in each and over all, and one ranking."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from schedrl.benchmark.aggregates import Aggregate, AggregateRow, aggregate_environments
from schedrl.benchmark.manifest import load_training
from schedrl.benchmark.training_summary import summarise_training
from schedrl.report import comparison_figures, show
from schedrl.report.comparison import image
from schedrl.report.document import Block, Bullets, Heading, Paragraph, Table

__all__ = ["together_blocks"]

_DRAWN = 6
"""Rows with a performance profile."""


def together_blocks(folders: Sequence[Path]) -> list[Block]:
    """Answers and ranking of training environments that were compared by one protocol.

    Args:
        folders: Of the comparisons. Nothing is said about none.

    Raises:
        SchedrlError: A comparison is missing or damaged.
    """
    if not folders:
        return []
    loaded = [load_training(folder) for folder in folders]
    reference = loaded[0][0].reference
    total = aggregate_environments([results for _, results in loaded], reference)
    lines = []
    if total is not None and total.answers:
        lines += [f"Over {len(loaded)} environments: {answer.text()}" for answer in total.answers]
    for manifest, results in loaded:
        summary = summarise_training(results, manifest.reference, manifest.notes)
        lines += [f"`{summary.env_id}`: {line}" for line in show.answers(summary)]
    blocks: list[Block] = [Bullets(tuple(lines))]
    if total is None:
        return [
            *blocks,
            Paragraph("The environments share no row or no seed, so there is no ranking over all."),
        ]
    return [*blocks, *_ranking(total)]


def _ranking(total: Aggregate) -> list[Block]:
    drawn = _chosen(total)
    first, last = total.rows[0], total.rows[-1]
    caption = (
        f"Rows that each of {len(total.environments)} environments has, on {total.num_seeds} seeds each, with 95 % "
        "intervals."
    )
    shares = "; ".join(f"{row.name} {_share(row):.0%}" for row in drawn)
    return [
        Heading("Over all environments"),
        Table(*_table(total), left=1, caption=caption),
        Paragraph(_explanation(total)),
        image(
            "ranking",
            comparison_figures.scores_figure(total),
            "Interquartile mean of the scores with stratified-bootstrap intervals. Diamond: learned; triangle: "
            "searched; dot: hand-made; cross: random actions.",
            f"Points with error bars, the best on top: from {first.name}, {first.score.value:+.4f} bits/dim, to "
            f"{last.name}, {last.score.value:+.4f}.",
        ),
        image(
            "profiles",
            comparison_figures.profiles_figure(drawn, total.base),
            "Performance profiles (Agarwal et al. 2021): share of runs of all environments whose score exceeds a "
            "threshold. Bands: 95 % interval of each threshold alone.",
            f"Falling curves, one per row. Share of runs that are better than {total.base}: {shares}.",
        ),
    ]


def _chosen(total: Aggregate) -> list[AggregateRow]:
    """Learned rows, the best of the other roles, and the best of what is left."""
    wanted = [row for row in total.rows if row.role == "learned"]
    for role in ("searched", "hand-made"):
        wanted += [row for row in total.rows if row.role == role][:1]
    wanted += [row for row in total.rows if row.name == total.base]
    wanted += [row for row in total.rows if row.role != "random"]
    return list(dict.fromkeys(wanted))[:_DRAWN]


def _share(row: AggregateRow) -> float:
    """Of runs with a score above 0."""
    pairs = zip(row.profile.thresholds, row.profile.share, strict=True)
    return next((share for threshold, share in pairs if threshold >= 0.0), 0.0)


def _table(total: Aggregate) -> tuple[list[str], list[list[str]]]:
    heads = ["agent", f"better than {total.base}", "optimality gap", f"P({total.reference} better)"]
    rows = []
    for row in total.rows:
        several = total.num_seeds > 1
        chance = row.probability
        rows.append(
            [
                f"**{row.name}**" if row.role == "learned" else row.name,
                f"{row.score:+.4f}" if several else f"{row.score.value:+.4f}",
                f"{row.gap:.4f}" if several else f"{row.gap.value:.4f}",
                "" if chance is None else f"{chance:.2f}" if several else f"{chance.value:.2f}",
            ]
        )
    return heads, rows


def _explanation(total: Aggregate) -> str:
    text = (
        f"A run's score is the test bound of {total.base} minus its own, in the same environment and on the same seed, "
        f"in bits/dim: higher is better, 0 is as good as {total.base}. better than {total.base}: interquartile mean of "
        "the scores over environments and seeds, with a studentised bootstrap that draws seeds within environments. "
        "optimality gap: mean amount by which runs miss the mean score of their environment's best row, runs beyond it "
        f"counting as reaching it. P: probability that a run of {total.reference} beats one of the row, averaged over "
        "environments. The answers above are differences of means, averaged over environments seed by seed."
    )
    if total.shared:
        text += (
            " Some of these environments have data, network, training and seeds in common, and hand-made laws as "
            "written are the same runs there: the table's intervals take them for independent and are too short, by up "
            "to √2 for two; those of the answers are not."
        )
    if total.left_out:
        text += f" Not in every environment: {', '.join(total.left_out)}."
    return text
