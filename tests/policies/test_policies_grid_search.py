"""Searches: they find, they count, and a seed says everything."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.errors import SchedrlError
from schedrl.policies.agents import parse_agent
from schedrl.policies.grid_rules import OptimumRule
from schedrl.policies.grid_search import (
    CMAESGridSearch,
    CoordinateGridSearch,
    DynamicGridSearch,
    GridSearch,
    RandomGridSearch,
    Solution,
    _cheapest_path,
)
from schedrl.schedules.conversions import FloatArray

MakeSampling = Callable[..., SamplingVariant]

TRYING: dict[str, Callable[[int], GridSearch]] = {
    "random": lambda evaluations: RandomGridSearch(evaluations=evaluations),
    "cma-es": lambda evaluations: CMAESGridSearch(evaluations=evaluations),
    "coordinate": lambda evaluations: CoordinateGridSearch(evaluations=evaluations),
}
DYNAMIC = DynamicGridSearch(levels=17)


def find(search: GridSearch, problems: SamplingProblems, seed: int = 0) -> Solution:
    return search.find(problems, [np.random.default_rng([seed, row]) for row in range(len(problems))])


@pytest.fixture(params=sorted(TRYING))
def trying(request: pytest.FixtureRequest) -> Callable[[int], GridSearch]:
    """Every search that evaluates whole grids."""
    return TRYING[request.param]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sampler runs each evaluation was of."""
    calls: list[int] = []
    original = SamplingProblems.error

    def error(problems: SamplingProblems, sigmas: FloatArray) -> FloatArray:
        calls.append(len(sigmas))
        return original(problems, sigmas)

    monkeypatch.setattr(SamplingProblems, "error", error)
    return calls


def assert_valid(found: Solution, problems: SamplingProblems) -> None:
    assert found.sigmas.shape == (len(problems), problems.width)
    for levels, n in zip(found.sigmas, problems.total.tolist(), strict=True):
        assert levels[0] == problems.variant.action.reference.first_sigma
        assert (np.diff(levels[: n + 1]) < 0.0).all()
        assert not levels[n:].any()


@pytest.mark.parametrize("evaluations", [1, 2, 7, 40])
def test_never_worse_than_the_reference_and_exactly_counted(
    trying: Callable[[int], GridSearch],
    evaluations: int,
    source: str,
    make_sampling: MakeSampling,
    counted: list[int],
) -> None:
    problems = SamplingProblems.drawn(make_sampling(source), range(4))
    reference = problems.error(problems.reference())
    counted.clear()
    found = find(trying(evaluations), problems)
    assert (found.evaluations <= evaluations).all()
    assert (found.evaluations >= min(evaluations, 1)).all()
    assert sum(counted) == found.evaluations.sum()
    assert_valid(found, problems)
    errors = problems.error(found.sigmas)
    assert (errors <= reference * (1.0 + 1e-12)).all()
    if evaluations == 1:
        np.testing.assert_allclose(found.sigmas, problems.reference(), rtol=1e-12)
    if evaluations == 40:
        assert (errors < (1.0 - 1e-6) * reference).any()


def test_nearly_everything_allowed_is_spent(make_sampling: MakeSampling) -> None:
    steps = {"minimum": 3, "maximum": 3}
    problems = SamplingProblems.drawn(make_sampling("gaussian", steps=steps), range(2))
    spent = {name: find(make(40), problems).evaluations.tolist() for name, make in TRYING.items()}
    # Coordinate descent tries two at a time, after the reference.
    assert spent == {"random": [40, 40], "cma-es": [40, 40], "coordinate": [39, 39]}


@pytest.mark.parametrize("make", [*TRYING.values(), lambda _: DYNAMIC])
def test_a_seed_says_everything(make: Callable[[int], GridSearch], make_sampling: MakeSampling) -> None:
    problems = SamplingProblems.drawn(make_sampling("gaussian"), range(6))
    assert len(set(problems.total.tolist())) > 1
    np.random.seed(12345)  # noqa: NPY002
    before: Any = np.random.get_state()  # noqa: NPY002 (that it is left alone is the point)
    first, second = find(make(30), problems), find(make(30), problems)
    np.testing.assert_array_equal(first.sigmas, second.sigmas)
    np.testing.assert_array_equal(first.evaluations, second.evaluations)
    after: Any = np.random.get_state()  # noqa: NPY002
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2] == after[2]


@pytest.mark.parametrize("name", ["random", "cma-es"])
def test_another_seed_finds_another_grid(name: str, make_sampling: MakeSampling) -> None:
    steps = {"minimum": 4, "maximum": 4}
    spectrum = {"name": "fixed", "values": [10.0, 0.1, 0.01]}
    variant = make_sampling("gaussian", **{"source.spectrum": spectrum, "steps": steps})
    problems = SamplingProblems.drawn(variant, range(3))
    first, second = (find(TRYING[name](30), problems, seed).sigmas for seed in (1, 2))
    assert (first != second).any(axis=1).all()


@pytest.mark.parametrize("make", [*TRYING.values(), lambda _: DYNAMIC])
def test_what_is_found_does_not_depend_on_the_others(
    make: Callable[[int], GridSearch], make_sampling: MakeSampling
) -> None:
    problems = SamplingProblems.drawn(make_sampling("gaussian"), range(6))
    together = find(make(30), problems)
    for row, n in enumerate(problems.total.tolist()):
        alone = make(30).find(problems.take(np.array([row])), [np.random.default_rng([0, row])])
        np.testing.assert_allclose(together.sigmas[row, : n + 1], alone.sigmas[0], rtol=1e-9)
        assert together.evaluations[row] == alone.evaluations[0]


def test_drawing_in_parts_changes_nothing(
    make_sampling: MakeSampling, monkeypatch: pytest.MonkeyPatch, counted: list[int]
) -> None:
    problems = SamplingProblems.drawn(make_sampling("gaussian"), range(3))
    whole = find(RandomGridSearch(evaluations=50), problems)
    monkeypatch.setattr("schedrl.policies.grid_search._TRIES_AT_ONCE", 7)
    monkeypatch.setattr("schedrl.policies.grid_search._ROWS_AT_ONCE", 5)
    counted.clear()
    np.testing.assert_array_equal(find(RandomGridSearch(evaluations=50), problems).sigmas, whole.sigmas)
    assert sum(counted) == 150
    assert max(counted) == 5


def test_a_single_step_leaves_nothing_to_search(source: str, make_sampling: MakeSampling) -> None:
    problems = SamplingProblems.drawn(make_sampling(source, steps={"minimum": 1, "maximum": 1}), range(2))
    for search in [*(make(20) for make in TRYING.values()), DYNAMIC]:
        found = find(search, problems)
        np.testing.assert_array_equal(found.sigmas, [[np.inf, 0.0]] * 2)


def test_cma_es_comes_close_to_the_exact_optimum(make_sampling: MakeSampling) -> None:
    spectrum = {"name": "fixed", "values": [1.0, 0.3, 0.1]}
    variant = make_sampling(
        "gaussian", **{"source.spectrum": spectrum, "steps": {"minimum": 4, "maximum": 4}}
    )
    problems = SamplingProblems.drawn(variant, [0])
    optimum = problems.error(OptimumRule().grids(problems))[0]
    error = problems.error(find(CMAESGridSearch(evaluations=2000), problems).sigmas)[0]
    assert optimum * (1.0 - 1e-9) <= error < 1.02 * optimum
    assert problems.error(problems.reference())[0] > 1.02 * optimum


def test_cma_es_needs_its_package(make_sampling: MakeSampling, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = SamplingProblems.drawn(make_sampling("gaussian"), [0])
    monkeypatch.setitem(sys.modules, "cma", None)
    with pytest.raises(SchedrlError, match=r"^search 'cma-es': needs the package cma: pip install") as caught:
        find(CMAESGridSearch(), problems)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__


def cheapest_by_trying(cost: FloatArray, steps: int) -> tuple[float, list[int]]:
    last = len(cost) - 1
    paths = [[0, *middle, last] for middle in itertools.combinations(range(1, last), steps - 1)]
    values = [sum(cost[a, b] for a, b in itertools.pairwise(path)) for path in paths]
    return min(values), paths[int(np.argmin(values))]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6])
def test_the_cheapest_path_is_that_of_all_paths(steps: int) -> None:
    levels, size = 7, 20
    cost = np.full((levels, levels, size), np.inf)
    rows, columns = np.triu_indices(levels, 1)
    cost[rows, columns] = np.random.default_rng(steps).uniform(0.0, 1.0, (len(rows), size))
    paths: NDArray[np.int64] = _cheapest_path(cost, steps)
    assert paths.shape == (size, steps + 1)
    for row in range(size):
        assert paths[row].tolist() == cheapest_by_trying(cost[:, :, row], steps)[1]


@pytest.mark.parametrize("n", [2, 3, 5])
def test_dynamic_programming_is_worth_it_on_a_wide_spectrum(n: int, make_sampling: MakeSampling) -> None:
    spectrum = {"name": "fixed", "values": [100.0, 10.0, 1.0, 0.1, 0.01]}
    variant = make_sampling(
        "gaussian", **{"source.spectrum": spectrum, "steps": {"minimum": n, "maximum": n}}
    )
    problems = SamplingProblems.drawn(variant, [0])
    found = find(DynamicGridSearch(levels=33), problems)
    assert_valid(found, problems)
    assert problems.error(found.sigmas)[0] <= problems.error(problems.reference())[0]
    # 33 · 32 / 2 steps of the sampler are that many N-ths of a run.
    assert found.evaluations.tolist() == [-(-528 // n)]


def test_dynamic_programming_on_every_source(source: str, make_sampling: MakeSampling) -> None:
    problems = SamplingProblems.drawn(make_sampling(source), range(3))
    found = find(DYNAMIC, problems)
    assert_valid(found, problems)
    assert np.isfinite(problems.error(found.sigmas)).all()


def test_dynamic_programming_with_fewer_levels_than_steps(make_sampling: MakeSampling) -> None:
    problems = SamplingProblems.drawn(make_sampling("gaussian", steps={"minimum": 8, "maximum": 8}), [0])
    found = find(DynamicGridSearch(levels=4), problems)
    assert (np.diff(found.sigmas[0, :4]) < 0.0).all()
    assert not found.sigmas[0, 3:].any()


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        *((name, "evaluations", value) for name in TRYING for value in (0, -1, 1.5, 10_000_000)),
        ("random", "spread", 0.0),
        ("cma-es", "spread", -1.0),
        ("coordinate", "stride", 0.0),
        ("dynamic", "levels", 2),
        ("dynamic", "levels", 100_000),
    ],
)
def test_bad_values_are_refused_by_name(name: str, field: str, value: float) -> None:
    definition = {"name": "mine", "kind": "search", "search": {"name": name, field: value}}
    with pytest.raises(SchedrlError, match=rf"^mine.toml: field 'search.{field}': .*got {value}") as caught:
        parse_agent(definition, "mine.toml")
    assert "\n" not in str(caught.value)


def test_an_unknown_search_is_refused() -> None:
    definition = {"name": "mine", "kind": "search", "search": {"name": "cmaes"}}
    with pytest.raises(SchedrlError, match="did you mean 'cma-es'"):
        parse_agent(definition, "mine.toml")
