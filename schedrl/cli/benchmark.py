"""``schedrl benchmark`` and ``schedrl report``: agents compared on held-out seeds."""

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
    say,
    ticker,
)
from schedrl.errors import SchedrlError, parse
from schedrl.files import ensure_file

if TYPE_CHECKING:
    from schedrl.benchmark.benchmark_file import Benchmark
    from schedrl.benchmark.executors import Executor
    from schedrl.benchmark.results import Result
    from schedrl.benchmark.store import ResultStore
    from schedrl.benchmark.tasks import Part, Step
    from schedrl.policies.agents import Form


BENCHMARK_EXAMPLES = """
**Examples**

`schedrl benchmark --env schedrl/DigitsKnots-v0` : every hand-made agent, and ppo where a policy is shipped

`schedrl benchmark --env schedrl/DigitsKnots-v0 --agents mine=runs/ppo/DigitsKnots-v0_1,cosine,linear --form exact`

`schedrl benchmark --env schedrl/DigitsChoice-v0 --agents cosine,printed-linear --set reward.kind=own_loss` : which
schedule would an agent choose that is rewarded for its own loss?

`schedrl benchmark --env schedrl/DigitsKnots-v0 --agents ppo,search-static-cma-es,best-static` : searches at the cost of
PPO's training, done first and once

`schedrl benchmark --env schedrl/GaussianSampling-v0` : where a sampler should step, against the exact optimum

`schedrl benchmark benchmarks/digits.toml --jobs 4` : a benchmark file, in four processes

Every run is one line of the result file. The same command again measures only what is missing there.
"""

REPORT_EXAMPLES = """
**Example**

`schedrl report runs/benchmark/DigitsKnots-v0` : writes report.html, report.md and figures/ into it
"""


def benchmark(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Benchmark file, as in benchmarks/; or --env and the like."),
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
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="Number of held-out seeds. [20; 256 sources of a sampling environment]"),
    ] = None,
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
            help="Hand-made schedules as written (exact), as the actions can represent them, or both. [both]"
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
        typer.Option(min=2, help="Draw this many images from every trained network and measure them. [none]"),
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
    from schedrl.files import ensure_folder
    from schedrl.policies.agents import slug

    if file is None:
        if env is None:
            raise SchedrlError("--env: is needed, or a benchmark file")
        asked, prefix = _options(env, agents, form, reference), "--"
    else:
        for option, given in (("env", env), ("agents", agents), ("form", form), ("reference", reference)):
            if given is not None:
                raise SchedrlError(f"--{option}: is set by {file}; give one of them")
        asked, prefix = read_benchmark(file), f"benchmark file {file}: "
    changes: dict[str, object] = {
        "seeds": seeds,
        "first_seed": first_seed,
        "set": {**asked.set, **overrides},
    }
    if samples is not None:
        from schedrl.metrics.metric_specs import SampleSpec

        changes["quality"] = (asked.quality or SampleSpec()).model_copy(update={"count": samples})
    asked = asked.model_copy(update={key: value for key, value in changes.items() if value is not None})
    on_ray = ray or ray_address is not None
    executor = _executor(jobs, on_ray, ray_address, device)
    parts = lay_out(asked, device=checked_device(device), download=download, prefix=prefix)
    if folder is None and json_file is None:
        folder = Path("runs", "benchmark", slug(parts[0].variant.id) if file is None else file.stem)
    if json_file is not None:  # before the searches
        _open_results(parts, ensure_file(json_file, "--json"))
    if any(agent.as_costly_as_training for part in parts for agent in part.agents.values()):
        target = ensure_folder(folder or Path(json_file or "").parent, "--folder")
        parts = _searched(parts, target, progress, None if on_ray else executor)
    measure_and_show(parts, folder, json_file, force_bar=progress, executor=executor)
    if folder is not None:
        note(f"a report with figures: schedrl report {folder}")


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a benchmark.")],
) -> None:
    """Write a report of a benchmark: table, findings, what the agents chose, learning curves."""
    from schedrl.report.pages import write_report

    say(f"report: {write_report(folder, note)}")


def measure_and_show(
    parts: Sequence[Part],
    folder: Path | None,
    json_file: Path | None = None,
    *,
    force_bar: bool = False,
    executor: Executor | None = None,
) -> None:
    """Measure what is missing, print the tables, and leave results and manifests behind."""
    from schedrl.benchmark.families import FAMILIES
    from schedrl.benchmark.manifest import write_manifests
    from schedrl.benchmark.store import RESULTS
    from schedrl.benchmark.tasks import run_tasks
    from schedrl.files import ensure_folder
    from schedrl.report.pages import print_summary

    for text in (text for part in parts for text in part.notes):
        note(text)
    if folder is not None:
        ensure_folder(folder, "--folder")
    path = ensure_file(json_file, "--json") if json_file is not None else (folder or Path()) / RESULTS
    family, store = FAMILIES[parts[0].variant.family], _open_results(parts, path)
    if folder is not None:
        write_manifests(folder, parts, path)
    tasks = [task for part in parts for task in part.tasks]
    goes_on = f"finished runs are in {path}, and the same command goes on"
    with _working(sum(len(task.seeds) for task in tasks), "measuring", goes_on, force_bar) as listen:
        results = run_tasks(tasks, store, executor=executor, listen=listen)
    for place, part in enumerate(parts):
        if place:
            say("")
        summary = family.summarise(part.select(results), part.reference, part.notes)
        print_summary(family.name, summary, console())
    say(f"\nresults: {path}")


def _open_results(parts: Sequence[Part], path: Path) -> ResultStore[Result]:
    from schedrl.benchmark.families import FAMILIES
    from schedrl.benchmark.store import ResultStore

    store: ResultStore[Result] = ResultStore(path, FAMILIES[parts[0].variant.family].result)
    if store.note is not None:
        note(store.note)
    return store


def _executor(jobs: int | None, ray: bool, address: str | None, device: str) -> Executor | None:
    """What runs the tasks; None for this process."""
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
def _working(total: int, doing: str, goes_on: str, force_bar: bool) -> Iterator[Callable[[Step], None]]:
    """Progress of a benchmark; an interrupt says how to go on."""
    try:
        with ticker(total, doing, every=1, force_bar=force_bar) as tick:
            yield lambda step: tick(step.done, step.doing)
    except KeyboardInterrupt:
        note(f"interrupted; {goes_on}")
        raise typer.Exit(130) from None


def _options(
    env: str, agents: str | None, form: Literal["exact", "action", "both"] | None, reference: str | None
) -> Benchmark:
    """The benchmark that the options describe."""
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
        "forms": forms_of(form or "both"),
        "reference": reference,
    }
    return parse(Benchmark, fields, "--env")


def _searched(parts: Sequence[Part], folder: Path, force_bar: bool, executor: Executor | None) -> list[Part]:
    """Search before measuring; all that can be checked has been checked before that."""
    from schedrl.benchmark.searches import do_searches, search_tasks

    tasks = search_tasks(parts, folder)
    total = sum({task.folder: task.budget for own in tasks for task in own.values()}.values())
    with _working(total, "searching", "the same command goes on", force_bar) as listen:
        return do_searches(parts, tasks, executor=executor, listen=listen)


def forms_of(form: Literal["exact", "action", "both"]) -> tuple[Form, ...]:
    """The forms that an option asks for."""
    return ("exact", "action") if form == "both" else (form,)
