"""Networks as sampling problems: an exact denoiser in a network's place, what is kept, what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from schedrl.diffusion import trained_models
from schedrl.diffusion.trained_models import FittedModel, register_predictor
from schedrl.environments.registration import sampling_variant
from schedrl.environments.sampling.env import SamplingVectorEnv
from schedrl.environments.sampling.network_source import FeaturesName, NetworkBatch
from schedrl.environments.sampling.problems import SamplingProblems
from schedrl.environments.sampling.variant import SamplingVariant
from schedrl.errors import SchedrlError
from schedrl.metrics.features import EXTRACTORS
from schedrl.schedules import grid
from schedrl.sources.gaussian.divergences import kl
from schedrl.sources.gaussian.recursions import output_variances

ENV = "schedrl/NetworkSampling-v0"
SPECTRUM = np.array([2.0, 0.5, 0.1, 0.02])


class Exact:
    """The noise estimate of a Gaussian whose pixels are its eigenvectors; counts its calls."""

    def __init__(self, spectrum: Any) -> None:
        self.spectrum = torch.as_tensor(spectrum, dtype=torch.float64).view(1, 1, 2, 2)
        self.calls: list[int] = []

    def __call__(self, z: torch.Tensor, logsnr: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(z))
        alpha2 = torch.sigmoid(logsnr.double()).view(-1, 1, 1, 1)
        return ((1.0 - alpha2).sqrt() * z / (alpha2 * self.spectrum + 1.0 - alpha2)).to(z.dtype)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> Exact:
    monkeypatch.setattr(trained_models, "_registered", {})
    made = Exact(SPECTRUM)
    register_predictor("exact", made, (1, 2, 2), eigenvalues=SPECTRUM)
    return made


def variant(**changes: Any) -> SamplingVariant:
    return sampling_variant(ENV, {"source.model": "exact", "source.clip": False, **changes})


def problems_of(seeds: Any = (3, 4), **changes: Any) -> SamplingProblems:
    return SamplingProblems.drawn(variant(**changes), seeds)


def noise_of(problems: SamplingProblems) -> Any:
    assert isinstance(problems.batch, NetworkBatch)
    return problems.batch.start(np.arange(len(problems)))[0]


@pytest.mark.usefixtures("exact")
def test_the_teacher_is_the_flow() -> None:
    """The flow of a Gaussian scales each direction from 1 to its own deviation."""
    errors = []
    for steps in (16, 64):
        problems = problems_of(**{"source.teacher_steps": steps})
        batch: Any = problems.batch
        wanted = np.sqrt(SPECTRUM)[None, :, None] * noise_of(problems)
        errors.append(float(np.abs(batch.shared.teacher(batch.numbers) - wanted).max()))
    assert errors[1] < 2e-3
    assert errors[0] / errors[1] > 8.0  # second order: four times the steps, a sixteenth of the error


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize(
    ("sampler", "reference"),
    [("ddim", {"name": "geodesic"}), ("heun", {"name": "law", "grid": "karras"})],
)
def test_errors_are_those_of_the_exact_room(sampler: str, reference: dict[str, Any]) -> None:
    problems = problems_of(
        sampler=sampler, action={"reference": reference}, **{"source.teacher_steps": 400, "source.images": 50}
    )
    noise = noise_of(problems)
    grids = problems.reference()
    for row, (n, found) in enumerate(zip(problems.total, problems.error(grids), strict=True)):
        variances = output_variances(SPECTRUM, grids[row, : n + 1], problems.variant.sampler)
        apart = np.sqrt(variances) - np.sqrt(SPECTRUM)
        assert found == pytest.approx(float(np.square(apart * noise[..., row]).mean()), rel=0.02)


def test_it_ranks_grids_as_the_exact_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of data with one spread, where distance and divergence must agree which grid is better."""
    monkeypatch.setattr(trained_models, "_registered", {})
    spectrum = np.full(4, 0.2)
    register_predictor("exact", Exact(spectrum), (1, 2, 2), eigenvalues=spectrum)
    problems = problems_of((3,), steps={"minimum": 8, "maximum": 8}, **{"source.teacher_steps": 200})
    found, wanted = [], []
    for name, settings in (
        ("tangent", {"gamma": 0.1}),
        ("tangent", {"gamma": 0.447}),
        ("tangent", {"gamma": 1.0}),
        ("tangent", {"gamma": 5.0}),
        ("uniform", {"schedule": "linear"}),
        ("karras", {}),
    ):
        sigmas = grid(name, 8, **settings).sigma_array
        found.append(float(problems.error(sigmas[None])[0]))
        wanted.append(float(kl(output_variances(spectrum, sigmas, "ddim") / spectrum)))
    assert np.argsort(found).tolist() == np.argsort(wanted).tolist()
    assert np.argmin(found) == 1


@pytest.mark.usefixtures("exact")
def test_closed_forms_know_the_spectrum() -> None:
    from schedrl.policies.grid_rules import GeodesicRule, OptimumRule, TangentRule
    from schedrl.sources import Gaussian

    problems = problems_of((3, 4, 5), steps={"minimum": 6, "maximum": 6})
    exact = Gaussian(SPECTRUM)
    np.testing.assert_allclose(
        GeodesicRule().grids(problems), [exact.geodesic_grid(6).sigma_array] * 3, rtol=1e-9
    )
    np.testing.assert_allclose(OptimumRule().grids(problems), [exact.best_grid(6).sigma_array] * 3, rtol=1e-6)
    np.testing.assert_allclose(
        TangentRule().grids(problems)[1], grid("tangent", 6, gamma=exact.gamma_star).sigma_array, rtol=1e-9
    )


def test_no_action_is_the_reference_to_the_last_bit() -> None:
    env = SamplingVectorEnv(5, variant=sampling_variant(ENV, {"source.images": 3, "source.teacher_steps": 4}))
    env.reset(seed=11)
    returns = np.zeros(5)
    ended = np.zeros(5, dtype=np.bool_)
    while not ended.all():
        _, rewards, ends, _, infos = env.step(np.zeros((5, 1), np.float32))
        returns += np.where(ended, 0.0, rewards)
        for run in np.flatnonzero(ends & ~ended):
            assert infos["final_info"]["error"][run] == infos["final_info"]["reference_error"][run]
        ended |= ends
    assert not returns.any()


def test_one_call_a_step_for_all_runs(exact: Exact) -> None:
    env = SamplingVectorEnv(7, variant=variant(steps={"minimum": 6, "maximum": 6}, **{"source.images": 10}))
    env.reset(seed=0)
    exact.calls.clear()
    env.step(np.linspace(-0.5, 0.5, 7, dtype=np.float32)[:, None])
    assert exact.calls == [70]


def test_what_is_known_is_not_computed_again(exact: Exact) -> None:
    first = problems_of((3, 3, 3, 4), steps={"minimum": 5, "maximum": 5}, **{"source.images": 20})
    once = first.error(first.reference())
    spent = sum(exact.calls)
    # Two noises, 5 steps each; the teacher's 32 steps call twice but for the last one.
    assert spent == 2 * 20 * (5 + 63)
    assert once[0] == once[1] == once[2] != once[3]
    again = problems_of((4, 3), steps={"minimum": 5, "maximum": 5}, **{"source.images": 20})
    np.testing.assert_array_equal(again.error(again.reference()), once[[3, 0]])
    again.parts(again.reference())
    assert sum(exact.calls) == spent


@pytest.mark.usefixtures("exact")
def test_noise_follows_from_the_seed() -> None:
    few, many = (problems_of((3, 4), **{"source.images": n}) for n in (2, 6))
    np.testing.assert_array_equal(noise_of(few), noise_of(many)[:2])
    np.testing.assert_array_equal(noise_of(problems_of((4,))), noise_of(problems_of((3, 4)))[..., 1:])
    assert (noise_of(few)[..., 0] != noise_of(few)[..., 1]).all()


def test_the_frechet_distance_is_that_of_the_samples() -> None:
    """Drawn by the network's own sampler from the same noise, measured by the package's own measure."""
    from schedrl import data
    from schedrl.diffusion.prediction import network_denoiser
    from schedrl.diffusion.samplers import ddim
    from schedrl.metrics.sample_quality import sample_quality

    changes = {"source.error": "frechet", "source.features": "digits-cnn", "source.images": 40}
    made = sampling_variant(
        ENV, {**changes, "source.teacher_steps": 2, "steps": {"minimum": 3, "maximum": 3}}
    )
    problems = SamplingProblems.drawn(made, [1])
    sigmas = [80.0, 1.0, 0.2, 0.0]
    found = problems.parts(np.array([sigmas]))
    model = FittedModel.load(Path(trained_models.__file__).with_name("weights") / "digits")
    start = torch.from_numpy(noise_of(problems)[..., 0].reshape(1, 40, 1, 8, 8)).float()
    images = ddim(network_denoiser(model.predictor(), model.description.training, sigmas), start, sigmas)[0]
    train = data.load(data.get("digits")).train
    wanted = sample_quality(images.numpy(), train, "digits-cnn", np.random.default_rng(0), cache=False)
    assert found["frechet"][0] == pytest.approx(wanted.frechet.value, rel=1e-3)
    assert problems.error(np.array([sigmas]))[0] == found["frechet"][0]
    assert found["teacher_mse"][0] > 0.0


@pytest.mark.usefixtures("exact")
def test_what_is_seen() -> None:
    env = SamplingVectorEnv(2, variant=variant(steps={"minimum": 6, "maximum": 6}))
    first, _ = env.reset(seed=0)
    names = env.observation_names
    assert names == ("budget", "log_remaining", "place", "angle", "state", "estimate", "change", "speed")
    assert not first[:, names.index("estimate") :].any()
    seen = env.step(np.zeros((2, 1), np.float32))[0]
    # The first estimate of a Gaussian is its mean, 0, but for the little signal that pure noise stands for.
    assert (seen[:, names.index("estimate")] < -1.0).all()
    second = env.step(np.zeros((2, 1), np.float32))[0]
    z, clean, _ = env.runs.sampler
    np.testing.assert_allclose(
        second[:, names.index("state")], np.log(np.square(z).mean(axis=(0, 1))), rtol=1e-5
    )
    np.testing.assert_allclose(
        second[:, names.index("estimate")], 0.25 * np.log(np.square(clean).mean(axis=(0, 1))), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward.kind": "predicted"}, "reward.kind: must be 'final' for a source of kind 'network'"),
        ({"sampler": "ddpm"}, "a network needs 'ddim' or 'heun'"),
        ({"sampler": "heun"}, "Heun starts from a finite sigma"),
        ({"source.error": "frechet"}, "features: error 'frechet' needs a feature network"),
        ({"source.error": "teachers"}, "did you mean 'teacher'"),
        ({"source.features": "digit-cnn"}, "did you mean 'digits-cnn'"),
        ({"source.images": 0}, "source.images"),
        ({"source.teacher_steps": 1}, "source.teacher_steps"),
    ],
)
def test_bad_variants(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SchedrlError, match=message) as caught:
        sampling_variant(ENV, change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source.model": "digit"}, "unknown network 'digit'; did you mean 'digits'"),
        ({"source.model": "."}, r"^model model\.json: cannot be read"),
        (
            {"source.features": "digits-cnn"},
            "source.images: the 32 features of 'digits-cnn' need at least 33 images",
        ),
        ({"source.features": "fashion-cnn", "source.images": 100}, r"needs images of shape \(1, 28, 28\)"),
    ],
)
def test_bad_networks(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SchedrlError, match=message) as caught:
        SamplingVectorEnv(2, variant=sampling_variant(ENV, change))
    assert "\n" not in str(caught.value)


def test_bad_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained_models, "_registered", {})
    register_predictor("exact", lambda z, logsnr: torch.nan * z, (1, 2, 2))
    with pytest.raises(SchedrlError, match="estimates must be finite"):
        problems_of().error(problems_of().reference())
    register_predictor("exact", lambda z, logsnr: z[:, :, :1], (1, 2, 2))
    with pytest.raises(SchedrlError, match="must be shaped as the images"):
        problems_of().error(problems_of().reference())
    with pytest.raises(SchedrlError, match="its data's spectrum is not known"):
        problems_of(action={"reference": {"name": "geodesic"}}).reference()
    with pytest.raises(SchedrlError, match="does not say what it was trained on"):
        problems_of(**{"source.features": "pca"})


def test_names_of_features_are_those_of_the_metrics() -> None:
    assert sorted(get_args(FeaturesName)) == sorted(EXTRACTORS)


def test_a_variant_is_read_without_pytorch() -> None:
    program = """
import sys
from schedrl.environments.sampling.variant import SamplingVariant
source = {"kind": "network", "model": "digits", "features": "digits-cnn"}
SamplingVariant(id="me/Mine-v0", source=source, reward={"kind": "final"})
import schedrl.environments.sampling.network_source
assert "torch" not in sys.modules
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert run.returncode == 0, run.stderr


def test_given_levels_are_for_their_number_of_steps() -> None:
    from schedrl.policies.grid_rules import FixedRule

    plan = FixedRule.model_validate(
        {"levels": [{"sigmas": ["inf", 0.5, 0.0]}, {"sigmas": ["inf", 2.0, 1.0, 0.0]}]}
    )
    made = sampling_variant(ENV, {"steps": {"minimum": 2, "maximum": 3}, "source.teacher_steps": 2})
    problems = SamplingProblems.drawn(made, range(6))
    assert set(problems.total.tolist()) == {2, 3}
    for n, row in zip(problems.total.tolist(), plan.grids(problems).tolist(), strict=True):
        assert row == ([np.inf, 0.5, 0.0, 0.0] if n == 2 else [np.inf, 2.0, 1.0, 0.0])
    more = SamplingProblems.drawn(sampling_variant(ENV, {"steps": {"minimum": 4, "maximum": 4}}), [0])
    with pytest.raises(SchedrlError, match=r"has no grid of 4 steps; of 2, 3"):
        plan.grids(more)
    for levels, message in (
        ([["inf", 1.0, 0.0], [3.0, 1.0, 0.0]], "one for each number of steps"),
        ([["inf", 1.0]], "must end at 0"),
    ):
        with pytest.raises(ValueError, match=message):
            FixedRule.model_validate({"levels": [{"sigmas": sigmas} for sigmas in levels]})


@pytest.mark.usefixtures("exact")
def test_the_flow_optimum_is_best_on_a_gaussian() -> None:
    """Scored by running the denoiser; no grid beside it is closer to the flow."""
    from schedrl.policies.grid_rules import FlowOptimumRule, OptimumRule

    problems = problems_of(
        (3,), steps={"minimum": 5, "maximum": 5}, **{"source.images": 4000, "source.teacher_steps": 100}
    )
    best = FlowOptimumRule().grids(problems)
    least = float(problems.error(best)[0])
    for level in range(1, 5):
        for factor in (0.9, 1.1):
            other = best.copy()
            other[0, level] *= factor
            assert float(problems.error(other)[0]) > 0.99 * least
    assert float(problems.error(OptimumRule().grids(problems))[0]) > 1.02 * least
