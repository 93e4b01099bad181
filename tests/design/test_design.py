"""Grids lie within the training law, the optimum is not beaten there, and the tools' defaults are diffusers' own."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers as library
import numpy as np
import pytest

from schedrl.design.design import diffusers_steps, flow_error, kl_by_sampler, usual_grids
from schedrl.design.methods import METHODS, binned, place, read_network_error
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
    values, weights, means = binned(many, 2.0 * many)
    assert len(values) < 400
    assert (np.diff(values) < 0.0).all()
    assert weights.sum() == 5000
    assert (values * weights).sum() == pytest.approx(many.sum(), rel=0.01)
    assert means is not None
    assert (means * weights).sum() == pytest.approx(2.0 * many.sum())
    assert binned(SPECTRUM)[0] is SPECTRUM


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("n", [1, 7, 10, 50])
def test_steps_are_those_of_diffusers(n: int, spacing: str) -> None:
    theirs = diffusers.DDIMScheduler(timestep_spacing=spacing)
    theirs.set_timesteps(n)
    assert diffusers_steps(1000, n, spacing).tolist() == theirs.timesteps.tolist()


def test_usual_grids_stay_on_the_schedule() -> None:
    training = TrainingSchedule.of(get("cosine"))
    made = usual_grids(training, 10)
    assert set(made) == {
        "uniform in t", "Karras", "kl_optimal (AYS)", "diffusers leading", "diffusers trailing"
    }  # fmt: skip
    assert all(grid.num_steps == 10 and grid.sigmas[-1] == 0.0 for grid in made.values())
    assert all(grid.sigmas[0] <= training.sigmas[-1] * (1.0 + 1e-9) for grid in made.values())


def test_a_network_error_is_read(tmp_path: Path) -> None:
    assert read_network_error("0.002", "sample").variance == (0.002,)
    (tmp_path / "e.csv").write_text("logsnr,variance\n2.0,0.02\n-8,0.001\n")
    (tmp_path / "e.json").write_text('{"logsnr": [2.0, -8.0], "variance": [0.02, 0.001]}')
    for name in ("e.csv", "e.json"):
        read = read_network_error(str(tmp_path / name), "epsilon")
        assert (read.logsnr, read.variance) == ((-8.0, 2.0), (0.001, 0.02))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.json", "{}", "needs logsnr and variance"),
        ("e.json", '{"logsnr": [1], "variance": [1, 2]}', "needs logsnr and variance"),
        ("e.json", '{"logsnr": ["a"], "variance": [1]}', "needs logsnr and variance"),
        ("e.csv", "a,b\n1,2\n", "needs logsnr and variance"),
        ("e.csv", "logsnr,variance\n1,x\n", "must be finite and not negative"),
        ("e.csv", "", "needs logsnr and variance"),
        ("none.csv", None, "cannot be read"),
        ("none.json", None, "cannot be read"),
        ("-1", None, "must be finite and not negative"),
        ("nan", None, "must be finite and not negative"),
        ("small", None, "must be a number, or a .csv or .json file"),
    ],
)
def test_wrong_network_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str | None, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SchedrlError, match=message):
        read_network_error(name, "epsilon")


def measurement(kurtosis: float, count: int = 5000, approximate: float = 0.0) -> SpectrumMeasurement:
    return SpectrumMeasurement(np.ones(60), count, 64, 0.01, 1e-4, approximate, 0.03, np.full(20, kurtosis))


@pytest.mark.parametrize(
    ("kurtosis", "said"),
    [(3.1, "close to Gaussian"), (5.0, "moderately"), (1.9, "moderately"), (30.0, "far from")],
)
def test_sentence_follows_the_kurtosis(kurtosis: float, said: str) -> None:
    assert said in trust(measurement(kurtosis), looked_at=True)[-1]


def test_few_images_and_approximations_are_said() -> None:
    assert len(trust(measurement(3.0), looked_at=True)) == 2
    assert "at most 49 are not 0" in trust(measurement(3.0, count=50), looked_at=True)[1]
    assert "treated as uncorrelated" in trust(measurement(3.0, approximate=0.02), looked_at=True)[1]
    # What is said of the KL there must not be taken back by what follows.
    assert "KL and the order of the grids can be trusted" in trust(measurement(3.0), looked_at=True)[-1]
    assert (
        ": the order of the grids can be trusted"
        in trust(measurement(3.0, approximate=0.02), looked_at=True)[-1]
    )
    assert "do not trust" in trust(measurement(3.0, count=20), looked_at=True)[1]
    assert "says nothing" in trust(measurement(3.0, count=20), looked_at=True)[-1]
    assert "as far as so few can show" in trust(measurement(3.0, count=100), looked_at=True)[-1]
    assert "schedrl schedule tune --model" in trust(measurement(3.0), looked_at=False)[-1]
    # Coefficients that count by their variance alone are not 0, however few images there are.
    assert "not 0" not in " ".join(trust(measurement(3.0, count=50, approximate=0.02), looked_at=True))
