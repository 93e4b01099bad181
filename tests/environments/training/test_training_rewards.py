"""What a phase earns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from schedrl.environments.training.rewards import BoundReward, OwnLossReward

WORST_BOUND, WORST_ERROR = 110.0, 10.0
# The bound has a positive constant, so it is positive; a surviving run's is at most the worst.
BOUNDS = st.lists(st.floats(0.01, WORST_BOUND), min_size=2, max_size=9)
LOSSES = st.lists(st.floats(0.0, WORST_ERROR), min_size=1, max_size=9)


def bound_return(bounds: list[float]) -> float:
    reward = BoundReward()
    values = np.array(bounds)
    return float(reward.earned(values[:-1], values[1:], None).sum())


@given(BOUNDS)
def test_bound_telescopes(bounds: list[float]) -> None:
    assert bound_return(bounds) == pytest.approx(bounds[0] - bounds[-1], abs=1e-10)


@given(BOUNDS, st.lists(st.floats(0.01, WORST_BOUND), min_size=0, max_size=5))
def test_no_surviving_run_earns_less_than_a_lost_one(survivor: list[float], before_loss: list[float]) -> None:
    # Both begin at the same bound, for their networks say nothing yet.
    lost = [survivor[0], *before_loss]
    penalty = BoundReward().penalty(WORST_BOUND, WORST_ERROR, 9)
    assert np.isfinite(penalty)
    assert bound_return(lost) + penalty < bound_return(survivor)


@given(LOSSES, LOSSES)
def test_own_loss_and_its_penalty(survivor: list[float], before_loss: list[float]) -> None:
    reward = OwnLossReward()
    phases = max(len(survivor), len(before_loss) + 1)
    assume(sum(survivor) < phases * WORST_ERROR)
    nothing = np.zeros(1)

    def earned(losses: list[float]) -> float:
        return sum(float(reward.earned(nothing, nothing, np.array([loss]))[0]) for loss in losses)

    assert earned(survivor) == pytest.approx(-sum(survivor))
    assert earned(before_loss) + reward.penalty(WORST_BOUND, WORST_ERROR, phases) <= earned(survivor)


def test_what_they_need() -> None:
    assert OwnLossReward().needs_own_loss
    assert not BoundReward().needs_own_loss
