"""Several training environments together: the answers over all and in each, and one ranking."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from schedrl.benchmark.aggregates import Aggregate, AggregateRow, aggregate_environments
from schedrl.benchmark.manifest import load_training
from schedrl.benchmark.training_summary import summarise_training
from schedrl.report.document import Block, Bullets, Heading, Paragraph, Sentences, Table
from schedrl.report.figures import image, profiles_figure, scores_figure
from schedrl.report.training_report import answers

__all__ = ["ranking_blocks"]

_WORDS = Sentences("training.txt.j2")

_DRAWN = 6
"""Rows with a performance profile."""


def ranking_blocks(folders: Sequence[Path]) -> list[Block]:
    """Answers and ranking of the training environments of one benchmark, each in its folder."""
    loaded = [load_training(folder) for folder in folders]
    total = aggregate_environments([results for _, results in loaded], loaded[0][0].reference)
    lines = []
    if total is not None:
        lines += [f"Over {len(loaded)} environments: {answer.text()}" for answer in total.answers]
    for manifest, results in loaded:
        summary = summarise_training(results, manifest.reference, manifest.notes)
        lines += [f"`{summary.env_id}`: {line}" for line in answers(summary)]
    if total is None:
        text = "There is no ranking over all environments, because they share no row or no seed."
        return [Bullets(tuple(lines)), Paragraph(text)]
    drawn = _drawn(total)
    shares = [f"{row.name} {_better(row):.0%}" for row in drawn]
    return [
        Bullets(tuple(lines)),
        Heading("Over all environments"),
        _table(total),
        Paragraph(_WORDS.ranking_explanation(total)),
        image("ranking", scores_figure(total), _WORDS.ranking(), _WORDS.ranking_alt(total)),
        image(
            "profiles",
            profiles_figure(drawn, total.base),
            _WORDS.profiles(),
            _WORDS.profiles_alt(total.base, shares),
        ),
    ]


def _drawn(total: Aggregate) -> list[AggregateRow]:
    """Learned rows, the best of the other roles, the base, and the best of what is left."""
    wanted = [row for row in total.rows if row.role == "learned"]
    for role in ("searched", "hand-made"):
        wanted += [row for row in total.rows if row.role == role][:1]
    wanted += [row for row in total.rows if row.name == total.base]
    wanted += [row for row in total.rows if row.role != "random"]
    return list(dict.fromkeys(wanted))[:_DRAWN]


def _better(row: AggregateRow) -> float:
    """Share of runs with a score above 0."""
    pairs = zip(row.profile.thresholds, row.profile.share, strict=True)
    return next((share for threshold, share in pairs if threshold >= 0.0), 0.0)


def _table(total: Aggregate) -> Table:
    heads = ["agent", f"better than {total.base}", "optimality gap", f"P({total.reference} better)"]
    rows = []
    for row in total.rows:
        numbers = ((row.score, "+.4f"), (row.gap, ".4f"), (row.probability, ".2f"))
        cells = [
            "" if value is None else f"{value:{spec}}" if total.num_seeds > 1 else f"{value.value:{spec}}"
            for value, spec in numbers
        ]
        rows.append([f"**{row.name}**" if row.role == "learned" else row.name, *cells])
    return Table(heads, rows, left=1, caption=_WORDS.ranking_table(total))
