"""Plans: valid grids of the right length, in the order of error that theory gives them, and clear refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from schedrl import schedules
from schedrl.environments.registration import sampling_variant
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.errors import SchedrlError
from schedrl.policies.agents import GridAgent, catalogue
from schedrl.policies.grid_rules import (
    AnyGridRule,
    DilationRule,
    GeodesicRule,
    GridRule,
    InterpolantRule,
    LawRule,
    OptimumRule,
    ReferenceRule,
    TangentRule,
)
from schedrl.schedules.conversions import FloatArray
from schedrl.sources import interpolants

MakeSampling = Callable[..., SamplingVariant]

GAUSSIAN = ("grid-best-tangent", "grid-geodesic", "grid-optimum")
DIMENSION = tuple(
    f"{law}-{scaling}{end}"
    for law, ends in (("uniform", ("",)), ("dilated", ("", "-tangent")))
    for scaling in ("vp", "ve")
    for end in ends
)
GRIDS = {agent.name: agent for agent in catalogue().values() if isinstance(agent, GridAgent)}


def only(problems: SamplingProblems, row: int) -> SamplingProblems:
    return problems.take(np.array([row]))


def assert_valid(grids: FloatArray, problems: SamplingProblems) -> None:
    assert grids.shape == (len(problems), problems.total.max() + 1)
    assert np.isfinite(grids[:, 1:]).all()
    for levels, n in zip(grids, problems.total.tolist(), strict=True):
        assert (np.diff(levels[: n + 1]) < 0.0).all()
        assert levels[n] == 0.0
        assert not levels[n:].any(), "a shorter grid repeats its last level"


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_every_shipped_plan_gives_grids_or_says_why_not(
    name: str, source: str, make_sampling: MakeSampling
) -> None:
    gaussian = source in ("gaussian", "images", "network")  # of a network's data the spectrum is known
    steps = {"minimum": 2, "maximum": 5} if gaussian else {"minimum": 4, "maximum": 4}
    problems = SamplingProblems.drawn(make_sampling(source, steps=steps), range(5))
    assert GRIDS[name].acts_in(problems.variant)
    other = name == "grid-flow-optimum" and source != "network"
    if other or (name in GAUSSIAN and not gaussian) or (name in DIMENSION and gaussian):
        plan = GRIDS[name].plan
        with pytest.raises(
            SchedrlError, match=rf"^plan '{plan.name}': needs a .*{problems.variant.id}"
        ) as caught:
            plan.grids(problems)
        assert "\n" not in str(caught.value)
        return
    grids = GRIDS[name].plan.grids(problems)
    assert_valid(grids, problems)
    assert (problems.error(grids) > 0.0).all()


@pytest.mark.parametrize("name", sorted(set(GRIDS) - {*DIMENSION, "grid-flow-optimum"}))
def test_a_grid_does_not_depend_on_the_others(name: str, make_sampling: MakeSampling) -> None:
    problems = SamplingProblems.drawn(make_sampling("gaussian", steps={"minimum": 1, "maximum": 5}), range(8))
    assert len(set(problems.total.tolist())) > 2
    together = GRIDS[name].plan.grids(problems)
    assert_valid(together, problems)
    for row in range(len(problems)):
        alone = GRIDS[name].plan.grids(only(problems, row))[0]
        np.testing.assert_allclose(together[row, : len(alone)], alone, rtol=1e-7)


@pytest.mark.parametrize("scaling", ["vp", "ve"])
def test_interpolants_in_steps_of_several_numbers(scaling: Any, make_sampling: MakeSampling) -> None:
    problems = SamplingProblems.drawn(make_sampling("mixture", steps={"minimum": 1, "maximum": 5}), range(8))
    grids = InterpolantRule(scaling=scaling).grids(problems)
    assert_valid(grids, problems)
    dimensions = problems.batch.parameters()["dimension"].tolist()
    for row, (n, dimension) in enumerate(zip(problems.total.tolist(), dimensions, strict=True)):
        wanted = interpolants.uniform_grid(n, dimension, scaling=scaling, path="linear").sigma_array
        np.testing.assert_array_equal(grids[row, : n + 1], wanted)


@settings(max_examples=15)
@given(
    spectrum=st.lists(st.floats(1e-3, 1e2), min_size=1, max_size=5),
    n=st.integers(2, 5),
    sampler=st.sampled_from(["ddim", "ddpm"]),
)
def test_tangents_and_the_optimum_are_ordered(spectrum: list[float], n: int, sampler: str) -> None:
    variant = sampling_variant(
        "schedrl/GaussianSampling-v0",
        {
            "source.spectrum": {"name": "fixed", "values": spectrum},
            "sampler": sampler,
            "steps": {"minimum": n, "maximum": n},
        },
    )
    problems = SamplingProblems.drawn(variant, [0])

    def error(plan: GridRule) -> float:
        return float(problems.error(plan.grids(problems))[0])

    best, star = error(TangentRule(gamma="best")), error(TangentRule())
    assert best <= star + 1e-12
    assert best <= error(TangentRule(gamma=0.5)) + 1e-12
    optimum = error(OptimumRule())
    assert optimum <= best + 1e-12
    assert optimum <= error(GeodesicRule()) + 1e-12


def test_what_closed_forms_know(make_sampling: MakeSampling) -> None:
    """One eigenvalue: star, best, geodesic and optimum are all its own tangent law."""
    spectrum = {"name": "fixed", "values": [0.09]}
    variant = make_sampling(
        "gaussian", **{"source.spectrum": spectrum, "steps": {"minimum": 5, "maximum": 5}}
    )
    problems = SamplingProblems.drawn(variant, [0])
    wanted = 0.3 * np.tan(0.5 * np.pi * np.arange(4, -1, -1) / 5)
    closed: list[GridRule] = [TangentRule(), TangentRule(gamma=0.3), GeodesicRule()]
    fitted: list[GridRule] = [TangentRule(gamma="best"), OptimumRule()]
    for plan in [*closed, *fitted]:
        rtol = 1e-5 if plan in fitted else 1e-9
        np.testing.assert_allclose(plan.grids(problems)[0, 1:], wanted, rtol=rtol, atol=1e-12)


def test_many_steps_make_the_geodesic_nearly_optimal(make_sampling: MakeSampling) -> None:
    variant = make_sampling("gaussian", steps={"minimum": 40, "maximum": 40})
    problems = SamplingProblems.drawn(variant, range(4))
    errors = {plan.name: problems.error(plan.grids(problems)) for plan in (GeodesicRule(), OptimumRule())}
    ratio = errors["geodesic"] / errors["optimum"]
    assert (ratio >= 1.0 - 1e-12).all()
    assert (ratio < 1.05).all()


@pytest.mark.parametrize(
    "law", ["karras", "uniform-logsnr", {"name": "power-t", "schedule": "linear", "rho": 2.0}]
)
def test_named_laws_are_those_of_schedules(law: Any, make_sampling: MakeSampling) -> None:
    plan = LawRule(grid=law)
    problems = SamplingProblems.drawn(make_sampling("gaussian"), range(6))
    grids = plan.grids(problems)
    for row, n in enumerate(problems.total.tolist()):
        parameters = dict(law) if isinstance(law, dict) else {"name": law}
        wanted = schedules.grid(parameters.pop("name"), n, **parameters).sigma_array
        np.testing.assert_array_equal(grids[row, : n + 1], wanted)


def test_a_law_must_end_at_data(make_sampling: MakeSampling) -> None:
    """Stopping in the noise, where everything looks alike, is no way to sample well."""
    plan = TypeAdapter[GridRule](AnyGridRule).validate_python(
        {"name": "law", "grid": {"name": "karras", "sigma_min": 40.0, "final_zero": False}}
    )
    problems = SamplingProblems.drawn(make_sampling("gaussian"), [0])
    with pytest.raises(SchedrlError, match=r"^plan 'law': grid 'karras' must end at 0.*\(ends at 40\)$"):
        plan.grids(problems)


@pytest.mark.parametrize("scaling", ["vp", "ve"])
@pytest.mark.parametrize("second", ["linear", "tangent"])
@pytest.mark.parametrize("kind", ["mixture", "curie-weiss"])
def test_dilations_are_those_of_the_sources(
    scaling: Any, second: Any, kind: str, make_sampling: MakeSampling
) -> None:
    problems = SamplingProblems.drawn(make_sampling(kind, steps={"minimum": 6, "maximum": 6}), range(3))
    grids = DilationRule(scaling=scaling, second=second, kappa=2.0).grids(problems)
    dimensions = problems.batch.parameters()["dimension"].tolist()
    variances = problems.batch.targets()["within_variance"].tolist()
    assert len(set(dimensions)) == 3
    for levels, dimension, variance in zip(grids, dimensions, variances, strict=True):
        if second == "linear":
            wanted = interpolants.dilated_grid(6, dimension, 2.0, scaling, "linear")
        else:
            wanted = interpolants.dilated_tangent_grid(6, dimension, variance, 2.0, scaling, "linear")
        np.testing.assert_allclose(levels, wanted.sigma_array, rtol=1e-12)


@pytest.mark.parametrize(
    ("fields", "n", "reason"),
    [
        ({}, 5, r"must be even.*\(got 5\)"),
        ({}, 1, r"at least 2 \(got 1\)"),
        ({"kappa": 50.0}, 4, r"'kappa'.*less than sqrt\(dimension\)"),
    ],
)
def test_dilations_that_cannot_be_are_named(
    fields: dict[str, Any], n: int, reason: str, make_sampling: MakeSampling
) -> None:
    variant = make_sampling(
        "mixture", **{"steps": {"minimum": n, "maximum": n}, "source.dimension": [100.0, 100.0]}
    )
    plan = DilationRule(scaling="vp", **fields)
    with pytest.raises(SchedrlError, match=rf"^plan 'dilation': .*{reason}") as caught:
        plan.grids(SamplingProblems.drawn(variant, [0]))
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_the_reference_is_action_zero(source: str, make_sampling: MakeSampling) -> None:
    problems = SamplingProblems.drawn(make_sampling(source), range(3))
    np.testing.assert_array_equal(ReferenceRule().grids(problems), problems.reference())


def test_heuns_optimum_keeps_the_first_level(make_sampling: MakeSampling) -> None:
    reference = {"name": "law", "grid": "karras"}
    variant = make_sampling("gaussian", **{"sampler": "heun", "action.reference": reference})
    problems = SamplingProblems.drawn(variant, range(5))
    assert len(set(problems.total.tolist())) > 1
    grids = OptimumRule().grids(problems)
    assert_valid(grids, problems)
    np.testing.assert_array_equal(grids[:, 0], 80.0)
    errors = problems.error(grids)
    assert np.isfinite(errors).all()
    assert (errors < problems.error(problems.reference())).all()
    # No small move of an interior level makes it better.
    for row, n in enumerate(problems.total.tolist()):
        for place in range(1, n):
            for factor in (0.99, 1.01):
                moved = grids[[row]].copy()
                moved[0, place] *= factor
                assert problems.take(np.array([row])).error(moved)[0] >= errors[row]


@pytest.mark.parametrize("gamma", [0.0, -1.0, "stars"])
def test_bad_plans_are_refused(gamma: Any) -> None:
    with pytest.raises(ValueError, match="gamma"):
        TangentRule(gamma=gamma)
