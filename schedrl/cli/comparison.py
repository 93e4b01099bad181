"""``schedrl benchmark``, ``schedrl report`` and ``schedrl demo``: was it worth it?"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from schedrl.cli.common import (
    BarOption,
    DeviceOption,
    DownloadOption,
    EnvOption,
    SetOption,
    checked_device,
    console,
    note,
    parse_settings,
    ready_variant,
    ticker,
    writable_file,
)
from schedrl.errors import SchedrlError

if TYPE_CHECKING:
    from schedrl.benchmark.protocol import Entry, Plan, Step
    from schedrl.environments.base import Variant
    from schedrl.environments.sampling.variant import SamplingVariant
    from schedrl.environments.training.variant import TrainingVariant

__all__ = ["BENCHMARK_EXAMPLES", "DEMO_EXAMPLES", "REPORT_EXAMPLES", "benchmark", "demo", "report"]

BENCHMARK_EXAMPLES = """
**Examples**

`schedrl benchmark --env schedrl/DigitsKnots-v0` : every hand-made agent, and ppo where a policy is shipped

`schedrl benchmark --env schedrl/DigitsKnots-v0 --agents mine=runs/ppo/DigitsKnots-v0_1,cosine,linear --form exact`

`schedrl benchmark --env schedrl/DigitsChoice-v0 --agents cosine,printed-linear --set reward.kind=own_loss` : which
schedule would an agent choose that is rewarded by its own loss?

`schedrl benchmark --env schedrl/DigitsKnots-v0 --agents ppo,search-static-cma-es,best-static` : searches at the cost of
PPO's training, done first and once

`schedrl benchmark --env schedrl/GaussianSampling-v0` : where a sampler should step, against the exact optimum

Every run is one line of the result file. The same command again measures only what is missing there.
"""

REPORT_EXAMPLES = """
**Example**

`schedrl report runs/benchmark/DigitsKnots-v0` : writes report.html, report.md and figures/ into it
"""

DEMO_EXAMPLES = """
**Examples**

`schedrl demo` : about ten minutes on two cores; interrupted, the same command goes on

`schedrl demo --minutes 2 --seeds 5` : a quick look, which will not be conclusive
"""

FormOption = Annotated[
    Literal["exact", "action", "both"],
    typer.Option(
        help="Hand-made laws as written (exact), as the environment's actions can express them, or both."
    ),
]
SeedsOption = Annotated[int, typer.Option(min=1, help="Number of held-out seeds.")]
SomeSeedsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Number of held-out seeds. [20; 256 sources of a sampling environment]"),
]


def benchmark(
    env: EnvOption,
    agents: Annotated[
        str | None,
        typer.Option(
            help="Agents, separated by commas: names, folders, .toml files; LABEL=FOLDER to name one."
        ),
    ] = None,
    seeds: SomeSeedsOption = None,
    first_seed: Annotated[
        int, typer.Option(min=0, help="First held-out seed; the others count up.")
    ] = 1_000_000,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Result file, one JSON line per run. [FOLDER/results.jsonl]"
        ),
    ] = None,
    form: FormOption = "both",
    folder: Annotated[
        Path | None,
        typer.Option("-f", "--folder", help="Folder for results and report. [runs/benchmark/ENV]"),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Agent that the others are compared with. [the learned one, else the best]"),
    ] = None,
    settings: SetOption = None,
    progress: BarOption = False,
    device: DeviceOption = "cpu",
    download: DownloadOption = False,
) -> None:
    """Compare agents on held-out seeds at equal cost, and print the table with its intervals."""
    overrides = parse_settings(settings, "--set")
    variant = ready_variant(env, overrides, download=download)

    from schedrl.benchmark.protocol import NUM_SEEDS, held_out_seeds
    from schedrl.environments.sampling.variant import SamplingVariant
    from schedrl.policies.agents import ScheduleSearchAgent, slug

    if folder is None and json_file is None:
        folder = Path("runs", "benchmark", slug(variant.id))
    if isinstance(variant, SamplingVariant):
        if reference is not None:
            raise SchedrlError(
                "--reference: sampling agents are compared with the optimum and the learned one"
            )
        _compare_sampling(
            variant, agents, seeds, first_seed, overrides, folder, json_file, force_bar=progress
        )
    else:
        from schedrl.benchmark.demo import default_entries
        from schedrl.benchmark.protocol import make_plan

        entries = default_entries(variant) if agents is None else _entries(agents, variant)
        if reference is not None and reference not in [entry.label for entry in entries]:
            raise SchedrlError(f"--reference: '{reference}' is not among the agents")
        checked_device(device)
        held_out = held_out_seeds(seeds or NUM_SEEDS, first_seed)
        if any(isinstance(entry.agent, ScheduleSearchAgent) for entry in entries):
            entries = _searched(
                variant, entries, held_out, form, folder or Path(json_file or "").parent, progress, device
            )
        plan = make_plan(variant, entries, held_out, _forms(form))
        _compare(plan, overrides, folder, json_file, reference=reference, force_bar=progress, device=device)
    if folder is not None:
        note(f"a report with figures: schedrl report {folder}")


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a benchmark.")],
) -> None:
    """Write a report of a comparison: table, findings, what the agents chose, learning curves."""
    from schedrl.benchmark.manifest import family_of

    if family_of(folder) == "sampling":
        from schedrl.benchmark.sampling.report import write_sampling_report as write_report
    else:
        from schedrl.benchmark.report import write_report

    typer.echo(f"report: {write_report(folder, note)}")


def demo(
    folder: Annotated[
        Path, typer.Option("-f", "--folder", help="Where agent, results and report go.")
    ] = Path("runs", "demo"),
    env: Annotated[str | None, typer.Option("--env", help="Another environment than the demo's own.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.0, help="Stop training after so many minutes. [6.5]")
    ] = None,
    timesteps: Annotated[
        int | None, typer.Option("-n", "--timesteps", min=1, help="Environment steps of the training.")
    ] = None,
    seeds: SeedsOption = 20,
    form: FormOption = "exact",
    settings: SetOption = None,
    progress: BarOption = False,
    download: DownloadOption = False,
) -> None:
    """Learn a noise schedule with PPO, compare it with every hand-made one on held-out seeds, and write a report."""
    from schedrl.benchmark import demo as job
    from schedrl.benchmark.protocol import Entry, held_out_seeds, make_plan
    from schedrl.benchmark.report import write_report
    from schedrl.environments.training.variant import TrainingVariant
    from schedrl.environments.variants import of_family
    from schedrl.files import ensure_folder

    overrides = parse_settings(settings, "--set")
    variant = of_family(ready_variant(env or job.ENVIRONMENT, overrides, download=download), TrainingVariant)
    limit = job.MINUTES if minutes is None else minutes
    training = job.TrainingPlan.make(
        variant, overrides, folder / job.AGENT, timesteps=timesteps, minutes=limit
    )
    hand_made = job.default_entries(variant, shipped_label="ppo (shipped)")
    # Everything that can go wrong does so before minutes are spent.
    make_plan(variant, hand_made, held_out_seeds(seeds), _forms(form))
    ensure_folder(folder, "--folder")
    note(f"1/3 learning: PPO in {variant.id}, at most {limit:g} minutes")
    try:
        with ticker(training.request.spec.total_timesteps, "training", every=2, force_bar=progress) as tick:
            from schedrl.cli.training import progress_listener

            agent = job.train_for(training, progress_listener(tick))
    except KeyboardInterrupt:
        note(f"interrupted; the same command goes on. The agent so far is in {training.folder}")
        raise typer.Exit(130) from None
    note(f"2/3 comparing on {seeds} held-out seeds")
    plan = make_plan(variant, [Entry("ppo", agent), *hand_made], held_out_seeds(seeds), _forms(form))
    _compare(plan, overrides, folder, None, reference="ppo", force_bar=progress, device="cpu")
    note("3/3 reporting")
    typer.echo(f"report: {write_report(folder, note)}")
    typer.echo(f"agent:  {training.folder}")


def _compare(
    plan: Plan,
    overrides: dict[str, Any],
    folder: Path | None,
    json_file: Path | None,
    *,
    reference: str | None,
    force_bar: bool,
    device: str,
) -> None:
    """Measure, print, and leave results and manifest behind."""
    from schedrl.benchmark.manifest import write_manifest
    from schedrl.benchmark.protocol import run_plan
    from schedrl.benchmark.show import print_summary
    from schedrl.benchmark.store import RESULTS, Result, ResultStore
    from schedrl.benchmark.table import summarise
    from schedrl.files import ensure_folder

    if folder is not None:
        ensure_folder(folder, "--folder")
    path = writable_file(json_file, "--json") if json_file is not None else (folder or Path()) / RESULTS
    store = ResultStore(path, Result)
    if store.note is not None:
        note(store.note)
    if folder is not None:
        write_manifest(folder, plan, path, reference=reference, overrides=overrides)
    total = len(plan.seeds) * len(plan.measurements)
    with _measuring(total, path, force_bar) as listen:
        results = run_plan(plan, store, device=device, listen=listen)
    print_summary(summarise(results, reference, plan.notes), console())
    typer.echo(f"\nresults: {path}")


def _compare_sampling(
    variant: SamplingVariant,
    agents: str | None,
    seeds: int | None,
    first_seed: int,
    overrides: dict[str, Any],
    folder: Path | None,
    json_file: Path | None,
    *,
    force_bar: bool,
) -> None:
    """The same for agents that place a sampler's steps."""
    from schedrl.benchmark.protocol import held_out_seeds
    from schedrl.benchmark.sampling import comparison as sampling
    from schedrl.benchmark.sampling.manifest import write_sampling_manifest
    from schedrl.benchmark.sampling.records import SamplingResult
    from schedrl.benchmark.sampling.show import print_sampling_summary
    from schedrl.benchmark.sampling.table import summarise_sampling
    from schedrl.benchmark.store import RESULTS, ResultStore
    from schedrl.files import ensure_folder

    held_out = held_out_seeds(seeds or sampling.NUM_SOURCES, first_seed)
    if agents is None:
        entries, notes = sampling.default_entries(variant, held_out)
        for text in notes:
            note(text)
    else:
        entries = _entries(agents, variant)
    plan = sampling.make_sampling_plan(variant, entries, held_out)
    if folder is not None:
        ensure_folder(folder, "--folder")
    path = writable_file(json_file, "--json") if json_file is not None else (folder or Path()) / RESULTS
    store = ResultStore(path, SamplingResult)
    if store.note is not None:
        note(store.note)
    if folder is not None:
        write_sampling_manifest(folder, plan, path, overrides)
    with _measuring(len(plan.seeds) * len(plan.rows), path, force_bar) as listen:
        results = sampling.run_sampling_plan(plan, store, listen)
    print_sampling_summary(summarise_sampling(results), console())
    typer.echo(f"\nresults: {path}")


@contextmanager
def _measuring(total: int, path: Path, force_bar: bool) -> Iterator[Callable[[Step], None]]:
    """Progress of a comparison; an interrupt says what is left behind."""
    try:
        with ticker(total, "measuring", every=1, force_bar=force_bar) as tick:
            yield lambda step: tick(step.done, step.doing)
    except KeyboardInterrupt:
        note(f"interrupted; finished rows are in {path}, and the same command goes on")
        raise typer.Exit(130) from None


def _entries(text: str, variant: Variant) -> list[Entry]:
    from schedrl.benchmark.protocol import Entry
    from schedrl.policies import find

    entries = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        label, separator, name = word.partition("=")
        agent = find(name if separator else word, variant.id)
        entries.append(Entry(label if separator else agent.name, agent))
    if not entries:
        raise SchedrlError("--agents: names at least one agent; `schedrl agents` lists them")
    return entries


def _searched(
    variant: TrainingVariant,
    entries: list[Entry],
    seeds: list[int],
    form: Literal["exact", "action", "both"],
    folder: Path,
    force_bar: bool,
    device: str,
) -> list[Entry]:
    """Search before measuring, all that can be checked checked before that."""
    from schedrl.benchmark.protocol import make_plan
    from schedrl.benchmark.searches import check_searches, searched
    from schedrl.policies.agents import ScheduleSearchAgent
    from schedrl.policies.sequence_search import SearchProgress

    known = [entry for entry in entries if not isinstance(entry.agent, ScheduleSearchAgent)]
    if known:
        make_plan(variant, known, seeds, _forms(form))
    budgets = check_searches(variant, entries)
    before = dict(zip(budgets, [0, *itertools.accumulate(budgets.values())], strict=False))
    try:
        with ticker(sum(budgets.values()), "searching", every=1, force_bar=force_bar) as tick:

            def listen(label: str, now: SearchProgress) -> None:
                tick(
                    before[label] + now.optimizer_steps,
                    f"{label}, best so far {now.best:+.4f} on the reference",
                )

            return searched(variant, entries, folder, listen, device=device)
    except KeyboardInterrupt:
        note("interrupted; the same command goes on")
        raise typer.Exit(130) from None


def _forms(form: Literal["exact", "action", "both"]) -> tuple[Literal["exact", "action"], ...]:
    return ("exact", "action") if form == "both" else (form,)
