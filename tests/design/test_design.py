"""Grids lie within the training law, the optimum is not beaten there, and the tools' defaults are diffusers' own."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import diffusers as library
import numpy as np
import pytest

from schedrl.design.design import diffusers_steps, flow_error, kl_by_sampler, usual_grids
from schedrl.design.methods import METHODS, binned, place
from schedrl.design.trust import trust
from schedrl.errors import SchedrlError
from schedrl.export import TrainingSchedule
from schedrl.schedules import Grid, get
from schedrl.sources.gaussian.measurement import SpectrumMeasurement

diffusers: Any = library  # its methods have no types

SPECTRUM = np.geomspace(6.0, 4e-4, 40)
ENDS = {"linear": (0.0100005, 157.407), "scaled-linear": (0.0291672, 14.6146)}


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "heun"])
@pytest.mark.parametrize("law", sorted(ENDS))
@pytest.mark.parametrize("n", [1, 2, 9])
def test_optimum_is_not_beaten_within_the_law(law: str, n: int, sampler: str) -> None:
    low, high = ENDS[law]
    found = {}
    for method in METHODS:
        if (method, sampler) == ("flow", "ddpm"):
            continue
        made, _ = place(method, SPECTRUM, n, sampler, (low, high))
        assert made.num_steps == n
        assert made.sigmas[0] == high
        assert made.sigmas[-2] >= low * (1.0 - 1e-9)
        found[method] = kl_by_sampler(SPECTRUM, made, (sampler,))[sampler]
    rng = np.random.default_rng(0)
    best, _ = place("optimal", SPECTRUM, n, sampler, (low, high))
    for _ in range(20):
        shifted = best.sigma_array.copy()
        shifted[1:-1] *= np.exp(0.05 * rng.standard_normal(n - 1))
        shifted[1:-1] = np.maximum(shifted[1:-1], low)
        if all(left > right for left, right in pairwise(shifted)):
            found["shifted"] = kl_by_sampler(SPECTRUM, Grid(sigmas=tuple(shifted.tolist())), (sampler,))[
                sampler
            ]
            assert found["optimal"] <= min(found.values()) * (1.0 + 1e-6)


@pytest.mark.parametrize("sampler", ["ddim", "heun"])
@pytest.mark.parametrize("n", [1, 2, 9])
def test_no_method_is_closer_to_the_flow_than_flow(n: int, sampler: str) -> None:
    found = {
        method: flow_error(SPECTRUM, place(method, SPECTRUM, n, sampler, ENDS["linear"])[0], sampler)
        for method in METHODS
    }
    least = found["flow"]
    assert least is not None
    assert all(other is not None and least <= other * (1.0 + 1e-6) for other in found.values())
    if n == 9:
        assert least < 0.8 * (found["optimal"] or 0.0)


def test_noise_has_no_flow() -> None:
    made, _ = place("optimal", SPECTRUM, 5, "ddpm", ENDS["linear"])
    assert flow_error(SPECTRUM, made, "ddpm") is None
    assert flow_error(SPECTRUM, Grid(sigmas=(float("inf"), 1.0, 0.0)), "heun") is None
    with pytest.raises(SchedrlError, match=r"method 'flow': .* \(got ddpm"):
        place("flow", SPECTRUM, 5, "ddpm", ENDS["linear"])


@pytest.mark.parametrize("law", sorted(ENDS))
@pytest.mark.parametrize("n", [4, 20])
def test_a_trained_agent_places_every_step_within_the_law(law: str, n: int) -> None:
    made, _ = place("agent:ppo", SPECTRUM, n, "ddim", ENDS[law])
    assert made.num_steps == n
    assert made.sigmas[0] == ENDS[law][1]
    assert made.sigmas[-2] >= ENDS[law][0] * (1.0 - 1e-9)
    best, _ = place("optimal", SPECTRUM, n, "ddim", ENDS[law])
    found, least = (kl_by_sampler(SPECTRUM, grid, ("ddim",))["ddim"] for grid in (made, best))
    assert least <= found < 2.0 * least


def test_an_agent_for_another_sampler_is_said() -> None:
    assert "trained for ddim" in place("agent:ppo", SPECTRUM, 10, "heun", ENDS["linear"])[1][-1]


def test_wrong_methods() -> None:
    with pytest.raises(SchedrlError, match=r"unknown method 'optimum'; did you mean 'optimal'"):
        place("optimum", SPECTRUM, 4, "ddim", ENDS["linear"])
    with pytest.raises(SchedrlError, match=r"agents of .* take 4 to 32 steps \(got 50\)"):
        place("agent:ppo", SPECTRUM, 50, "ddim", ENDS["linear"])
    with pytest.raises(SchedrlError, match="nobody"):
        place("agent:nobody", SPECTRUM, 10, "ddim", ENDS["linear"])


def test_bins_keep_number_and_nearly_the_sum() -> None:
    many = np.sort(np.random.default_rng(0).lognormal(-4.0, 2.0, 5000))[::-1]
    values, weights = binned(many)
    assert len(values) < 400
    assert (np.diff(values) < 0.0).all()
    assert weights.sum() == 5000
    assert (values * weights).sum() == pytest.approx(many.sum(), rel=0.01)
    assert binned(SPECTRUM)[0] is SPECTRUM


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("n", [1, 7, 10, 50])
def test_steps_are_those_of_diffusers(n: int, spacing: str) -> None:
    theirs = diffusers.DDIMScheduler(timestep_spacing=spacing)
    theirs.set_timesteps(n)
    assert diffusers_steps(1000, n, spacing).tolist() == theirs.timesteps.tolist()


def test_usual_grids_of_another_schedule_have_its_spacings_too() -> None:
    made = usual_grids(TrainingSchedule.of(get("cosine")), 10)
    assert {f"diffusers leading, {law}" for law in ("cosine", "linear", "scaled-linear")} < set(made)
    assert all(grid.num_steps == 10 and grid.sigmas[-1] == 0.0 for grid in made.values())


def measurement(kurtosis: float, count: int = 5000, approximate: float = 0.0) -> SpectrumMeasurement:
    return SpectrumMeasurement(np.ones(60), count, 64, 0.01, 1e-4, approximate, 0.03, np.full(20, kurtosis))


@pytest.mark.parametrize(
    ("kurtosis", "said"),
    [(3.1, "close to Gaussian"), (5.0, "moderately"), (1.9, "moderately"), (30.0, "far from")],
)
def test_sentence_follows_the_kurtosis(kurtosis: float, said: str) -> None:
    assert said in trust(measurement(kurtosis))[-1]


def test_few_images_and_approximations_are_said() -> None:
    assert len(trust(measurement(3.0))) == 2
    assert "at most 49 are not 0" in trust(measurement(3.0, count=50))[1]
    assert "treated as uncorrelated" in trust(measurement(3.0, approximate=0.02))[1]
    # What is said of the KL there must not be taken back by what follows.
    assert "KL and the order of the grids can be trusted" in trust(measurement(3.0))[-1]
    assert ": the order of the grids can be trusted" in trust(measurement(3.0, approximate=0.02))[-1]
    # Coefficients that count by their variance alone are not 0, however few images there are.
    assert "not 0" not in " ".join(trust(measurement(3.0, count=50, approximate=0.02)))
