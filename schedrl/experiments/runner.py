"""Runs an experiment in its folder. Whatever the folder's files hold is not done again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from schedrl import data, schedules
from schedrl.benchmark.store import LineT, ResultStore, read_results
from schedrl.benchmark.tasks import held_out_seeds
from schedrl.diffusion.population import Population
from schedrl.errors import SchedrlError
from schedrl.experiments.experiment import Experiment, ExperimentRow
from schedrl.experiments.records import ExperimentRun, ExperimentSetting, RateTrial, StepTimings
from schedrl.experiments.row_runs import RowRuns
from schedrl.experiments.row_training import FixedDriver, check_samples, sample_fields, surrogate_fields
from schedrl.files import dump_json, ensure_folder, locked_folder, read_model, write_text
from schedrl.provenance import hardware, software

RUNS, TRIALS, TIMINGS = "runs.jsonl", "trials.jsonl", "timings.json"

FIRST_TRIAL_SEED = 2_000_000
"""Seeds of trials count up from here, far from the held-out seeds."""

_TIMING_ROUNDS, _TIMED_STEPS = 25, 5


@dataclass(frozen=True)
class ExperimentResults:
    """An experiment and the content of its files.

    Attributes:
        experiment: The experiment.
        trials: Trials of learning rates. An agent that was trained again makes another row, so its old lines can stay.
        runs: Runs on held-out seeds, likewise.
        timings: Timings of an optimizer step of every row, where the experiment has them and is finished.
    """

    experiment: Experiment
    trials: Sequence[RateTrial]
    runs: Sequence[ExperimentRun]
    timings: StepTimings | None = None

    def rate_of(self, place: int, tuned: bool) -> float | None:
        """The fixed learning rate of a row, or that of its best trial (the smallest of equally good ones)."""
        setting, key = self.experiment.setting, self.experiment.keys[place]
        if not tuned:
            return setting.learning_rate if setting.rates else None
        own = {trial.rate: trial for trial in self.trials if trial.key[:3] == key}
        if not own.keys() >= set(setting.rates):
            raise SchedrlError(
                f"experiment: trials of row '{key[0]}' are missing; run the same `schedrl experiment` again"
            )
        return min(setting.rates, key=lambda rate: (own[rate].bound, rate))

    def table(self) -> list[RowRuns]:
        """The runs by row, in the order of the experiment: all at the fixed learning rate, then all at the tuned one.

        Raises:
            SchedrlError: Runs are missing.
        """
        experiment, places = self.experiment, range(len(self.experiment.rows))
        return [self._runs_of(place, tuned) for tuned in experiment.setting.passes for place in places]

    def _runs_of(self, place: int, tuned: bool) -> RowRuns:
        experiment, key = self.experiment, self.experiment.keys[place]
        wanted = (*key, tuned, self.rate_of(place, tuned))
        found = {run.seed: run for run in self.runs if run.key[:5] == wanted}
        seconds = self.timings.step_seconds.get(key[0]) if self.timings is not None else None
        missing = sum(seed not in found for seed in experiment.seeds)
        if missing or (experiment.timed and seconds is None):
            raise SchedrlError(
                f"experiment: {missing} runs of row '{key[0]}'{'' if missing else ' or its timing'} are missing; "
                "run the same `schedrl experiment` again"
            )
        return RowRuns(key[0], tuple(found[seed] for seed in experiment.seeds), tuned, seconds or 0.0)


def lay_out(
    paper: type[Experiment], setting: ExperimentSetting, rows: Sequence[ExperimentRow], num_seeds: int,
    device: str = "cpu", options: Sequence[str] = (),
) -> Experiment:  # fmt: skip
    """Lay an experiment out and check, before any training, everything that can be checked.

    The ``options`` are those of the command line, for the report.

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
    """Do what is missing in a folder, and return the results with notes for the user.

    After every piece of work, also one that was found done, ``listen`` is called with the optimizer steps of the
    experiment so far and a description.

    Raises:
        SchedrlError: The folder cannot be written or holds another experiment.
    """
    ensure_folder(folder, "experiment folder")
    with locked_folder(folder):
        experiment = experiment.claim(folder)
        setting, done = experiment.setting, 0
        runs = ResultStore(folder / RUNS, ExperimentRun)
        trials = ResultStore(folder / TRIALS, RateTrial) if setting.rates else None
        for place, row in enumerate(experiment.rows):
            if trials is not None:
                for rate in setting.rates:
                    _try_rate(experiment, place, rate, trials)
                    done += setting.trial_seeds * setting.steps
                    listen(done, f"{row.name}, trying rate {rate:g}")
            found = ExperimentResults(experiment, trials.results if trials is not None else (), ())
            for tuned in setting.passes:
                used = found.rate_of(place, tuned)
                _run_seeds(experiment, place, used, tuned, runs)
                done += len(experiment.seeds) * setting.steps
                listen(done, row.name if used is None else f"{row.name}, rate {used:g}")
        if experiment.timed:
            _time_rows(experiment, folder)
        notes = [store.note for store in (trials, runs) if store is not None and store.note is not None]
    return load_experiment(type(experiment), folder), notes


def load_experiment(paper: type[Experiment], folder: Path) -> ExperimentResults:
    """Read an experiment's folder without changing it."""
    trials, runs = _lines(folder / TRIALS, RateTrial), _lines(folder / RUNS, ExperimentRun)
    return ExperimentResults(paper.read(folder), trials, runs, _read_timings(folder))


def _lines(path: Path, model: type[LineT]) -> list[LineT]:
    return read_results(path, model) if os.path.exists(path) else []


def _try_rate(experiment: Experiment, place: int, rate: float, store: ResultStore[RateTrial]) -> None:
    setting, row, (name, identity, hashed) = (
        experiment.setting,
        experiment.rows[place],
        experiment.keys[place],
    )
    if (name, identity, hashed, rate) in store:
        return
    seeds = range(FIRST_TRIAL_SEED, FIRST_TRIAL_SEED + setting.trial_seeds)
    trained = row.train(setting, seeds, rate, tested=False, device=experiment.device)
    trial = RateTrial(
        row=name, row_fingerprint=identity, setting=hashed, rate=rate,
        bound=float(trained.bounds[-1].mean()), diverged=int(trained.lost.sum()),
        runs=setting.trial_seeds, optimizer_steps=setting.trial_seeds * setting.steps,
    )  # fmt: skip
    store.append([trial])


def _run_seeds(
    experiment: Experiment, place: int, rate: float | None, tuned: bool, store: ResultStore[ExperimentRun]
) -> None:
    """Train and measure the runs of a row that the store lacks, all of them together."""
    setting, row, (name, identity, hashed) = (
        experiment.setting,
        experiment.rows[place],
        experiment.keys[place],
    )
    seeds = [seed for seed in experiment.seeds if (name, identity, hashed, tuned, rate, seed) not in store]
    if not seeds:
        return
    trained = row.train(setting, seeds, rate, device=experiment.device)
    samples = sample_fields(trained, setting, seeds)
    surrogates = surrogate_fields(trained, setting.variant)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    store.append(
        ExperimentRun(
            row=name, row_fingerprint=identity, setting=hashed, tuned=tuned, rate=rate, seed=seed,
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
    return read_model(path, StepTimings, "timings") if os.path.exists(path) else None


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
        drivers[row.name] = FixedDriver(cosine, population, variant.timesteps)
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
