"""Dynamic step size control: AdamW where nothing is asked of it, golden steps where something is."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from schedrl.diffusion import DSC
from schedrl.errors import SchedrlError


def parameters(seed: int = 0) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((5, 3), (7,), ())]


def give_gradients(weights: list[torch.nn.Parameter], step: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for weight in weights:
        weight.grad = scale * torch.randn(weight.shape, generator=generator)


def run(optimizer: torch.optim.Optimizer, weights: list[torch.nn.Parameter], steps: range) -> None:
    for step in steps:
        give_gradients(weights, step)
        optimizer.step()


PATHS: list[dict[str, Any]] = [{"foreach": False}, {"foreach": True}, {"fused": True}, {}]
OPTIONS: list[dict[str, Any]] = [
    {}, {"weight_decay": 0.3, "lr": 0.1}, {"amsgrad": True}, {"maximize": True, "betas": (0.5, 0.9), "eps": 1e-3},
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("options", OPTIONS)
def test_equals_adamw_bit_for_bit(path: dict[str, Any], options: dict[str, Any]) -> None:
    ours, theirs = parameters(), parameters()
    run(DSC(ours, **path, **options), ours, range(6))
    run(torch.optim.AdamW(theirs, **path, **options), theirs, range(6))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def one(start: float, **options: Any) -> tuple[torch.nn.Parameter, DSC]:
    weight = torch.nn.Parameter(torch.tensor([start], dtype=torch.float64))
    return weight, DSC([weight], lr=0.1, betas=(0.5, 0.75), eps=0.0, gamma=2.0, boost=0.5, **options)


GRADIENTS, LEVELS = (1.0, 2.0, -1.0), (0.1, 0.0, 0.2)
# m = 1/2, 5/4, 1/8 over 1/2, 3/4, 7/8; v = 1/4, 19/16, 73/64 over 1/4, 7/16, 37/64.
FIRST, SECOND = (1.0, 5.0 / 3.0, 1.0 / 7.0), (1.0, 19.0 / 7.0, 73.0 / 37.0)


@pytest.mark.parametrize("update", ["adam", "printed"])
def test_three_steps_by_hand(update: Any) -> None:
    weight, optimizer = one(3.0, update=update, weight_decay=0.25)
    value = 3.0
    for g, beta, m, v in zip(GRADIENTS, LEVELS, FIRST, SECOND, strict=True):
        rate = 0.1 * math.exp(-2.0 * beta) * (1.0 + 0.5 * abs(g))
        value = value * (1.0 - 0.25 * rate) - rate * m / math.sqrt(v) * (g if update == "printed" else 1.0)
        weight.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.set_noise_level(beta)
        optimizer.step()
        assert weight.item() == pytest.approx(value, rel=1e-12)
        assert optimizer.last_rate == pytest.approx(rate, rel=1e-14)
        assert optimizer.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("start", [1.0, -1.0])
def test_the_printed_step_lowers_values_whichever_way_is_downhill(start: float) -> None:
    weight = torch.nn.Parameter(torch.tensor([start], dtype=torch.float64))
    optimizer = DSC([weight], lr=0.1, weight_decay=0.0, update="printed")
    seen = [start]
    for _ in range(60):
        optimizer.zero_grad()
        (0.5 * weight**2).sum().backward()
        optimizer.step()
        seen.append(weight.item())
    assert all(after < before for before, after in itertools.pairwise(seen))
    # The first step is -η |g|. From above that leads to the minimum, from below away from it, ever faster.
    assert seen[1] == pytest.approx(start - 0.1, rel=1e-6)
    assert (0.0 < seen[-1] < 0.2) if start > 0.0 else (seen[-1] < -100.0)


def test_the_printed_step_does_not_know_the_sign_of_the_loss() -> None:
    ends = []
    for sign in (1.0, -1.0):
        weights = parameters()
        optimizer = DSC(weights, lr=0.05, update="printed")
        for step in range(4):
            give_gradients(weights, step, sign)
            optimizer.step()
        ends.append(weights)
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_the_norm_is_global() -> None:
    first, second = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    groups: list[dict[str, Any]] = [{"params": [first]}, {"params": [second], "lr": 0.2, "boost": 0.0}]
    optimizer = DSC(groups, lr=0.1, boost=1.0)
    first.grad, second.grad = torch.tensor([3.0]), torch.tensor([4.0])
    optimizer.step()
    assert optimizer.last_rate == pytest.approx(0.6)  # 0.1 (1 + 5)
    assert optimizer.param_groups[1]["last_rate"] == 0.2


@pytest.mark.parametrize(("gradient", "factor"), [(1e30, 7.0), (math.inf, 7.0), (math.nan, 1.0), (0.0, 1.0)])
def test_the_factor_is_guarded(gradient: float, factor: float) -> None:
    weight, other = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizer = DSC([weight, other], lr=0.5, boost=2.0, max_factor=7.0)
    weight.grad, other.grad = torch.tensor([gradient]), torch.zeros(1)
    optimizer.step()
    assert optimizer.last_rate == pytest.approx(0.5 * factor)
    assert other.isfinite().all()
    assert weight.isnan().item() == (not math.isfinite(gradient))


def test_per_sample_weights_instead_of_the_factor() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = DSC([weight], lr=0.5, gamma=2.0, per_sample=True)
    betas = torch.tensor([0.0, 0.5, 1.0])
    torch.testing.assert_close(optimizer.sample_weights(betas), torch.exp(-2.0 * betas))
    weight.grad = torch.ones(1)
    optimizer.step()  # needs no noise level
    assert optimizer.last_rate == 0.5
    with pytest.raises(SchedrlError, match="field 'per_sample'"):
        DSC([weight]).sample_weights(betas)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "gamma": 1.0})
    with pytest.raises(SchedrlError, match="field 'gamma': must be the same"):
        optimizer.sample_weights(betas)


def loaded(optimizer: DSC, weights: list[torch.nn.Parameter]) -> DSC:
    other = DSC(weights)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # loading alone shares the tensors
    return other


@pytest.mark.parametrize("update", ["adam", "printed"])
@pytest.mark.parametrize("how", ["state_dict", "deepcopy"])
def test_goes_on_in_the_same_bits(update: Any, how: str) -> None:
    weights = parameters()
    optimizer = DSC(weights, lr=0.1, gamma=1.0, boost=0.3, update=update, max_factor=3.0)
    optimizer.set_noise_level(0.7)
    run(optimizer, weights, range(3))
    if how == "state_dict":
        again = copy.deepcopy(weights)
        other = loaded(optimizer, again)
    else:
        again, other = copy.deepcopy((weights, optimizer))
    assert other.last_rate == optimizer.last_rate
    other.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
    run(optimizer, weights, range(3, 6))
    run(other, again, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(weights, again, strict=True))


def test_loads_adamws_checkpoint() -> None:
    weights = parameters()
    plain = torch.optim.AdamW(weights)
    run(plain, weights, range(2))
    optimizer = DSC(weights, boost=0.5)
    optimizer.load_state_dict(plain.state_dict())
    assert optimizer.param_groups[0]["boost"] == 0.5
    run(optimizer, weights, range(2, 3))


def test_schedulers_move_the_base_rate_and_hooks_run_once() -> None:
    weights = parameters()
    torch.optim.AdamW(parameters())  # wraps AdamW.step
    optimizer = DSC(weights, lr=1.0, boost=0.1)
    calls: list[int] = []
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    rates = []
    for step in range(3):
        give_gradients(weights, step)
        norm = torch.nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None]).item()
        optimizer.step()
        assert optimizer.last_rate is not None
        rates.append(optimizer.last_rate / (1.0 + 0.1 * norm))
        scheduler.step()
    assert rates == pytest.approx([1.0, 0.5, 0.25], rel=1e-6)
    assert len(calls) == 3


def test_a_closure_may_set_the_noise_level() -> None:
    weight, optimizer = one(2.0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (0.5 * weight**2).sum()
        loss.backward()
        optimizer.set_noise_level(torch.tensor([0.0, 1.0]))
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert optimizer.last_rate == pytest.approx(0.1 * math.exp(-1.0) * 2.0)


def test_noise_must_be_known_before_anything_moves() -> None:
    weight, optimizer = one(1.0)
    weight.grad = torch.ones(1, dtype=torch.float64)
    with pytest.raises(SchedrlError, match=r"call set_noise_level\(betas\) before step"):
        optimizer.step()
    assert weight.item() == 1.0
    assert optimizer.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf, torch.tensor([0.1, -2.0]), torch.empty(0)])
def test_noise_levels_are_checked(bad: Any) -> None:
    with pytest.raises(SchedrlError, match="field 'betas'"):
        one(1.0)[1].set_noise_level(bad)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"gamma": -1.0}, "field 'gamma'"), ({"boost": math.nan}, "field 'boost'"),
    ({"max_factor": 0.5}, "field 'max_factor'"), ({"update": "adams"}, "did you mean 'adam'"),
    *[({"update": "printed", name: True}, f"field '{name}'") for name in ("amsgrad", "maximize", "foreach", "fused")],
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), BAD)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    make: Callable[..., DSC] = DSC
    with pytest.raises(SchedrlError, match=message):
        make(parameters(), **options)
