"""From actions to schedules and back."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from schedrl import schedules
from schedrl.diffusion.local_variance import LocalDeviation
from schedrl.environments.training.actions import (
    Action,
    AnyAction,
    ChoiceAction,
    DSCAction,
    GainAction,
    KernelAction,
    KnotsAction,
    Memory,
)
from schedrl.errors import SchedrlError, Spec, parse
from schedrl.schedules import AnySchedule, Schedule

LIMITS = (8.0, -6.0)
NOTHING = np.zeros((1, 0))
IMAGES = LocalDeviation(np.zeros((1, 1, 3, 3), np.float32), np.ones((1, 1, 3, 3), np.float32))

NEEDED: dict[str, dict[str, Any]] = {
    "piecewise": {"u": (0.0, 0.3, 1.0), "logsnr": (9.0, 1.0, -7.0)},
    "betas": {"betas": tuple(np.linspace(1e-3, 0.3, 50).tolist())},
    "beta-knots": {"betas": (1e-4, 0.002, 0.01), "num_train_timesteps": 900},
}
EVERY_LAW = [schedules.get(name, **NEEDED.get(name, {})) for name in schedules.names()]
laws = pytest.mark.parametrize("law", EVERY_LAW, ids=lambda law: law.name)


def boxes(size: int) -> st.SearchStrategy[np.ndarray]:
    entry = st.floats(-1.0, 1.0, width=32)
    return st.lists(entry, min_size=size, max_size=size).map(lambda v: np.array(v, dtype=np.float32))


def decode(action: Action, rows: np.ndarray, memory: np.ndarray = NOTHING) -> list[Schedule]:
    """Schedules of ``rows`` [knots, runs, width]."""
    return action.schedules(rows, memory, LIMITS)[0]


def encoded(action: Action, law: Schedule, memory: Memory = ()) -> np.ndarray:
    """A whole sweep [knots, 1, ...] that stands for a law."""
    knots = range(action.num_knots)
    return np.stack([action.encode(law, knot, memory, LIMITS)[None] for knot in knots])


def assert_monotone(schedule: Schedule) -> None:
    assert (np.diff(schedule.logsnr(np.linspace(0, 1, 101))) <= 0).all()
    assert (np.diff(schedule.logsnr_steps(100)) <= 0).all()
    assert np.isfinite(schedule.logsnr(np.linspace(0, 1, 101))).all()


# --- knots ---


def shares(law: Schedule, bins: int) -> np.ndarray:
    """Probability of each cell between the limits."""
    above = law.fraction_above(np.linspace(*LIMITS, bins + 1))
    cells = np.diff(above)
    return np.asarray(cells / cells.sum())


@laws
def test_knots_zero_is_the_reference_cut_to_the_range(law: AnySchedule) -> None:
    action = KnotsAction(bins=7, reference=law)
    (made,) = decode(action, np.zeros((1, 1, 7), dtype=np.float32))
    # Empty cells keep a share of 1e-4, which all the others lose.
    np.testing.assert_allclose(shares(made, 7), shares(law, 7), atol=1e-3)
    np.testing.assert_allclose(made.logsnr([0.0, 1.0]), LIMITS)


@given(boxes(6), st.floats(0.1, 3.0))
def test_knots_shares_are_a_softmax(row: np.ndarray, scale: float) -> None:
    uniform = schedules.UniformLogSNR(logsnr_max=8.0, logsnr_min=-6.0)
    action = KnotsAction(bins=6, scale=scale, reference=uniform)
    (made,) = decode(action, row[None, None])
    weights = np.exp(scale * row.astype(np.float64))
    np.testing.assert_allclose(shares(made, 6), weights / weights.sum(), rtol=1e-6)
    assert_monotone(made)
    # Back: the same schedule, if not the same action, for a constant on all logits changes nothing.
    again = encoded(action, made)
    np.testing.assert_allclose(shares(decode(action, again)[0], 6), shares(made, 6), rtol=1e-5)
    centred = row - 0.5 * (row.max() + row.min())
    np.testing.assert_allclose(again[0, 0], centred, atol=1e-5)


@given(boxes(10))
def test_knots_extreme_scale_stays_a_schedule(row: np.ndarray) -> None:
    action = KnotsAction(bins=10, scale=20.0, reference=schedules.Cosine())
    assert_monotone(decode(action, row[None, None])[0])


@pytest.mark.parametrize("name", ["linear", "cosine", "sigmoid", "uniform", "edm"])
def test_knots_reach_the_hand_made_laws(name: str) -> None:
    law = schedules.get(name)
    action = KnotsAction(bins=10, scale=4.0, reference=schedules.Tangent(gamma=0.3))
    (made,) = decode(action, encoded(action, law))
    np.testing.assert_allclose(shares(made, 10), shares(law, 10), atol=2e-3)


# --- kernel ---


@laws
def test_kernel_zero_passes_through_the_reference(law: AnySchedule) -> None:
    action = KernelAction(knots=5, num_train_timesteps=100, reference=law)
    (made,) = decode(action, np.zeros((5, 1, 1), dtype=np.float32))
    wanted = law.logsnr_steps(100)[19::20].clip(LIMITS[1], LIMITS[0])
    # Where the reference stays at an end of the range, beta is 1e-8 instead of 0.
    np.testing.assert_allclose(made.logsnr_steps(100)[19::20], wanted, atol=0.02)
    assert len(made.betas(100)) == 100
    assert len(np.unique(made.betas(100).round(12))) <= 5  # constant between knots


@given(st.lists(boxes(2), min_size=4, max_size=4), st.floats(0.1, 2.0))
def test_kernel_betas(rows: list[np.ndarray], scale: float) -> None:
    action = KernelAction(knots=4, num_train_timesteps=20, scale=scale, reference=schedules.Linear())
    sweep = np.stack(rows)[:, :, None]  # four knots, two runs
    base = decode(action, np.zeros_like(sweep))[0].betas(20)[::5]
    made = decode(action, sweep)
    for run, schedule in enumerate(made):
        expected = np.minimum(base * np.exp(scale * sweep[:, run, 0].astype(np.float64)), 0.999)
        np.testing.assert_allclose(schedule.betas(20), np.repeat(expected, 5), rtol=1e-9, atol=1e-12)
        assert_monotone(schedule)
        # x_t is noised by what the walk has reached so far.
        for walked in range(1, 5):
            reached, _ = action.walked(sweep[:walked], IMAGES, LIMITS)
            assert reached[run] == pytest.approx(5 * np.log1p(-expected[:walked]).sum(), rel=1e-9)


@given(boxes(4), st.floats(0.1, 1.0))
def test_kernel_round_trip(row: np.ndarray, scale: float) -> None:
    # A law that stays well within the range under every action, so that no end is cut.
    reference = schedules.BetaKnots(betas=(0.01, 0.02, 0.03, 0.05), num_train_timesteps=40)
    action = KernelAction(knots=4, num_train_timesteps=40, scale=scale, reference=reference)
    sweep = row[:, None, None]
    (made,) = decode(action, sweep)
    np.testing.assert_allclose(encoded(action, made), sweep, atol=1e-5)
    np.testing.assert_allclose(decode(action, encoded(action, made))[0].betas(40), made.betas(40), rtol=1e-5)


def test_kernel_beta_never_reaches_one() -> None:
    action = KernelAction(knots=2, num_train_timesteps=2, scale=20.0, reference=schedules.PrintedLinear())
    (made,) = decode(action, np.ones((2, 1, 1), dtype=np.float32))
    assert made.betas(2).max() == 0.999
    (clean,) = decode(action, -np.ones((2, 1, 1), dtype=np.float32))
    assert clean.betas(2).min() > 0.0
    assert np.isfinite(clean.logsnr_steps(2)).all()


# --- gain ---


def test_gain_zero_keeps_k() -> None:
    action = GainAction(initial_gain=7.0, beta_init=0.2, alpha=1.5)
    made, memory = action.schedules(
        np.zeros((1, 2, 1), np.float32), np.tile(action.initial_memory, (2, 1)), LIMITS
    )
    assert memory.tolist() == [[math.log(7.0)]] * 2
    expected = schedules.AVA(beta_init=0.2, K=7.0, alpha=1.5).logsnr_steps(100)
    for law in made:
        np.testing.assert_allclose(law.logsnr_steps(100), expected)


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=12), st.floats(0.1, 3.0))
def test_gain_walks_in_log_k_between_its_bounds(moves: list[float], scale: float) -> None:
    action = GainAction(initial_gain=5.0, minimum=2.0, maximum=30.0, scale=scale)
    memory = np.array([action.initial_memory])
    gain = 5.0
    for move in moves:
        gain = min(max(gain * math.exp(scale * move), 2.0), 30.0)
        made, memory = action.schedules(np.full((1, 1, 1), move, np.float32), memory, LIMITS)
        assert isinstance(made[0], schedules.AVA)
        assert pytest.approx(gain, rel=1e-9) == made[0].K
        assert math.exp(memory[0, 0]) == pytest.approx(gain, rel=1e-9)
        assert 2.0 - 1e-12 <= made[0].K <= 30.0 + 1e-12
        assert_monotone(made[0])


@given(st.lists(boxes(4), min_size=1, max_size=8))
def test_dsc_walks_in_four_logs_between_their_bounds(moves: list[np.ndarray]) -> None:
    action = DSCAction()
    ranges = (action.gain, action.alpha, action.gamma, action.boost)
    memory, values = np.array([action.initial_memory]), [each.initial for each in ranges]
    for move in moves:
        values = [
            min(max(value * math.exp(each.scale * float(step)), each.minimum), each.maximum)
            for value, each, step in zip(values, ranges, move, strict=True)
        ]
        (law,), memory = action.schedules(move[None, None], memory, LIMITS)
        coefficients = action.coefficients(memory)
        assert isinstance(law, schedules.AVA)
        found = [law.K, law.alpha, coefficients.gamma[0], coefficients.boost[0]]
        np.testing.assert_allclose(found, values, rtol=1e-9)
        assert_monotone(law)


def test_dsc_zero_keeps_all_four_and_encode_the_wanted() -> None:
    action = DSCAction()
    memory = np.tile(action.initial_memory, (2, 1))
    _, kept = action.schedules(np.zeros((1, 2, 4), np.float32), memory, LIMITS)
    np.testing.assert_array_equal(kept, memory)
    wanted = schedules.AVA(K=40.0, alpha=3.0)
    move = action.towards(wanted, 2.0, 0.05, action.initial_memory)
    (law,), reached = action.schedules(move[None, None], memory[:1], LIMITS)
    coefficients = action.coefficients(reached)
    found = [law.K, law.alpha, coefficients.gamma[0], coefficients.boost[0]]  # type: ignore[attr-defined]
    np.testing.assert_allclose(found, [40.0, 3.0, 2.0, 0.05], rtol=1e-6)
    # Without a word about them, γ and λ stay.
    np.testing.assert_array_equal(action.encode(wanted, 0, action.initial_memory, LIMITS)[2:], 0.0)
    with pytest.raises(SchedrlError, match="AVA's law only"):
        action.encode(schedules.Cosine(), 0, action.initial_memory, LIMITS)


def test_dsc_ranges_hold_their_start() -> None:
    with pytest.raises(SchedrlError, match=r"initial must lie in \[minimum, maximum\]"):
        parse(DSCAction, {"kind": "dsc", "gamma": {"initial": 5.0, "minimum": 6.0, "maximum": 7.0}}, "here")


@given(st.floats(0.5, 200.0), st.floats(0.5, 200.0))
def test_gain_encodes_the_way_to_k(start: float, wanted: float) -> None:
    action = GainAction(scale=10.0)
    move = action.encode(schedules.AVA(K=wanted), 0, (math.log(start),), LIMITS)
    (made,), _ = action.schedules(move[None, None], np.array([[math.log(start)]]), LIMITS)
    assert isinstance(made, schedules.AVA)
    assert pytest.approx(wanted, rel=1e-5) == made.K


def test_gain_represents_avas_law_only() -> None:
    with pytest.raises(SchedrlError, match="'gain' can represent AVA's law only, not schedule 'cosine'"):
        GainAction().encode(schedules.Cosine(), 0, (0.0,), LIMITS)


# --- choice ---


def test_choice_is_exact() -> None:
    offered = (schedules.Cosine(), schedules.Tangent(gamma=0.3), schedules.Tangent(gamma=0.2))
    action = ChoiceAction(choices=offered)
    made = decode(action, np.array([[2, 0, 1]]))
    assert made == [offered[2], offered[0], offered[1]]
    assert [int(action.encode(law, 0, (), LIMITS)) for law in offered] == [0, 1, 2]
    assert isinstance(action.space(), gym.spaces.Discrete)
    assert action.space().n == 3


def test_choice_offers_nothing_else() -> None:
    action = ChoiceAction(choices=(schedules.Cosine(), schedules.Linear()))
    with pytest.raises(SchedrlError, match=r"'choice' does not offer schedule .*\"gamma\":0\.3"):
        action.encode(schedules.Tangent(gamma=0.3), 0, (), LIMITS)


# --- all ---


@laws
@pytest.mark.parametrize(
    "action",
    [
        KnotsAction(bins=6, reference=schedules.Tangent(gamma=0.2)),
        KnotsAction(bins=2, scale=0.1, reference=schedules.PrintedLinear()),
        KernelAction(knots=5, num_train_timesteps=100, reference=schedules.Tangent(gamma=0.2)),
        KernelAction(knots=1, num_train_timesteps=1, reference=schedules.PrintedLinear()),
    ],
    ids=["knots", "two-knots", "kernel", "one-knot"],
)
def test_every_law_has_a_projection(action: KnotsAction | KernelAction, law: AnySchedule) -> None:
    sweep = encoded(action, law)
    space = action.space()
    for row in sweep[:, 0]:
        assert row.dtype == np.float32
        assert space.contains(row), row
    assert_monotone(decode(action, sweep)[0])


@pytest.mark.parametrize("action", [KnotsAction(reference=law) for law in EVERY_LAW[:3]])
def test_the_reference_is_encoded_as_zero(action: KnotsAction) -> None:
    np.testing.assert_allclose(action.encode(action.reference, 0, (), LIMITS), 0.0, atol=1e-7)
    kernel = KernelAction(knots=10, reference=action.reference)
    np.testing.assert_allclose(encoded(kernel, action.reference), 0.0, atol=1e-7)


def test_actions_are_plain_data() -> None:
    adapter: TypeAdapter[AnyAction] = TypeAdapter(AnyAction)
    kinds = [
        KnotsAction(reference=EVERY_LAW[-3]),
        KernelAction(reference=EVERY_LAW[-1]),
        GainAction(),
        ChoiceAction(choices=tuple(EVERY_LAW)),
    ]
    for action in kinds:
        assert adapter.validate_json(action.model_dump_json()) == action
        assert adapter.validate_python(action.model_dump(mode="json")) == action
        assert hash(action) == hash(adapter.validate_json(action.model_dump_json()))


def test_spaces() -> None:
    assert KnotsAction(bins=9, reference=schedules.Cosine()).space() == gym.spaces.Box(
        -1, 1, (9,), np.float32
    )
    assert KernelAction(reference=schedules.Cosine()).space() == gym.spaces.Box(-1, 1, (1,), np.float32)
    assert GainAction().space() == gym.spaces.Box(-1, 1, (1,), np.float32)


@pytest.mark.parametrize(
    ("model", "fields", "message"),
    [
        (KnotsAction, {"reference": "cosine", "bins": 1}, r"field 'bins': .* \(got 1\)"),
        (KnotsAction, {"reference": "cosin"}, "did you mean 'cosine'"),
        (KnotsAction, {}, "field 'reference': Field required"),
        (KnotsAction, {"reference": "cosine", "scale": 0.0}, "field 'scale'"),
        (KernelAction, {"reference": "cosine", "knots": 7}, r"must be a multiple of knots = 7 \(got 1000\)"),
        (KernelAction, {"reference": "cosine", "knots": 0}, "field 'knots'"),
        (GainAction, {"minimum": 30.0}, r"initial_gain must lie in .*\[30\.0, 200\.0\] \(got 20\.0\)"),
        (GainAction, {"maximum": 10.0}, "initial_gain must lie in"),
        (GainAction, {"minimum": 50.0, "maximum": 10.0}, "initial_gain must lie in"),
        (GainAction, {"alpha": 1e9}, "field 'alpha'"),
        (ChoiceAction, {"choices": ["cosine"]}, "at least 2"),
        (
            ChoiceAction,
            {"choices": ["cosine", {"name": "tangent", "gama": 1}]},
            "did you mean 'choices.1.gamma'",
        ),
    ],
)
def test_bad_actions(model: type[Spec], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SchedrlError, match=message):
        parse(model, fields, "action")


def test_names_of_kinds_are_distinct() -> None:
    kinds: list[type[Spec]] = [KnotsAction, KernelAction, GainAction, ChoiceAction]
    assert len({kind.model_fields["kind"].default for kind in kinds}) == len(kinds)
