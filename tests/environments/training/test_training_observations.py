"""What an agent sees."""

from __future__ import annotations

from typing import Any, get_args

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedrl.environments.definition import OBSERVATION_LIMIT
from schedrl.environments.training.observations import FeatureName, ObservationSpec, RunView
from schedrl.errors import SchedrlError, parse

FEATURES: tuple[FeatureName, ...] = get_args(FeatureName)
RUNS, LEVELS = 3, 8


def view(**changes: Any) -> RunView:
    """Three runs in ordinary circumstances."""
    rng = np.random.default_rng(0)
    fields: dict[str, Any] = {
        "time": np.array([0.0, 0.5, 0.9]),
        "sigma_local": np.array([0.1, 0.4, 0.9]),
        "logsnr": np.array([8.0, 0.0, -6.0]),
        "budget": np.array([1.0, 0.5, 0.0]),
        "mse": rng.uniform(0.05, 1.0, (RUNS, LEVELS)),
        "gradient_norm": np.array([0.5, 1.0, 2.0]),
        "gradient_average": np.array([0.6, 0.9, 1.5]),
        "memory": np.log([[2.0, 1.0, 0.5, 0.01], [20.0, 2.0, 1.0, 0.1], [200.0, 50.0, 100.0, 10.0]]),
    }
    return RunView(**{**fields, **changes})


subsets = st.lists(st.sampled_from(FEATURES), min_size=1, max_size=8, unique=True)


@given(subsets, st.integers(1, LEVELS))
def test_names_spaces_and_rows_agree(features: list[FeatureName], bins: int) -> None:
    spec = ObservationSpec(features=tuple(features), bins=bins)
    rows = spec.observe(view())
    assert rows.shape == (RUNS, len(spec.names))
    box = gym.spaces.Box(-OBSERVATION_LIMIT, OBSERVATION_LIMIT, (len(spec.names),), np.float32)
    assert len(set(spec.names)) == len(spec.names)
    for row in rows:
        assert box.contains(row)
    # Each entry is what it is called, wherever it stands.
    for feature in features:
        alone = ObservationSpec(features=(feature,), bins=bins)
        columns = [spec.names.index(name) for name in alone.names]
        np.testing.assert_array_equal(rows[:, columns], alone.observe(view()))


def test_values() -> None:
    spec = ObservationSpec(
        features=("time", "sigma_local", "logsnr", "budget", "gradient_norm", "gradient_average")
    )
    rows = spec.observe(view())
    np.testing.assert_allclose(rows[:, 0], [0.0, 0.5, 0.9], rtol=1e-6)
    np.testing.assert_allclose(rows[:, 1], [0.1, 0.4, 0.9], rtol=1e-6)
    np.testing.assert_allclose(rows[:, 2], [0.8, 0.0, -0.6], rtol=1e-6)
    np.testing.assert_allclose(rows[:, 3], [1.0, 0.5, 0.0], rtol=1e-6)
    np.testing.assert_allclose(rows[:, 4], np.log([0.5, 1.0, 2.0]), rtol=1e-6)
    np.testing.assert_allclose(rows[:, 5], np.log([0.6, 0.9, 1.5]), rtol=1e-6)


def test_bound_bins_are_means_of_logs_from_the_data_end() -> None:
    mse = np.exp(np.arange(8.0))[None] / 1000.0
    spec = ObservationSpec(features=("bound_bins",), bins=3)  # eight levels: groups of 3, 3 and 2
    logs = np.log(mse[0])
    expected = [logs[:3].mean(), logs[3:6].mean(), logs[6:].mean()]
    one = {name: getattr(view(), name)[:1] for name in RunView.__annotations__ if name != "mse"}
    np.testing.assert_allclose(spec.observe(RunView(mse=mse, **one))[0], np.clip(expected, -5, 5), rtol=1e-6)
    assert spec.names == ("bound_bin_0", "bound_bin_1", "bound_bin_2")


@given(subsets, st.sampled_from([0.0, np.inf, -np.inf, np.nan, 1e300, -1e300, 1e-300]))
def test_anything_is_shown_inside_the_box(features: list[FeatureName], value: float) -> None:
    spec = ObservationSpec(features=tuple(features))
    bad = view(
        **{name: np.full(RUNS, value) for name in RunView.__annotations__ if name not in ("mse", "memory")},
        mse=np.full((RUNS, LEVELS), value),
        memory=np.full((RUNS, 4), value),
    )
    rows = spec.observe(bad)
    assert np.isfinite(rows).all()
    assert np.abs(rows).max() <= OBSERVATION_LIMIT
    if np.isnan(value):
        assert (rows == OBSERVATION_LIMIT).all()


def test_bare_kernel_sees_two_numbers() -> None:
    assert ObservationSpec(features=("time", "sigma_local")).names == ("time", "sigma_local")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"features": ["tme"]}, "did you mean 'time'"),
        ({"features": []}, "at least 1"),
        ({"bins": 0}, "bins"),
        ({"bin": 3}, "did you mean 'bins'"),
    ],
)
def test_bad_observations(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SchedrlError, match=message):
        parse(ObservationSpec, fields, "observation")


# --- in the environment ---


def test_the_kernels_walk(episodes: Any, make_vector: Any) -> None:
    env = make_vector("kernel", 2)
    names = list(env.observation_names)
    time, logsnr, sigma = (names.index(name) for name in ("time", "logsnr", "sigma_local"))
    observation, _ = env.reset(seed=0)
    rows = np.stack([observation, *(env.step(action)[0] for action in episodes.actions(env, 3))])
    np.testing.assert_allclose(rows[:, 0, time], [0.0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(rows[0, :, logsnr], 0.8)  # clean images show the data end of the range
    assert (np.diff(rows[:, :, logsnr], axis=0) < 0).all()
    assert (np.diff(rows[:, :, sigma], axis=0) != 0).all()
    # lambda is that of the schedule the walk will end in.
    env.step(episodes.actions(env, 1, seed=5)[0])
    for run in range(2):
        reached = env.runs.history[run][0].logsnr_steps(40)[[9, 19, 29]] / 10.0
        np.testing.assert_allclose(rows[1:, run, logsnr], np.clip(reached, -5, 5), rtol=1e-5)


def test_gradient_average_is_bias_corrected(episodes: Any, make_vector: Any) -> None:
    features = ["gradient_norm", "gradient_average"]
    env = make_vector("knots", 2, **{"observation.features": features, "episode.gradient_decay": 0.5})
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(observation, 0.0)  # log 1 before anything is known
    recorded: list[np.ndarray] = []
    train = env.runs.population.train

    def recording(*arguments: Any) -> Any:
        record = train(*arguments)
        recorded.extend(record.gradient_norm.astype(np.float64))
        return record

    env.runs.population.train = recording
    observation = env.step(episodes.actions(env, 1)[0])[0]
    first, second = recorded
    np.testing.assert_allclose(observation[:, 0], np.log(np.sqrt((first**2 + second**2) / 2)), rtol=1e-5)
    np.testing.assert_allclose(observation[:, 1], np.log((first + 2 * second) / 3), rtol=1e-5, atol=1e-6)


def test_all_that_dsc_carries_is_seen() -> None:
    features: tuple[FeatureName, ...] = ("log_gain", "log_alpha", "log_gamma", "log_boost")
    rows = ObservationSpec(features=features).observe(view())
    np.testing.assert_allclose(3.0 * rows, view().memory, rtol=1e-6)
    nothing = view(memory=np.zeros((RUNS, 0)))
    np.testing.assert_array_equal(ObservationSpec(features=features).observe(nothing), 0.0)


def test_log_gain_is_seen_and_restarts(make_vector: Any) -> None:
    env = make_vector("gain", 2, **{"observation.features": ["log_gain"]})
    start, _ = env.reset(seed=0)
    up = np.ones((2, 1), np.float32)
    moved = env.step(up)[0]
    assert (moved > start).all()
    after, _, ended, _, infos = env.step(-up)
    assert ended.all()
    np.testing.assert_array_equal(after, start)
    np.testing.assert_allclose(np.stack(infos["final_obs"]), start, rtol=1e-6)  # up and down again
