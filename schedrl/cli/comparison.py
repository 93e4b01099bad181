"""``schedrl benchmark``, ``schedrl report`` and ``schedrl demo``: was it worth it?"""

from __future__ import annotations

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
    from schedrl.benchmark.protocol import Entry, Plan
    from schedrl.environments.variant import TrainingVariant

__all__ = ["BENCHMARK_EXAMPLES", "DEMO_EXAMPLES", "REPORT_EXAMPLES", "benchmark", "demo", "report"]

BENCHMARK_EXAMPLES = """
**Examples**

`schedrl benchmark --env schedrl/DigitsKnots-v0` : every hand-made agent, and ppo where a policy is shipped

`schedrl benchmark --env schedrl/DigitsKnots-v0 --agents mine=runs/ppo/DigitsKnots-v0_1,cosine,linear --form exact`

`schedrl benchmark --env schedrl/DigitsChoice-v0 --agents cosine,printed-linear --set reward.kind=own_loss` : which
schedule would an agent choose that is rewarded by its own loss?

Every run is one line of the result file. The same command again measures only what is missing there.
"""

REPORT_EXAMPLES = """
**Example**

`schedrl report runs/benchmark/DigitsKnots-v0` : writes report.html, report.md and figures/ into it
"""

DEMO_EXAMPLES = """
**Examples**

`schedrl demo` : about eleven minutes on two cores; interrupted, the same command goes on

`schedrl demo --minutes 2 --seeds 5` : a quick look, which will not be conclusive
"""

FormOption = Annotated[
    Literal["exact", "action", "both"],
    typer.Option(
        help="Hand-made laws as written (exact), as the environment's actions can express them, or both."
    ),
]
SeedsOption = Annotated[int, typer.Option(min=1, help="Number of held-out seeds.")]


def benchmark(
    env: EnvOption,
    agents: Annotated[
        str | None,
        typer.Option(
            help="Agents, separated by commas: names, folders, .toml files; LABEL=FOLDER to name one."
        ),
    ] = None,
    seeds: SeedsOption = 20,
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
    """Compare agents on held-out seeds at equal optimizer steps, and print the table with its intervals."""
    overrides = parse_settings(settings, "--set")
    variant = ready_variant(env, overrides, download=download)

    from schedrl.benchmark.demo import default_entries
    from schedrl.benchmark.protocol import held_out_seeds, make_plan
    from schedrl.policies.agents import slug

    entries = default_entries(variant) if agents is None else _entries(agents, variant)
    if reference is not None and reference not in [entry.label for entry in entries]:
        raise SchedrlError(f"--reference: '{reference}' is not among the agents")
    checked_device(device)
    plan = make_plan(variant, entries, held_out_seeds(seeds, first_seed), _forms(form))
    if folder is None and json_file is None:
        folder = Path("runs", "benchmark", slug(variant.id))
    _compare(plan, overrides, folder, json_file, reference=reference, force_bar=progress, device=device)
    if folder is not None:
        note(f"a report with figures: schedrl report {folder}")


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a benchmark.")],
) -> None:
    """Write a report of a comparison: table, findings, schedules, noise levels, learning curve, samples."""
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
    from schedrl.files import ensure_folder

    overrides = parse_settings(settings, "--set")
    variant = ready_variant(env or job.ENVIRONMENT, overrides, download=download)
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
    from schedrl.benchmark.protocol import Step, run_plan
    from schedrl.benchmark.show import print_summary
    from schedrl.benchmark.store import RESULTS, ResultStore
    from schedrl.benchmark.table import summarise
    from schedrl.files import ensure_folder

    if folder is not None:
        ensure_folder(folder, "--folder")
    path = writable_file(json_file, "--json") if json_file is not None else (folder or Path()) / RESULTS
    store = ResultStore(path)
    if store.note is not None:
        note(store.note)
    if folder is not None:
        write_manifest(folder, plan, path, reference=reference, overrides=overrides)
    total = len(plan.seeds) * len(plan.measurements)
    try:
        with ticker(total, "measuring", every=1, force_bar=force_bar) as tick:

            def listen(step: Step) -> None:
                tick(step.done, step.doing)

            results = run_plan(plan, store, device=device, listen=listen)
    except KeyboardInterrupt:
        note(f"interrupted; finished rows are in {path}, and the same command goes on")
        raise typer.Exit(130) from None
    print_summary(summarise(results, reference, plan.notes), console())
    typer.echo(f"\nresults: {path}")


def _entries(text: str, variant: TrainingVariant) -> list[Entry]:
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


def _forms(form: Literal["exact", "action", "both"]) -> tuple[Literal["exact", "action"], ...]:
    return ("exact", "action") if form == "both" else (form,)
