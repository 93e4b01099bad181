"""Specifications: names, defaults, JSON, unions, and the memory cache behind ``load``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from schedrl import data
from schedrl.errors import SchedrlError, Spec, parse


class Holder(Spec):
    """Something that has an image set as a field."""

    data: data.AnyData


def test_names() -> None:
    assert data.names() == ["cifar10", "digits", "fashion-mnist", "folder", "mnist", "npz"]


@pytest.mark.parametrize(
    ("name", "validation", "test"),
    [("digits", 250, 250), ("mnist", 5000, 10000), ("fashion-mnist", 5000, 10000), ("cifar10", 5000, 10000)],
)
def test_defaults(name: str, validation: int, test: int) -> None:
    spec = data.get(name)
    assert (spec.name, spec.validation, spec.test) == (name, validation, test)
    assert (spec.split_seed, spec.limit, spec.root) == (0, None, None)


@pytest.mark.parametrize(
    "spec",
    [
        data.Digits(limit=5),
        data.MNIST(split_seed=3),
        data.FashionMNIST(root="/somewhere"),
        data.CIFAR10(test=17),
        data.ImageFolder(path="pictures", size=16, channels=1),
        data.Npz(path="a.npz", key="x", layout="NCHW", low=-1.0),
    ],
)
def test_json_round_trip_through_the_union(spec: data.DataSpec) -> None:
    text = Holder(data=spec).model_dump_json()
    again = Holder.model_validate_json(text)
    assert again.data == spec
    assert type(again.data) is type(spec)
    assert hash(again.data) == hash(spec)
    assert TypeAdapter(data.AnyData).validate_python(spec.model_dump()) == spec


def test_specs_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        data.Digits().limit = 3


def test_unknown_name_suggests() -> None:
    with pytest.raises(
        SchedrlError, match=r"unknown image set 'fashon-mnist'; did you mean 'fashion-mnist'\?"
    ):
        data.get("fashon-mnist")
    with pytest.raises(SchedrlError, match=r"field 'data'.*'digit'.*did you mean 'digits'"):
        parse(Holder, {"data": {"name": "digit"}}, "holder")


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("digits", {"validation": 0}, "'validation'.*greater than or equal to 1.*got 0"),
        ("digits", {"test": -1}, "'test'"),
        ("digits", {"limit": 0}, "'limit'"),
        ("digits", {"split_seed": -1}, "'split_seed'"),
        ("digits", {"split_sed": 1}, "did you mean 'split_seed'"),
        ("folder", {"size": 8}, "'path'"),
        ("folder", {"path": "", "size": 8}, "'path'"),
        ("folder", {"path": "x", "size": 0}, "'size'"),
        ("folder", {"path": "x", "size": 8, "channels": 2}, "'channels'"),
        ("npz", {"path": "x", "layout": "HWC"}, "'layout'"),
        ("npz", {"path": "x", "low": 1.0, "high": 1.0}, "low must be less than high"),
    ],
)
def test_bad_fields(name: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(SchedrlError, match=message) as caught:
        data.get(name, **fields)
    assert "\n" not in str(caught.value)


def test_load_shares_one_copy() -> None:
    spec = data.Digits(split_seed=77)
    assert data.load(spec) is data.load(data.Digits(split_seed=77))
    assert data.load(spec) is not data.load(data.Digits(split_seed=78))
    assert data.load(spec).fingerprint() != data.load(data.Digits(split_seed=78)).fingerprint()


def test_digits_need_no_files() -> None:
    assert data.missing(data.Digits()) is None
    assert data.load(data.Digits(), download=True) is data.load(data.Digits())


def test_digits_too_many_held_out() -> None:
    with pytest.raises(
        SchedrlError, match=r"digits: 1797 images are too few for test=1000 and validation=797"
    ):
        data.load(data.Digits(test=1000, validation=797))


def test_import_is_light() -> None:
    """Neither the package nor a look for missing files imports the heavy libraries."""
    code = (
        "import sys; from schedrl import data; data.missing(data.CIFAR10()); data.missing(data.Digits()); "
        "print(sorted({'torch', 'torchvision', 'sklearn', 'PIL'} & set(sys.modules)))"
    )
    env = os.environ | {"PYTHONPATH": str(Path(data.__file__).parents[2])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert result.stdout.strip() == "[]"


def test_the_shapes_known_without_reading() -> None:
    assert data.SHAPES["digits"] == data.load(data.get("digits")).image_shape
    assert data.SHAPES.keys() == set(data.names()) - {"folder", "npz"}
