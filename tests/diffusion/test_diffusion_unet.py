"""Stacked layers and the U-Net: every run's network is the plain network, alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from schedrl.diffusion.layers import (
    GroupedOperations,
    StackedConv2d,
    StackedGroupNorm,
    StackedLayer,
    StackedLinear,
    from_channels,
    join_channels,
    modulate,
    to_channels,
)
from schedrl.diffusion.training_spec import UNetSpec
from schedrl.diffusion.unet import UNet
from schedrl.errors import SchedrlError, parse

PlainNetwork = Callable[[dict[str, Tensor], UNetSpec, Tensor, Tensor], Tensor]

# Grouped and plain convolutions add up in another order; a few float32 roundings (6e-8) per sum of ~100 terms,
# through about ten layers.
RTOL, ATOL = 1e-4, 1e-5
# A gradient is a sum over the batch and the image on top, of terms that cancel.
GRADIENT_ATOL = 1e-4

NETWORKS = [
    (UNetSpec(channels=(4,), embedding=6, groups=1), (1, 8, 8)),
    (UNetSpec(channels=(4, 8), embedding=8, groups=2), (1, 8, 8)),
    (UNetSpec(channels=(6, 6), embedding=4, groups=3), (3, 4, 6)),
    (UNetSpec(channels=(4, 8, 4), embedding=8, groups=4), (2, 8, 4)),
]


def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    """Give every parameter random values, those that start at zero too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


def one_run(network: UNet, run: int) -> dict[str, Tensor]:
    return {name: p[run].detach().clone() for name, p in network.named_parameters()}


def batch(image_shape: tuple[int, int, int], runs: int, size: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(runs, size, *image_shape, generator=generator)
    return x, 16.0 * torch.rand(runs, size, generator=generator) - 8.0


@pytest.mark.parametrize("num_runs", [1, 3])
@pytest.mark.parametrize(("spec", "image_shape"), NETWORKS)
def test_a_run_is_the_plain_network(
    plain: PlainNetwork, spec: UNetSpec, image_shape: tuple[int, int, int], num_runs: int
) -> None:
    network = UNet(spec, image_shape, num_runs)
    randomise(network)
    x, logsnr = batch(image_shape, num_runs)
    output = network(x, logsnr)
    assert output.shape == x.shape
    output.square().sum().backward()
    for run in range(num_runs):
        parameters = {name: p.requires_grad_() for name, p in one_run(network, run).items()}
        expected = plain(parameters, spec, x[run], logsnr[run])
        torch.testing.assert_close(output[run], expected, rtol=RTOL, atol=ATOL)
        expected.square().sum().backward()
        for name, stacked in network.named_parameters():
            assert stacked.grad is not None
            reference = parameters[name].grad
            assert reference is not None
            scale = float(reference.abs().max())
            torch.testing.assert_close(
                stacked.grad[run], reference, rtol=RTOL, atol=GRADIENT_ATOL * max(scale, 1.0)
            )


def test_a_sick_run_infects_nobody() -> None:
    spec, image_shape = NETWORKS[1]
    network = UNet(spec, image_shape, 3)
    randomise(network)
    x, logsnr = batch(image_shape, 3)

    def outputs() -> tuple[Tensor, list[Tensor]]:
        network.zero_grad()
        output = network(x, logsnr)
        output.square().sum().backward()
        return output.detach(), [p.grad.clone() for p in network.parameters() if p.grad is not None]

    healthy, healthy_gradients = outputs()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter[1] = torch.nan
    sick, sick_gradients = outputs()
    assert sick[1].isnan().all()
    others = [0, 2]
    assert torch.equal(sick[others], healthy[others])
    for gradient, expected in zip(sick_gradients, healthy_gradients, strict=True):
        assert torch.equal(gradient[others], expected[others])


def test_noise_level_matters_and_is_clipped() -> None:
    spec, image_shape = NETWORKS[1]
    network = UNet(spec, image_shape)
    randomise(network)
    x, _ = batch(image_shape, 1, 2)
    at = {level: network(x, torch.full((1, 2), level)) for level in (-1000.0, -20.0, 0.0, 0.5, 20.0, 90.0)}
    assert torch.equal(at[-1000.0], at[-20.0])
    assert torch.equal(at[90.0], at[20.0])
    assert not torch.allclose(at[0.0], at[0.5], atol=1e-4)


@pytest.mark.parametrize(("spec", "image_shape"), NETWORKS)
def test_output_starts_at_exactly_zero(spec: UNetSpec, image_shape: tuple[int, int, int]) -> None:
    network = UNet(spec, image_shape, 2)
    mean, std = network.initial_moments()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        start = 0
        for parameter in network.parameters():
            size = parameter[0].numel()
            part = slice(start, start + size)
            drawn = mean[part] + std[part] * torch.from_numpy(rng.standard_normal((2, size), np.float32))
            parameter.copy_(drawn.view_as(parameter))
            start += size
    assert start == len(mean) == len(std)
    x, logsnr = batch(image_shape, 2)
    assert not network(x, logsnr).any()
    with torch.no_grad():  # it is the head alone that keeps it at zero
        network.head.weight.fill_(1.0)
    assert network(x, logsnr).abs().min() > 0


def test_initial_moments_scale_with_the_fan_in() -> None:
    spec, image_shape = UNetSpec(channels=(4, 8), embedding=8, groups=2), (3, 8, 8)
    network = UNet(spec, image_shape, 2)
    mean, std = network.initial_moments()
    sizes = [p[0].numel() for p in network.parameters()]
    names = [name for name, _ in network.named_parameters()]
    found = {
        name: (m.unique().tolist(), s.unique().tolist())
        for name, m, s in zip(names, mean.split(sizes), std.split(sizes), strict=True)
    }
    fan_in = {
        "stem": 3 * 9,
        "down.1.conv_in": 4 * 9,
        "down.1.skip": 4,
        "up.0.conv_in": 16 * 9,
        "embedding.hidden": 8,
        "middle.modulation": 8,
    }
    for name, size in fan_in.items():
        assert found[f"{name}.weight"] == ([0.0], [pytest.approx(size**-0.5)]), name
    assert found["middle.norm_in.weight"] == ([1.0], [0.0])
    zeros = [name for name in names if name.endswith((".bias", "conv_out.weight")) or name == "head.weight"]
    assert all(found[name] == ([0.0], [0.0]) for name in zeros)
    assert len(zeros) > len(names) / 2


def test_every_parameter_has_runs_first() -> None:
    network = UNet(NETWORKS[3][0], NETWORKS[3][1], 7)
    assert {p.shape[0] for p in network.parameters()} == {7}


@pytest.mark.parametrize("image_shape", [(1, 6, 8), (1, 8, 7), (1, 9, 9)])
def test_sides_that_cannot_be_halved(image_shape: tuple[int, int, int]) -> None:
    with pytest.raises(
        SchedrlError, match=r"network\.channels: 3 resolutions need .* multiples of 4; these are"
    ):
        UNet(UNetSpec(channels=(4, 4, 4)), image_shape)


def test_groups_must_divide_every_width() -> None:
    with pytest.raises(
        SchedrlError, match=r"network\.groups: 4 does not divide the width 6 in network\.channels"
    ):
        UNet(UNetSpec(channels=(8, 6), groups=4), (1, 8, 8))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": []}, "channels"),
        ({"channels": [0]}, "channels"),
        ({"channels": [4] * 7}, "channels"),
        ({"embedding": 5}, "multiple of 2"),
        ({"groups": 0}, "groups"),
        ({"widths": [4]}, "unknown field 'widths'"),
    ],
)
def test_bad_network_specs(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SchedrlError, match=message):
        parse(UNetSpec, fields, "network")


def test_linear_and_group_norm_alone() -> None:
    generator = torch.Generator().manual_seed(2)
    linear = StackedLinear(3, 4, 5)
    randomise(linear)
    x = torch.randn(3, 6, 4, generator=generator)
    expected = torch.stack([x[run] @ linear.weight[run] + linear.bias[run] for run in range(3)])
    torch.testing.assert_close(linear(GroupedOperations(3), x), expected)

    norm = StackedGroupNorm(3, 6, 2)
    randomise(norm)
    images = torch.randn(5, 18, 4, 4, generator=generator)
    pieces = [
        functional.group_norm(images[:, 6 * run : 6 * run + 6], 2, norm.weight[run], norm.bias[run])
        for run in range(3)
    ]
    activated = functional.silu(torch.cat(pieces, 1))
    torch.testing.assert_close(norm(GroupedOperations(3), images), activated)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_convolution_keeps_the_size(kernel_size: int) -> None:
    conv = StackedConv2d(2, 3, 4, kernel_size)
    randomise(conv)
    x = torch.randn(2, 6, 8, 6, generator=torch.Generator().manual_seed(3))
    y = conv(GroupedOperations(2), x)
    assert y.shape == (2, 8, 8, 6)
    assert conv.bias is not None
    expected = functional.conv2d(x[:, 3:], conv.weight[1], conv.bias[1], padding="same")
    torch.testing.assert_close(y[:, 4:], expected, rtol=RTOL, atol=ATOL)


def test_modulation_of_each_run() -> None:
    x = torch.arange(2 * 4 * 1 * 1, dtype=torch.float32).reshape(
        2, 4, 1, 1
    )  # two images, two runs of two channels
    scale_shift = torch.zeros(2, 2, 4)
    scale_shift[1, 0] = torch.tensor(
        [1.0, 0.0, 0.0, 10.0]
    )  # run 1, image 0: double channel 0, shift channel 1
    assert modulate(x, scale_shift).flatten(1).tolist() == [[0.0, 1.0, 4.0, 13.0], [4.0, 5.0, 6.0, 7.0]]


def test_channel_layout_round_trip() -> None:
    x = torch.randn(3, 5, 2, 4, 6)
    stacked = to_channels(x)
    assert stacked.shape == (5, 6, 4, 6)
    assert stacked.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(from_channels(stacked, 3), x)
    y = torch.randn(3, 5, 1, 4, 6)
    joined = from_channels(join_channels(stacked, to_channels(y), 3), 3)
    assert torch.equal(joined, torch.cat([x, y], dim=2))


def test_a_layer_remembers_how_it_starts() -> None:
    layer = StackedLayer()
    layer.add("gain", (2, 3), mean=1.5, std=0.25)
    assert layer.initial == {"gain": (1.5, 0.25)}
    assert layer.get_parameter("gain").tolist() == [[1.5] * 3] * 2
