"""The experiment from trials to held-out runs, kept as it goes: what is in the files is not done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from schedrl.benchmark.store import ResultStore, read_results
from schedrl.benchmark.tasks import held_out_seeds
from schedrl.errors import SchedrlError
from schedrl.experiments.ava_dsc.records import Run, Trial
from schedrl.experiments.ava_dsc.rows import Row, Setting
from schedrl.experiments.ava_dsc.training import train_row
from schedrl.experiments.plan import (
    ExperimentPlan,
    Progress,
    claim_folder,
    read_plan,
    sorted_out,
    trained_identity,
)
from schedrl.experiments.quality import check_quality, sampled_quality
from schedrl.experiments.watch import Trained
from schedrl.files import ensure_folder
from schedrl.policies.agents import AVADSCAgent, TrainedAgent, find
from schedrl.provenance import content_hash, hardware, software

__all__ = ["Experiment", "Plan", "available", "load_experiment", "make_plan", "run_experiment"]

RUNS, TRIALS = "runs.jsonl", "trials.jsonl"

FIRST_TRIAL_SEED = 2_000_000
"""Seeds of trials count up from here, far from the held-out ones."""


class Plan(ExperimentPlan[Setting, Row]):
    """What is compared."""

    @property
    def optimizer_steps(self) -> int:
        """What all of it takes: every row is tried at every rate, then run at the fixed and at its best rate."""
        each = self.setting.trial_seeds * len(self.setting.rates) + 2 * len(self.seeds)
        return each * self.setting.steps * len(self.rows)


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

    def rate_of(self, name: str) -> float:
        """The learning rate of a row's best trial; of equal ones, the smallest.

        Raises:
            SchedrlError: It has not been tried at every rate.
        """
        own = [trial for trial in self.trials if trial.row == name and trial.rate in self.plan.setting.rates]
        if len(own) < len(self.plan.setting.rates):
            raise SchedrlError(
                f"experiment: trials of row '{name}' are missing; the same `schedrl experiment` goes on"
            )
        return min(own, key=lambda trial: (trial.bound, trial.rate)).rate


def make_plan(
    setting: Setting,
    rows: Sequence[Row],
    num_seeds: int,
    device: str = "cpu",
    options: Sequence[str] = (),
) -> Plan:
    """Lay an experiment out, and check before any work what can be checked.

    Args:
        setting: On what.
        rows: What.
        num_seeds: Held-out seeds.
        device: Where.
        options: Of the command line, for the report.

    Raises:
        SchedrlError: An agent is not there, does not fit, or was trained from a held-out seed; the feature network
            does not fit the images, or there are too few of them.
    """
    seeds = tuple(held_out_seeds(num_seeds))
    check_quality(setting.variant, setting.extractor, setting.samples)
    found = [_identity(row, setting, seeds) for row in rows]
    identities, costs = (tuple(side) for side in zip(*found, strict=True))
    return Plan(
        setting=setting, rows=tuple(rows), identities=identities, search_steps=costs, seeds=seeds,
        device=device, options=tuple(options),
    )  # fmt: skip


def available(rows: Sequence[Row], setting: Setting) -> tuple[list[Row], list[str]]:
    """The rows whose agents there are, and notes on the others."""
    return sorted_out(rows, lambda row: _identity(row, setting, ()))


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
    plan = claim_folder(folder, plan)
    trials = ResultStore(folder / TRIALS, Trial)
    runs = ResultStore(folder / RUNS, Run)
    tell = listen or (lambda _: None)
    taken = 0

    def advance(steps: int, doing: str) -> None:
        nonlocal taken
        taken += steps
        tell(Progress(taken, plan.optimizer_steps, doing))

    for place, row in enumerate(plan.rows):
        for rate in plan.setting.rates:
            _try(plan, place, rate, trials)
            advance(plan.setting.trial_seeds * plan.setting.steps, f"{row.name}, trying rate {rate:g}")
        best = _selected(plan, trials.results, []).rate_of(row.name)
        for tuned, rate in ((False, plan.setting.fixed_rate), (True, best)):
            _run(plan, place, rate, tuned, runs)
            advance(len(plan.seeds) * plan.setting.steps, f"{row.name}, rate {rate:g}")
    notes = [note for note in (trials.note, runs.note) if note is not None]
    return load_experiment(folder), notes


def load_experiment(folder: Path) -> Experiment:
    """Read an experiment's folder, which is left as it is.

    Raises:
        SchedrlError: It holds none, or its files are damaged.
    """
    plan = read_plan(folder, Plan)
    trials, runs = (
        read_results(folder / name, model) if (folder / name).exists() else []
        for name, model in ((TRIALS, Trial), (RUNS, Run))
    )
    return _selected(plan, trials, runs)  # type: ignore[arg-type]


def _selected(plan: Plan, trials: Sequence[Trial], runs: Sequence[Run]) -> Experiment:
    """What belongs to a plan: an agent that was trained again is another one."""
    wanted = {(row.name, key) for row, key in zip(plan.rows, plan.identities, strict=True)}
    hashed = plan.setting.fingerprint
    return Experiment(
        plan,
        tuple(t for t in trials if t.setting == hashed and (t.row, t.row_fingerprint) in wanted),
        tuple(
            r for r in runs
            if r.setting == hashed and (r.row, r.row_fingerprint) in wanted and r.seed in plan.seeds
        ),
    )  # fmt: skip


def _try(plan: Plan, place: int, rate: float, store: ResultStore[Trial]) -> None:
    setting, row, identity = plan.setting, plan.rows[place], plan.identities[place]
    if (row.name, identity, setting.fingerprint, rate) in store:
        return
    seeds = range(FIRST_TRIAL_SEED, FIRST_TRIAL_SEED + setting.trial_seeds)
    trained = train_row(row, setting, rate, list(seeds), tested=False, device=plan.device)
    trial = Trial(
        row=row.name, row_fingerprint=identity, setting=setting.fingerprint, rate=rate,
        bound=float(trained.bounds[-1].mean()), diverged=int((trained.diverged_at >= 0).sum()),
        runs=setting.trial_seeds, optimizer_steps=setting.trial_seeds * setting.steps,
    )  # fmt: skip
    store.append([trial])


def _run(plan: Plan, place: int, rate: float, tuned: bool, store: ResultStore[Run]) -> None:
    setting, row, identity = plan.setting, plan.rows[place], plan.identities[place]
    missing = [
        seed
        for seed in plan.seeds
        if (row.name, identity, setting.fingerprint, tuned, rate, seed) not in store
    ]
    if not missing:
        return
    trained = train_row(row, setting, rate, missing, device=plan.device)
    distances, per_second = sampled_quality(
        trained, setting.variant, setting.extractor, setting.samples, setting.sampler_steps, missing
    )
    search = plan.search_steps[place]
    search += setting.trial_seeds * setting.steps * len(setting.rates) if tuned else 0
    store.append(
        _line(plan, row, identity, rate, tuned, trained, run, seed, distances[run], per_second, search)
        for run, seed in enumerate(missing)
    )


def _identity(row: Row, setting: Setting, seeds: Sequence[int]) -> tuple[str, int]:
    """Hash of what acts in a row, and the optimizer steps that finding it cost."""
    if row.agent is None:
        return row.fingerprint, 0
    agent = find(row.agent, setting.variant.id)
    agent.policy(setting.variant)  # complains if it cannot act there
    if isinstance(agent, AVADSCAgent):
        definition = agent.model_dump(mode="json", exclude={"description"})
        return content_hash([row.fingerprint, definition]), agent.search_steps
    if not isinstance(agent, TrainedAgent):
        raise SchedrlError(f"row '{row.name}': agent '{row.agent}' sets no constants of AVA and DSC")
    weights, cost = trained_identity(agent, row.agent, seeds)
    return content_hash([row.fingerprint, weights]), cost


def _line(
    plan: Plan, row: Row, identity: str, rate: float, tuned: bool, trained: Trained, place: int, seed: int,
    distance: float | None, sampled_per_second: float | None, search: int,
) -> Run:  # fmt: skip
    setting, lost = plan.setting, int(trained.diverged_at[place])
    images = setting.variant.training.batch_size * len(trained.diverged_at)
    return Run(
        row=row.name, row_fingerprint=identity, setting=setting.fingerprint, tuned=tuned, rate=rate, seed=seed,
        steps=trained.steps, bounds=tuple(trained.bounds[:, place].tolist()),
        test_bound=float(trained.test_bounds[place]), frechet=distance, extractor=setting.extractor,
        samples=setting.samples, diverged_at=None if lost < 0 else lost, traces=trained.traces[place],
        train_images_per_second=images / trained.step_seconds, sampled_images_per_second=sampled_per_second,
        search_steps=search, versions=software(), hardware=hardware(plan.device),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
