"""Variants: overrides, messages, fingerprints."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from schedrl import data, schedules
from schedrl.environments.training.actions import KernelAction
from schedrl.environments.training.variant import EpisodeSpec, TrainingVariant
from schedrl.environments.variants import of_family, parse_variant
from schedrl.errors import SchedrlError, parse
from schedrl.files import parse_object
from schedrl.metrics.metric_specs import BoundSpec

# Everything else is left to its default.
SMALL: dict[str, Any] = {
    "id": "test/Small-v0",
    "data": {"name": "digits"},
    "action": {"kind": "knots", "bins": 4, "reference": {"name": "tangent", "gamma": 0.3}},
}


def changed(definition: dict[str, Any], overrides: dict[str, Any]) -> TrainingVariant:
    return of_family(parse_variant(definition, overrides), TrainingVariant)


def change(**overrides: Any) -> TrainingVariant:
    return changed(SMALL, overrides)


# --- overrides ---


def test_nothing_changed() -> None:
    assert change() == parse(TrainingVariant, SMALL, "variant")
    assert change().training.batch_size == 32
    assert change().optimizer_steps == 200


@pytest.mark.parametrize(
    "overrides",
    [
        {"training": {"optimizer": {"learning_rate": 0.5}}},
        {"training.optimizer.learning_rate": 0.5},
        {"training.optimizer": {"learning_rate": 0.5}},
        {"training": {"batch_size": 7}, "training.batch_size": 32, "training.optimizer.learning_rate": 0.5},
    ],
)
def test_nested_and_dotted_are_the_same(overrides: dict[str, Any]) -> None:
    variant = change(**overrides)
    assert variant.training.optimizer.learning_rate == 0.5
    # The neighbours of what was changed stay, though the definition leaves them to their defaults.
    assert variant.training.optimizer.betas == (0.9, 0.999)
    assert variant.training.batch_size == 32
    assert variant.model_copy(update={"training": change().training}) == change()


def test_models_as_overrides() -> None:
    variant = change(episode=EpisodeSpec(phases=3), bound=BoundSpec(levels=9), data=data.Digits(limit=50))
    assert (variant.episode.phases, variant.bound.levels, variant.data.limit) == (3, 9, 50)
    law = schedules.PiecewiseLogSNR(u=(0.0, 1.0), logsnr=(4.0, -4.0))
    assert change(**{"action.reference": law}).action.reference == law  # type: ignore[union-attr]


def test_another_name_replaces() -> None:
    variant = change(**{"action.reference": {"name": "cosine", "s": 0.1}})
    assert variant.action.reference == schedules.Cosine(s=0.1)  # type: ignore[union-attr]
    assert variant.action.bins == 4  # type: ignore[union-attr]
    assert change(**{"action.reference": "linear"}).action.reference == schedules.Linear()  # type: ignore[union-attr]
    assert change(data={"name": "fashion-mnist"}).data == data.FashionMNIST()
    action = change(action={"kind": "kernel", "reference": "cosine"}).action
    assert action == KernelAction(reference=schedules.Cosine())
    assert change(reward={"kind": "own_loss"}).reward.kind == "own_loss"


def test_the_same_name_merges() -> None:
    variant = changed(
        {**SMALL, "data": {"name": "digits", "limit": 90, "test": 20}},
        {"data": {"name": "digits", "limit": 40}},
    )
    assert variant.data == data.Digits(limit=40, test=20)
    variant = changed(
        # The name that is given here was left to its default there: the rate is kept.
        {**SMALL, "training": {"optimizer": {"learning_rate": 0.5}}},
        {"training.optimizer.name": "adam"},
    )
    assert variant.training.optimizer.learning_rate == 0.5


def test_parts_that_can_be_absent() -> None:
    assert change(test_bound=None).test_bound is None
    without = change(test_bound=None).model_dump(mode="json")
    again = changed(without, {"test_bound.images": 5}).test_bound
    assert again == BoundSpec(images=5)
    assert change(num_train_timesteps=100).timesteps == 100


def test_arguments_are_left_alone() -> None:
    definition, overrides = copy.deepcopy(SMALL), {"training": {"batch_size": 7}, "training.ema_decay": 0.5}
    before = copy.deepcopy((definition, overrides))
    variant = changed(definition, overrides)
    assert (variant.training.batch_size, variant.training.ema_decay) == (7, 0.5)
    assert (definition, overrides) == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"trainig": {}}, r"^test/Small-v0: unknown field 'trainig'; did you mean 'training'\?"),
        (
            {"training.batchsize": 3},
            r"unknown field 'training\.batchsize'; did you mean 'training\.batch_size'\?",
        ),
        ({"action": {"binz": 3}}, r"unknown field 'action\.binz'; did you mean 'action\.bins'\?"),
        (
            {"action.reference.gama": 1},
            r"'action\.reference\.gama'; did you mean 'action\.reference\.gamma'\?",
        ),
        ({"action": {"kind": "knot"}}, r"field 'action': unknown kind 'knot'; did you mean 'knots'\?"),
        ({"action": {"kind": "kernel"}}, r"field 'action\.reference': Field required"),
        ({"action.reference": "cosin"}, "unknown name 'cosin'; did you mean 'cosine'"),
        ({"data": {"name": "digit"}}, "unknown name 'digit'; did you mean 'digits'"),
        ({"data": "digits"}, "field 'data'"),
        ({"reward": {"kind": "ownloss"}}, "did you mean 'own_loss'"),
        ({"reward.kind": "bond"}, "did you mean 'bound'"),
        ({"training.prediction_type": "eps"}, "did you mean 'epsilon'"),
        ({"training.batch_size": 0}, r"field 'training\.batch_size': .*greater than or equal to 1 \(got 0\)"),
        ({"training.batch_size": 2.5}, r"field 'training\.batch_size'.*\(got 2\.5\)"),
        ({"training.optimizer.learning_rate": float("nan")}, r"field 'training\.optimizer\.learning_rate'"),
        ({"training.ema_decay": 1.0}, r"field 'training\.ema_decay'"),
        ({"episode.divergence_error": 0.5}, r"field 'episode\.divergence_error'"),
        ({"episode.phases": 0}, r"field 'episode\.phases'"),
        ({"bound.logsnr_min": 9.0}, "field 'bound': logsnr_min must be below logsnr_max"),
        ({"observation.bins": 15}, r"Small-v0: observation\.bins: at most bound\.levels = 14 \(got 15\)"),
        ({"bound.levels": 3}, r"observation\.bins: at most bound\.levels = 3 \(got 7\)"),
        ({"family": "sampling"}, "field 'family': cannot be changed from 'training'"),
        ({"id": "no-version"}, "field 'id'"),
        ({"": 1}, "unknown field ''"),
    ],
)
def test_bad_overrides(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(SchedrlError, match=message) as caught:
        change(**overrides)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


KERNEL = {"kind": "kernel", "reference": "cosine"}


def test_the_kernel_brings_its_timesteps() -> None:
    assert change(action=KERNEL).timesteps == 1000
    assert change(action={**KERNEL, "num_train_timesteps": 50}).timesteps == 50
    assert change(action=KERNEL, num_train_timesteps=1000).timesteps == 1000
    with pytest.raises(SchedrlError, match=r"v0: num_train_timesteps: the kernel action has its own; leave"):
        change(action=KERNEL, num_train_timesteps=500)
    with pytest.raises(
        SchedrlError, match=r"field 'action': num_train_timesteps must be a multiple of knots = 7"
    ):
        change(action={**KERNEL, "knots": 7})
    assert change().timesteps is None


# --- fingerprints ---


def test_fingerprint_is_of_what_acts() -> None:
    base = change()
    assert change(id="other/Name-v3", description="words").fingerprint() == base.fingerprint()
    assert change(**{"data.root": "/somewhere/else"}).fingerprint() == base.fingerprint()
    # A default that is written out is the same environment.
    written = parse(TrainingVariant, base.model_dump(mode="json"), "variant")
    assert written.fingerprint() == base.fingerprint()
    assert len(base.fingerprint()) == 16
    changes: list[dict[str, Any]] = [
        {"data.split_seed": 1},
        {"training.batch_size": 33},
        {"action.bins": 5},
        {"action.reference.gamma": 0.31},
        {"observation.bins": 6},
        {"reward": {"kind": "own_loss"}},
        {"bound.levels": 15},
        {"test_bound": None},
        {"episode.phases": 2},
        {"num_train_timesteps": 1000},
    ]
    prints = {change(**one).fingerprint() for one in changes} | {base.fingerprint()}
    assert len(prints) == len(changes) + 1


def test_protocol_fingerprint_is_of_what_a_schedule_is_tried_on() -> None:
    base = change().protocol_fingerprint()
    same: list[dict[str, Any]] = [
        {"action": KERNEL},
        {"action.reference": "cosine"},
        {"observation.features": ["budget"]},
        {"reward": {"kind": "own_loss"}},
        {"episode": {"phases": 4, "steps_per_phase": 50}},
        {"data.root": "/somewhere/else"},
        {"id": "other/Name-v3"},
    ]
    assert {change(**one).protocol_fingerprint() for one in same} == {base}
    other: list[dict[str, Any]] = [
        {"episode.phases": 2},
        {"data.limit": 100},
        {"training.optimizer.learning_rate": 0.1},
        {"bound.levels": 15},
        {"test_bound": None},
    ]
    prints = {change(**one).protocol_fingerprint() for one in other}
    assert len(prints) == len(other)
    assert base not in prints


def test_variants_are_plain_data(make_variant: Any, kind: str) -> None:
    variant = make_variant(kind)
    assert TrainingVariant.model_validate_json(variant.model_dump_json()) == variant
    assert json.loads(variant.model_dump_json()) == variant.model_dump(mode="json")
    assert hash(variant) == hash(TrainingVariant.model_validate_json(variant.model_dump_json()))


def test_laws_with_renamed_fields_survive() -> None:
    law = {"name": "piecewise", "u": [0.0, 0.4, 1.0], "logsnr": [7.0, 1.0, -5.0]}
    variant = change(**{"action.reference": law})
    assert variant.model_dump(mode="json")["action"]["reference"] == law
    assert changed(variant.model_dump(mode="json"), {}) == variant


# --- files ---


def test_toml() -> None:
    assert parse_object('id = "a/B-v0"\n[episode]\nphases = 3\n', "x.toml", toml=True) == {
        "id": "a/B-v0",
        "episode": {"phases": 3},
    }
    with pytest.raises(SchedrlError, match=r"^x\.toml: is not TOML: "):
        parse_object("id = [", "x.toml", toml=True)
