"""The stacked optimizer is torch's, row by row."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from schedrl.diffusion.dsc import DSC
from schedrl.diffusion.optimizer import StackedAdam, StepSize
from schedrl.diffusion.training_spec import DSCSpec, OptimizerSpec
from schedrl.errors import SchedrlError, parse

ROWS, SIZE, STEPS = 3, 40, 25

SPECS = [
    OptimizerSpec(),
    OptimizerSpec(learning_rate=0.3, betas=(0.0, 0.0)),
    OptimizerSpec(betas=(0.5, 0.9), eps=1e-2),
    OptimizerSpec(name="adamw", weight_decay=0.5, learning_rate=0.1),
    OptimizerSpec(name="adamw"),
    OptimizerSpec(max_gradient_norm=0.7),
    OptimizerSpec(name="adamw", weight_decay=0.1, learning_rate=0.1, max_gradient_norm=50.0),
]


def gradients(dtype: torch.dtype, seed: int = 0) -> Tensor:
    """[steps, rows, size]: every row and step on another scale, from far below eps to large."""
    generator = torch.Generator().manual_seed(seed)
    scale = 10.0 ** (8.0 * torch.rand(STEPS, ROWS, 1, generator=generator, dtype=torch.float64) - 6.0)
    noise = torch.randn(STEPS, ROWS, SIZE, generator=generator, dtype=torch.float64)
    return (scale * noise).to(dtype)


def torch_trajectory(spec: OptimizerSpec, start: Tensor, steps: Tensor) -> Tensor:
    """Weights after every step of one row under torch's own optimizer and clipping."""
    weights = torch.nn.Parameter(start.clone())
    options: dict[str, Any] = {"lr": spec.learning_rate, "betas": spec.betas, "eps": spec.eps}
    if spec.name == "adamw":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(
            [weights], weight_decay=spec.weight_decay, foreach=False, **options
        )
    else:
        optimizer = torch.optim.Adam([weights], foreach=False, **options)
    trajectory = []
    for gradient in steps:
        weights.grad = gradient.clone()
        if spec.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_([weights], spec.max_gradient_norm)
        optimizer.step()
        trajectory.append(weights.detach().clone())
    return torch.stack(trajectory)


@pytest.mark.parametrize("spec", SPECS)
# The same formulas in another order of roundings: a few units in the last place a step.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 5e-6)])
def test_equals_torch_step_by_step(spec: OptimizerSpec, dtype: torch.dtype, tolerance: float) -> None:
    start = torch.randn(ROWS, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    steps = gradients(dtype)
    weights = start.clone()
    optimizer = StackedAdam(spec, weights)
    seen = []
    for gradient in steps:
        norms = optimizer.step(gradient.clone())
        torch.testing.assert_close(norms, torch.stack([row.norm() for row in gradient]))  # before clipping
        seen.append(weights.clone())
    for row in range(ROWS):
        expected = torch_trajectory(spec, start[row], steps[:, row])
        torch.testing.assert_close(torch.stack(seen)[:, row], expected, rtol=tolerance, atol=tolerance)


def test_clipping_is_per_row() -> None:
    spec = OptimizerSpec(max_gradient_norm=1.0, betas=(0.0, 0.0), learning_rate=1.0, eps=1.0)
    weights = torch.zeros(2, 2, dtype=torch.float64)
    StackedAdam(spec, weights).step(torch.tensor([[30.0, 40.0], [0.3, 0.4]], dtype=torch.float64))
    # Without memory a step is g / (|g| + eps): the long row enters as (0.6, 0.8), the short one as it is.
    expected = [[-0.6 / 1.6, -0.8 / 1.8], [-0.3 / 1.3, -0.4 / 1.4]]
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=0)


def test_a_row_restarts_alone() -> None:
    spec = OptimizerSpec(name="adamw", weight_decay=0.1)
    start = torch.randn(ROWS, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    steps = gradients(torch.float64)
    weights = start.clone()
    optimizer = StackedAdam(spec, weights)
    for index, gradient in enumerate(steps):
        if index == 10:
            optimizer.reset(1)
            weights[1] = start[1]
        optimizer.step(gradient)
    for row in (0, 2):
        torch.testing.assert_close(weights[row], torch_trajectory(spec, start[row], steps[:, row])[-1])
    torch.testing.assert_close(weights[1], torch_trajectory(spec, start[1], steps[10:, 1])[-1])
    assert optimizer.steps[:, 0].tolist() == [STEPS, STEPS - 10, STEPS]


def test_a_row_of_nan_stays_alone() -> None:
    spec = OptimizerSpec(max_gradient_norm=1.0)
    steps = gradients(torch.float32)
    final = []
    for poison in (False, True):
        weights = torch.ones(ROWS, SIZE)
        optimizer = StackedAdam(spec, weights)
        for gradient in steps.clone():
            if poison:
                gradient[1, 3] = torch.nan
            optimizer.step(gradient)
        final.append(weights)
    assert final[1][1].isnan().all()
    assert torch.equal(final[0][[0, 2]], final[1][[0, 2]])


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_rate_zero_freezes(name: str) -> None:
    decay = 0.5 if name == "adamw" else 0.0
    spec = parse(OptimizerSpec, {"name": name, "learning_rate": 0.0, "weight_decay": decay}, "optimizer")
    weights = torch.randn(ROWS, SIZE)
    before = weights.clone()
    optimizer = StackedAdam(spec, weights)
    for gradient in gradients(torch.float32):
        optimizer.step(gradient)
    assert torch.equal(weights, before)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "adma"}, "did you mean 'adam'"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"betas": [0.9, 1.0]}, "betas"),
        ({"eps": 0.0}, "eps"),
        ({"max_gradient_norm": 0.0}, "max_gradient_norm"),
        ({"weight_decay": 0.1}, "weight_decay needs name 'adamw'"),
        ({"momentum": 0.1}, "unknown field 'momentum'"),
    ],
)
def test_bad_optimizers(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SchedrlError, match=message):
        parse(OptimizerSpec, fields, "optimizer")


@pytest.mark.parametrize("update", ["adam", "printed"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
def test_dsc_in_a_population_is_dsc_alone(
    update: Literal["adam", "printed"], dtype: torch.dtype, tolerance: float
) -> None:
    spec = OptimizerSpec(
        name="dsc", learning_rate=0.02, weight_decay=0.1, dsc=DSCSpec(update=update, max_factor=3.0)
    )
    gamma, boost = torch.tensor([0.0, 20.0, 3.0]).double(), torch.tensor([0.0, 0.3, 5.0]).double()
    betas = 0.05 * torch.rand(STEPS, ROWS, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    start = torch.randn(ROWS, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    steps, weights = gradients(dtype), start.clone()
    together = StackedAdam(spec, weights)
    alone = [torch.nn.Parameter(row.clone()) for row in start]
    optimizers = [
        DSC([row], lr=0.02, weight_decay=0.1, gamma=float(g), boost=float(b), update=update, max_factor=3.0)
        for row, g, b in zip(alone, gamma, boost, strict=True)
    ]
    for gradient, levels in zip(steps, betas, strict=True):
        together.step(gradient.clone(), size=StepSize(torch.exp(-gamma * levels.mean(dim=1)), boost))
        for row, optimizer, own, level in zip(alone, optimizers, gradient, levels, strict=True):
            row.grad = own.clone()
            optimizer.set_noise_level(level)
            optimizer.step()
        torch.testing.assert_close(
            weights, torch.stack([row.detach() for row in alone]), rtol=tolerance, atol=tolerance
        )


def test_without_its_constants_dsc_is_adamw() -> None:
    start = torch.randn(ROWS, SIZE, generator=torch.Generator().manual_seed(1))
    still = StepSize(torch.ones(ROWS).double(), torch.zeros(ROWS).double())
    both = []
    for name in ("adamw", "dsc"):
        weights = start.clone()
        optimizer = StackedAdam(OptimizerSpec(name=name, weight_decay=0.1), weights)
        for gradient in gradients(torch.float32):
            optimizer.step(gradient.clone(), size=still if name == "dsc" else None)
        both.append(weights)
    assert torch.equal(*both)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "adam", "dsc": {}}, "dsc: its constants need name 'dsc'"),
        ({"name": "adam", "weight_decay": 0.1}, "weight_decay needs name 'adamw' or 'dsc'"),
        ({"name": "dsc", "dsc": {"gama": 1.0}}, "did you mean 'dsc.gamma'"),
        ({"name": "dsc", "dsc": {"max_factor": 0.5}}, "max_factor"),
    ],
)
def test_bad_dsc(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SchedrlError, match=message):
        parse(OptimizerSpec, fields, "optimizer")


def test_a_spec_without_dsc_says_nothing_of_it() -> None:
    # What does not act does not enter a variant's fingerprint, by which results are told apart.
    assert "dsc" not in OptimizerSpec().model_dump()
    assert OptimizerSpec(name="dsc").model_dump()["dsc"] == DSCSpec().model_dump()
    for spec in (OptimizerSpec(), OptimizerSpec(name="dsc", dsc=DSCSpec(gamma=3.0))):
        assert OptimizerSpec.model_validate_json(spec.model_dump_json()) == spec
