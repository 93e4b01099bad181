"""Searches over action sequences: they find, they keep to their budget, and a kill changes nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schedrl.benchmark.families import checked
from schedrl.benchmark.results import TrainingResult
from schedrl.benchmark.store import ResultStore
from schedrl.benchmark.tasks import FIRST_SEED, Part, run_tasks
from schedrl.environments.registration import training_variant
from schedrl.environments.training.env import TrainingVectorEnv
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import AgentFileError, SchedrlError
from schedrl.policies import find
from schedrl.policies.agents import SEARCH_SEEDS, SearchProgress, SequenceAgent, named_schedules
from schedrl.policies.policy import SchedulePolicy
from schedrl.policies.sequence_proposals import ALGORITHMS, SequenceSpace, static_sequences
from schedrl.policies.sequence_search import (
    PROGRESS,
    ppo_budget,
    search,
    search_spec,
)
from schedrl.schedules.conversions import FloatArray

KNOTS, KERNEL, DSC, CHOICE = (f"schedrl/Digits{kind}-v0" for kind in ("Knots", "Kernel", "DSC", "Choice"))
CONTINUOUS = SequenceSpace(steps=2, width=2, choices=None)
DISCRETE = SequenceSpace(steps=2, width=1, choices=5)


@pytest.fixture
def variant(tiny: dict[str, Any]) -> TrainingVariant:
    return training_variant(KNOTS, tiny)


def play(
    name: str,
    space: SequenceSpace,
    runs: int,
    worth: Callable[[FloatArray], FloatArray],
    noise: float = 0.0,
    **settings: Any,
) -> tuple[FloatArray, int]:
    """What a search finds where the worth of a sequence is known, and the runs that it took."""
    rng = np.random.default_rng(8)
    spec, rng_of_search = search_spec(name, **settings), np.random.default_rng(1)
    rounds = spec.proposals(space, runs, rng_of_search, lambda: [np.full(space.size, 0.25)])
    asked, spent = next(rounds), 0
    try:
        while True:
            spent += asked.runs
            own = noise * rng.standard_normal((asked.seeds, len(asked.candidates))).mean(axis=0)
            asked = rounds.send(worth(asked.candidates) + own + 100.0 * rng.standard_normal())
    except StopIteration as stop:
        return stop.value, spent


def bowl(rows: FloatArray) -> FloatArray:
    value: FloatArray = -np.square(rows - np.array([0.5, -0.5, 0.5, 0.0])).sum(axis=1)
    return value


@pytest.mark.parametrize("name", ["random", "tpe", "cma-es", "halving"])
def test_a_search_comes_near_a_known_optimum(name: str) -> None:
    # Rounds differ by a hundred times what candidates do, as returns of different seeds may.
    best, spent = play(name, CONTINUOUS, 512, bowl)
    # The reference is at -0.75. Halving pays for 64 candidates, the others for hundreds.
    assert bowl(best[None])[0] > (-0.3 if name == "halving" else -0.15)
    assert 500 < spent <= 512


def test_cma_es_converges() -> None:
    best, _ = play("cma-es", CONTINUOUS, 1500, bowl)
    assert best == pytest.approx([0.5, -0.5, 0.5, 0.0], abs=0.02)


def test_best_static_takes_the_better_of_reference_and_law() -> None:
    near, spent = play("best-static", CONTINUOUS, 64, lambda rows: -np.abs(rows - 0.2).sum(axis=1))
    assert near.tolist() == [0.25] * 4
    assert spent == 16
    far, _ = play("best-static", CONTINUOUS, 64, lambda rows: -np.abs(rows + 0.2).sum(axis=1))
    assert far.tolist() == [0.0] * 4


@pytest.mark.parametrize("name", ["random", "halving"])
def test_a_small_discrete_space_is_enumerated(name: str) -> None:
    wanted = np.array([3.0, 1.0])
    best, spent = play(name, DISCRETE, 200, lambda rows: -np.abs(rows - wanted).sum(axis=1))
    assert best.tolist() == wanted.tolist()
    assert spent <= 200


def test_tpe_chooses_discrete_actions() -> None:
    wanted = np.array([3.0, 1.0])
    best, _ = play("tpe", DISCRETE, 200, lambda rows: -np.abs(rows - wanted).sum(axis=1), startup=20)
    assert best.tolist() == wanted.tolist()


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
@pytest.mark.parametrize("runs", [2, 3, 4, 5, 7, 31, 33, 100, 257])
def test_no_budget_is_exceeded(name: str, runs: int) -> None:
    best, spent = play(name, CONTINUOUS, runs, bowl, noise=1.0)
    assert 2 <= spent <= runs
    assert best.shape == (4,)
    assert np.abs(best).max() <= 1.0


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_a_budget_too_small_is_refused(name: str) -> None:
    with pytest.raises(SchedrlError, match=rf"search '{name}': the budget must pay for 2 training runs"):
        play(name, CONTINUOUS, 1, bowl)


def test_cma_es_is_for_continuous_actions() -> None:
    with pytest.raises(SchedrlError, match="needs continuous actions"):
        play("cma-es", DISCRETE, 100, bowl)


@pytest.mark.parametrize(("name", "package"), [("tpe", "optuna"), ("cma-es", "cma")])
def test_a_missing_package_is_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SchedrlError, match=r"pip install 'schedrl\[search\]'"):
        play(name, CONTINUOUS, 100, bowl)


def test_numpy_global_generator_is_left_alone() -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    for name in ("tpe", "cma-es"):
        play(name, CONTINUOUS, 100, bowl)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]  # noqa: NPY002


def interrupt_after(rounds: int) -> Callable[[SearchProgress], None]:
    seen: list[SearchProgress] = []

    def listen(progress: SearchProgress) -> None:
        seen.append(progress)
        if len(seen) == rounds:
            raise KeyboardInterrupt

    return listen


@pytest.mark.parametrize("name", sorted(set(ALGORITHMS) - {"best-static"}))
def test_a_killed_search_ends_as_an_unbroken_one(
    name: str, variant: TrainingVariant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = search_spec(name, **({} if name == "halving" else {"population": 4}))
    whole = search(variant, spec, 41, 3, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        search(variant, spec, 41, 3, tmp_path / "cut", interrupt_after(2))
    assert not (tmp_path / "cut" / "sequence.json").exists()
    assert search(variant, spec, 41, 3, tmp_path / "cut") == whole
    for file in ("sequence.json", PROGRESS):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert search(variant, spec, 41, 4, tmp_path / "other").actions != whole.actions
    # A search that is done trains nothing more.
    monkeypatch.setattr(TrainingVectorEnv, "step", None)
    assert search(variant, spec, 41, 3, tmp_path / "whole") == whole
    assert whole.search_steps <= 41
    points = [json.loads(line) for line in (tmp_path / "whole" / PROGRESS).read_text().splitlines()]
    assert [point["optimizer_steps"] for point in points][-1] == whole.search_steps
    assert sorted(point["best"] for point in points) == [point["best"] for point in points]


def test_only_validation_images_and_fresh_seeds_that_are_not_held_out(
    variant: TrainingVariant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resets: list[list[int]] = []
    reset = TrainingVectorEnv.reset

    def watched(env: TrainingVectorEnv, *, seed: Any = None, options: Any = None) -> Any:
        assert env.variant.test_bound is None
        resets.append(list(seed))
        return reset(env, seed=seed, options=options)

    monkeypatch.setattr(TrainingVectorEnv, "reset", watched)
    agent = search(variant, search_spec("random", population=4), 40, 0, tmp_path)
    assert SEARCH_SEEDS == FIRST_SEED
    assert sum(map(len, resets)) * variant.optimizer_steps == agent.search_steps
    rounds = [set(seeds) for seeds in resets]
    assert all(0 <= seed < FIRST_SEED for seeds in rounds for seed in seeds)
    assert all(len(seeds) == 1 for seeds in rounds[:3])  # common random numbers
    assert len(set.union(*rounds)) == sum(map(len, rounds))  # new seeds every round
    assert agent.fingerprint == variant.fingerprint()


def test_what_is_found_beats_the_reference_where_the_reference_hardly_trains(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    # Nearly all of the reference's training noise is where the data are all but clean.
    poor = {"name": "uniform", "logsnr_max": 9.0, "logsnr_min": 8.0}
    changed = {**tiny, "action.reference": poor, "action.scale": 8.0, "episode.steps_per_phase": 20}
    changed["training.optimizer.learning_rate"] = 0.01
    variant = training_variant(KNOTS, changed)
    agent = search(variant, search_spec("random", population=16, spread=0.6), 20 * 64, 0, tmp_path)
    policies = [agent.policy(variant), SchedulePolicy(variant.action.reference, variant)]  # type: ignore[union-attr]
    from schedrl.benchmark.evaluation import evaluate

    found, reference = ([run.bound for run in evaluate(policy, variant, range(8))] for policy in policies)
    assert np.mean(found) < np.mean(reference)


@pytest.mark.parametrize("env_id", [KNOTS, KERNEL, DSC, CHOICE])
def test_a_static_sequence_does_what_the_schedule_does(env_id: str, tiny: dict[str, Any]) -> None:
    variant = training_variant(env_id, {**tiny, "episode.phases": 2})
    laws = named_schedules()
    fitting = [law for law in laws if static_sequences(variant, [law])]
    assert fitting
    from schedrl.benchmark.evaluation import evaluate

    for law in fitting[:3]:
        (row,) = static_sequences(variant, [law])
        agent = sequence(variant, row)
        (open_loop,) = evaluate(agent.policy(variant), variant, [5])
        (closed,) = evaluate(SchedulePolicy(law, variant), variant, [5])
        assert open_loop.episode_return == pytest.approx(closed.episode_return, abs=1e-4)


def sequence(variant: TrainingVariant, row: FloatArray, **changes: Any) -> SequenceAgent:
    fields: dict[str, Any] = {
        "name": "mine",
        "env_id": variant.id,
        "fingerprint": variant.fingerprint(),
        "actions": np.reshape(row, (variant.episode_steps, -1)).tolist(),
        "search": {"name": "random"},
        "seed": 0,
        "search_steps": 12,
    }
    return SequenceAgent(**{**fields, **changes})


def test_every_episode_begins_at_the_first_action(tiny: dict[str, Any]) -> None:
    variant = training_variant(KERNEL, {**tiny, "action.knots": 4, "action.num_train_timesteps": 40})
    policy = sequence(variant, np.array([0.1, 0.2, 0.3, 0.4])).policy(variant)
    seen, state = np.zeros((2, len(variant.observation_names))), None
    starts = [[True, True], [False, False], [False, True], [False, False]]
    taken = []
    for start in starts:
        actions, state = policy.predict(seen, state=state, episode_start=np.array(start))
        taken.append(actions[:, 0].tolist())
    assert np.array(taken) == pytest.approx(np.array([[0.1, 0.1], [0.2, 0.2], [0.3, 0.1], [0.4, 0.2]]))


def test_a_sequence_is_measured_like_any_agent(variant: TrainingVariant, tmp_path: Path) -> None:
    agent = search(variant, search_spec("halving"), 20, 0, tmp_path / "found")
    loaded = find(str(tmp_path / "found"), variant.id)
    assert loaded == agent == find(str(tmp_path / "found" / "sequence.json"), variant.id)
    part = checked(Part(variant, {"mine": loaded}, (FIRST_SEED,)))
    (result,) = run_tasks(part.tasks, ResultStore(tmp_path / "results.jsonl", TrainingResult))
    assert (result.kind, result.form, result.search_steps) == ("sequence", "action", agent.search_steps)
    with pytest.raises(SchedrlError, match="seed 7 is not held out"):
        checked(Part(variant, {"mine": loaded}, (FIRST_SEED, 7), ("action",)))


def test_a_sequence_that_does_not_fit_is_refused(variant: TrainingVariant) -> None:
    bins = 10
    with pytest.raises(SchedrlError, match="has 2 actions, and an episode"):
        sequence(variant, np.zeros(bins), actions=[[0.0] * bins] * 2).policy(variant)
    with pytest.raises(SchedrlError, match="has 10 numbers"):
        sequence(variant, np.zeros(3)).policy(variant)
    with pytest.raises(SchedrlError, match="outside of the actions"):
        sequence(variant, np.full(bins, 1.5)).policy(variant)


def test_bad_input_is_named(variant: TrainingVariant, tmp_path: Path) -> None:
    with pytest.raises(SchedrlError, match="unknown search 'cma'; did you mean 'cma-es'"):
        search_spec("cma")
    with pytest.raises(SchedrlError, match="population"):
        search_spec("random", population=1)
    with pytest.raises(SchedrlError, match="budget 'cosine': must be a number"):
        ppo_budget(variant, "cosine")
    assert ppo_budget(variant) > 1000
    search(variant, search_spec("halving"), 20, 0, tmp_path)
    with pytest.raises(SchedrlError, match="holds another search: other budget"):
        search(variant, search_spec("halving"), 22, 0, tmp_path)
    (tmp_path / "search.json").write_text("{")
    with pytest.raises(AgentFileError, match="is not JSON"):
        search(variant, search_spec("halving"), 20, 0, tmp_path)
    (tmp_path / "sequence.json").write_text("[]")
    with pytest.raises(SchedrlError, match="agent file"):
        find(str(tmp_path), variant.id)
