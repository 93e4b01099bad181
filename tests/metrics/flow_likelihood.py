r"""The likelihood of a network's probability flow: an independent check of the variational bound.

Noise estimates define an ordinary differential equation that maps N(0, I) to images and back (Song et al. 2021, arXiv
2011.13456, section 4.3). In λ = log(α²/σ²) of the variance-preserving process

.. math:: \frac{dz}{dλ} = \tfrac12 (σ^2 z - σ\,\hat ε(z, λ)), \qquad
          \log p(z_{max}) = \log N(z_{min}; 0, I) + \int_{λ_{max}}^{λ_{min}} \nabla \cdot \frac{dz}{dλ}\, dλ.

The divergence is Hutchinson's estimate with Rademacher probes, unbiased and exact where the Jacobian is diagonal. With
z at λ_max drawn given the image, and the bound's decoder,

    bits/dim = E[log q(z | x) − log p(z)] / (D log 2) + reconstruction

is an upper bound on the flow's code length of the grey levels. It has the same last term as
:class:`schedrl.metrics.variational_bound.Bound` and can be compared with it, though the flow is another model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schedrl.diffusion.process import alpha_sigma
from schedrl.errors import SchedrlError, unknown_name
from schedrl.metrics.metric_specs import BoundSpec
from schedrl.metrics.variational_bound import EpsilonPredictor, reconstruction_bits

__all__ = ["FlowLikelihood", "flow_likelihood", "flow_log_density"]

Solver = Literal["euler", "heun", "rk4"]

_STAGES: dict[Solver, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "euler": ((0.0,), (1.0,)),
    "heun": ((0.0, 1.0), (0.5, 0.5)),
    "rk4": ((0.0, 0.5, 0.5, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
"""Explicit Runge-Kutta methods whose every stage starts from the one before: its places, and the weights."""


@dataclass(frozen=True, eq=False)
class FlowLikelihood:
    """Code lengths under the probability flow.

    Attributes:
        bits_per_dim: ``[runs]`` float64, mean over the images.
        image_bits: ``[runs, images]`` float64, of each image without the reconstruction term, per dimension.
        log_density: ``[runs, images]`` float64, log p(z) at λ_max in nats.
        reconstruction: Bits/dim, as the bound has it; the same for all runs.
        images: How many.
        steps: Of the solver.
        solver: Its name.
        probes: Of the trace, per image.
    """

    bits_per_dim: NDArray[np.float64]
    image_bits: NDArray[np.float64]
    log_density: NDArray[np.float64]
    reconstruction: float
    images: int
    steps: int
    solver: Solver
    probes: int

    @property
    def standard_error(self) -> NDArray[np.float64]:
        """Of :attr:`bits_per_dim` over the images, ``[runs]``; infinite for a single image."""
        if self.images == 1:
            return np.full(len(self.bits_per_dim), np.inf)
        error: NDArray[np.float64] = self.image_bits.std(axis=1, ddof=1) / math.sqrt(self.images)
        return error


def flow_log_density(
    predict: EpsilonPredictor,
    z: Tensor,
    logsnr_max: float,
    logsnr_min: float,
    generator: torch.Generator,
    *,
    steps: int = 100,
    solver: Solver = "rk4",
    probes: int = 1,
) -> Tensor:
    """log p(z) at λ_max in nats under the probability flow that starts from N(0, I) at λ_min.

    Args:
        predict: Noise estimates that can be differentiated by their first argument; no run's or image's may depend on
            another's. Not :meth:`schedrl.diffusion.population.Population.predict_epsilon`, which keeps no gradients.
        z: ``[runs, n, C, H, W]`` at λ_max.
        logsnr_max: λ of ``z``.
        logsnr_min: λ at the noise end, below ``logsnr_max``.
        generator: Draws the probes on the CPU; runs share them.
        steps: Of the solver, even in λ.
        solver: ``euler``, ``heun`` or ``rk4`` (1, 2 or 4 predictions a step).
        probes: Rademacher vectors per image, kept through all steps.

    Returns:
        ``[runs, n]`` float64.

    Raises:
        SchedrlError: Bad ends, numbers or solver, or predictions without a gradient.

    Examples:
        Images that are standard normal noise stay so at every level:

        >>> def exact(z, logsnr):
        ...     return torch.sigmoid(-logsnr).sqrt()[..., None, None, None] * z
        >>> z = torch.zeros(1, 2, 1, 2, 2)
        >>> flow_log_density(exact, z, 8.0, -6.0, torch.Generator(), steps=4) / 4  # -log(2 pi) / 2
        tensor([[-0.9189, -0.9189]], dtype=torch.float64)
    """
    if not logsnr_min < logsnr_max:
        raise SchedrlError(f"logsnr_min: must be below logsnr_max = {logsnr_max} (got {logsnr_min})")
    if steps < 1 or probes < 1:
        raise SchedrlError(f"steps, probes: must be at least 1 (got {steps} and {probes})")
    if solver not in _STAGES:
        raise unknown_name("solver", solver, _STAGES)
    signs = torch.randint(0, 2, (probes, *z.shape[1:]), generator=generator)
    vectors = (2 * signs - 1).to(z.device, z.dtype)[:, None].expand(probes, *z.shape)
    places, weights = _STAGES[solver]
    change = torch.zeros(z.shape[:2], dtype=torch.float64, device=z.device)
    stride = (logsnr_min - logsnr_max) / steps
    for step in range(steps):
        start = logsnr_max + step * stride
        moved, slope = torch.zeros_like(z), torch.zeros_like(z)
        for place, weight in zip(places, weights, strict=True):
            slope, divergence = _slope(predict, z + place * stride * slope, start + place * stride, vectors)
            moved += weight * slope
            change += weight * stride * divergence
        z = z + stride * moved
    squares = z.double().square().flatten(2)
    return change - 0.5 * (squares + math.log(2.0 * math.pi)).sum(dim=2)


def _slope(predict: EpsilonPredictor, z: Tensor, logsnr: float, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """dz/dλ shaped as ``z``, and its divergence ``[runs, n]`` in float64."""
    level = torch.full(z.shape[:2], logsnr, dtype=z.dtype, device=z.device)
    sigma = math.sqrt(1.0 / (1.0 + math.exp(logsnr)))
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        noise = predict(leaf, level)
        if not noise.requires_grad:
            raise SchedrlError(
                "predict: must be differentiable by its first argument (got values without a gradient, such as under "
                "torch.no_grad)"
            )
        traces = []
        for place, vector in enumerate(vectors):
            kept = place + 1 < len(vectors)
            (product,) = torch.autograd.grad(noise, leaf, vector, retain_graph=kept)
            traces.append((product * vector).flatten(2).double().sum(dim=2))
    trace = torch.stack(traces).mean(dim=0)
    dimension = z[0, 0].numel()
    slope = 0.5 * (sigma**2 * leaf.detach() - sigma * noise.detach())
    return slope, 0.5 * (sigma**2 * dimension - sigma * trace)


def flow_likelihood(
    predict: EpsilonPredictor,
    images: NDArray[np.float32],
    levels: int,
    spec: BoundSpec,
    num_runs: int,
    seed: int,
    *,
    steps: int = 100,
    solver: Solver = "rk4",
    probes: int = 1,
    batch: int = 64,
    device: str | torch.device = "cpu",
) -> FlowLikelihood:
    """Code length of images under each run's probability flow.

    Args:
        predict: See :func:`flow_log_density`.
        images: ``[n, C, H, W]`` in [−1, 1], at the centres of ``levels`` grey levels; of more than ``spec.images`` the
            first are taken.
        levels: Number of grey levels of the data.
        spec: The ends of the flow; its ``levels`` are not used.
        num_runs: Number of runs that ``predict`` answers for.
        seed: Of the noise at λ_max and of the probes, which all runs share.
        steps: See :func:`flow_log_density`, as are ``solver`` and ``probes``.
        solver: As above.
        probes: As above.
        batch: Images of a run at once; changes which numbers an image meets, and nothing else.
        device: Where ``predict`` wants its arguments.

    Raises:
        SchedrlError: There are no images, or as :func:`flow_log_density`.
    """
    chosen = np.array(images[: spec.images], dtype=np.float32)
    if len(chosen) == 0 or batch < 1:
        raise SchedrlError(
            f"images, batch: need at least 1 image and a batch of 1 (got {len(chosen)} and {batch})"
        )
    generator = torch.Generator().manual_seed(seed)
    alpha, sigma = (
        float(part) for part in alpha_sigma(torch.tensor(spec.logsnr_max, dtype=torch.float64), 0)
    )
    densities, given = [], []
    for begin in range(0, len(chosen), batch):
        x = torch.from_numpy(chosen[begin : begin + batch])
        noise = torch.randn(x.shape, generator=generator)
        z = (alpha * x + sigma * noise).to(device)
        densities.append(
            flow_log_density(
                predict, z.expand(num_runs, *z.shape), spec.logsnr_max, spec.logsnr_min, generator,
                steps=steps, solver=solver, probes=probes,
            ).cpu()
        )  # fmt: skip
        # log q(z | x), whose noise is known.
        squares = noise.double().square().flatten(1)
        given.append(-0.5 * (squares + math.log(2.0 * math.pi * sigma**2)).sum(dim=1))
    log_density = torch.cat(densities, dim=1).numpy()
    nats = torch.cat(given).numpy() - log_density
    image_bits = nats / (chosen[0].size * math.log(2.0))
    reconstruction = reconstruction_bits(chosen, levels, spec.logsnr_max, np.random.default_rng(seed))
    return FlowLikelihood(
        image_bits.mean(axis=1) + reconstruction,
        image_bits,
        log_density,
        reconstruction,
        len(chosen),
        steps,
        solver,
        probes,
    )
