"""Schedules by name, as JSON and as a field."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from schedrl import schedules
from schedrl.errors import SchedrlError, Spec, parse


class Experiment(Spec):
    """A model with a schedule and a grid law in it."""

    schedule: schedules.AnySchedule = schedules.Cosine()
    grid: schedules.AnyGridLaw = schedules.KarrasGrid()


def test_names() -> None:
    assert set(schedules.names()) == {
        "linear",
        "scaled-linear",
        "cosine",
        "sigmoid",
        "vp",
        "ve",
        "karras",
        "edm",
        "laplace",
        "tangent",
        "uniform",
        "printed-linear",
        "ava",
        "piecewise",
        "betas",
        "beta-knots",
    }
    assert len(schedules.names()) == 16
    for name in schedules.names():
        assert schedules.schedule_type(name).model_fields["name"].default == name


def test_get_passes_parameters() -> None:
    assert schedules.get("cosine", s=0.0) == schedules.Cosine(s=0.0)
    assert schedules.get("cosine") != schedules.get("cosine", s=0.0)
    assert schedules.get("tangent", gamma=1) == schedules.Tangent()


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("cosin", {}, r"^unknown schedule 'cosin'; did you mean 'cosine'\? Known: ava, "),
        ("", {}, r"^unknown schedule ''; Known"),
        ("ve", {"sigma_mix": 1.0}, r"^schedule 've': unknown field 'sigma_mix'; did you mean 'sigma_m"),
        ("linear", {"beta_start": 0.0}, r"field 'beta_start': Input should be greater than 0 \(got 0\.0\)"),
        (
            "linear",
            {"beta_start": 0.5},
            r"field 'beta_end': must be greater than beta_start = 0\.5 \(got 0\.02\)",
        ),
        ("scaled-linear", {"beta_end": 1.0}, r"field 'beta_end': Input should be less than 1 \(got 1\.0\)"),
        ("scaled-linear", {"beta_end": 1e-4}, r"field 'beta_end': must be greater than beta_start"),
        ("linear", {"num_train_timesteps": 0}, r"field 'num_train_timesteps'.*\(got 0\)"),
        ("cosine", {"s": -0.1}, r"field 's': Input should be greater than or equal to 0 \(got -0\.1\)"),
        ("cosine", {"s": "wide"}, r"field 's'.*valid number.*\(got 'wide'\)"),
        ("sigmoid", {"start": 4.0}, r"field 'end': must be greater than start = 4\.0 \(got 3\.0\)"),
        ("sigmoid", {"tau": 0.0}, r"field 'tau'.*\(got 0\.0\)"),
        ("vp", {"beta_max": 0.05}, r"field 'beta_max': must be greater than beta_min = 0\.1 \(got 0\.05\)"),
        ("vp", {"epsilon": 1.0}, r"field 'epsilon': Input should be less than 1 \(got 1\.0\)"),
        (
            "ve",
            {"sigma_min": 200.0},
            r"field 'sigma_max': must be greater than sigma_min = 200\.0 \(got 100\.0\)",
        ),
        ("ve", {"sigma_min": 0.0}, r"field 'sigma_min'.*\(got 0\.0\)"),
        ("karras", {"rho": 0.0}, r"field 'rho'.*\(got 0\.0\)"),
        ("edm", {"std": 0.0}, r"field 'std': Input should be greater than 0 \(got 0\.0\)"),
        ("edm", {"mean": float("nan")}, r"field 'mean'.*nan"),
        ("laplace", {"scale": -1.0}, r"field 'scale'.*\(got -1\.0\)"),
        ("tangent", {"gamma": float("inf")}, r"field 'gamma'.*\(got inf\)"),
        ("uniform", {"logsnr_min": 14.0}, r"field 'logsnr_max': must be greater than logsnr_min = 14\.0"),
        ("uniform", {"logsnr_max": 21.0}, r"field 'logsnr_max': Input should be less than or equal to 20"),
        ("ava", {"K": -1.0}, r"field 'K': Input should be greater than or equal to 0 \(got -1\.0\)"),
        ("ava", {"beta_init": 0.0}, r"field 'beta_init': Input should be greater than 0 \(got 0\.0\)"),
        ("ava", {"alpha": 0.0}, r"field 'alpha'.*\(got 0\.0\)"),
        ("betas", {}, r"^schedule 'betas': field 'betas': Field required$"),
    ],
)
def test_bad_input_is_explained(name: str, params: dict[str, object], message: str) -> None:
    with pytest.raises(SchedrlError, match=message):
        schedules.get(name, **params)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"schedule: is not JSON"),
        (b"\xff", r"schedule: is not JSON"),
        ("[1, 2]", r"schedule: must hold one JSON object \(got list\)"),
        ('{"s": 0.1}', r"must be an object with a field 'name' \(got \{'s': 0\.1\}\)"),
        ('{"name": 3}', r"must be an object with a field 'name'"),
        ('{"name": "tangant"}', r"unknown schedule 'tangant'; did you mean 'tangent'\?"),
        ('{"name": "tangent", "gamma": -1}', r"schedule 'tangent': field 'gamma'.*\(got -1\)"),
        ('{"name": "tangent", "gamma": NaN}', r"schedule: is not JSON: NaN is not a number"),
    ],
)
def test_bad_json_is_explained(text: str | bytes, message: str) -> None:
    with pytest.raises(SchedrlError, match=message):
        schedules.from_json(text)


def test_schedules_are_fields() -> None:
    experiment = Experiment.model_validate(
        {"schedule": "edm", "grid": {"name": "uniform", "schedule": {"name": "betas", "betas": [0.1, 0.2]}}}
    )
    assert experiment.schedule == schedules.EDM()
    assert experiment.grid == schedules.UniformTimeGrid(schedule=schedules.Betas(betas=(0.1, 0.2)))
    again = Experiment.model_validate_json(experiment.model_dump_json())
    assert again == experiment
    assert hash(again) == hash(experiment)
    assert '"betas":[0.1,0.2]' in experiment.model_dump_json()


def test_wrong_schedule_in_a_field_is_explained() -> None:
    with pytest.raises(
        SchedrlError, match=r"experiment: field 'schedule': unknown name 'cosin'; did you mean"
    ):
        parse(Experiment, {"schedule": {"name": "cosin"}}, "experiment")
    with pytest.raises(SchedrlError):
        Experiment(schedule=schedules.KarrasGrid())  # type: ignore[arg-type]


def test_import_is_light() -> None:
    code = (
        "import sys, schedrl.schedules as s; s.get('cosine').betas(10)\n"
        "print([m for m in ('scipy', 'torch', 'matplotlib', 'gymnasium') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if "gymnasium" not in done.stdout:  # `import schedrl` itself may register environments
        assert done.stdout.strip() == "[]"
    assert "torch" not in done.stdout


def test_public_names_exist() -> None:
    for name in schedules.__all__:
        assert hasattr(schedules, name)
    assert isinstance(schedules.get("cosine").logsnr(np.float32(0.5)), np.ndarray)
