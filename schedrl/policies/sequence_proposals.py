"""How searches over action sequences propose: generators that yield rounds and are sent scores.

Nothing here trains: a generator is a function of its random numbers and of the scores alone, so a search that was
killed is replayed from the scores it has, and goes on as if nothing had happened.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError
from schedrl.policies.sequence_specs import (
    BestStaticSearch,
    CMAESSequenceSearch,
    HalvingSequenceSearch,
    RandomSequenceSearch,
    SequenceSearchSpec,
    TPESequenceSearch,
)
from schedrl.schedules import Schedule
from schedrl.schedules.conversions import FloatArray

__all__ = ["Proposals", "Round", "SequenceSpace", "proposals", "static_sequences"]


@dataclass(frozen=True)
class SequenceSpace:
    """Sequences of actions, as rows of numbers.

    Attributes:
        steps: Environment steps in an episode.
        width: Numbers in an action.
        choices: Number of choices where actions are discrete, else None.
    """

    steps: int
    width: int
    choices: int | None

    @classmethod
    def of(cls, variant: TrainingVariant) -> SequenceSpace:
        """That of an environment."""
        space = variant.action_space()
        if isinstance(space, gym.spaces.Discrete):
            return cls(variant.episode_steps, 1, int(space.n))
        return cls(variant.episode_steps, int(np.prod(space.shape)), None)

    @property
    def size(self) -> int:
        """Numbers in a sequence."""
        return self.steps * self.width

    def draw(self, rng: np.random.Generator, count: int, spread: float) -> FloatArray:
        """Sequences ``[count, size]`` around the reference, or any of discrete ones."""
        if self.choices is not None:
            return rng.integers(self.choices, size=(count, self.size)).astype(np.float64)
        drawn: FloatArray = np.clip(spread * rng.standard_normal((count, self.size)), -1.0, 1.0)
        return drawn

    def all(self, most: int) -> FloatArray | None:
        """Every sequence of a discrete space ``[count, size]``, if there are at most so many."""
        if self.choices is None or self.size * math.log(self.choices) > math.log(max(most, 1)) + 1e-9:
            return None
        return np.array(list(itertools.product(range(self.choices), repeat=self.size)), dtype=np.float64)


@dataclass(frozen=True)
class Round:
    """Candidates to be tried.

    Attributes:
        candidates: Sequences ``[count, size]``.
        seeds: Number of new seeds, each of which all candidates are tried on.
    """

    candidates: FloatArray
    seeds: int

    @property
    def runs(self) -> int:
        """Training runs that it costs."""
        return len(self.candidates) * self.seeds


Proposals = Generator[Round, FloatArray, FloatArray]
"""Yields rounds, is sent their mean returns ``[count]``, and returns the sequence that was found."""


def proposals(
    spec: SequenceSearchSpec,
    space: SequenceSpace,
    runs: int,
    rng: np.random.Generator,
    static: Sequence[FloatArray],
) -> Proposals:
    """Begin a search.

    Args:
        spec: Which, and its settings.
        space: What is searched.
        runs: Training runs that it may spend.
        rng: All that is random comes from here.
        static: Hand-made schedules as sequences, for ``best-static``.

    Raises:
        SchedrlError: The search is not for this space, a package is missing, or the budget is too small.
    """
    # Before the generators: those begin only when they are asked.
    _needs(spec.name, runs, 2, "the reference and a candidate")
    match spec:
        case BestStaticSearch():
            made = _distinct(np.stack([np.zeros(space.size), *static]))
            _needs(spec.name, runs, len(made), "one run of each schedule")
            return _all_of(made, min(spec.seeds, runs // len(made)))
        case HalvingSequenceSearch():
            return _halving(spec, space, runs, rng)
        case RandomSequenceSearch():
            every = space.all(runs)
            if every is not None:
                return _all_of(every, runs // len(every))
            return _rounds(spec, space, runs, lambda count, _: space.draw(rng, count, spec.spread))
        case TPESequenceSearch():
            return _rounds(spec, space, runs, _tpe(spec, space, rng))
        case CMAESSequenceSearch():
            if space.choices is not None:
                raise SchedrlError("search 'cma-es': needs continuous actions; use random, tpe or halving")
            return _rounds(spec, space, runs, _CMA(spec, space, rng))


def static_sequences(variant: TrainingVariant, laws: Sequence[Schedule]) -> list[FloatArray]:
    """Hand-made schedules as open-loop sequences; those that the actions cannot express are left out.

    Args:
        variant: The environment.
        laws: The schedules.
    """
    action, limits = variant.action, (variant.bound.logsnr_max, variant.bound.logsnr_min)
    made = []
    for law in laws:
        memory = np.array([action.initial_memory], dtype=np.float64)
        taken: list[NDArray[Any]] = []
        try:
            for _ in range(variant.episode.phases):
                # What is carried shows in the observations; here it is followed along.
                carried = tuple(memory[0].tolist())
                sweep = [np.asarray(action.encode(law, k, carried, limits)) for k in range(action.num_knots)]
                _, memory = action.schedules(np.stack(sweep)[:, None], memory, limits)
                taken += sweep
        except SchedrlError:
            continue
        made.append(np.stack(taken).astype(np.float64).reshape(-1))
    return made


Propose = Callable[[int, tuple[FloatArray, FloatArray] | None], FloatArray]
"""From the number of candidates wanted, and the last ones with their scores, to new ones."""


def _rounds(
    spec: RandomSequenceSearch | TPESequenceSearch | CMAESSequenceSearch,
    space: SequenceSpace,
    runs: int,
    propose: Propose,
) -> Proposals:
    """Rounds of one seed each, then the best on fresh seeds."""
    for_finals = int(spec.final_share * runs)
    left, reference = runs - for_finals, np.zeros((1, space.size))
    last: tuple[FloatArray, FloatArray] | None = None
    tried, scores = np.zeros((0, space.size)), np.zeros(0)
    while left >= 2:
        candidates = propose(min(spec.population, left) - 1, last)
        values = yield Round(np.concatenate([reference, candidates]), 1)
        last = candidates, values[1:] - values[0]
        tried, scores = np.concatenate([tried, last[0]]), np.concatenate([scores, last[1]])
        left -= 1 + len(candidates)
    order = np.argsort(-scores, kind="stable")
    chosen = _distinct(np.concatenate([reference, tried[order]]))
    if isinstance(propose, _CMA):
        chosen = _distinct(np.concatenate([chosen[:1], propose.mean()[None], chosen[1:]]))
    chosen = chosen[: min(1 + spec.finalists, for_finals + left)]
    if len(chosen) < 2:
        best: FloatArray = tried[order[0]] if scores[order[0]] > 0.0 else reference[0]
        return best
    return (yield from _all_of(chosen, (for_finals + left) // len(chosen)))


def _all_of(candidates: FloatArray, seeds: int) -> Proposals:
    """Every candidate on the same seeds."""
    values = yield Round(candidates, seeds)
    best: FloatArray = candidates[int(values.argmax())]
    return best


def _halving(
    spec: HalvingSequenceSearch, space: SequenceSpace, runs: int, rng: np.random.Generator
) -> Proposals:
    rounds = 1
    while 2 ** (rounds + 1) * (rounds + 1) * spec.seeds <= runs:
        rounds += 1
    every = space.all(2**rounds)
    if every is not None:
        rounds = max(math.ceil(math.log2(len(every))), 1)
        candidates = every
    else:
        drawn = space.draw(rng, 2**rounds - 1, spec.spread)
        candidates = np.concatenate([np.zeros((1, space.size)), drawn])
    seeds = max(runs // (rounds * len(candidates)), 1)
    total, weight, spent = np.zeros(len(candidates)), 0, 0
    while len(candidates) > 1:
        # An odd number of candidates rounds up, which may cost more than its share.
        affordable = (runs - spent) // len(candidates)
        # The last two settle it with all that the powers of two have left.
        seeds = affordable if len(candidates) == 2 else min(seeds, affordable)
        if seeds < 1:
            break
        values = yield Round(candidates, seeds)
        total, weight, spent = total + seeds * values, weight + seeds, spent + seeds * len(candidates)
        kept = np.argsort(-total, kind="stable")[: (len(candidates) + 1) // 2]
        candidates, total, seeds = candidates[kept], total[kept], 2 * seeds
    best: FloatArray = candidates[0]
    return best


class _CMA:
    """CMA-ES, asked for a round at a time."""

    def __init__(self, spec: CMAESSequenceSearch, space: SequenceSpace, rng: np.random.Generator) -> None:
        try:
            import cma
        except ImportError:
            raise SchedrlError(
                "search 'cma-es': needs the package cma: pip install 'schedrl[search]'"
            ) from None
        # CMA-ES is not for a single dimension; a second one that nothing depends on does no harm.
        self._free, self._size = max(space.size, 2), space.size
        # It draws from the generator handed to it; left alone it would use NumPy's global one.
        options = {
            "bounds": [-1.0, 1.0],
            "seed": np.nan,
            "verbose": -9,
            "popsize": max(spec.population - 1, 2),
            "randn": lambda *shape: rng.standard_normal(shape),
        }
        self._strategy = cma.CMAEvolutionStrategy(np.zeros(self._free), spec.spread, options)
        self._asked: list[Any] = []

    def __call__(self, count: int, last: tuple[FloatArray, FloatArray] | None) -> FloatArray:
        if last is not None:
            self._strategy.tell(self._asked, (-last[1]).tolist())
        self._asked = self._strategy.ask()
        # The last round is cut to what is left of the budget; nothing is told of it.
        candidates: FloatArray = np.clip(np.array(self._asked)[:count, : self._size], -1.0, 1.0)
        return candidates

    def mean(self) -> FloatArray:
        """The middle of the distribution, within the bounds."""
        favourite = np.asarray(self._strategy.result.xfavorite, dtype=np.float64)
        middle: FloatArray = np.clip(favourite[: self._size], -1.0, 1.0)
        return middle


def _tpe(spec: TPESequenceSearch, space: SequenceSpace, rng: np.random.Generator) -> Propose:
    try:
        import optuna
    except ImportError:
        raise SchedrlError("search 'tpe': needs the package optuna: pip install 'schedrl[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=int(rng.integers(2**31)),
            n_startup_trials=spec.startup,
            multivariate=True,
            constant_liar=True,
        )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    one: Any = (
        optuna.distributions.FloatDistribution(-1.0, 1.0)
        if space.choices is None
        else optuna.distributions.CategoricalDistribution(tuple(range(space.choices)))
    )
    names = [f"a{place}" for place in range(space.size)]
    asked: list[Any] = []

    def propose(count: int, last: tuple[FloatArray, FloatArray] | None) -> FloatArray:
        if last is None:
            # The reference scores 0 by definition; knowing it costs nothing.
            study.add_trial(
                optuna.trial.create_trial(
                    params=dict.fromkeys(names, 0.0 if space.choices is None else 0),
                    distributions=dict.fromkeys(names, one),
                    value=0.0,
                )
            )
        else:
            for trial, score in zip(asked, last[1].tolist(), strict=True):
                study.tell(trial, score)
        asked[:] = [study.ask(dict.fromkeys(names, one)) for _ in range(count)]
        return np.array([[trial.params[name] for name in names] for trial in asked], dtype=np.float64)

    return propose


def _distinct(rows: FloatArray) -> FloatArray:
    """Rows without repetitions, in the order in which they first come."""
    kept: FloatArray = rows[np.sort(np.unique(rows, axis=0, return_index=True)[1])]
    return kept


def _needs(name: str, runs: int, least: int, what: str) -> None:
    if runs < least:
        raise SchedrlError(
            f"search '{name}': the budget must pay for {least} training runs, {what} (got {runs})"
        )
