"""Searching a training environment for one open-loop sequence of actions, at a stated cost, and resumed exactly."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from schedrl import data
from schedrl.environments.training.env import TrainingVectorEnv
from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import AgentFileError, MissingDataError, SchedrlError, Spec, parse, unknown_name
from schedrl.files import dump_json, ensure_folder, write_text
from schedrl.policies.agents import (
    SEARCH_SEEDS,
    SEQUENCE,
    SearchPoint,
    SequenceAgent,
    TrainedAgent,
    find,
    named_schedules,
)
from schedrl.policies.sequence_proposals import Proposals, Round, SequenceSpace, proposals, static_sequences
from schedrl.policies.sequence_specs import (
    AnySequenceSearch,
    BestStaticSearch,
    CMAESSequenceSearch,
    HalvingSequenceSearch,
    RandomSequenceSearch,
    SequenceSearchSpec,
    TPESequenceSearch,
)
from schedrl.schedules.conversions import FloatArray

__all__ = ["ALGORITHMS", "PROGRESS", "SearchProgress", "check_search", "ppo_budget", "search", "search_spec"]

STATE, PROGRESS = "search.json", "progress.jsonl"

_MAX_RUNS = 64
"""Most runs trained side by side; bounds memory."""

ALGORITHMS: dict[str, type[SequenceSearchSpec]] = {
    "random": RandomSequenceSearch,
    "tpe": TPESequenceSearch,
    "cma-es": CMAESSequenceSearch,
    "halving": HalvingSequenceSearch,
    "best-static": BestStaticSearch,
}
"""Every search by its name."""


@dataclass(frozen=True)
class SearchProgress:
    """Where a search stands after a round.

    Attributes:
        optimizer_steps: Spent.
        budget: That may be spent.
        best: What the best candidate so far returned more than the reference did.
    """

    optimizer_steps: int
    budget: int
    best: float


Listener = Callable[[SearchProgress], None]


class _Request(Spec):
    """What is searched for; a folder is gone on with only if all of this is the same.

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


def search_spec(algo: str, **settings: Any) -> SequenceSearchSpec:
    """A search by name, some of its settings changed.

    Raises:
        SchedrlError: There is no such search or setting.
    """
    if algo not in ALGORITHMS:
        raise unknown_name("search", algo, ALGORITHMS)
    return parse(ALGORITHMS[algo], {"name": algo, **settings}, f"search '{algo}'")


def ppo_budget(variant: TrainingVariant, agent: str = "ppo") -> int:
    """Optimizer steps that a policy's training spent.

    Args:
        variant: The environment.
        agent: The policy: ``ppo`` for the shipped one, or a folder.

    Raises:
        SchedrlError: There is no such policy.
    """
    trained = find(agent, variant.id)
    if not isinstance(trained, TrainedAgent):
        raise SchedrlError(f"budget '{agent}': must be a number, ppo, or the folder of a trained policy")
    from schedrl.policies.agent_files import read_description  # loads torch

    return read_description(Path(trained.path)).optimizer_steps


def search(
    variant: TrainingVariant,
    spec: SequenceSearchSpec,
    budget: int,
    seed: int,
    folder: Path,
    listen: Listener | None = None,
    *,
    device: str = "cpu",
) -> SequenceAgent:
    """Search, or go on with the same search where a kill left it; either way the result is the same.

    A candidate is worth its return in the environment, measured on validation images: what PPO learns from. Test
    images are not looked at. The seeds of all runs are below :data:`SEARCH_SEEDS`, and none is used twice.

    Args:
        variant: The environment.
        spec: The search.
        budget: Optimizer steps that it may spend, over all its training runs; a run that diverges counts whole.
        seed: Fixes everything random.
        folder: Where state, course (``progress.jsonl``) and result (``sequence.json``) go.
        listen: Called after every round.
        device: Torch device of the networks.

    Returns:
        What it found.

    Raises:
        SchedrlError: Data is missing, the budget is too small, the search cannot act there, or the folder holds
            another search.
    """
    rounds = _begin(variant, spec, budget, seed)
    request = _Request(variant=variant.fingerprint(), spec=spec, budget=budget, seed=seed)
    state = _read_state(folder, request)
    ensure_folder(folder, "output folder")
    runs = budget // variant.optimizer_steps
    seeds = np.random.default_rng([seed, 1]).choice(SEARCH_SEEDS, size=runs, replace=False)
    trial = _Trial(variant, SequenceSpace.of(variant), device)
    return _Session(request, state, folder, listen).run(variant, rounds, seeds, trial)


def check_search(variant: TrainingVariant, spec: SequenceSearchSpec, budget: int) -> None:
    """Check that a search can be done, before any work.

    Raises:
        SchedrlError: As :func:`search`, but for its folder.
    """
    _begin(variant, spec, budget, 0)


def _begin(variant: TrainingVariant, spec: SequenceSearchSpec, budget: int, seed: int) -> Proposals:
    if (problem := data.missing(variant.data)) is not None:
        raise MissingDataError(problem)
    runs = budget // variant.optimizer_steps
    if runs > SEARCH_SEEDS:
        raise SchedrlError(f"budget: at most {SEARCH_SEEDS} training runs (got {runs})")
    static = static_sequences(variant, named_schedules()) if isinstance(spec, BestStaticSearch) else []
    return proposals(spec, SequenceSpace.of(variant), runs, np.random.default_rng([seed, 0]), static)


class _Session:
    """One process's part of a search."""

    def __init__(self, request: _Request, state: _State, folder: Path, listen: Listener | None) -> None:
        self.request, self.state, self.folder = request, state, folder
        self.listen = listen or (lambda _: None)
        self.history: list[SearchPoint] = []

    def run(
        self, variant: TrainingVariant, rounds: Proposals, seeds: NDArray[np.int64], trial: _Trial
    ) -> SequenceAgent:
        """Replay what was done, and do the rest."""
        began, earlier = time.perf_counter(), self.state.seconds
        spent, drawn, number = 0, 0, 0
        found: FloatArray = np.zeros(trial.space.size)
        try:
            asked = next(rounds)
            while True:
                # A candidate's runs all have their own seed, and every candidate has the same.
                shared = seeds[drawn : drawn + asked.seeds]
                drawn, spent = drawn + asked.seeds, spent + asked.runs * variant.optimizer_steps
                assert spent <= self.request.budget
                done = number < len(self.state.scores)
                values = (
                    np.array(self.state.scores[number]) if done else trial.returns(asked.candidates, shared)
                )
                if len(values) != len(asked.candidates):
                    raise AgentFileError(f"{self.folder}: {STATE} does not belong to this search; remove it")
                self._note(asked, values, spent)
                number += 1
                if not done:
                    seconds = earlier + time.perf_counter() - began
                    self._save(values, round(seconds, 3))
                    self.listen(SearchProgress(spent, self.request.budget, self.history[-1].best))
                asked = rounds.send(values)
        except StopIteration as stop:
            found = stop.value
        finally:
            trial.close()
        agent = SequenceAgent(
            name=f"search-{self.request.spec.name}",
            description=f"open-loop actions found by {self.request.spec.name} in {variant.id}",
            env_id=variant.id,
            fingerprint=variant.fingerprint(),
            actions=tuple(tuple(row) for row in found.reshape(trial.space.steps, -1).tolist()),
            search=self.request.spec,
            seed=self.request.seed,
            search_steps=spent,
            history=tuple(self.history),
        )
        write_text(self.folder / SEQUENCE, dump_json(agent.model_dump(mode="json")))
        return agent

    def _note(self, asked: Round, values: FloatArray, spent: int) -> None:
        # Returns of different seeds differ by more than those of different actions; the reference takes that out.
        zero = np.flatnonzero((asked.candidates == 0.0).all(axis=1))
        base = float(values[zero[0]]) if len(zero) else float(values.mean())
        best = max(float(values.max()) - base, *(point.best for point in self.history[-1:]), 0.0)
        self.history.append(SearchPoint(optimizer_steps=spent, best=best))

    def _save(self, values: FloatArray, seconds: float) -> None:
        scores = (*self.state.scores, tuple(values.tolist()))
        self.state = self.state.model_copy(update={"scores": scores, "seconds": seconds})
        # The curve follows from the state, so it is written whole, and first: what a kill leaves is overwritten.
        lines = "".join(f"{json.dumps(point.model_dump())}\n" for point in self.history)
        write_text(self.folder / PROGRESS, lines)
        write_text(self.folder / STATE, dump_json(self.state.model_dump(mode="json")))


class _Trial:
    """Trains candidates side by side, in populations of any size."""

    def __init__(self, variant: TrainingVariant, space: SequenceSpace, device: str) -> None:
        self.space, self._device = space, device
        self._variant = variant.model_copy(update={"test_bound": None})
        self._envs: dict[int, TrainingVectorEnv] = {}

    def returns(self, candidates: FloatArray, seeds: NDArray[np.int64]) -> FloatArray:
        """Mean returns ``[count]`` of sequences ``[count, size]`` over seeds."""
        rows = np.repeat(candidates, len(seeds), axis=0)
        all_seeds = np.tile(seeds, len(candidates)).tolist()
        earned = np.concatenate(
            [
                self._episodes(rows[begin : begin + _MAX_RUNS], all_seeds[begin : begin + _MAX_RUNS])
                for begin in range(0, len(rows), _MAX_RUNS)
            ]
        )
        mean: FloatArray = earned.reshape(len(candidates), len(seeds)).mean(axis=1)
        return mean

    def close(self) -> None:
        """Let the environments go."""
        for env in self._envs.values():
            env.close()

    def _episodes(self, rows: FloatArray, seeds: list[int]) -> FloatArray:
        count = len(rows)
        if count not in self._envs:
            self.close()
            self._envs = {
                count: TrainingVectorEnv(count, variant=self._variant, device=self._device)
            }  # one at a time: networks of all runs are kept
        env = self._envs[count]
        env.reset(seed=seeds)
        shape = (count, self.space.steps, *(env.single_action_space.shape or ()))
        actions = rows.reshape(shape).astype(env.single_action_space.dtype)
        earned, running = np.zeros(count), np.ones(count, dtype=np.bool_)
        for step in range(self.space.steps):
            _, reward, ended, _, _ = env.step(actions[:, step])
            earned += np.where(running, reward, 0.0)
            # A run that diverged goes on with another episode, which does not count.
            running &= ~ended
            if not running.any():
                break
        return earned


def _read_state(folder: Path, request: _Request) -> _State:
    """The folder's search, if it holds this one."""
    path = folder / STATE
    try:
        state = TypeAdapter(_State).validate_json(path.read_bytes())
    except FileNotFoundError:
        return _State(request=request)
    except (OSError, ValidationError) as error:
        raise AgentFileError(f"{path}: is damaged: {' '.join(str(error).split())[:160]}") from None
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
