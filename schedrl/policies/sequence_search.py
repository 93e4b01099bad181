"""Searching a training environment for one open-loop sequence of actions, at a stated cost, and resumed exactly."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schedrl import data
from schedrl.environments.training.env import TrainingVectorEnv
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import AgentFileError, SchedrlError, Spec, parse, unknown_name
from schedrl.files import dump_json, ensure_folder, locked_folder, read_model, write_text
from schedrl.policies.agents import (
    SEARCH_SEEDS,
    SEQUENCE,
    SearchProgress,
    SequenceAgent,
    find,
    named_schedules,
)
from schedrl.policies.sequence_proposals import (
    ALGORITHMS,
    AnySequenceSearch,
    Proposals,
    SequenceSearch,
    SequenceSpace,
    static_sequences,
)
from schedrl.schedules.conversions import FloatArray

STATE, PROGRESS = "search.json", "progress.jsonl"

_MAX_RUNS = 64
"""Most runs trained side by side; bounds memory."""


class _Request(Spec):
    """What is searched for; a folder's search continues only if all of this is the same.

    Attributes:
        variant: Fingerprint of the environment.
        spec: The search.
        budget: Optimizer steps.
        seed: Of the search.
    """

    variant: str
    spec: AnySequenceSearch
    budget: int
    seed: int


class _State(Spec):
    """Contents of ``search.json``.

    Attributes:
        format: Version of the layout.
        request: What was asked for.
        scores: Mean returns of every round's candidates so far.
        seconds: Wall-clock time so far.
    """

    format: Literal[1] = 1
    request: _Request
    scores: tuple[tuple[float, ...], ...] = ()
    seconds: Annotated[float, Field(ge=0.0)] = 0.0


def search_spec(algo: str, **settings: Any) -> SequenceSearch:
    """A search by name, some of its settings changed."""
    if algo not in ALGORITHMS:
        raise unknown_name("search", algo, ALGORITHMS)
    return parse(ALGORITHMS[algo], {"name": algo, **settings}, f"search '{algo}'")


def ppo_budget(variant: TrainingVariant, agent: str = "ppo") -> int:
    """Optimizer steps that a policy's training spent.

    Args:
        variant: The environment.
        agent: ``ppo`` for the shipped policy, or a trained agent's folder.
    """
    trained = find(agent, variant.id)
    if trained.role != "learned":
        raise SchedrlError(f"budget '{agent}': must be a number, ppo, or the folder of a trained policy")
    return trained.search_cost


def search(
    variant: TrainingVariant,
    spec: SequenceSearch,
    budget: int,
    seed: int,
    folder: Path,
    listen: Callable[[SearchProgress], None] | None = None,
    *,
    device: str = "cpu",
) -> SequenceAgent:
    """Search, or continue the same search where a kill left it; either way the result is the same.

    A candidate's score is its return in the environment, measured on validation images, as for PPO. Test images are
    not used. The seeds of all runs are below :data:`SEARCH_SEEDS`, and none is used twice.

    Args:
        variant: The environment.
        spec: The search.
        budget: Optimizer steps that it may spend, over all its training runs; a run that diverges counts whole.
        seed: Fixes everything random.
        folder: Where state, course (``progress.jsonl``) and result (``sequence.json``) go.
        listen: Called after every round.
        device: Torch device of the networks.

    Raises:
        SchedrlError: Data is missing, the budget is too small, the search cannot act there, or the folder holds
            another search.
    """
    rounds = check_search(variant, spec, budget, seed)
    asked_for = {"variant": variant.fingerprint(), "spec": spec, "budget": budget, "seed": seed}
    request = _Request.model_validate(asked_for)
    _read_state(folder, request)  # raises before the folder is made
    ensure_folder(folder, "output folder")
    runs = budget // variant.optimizer_steps
    seeds = np.random.default_rng([seed, 1]).choice(SEARCH_SEEDS, size=runs, replace=False)
    trial = _Trial(variant, SequenceSpace.of(variant), device)
    began = time.perf_counter()
    history: list[SearchProgress] = []
    spent = drawn = 0
    found: FloatArray = np.zeros(trial.space.size)
    with locked_folder(folder), closing(trial):
        state = _read_state(folder, request)
        earlier = state.seconds
        try:
            asked = next(rounds)
            for number in count():
                # A candidate's runs all have their own seed, and every candidate has the same.
                shared = seeds[drawn : drawn + asked.seeds]
                drawn, spent = drawn + asked.seeds, spent + asked.runs * variant.optimizer_steps
                assert spent <= budget
                done = number < len(state.scores)
                values = np.array(state.scores[number]) if done else trial.returns(asked.candidates, shared)
                if len(values) != len(asked.candidates):
                    raise AgentFileError(f"{folder}: {STATE} does not belong to this search; remove it")
                best = max(_gain(asked.candidates, values), *(point.best for point in history[-1:]), 0.0)
                history.append(SearchProgress(optimizer_steps=spent, best=best))
                if not done:
                    seconds = round(earlier + time.perf_counter() - began, 3)
                    scores = (*state.scores, tuple(values.tolist()))
                    state = state.model_copy(update={"scores": scores, "seconds": seconds})
                    # The course follows from the state. Whole, and first: a kill leaves only what is overwritten.
                    lines = "".join(f"{json.dumps(point.model_dump())}\n" for point in history)
                    write_text(folder / PROGRESS, lines)
                    write_text(folder / STATE, dump_json(state.model_dump(mode="json")))
                    if listen is not None:
                        listen(history[-1])
                asked = rounds.send(values)
        except StopIteration as stop:
            found = stop.value
    agent = SequenceAgent(
        name=f"search-{spec.name}",
        description=f"open-loop actions found by {spec.name} in {variant.id}",
        env_id=variant.id,
        fingerprint=variant.fingerprint(),
        actions=tuple(tuple(row) for row in found.reshape(trial.space.steps, -1).tolist()),
        search=state.request.spec,
        seed=seed,
        search_steps=spent,
        history=tuple(history),
    )
    write_text(folder / SEQUENCE, dump_json(agent.model_dump(mode="json")))
    return agent


def check_search(variant: TrainingVariant, spec: SequenceSearch, budget: int, seed: int = 0) -> Proposals:
    """Check that a search can be done, before any work; its rounds."""
    data.ensure(variant.data)
    runs = budget // variant.optimizer_steps
    if runs > SEARCH_SEEDS:
        raise SchedrlError(f"budget: at most {SEARCH_SEEDS} training runs (got {runs})")
    rng = np.random.default_rng([seed, 0])
    return spec.proposals(
        SequenceSpace.of(variant), runs, rng, lambda: static_sequences(variant, named_schedules())
    )


def _gain(candidates: FloatArray, values: FloatArray) -> float:
    """The best return minus the reference's: returns of different seeds differ by more than those of actions."""
    zero = np.flatnonzero((candidates == 0.0).all(axis=1))
    return float(values.max()) - float(values[zero[0]] if len(zero) else values.mean())


class _Trial:
    """Trains candidates side by side, in populations of any size."""

    def __init__(self, variant: TrainingVariant, space: SequenceSpace, device: str) -> None:
        self.space, self._device = space, device
        self._variant = variant.model_copy(update={"test_bound": None})
        self._env: TrainingVectorEnv | None = None

    def returns(self, candidates: FloatArray, seeds: NDArray[np.int64]) -> FloatArray:
        """Mean returns ``[count]`` of sequences ``[count, size]`` over seeds."""
        rows = np.repeat(candidates, len(seeds), axis=0)
        all_seeds = np.tile(seeds, len(candidates)).tolist()
        parts = [slice(begin, begin + _MAX_RUNS) for begin in range(0, len(rows), _MAX_RUNS)]
        earned = np.concatenate([self._episodes(rows[part], all_seeds[part]) for part in parts])
        mean: FloatArray = earned.reshape(len(candidates), len(seeds)).mean(axis=1)
        return mean

    def close(self) -> None:
        if self._env is not None:
            self._env.close()

    def _episodes(self, rows: FloatArray, seeds: list[int]) -> FloatArray:
        size = len(rows)
        if (
            self._env is None or self._env.num_envs != size
        ):  # one at a time: it keeps the networks of all runs
            self.close()
            self._env = TrainingVectorEnv(size, variant=self._variant, device=self._device)
        env = self._env
        env.reset(seed=seeds)
        shape = (size, self.space.steps, *(env.single_action_space.shape or ()))
        actions = rows.reshape(shape).astype(env.single_action_space.dtype)
        earned, running = np.zeros(size), np.ones(size, dtype=np.bool_)
        for step in range(self.space.steps):
            _, reward, ended, _, _ = env.step(actions[:, step])
            earned += np.where(running, reward, 0.0)
            # A run that diverged continues with another episode, which does not count.
            running &= ~ended
            if not running.any():
                break
        return earned


def _read_state(folder: Path, request: _Request) -> _State:
    """The state of the folder's search, if it holds this one."""
    path = folder / STATE
    if not os.path.exists(path):
        return _State(request=request)
    state = read_model(path, _State, "search state", error=AgentFileError)
    if state.request != request:
        changed = [
            name
            for name in type(request).model_fields
            if getattr(state.request, name) != getattr(request, name)
        ]
        raise SchedrlError(
            f"folder {folder}: holds another search: other {', '.join(changed)}; give another folder"
        )
    return state
