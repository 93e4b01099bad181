"""Searches for one open-loop sequence of actions in a training environment: their settings, and what they try.

Each searches the environment's own action space, relative to its reference, so it can express what a learned policy
can, but for reacting to observations. All runs of a round share their seeds (common random numbers).

Nothing here trains: a search is a generator that yields rounds and is sent scores, a function of its random numbers and
of the scores alone. So a search that was killed is replayed from its scores and ends with the same result.
"""

from __future__ import annotations

import itertools
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from schedrl.environments.training.variant import TrainingVariant
from schedrl.errors import SchedrlError, Spec
from schedrl.policies.cma_es import CMAES
from schedrl.schedules import Schedule
from schedrl.schedules.conversions import FloatArray


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
        space = variant.action_space()
        if isinstance(space, gym.spaces.Discrete):
            return cls(variant.episode_steps, 1, int(space.n))
        return cls(variant.episode_steps, int(np.prod(space.shape)), None)

    @property
    def size(self) -> int:
        return self.steps * self.width

    def draw(self, rng: np.random.Generator, count: int, spread: float) -> FloatArray:
        """Sequences ``[count, size]`` around the reference; of a discrete space, evenly drawn ones."""
        if self.choices is not None:
            return rng.integers(self.choices, size=(count, self.size)).astype(np.float64)
        drawn: FloatArray = np.clip(spread * rng.standard_normal((count, self.size)), -1.0, 1.0)
        return drawn

    def all(self, most: int) -> FloatArray | None:
        """Every sequence of a discrete space ``[count, size]``, if there are at most ``most``."""
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
        return len(self.candidates) * self.seeds


Proposals = Generator[Round, FloatArray, FloatArray]
"""Yields rounds, is sent their mean returns ``[count]``, and returns the sequence that was found."""

Static = Callable[[], list[FloatArray]]
"""Makes the hand-made schedules as sequences ``[size]``."""


class SequenceSearch(Spec, ABC):
    """A search and its settings.

    Attributes:
        name: Which search.
    """

    name: str

    def proposals(
        self, space: SequenceSpace, runs: int, rng: np.random.Generator, static: Static
    ) -> Proposals:
        """Begin a search; what forbids it is raised here, not when the first round is asked for.

        Args:
            space: What is searched.
            runs: Training runs that it may spend.
            rng: All that is random comes from here.
            static: Called by ``best-static`` alone.

        Raises:
            SchedrlError: The search is not for this space, a package is missing, or the budget is too small.
        """
        self._needs(runs, 2, "the reference and a candidate")
        return self._begin(space, runs, rng, static)

    @abstractmethod
    def _begin(self, space: SequenceSpace, runs: int, rng: np.random.Generator, static: Static) -> Proposals:
        """The rounds, where the budget pays for two runs."""

    def _needs(self, runs: int, least: int, what: str) -> None:
        if runs < least:
            raise SchedrlError(
                f"search '{self.name}': the budget must pay for {least} training runs, {what} (got {runs})"
            )


Propose = Callable[[int, tuple[FloatArray, FloatArray] | None], FloatArray]
"""From the number of candidates wanted, and the last ones ``[count, size]`` with their scores, to new ones."""


class _PopulationSearch(SequenceSearch):
    """A search in rounds, which tries its best candidates again at the end.

    A score is a candidate's return minus the reference's on the same seed, so scores of different rounds can be
    compared. The best of many noisy scores is flattered by chance; fresh seeds decide among a few.

    Attributes:
        population: Runs in a round, the reference among them.
        finalists: Candidates that are tried again on fresh seeds, besides the reference.
        final_share: Share of the budget that is kept for that.
    """

    population: Annotated[int, Field(ge=3, le=1024)] = 32
    finalists: Annotated[int, Field(ge=1, le=64)] = 7
    final_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.25

    def _rounds(
        self,
        space: SequenceSpace,
        runs: int,
        propose: Propose,
        favourites: Callable[[], list[FloatArray]] = list,
    ) -> Proposals:
        """Rounds of one seed each, then the best and the ``favourites`` on fresh seeds."""
        for_finals = int(self.final_share * runs)
        left, reference = runs - for_finals, np.zeros((1, space.size))
        last: tuple[FloatArray, FloatArray] | None = None
        tried, scores = np.zeros((0, space.size)), np.zeros(0)
        while left >= 2:
            candidates = propose(min(self.population, left) - 1, last)
            values = yield Round(np.concatenate([reference, candidates]), 1)
            last = candidates, values[1:] - values[0]
            tried, scores = np.concatenate([tried, last[0]]), np.concatenate([scores, last[1]])
            left -= 1 + len(candidates)
        order = np.argsort(-scores, kind="stable")
        chosen = _distinct(np.concatenate([reference, tried[order]]))
        chosen = _distinct(np.stack([chosen[0], *favourites(), *chosen[1:]]))
        chosen = chosen[: min(1 + self.finalists, for_finals + left)]
        if len(chosen) < 2:
            best: FloatArray = tried[order[0]] if scores[order[0]] > 0.0 else reference[0]
            return best
        return (yield from _all_of(chosen, (for_finals + left) // len(chosen)))


class RandomSequenceSearch(_PopulationSearch):
    """Normally distributed actions around the reference; every sequence of a small discrete space.

    Attributes:
        spread: Standard deviation of actions, which are cut to [−1, 1].
    """

    name: Literal["random"] = "random"
    spread: Annotated[float, Field(gt=0.0)] = 0.4

    def _begin(self, space: SequenceSpace, runs: int, rng: np.random.Generator, static: Static) -> Proposals:
        every = space.all(runs)
        if every is not None:
            return _all_of(every, runs // len(every))
        return self._rounds(space, runs, lambda count, _: space.draw(rng, count, self.spread))


class TPESequenceSearch(_PopulationSearch):
    """Optuna's tree-structured Parzen estimator (package ``optuna``, extra ``search``), asked for a round at a time.

    Attributes:
        startup: Trials drawn evenly before the estimator is used.
    """

    name: Literal["tpe"] = "tpe"
    startup: Annotated[int, Field(ge=1, le=1_000_000)] = 32

    def _begin(self, space: SequenceSpace, runs: int, rng: np.random.Generator, static: Static) -> Proposals:
        try:
            import optuna
        except ImportError:
            raise SchedrlError(
                "search 'tpe': needs the package optuna: pip install 'schedrl[search]'"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            seed = int(rng.integers(2**31))
            sampler = optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=self.startup, multivariate=True, constant_liar=True
            )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        one: Any = (
            optuna.distributions.FloatDistribution(-1.0, 1.0)
            if space.choices is None
            else optuna.distributions.CategoricalDistribution(tuple(range(space.choices)))
        )
        every = {f"a{place}": one for place in range(space.size)}
        # The reference scores 0 by definition; knowing it costs nothing.
        zero = dict.fromkeys(every, 0.0 if space.choices is None else 0)
        study.add_trial(optuna.trial.create_trial(params=zero, distributions=every, value=0.0))
        asked: list[Any] = []

        def propose(count: int, last: tuple[FloatArray, FloatArray] | None) -> FloatArray:
            for trial, score in zip(asked, [] if last is None else last[1].tolist(), strict=True):
                study.tell(trial, score)
            asked[:] = [study.ask(every) for _ in range(count)]
            return np.array([[trial.params[name] for name in every] for trial in asked], dtype=np.float64)

        return self._rounds(space, runs, propose)


class CMAESSequenceSearch(_PopulationSearch):
    """CMA-ES (package ``cma``, extra ``search``) from the reference; continuous actions only.

    Its last mean is among the finalists.

    Attributes:
        spread: Standard deviation of actions at the start.
    """

    name: Literal["cma-es"] = "cma-es"
    spread: Annotated[float, Field(gt=0.0)] = 0.3

    def _begin(self, space: SequenceSpace, runs: int, rng: np.random.Generator, static: Static) -> Proposals:
        if space.choices is not None:
            raise SchedrlError("search 'cma-es': needs continuous actions; use random, tpe or halving")
        strategy = CMAES(space.size, self.spread, rng, max(self.population - 1, 2))

        def propose(count: int, last: tuple[FloatArray, FloatArray] | None) -> FloatArray:
            if last is not None:
                strategy.tell(-last[1])
            # The last round is cut to what is left of the budget; its scores are not used.
            candidates: FloatArray = np.clip(strategy.ask()[:count], -1.0, 1.0)
            return candidates

        return self._rounds(space, runs, propose, lambda: [strategy.mean()])


class HalvingSequenceSearch(SequenceSearch):
    """Successive halving: many candidates on few seeds, the better half on twice as many, down to one.

    The search begins with the greatest power of two of candidates whose rounds the budget pays for.

    Attributes:
        seeds: Seeds of the first round, at least. What the powers of two leave of the budget goes to the last round.
        spread: Standard deviation of the candidates' actions around the reference, which is one of them.
    """

    name: Literal["halving"] = "halving"
    seeds: Annotated[int, Field(ge=1, le=1024)] = 1
    spread: Annotated[float, Field(gt=0.0)] = 0.4

    def _begin(self, space: SequenceSpace, runs: int, rng: np.random.Generator, static: Static) -> Proposals:
        rounds = 1
        while 2 ** (rounds + 1) * (rounds + 1) * self.seeds <= runs:
            rounds += 1
        every = space.all(2**rounds)
        if every is not None:
            rounds = max(math.ceil(math.log2(len(every))), 1)
            candidates = every
        else:
            drawn = space.draw(rng, 2**rounds - 1, self.spread)
            candidates = np.concatenate([np.zeros((1, space.size)), drawn])
        seeds = max(runs // (rounds * len(candidates)), 1)
        total, spent = np.zeros(len(candidates)), 0
        while len(candidates) > 1:
            # An odd number of candidates rounds up, which may cost more than its share.
            affordable = (runs - spent) // len(candidates)
            # The last two settle it with all that the powers of two have left.
            seeds = affordable if len(candidates) == 2 else min(seeds, affordable)
            if seeds < 1:
                break
            values = yield Round(candidates, seeds)
            total, spent = total + seeds * values, spent + seeds * len(candidates)
            kept = np.argsort(-total, kind="stable")[: (len(candidates) + 1) // 2]
            candidates, total, seeds = candidates[kept], total[kept], 2 * seeds
        best: FloatArray = candidates[0]
        return best


class BestStaticSearch(SequenceSearch):
    """The best of the catalogue's hand-made schedules, as the actions can express them, and the reference.

    Attributes:
        seeds: Seeds that each is tried on, at most; fewer where the budget pays for fewer.
    """

    name: Literal["best-static"] = "best-static"
    seeds: Annotated[int, Field(ge=1, le=1024)] = 8

    def _begin(self, space: SequenceSpace, runs: int, rng: np.random.Generator, static: Static) -> Proposals:
        made = _distinct(np.stack([np.zeros(space.size), *static()]))
        self._needs(runs, len(made), "one run of each schedule")
        return _all_of(made, min(self.seeds, runs // len(made)))


AnySequenceSearch = Annotated[
    RandomSequenceSearch | TPESequenceSearch | CMAESSequenceSearch | HalvingSequenceSearch | BestStaticSearch,
    Field(discriminator="name"),
]
"""Any search, chosen by ``name``."""

ALGORITHMS: dict[str, type[SequenceSearch]] = {
    model.model_fields["name"].default: model for model in get_args(get_args(AnySequenceSearch)[0])
}
"""Every search by its name."""


def _all_of(candidates: FloatArray, seeds: int) -> Proposals:
    """Every candidate on the same seeds."""
    values = yield Round(candidates, seeds)
    best: FloatArray = candidates[int(values.argmax())]
    return best


def _distinct(rows: FloatArray) -> FloatArray:
    """Rows without repetitions, in the order in which they first come."""
    kept: FloatArray = rows[np.sort(np.unique(rows, axis=0, return_index=True)[1])]
    return kept


def static_sequences(variant: TrainingVariant, schedules: Sequence[Schedule]) -> list[FloatArray]:
    """Hand-made schedules as open-loop sequences; those that the actions cannot express are left out."""
    action, limits = variant.action, (variant.bound.logsnr_max, variant.bound.logsnr_min)
    made = []
    for schedule in schedules:
        memory = np.array([action.initial_memory], dtype=np.float64)
        taken: list[NDArray[Any]] = []
        try:
            for _ in range(variant.episode.phases):
                # What is carried shows in the observations; here it is followed along.
                carried = tuple(memory[0].tolist())
                sweep = [
                    np.asarray(action.encode(schedule, k, carried, limits)) for k in range(action.num_knots)
                ]
                _, memory = action.schedules(np.stack(sweep)[:, None], memory, limits)
                taken += sweep
        except SchedrlError:
            continue
        made.append(np.stack(taken).astype(np.float64).reshape(-1))
    return made
