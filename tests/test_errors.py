"""Messages for the person who caused the error: one line, the field as they wrote it, what is allowed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError, model_validator

from schedrl import catalogue
from schedrl.errors import AgentFileError, MissingDataError, SchedrlError, Spec, parse, unknown_name


class Round(Spec):
    kind: Literal["round"] = "round"
    radius: Annotated[float, Field(gt=0.0)] = 1.0


class Square(Spec):
    kind: Literal["square"] = "square"
    side: float
    round: bool = False  # called like the other one's tag


class Renamed(Spec):
    side_values: tuple[float, ...] = Field(default=(), alias="sides")


Shape = Annotated[Round | Square, Field(discriminator="kind")]


class Inner(Spec):
    shape: Shape = Round()
    levels: int = 3
    mode: Literal["fast", "slow"] = "fast"
    number: Literal[1, 3] = 1


class Outer(Spec):
    inner: Inner = Inner()
    shapes: tuple[Shape, ...] = ()
    maybe: Inner | None = None
    renamed: Renamed = Renamed()
    note: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Outer:
        if self.note == "bad":
            raise ValueError("note: not this one")
        return self


def message(**data: Any) -> str:
    with pytest.raises(SchedrlError) as caught:
        parse(Outer, data, "thing 'x'")
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.__suppress_context__  # no pydantic traceback behind it
    assert text.startswith("thing 'x': ")
    return text.removeprefix("thing 'x': ")


def test_what_is_right_passes() -> None:
    made = parse(
        Outer, {"inner": {"shape": {"kind": "square", "side": 2.0}}, "renamed": {"sides": [1, 2]}}, "x"
    )
    assert made.inner.shape == Square(side=2.0)
    assert made.renamed.side_values == (1.0, 2.0)


def test_other_problems_are_counted() -> None:
    assert message(inner={"levels": "x"}, note=3).endswith(" (and 1 more problem)")
    assert message(inner={"levels": "x", "number": 2}, note=3).endswith(" (and 2 more problems)")
    assert "more" not in message(inner={"shape": {"kind": "square", "sid": 1.0}})  # misspelt, so missing


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            {"inne": {}},
            "unknown field 'inne'; did you mean 'inner'? Known: inner, maybe, note, renamed, shapes",
        ),
        (
            {"inner": {"level": 3}},
            (
                "unknown field 'inner.level'; did you mean 'inner.levels'? "
                "Known: inner.levels, inner.mode, inner.number, inner.shape"
            ),
        ),
        # The tag of a union is not a field: it does not stand in the path, and only its member's fields are offered.
        (
            {"inner": {"shape": {"kind": "round", "radus": 1}}},
            (
                "unknown field 'inner.shape.radus'; did you mean 'inner.shape.radius'? "
                "Known: inner.shape.kind, inner.shape.radius"
            ),
        ),
        (
            {"shapes": [{"kind": "round"}, {"kind": "square", "side": 1, "sid": 2}]},
            (
                "unknown field 'shapes.1.sid'; did you mean 'shapes.1.side'? "
                "Known: shapes.1.kind, shapes.1.round, shapes.1.side"
            ),
        ),
        (
            {"maybe": {"levls": 1}},
            (
                "unknown field 'maybe.levls'; did you mean 'maybe.levels'? "
                "Known: maybe.levels, maybe.mode, maybe.number, maybe.shape"
            ),
        ),
        # Fields are offered by the name that is written, not by that of the attribute.
        (
            {"renamed": {"side": [1]}},
            "unknown field 'renamed.side'; did you mean 'renamed.sides'? Known: renamed.sides",
        ),
        (
            {"renamed": {"sides": ["a"]}},
            (
                "field 'renamed.sides.0': Input should be a valid number, unable to parse "
                "string as a number (got 'a')"
            ),
        ),
        # A typo is reported before the field that it leaves missing.
        (
            {"inner": {"shape": {"kind": "square", "sid": 1}}},
            (
                "unknown field 'inner.shape.sid'; did you mean 'inner.shape.side'? "
                "Known: inner.shape.kind, inner.shape.round, inner.shape.side"
            ),
        ),
        ({"inner": {"shape": {"kind": "square"}}}, "field 'inner.shape.side': Field required"),
        (
            {"inner": {"shape": {"kind": "round", "radius": -1}}},
            "field 'inner.shape.radius': Input should be greater than 0 (got -1)",
        ),
        (
            {"inner": {"shape": {"kind": "square", "side": 1, "round": "no idea"}}},
            "field 'inner.shape.round': Input should be a valid boolean, unable to interpret input (got 'no idea')",
        ),
        (
            {"inner": {"shape": {"kind": "sqare"}}},
            "field 'inner.shape': unknown kind 'sqare'; did you mean 'square'? Known: round, square",
        ),
        ({"inner": {"shape": {"side": 3}}}, "field 'inner.shape.kind': is required; one of round, square"),
        (
            {"inner": {"mode": "fats"}},
            "field 'inner.mode': unknown value 'fats'; did you mean 'fast'? Known: fast, slow",
        ),
        ({"inner": {"number": 2}}, "field 'inner.number': unknown value '2'; Known: 1, 3"),
        (
            {"inner": {"levels": 1.5}},
            (
                "field 'inner.levels': Input should be a valid integer, got a number with a "
                "fractional part (got 1.5)"
            ),
        ),
        ({"inner": 3}, "field 'inner': Input should be a valid dictionary or instance of Inner (got 3)"),
        ({"note": "bad"}, "note: not this one"),
    ],
)
def test_messages(data: dict[str, Any], expected: str) -> None:
    assert message(**data) == expected


def test_infinite_and_nan_are_not_numbers_here() -> None:
    for value in (float("nan"), float("inf")):
        assert message(inner={"shape": {"kind": "round", "radius": value}}).startswith(
            "field 'inner.shape.radius': "
        )


def test_long_values_are_cut() -> None:
    text = message(inner={"levels": "x" * 1000})
    assert len(text) < 250
    assert "...)" in text
    assert "got array(" in message(inner={"levels": np.arange(100).reshape(10, 10)})


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(anything, st.sampled_from(["inner", "shapes", "renamed", "note"]))
def test_any_input_is_one_line(value: Any, field: str) -> None:
    try:
        parse(Outer, {field: value}, "thing")
        text = ""  # an empty sequence, say, is right
    except SchedrlError as error:
        text = str(error)
    assert "\n" not in text


@pytest.mark.parametrize(
    ("name", "hint"),
    [("cosin", "did you mean 'cosine'? "), ("Linear", "did you mean 'linear'? "), ("zzz", ""), ("", "")],
)
def test_unknown_name(name: str, hint: str) -> None:
    error = unknown_name("schedule", name, ["linear", "cosine"])
    assert str(error) == f"unknown schedule '{name}'; {hint}Known: cosine, linear"
    assert isinstance(error, SchedrlError)


def test_kinds_of_error() -> None:
    # A traceback means a bug: everything else is one class, and a ValueError for those who do not know it.
    for kind in (MissingDataError, AgentFileError):
        assert issubclass(kind, SchedrlError)
    assert issubclass(SchedrlError, ValueError)


def test_specs_are_frozen_and_strict() -> None:
    inner = Inner()
    with pytest.raises(ValidationError):
        inner.levels = 4
    with pytest.raises(SchedrlError, match="Inner: unknown field 'level'"):
        Inner(level=4)  # type: ignore[call-arg]
    assert {inner: 1}[Inner()] == 1
    assert Inner.model_validate_json(inner.model_dump_json()) == inner


def test_any_model_can_be_parsed() -> None:
    class Plain(BaseModel):
        size: int

    assert parse(Plain, {"size": 2}, "plain").size == 2
    with pytest.raises(SchedrlError, match=r"^plain: field 'size': Field required$"):
        parse(Plain, {}, "plain")


def test_catalogues_are_found() -> None:
    for name in ("envs", "agents"):
        assert list(catalogue.folder(name).glob("*.toml")), name
