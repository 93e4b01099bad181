"""The Gaussian source as a value: what samplers do to it, and its best grids."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from schedrl.errors import SchedrlError, Spec, parse
from schedrl.schedules import Grid
from schedrl.schedules.conversions import FloatArray
from schedrl.schedules.schedule import as_count
from schedrl.sources.gaussian import bound, divergences, laws
from schedrl.sources.gaussian.divergences import Direction
from schedrl.sources.gaussian.families import Eigenvalue
from schedrl.sources.gaussian.images import image_eigenvalues
from schedrl.sources.gaussian.optimum import best_sigmas
from schedrl.sources.gaussian.recursions import SamplerName, Start, output_variances, variance_trajectory

__all__ = ["Gaussian"]


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
            floor: Least standard deviation kept; smaller eigenvalues are left out, see
                :func:`~schedrl.sources.gaussian.images.image_eigenvalues`.
            max_images: Use at most so many; None uses all.

        Returns:
            The source, its eigenvalues descending.

        Raises:
            SchedrlError: Too few images, a value that is not finite, or images that do not vary.
        """
        return cls(image_eigenvalues(images, floor, max_images))

    @property
    def spectrum(self) -> FloatArray:
        """The eigenvalues as an array, ``[E]``."""
        return np.array(self.eigenvalues, dtype=np.float64)

    @property
    def gamma_star(self) -> float:
        """Scale of the tangent law that is best for many DDIM steps (THEORY 3.6)."""
        return float(laws.gamma_star(self.spectrum))

    def output_variances(self, grid: Grid, sampler: SamplerName = "ddim", start: Start = "vp") -> FloatArray:
        """Variance of a sampler's output along each eigenvector, ``[E]``.

        Args:
            grid: Levels to step through.
            sampler: Which sampler.
            start: Variance of the first state.

        Returns:
            To compare with the eigenvalues, plus the square of the grid's last level.

        Raises:
            SchedrlError: A name does not exist, or Heun's sampler starts from infinity.

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
            sampler: Which sampler.
            direction: ``"forward"`` is KL(source ‖ output).
            start: Variance of the first state.

        Returns:
            The exact value; infinite if all variance is lost.

        Raises:
            SchedrlError: A name does not exist, or Heun's sampler starts from infinity.
        """
        ratio = self.output_variances(grid, sampler, start) / self._target(grid)
        return float(divergences.kl(ratio, direction))

    def w2(self, grid: Grid, sampler: SamplerName = "ddim", start: Start = "vp") -> float:
        """Wasserstein-2 distance between source and sampler's output, in units of the data.

        Args:
            grid: Levels to step through.
            sampler: Which sampler.
            start: Variance of the first state.

        Returns:
            The exact distance (its square is what Fréchet distances measure).

        Raises:
            SchedrlError: As :meth:`kl`.
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

        Raises:
            SchedrlError: ``y`` has another number of coordinates, or the level is negative or infinite.
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

        Raises:
            SchedrlError: As :meth:`posterior_mean`.
        """
        now, then = _finite_level("sigma", sigma), _finite_level("sigma_next", sigma_next)
        return self._vectors(y) * np.sqrt((self.spectrum + then * then) / (self.spectrum + now * now))

    def bound(self, grid: Grid) -> float:
        """Diffusion loss of the N-step variational bound between a grid's ends, in nats.

        Args:
            grid: Levels; the last must be positive, for the loss of noise-free data is infinite.

        Returns:
            The exact value; the continuous one plus :meth:`bound_gap`.

        Raises:
            SchedrlError: The grid ends at 0.
        """
        return float(bound.discrete_bound(self.spectrum, _snr(grid)))

    def bound_gap(self, grid: Grid) -> float:
        """What finitely many steps add to the variational bound, in nats; see :meth:`bound`."""
        return float(bound.discrete_bound_gap(self.spectrum, _snr(grid)))

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
            The grid; see :func:`~schedrl.sources.gaussian.optimum.best_sigmas` for what "least" means.

        Raises:
            SchedrlError: A value is out of range, or a name does not exist.

        Examples:
            >>> Gaussian([2.25]).best_grid(3).sigma_array.round(6)
            array([     inf, 2.598076, 0.866025, 0.      ])
        """
        levels = best_sigmas(self.spectrum[None], n, sampler, None, sigma_max, sigma_min, direction, start)
        return _as_grid(levels[0])

    def tangent_grid(self, n: int, gamma: float | None = None) -> Grid:
        """The tangent law from infinity to 0.

        Args:
            n: Number of steps.
            gamma: Scale; None takes :attr:`gamma_star`.

        Returns:
            The grid.

        Raises:
            SchedrlError: ``n`` is not a positive whole number, or ``gamma`` not positive.
        """
        scale = self.gamma_star if gamma is None else gamma
        if not (scale > 0.0 and np.isfinite(scale)):
            raise SchedrlError(f"field 'gamma': must be positive and finite (got {scale})")
        return _as_grid(laws.tangent_sigmas(scale, as_count("n", n)))

    def best_tangent_grid(self, n: int, sampler: SamplerName = "ddim") -> Grid:
        """The tangent law from infinity to 0 with the scale that is best at this number of steps.

        Args:
            n: Number of steps.
            sampler: Which sampler; not Heun's, which cannot start from infinity.

        Returns:
            The grid.

        Raises:
            SchedrlError: ``n`` is not a positive whole number, or the sampler is none of them.
        """
        gamma = laws.best_gamma(self.spectrum[None], as_count("n", n), sampler)
        return _as_grid(laws.tangent_sigmas(gamma[0], n))

    def geodesic_grid(self, n: int, sigma_max: float = np.inf, sigma_min: float = 0.0) -> Grid:
        """The grid that is best for many DDIM steps (THEORY 3.4).

        Args:
            n: Number of steps.
            sigma_max: First level.
            sigma_min: Last level, below the first.

        Returns:
            The grid.

        Raises:
            SchedrlError: ``n`` is not a positive whole number, or the ends are not ordered.
        """
        if not sigma_max > sigma_min >= 0.0:
            raise SchedrlError(
                f"field 'sigma_max': must be greater than sigma_min = {sigma_min}, which is not negative "
                f"(got {sigma_max})"
            )
        return _as_grid(
            laws.geodesic_sigmas(self.spectrum[None], as_count("n", n), None, sigma_max, sigma_min)[0]
        )

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


def _snr(grid: Grid) -> FloatArray:
    if grid.sigmas[-1] == 0.0:
        raise SchedrlError("field 'grid': must end at a positive level (got 0), or the bound is infinite")
    return grid.sigma_array**-2.0


def _as_grid(sigmas: FloatArray) -> Grid:
    return parse(Grid, {"sigmas": sigmas.tolist()}, "grid")
