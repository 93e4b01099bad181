"""Variants of sampling environments: what they refuse, and that they survive JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.environments.variants import parse_variant
from schedrl.errors import SchedrlError


def test_json_round_trip(make_variant: Any, kind: str) -> None:
    variant = make_variant(kind)
    again = parse_variant(json.loads(variant.model_dump_json()))
    assert again == variant
    assert again.fingerprint() == variant.fingerprint()


def test_what_acts_is_in_the_fingerprint(make_variant: Any) -> None:
    variant = make_variant("gaussian")
    for change in (
        {"sampler": "ddpm"},
        {"action.scale": 2.0},
        {"steps.maximum": 7},
        {"reward.kind": "final"},
    ):
        assert make_variant("gaussian", **change).fingerprint() != variant.fingerprint()
    assert make_variant("gaussian", description="other", id="a/B-v1").fingerprint() == variant.fingerprint()
    root = {"source": {"data": {"root": "elsewhere"}}}
    assert make_variant("images", **root).fingerprint() == make_variant("images").fingerprint()


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("gaussian", {"steps.minimum": 0}, r"field 'steps.minimum': .*greater than or equal to 1 \(got 0\)"),
        ("gaussian", {"steps.minimum": 9}, r"maximum must be at least minimum = 9 \(got 6\)"),
        ("gaussian", {"sampler": "dim"}, "did you mean 'ddim'"),
        ("gaussian", {"sampler": "ddpm-exact"}, "there is nothing to learn"),
        ("gaussian", {"sampler": "heun"}, "Heun starts from a finite sigma"),
        ("gaussian", {"source.spectrum": {"name": "fixed", "values": [1.0, 0.0]}}, r"values"),
        ("gaussian", {"source.spectrum": {"name": "fixed", "values": [-1.0]}}, r"values"),
        ("gaussian", {"source.spectrum.decade": 2}, "did you mean 'source.spectrum.decades'"),
        ("gaussian", {"source.quantiles": 0}, "source.quantiles"),
        ("gaussian", {"source.kind": "gausian"}, "did you mean 'gaussian'"),
        ("gaussian", {"action.scale": -1.0}, "action.scale"),
        (
            "gaussian",
            {"action.reference": {"name": "law", "grid": {"name": "karras", "final_zero": False}}},
            r"action.reference: grid 'karras' must end at 0 \(ends at 0.002\)",
        ),
        ("images", {"source.floor": 0.0}, "source.floor"),
        ("images", {"source.data.name": "digit"}, "did you mean 'digits'"),
        ("mixture", {"sampler": "ddpm"}, "needs 'ddim'"),
        ("mixture", {"source.dimension": [0.5, 10.0]}, "source.dimension"),
        ("mixture", {"source.dimension": [100.0, 10.0]}, "the least value comes first"),
        ("mixture", {"source.majority": [0.4, 0.8]}, "source.majority"),
        ("mixture", {"source.variance": [0.0, 1.0]}, "source.variance"),
        ("mixture", {"action.reference": {"name": "law", "grid": "karras"}}, "must start at infinity"),
        ("curie-weiss", {"source.inverse_temperature": [0.9, 2.0]}, "source.inverse_temperature"),
        ("curie-weiss", {"source.inverse_temperature": [1.05, 2.0]}, "modes must be 10 nats apart"),
        ("curie-weiss", {"action.reference": {"name": "geodesic"}}, "'geodesic' is for Gaussian sources"),
    ],
)
def test_bad_input(make_variant: Any, kind: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(SchedrlError, match=message) as caught:
        make_variant(kind, **change)
    assert "\n" not in str(caught.value)


def test_unknown_family(make_variant: Any) -> None:
    with pytest.raises(SchedrlError, match="did you mean 'sampling'"):
        parse_variant(make_variant("gaussian").model_dump(mode="json"), {"family": "sampler"})


def test_a_variant_is_of_its_family(make_variant: Any) -> None:
    from schedrl.environments.registration import sampling_variant, training_variant

    assert isinstance(sampling_variant("schedrl/GaussianSampling-v0"), SamplingVariant)
    with pytest.raises(SchedrlError, match="is of the family 'sampling', and this needs 'training'"):
        training_variant("schedrl/GaussianSampling-v0")
    with pytest.raises(SchedrlError, match="is of the family 'training', and this needs 'sampling'"):
        sampling_variant("schedrl/DigitsKnots-v0")
