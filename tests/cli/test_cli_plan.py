"""``schedrl plan`` counts what is there."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

import schedrl
from schedrl.environments.registration import training_variant
from schedrl.jobs.cost import training_cost

Run = Callable[..., Any]


def test_it_prints_what_a_training_takes(run: Run, tiny_options: list[str]) -> None:
    result = run("plan", "--env", "schedrl/DigitsKnots-v0", "--num-envs", "6", *tiny_options)
    assert result.exit_code == 0
    for name in ("parameters of a run", "FLOPs of a step", "memory held", "working memory", "predicted step"):
        assert name in result.output
    assert re.search(r"runs +6, 6 at a time", result.output)
    assert re.search(r"predicted episode +[\d.e-]+ s \(1 x 2 steps", result.output)


def test_a_bad_request_is_one_line(run: Run) -> None:
    for words in (("--env", "schedrl/DigitKnots-v0"), ("--env", "schedrl/DigitsKnots-v0", "--device", "tpu")):
        result = run("plan", *words)
        assert result.exit_code == 2
        assert result.output.startswith("error: ")


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_the_counts(engine: str, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCHEDRL_ENGINE", engine)
    assert schedrl.__version__
    network = {"channels": [2], "embedding": 4, "groups": 1}
    overrides = {**tiny, "training.network": network, "training.batch_size": 3}
    one, six = (training_cost(training_variant("schedrl/DigitsKnots-v0", overrides), n) for n in (1, 6))
    # Linear maps: embedding 2 (4 to 4), modulations 3 (4 to 4). Convolutions on 8 x 8: stem 1 to 2, two blocks of
    # 2 to 2 twice, one of 4 to 2 and 2 to 2 with a 1 x 1 of 4 to 2, head 2 to 1.
    linear, three, single = 5 * 16, 9 * (2 + 4 * 4 + 8 + 4 + 2), 8
    biases = 5 * 4 + 2 + 4 * 2 + 2 * 2 + 2 + 1
    norms = 2 * (2 * 4 + 4 + 2 + 2)
    assert one.parameters == six.parameters == linear + three + single + biases + norms
    # Two operations a product; forward, and backward for the weights and for the input. The first layers of the
    # images and of the noise level need no gradient for their inputs.
    products = 3 * (linear + 64 * (three + single)) - 16 - 64 * 9 * 2
    assert one.step_flops == 3 * 2 * products
    assert six.step_flops == 6 * one.step_flops
    assert six.held_bytes - one.held_bytes == 5 * 4 * 4 * one.parameters
    assert one.working_bytes > 0
    assert one.episode_seconds == pytest.approx(2 * one.step_seconds + one.measure_seconds)


def test_a_network_is_counted_without_data(run: Run) -> None:
    result = run("plan", "--network", "unet-akod-cifar10")
    assert result.exit_code == 0
    for text in ("MSFI, β modulation", "64, 128, 256, 512", "parameters", "FLOPs of a step", "memory held"):
        assert text in result.output
    plain = run("plan", "--network", "unet-akod-cifar10", "--set", "training.network.msfi=null")

    def flops(output: str) -> float:
        return float(re.search(r"FLOPs of an image +\S+ forward, (\S+) trained", output).group(1))  # type: ignore[union-attr]

    assert 1.5 < flops(result.output) / flops(plain.output) < 2.5  # two more passes down

    larger = run("plan", "--network", "unet-digits", "--images", "1,16,16")
    named = run("plan", "--network", "unet-digits", "--images", "digits")
    assert "images                 1x8x8" in named.output
    assert 3.9 < flops(larger.output) / flops(named.output) <= 4.0  # pixels; the embedding has none

    for words, message in (
        (("--network", "unet-digits", "--images", "digit"), "did you mean 'digits'"),
        (("--network", "unet-digits", "--images", "1,8"), "three positive numbers C,H,W"),
        (("--network", "unet-digits", "--images", "1,7,8"), "multiples of 2"),
        (("--env", "schedrl/DigitsKnots-v0", "--images", "digits"), "--images: goes with --network"),
        ((), "give one of --env and --network"),
        (("--network", "unet-cifar"), "did you mean 'unet-cifar10'"),
        (("--network", "unet-digits", "--set", "training.network.groups=5"), "groups"),
        (("--network", "unet-digits", "--set", "training.netwrk=1"), "did you mean"),
    ):
        result = run("plan", *words)
        assert result.exit_code == 2
        assert message in result.output


@pytest.mark.parametrize("name", ["unet-digits", "unet-akod-digits"])
def test_a_networks_flops_are_those_of_its_products(name: str) -> None:
    """Counted once more by PyTorch's own counter; it knows no gradient for the first layer's images either."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from schedrl.diffusion.training_spec import named_network
    from schedrl.diffusion.unet import UNet
    from schedrl.jobs.cost import network_cost

    named = named_network(name)
    cost = network_cost(named.training, named.image_shape)
    network = UNet(named.training.network, named.image_shape)
    x, level = torch.zeros(1, 1, *named.image_shape), torch.zeros(1, 1)
    around = ((x, level), (x, level)) if network.views > 1 else None
    with FlopCounterMode(display=False) as counter:
        output = network(x, level, level, around)
        forward = counter.get_total_flops()
        output.sum().backward()
    assert cost.forward_flops == pytest.approx(forward, rel=0.01)
    assert cost.step_flops == pytest.approx(counter.get_total_flops(), rel=0.02)
    assert cost.parameters == sum(p.numel() for p in network.parameters())
