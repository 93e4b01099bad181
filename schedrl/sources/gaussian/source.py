"""The Gaussian source as a value: what samplers do to it, and its best grids."""

from __future__ import annotations

from typing import Annotated, Any, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field

from schedrl.errors import SchedrlError, Spec, parse, unknown_name
from schedrl.schedules import Grid
from schedrl.schedules.continuous_laws import even_fractions, tangent_sigmas
from schedrl.schedules.conversions import FloatArray
from schedrl.schedules.schedule import as_count
from schedrl.sources.gaussian import divergences
from schedrl.sources.gaussian.divergences import Direction
from schedrl.sources.gaussian.flow import FlowSampler, NetworkError, Prediction, best_flow_sigmas
from schedrl.sources.gaussian.laws import best_gamma, gamma_star, geodesic_sigmas
from schedrl.sources.gaussian.measurement import image_eigenvalues
from schedrl.sources.gaussian.optimum import best_sigmas
from schedrl.sources.gaussian.recursions import SamplerName, Start, output_variances, variance_trajectory
from schedrl.sources.gaussian.spectrum_families import Eigenvalue


class Gaussian(Spec):
    """Gaussian data with a given spectrum of covariance; the mean is 0.

    The denoiser is linear, so that every sampler's output is Gaussian too and its distance from the source is exact
    at any number of steps. Everything is independent along the eigenvectors; vectors are given in that basis.

    Attributes:
        eigenvalues: Eigenvalues of the covariance, each in [1e-12, 1e12], in any order.

    Examples:
        >>> from schedrl.schedules import grid
        >>> source = Gaussian([4.0, 1.0, 0.1])
        >>> round(source.kl(grid("tangent", 10)), 6), round(source.kl(source.best_grid(10)), 6)
        (0.098946, 0.079207)
        >>> Gaussian.model_validate_json(source.model_dump_json()) == source
        True
        >>> parse(Gaussian, {"eigenvalues": [4.0, -1.0]}, "source")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        schedrl.errors.SchedrlError: source: field 'eigenvalues.1': must be a variance between ... (got -1.0)
    """

    eigenvalues: Annotated[tuple[Eigenvalue, ...], Field(min_length=1, max_length=65_536)]

    def __init__(self, eigenvalues: Any = None, **data: Any) -> None:
        if eigenvalues is not None:
            values = np.asarray(eigenvalues).tolist() if isinstance(eigenvalues, np.ndarray) else eigenvalues
            data = {"eigenvalues": values, **data}
        super().__init__(**data)

    @classmethod
    def from_images(
        cls, images: npt.ArrayLike, floor: float = 0.01, max_images: int | None = None
    ) -> Gaussian:
        """The Gaussian with the covariance of a set of images.

        Args:
            images: ``[n, ...]``, at least 2; pixels in [-1, 1].
            floor: Smallest standard deviation kept; smaller eigenvalues are left out, see
                :func:`~schedrl.sources.gaussian.measurement.image_eigenvalues`.
            max_images: Use at most this many; None uses all.

        Returns:
            The source, its eigenvalues descending.
        """
        return cls(image_eigenvalues(images, floor, max_images))

    @property
    def spectrum(self) -> FloatArray:
        """The eigenvalues as an array, ``[E]``."""
        return np.array(self.eigenvalues, dtype=np.float64)

    @property
    def gamma_star(self) -> float:
        """Scale of the tangent law that is best for many DDIM steps (THEORY 3.6)."""
        return float(gamma_star(self.spectrum))

    def output_variances(self, grid: Grid, sampler: SamplerName = "ddim", start: Start = "vp") -> FloatArray:
        """Variance of a sampler's output along each eigenvector, ``[E]``.

        Args:
            grid: Levels to step through.
            sampler: Which sampler; Heun's needs a finite first level.
            start: Variance of the first state.

        Returns:
            To compare with the eigenvalues plus the square of the grid's last level.

        Examples:
            >>> from schedrl.schedules import grid
            >>> Gaussian([4.0, 1.0]).output_variances(grid("tangent", 10)).round(4)
            array([2.9314, 0.7805])
        """
        return output_variances(self.spectrum, grid.sigma_array, sampler, start)

    def trajectory(self, grid: Grid, sampler: SamplerName = "ddim", start: Start = "vp") -> FloatArray:
        """Variances of the VP state at every level, ``[N+1, E]``, first level first."""
        return variance_trajectory(self.spectrum, grid.sigma_array, sampler, start)

    def kl(
        self,
        grid: Grid,
        sampler: SamplerName = "ddim",
        direction: Direction = "forward",
        start: Start = "vp",
    ) -> float:
        """Kullback-Leibler divergence between source and sampler's output, in nats.

        Where the grid ends at a positive level, the output is compared with the data plus that noise.

        Args:
            grid: Levels to step through.
            sampler: Which sampler; Heun's needs a finite first level.
            direction: ``"forward"`` is KL(source ‖ output), ``"reverse"`` KL(output ‖ source).
            start: Variance of the first state.

        Returns:
            The exact value; infinite if all variance is lost.
        """
        ratio = self.output_variances(grid, sampler, start) / self._target(grid)
        return float(divergences.kl(ratio, direction))

    def w2(self, grid: Grid, sampler: SamplerName = "ddim", start: Start = "vp") -> float:
        """Wasserstein-2 distance between source and sampler's output, in units of the data.

        Its square is what Fréchet distances measure. Arguments as for :meth:`kl`.
        """
        target = self._target(grid)
        ratio = self.output_variances(grid, sampler, start) / target
        return float(np.sqrt(divergences.w2_squared(ratio, target)))

    def posterior_mean(self, y: npt.ArrayLike, sigma: float) -> FloatArray:
        r"""The exact denoiser :math:`E[x_0 | y] = \lambda / (\lambda + \sigma^2)\, y` of y = x_0 + sigma eps.

        Args:
            y: ``[..., E]``, in the basis of eigenvectors.
            sigma: Noise level, finite.

        Returns:
            Of the shape of ``y``.
        """
        level = _finite_level("sigma", sigma)
        return self._vectors(y) * (self.spectrum / (self.spectrum + level * level))

    def flow(self, y: npt.ArrayLike, sigma: float, sigma_next: float) -> FloatArray:
        r"""The exact probability-flow ODE from one noise level to another.

        :math:`y' = y \sqrt{(\lambda + \sigma'^2) / (\lambda + \sigma^2)}`. Source: THEORY 3.7.

        Args:
            y: ``[..., E]``, in the basis of eigenvectors.
            sigma: Noise level of ``y``, finite.
            sigma_next: Noise level to go to, finite.

        Returns:
            Of the shape of ``y``.
        """
        now, then = _finite_level("sigma", sigma), _finite_level("sigma_next", sigma_next)
        return self._vectors(y) * np.sqrt((self.spectrum + then * then) / (self.spectrum + now * now))

    def bound(self, grid: Grid) -> float:
        """Diffusion loss of the N-step variational bound between a grid's ends, in nats.

        The last level must be positive, for the loss of noise-free data is infinite. The value is exact: the
        continuous bound plus :meth:`bound_gap`.
        """
        snr = _snr(grid)
        continuous = divergences.continuous_bound(self.spectrum, float(snr[0]), float(snr[-1]))
        return float(continuous + divergences.bound_gap(self.spectrum, snr))

    def bound_gap(self, grid: Grid) -> float:
        """What finitely many steps add to the variational bound, in nats; see :meth:`bound`."""
        return float(divergences.bound_gap(self.spectrum, _snr(grid)))

    def best_grid(
        self,
        n: int,
        sampler: SamplerName = "ddim",
        sigma_max: float | None = np.inf,
        sigma_min: float = 0.0,
        direction: Direction = "forward",
        start: Start = "vp",
    ) -> Grid:
        """The grid with the least exact divergence.

        Args:
            n: Number of steps.
            sampler: Which sampler; Heun's needs a finite ``sigma_max`` or None.
            sigma_max: First level; None chooses it too.
            sigma_min: Last level.
            direction: Which divergence.
            start: Variance of the first state.

        Returns:
            The grid; :func:`~schedrl.sources.gaussian.optimum.best_sigmas` says what "least" means.

        Examples:
            >>> Gaussian([2.25]).best_grid(3).sigma_array.round(6)
            array([     inf, 2.598076, 0.866025, 0.      ])
        """
        levels = best_sigmas(self.spectrum[None], n, sampler, None, sigma_max, sigma_min, direction, start)
        return _as_grid(levels[0])

    def flow_grid(
        self,
        n: int,
        sampler: FlowSampler = "ddim",
        sigma_max: float = np.inf,
        sigma_min: float = 0.0,
        prediction: Prediction | None = None,
        network_error: float | NetworkError | None = None,
    ) -> Grid:
        """The grid whose images are closest to those of the exact flow from the same noise.

        The expected squared distance weights a direction by its variance, where :meth:`best_grid` asks which share of
        its own variance each direction keeps. ``schedrl schedule design`` uses this grid by default, with
        ``prediction``: a grid for the exact denoiser can be far off with a network.

        Args:
            n: Number of steps.
            sampler: ``"ddim"`` or ``"heun"``; Heun's needs a finite ``sigma_max``.
            sigma_max: First level; finite for a network that predicts epsilon.
            sigma_min: Lower limit of the positive levels; the last level is 0.
            prediction: What the network predicts, ``"epsilon"``, ``"v_prediction"`` or ``"sample"``; None, without a
                ``network_error``, stands for the exact denoiser.
            network_error: Variance of a pixel's error in what it predicts; None assumes
                :meth:`NetworkError.usual <schedrl.sources.gaussian.flow.NetworkError.usual>`.

        Returns:
            The grid.

        Examples:
            >>> source = Gaussian([4.0, 1.0, 0.1])
            >>> source.flow_grid(4).sigma_array.round(2)
            array([ inf, 4.19, 1.65, 0.61, 0.  ])
            >>> source.flow_grid(4, sigma_max=80.0, prediction="epsilon").sigma_array.round(2)
            array([80.  , 19.71,  4.9 ,  1.23,  0.  ])
        """
        count = as_count("n", n)
        _check_order(sigma_max, sigma_min)
        if sampler not in get_args(FlowSampler):
            raise unknown_name("deterministic sampler", str(sampler), get_args(FlowSampler))
        if sampler == "heun" and np.isinf(sigma_max):
            raise SchedrlError("field 'sigma_max': must be finite for Heun's sampler (got inf)")
        if network_error is not None and not isinstance(network_error, NetworkError):
            network_error = NetworkError((network_error,), prediction or "epsilon")
        elif network_error is None and prediction is not None:
            network_error = NetworkError.usual(prediction, sampler)
        if network_error is not None and network_error.prediction == "epsilon" and np.isinf(sigma_max):
            raise SchedrlError(
                "field 'sigma_max': must be finite for a network that predicts epsilon (got inf)"
            )
        levels = best_flow_sigmas(
            self.spectrum, count, sampler, first=sigma_max, least=sigma_min, network_error=network_error
        )
        return _as_grid(levels)

    def tangent_grid(self, n: int, gamma: float | None = None) -> Grid:
        """The tangent law from infinity to 0, with n steps and the scale ``gamma``, by default :attr:`gamma_star`."""
        scale = self.gamma_star if gamma is None else gamma
        if not (scale > 0.0 and np.isfinite(scale)):
            raise SchedrlError(f"field 'gamma': must be positive and finite (got {scale})")
        return _as_grid(tangent_sigmas(even_fractions(as_count("n", n)), scale))

    def best_tangent_grid(self, n: int, sampler: SamplerName = "ddim") -> Grid:
        """The tangent law from infinity to 0 with the scale that is best at n steps; not for Heun's sampler."""
        gamma = best_gamma(self.spectrum[None], as_count("n", n), sampler)
        return _as_grid(tangent_sigmas(even_fractions(n), float(gamma[0])))

    def geodesic_grid(self, n: int, sigma_max: float = np.inf, sigma_min: float = 0.0) -> Grid:
        """The grid that is best for many DDIM steps (THEORY 3.4), with n steps from ``sigma_max`` to ``sigma_min``."""
        _check_order(sigma_max, sigma_min)
        return _as_grid(geodesic_sigmas(self.spectrum[None], as_count("n", n), None, sigma_max, sigma_min)[0])

    def _target(self, grid: Grid) -> FloatArray:
        return np.asarray(self.spectrum + grid.sigmas[-1] ** 2)

    def _vectors(self, y: npt.ArrayLike) -> FloatArray:
        vectors = np.asarray(y, dtype=np.float64)
        if vectors.ndim == 0 or vectors.shape[-1] != len(self.eigenvalues):
            raise SchedrlError(
                f"field 'y': must have {len(self.eigenvalues)} coordinates in its last axis "
                f"(got shape {list(vectors.shape)})"
            )
        return vectors


def _finite_level(field: str, sigma: float) -> float:
    if not (sigma >= 0.0 and np.isfinite(sigma)):
        raise SchedrlError(f"field '{field}': must be a finite noise level, 0 or positive (got {sigma})")
    return float(sigma)


def _check_order(sigma_max: float, sigma_min: float) -> None:
    if not sigma_max > sigma_min >= 0.0:
        raise SchedrlError(
            f"field 'sigma_max': must be greater than sigma_min = {sigma_min}, which is not negative (got {sigma_max})"
        )


def _snr(grid: Grid) -> FloatArray:
    if grid.sigmas[-1] == 0.0:
        raise SchedrlError("field 'grid': must end at a positive level (got 0), or the bound is infinite")
    return grid.sigma_array**-2.0


def _as_grid(sigmas: FloatArray) -> Grid:
    return parse(Grid, {"sigmas": sigmas.tolist()}, "grid")
