"""The experiment, kept as it goes: what is in the file is not done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch

from schedrl import data
from schedrl.benchmark.store import ResultStore, read_results
from schedrl.benchmark.tasks import held_out_seeds
from schedrl.diffusion.prediction import SurrogateError, surrogate_error
from schedrl.environments.training.variant import TrainingVariant
from schedrl.experiments.akod.records import Run
from schedrl.experiments.akod.rows import DATA, Row, Setting
from schedrl.experiments.akod.timing import Timings, read_timings, time_rows
from schedrl.experiments.drivers import AgentDriver, Driver, FixedDriver, started
from schedrl.experiments.plan import (
    ExperimentPlan,
    Progress,
    claim_folder,
    read_plan,
    sorted_out,
    trained_identity,
)
from schedrl.experiments.quality import check_quality, sampled_quality
from schedrl.experiments.watch import Trained, Watch
from schedrl.files import ensure_folder
from schedrl.policies.agents import TrainedAgent, find
from schedrl.provenance import content_hash, hardware, software

__all__ = ["Experiment", "Plan", "available", "load_experiment", "make_plan", "run_experiment", "train_row"]

RUNS = "runs.jsonl"

_SURROGATE_IMAGES = 64
"""Test images that the surrogate's error is measured on."""

_SURROGATE_SEED = 13


class Plan(ExperimentPlan[Setting, Row]):
    """What is compared."""

    @property
    def optimizer_steps(self) -> int:
        """Of all rows."""
        return len(self.rows) * len(self.seeds) * self.setting.steps


@dataclass(frozen=True)
class Experiment:
    """An experiment's folder, read.

    Attributes:
        plan: What was compared.
        runs: Held-out runs.
        timings: Of all rows' steps in turns; absent before the end.
    """

    plan: Plan
    runs: tuple[Run, ...]
    timings: Timings | None


def make_plan(
    setting: Setting, rows: Sequence[Row], num_seeds: int, device: str = "cpu", options: Sequence[str] = ()
) -> Plan:
    """Lay an experiment out, and check before any work what can be checked.

    Args:
        setting: On what.
        rows: What.
        num_seeds: Held-out seeds.
        device: Where.
        options: Of the command line, for the report.

    Raises:
        SchedrlError: A kernel is not there, does not fit, or was trained from a held-out seed; the feature network
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
    """The rows whose kernels there are, and notes on the others."""
    return sorted_out(rows, lambda row: _identity(row, setting, ()))


def run_experiment(
    plan: Plan, folder: Path, listen: Callable[[Progress], None] | None = None
) -> tuple[Experiment, list[str]]:
    """Do what is missing in a folder.

    Args:
        plan: What to do.
        folder: Where its files are or will be.
        listen: Told after every row.

    Returns:
        The experiment, and notes for people.

    Raises:
        SchedrlError: The folder cannot be written or holds another experiment.
    """
    ensure_folder(folder, "experiment folder")
    plan = claim_folder(folder, plan)
    store = ResultStore(folder / RUNS, Run)
    for place, row in enumerate(plan.rows):
        _run(plan, place, store)
        if listen is not None:
            each = len(plan.seeds) * plan.setting.steps
            listen(Progress((place + 1) * each, plan.optimizer_steps, row.name))
    time_rows(folder, plan.setting, plan.rows, plan.seeds, plan.device)
    return load_experiment(folder), [] if store.note is None else [store.note]


def load_experiment(folder: Path) -> Experiment:
    """Read an experiment's folder, which is left as it is.

    Raises:
        SchedrlError: It holds none, or its files are damaged.
    """
    plan = read_plan(folder, Plan)
    path = folder / RUNS
    runs = read_results(path, Run) if path.exists() else []
    wanted = {(row.name, key) for row, key in zip(plan.rows, plan.identities, strict=True)}
    hashed = plan.setting.fingerprint
    return Experiment(
        plan,
        tuple(
            run for run in runs
            if run.setting == hashed and (run.row, run.row_fingerprint) in wanted and run.seed in plan.seeds
        ),
        read_timings(folder),
    )  # fmt: skip


def train_row(row: Row, setting: Setting, seeds: Sequence[int], device: str = "cpu") -> Trained:
    """Train one run per seed."""
    variant = _variant(row, setting)
    driver: Driver
    if row.schedule is not None:
        population = started(variant, variant.training, seeds, device)
        driver = FixedDriver(row.schedule, population, variant.timesteps)
    else:
        driver = AgentDriver("ppo", _kernel_env(row, setting), variant, seeds, device)
    watch = Watch(variant, driver.population, device)
    watch.follow(driver, setting.steps, setting.measure_every)
    return watch.finish(tested=True)


def _variant(row: Row, setting: Setting) -> TrainingVariant:
    """The setting's environment with the row's network and optimizer."""
    return setting.variant.model_copy(update={"training": setting.training(row)})


def _kernel_env(row: Row, setting: Setting) -> str:
    whole, alone = DATA[setting.data]
    return whole if row.kernel == "akod" else alone


def _identity(row: Row, setting: Setting, seeds: Sequence[int]) -> tuple[str, int]:
    """Hash of what acts in a row, and the optimizer steps that finding it cost."""
    if row.kernel is None:
        return row.fingerprint, 0
    agent = find("ppo", _kernel_env(row, setting))
    agent.policy(_variant(row, setting))  # complains if it cannot act there
    assert isinstance(agent, TrainedAgent)
    weights, cost = trained_identity(agent, agent.name, seeds)
    return content_hash([row.fingerprint, weights]), cost


def _run(plan: Plan, place: int, store: ResultStore[Run]) -> None:
    setting, row, identity = plan.setting, plan.rows[place], plan.identities[place]
    missing = [seed for seed in plan.seeds if (row.name, identity, setting.fingerprint, seed) not in store]
    if not missing:
        return
    trained = train_row(row, setting, missing, plan.device)
    distances = {
        way.label: sampled_quality(
            trained, setting.variant, setting.extractor, setting.samples, way.steps, missing, way.sampler
        )[0]
        for way in setting.samplings
    }
    errors, levels = surrogates(trained, setting)
    store.append(
        _line(
            plan,
            place,
            trained,
            run,
            seed,
            {label: each[run] for label, each in distances.items()},
            errors,
            levels,
        )
        for run, seed in enumerate(missing)
    )


def surrogates(trained: Trained, setting: Setting) -> tuple[SurrogateError | None, tuple[float, ...]]:
    """Errors of what samplers have for F(t−1), at every other level of the bound; None without MSFI."""
    population, variant = trained.population, setting.variant
    msfi = population.spec.network.msfi
    if msfi is None:
        return None, ()
    x0 = torch.from_numpy(np.array(data.load(variant.data).test[:_SURROGATE_IMAGES])).to(population.device)
    rng = np.random.default_rng(_SURROGATE_SEED)
    noise = torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32)).to(population.device)
    levels = tuple(variant.bound.grid[::2].tolist())
    found = []
    for run in range(population.num_runs):  # one by one: PyTorch's last digit depends on how many there are
        rows = slice(run, run + 1)
        told = partial(population.log_beta_at, rows=rows) if population.spec.network.modulation else None
        network = population.averaged_network(rows)
        at = torch.tensor(levels)
        found.append(surrogate_error(network, population.spec, x0, noise, at, msfi.gap[0], told))
    surrogate, still = (
        torch.cat([getattr(each, name) for each in found]) for name in ("surrogate", "standing_still")
    )
    return SurrogateError(surrogate, still), levels


def _line(
    plan: Plan, place: int, trained: Trained, run: int, seed: int, frechet: dict[str, float | None],
    errors: SurrogateError | None, levels: tuple[float, ...],
) -> Run:  # fmt: skip
    setting, row, lost = plan.setting, plan.rows[place], int(trained.diverged_at[run])
    usable = errors is not None and lost < 0
    return Run(
        row=row.name, row_fingerprint=plan.identities[place], setting=setting.fingerprint, seed=seed,
        steps=trained.steps, bounds=tuple(trained.bounds[:, run].tolist()),
        test_bound=float(trained.test_bounds[run]), frechet=frechet, extractor=setting.extractor,
        samples=setting.samples, diverged_at=None if lost < 0 else lost,
        parameters=trained.population.num_parameters, step_flops=trained.population.flops(),
        step_seconds=trained.step_seconds / len(trained.diverged_at),
        surrogate_error=tuple(errors.surrogate[run].tolist()) if usable and errors else (),
        standing_still=tuple(errors.standing_still[run].tolist()) if usable and errors else (),
        surrogate_levels=levels if usable else (), search_steps=plan.search_steps[place],
        versions=software(), hardware=hardware(plan.device),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
