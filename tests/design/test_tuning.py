"""Tuning on a network whose flow is cheap: what is chosen, and what is promised of it."""

from __future__ import annotations

import itertools
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

from schedrl.design.tuning import (
    FlowPath,
    batch_sizes,
    default_grids,
    even_timesteps,
    make_teacher,
    mean_ratio,
    path_grids,
    tune,
)
from schedrl.diffusion.network_on_table import NetworkOnTable
from schedrl.diffusion.solvers import SOLVERS, Path, SolverName, advance
from schedrl.errors import SchedrlError

ABAR = np.cumprod(1.0 - np.linspace(1e-4, 0.02, 1000))


def gaussian_network(error: float = 0.0, steps: int = 1000) -> NetworkOnTable:
    """The exact noise estimate of a Gaussian with four variances, a fixed pattern added to it."""
    abar = ABAR[:: 1000 // steps]
    variance = torch.tensor([1.5, 0.4, 0.05, 0.002]).view(1, 1, 2, 2)
    pattern = torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 1, 2, 2)

    def predict(x: Tensor, t: Tensor) -> Tensor:
        a = torch.from_numpy(np.interp(t.numpy(), np.arange(len(abar)), abar)).float().view(-1, 1, 1, 1)
        return (1 - a).sqrt() / (a * variance + 1 - a) * x + error * pattern

    return NetworkOnTable(predict, np.sqrt(abar), np.sqrt(1.0 - abar), (1, 2, 2))


@pytest.mark.parametrize("n", [5, 10, 20])
@pytest.mark.parametrize(
    ("solver", "name"),
    [
        ("ddim", "DDIMScheduler"),
        ("euler", "EulerDiscreteScheduler"),
        ("heun", "HeunDiscreteScheduler"),
        ("dpm++2m", "DPMSolverMultistepScheduler"),
        ("unipc", "UniPCMultistepScheduler"),
    ],
)
def test_defaults_are_those_of_diffusers(solver: SolverName, name: str, n: int) -> None:
    found = default_grids(gaussian_network(), solver, n)
    settings: dict[str, dict[str, Any]] = {
        **{spacing: {"timestep_spacing": spacing} for spacing in ("leading", "trailing", "linspace")},
        "Karras": {"use_karras_sigmas": True},
        "exponential": {"use_exponential_sigmas": True},
        "beta": {"use_beta_sigmas": True},
    }
    for label, more in settings.items():
        if solver == "ddim" and label not in ("leading", "trailing", "linspace"):
            assert label not in found
            continue
        theirs = getattr(diffusers, name)(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", **more)
        theirs.set_timesteps(n)
        steps = list(dict.fromkeys(float(t) for t in theirs.timesteps))
        # Multistep classes cut what they tell the network to whole steps, and step exactly.
        allowed = 1.0 if solver in ("dpm++2m", "unipc") else 0.02
        assert np.abs(np.array(found[label]) - np.array(steps)).max() <= allowed, label


def test_dynamic_programming_finds_the_least_sum() -> None:
    network = gaussian_network(0.01)
    path = FlowPath.of(network, network.noise(3, 0), 9)
    for solver in SOLVERS:
        errors = path.step_errors(solver)
        count = len(path.timesteps)
        found = path_grids(path, solver, 4)["dynamic programming, squares in x"]

        def total(places: tuple[int, ...], errors: np.ndarray = errors, count: int = count) -> float:
            walked = [*places, count]
            steps = itertools.pairwise(walked)
            return sum(float(errors[walked[max(k - 1, 0)], i, j]) for k, (i, j) in enumerate(steps))

        least = min(
            ((0, *rest) for rest in itertools.combinations(range(1, count), 3)),
            key=total,
        )
        assert found == tuple(path.timesteps[place] for place in least)


def test_a_step_error_is_what_a_step_does() -> None:
    network = gaussian_network(0.01)
    start = network.noise(4, 1)
    path = FlowPath.of(network, start, 12)
    ends = [path.points[0], path.points[5]]
    ahead = advance("ddim", network.along(path.timesteps), Path(start), ends).state
    # The path is followed again, so that the state that the step should have reached is known.
    walked = Path(start)
    for _ in range(6):
        walked = advance("unipc", network.along(path.timesteps), walked, path.points)
    assert walked.before is not None
    wanted = float((ahead - walked.before).square().mean())
    assert path.step_errors("ddim")[0, 0, 5] == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("solver", ["ddim", "heun", "dpm++2m", "unipc"])
def test_what_is_chosen_is_closer_than_every_default(solver: SolverName) -> None:
    found = tune(gaussian_network(0.02), solver, [4, 8], images=60_000)
    for n, tuned in found.items():
        assert len(tuned.chosen.timesteps) == n
        assert all(high > low for high, low in itertools.pairwise(tuned.chosen.timesteps))
        assert tuned.against_default.high < 1.0
        assert tuned.rows[0].candidate == tuned.chosen
        assert tuned.teacher_error < 0.1 * tuned.rows[0].distance


def test_the_same_seed_finds_the_same_and_another_is_other_noise() -> None:
    first, again, other = (
        tune(gaussian_network(), "ddim", [4], images=12_000, seed=seed)[4] for seed in (3, 3, 4)
    )
    assert first == again
    assert first.rows[0].distance != other.rows[0].distance


def test_the_budget_is_kept_and_too_small_a_one_is_refused() -> None:
    network = gaussian_network()
    tune(network, "ddim", [5], images=12_000)
    assert network.images <= 12_000
    with pytest.raises(
        SchedrlError, match=r"100 images through the network are too few .* \d+ are needed: give"
    ):
        batch_sizes("ddim", [5], 100)


def test_a_default_is_chosen_where_nothing_is_better() -> None:
    # One step from the last level: every spacing that begins there is the same, and none can be better.
    network = gaussian_network(steps=10)
    found = tune(network, "ddim", [10], images=40_000)[10]
    assert found.chosen.default
    assert found.against_default.value == 1.0


def test_answers_that_cannot_be_used_are_named() -> None:
    network = gaussian_network()
    network.predict = lambda x, t: x * float("nan")
    with pytest.raises(SchedrlError, match="training step 999 is not finite"):
        tune(network, "ddim", [5], images=12_000)
    network.predict = lambda x, t: x[:, :, :1]
    with pytest.raises(SchedrlError, match="must be shaped as the images"):
        tune(network, "ddim", [5], images=12_000)


def test_a_teacher_knows_its_error() -> None:
    network = gaussian_network()
    start = network.noise(4, 0)
    exact = make_teacher(network, start, 400)
    rough = make_teacher(network, start, 40)
    true = float((rough.images - exact.images).square().mean())
    assert true / 10.0 < rough.error < 30.0 * true


def test_even_timesteps_are_whole_and_reach_both_ends() -> None:
    found = even_timesteps(gaussian_network(), 50)
    assert found[0] == 999.0
    assert found[-1] == 0.0
    assert all(t == int(t) for t in found)


def test_a_ratio_of_means_covers() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        base = rng.exponential(size=24)
        interval = mean_ratio(base * rng.uniform(0.5, 1.5, 24), base)
        hits += interval.low <= 1.0 <= interval.high
    assert 0.89 < hits / 400 < 0.99
