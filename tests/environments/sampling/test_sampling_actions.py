"""References: even steps are the named grid, and places and levels map to each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedrl import schedules
from schedrl.environments.sampling.actions import (
    GeodesicReference,
    LawReference,
    Placement,
    ReferenceGrid,
    TangentReference,
    TwoScaleReference,
)
from schedrl.environments.sampling.gaussian_source import GaussianBatch
from schedrl.errors import SchedrlError, parse
from schedrl.sources.gaussian.laws import geodesic_sigmas


def sources(count: int = 1) -> Any:
    """Gaussian sources of one eigenvalue, and with a largest scale of their own."""
    batch = GaussianBatch(np.full((count, 1), 0.09), np.ones((count, 1)), "ddim")
    batch.near, batch.far = np.full(count, 0.3), np.full(count, 50.0)
    return batch


SOURCES = sources()


def law(grid: Any) -> LawReference:
    return parse(LawReference, {"grid": grid}, "reference")


REFERENCES: list[Any] = [
    TangentReference(),
    TangentReference(gamma=2.0),
    TwoScaleReference(),
    GeodesicReference(),
    law("karras"),
    law({"name": "tangent", "sigma_min": 0.01, "sigma_max": 5.0}),
    law("power-t"),
]


def levels(reference: Any, n: int) -> list[float]:
    placement, place = Placement(reference=reference), np.ones(1)
    made = [reference.first_sigma]
    for remaining in range(n, 0, -1):
        place = placement.next_place(place, np.array([remaining]), np.zeros(1))
        made.append(float(reference.sigma(place, np.array([n]), SOURCES)[0]))
    return made


@pytest.mark.parametrize("n", [1, 2, 7, 32])
def test_no_action_is_the_named_grid(n: int) -> None:
    for reference, law in (
        (REFERENCES[0], schedules.grid("tangent", n, gamma=0.3)),
        (REFERENCES[1], schedules.grid("tangent", n, gamma=2.0)),
        (REFERENCES[4], schedules.grid("karras", n)),
        (REFERENCES[5], schedules.grid("tangent", n, sigma_min=0.01, sigma_max=5.0)),
        (REFERENCES[6], schedules.grid("power-t", n)),
    ):
        np.testing.assert_allclose(levels(reference, n), law.sigmas, rtol=1e-11)


def test_the_geodesic_of_many_eigenvalues() -> None:
    spectra = np.array([[4.0, 1.0, 0.1], [9.0, 1.0, 0.01]])
    batch = GaussianBatch(spectra, np.ones_like(spectra), "ddim", quantiles=3)
    places = np.arange(1, 10) / 10
    for row in range(2):
        one = batch.take(np.full(9, row))
        made = GeodesicReference().sigma(places, np.full(9, 10), one)
        np.testing.assert_allclose(made, geodesic_sigmas(spectra[[row]], 10)[0, 9:0:-1], rtol=1e-4)


def test_two_scales() -> None:
    reference = TwoScaleReference(margin=0.25)
    at = np.array([0.0, 0.25, 0.75, 1.0])
    np.testing.assert_allclose(reference.sigma(at, np.full(4, 8), sources(4)), [0.0, 0.3, 50.0, np.inf])


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda r: r.name)
@given(place=st.floats(1e-4, 1.0 - 1e-4), n=st.integers(2, 40))
def test_places_and_levels(reference: ReferenceGrid, place: float, n: int) -> None:
    total = np.array([n])
    level = reference.sigma(np.array([place]), total, SOURCES)
    assert 0.0 < level[0] < np.inf
    np.testing.assert_allclose(reference.place(level, total, SOURCES), [place], rtol=1e-6)


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda r: r.name)
def test_levels_rise_with_the_place(reference: ReferenceGrid) -> None:
    places = np.linspace(0.0, 1.0, 501)
    made = reference.sigma(places, np.full(501, 9), sources(501))
    assert (np.diff(made) > 0.0).all()
    assert made[-1] == reference.first_sigma


@given(
    action=st.floats(-1.0, 1.0),
    place=st.floats(1e-3, 1.0),
    remaining=st.integers(1, 64),
    scale=st.floats(0.5, 6.0),
)
def test_an_action_is_found_again(action: float, place: float, remaining: int, scale: float) -> None:
    placement = Placement(scale=scale, reference=TangentReference(gamma=1.0))
    start, left, total = np.array([place]), np.array([remaining]), np.array([64])
    after = placement.next_place(start, left, np.array([action]))
    assert 0.0 <= after[0] < place
    if remaining == 1:
        assert after[0] == 0.0
        return
    sigmas = [placement.reference.sigma(w, total, SOURCES) for w in (start, after)]
    found = placement.encode(sigmas[0], sigmas[1], left, total, SOURCES)
    assert found.shape == (1, 1)
    assert found[0, 0] == pytest.approx(action, abs=2e-4)


def test_levels_out_of_reach_are_clipped() -> None:
    placement, one = Placement(scale=1.0, reference=TangentReference(gamma=1.0)), np.ones(1)
    left, total = np.array([5]), np.array([5])
    assert placement.encode(one, 0.999 * one, left, total, SOURCES)[0, 0] == -1.0
    assert placement.encode(one, 2.0 * one, left, total, SOURCES)[0, 0] == -1.0  # there is no way back
    assert placement.encode(one, 0.0 * one, left, total, SOURCES)[0, 0] == 1.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "tangnt"}, "did you mean 'tangent'"),
        ({"name": "tangent", "gamma": 0.0}, "reference.gamma"),
        ({"name": "two-scale", "margin": 0.5}, "reference.margin"),
        ({"name": "law", "grid": {"name": "karras", "sigma_min": 3.0, "sigma_max": 2.0}}, "sigma_max"),
    ],
)
def test_bad_references(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SchedrlError, match=message):
        parse(Placement, {"reference": fields}, "action")
