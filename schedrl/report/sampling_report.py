"""The report of a benchmark in a sampling environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from schedrl.benchmark.manifest import SamplingManifest, load_sampling
from schedrl.benchmark.results import SamplingResult
from schedrl.benchmark.sampling_family import SamplingTask
from schedrl.benchmark.sampling_summary import SamplingRow, SamplingSummary, summarise_sampling
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.environments.sampling.rewards import log_error
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.errors import SchedrlError
from schedrl.policies.agents import Agent
from schedrl.report import sampling_figures as figures
from schedrl.report.document import Block, Bullets, Heading, Paragraph, Sentences, Table
from schedrl.report.family_report import FamilyReport, shown
from schedrl.report.figures import image, png
from schedrl.schedules.conversions import FloatArray

_WORDS = Sentences("sampling.txt.j2")

_DRAWN = 6
"""Agents in a figure."""

_STEPS = (4, 6, 8, 10, 14, 20, 32)
"""Numbers of steps at which errors are drawn."""

_FEW = 32
"""Sources that errors against N are averaged over."""


class SamplingReport(FamilyReport[SamplingVariant, SamplingResult]):
    """The report of a benchmark in one sampling environment."""

    def _load(self) -> tuple[SamplingManifest, list[SamplingResult]]:
        return load_sampling(self.folder)

    @staticmethod
    def table(summary: SamplingSummary, *, full: bool) -> Table:
        heads = ["agent", "error", f"x {summary.yardstick}", "worst"]
        if summary.learned is not None:
            heads += [f"x {summary.learned}", "loses"]
        if full:
            heads += [f"mean {name}".replace("_", " ") for name in summary.rows[0].parts]
        rows = [_cells(summary, row, full=full) for row in summary.rows]
        return Table([*heads, "runs", "train", "ms"], rows, left=1, caption=f"{_WORDS.title(summary)}.")

    @staticmethod
    def explanation(summary: SamplingSummary) -> str:
        return _WORDS.explanation(summary.yardstick, summary.learned)

    @staticmethod
    def conclusions(summary: SamplingSummary) -> list[str]:
        if summary.learned is None:
            return [f"No agent here is learned. {summary.rows[0].name} has the smallest error."]
        own = next(row for row in summary.rows if row.name == summary.learned)
        closed = [row for row in summary.rows if row.role == "hand-made"]
        searched = [row for row in summary.rows if row.evaluations > 0]
        lines = []
        if summary.yardstick == "optimum":
            closed = [row for row in closed if row.name != "grid-optimum"]
            value, low, high, worst = (
                100.0 * (ratio - 1.0) for ratio in (own.ratio.value, own.ratio.low, own.ratio.high, own.worst)
            )
            excess = f"{value:.2f} % [{low:.2f}, {high:.2f}] above the exact optimum, at worst {worst:.2f} %"
            lines.append(f"{own.name} is {excess}.")
        return [*lines, *_against(own, closed, "closed form"), *_against(own, searched, "search")]

    @staticmethod
    def statistics(results: Sequence[SamplingResult]) -> list[tuple[str, str]]:
        summary = summarise_sampling(results)
        (row,) = summary.rows
        yardstick = "optimum" if summary.yardstick == "optimum" else "reference grid"
        several = len(results) > 1
        parts = [(f"mean {part.replace('_', ' ')}", f"{value:.4g}") for part, value in row.parts.items()]
        return [
            ("error, geometric mean", shown(row.error, ".4g", interval=several)),
            (f"error over that of the {yardstick}", shown(row.ratio, ".4g", interval=several)),
            ("worst ratio", f"{row.worst:.4g}"),
            *parts,
        ]

    @staticmethod
    def picture(task: SamplingTask) -> bytes:
        """The agent's grid for the task's first source, beside the reference."""
        problems = SamplingProblems.drawn(task.variant, task.seeds[:1])
        solution = task.agent.solve(problems, task.seeds[:1])
        grids = {"reference": problems.reference()[0], task.label: solution.sigmas[0]}
        return png(figures.grids_figure(grids, task.label))

    def blocks(self, listen: Callable[[str], None]) -> list[Block]:
        summary = summarise_sampling(self.results)
        listen("figures")
        source = self.manifest.variant.source
        facts = [
            f"Sampler `{self.manifest.variant.sampler}`. {source.accuracy}",
            _WORDS.held_out(self.seeds, source.num_uniforms == 0),
        ]
        return [
            Heading(f"Sampling grids in {summary.env_id}", 1),
            Bullets(tuple(self.conclusions(summary))),
            Heading("Results"),
            self.table(summary, full=True),
            Paragraph(self.explanation(summary)),
            *self._pictures(summary),
            *self.learning(),
            *self.method(facts),
        ]

    def _pictures(self, summary: SamplingSummary) -> list[Block]:
        variant, seeds, learned = self.manifest.variant, self.manifest.seeds, summary.learned
        located = {row.label: self._located(row.agent) for row in self.manifest.rows if row.agent is not None}
        agents = {name: located[name] for name in _drawn(summary)}
        first = SamplingProblems.drawn(variant, seeds[:1])
        grids = {
            name: agent.solve(first).sigmas[0, : int(first.total[0]) + 1] for name, agent in agents.items()
        }
        profile = figures.profile_figure(self.results, list(agents), summary.yardstick, learned)
        blocks: list[Block] = [
            image("profile", profile, _WORDS.profile(summary)),
            Heading("Grids"),
            image("grids", figures.grids_figure(grids, learned), _WORDS.grids()),
        ]
        if variant.source.spectral:
            figure = figures.loss_figure(first, dict(list(grids.items())[:3]), learned)
            blocks.append(image("variance-along-the-sampler", figure, _WORDS.variance()))
            blocks += _against_steps(variant, seeds[:_FEW], agents, learned)
        if variant.source.dimensions is not None:
            blocks += _against_dimension(variant, variant.source.dimensions, agents, learned)
        return blocks

    def _located(self, agent: Agent) -> Agent:
        """The agent, its folder as seen from here."""
        if agent.files is None:
            return agent
        if not (self.folder / agent.files / "agent.json").is_file():
            raise SchedrlError(f"agent folder {self.folder / agent.files}: is not there any more")
        return agent.relocated(str(self.folder / agent.files))


def _cells(summary: SamplingSummary, row: SamplingRow, *, full: bool) -> list[str]:
    cells = [
        f"**{row.name}**" if row.learned else row.name,
        shown(row.error, ".4g", interval=full),
        f"{row.ratio:.4f}" if full or row.ratio.high < 10.0 else f"{row.ratio:.3g}",
        _short(row.worst),
    ]
    if summary.learned is not None:
        versus, wins = row.versus, row.wins
        cells.append("" if versus is None else f"{versus:.3f}" if full else _short(versus.value))
        cells.append("" if wins is None else f"{wins:.2f}")
    if full:
        cells += [f"{value:.4f}" for value in row.parts.values()]
    train = f"{row.training_steps:.3g}" if row.training_steps else "0"
    return [*cells, f"{row.evaluations:.0f}", train, f"{1e3 * row.seconds:.2g}"]


def _short(value: float) -> str:
    return f"{value:.3f}" if value < 100.0 else f"{value:.3g}"


def _against(own: SamplingRow, others: list[SamplingRow], what: str) -> list[str]:
    if not others or (versus := others[0].versus) is None:
        return []
    best, verdict = others[0], "neither is shown to be better"
    if versus.low > 1.0:
        verdict = f"{own.name} is better"
    elif versus.high < 1.0:
        verdict = f"{own.name} is worse"
    spent = f", which spent {best.evaluations:.0f} sampler runs on each source" if best.evaluations else ""
    return [f"Against the best {what}, {best.name}{spent}: {verdict} (error ratio {versus:.4f})."]


def _drawn(summary: SamplingSummary) -> list[str]:
    """Agents to draw: the learned one, the optimum, the best closed forms, and those that readers know."""
    names = [row.name for row in summary.rows if row.role != "random"]
    wanted = [summary.learned, "grid-optimum", "grid-tangent", "grid-cosine", "grid-karras"]
    wanted += ["dilated-vp", "dilated-ve", "uniform-vp", "uniform-ve"]
    wanted += [row.name for row in summary.rows if row.evaluations == 0 and row.role == "hand-made"]
    chosen = [name for name in dict.fromkeys(wanted) if name is not None and name in names]
    return (chosen or [row.name for row in summary.rows])[:_DRAWN]


def _against_steps(
    variant: SamplingVariant, seeds: Sequence[int], agents: Mapping[str, Agent], learned: str | None
) -> list[Block]:
    errors: dict[str, FloatArray] = {name: np.full(len(_STEPS), np.nan) for name in agents}
    for place, steps in enumerate(_STEPS):
        changes = {"steps": {"minimum": steps, "maximum": steps}}
        problems = SamplingProblems.drawn(variant.changed(changes, variant.id), seeds)
        for name, agent in agents.items():
            values = problems.error(agent.solve(problems).sigmas)
            errors[name][place] = float(np.exp(log_error(values).mean()))
    caption = _WORDS.steps(len(seeds), variant.steps)
    figure = figures.steps_figure(_STEPS, errors, learned)
    return [Heading("More and fewer steps"), image("steps", figure, caption)]


def _against_dimension(
    variant: SamplingVariant, span: tuple[float, float], agents: Mapping[str, Agent], learned: str | None
) -> list[Block]:
    low, high = span
    # Unlike 10 to the power of a logarithm, the ends are exact.
    dimensions = np.geomspace(low, high, int(2 * np.log10(high / low)) + 1).tolist()
    parts: dict[str, dict[str, list[float]]] = {name: {} for name in agents}
    targets: dict[str, float] = {}
    for dimension in dimensions:
        changes = {
            "source": {"dimension": [dimension, dimension]},
            "steps": {"minimum": variant.steps.maximum},
        }
        problems = SamplingProblems.drawn(variant.changed(changes, variant.id), [0])
        targets = {name: float(values[0]) for name, values in problems.batch.targets().items()}
        for name, agent in agents.items():
            for part, values in problems.parts(agent.solve(problems).sigmas).items():
                parts[name].setdefault(part, []).append(float(values[0]))
    drawn = {name: {part: np.array(values) for part, values in own.items()} for name, own in parts.items()}
    figure = figures.modes_figure(dimensions, drawn, targets, learned)
    caption = _WORDS.dimension(variant.steps.maximum)
    return [Heading("From low to high dimension"), image("dimension", figure, caption)]
