"""``schedrl benchmark``, ``schedrl report`` and ``schedrl demo``: was it worth it?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from schedrl.cli.common import (
    BarOption,
    DeviceOption,
    DownloadOption,
    SetOption,
    checked_device,
    console,
    note,
    parse_settings,
    ready_variant,
    ticker,
    writable_file,
)
from schedrl.errors import SchedrlError, parse

if TYPE_CHECKING:
    from schedrl.benchmark.benchmark_file import Benchmark, Part
    from schedrl.benchmark.executors import Executor
    from schedrl.benchmark.searches import SearchTask
    from schedrl.benchmark.tasks import Step
    from schedrl.policies.sequence_search import SearchProgress

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

`schedrl benchmark benchmarks/digits.toml --jobs 4` : a protocol file, in four processes

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
    protocol_file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Protocol file, as in benchmarks/; or --env and the like."),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option("--env", help="Environment: an id of `schedrl envs`, or a variant's own .toml file."),
    ] = None,
    agents: Annotated[
        str | None,
        typer.Option(
            help="Agents, separated by commas: names, folders, .toml files; LABEL=FOLDER to name one."
        ),
    ] = None,
    seeds: SomeSeedsOption = None,
    first_seed: Annotated[
        int | None, typer.Option(min=0, help="First held-out seed; the others count up. [1000000]")
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Result file, one JSON line per run. [FOLDER/results.jsonl]"
        ),
    ] = None,
    form: Annotated[
        Literal["exact", "action", "both"] | None,
        typer.Option(
            help="Hand-made laws as written (exact), as the environment's actions can express them, or both. [both]"
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("-f", "--folder", help="Folder for results and report. [runs/benchmark/NAME]"),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Agent that the others are compared with. [the learned one, else the best]"),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=2, help="Draw so many images from every trained network and measure them. [none]"),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, help="Processes that search and measure side by side. [this one]"),
    ] = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Measure on a Ray cluster: $RAY_ADDRESS or here.")
    ] = False,
    ray_address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Address of the Ray cluster; implies --ray.")
    ] = None,
    settings: SetOption = None,
    progress: BarOption = False,
    device: DeviceOption = "cpu",
    download: DownloadOption = False,
) -> None:
    """Compare agents on held-out seeds at equal cost, and print the table with its intervals."""
    overrides = parse_settings(settings, "--set")

    from schedrl.benchmark.benchmark_file import lay_out, read_benchmark
    from schedrl.policies.agents import slug

    if protocol_file is None:
        if env is None:
            raise SchedrlError("--env: is needed, or a protocol file")
        protocol, prefix = _protocol(env, agents, form, reference), "--"
    else:
        for option, given in (("env", env), ("agents", agents), ("form", form), ("reference", reference)):
            if given is not None:
                raise SchedrlError(f"--{option}: is what {protocol_file} says; give one of them")
        protocol, prefix = read_benchmark(protocol_file), f"protocol file {protocol_file}: "
    changes: dict[str, object] = {
        "seeds": seeds,
        "first_seed": first_seed,
        "set": {**protocol.set, **overrides},
    }
    if samples is not None:
        from schedrl.metrics.metric_specs import SampleSpec

        changes["quality"] = (protocol.quality or SampleSpec()).model_copy(update={"count": samples})
    protocol = protocol.model_copy(update={k: value for k, value in changes.items() if value is not None})
    executor = _executor(jobs, ray or ray_address is not None, ray_address, device)
    checked_device(device)
    plans = lay_out(protocol, lambda name, changed: ready_variant(name, changed, download=download), prefix)
    if folder is None and json_file is None:
        name = slug(plans[0].plan.variant.id) if protocol_file is None else protocol_file.stem
        folder = Path("runs", "benchmark", name)
    if any(comparison.searches for comparison in plans):
        from schedrl.files import ensure_folder

        target = ensure_folder(folder or Path(json_file or "").parent, "--folder")
        plans = _searched(plans, protocol, target, progress, device, None if ray or ray_address else executor)
    _compare(plans, folder, json_file, force_bar=progress, device=device, executor=executor)
    if folder is not None:
        note(f"a report with figures: schedrl report {folder}")


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a benchmark.")],
) -> None:
    """Write a report of a comparison: table, findings, what the agents chose, learning curves."""
    from schedrl.report.pages import write_report

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
    from schedrl.benchmark.benchmark_file import Part
    from schedrl.benchmark.tasks import held_out_seeds
    from schedrl.benchmark.training_tasks import Entry, default_entries, make_plan
    from schedrl.environments.training.variant import TrainingVariant
    from schedrl.environments.variants import of_family
    from schedrl.files import ensure_folder
    from schedrl.jobs import demo as job
    from schedrl.report.pages import write_report

    overrides = parse_settings(settings, "--set")
    variant = of_family(ready_variant(env or job.ENVIRONMENT, overrides, download=download), TrainingVariant)
    limit = job.MINUTES if minutes is None else minutes
    training = job.TrainingPlan.make(
        variant, overrides, folder / job.AGENT, timesteps=timesteps, minutes=limit
    )
    hand_made = default_entries(variant, shipped_label="ppo (shipped)")
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
    comparison = Part(plan, overrides, "ppo", folder.name)
    _compare([comparison], folder, None, force_bar=progress, device="cpu")
    note("3/3 reporting")
    typer.echo(f"report: {write_report(folder, note)}")
    typer.echo(f"agent:  {training.folder}")


def _compare(
    comparisons: Sequence[Part],
    folder: Path | None,
    json_file: Path | None,
    *,
    force_bar: bool,
    device: str,
    executor: Executor | None = None,
) -> None:
    """Measure, print, and leave results and manifests behind."""
    from schedrl.benchmark.several import describe, summary_of, work_in
    from schedrl.benchmark.store import RESULTS, Line, ResultStore
    from schedrl.benchmark.tasks import run_work
    from schedrl.files import ensure_folder
    from schedrl.report.pages import print_summary

    for comparison in comparisons:
        for text in comparison.notes:
            note(text)
    if folder is not None:
        ensure_folder(folder, "--folder")
    path = writable_file(json_file, "--json") if json_file is not None else (folder or Path()) / RESULTS
    model, works = work_in(comparisons, device)
    store: ResultStore[Line] = ResultStore(path, model)
    if store.note is not None:
        note(store.note)
    if folder is not None:
        describe(folder, comparisons, path)
    rows = [row for work in works for row in work]
    with _measuring(sum(len(row.keys) for row in rows), path, force_bar) as listen:
        results = run_work(rows, store, executor=executor, listen=listen)
    for place, (comparison, work) in enumerate(zip(comparisons, works, strict=True)):
        if place:
            typer.echo()
        keys = {key for row in work for key in row.keys.values()}
        summary = summary_of(comparison, [result for result in results if result.key in keys])
        print_summary(comparison.plan.variant.family, summary, console())
    typer.echo(f"\nresults: {path}")


def _executor(jobs: int | None, ray: bool, address: str | None, device: str) -> Executor | None:
    """Who measures; None for this process."""
    if ray:
        from schedrl.benchmark.executors_ray import Ray

        if jobs is not None:
            raise SchedrlError("--jobs: Ray decides how much is measured at once; give --jobs or --ray")
        return Ray(address, gpus=0.0 if device.startswith("cpu") else 1.0)
    if jobs is None:
        return None
    from schedrl.benchmark.executors import LocalProcesses

    return LocalProcesses(jobs)


@contextmanager
def _measuring(total: int, path: Path, force_bar: bool) -> Iterator[Callable[[Step], None]]:
    """Progress of a comparison; an interrupt says what is left behind."""
    try:
        with ticker(total, "measuring", every=1, force_bar=force_bar) as tick:
            yield lambda step: tick(step.done, step.doing)
    except KeyboardInterrupt:
        note(f"interrupted; finished rows are in {path}, and the same command goes on")
        raise typer.Exit(130) from None


def _protocol(
    env: str, agents: str | None, form: Literal["exact", "action", "both"] | None, reference: str | None
) -> Benchmark:
    """What the options say, as a protocol."""
    from schedrl.benchmark.benchmark_file import Benchmark

    entries = None
    if agents is not None:
        entries = []
        for word in filter(None, (part.strip() for part in agents.split(","))):
            label, separator, name = word.partition("=")
            entries.append({"name": name, "label": label} if separator else {"name": word})
    fields = {
        "environments": [env],
        "agents": entries,
        "forms": _forms(form or "both"),
        "reference": reference,
    }
    return parse(Benchmark, fields, "--env")


def _searched(
    comparisons: Sequence[Part],
    protocol: Benchmark,
    folder: Path,
    force_bar: bool,
    device: str,
    executor: Executor | None,
) -> list[Part]:
    """Search before measuring; all that can be checked has been checked before that."""
    from schedrl.benchmark.benchmark_file import with_found
    from schedrl.benchmark.searches import search_side_by_side, search_tasks, searched
    from schedrl.environments.training.variant import TrainingVariant
    from schedrl.environments.variants import of_family

    places = []
    for comparison in comparisons:
        own = folder / comparison.folder if len(comparisons) > 1 else folder
        variant = of_family(comparison.plan.variant, TrainingVariant) if comparison.searches else None
        places.append((comparison, variant, own))
    tasks = [
        task
        for comparison, variant, own in places
        if variant is not None
        for task in search_tasks(variant, comparison.entries, own, device=device).values()
    ]
    spent = {task.folder: task.budget if task.done else 0 for task in tasks}
    budgets = {task.folder: task.budget for task in tasks}
    try:
        with ticker(sum(budgets.values()), "searching", every=1, force_bar=force_bar) as tick:

            def listen(task: SearchTask, now: SearchProgress) -> None:
                spent[task.folder] = now.optimizer_steps
                tick(sum(spent.values()), f"{task.doing}, best so far {now.best:+.4f} on the reference")

            if executor is not None:
                search_side_by_side(tasks, executor, listen)
            made = []
            for comparison, variant, own in places:
                if variant is None:
                    made.append(comparison)
                    continue
                found = searched(variant, comparison.entries, own, listen, device=device)
                made.append(with_found(comparison, protocol, found))
    except KeyboardInterrupt:
        note("interrupted; the same command goes on")
        raise typer.Exit(130) from None
    return made


def _forms(form: Literal["exact", "action", "both"]) -> tuple[Literal["exact", "action"], ...]:
    return ("exact", "action") if form == "both" else (form,)
