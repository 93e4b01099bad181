"""What an agent sees."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedrl.environments.observations import LIMIT, FeatureName, ObservationSpec, RunView
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
        "memory": np.log([2.0, 20.0, 200.0]),
    }
    return RunView(**{**fields, **changes})


subsets = st.lists(st.sampled_from(FEATURES), min_size=1, max_size=8, unique=True)


@given(subsets, st.integers(1, LEVELS))
def test_names_spaces_and_rows_agree(features: list[FeatureName], bins: int) -> None:
    spec = ObservationSpec(features=tuple(features), bins=bins)
    rows = spec.observe(view())
    assert rows.shape == (RUNS, len(spec.names)) == (RUNS, *spec.space().shape)
    assert len(set(spec.names)) == len(spec.names)
    for row in rows:
        assert spec.space().contains(row)
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
        **{name: np.full(RUNS, value) for name in RunView.__annotations__ if name != "mse"},
        mse=np.full((RUNS, LEVELS), value),
    )
    rows = spec.observe(bad)
    assert np.isfinite(rows).all()
    assert np.abs(rows).max() <= LIMIT
    if np.isnan(value):
        assert (rows == LIMIT).all()


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
