"""Runs an experiment in its folder. Whatever the folder's files hold is not done again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import numpy as np

from schedrl import data, schedules
from schedrl.benchmark.store import LineT, ResultStore, read_results
from schedrl.benchmark.tasks import held_out_seeds
from schedrl.diffusion.population import Population
from schedrl.errors import SchedrlError
from schedrl.experiments.experiment import Experiment, ExperimentRow
from schedrl.experiments.records import ExperimentRun, ExperimentSetting, RateTrial, StepTimings
from schedrl.experiments.row_runs import RowRuns
from schedrl.experiments.row_training import check_samples, fixed_driver, sample_fields, surrogate_fields
from schedrl.files import dump_json, ensure_folder, read_model, write_text
from schedrl.provenance import hardware, software

__all__ = ["RUNS", "TIMINGS", "TRIALS", "ExperimentResults", "load_experiment", "run_experiment"]

RUNS, TRIALS, TIMINGS = "runs.jsonl", "trials.jsonl", "timings.json"

FIRST_TRIAL_SEED = 2_000_000
"""Seeds of trials count up from here, far from the held-out seeds."""

_TIMING_ROUNDS, _TIMED_STEPS = 25, 5


@dataclass(frozen=True)
class ExperimentResults:
    """An experiment and the content of its files.

    Attributes:
        experiment: The experiment.
        trials: Trials of learning rates.
        runs: Runs on held-out seeds.
        timings: Timings of an optimizer step of every row, where the experiment has them and is finished.
    """

    experiment: Experiment
    trials: tuple[RateTrial, ...]
    runs: tuple[ExperimentRun, ...]
    timings: StepTimings | None = None

    @classmethod
    def selected(
        cls, experiment: Experiment, trials: Sequence[RateTrial], runs: Sequence[ExperimentRun],
        timings: StepTimings | None = None,
    ) -> Self:  # fmt: skip
        """The results that belong to the experiment's setting and rows."""
        members, setting = experiment.members, experiment.setting.fingerprint
        return cls(
            experiment,
            tuple(t for t in trials if t.setting == setting and (t.row, t.row_fingerprint) in members),
            tuple(r for r in runs if r.setting == setting and (r.row, r.row_fingerprint) in members),
            timings,
        )  # fmt: skip

    def rate_of(self, row: str, tuned: bool) -> float | None:
        """The fixed learning rate, or that of the row's best trial (the smallest of equally good ones)."""
        rates = self.experiment.setting.rates
        if not tuned:
            return self.experiment.setting.fixed_rate
        own = [trial for trial in self.trials if trial.row == row and trial.rate in rates]
        if len(own) < len(rates):
            raise SchedrlError(
                f"experiment: trials of row '{row}' are missing; the same `schedrl experiment` goes on"
            )
        return min(own, key=lambda trial: (trial.bound, trial.rate)).rate

    def table(self) -> list[RowRuns]:
        """The runs by row, in the order of the experiment: all at the fixed learning rate, then all at the tuned one.

        Raises:
            SchedrlError: Runs are missing.
        """
        return [
            self._runs_of(row.name, tuned)
            for tuned in passes(self.experiment)
            for row in self.experiment.rows
        ]

    def _runs_of(self, row: str, tuned: bool) -> RowRuns:
        rate, seeds = self.rate_of(row, tuned), self.experiment.seeds
        found = {r.seed: r for r in self.runs if (r.row, r.tuned, r.rate) == (row, tuned, rate)}
        seconds = self.timings.step_seconds.get(row) if self.timings is not None else None
        missing = sum(seed not in found for seed in seeds)
        if missing or (self.experiment.timed and seconds is None):
            raise SchedrlError(
                f"experiment: {missing} runs of row '{row}'{' or its timing' if not missing else ''} are missing; "
                "the same `schedrl experiment` goes on"
            )
        return RowRuns(row, tuple(found[seed] for seed in seeds), tuned, seconds or 0.0)


def passes(experiment: Experiment) -> tuple[bool, ...]:
    """Whether the learning rate is tuned, for each set of runs."""
    return (False, True) if experiment.setting.rates else (False,)


def lay_out(
    paper: type[Experiment], setting: ExperimentSetting, rows: Sequence[ExperimentRow], num_seeds: int,
    device: str = "cpu", options: Sequence[str] = (),
) -> Experiment:  # fmt: skip
    """Lay an experiment out and check, before any training, everything that can be checked.

    Args:
        paper: The paper's experiment.
        setting: The setting.
        rows: The rows to compare.
        num_seeds: Number of held-out seeds.
        device: Torch device.
        options: Options of the command line, for the report.

    Raises:
        SchedrlError: An agent is missing, does not fit or was trained from a held-out seed; the feature network does
            not fit the images; or the samples are too few.
    """
    seeds = tuple(held_out_seeds(num_seeds))
    check_samples(setting)
    found = [row.identity(setting, seeds) for row in rows]
    identities, costs = (tuple(side) for side in zip(*found, strict=True))
    return paper(
        setting=setting, rows=tuple(rows), identities=identities, search_steps=costs, seeds=seeds,
        device=device, options=tuple(options),
    )  # fmt: skip


def run_experiment(
    experiment: Experiment, folder: Path, listen: Callable[[int, str], None] = lambda *_: None
) -> tuple[ExperimentResults, list[str]]:
    """Do what is missing in a folder.

    Args:
        experiment: The experiment.
        folder: Folder of its files.
        listen: Called after every piece of work, also one that was found done, with the optimizer steps of the
            experiment so far and a description.

    Returns:
        The results, and notes for the user.

    Raises:
        SchedrlError: The folder cannot be written or holds another experiment.
    """
    ensure_folder(folder, "experiment folder")
    experiment = experiment.claim(folder)
    setting, done = experiment.setting, 0
    runs = ResultStore(folder / RUNS, ExperimentRun)
    trials = ResultStore(folder / TRIALS, RateTrial) if setting.rates else None
    for place, row in enumerate(experiment.rows):
        for rate in setting.rates:
            assert trials is not None
            _try_rate(experiment, place, rate, trials)
            done += setting.trial_seeds * setting.steps
            listen(done, f"{row.name}, trying rate {rate:g}")
        found = ExperimentResults.selected(experiment, trials.results if trials is not None else (), ())
        for tuned in passes(experiment):
            rate_used = found.rate_of(row.name, tuned)
            _run_seeds(experiment, place, rate_used, tuned, runs)
            done += len(experiment.seeds) * setting.steps
            listen(done, row.name if rate_used is None else f"{row.name}, rate {rate_used:g}")
    if experiment.timed:
        _time_rows(experiment, folder)
    notes = [store.note for store in (trials, runs) if store is not None and store.note is not None]
    return load_experiment(type(experiment), folder), notes


def load_experiment(paper: type[Experiment], folder: Path) -> ExperimentResults:
    """Read an experiment's folder without changing it."""
    return ExperimentResults.selected(
        paper.read(folder),
        _lines(folder / TRIALS, RateTrial),
        _lines(folder / RUNS, ExperimentRun),
        _read_timings(folder),
    )


def _lines(path: Path, model: type[LineT]) -> list[LineT]:
    return read_results(path, model) if path.exists() else []


def _try_rate(experiment: Experiment, place: int, rate: float, store: ResultStore[RateTrial]) -> None:
    setting, row, identity = experiment.setting, experiment.rows[place], experiment.identities[place]
    if (row.name, identity, setting.fingerprint, rate) in store:
        return
    seeds = range(FIRST_TRIAL_SEED, FIRST_TRIAL_SEED + setting.trial_seeds)
    trained = row.train(setting, seeds, rate, tested=False, device=experiment.device)
    trial = RateTrial(
        row=row.name, row_fingerprint=identity, setting=setting.fingerprint, rate=rate,
        bound=float(trained.bounds[-1].mean()), diverged=int(trained.lost.sum()),
        runs=setting.trial_seeds, optimizer_steps=setting.trial_seeds * setting.steps,
    )  # fmt: skip
    store.append([trial])


def _run_seeds(
    experiment: Experiment, place: int, rate: float | None, tuned: bool, store: ResultStore[ExperimentRun]
) -> None:
    """Train and measure the runs of a row that the store lacks, all of them together."""
    setting, row = experiment.setting, experiment.rows[place]
    identity, hashed = experiment.identities[place], setting.fingerprint
    seeds = [
        seed for seed in experiment.seeds if (row.name, identity, hashed, tuned, rate, seed) not in store
    ]
    if not seeds:
        return
    trained = row.train(setting, seeds, rate, device=experiment.device)
    samples = sample_fields(trained, setting, seeds)
    surrogates = surrogate_fields(trained, setting.variant)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    store.append(
        ExperimentRun(
            row=row.name, row_fingerprint=identity, setting=hashed, tuned=tuned, rate=rate, seed=seed,
            steps=trained.steps, bounds=tuple(trained.bounds[:, run].tolist()),
            test_bound=float(trained.test_bounds[run]),
            extractor=setting.extractor, samples=setting.samples,
            diverged_at=int(trained.diverged_at[run]) if trained.lost[run] else None, traces=trained.traces[run],
            parameters=trained.population.num_parameters, step_flops=trained.population.flops(),
            step_seconds=trained.step_seconds / len(seeds),
            train_images_per_second=setting.variant.training.batch_size * len(seeds) / trained.step_seconds,
            search_steps=experiment.search_steps[place] + (setting.trial_steps if tuned else 0),
            versions=software(), hardware=hardware(experiment.device), created=now, **samples[run], **surrogates[run],
        )
        for run, seed in enumerate(seeds)
    )  # fmt: skip


def _read_timings(folder: Path) -> StepTimings | None:
    path = folder / TIMINGS
    return read_model(path, StepTimings, "timings") if path.exists() else None


def _time_rows(experiment: Experiment, folder: Path) -> None:
    """Time an optimizer step of every row, if a row lacks it: only times measured together can be compared."""
    setting, seeds, found = experiment.setting, experiment.seeds, _read_timings(folder)
    names = {row.name for row in experiment.rows}
    if found is not None and found.setting == setting.fingerprint and names <= found.step_seconds.keys():
        return
    cosine = schedules.get("cosine")  # no schedule makes a step longer
    drivers = {}
    for row in experiment.rows:
        variant = row.variant(setting)
        population = Population(
            variant.training, data.load(variant.data).train, len(seeds), experiment.device
        )
        for run, seed in enumerate(seeds):
            population.start(run, seed)
        drivers[row.name] = fixed_driver(cosine, population, variant.timesteps)
        drivers[row.name].train(2)
    times: dict[str, list[float]] = {name: [] for name in drivers}
    for _ in range(_TIMING_ROUNDS):
        for name, driver in drivers.items():
            began = time.perf_counter()
            driver.train(_TIMED_STEPS)
            times[name].append((time.perf_counter() - began) / _TIMED_STEPS / len(seeds))
    timings = StepTimings(
        setting=setting.fingerprint,
        step_seconds={name: float(np.median(each)) for name, each in times.items()},
        spread={name: (min(each), max(each)) for name, each in times.items()},
        rounds=_TIMING_ROUNDS,
        hardware=hardware(experiment.device),
    )
    write_text(folder / TIMINGS, dump_json(timings.model_dump(mode="json")))
