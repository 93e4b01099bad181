"""The report of a benchmark in training environments, one or several."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
from matplotlib.image import imsave

from schedrl import schedules
from schedrl.benchmark import evaluation
from schedrl.benchmark.aggregates import Aggregate, AggregateRow, aggregate_environments
from schedrl.benchmark.manifest import TrainingManifest, load_training
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.training_family import TrainingTask
from schedrl.benchmark.training_summary import (
    Answer,
    TrainingRow,
    TrainingSummary,
    bound_bins,
    summarise_training,
)
from schedrl.environments.training.variant import TrainingVariant
from schedrl.report import figures
from schedrl.report.claims import READING, paper_claims, verdicts
from schedrl.report.compute import compute_gains
from schedrl.report.document import Block, Bullets, Heading, Paragraph, Sentences, Table
from schedrl.report.family_report import FamilyReport, shown
from schedrl.report.figures import ScheduleCurve, worded_image
from schedrl.report.samples import samples_blocks
from schedrl.schedules import Schedule
from schedrl.stats.intervals import Interval, mean

_WORDS = Sentences("training.txt.j2")

_NAMED = {"hand-made": 4, "searched": 2}
"""Rows of each role that figures of schedules name beside the learned ones; the others are faint."""

_PROFILES = 6
"""Rows with a performance profile."""

_LISTED = 6
"""Rows that a sentence names."""

_KNOWN = ("cosine", "linear")
"""Schedules that every reader knows and looks for."""


def answer_text(answer: Answer) -> str:
    """An answer in a few sentences; its first words, in bold as in Markdown, are the verdict."""
    return _WORDS.answer(answer)


def answers(summary: TrainingSummary) -> list[str]:
    """Whether learning was worth it, one statement per line, its verdict in bold as in Markdown."""
    if not summary.answers:
        return ["**Whether learning was worth it is not answered**: no learned agent is in this benchmark."]
    return [answer_text(answer) for answer in summary.answers]


def findings(summary: TrainingSummary) -> list[str]:
    """What follows from the table, one statement per line, whichever way it went."""
    lines = [
        _WORDS.verdict(verdict, _listed(verdict.worse_than), _listed(verdict.open))
        for verdict in summary.verdicts
    ]
    if summary.verdicts:
        lines.append("No interval is corrected for multiple comparisons.")
    if summary.reward != "bound":
        order = ", ".join(f"{name} {value:+.4f}" for name, value in summary.ranking_by_reward)
        lines.append(
            f"By what an agent earns here (reward `{summary.reward}`, per phase) the order would be: {order}."
        )
    most = max(row.num_seeds for row in summary.rows)
    if short := [f"{row.name} {row.num_seeds}" for row in summary.rows if row.num_seeds < most]:
        lines.append(f"Not every row has every seed: {', '.join(short)} of {most}.")
    return [*lines, *summary.notes]


def _listed(rows: Mapping[str, Interval]) -> str:
    """Names and differences, the least favourable first, the end of a long list only counted."""
    ordered = sorted(rows.items(), key=lambda item: item[1].value)
    text = ", ".join(f"{name} {difference:+.4f}" for name, difference in ordered[:_LISTED])
    return text if len(ordered) <= _LISTED else f"{text} and {len(ordered) - _LISTED} more"


class TrainingReport(FamilyReport[TrainingVariant, TrainingResult]):
    """The report of a benchmark in one training environment."""

    def _load(self) -> tuple[TrainingManifest, list[TrainingResult]]:
        return load_training(self.folder)

    @cached_property
    def summary(self) -> TrainingSummary:
        return summarise_training(self.results, self.manifest.reference, self.manifest.notes)

    @staticmethod
    def table(summary: TrainingSummary, *, full: bool) -> Table:
        if full:
            heads = [
                "agent",
                "form",
                "seeds",
                "test bound",
                "interquartile mean",
                f"minus {summary.reference}",
            ]
            heads += [f"P({summary.reference} better)", "return", "diverged", "search cost, runs"]
        else:
            heads = [
                "agent",
                "form",
                "test bound",
                "interquartile",
                "difference",
                "P",
                "return",
                "div.",
                "cost",
            ]
        rows = [_cells(summary, row, full=full) for row in summary.rows]
        return Table(heads, rows, caption=f"{_WORDS.title(summary)}.")

    @staticmethod
    def explanation(summary: TrainingSummary) -> str:
        return _WORDS.explanation(summary.reference)

    @staticmethod
    def conclusions(summary: TrainingSummary) -> list[str]:
        return [*answers(summary), *findings(summary)]

    @staticmethod
    def statistics(results: Sequence[TrainingResult]) -> list[tuple[str, str]]:
        columns = {
            "return": [result.episode_return for result in results],
            "validation bound, bits/dim": [result.bound for result in results],
            "test bound, bits/dim": [result.test_bound for result in results],
        }
        found = {name: mean(values) for name, values in columns.items()}
        several = len(results) > 1
        lines = [
            (k, f"{v.plus_minus('.4f')} (95 %)" if several else f"{v.value:.4f}") for k, v in found.items()
        ]
        return [*lines, ("diverged", f"{sum(result.diverged for result in results)} of {len(results)}")]

    @staticmethod
    def picture(task: TrainingTask) -> bytes:
        """The task's first run at its end."""
        seed, content = task.seeds[0], io.BytesIO()
        policy = task.agent.policy(task.measured, seed)
        imsave(content, evaluation.picture(policy, task.measured, seed, device=task.device), format="png")
        return content.getvalue()

    def blocks(self, listen: Callable[[str], None]) -> list[Block]:
        variant, summary = self.manifest.variant, self.summary
        listen("figures")
        blocks = [*self._opening(), *self._bins(), *self._schedules(), *self._learning()]
        listen("training networks for their samples")
        learned = next((row for row in summary.rows if row.learned), None)
        best = [
            row for row in (learned, summary.best("searched"), summary.best("hand-made")) if row is not None
        ]
        blocks += samples_blocks(variant, self.results, summary, best, [self._program(row) for row in best])
        claims = paper_claims(variant, self.results, summary)
        blocks += [Heading("What the papers claim"), *verdicts(claims, READING, "the papers claim")]
        return [*blocks, *self._method()]

    def _opening(self) -> list[Block]:
        summary = self.summary
        return [
            Heading(f"Noise schedules in {summary.env_id}", 1),
            Bullets(tuple(answers(summary))),
            Heading("Results"),
            Bullets(tuple(findings(summary))),
            self.table(summary, full=True),
            Paragraph(self.explanation(summary)),
            worded_image(_WORDS, "bounds", figures.bounds_figure(summary), summary),
        ]

    def _bins(self) -> list[Block]:
        summary, reference = self.summary, self.summary.reference
        # The rows that the question is about, and those that readers know.
        wanted = [row for row in summary.rows if row.learned]
        wanted += [row for row in (summary.best("searched"), summary.best("hand-made")) if row is not None]
        wanted += [row for row in summary.rows if row.label in _KNOWN and row.form == "exact"]
        chosen = [row for row in dict.fromkeys(wanted) if row.num_diverged == 0][:6]
        roles = {row.name: row.role for row in chosen if row.name != reference}
        grid = self.manifest.variant.test_bound or self.manifest.variant.bound
        bins = bound_bins(self.results, list(roles), reference, grid.levels)
        if not bins:
            return []
        edges = np.linspace(grid.logsnr_max, grid.logsnr_min, grid.levels + 1)
        peaks = []
        for name, cells in bins.items():
            place = int(np.argmax([abs(cell.value) for cell in cells]))
            middle = 0.5 * (edges[place] + edges[place + 1])
            peaks.append(f"{name} differs most at λ = {middle:.1f}, by {cells[place].value:+.4f}")
        drawn = {name: (roles[name], cells) for name, cells in bins.items()}
        figure = figures.bins_figure(edges, drawn, reference)
        picture = worded_image(_WORDS, "bins", figure, reference, peaks)
        return [Heading("Where the bounds differ"), picture]

    def _schedules(self) -> list[Block]:
        rows = self.summary.rows
        # Hand-made schedules as written, where they were measured so.
        exact = {row.label for row in rows if row.form == "exact"}
        programs = {
            row: self._program(row)
            for row in rows
            if row.role != "random"
            and (row.role != "hand-made" or row.form == "exact" or row.label not in exact)
        }
        curves = _named_curves(programs)
        every = [ScheduleCurve(_label(row, made), made[-1], row.role) for row, made in programs.items()]
        names, all_names = (
            ", ".join(c.label for c in each if c.label is not None) for each in (curves, every)
        )
        limits = (self.manifest.variant.bound.logsnr_max, self.manifest.variant.bound.logsnr_min)
        return [
            Heading("Schedules"),
            worded_image(_WORDS, "schedules", figures.schedules_figure(curves, limits), names),
            worded_image(_WORDS, "noise_levels", figures.noise_figure(curves, limits), names),
            worded_image(_WORDS, "densities", figures.densities_figure(every, limits), all_names),
        ]

    def _program(self, row: TrainingRow) -> list[Schedule]:
        """The schedules of a row's first seed, phase by phase."""
        runs = [run for run in self.results if (run.agent, run.form) == (row.label, row.form)]
        first = min(runs, key=lambda run: run.seed)
        return [schedules.from_dict(schedule) for schedule in first.schedule]

    def _learning(self) -> list[Block]:
        blocks = self.learning()
        if not blocks and any(row.learned for row in self.summary.rows):
            text = "There is no learning curve, because the folder of the training was not found."
            blocks = [Heading("Learning"), Paragraph(text)]
        gains = compute_gains(self.folder, self.manifest, self.results, self.summary)
        if gains is None:
            return blocks
        picture = worded_image(_WORDS, "compute", figures.compute_figure(gains), gains)
        return [Heading("Learning and searching against compute"), picture, *blocks]

    def _method(self) -> list[Block]:
        manifest, results, variant = self.manifest, self.results, self.manifest.variant
        first, last = min(run.created for run in results), max(run.created for run in results)
        minutes = sum(run.seconds for run in results) / 60.0
        facts = [
            _WORDS.trained(variant),
            _WORDS.measured(variant.test_bound or variant.bound, results[-1].protocol),
            _WORDS.held_out(self.seeds),
            f"{len(results)} runs, {minutes:.1f} minutes of training in all, from {first} to {last}.",
        ]
        # Hand-made schedules have two forms unless one was asked for.
        exact = {row.label for row in manifest.rows if row.form == "exact"}
        both = any(row.form == "action" and row.label in exact for row in manifest.rows)
        options = [] if both else ["--form", "exact" if exact else "action"]
        if manifest.reference is not None:
            options += ["--reference", manifest.reference]
        if manifest.samples is not None:
            options += ["--samples", str(manifest.samples.count)]
        return self.method(facts, options)

    @staticmethod
    def together(reports: Sequence[TrainingReport]) -> list[Block]:
        """Answers and ranking over all environments, and the answers in each."""
        total = aggregate_environments([each.results for each in reports], reports[0].manifest.reference)
        lines = [f"`{each.summary.env_id}`: {line}" for each in reports for line in answers(each.summary)]
        if total is None:
            text = "There is no ranking over all environments, because they share no row or no seed."
            return [Bullets(tuple(lines)), Paragraph(text)]
        over_all = [f"Over {len(reports)} environments: {answer_text(answer)}" for answer in total.answers]
        drawn = _profiled(total)
        shares = [f"{row.name} {row.profile.share_above(0.0):.0%}" for row in drawn]
        profiles = figures.profiles_figure(drawn, total.base)
        return [
            Bullets((*over_all, *lines)),
            Heading("Over all environments"),
            _ranking(total),
            Paragraph(_WORDS.ranking_explanation(total)),
            worded_image(_WORDS, "ranking", figures.scores_figure(total), total),
            worded_image(_WORDS, "profiles", profiles, total.base, shares),
        ]


def _cells(summary: TrainingSummary, row: TrainingRow, *, full: bool) -> list[str]:
    several, digits, difference = row.num_seeds > 1, ".4f" if full else ".3f", row.difference
    if difference is None:
        minus = "reference"
    elif full or math.isinf(difference.low):
        minus = shown(difference, "+.4f", interval=math.isfinite(difference.low))
    else:
        minus = difference.plus_minus("+.4f")
    return [
        f"**{row.label}**" if row.learned else row.label,
        row.form,
        *([str(row.num_seeds)] if full else []),
        row.test_bound.plus_minus(".4f") if several else f"{row.test_bound.value:.4f}",
        shown(row.iqm, digits, interval=several),
        minus,
        shown(row.probability, ".2f", interval=full and several),
        f"{row.mean_return:{digits}}",
        str(row.num_diverged),
        f"{row.search_steps / max(summary.optimizer_steps, 1):.4g}",
    ]


def _named_curves(programs: Mapping[TrainingRow, list[Schedule]]) -> list[ScheduleCurve]:
    """Of learned rows the schedule of every phase, of the others the last; only some of those with a name."""
    curves: list[ScheduleCurve] = []
    named = dict.fromkeys(_NAMED, 0)
    for row, made in programs.items():
        if row.learned:
            for phase, schedule in enumerate(made, start=1):
                label = f"{row.label}, phase {phase}" if len(made) > 1 else row.label
                curves.append(ScheduleCurve(label, schedule, "learned"))
            continue
        wanted = named[row.role] < _NAMED[row.role] or row.label in _KNOWN
        named[row.role] += wanted
        curves.append(ScheduleCurve(_label(row, made) if wanted else None, made[-1], row.role))
    return curves


def _label(row: TrainingRow, program: Sequence[Schedule]) -> str:
    return f"{row.label}, last phase" if program[0] != program[-1] else row.label


def _profiled(total: Aggregate) -> list[AggregateRow]:
    """Learned rows, the best of the other roles, the base, and the best of what is left."""
    wanted = [row for row in total.rows if row.role == "learned"]
    for role in ("searched", "hand-made"):
        wanted += [row for row in total.rows if row.role == role][:1]
    wanted += [row for row in total.rows if row.name == total.base]
    wanted += [row for row in total.rows if row.role != "random"]
    return list(dict.fromkeys(wanted))[:_PROFILES]


def _ranking(total: Aggregate) -> Table:
    heads = ["agent", f"better than {total.base}", "optimality gap", f"P({total.reference} better)"]
    rows = []
    for row in total.rows:
        numbers = ((row.score, "+.4f"), (row.gap, ".4f"), (row.probability, ".2f"))
        cells = [shown(value, spec, interval=total.num_seeds > 1) for value, spec in numbers]
        rows.append([f"**{row.name}**" if row.role == "learned" else row.name, *cells])
    return Table(heads, rows, left=1, caption=_WORDS.ranking_table(total))
