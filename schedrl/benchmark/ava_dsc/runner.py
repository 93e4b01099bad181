"""The experiment from trials to held-out runs, kept as it goes: what is in the files is not done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from schedrl.benchmark.ava_dsc.quality import sampled_quality
from schedrl.benchmark.ava_dsc.records import Run, Trial
from schedrl.benchmark.ava_dsc.rows import Row, Setting
from schedrl.benchmark.ava_dsc.training import Trained, train_row
from schedrl.benchmark.protocol import hardware, held_out_seeds, software
from schedrl.benchmark.store import ResultStore
from schedrl.environments.base import content_hash
from schedrl.errors import SchedrlError
from schedrl.files import dump_json, ensure_folder, write_text
from schedrl.policies.agents import TrainedAgent, find

__all__ = ["Experiment", "Plan", "Progress", "load_experiment", "make_plan", "run_experiment"]

RUNS, TRIALS, PLAN = "runs.jsonl", "trials.jsonl", "experiment.json"

FIRST_TRIAL_SEED = 2_000_000
"""Seeds of trials count up from here, far from the held-out ones."""


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Attributes:
        setting: On what.
        rows: What.
        seeds: Held-out seeds.
        device: Where.
    """

    setting: Setting
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    device: str = "cpu"

    @property
    def optimizer_steps(self) -> int:
        """What all of it takes: every row is tried at every rate, then run at the fixed and at its best rate."""
        each = self.setting.trial_seeds * len(self.setting.rates) + 2 * len(self.seeds)
        return each * self.setting.steps * len(self.rows)


@dataclass(frozen=True)
class Progress:
    """Where an experiment stands.

    Attributes:
        done: Optimizer steps taken or found in the files.
        total: Of the whole.
        doing: What is at work.
    """

    done: int
    total: int
    doing: str


@dataclass(frozen=True)
class Experiment:
    """An experiment's folder, read.

    Attributes:
        plan: What was compared.
        trials: Learning rates that were tried.
        runs: Held-out runs.
    """

    plan: Plan
    trials: tuple[Trial, ...]
    runs: tuple[Run, ...]


def make_plan(
    setting: Setting, rows: Sequence[Row], num_seeds: int, first_seed: int | None = None, device: str = "cpu"
) -> Plan:
    """Lay an experiment out, its agents found before any work.

    Raises:
        SchedrlError: An agent is not there, or there are no seeds.
    """
    for row in rows:
        _identity(row, setting)
    seeds = held_out_seeds(num_seeds) if first_seed is None else held_out_seeds(num_seeds, first_seed)
    return Plan(setting, tuple(rows), tuple(seeds), device)


def run_experiment(
    plan: Plan, folder: Path, listen: Callable[[Progress], None] | None = None
) -> tuple[Experiment, list[str]]:
    """Do what is missing in a folder.

    Args:
        plan: What to do.
        folder: Where its files are or will be.
        listen: Told after every piece of work.

    Returns:
        The experiment, and notes for people.

    Raises:
        SchedrlError: The folder cannot be written or holds another experiment.
    """
    ensure_folder(folder, "experiment folder")
    trials = ResultStore(folder / TRIALS, Trial)
    runs = ResultStore(folder / RUNS, Run)
    _claim(folder, plan)
    tell = listen or (lambda _: None)
    taken = 0

    def advance(steps: int, doing: str) -> None:
        nonlocal taken
        taken += steps
        tell(Progress(taken, plan.optimizer_steps, doing))

    for row in plan.rows:
        for rate in plan.setting.rates:
            _try(plan, row, rate, trials)
            advance(plan.setting.trial_seeds * plan.setting.steps, f"{row.name}, trying rate {rate:g}")
        best = best_rate(trials.results, row, plan.setting)
        for tuned, rate in ((False, plan.setting.fixed_rate), (True, best)):
            _run(plan, row, rate, tuned, runs)
            advance(len(plan.seeds) * plan.setting.steps, f"{row.name}, rate {rate:g}")
    notes = [note for note in (trials.note, runs.note) if note is not None]
    return load_experiment(folder), notes


def load_experiment(folder: Path) -> Experiment:
    """Read an experiment's folder.

    Raises:
        SchedrlError: It holds none, or its files are damaged.
    """
    path = folder / PLAN
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        plan = Plan(
            Setting.model_validate(content["setting"]),
            tuple(Row.model_validate(row) for row in content["rows"]),
            tuple(content["seeds"]),
            content["device"],
        )
    except FileNotFoundError:
        raise SchedrlError(
            f"experiment folder {folder}: has no {PLAN}; `schedrl experiment` writes it"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, ValidationError, SchedrlError) as error:
        raise SchedrlError(f"{path}: not an experiment: {error}") from None
    wanted = {(row.name, row.fingerprint) for row in plan.rows}
    hashed = plan.setting.fingerprint
    trials, runs = ResultStore(folder / TRIALS, Trial), ResultStore(folder / RUNS, Run)
    names = {name for name, _ in wanted}
    return Experiment(
        plan,
        tuple(trial for trial in trials.results if trial.setting == hashed and trial.row in names),
        tuple(r for r in runs.results if r.setting == hashed and r.row in names and r.seed in plan.seeds),
    )


def best_rate(trials: Sequence[Trial], row: Row, setting: Setting) -> float:
    """The learning rate of a row's best trial; of equal ones, the smallest."""
    own = [
        t
        for t in trials
        if t.row == row.name and t.setting == setting.fingerprint and t.rate in setting.rates
    ]
    return min(own, key=lambda trial: (trial.bound, trial.rate)).rate


def _claim(folder: Path, plan: Plan) -> None:
    """Say whose folder it is; more rows or seeds of the same setting may come in later."""
    path = folder / PLAN
    if path.exists():
        before = load_experiment(folder).plan
        if before.setting.fingerprint != plan.setting.fingerprint:
            raise SchedrlError(
                f"experiment folder {folder}: holds one in another setting; choose another folder (-f)"
            )
    content = {
        "setting": plan.setting.model_dump(mode="json"),
        "rows": [row.model_dump(mode="json") for row in plan.rows],
        "seeds": list(plan.seeds),
        "device": plan.device,
    }
    write_text(path, dump_json(content))


def _try(plan: Plan, row: Row, rate: float, store: ResultStore[Trial]) -> None:
    setting, (identity, _) = plan.setting, _identity(row, plan.setting)
    if (row.name, identity, setting.fingerprint, rate) in store:
        return
    seeds = range(FIRST_TRIAL_SEED, FIRST_TRIAL_SEED + setting.trial_seeds)
    trained = train_row(row, setting, rate, list(seeds), measured=False, device=plan.device)
    store.append([
        Trial(
            row=row.name, row_fingerprint=identity, setting=setting.fingerprint, rate=rate,
            bound=float(trained.bounds[-1].mean()), diverged=int((trained.diverged_at >= 0).sum()),
            runs=setting.trial_seeds, optimizer_steps=setting.trial_seeds * setting.steps,
        )
    ])  # fmt: skip


def _run(plan: Plan, row: Row, rate: float, tuned: bool, store: ResultStore[Run]) -> None:
    setting, (identity, search) = plan.setting, _identity(row, plan.setting)
    missing = [
        seed
        for seed in plan.seeds
        if (row.name, identity, setting.fingerprint, tuned, rate, seed) not in store
    ]
    if not missing:
        return
    trained = train_row(row, setting, rate, missing, device=plan.device)
    distances, per_second = sampled_quality(trained, setting, missing)
    search += setting.trial_seeds * setting.steps * len(setting.rates) if tuned else 0
    store.append(
        _line(plan, row, identity, rate, tuned, trained, place, seed, distances[place], per_second, search)
        for place, seed in enumerate(missing)
    )


def _identity(row: Row, setting: Setting) -> tuple[str, int]:
    """Hash of what acts in a row, and the optimizer steps that finding it cost."""
    if row.agent is None:
        return row.fingerprint, 0
    agent = find(row.agent, setting.variant.id)
    if not isinstance(agent, TrainedAgent):
        raise SchedrlError(f"row '{row.name}': agent '{row.agent}' is not a trained one")
    from schedrl.policies.agent_files import WEIGHTS, read_description

    description = read_description(Path(agent.path))
    weights = hashlib.sha256((Path(agent.path) / WEIGHTS).read_bytes()).hexdigest()
    return content_hash([row.fingerprint, weights]), description.optimizer_steps


def _line(
    plan: Plan, row: Row, identity: str, rate: float, tuned: bool, trained: Trained, place: int, seed: int,
    distance: float | None, sampled_per_second: float | None, search: int,
) -> Run:  # fmt: skip
    setting, lost = plan.setting, int(trained.diverged_at[place])
    images = setting.steps * setting.variant.training.batch_size * len(trained.diverged_at)
    return Run(
        row=row.name, row_fingerprint=identity, setting=setting.fingerprint, tuned=tuned, rate=rate, seed=seed,
        steps=trained.steps, bounds=tuple(trained.bounds[:, place].tolist()),
        test_bound=float(trained.test_bounds[place]), frechet=distance, extractor=setting.extractor,
        samples=setting.samples, diverged_at=None if lost < 0 else lost, traces=trained.traces[place],
        train_images_per_second=images / trained.train_seconds, sampled_images_per_second=sampled_per_second,
        search_steps=search, versions=software(), hardware=hardware(plan.device),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
