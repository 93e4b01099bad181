"""AVA as a controller: K and τ by hand, and driving a population."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedrl import schedules
from schedrl.diffusion.ava import AVAController, AVALaw, AVASpec
from schedrl.diffusion.noise import ScheduleNoise
from schedrl.diffusion.population import ControlledTraining, Population
from schedrl.diffusion.training_spec import DSCSpec, OptimizerSpec, TrainingSpec, UNetSpec
from schedrl.errors import SchedrlError, parse


@pytest.mark.parametrize(
    ("rule", "gains"),
    [
        # decay 1/2, norms 1, 2, 4. τ: 1; (1/4 + 1) / (3/4) = 5/3; (1/8 + 1/2 + 2) / (7/8) = 3.
        # Norm minus τ: 0, 1/3, 1; η = 3.
        ("equation", [20.0, 21.0, 24.0]),
        ("prose", [20.0, 19.0, 16.0]),
    ],
)
def test_three_moves_by_hand(rule: str, gains: list[float]) -> None:
    spec = parse(AVASpec, {"rule": rule, "rate": 3.0, "decay": 0.5}, "here")
    controller = AVAController(spec, 2)
    assert controller.tau.tolist() == [0.0, 0.0]
    for norm, tau, gain in zip([1.0, 2.0, 4.0], [1.0, 5.0 / 3.0, 3.0], gains, strict=True):
        controller.update([norm, 1.0])
        np.testing.assert_allclose(controller.tau, [tau, 1.0], rtol=1e-12)
        np.testing.assert_allclose(controller.gain, [gain, 20.0], rtol=1e-12)
    first, second = controller.schedules()
    assert second == schedules.AVA(K=20.0)
    assert isinstance(first, schedules.AVA)
    assert pytest.approx(gains[-1], rel=1e-12) == first.K


@given(st.lists(st.floats(0.0, 1e9), min_size=1, max_size=10), st.sampled_from(["equation", "prose"]))
def test_k_stays_in_its_bounds_and_the_rules_mirror_each_other(norms: list[float], rule: str) -> None:
    spec = parse(AVASpec, {"rule": rule, "rate": 7.0, "minimum": 5.0, "maximum": 60.0}, "here")
    controller = AVAController(spec)
    for norm in norms:
        before = controller.gain.copy()
        controller.update([norm])
        tau = controller.tau
        assert 5.0 <= controller.gain[0] <= 60.0
        if 5.0 < controller.gain[0] < 60.0:
            grows = (norm > tau[0]) == (rule == "equation")
            assert controller.gain[0] == before[0] or (controller.gain[0] > before[0]) == grows


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_run_that_diverged_is_left_as_it_is(bad: float) -> None:
    controller = AVAController(AVASpec(rule="equation", decay=0.5), 2)
    controller.update([1.0, 1.0])
    controller.update([2.0, 2.0])
    before = controller.state()
    controller.update([bad, 3.0])
    for name, array in controller.state().items():
        assert array[0] == before[name][0]
        assert np.isfinite(array).all()
        assert array[1] != before[name][1]


def test_reset_and_bad_input() -> None:
    controller = AVAController(AVASpec(rule="prose"), 2)
    controller.update([1.0, 1.0])
    controller.update([2.0, 2.0])
    controller.reset(0)
    assert controller.gain[0] == 20.0 != controller.gain[1]
    assert controller.tau[0] == 0.0 != controller.tau[1]
    with pytest.raises(SchedrlError, match="one number per run, 2"):
        controller.update([1.0])
    with pytest.raises(SchedrlError, match=r"initial_gain must lie in \[minimum, maximum\]"):
        parse(AVALaw, {"rule": "prose", "initial_gain": 1e3}, "here")


# --- driving a population ---

SPEC = TrainingSpec(
    network=UNetSpec(channels=(4,), embedding=4, groups=2),
    batch_size=2,
    optimizer=OptimizerSpec(name="dsc", dsc=DSCSpec(gamma=10.0, boost=1.0)),
)


def controlled(every: int = 1, spec: TrainingSpec = SPEC) -> ControlledTraining:
    images = np.random.default_rng(0).uniform(-1, 1, (8, 1, 8, 8)).astype(np.float32)
    population = Population(spec, images, 2)
    for run in range(2):
        population.start(run, 7 + run)
    return ControlledTraining(population, AVAController(AVASpec(rule="equation", decay=0.5), 2), every)


def test_k_moves_with_the_norms_of_the_runs() -> None:
    made, expected = controlled(every=2), AVAController(AVASpec(rule="equation", decay=0.5), 2)
    record = made.train(5)
    norms = record.gradient_norm.astype(np.float64)
    for begin in (0, 2):
        pair = norms[begin : begin + 2]
        for row in pair:
            expected.observe(row)
        expected.move(np.sqrt(np.square(pair).mean(axis=0)))
    np.testing.assert_allclose(made.controller.gain, expected.gain, rtol=1e-12)
    assert record.loss.shape == record.rate.shape == (5, 2)


def test_with_k_left_alone_it_is_the_plain_training() -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (8, 1, 8, 8)).astype(np.float32)
    still, plain = controlled(), Population(SPEC, images, 2)
    still.controller.spec = AVASpec(rule="equation", rate=0.0)
    for run in range(2):
        plain.start(run, 7 + run)
    law = ScheduleNoise.of([schedules.AVA()] * 2, betas=True)
    np.testing.assert_array_equal(still.train(6).loss, plain.train(law, 6).loss)


@pytest.mark.parametrize("every", [1, 3])
def test_interrupted_it_goes_on_in_the_same_bits(every: int) -> None:
    whole, first, second = controlled(every), controlled(every), controlled(every)
    expected = whole.train(8)
    begun = first.train(4)
    second.restore(*first.state())
    rest = second.train(4)
    for name in ("loss", "gradient_norm", "rate"):
        joined = np.concatenate([getattr(begun, name), getattr(rest, name)])
        np.testing.assert_array_equal(joined, getattr(expected, name))
    np.testing.assert_array_equal(second.controller.gain, whole.controller.gain)
    np.testing.assert_array_equal(second.controller.tau, whole.controller.tau)


def test_a_controller_must_fit() -> None:
    population = controlled().population
    with pytest.raises(SchedrlError, match="as many runs as the population, 2"):
        ControlledTraining(population, AVAController(AVASpec(rule="prose"), 3))
    with pytest.raises(SchedrlError, match="every: must be at least 1"):
        ControlledTraining(population, AVAController(AVASpec(rule="prose"), 2), every=0)
