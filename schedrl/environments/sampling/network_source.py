"""A trained network as a source: the error is a distance to its own fine-grid flow, or to real images.

Rows of a batch differ by their starting noise. The state of a row is the states of its images and statistics of the
network's last estimate of them, which are all that an agent sees. The network runs once a step, for all rows together.
PyTorch is loaded with the first batch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from schedrl import data
from schedrl.data import AnyData
from schedrl.diffusion.training_spec import LOGSNR_LIMIT
from schedrl.environments.sampling.gaussian_source import GaussianBatch, image_spectrum
from schedrl.environments.sampling.rewards import SamplingReward
from schedrl.environments.sampling.source_kind import (
    Features,
    Parts,
    Rows,
    SourceBatch,
    SourceKind,
    State,
    at_rows,
    run_grids,
)
from schedrl.errors import SchedrlError
from schedrl.schedules.conversions import FloatArray
from schedrl.sources.gaussian.recursions import SamplerName, cosine_sine

if TYPE_CHECKING:
    from schedrl.diffusion.trained_models import SampledModel
    from schedrl.metrics.features import FeatureExtractor
    from schedrl.metrics.sample_quality import ReferenceFeatures


FeaturesName = Literal["digits-cnn", "fashion-cnn", "inception", "pca"]
"""Feature networks of :mod:`schedrl.metrics.features`."""


class NetworkSource(SourceKind):
    """A trained network, sampled from starting noise that is drawn anew each episode.

    Attributes:
        model: ``"digits"`` or ``"fashion"``, the shipped networks (the second needs Fashion-MNIST for its spectrum);
            the folder of a network that ``schedrl fit`` wrote; or a name given to
            :func:`schedrl.diffusion.trained_models.register_predictor`. Results are kept under this name, so give
            another network another name.
        error: The score of an episode. ``"teacher"``: mean squared distance per pixel to the images to which the
            network's own deterministic flow takes the same noise on a fine grid. ``"frechet"``: Fréchet distance of the
            episode's images to the training images.
        images: Images of an episode, which are sampled on the same grid.
        teacher_steps: Steps of the fine grid; each but the last is of second order and calls the network twice.
        features: Feature network of the Fréchet distance. If set, both measures are among the parts of the error.
        clip: Clip the network's estimates of clean images to [−1, 1].
        data: Image set for the spectrum behind closed-form grids and for Fréchet distances; the one that the network
            was trained on when absent.
        floor: Smallest standard deviation kept of that spectrum.
    """

    has_spectrum: ClassVar[bool] = True
    runs_network: ClassVar[bool] = True

    kind: Literal["network"] = "network"
    model: Annotated[str, Field(min_length=1)] = "digits"
    error: Literal["teacher", "frechet"] = "teacher"
    images: Annotated[int, Field(ge=1, le=65_536)] = 8
    teacher_steps: Annotated[int, Field(ge=2, le=10_000)] = 32
    features: FeaturesName | None = None
    clip: bool = True
    data: AnyData | None = None
    floor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.02

    @model_validator(mode="after")
    def _named_features(self) -> NetworkSource:
        if self.error == "frechet" and self.features is None:
            raise ValueError(
                "features: error 'frechet' needs a feature network, as features = \"digits-cnn\""
            )
        return self

    @property
    def title(self) -> str:
        return f"{self.model} network"

    @property
    def accuracy(self) -> str:
        teacher, frechet = "distances to its own flow", "Fréchet distances to the training images"
        return (
            f"The network `{self.model}` is run; errors are {frechet if self.error == 'frechet' else teacher}, of "
            f"{self.images} images per episode, with the same noise for every agent."
        )

    @property
    def step_cost(self) -> str:
        return f"Each shows a trained network the {self.images} images of an episode; no network was trained inside."

    @property
    def image_sets(self) -> tuple[AnyData, ...]:
        return () if self.data is None else (self.data,)

    @property
    def num_uniforms(self) -> int:
        return 1

    @property
    def feature_widths(self) -> Features:
        return tuple((name, 1) for name in ("angle", "state", "estimate", "change", "speed"))

    def check(self, sampler: SamplerName, reward: SamplingReward, first_sigma: float) -> None:
        if sampler not in ("ddim", "heun"):
            raise ValueError(
                f"sampler: a network needs 'ddim' or 'heun', whose limit its teacher is (got '{sampler}')"
            )
        if reward.needs_prediction:
            raise ValueError(
                "reward.kind: must be 'final' for a source of kind 'network': predicting the end would run the network "
                f"to the end at every step (got '{reward.kind}')"
            )

    def batch(self, count: int, sampler: SamplerName) -> NetworkBatch:
        return NetworkBatch(shared_network(self), np.zeros(count, dtype=np.int64), sampler)

    def assign(self, batch: Any, rows: Rows, uniforms: FloatArray) -> None:
        batch.numbers[rows] = (uniforms[:, 0] * 2.0**53).astype(np.int64)

    def probe(self, sampler: SamplerName) -> Self:
        self.batch(1, sampler)
        fewer = {"images": 2, "teacher_steps": 2, "features": None, "error": "teacher"}
        return self.model_copy(update=fewer)


_STATE_MS, _CLEAN_MS, _CHANGE_MS, _TURN = range(4)
"""Rows of an estimate's statistics: mean squares of the state, of the estimate and of its change, and the length of the
last step in atan(σ / near)."""

_SMALLEST = 1e-12
"""Smaller mean squares count as this, so that their logarithms are finite."""

_NUMBERS_AT_ONCE = 1 << 22
"""Most pixels of the images that are sampled together; bounds memory."""


class NetworkBatch(SourceBatch):
    """Starting noises of one network, one per row; ``[images, pixels, rows]`` inside.

    Args:
        shared: The network.
        numbers: Seeds of the noises, ``[B]``.
        sampler: ``ddim`` or ``heun``.
    """

    parameter_names: ClassVar[tuple[str, ...]] = ("numbers",)
    by_row: ClassVar[tuple[str, ...]] = parameter_names

    def __init__(self, shared: SharedNetwork, numbers: Rows, sampler: SamplerName) -> None:
        self.shared, self.numbers, self.sampler = shared, numbers, sampler
        self.near, self.far = np.full(len(numbers), shared.near), np.full(len(numbers), shared.far)

    @property
    def gaussian(self) -> GaussianBatch:
        """The Gaussian with the data's spectrum, a batch of one."""
        if (found := self.shared.gaussian) is None:
            raise SchedrlError(
                f"network '{self.shared.source.model}': its data's spectrum is not known; name source.data, or "
                "register it with data or eigenvalues"
            )
        return found

    def geodesic_angles(self) -> FloatArray:
        return np.repeat(self.gaussian.geodesic_angles(), len(self.numbers), axis=1)

    def start(self, rows: NDArray[np.int64]) -> State:
        """The noise itself, at any first sigma; nothing has been estimated."""
        z = self.shared.noise(self.numbers[rows].tolist())
        seen = np.zeros((4, len(rows)))
        seen[_STATE_MS] = mean_square(z)
        return z, np.zeros_like(z), seen

    def advance(self, state: State, sigma: FloatArray, sigma_next: FloatArray) -> State:
        """One DDIM step, or one of Heun's; the network does not run for samplers that do not move."""
        moving = np.flatnonzero(sigma > sigma_next)
        if len(moving) == len(sigma):
            return self._moved(state, sigma, sigma_next)
        parts = tuple(part.copy() for part in state)
        if len(moving):
            fresh = self._moved(at_rows(state, moving), sigma[moving], sigma_next[moving])
            for part, new in zip(parts, fresh, strict=True):
                part[..., moving] = new
        return parts

    def deviation(self, state: State, other: State) -> FloatArray:
        return np.asarray(np.sqrt(mean_square(state[0] - other[0])))

    def error(self, state: State, sigma: FloatArray, grids: FloatArray | None = None) -> FloatArray:
        """Mean squared distance to the teacher, or the Fréchet distance, by ``error`` of the source."""
        return self._chosen(self.parts(state, sigma, grids))

    def parts(self, state: State, sigma: FloatArray, grids: FloatArray | None = None) -> Parts:
        """``teacher_mse``, and ``frechet`` where the source names features."""
        return self.shared.measure(state[0], self.numbers)

    def grid_parts(self, grids: FloatArray) -> Parts:
        """Parts of the final errors of grids; the network runs only for grids that were not seen before."""
        # Repetitions at the end of a grid have no effect.
        cut = [grid[: int(np.argmin(grid)) + 1].tobytes() for grid in grids]
        keys = list(zip(self.numbers.tolist(), cut, strict=True))
        first = {key: row for row, key in reversed(list(enumerate(keys)))}

        def run(own: list[tuple[int, bytes]]) -> list[dict[str, float]]:
            rows = np.array([first[key] for key in own])
            taken = self.take(rows)
            values = taken.parts(run_grids(taken, grids[rows]), grids[rows, -1])
            return [
                {name: float(value[place]) for name, value in values.items()} for place in range(len(own))
            ]

        part = max(1, _NUMBERS_AT_ONCE // (self.shared.size * self.shared.pixels))
        found = self.shared.outcomes.get(keys, run, part)
        return {name: np.array([outcome[name] for outcome in found]) for name in found[0]}

    def grid_errors(self, grids: FloatArray) -> FloatArray:
        return self._chosen(self.grid_parts(grids))

    def targets(self) -> Parts:
        """Zero. A Fréchet distance of finitely many images stays above it."""
        names = ("teacher_mse",) if self.shared.source.features is None else ("teacher_mse", "frechet")
        return {name: np.zeros(len(self.numbers)) for name in names}

    def write_features(self, state: State, sigma: FloatArray, out: NDArray[np.float32]) -> None:
        """Write the features ``[5, B]``.

        ``angle`` atan(σ / near) in units of π/2; ``state`` log of the images' mean square; ``estimate`` log of the mean
        square of the network's last estimate of clean images; ``change`` that of its difference from the estimate
        before (the first from 0); ``speed`` the same divided by the square of the step between the two, in
        atan(σ / near). The last three are a quarter of the logarithm, and 0 before the first step.
        """
        seen = state[2]
        logs = np.log(np.maximum(seen, _SMALLEST))
        out[0] = np.arctan(sigma / self.near) * (2.0 / np.pi)
        out[1] = logs[_STATE_MS]
        begun = seen[_TURN] > 0.0
        out[2] = np.where(begun, 0.25 * logs[_CLEAN_MS], 0.0)
        out[3] = np.where(begun, 0.25 * logs[_CHANGE_MS], 0.0)
        out[4] = np.where(begun, 0.25 * (logs[_CHANGE_MS] - 2.0 * logs[_TURN]), 0.0)

    def _moved(self, state: State, sigma: FloatArray, sigma_next: FloatArray) -> State:
        z, last, seen = state
        clean = self.shared.denoise(z, sigma)
        moved = ddim_step(z, clean, sigma, sigma_next)
        inside = np.flatnonzero(sigma_next > 0.0)
        if self.sampler == "heun" and len(inside):
            here, there = sigma[inside], sigma_next[inside]
            second = self.shared.denoise(moved[..., inside], there)
            moved[..., inside] = heun_step(
                z[..., inside], clean[..., inside], moved[..., inside], second, here, there
            )
        stats = np.empty_like(seen)
        stats[_STATE_MS] = mean_square(moved)
        stats[_CLEAN_MS] = mean_square(clean)
        stats[_CHANGE_MS] = mean_square(clean - last)
        near = self.shared.near
        stats[_TURN] = np.arctan(sigma / near) - np.arctan(sigma_next / near)
        return moved, clean, stats

    def _chosen(self, parts: Parts) -> FloatArray:
        return parts["teacher_mse" if self.shared.source.error == "teacher" else "frechet"]


_AT_ONCE = 1 << 18
"""Most pixels in one call of the network, so that its features stay in the processor's cache."""

_LEAST = 16
"""Fewest images in one call: convolutions of fewer images sum in another order, and an episode's last digits would
depend on how many run beside it."""

_KEPT = 1 << 25
"""Most numbers kept of noise, and of teachers: 256 MB each."""

_OUTCOMES = 1 << 16
"""Most grids whose errors are kept."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class _Cache(Generic[Key, Value]):
    """At most ``most`` values; the least recently used one goes first."""

    def __init__(self, most: int) -> None:
        self.most, self.values = max(most, 1), OrderedDict[Key, Value]()

    def get(
        self, keys: Sequence[Key], compute: Callable[[list[Key]], Iterable[Value]], part: int = 1
    ) -> list[Value]:
        """The values of keys; missing ones are computed in parts of ``part``, each once, and kept."""
        found = {key: self.values[key] for key in keys if key in self.values}
        for key in found:
            self.values.move_to_end(key)
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        for begin in range(0, len(missing), part):
            own = missing[begin : begin + part]
            for key, value in zip(own, compute(own), strict=True):
                found[key] = self.values[key] = value
                if len(self.values) > self.most:
                    self.values.popitem(last=False)
        return [found[key] for key in keys]


class SharedNetwork:
    """A network with what all its episodes share: starting noise, the teacher's images, the errors of grids.

    Noise is a function of its seed. Results are kept as far as they fit, so runs that share a seed, and agents that are
    compared on the same seeds, compute them once. States are ``[images, pixels, rows]``.

    Args:
        source: The source in the variant.
        model: The network.

    Raises:
        SchedrlError: The image set or the feature network is missing, or does not fit.
    """

    def __init__(self, source: NetworkSource, model: SampledModel) -> None:
        self.source, self.model = source, model
        self.size, self.pixels = source.images, int(np.prod(model.image_shape))
        most = _KEPT // (self.size * self.pixels)
        self._noise: _Cache[int, FloatArray] = _Cache(most)
        self._teacher: _Cache[int, FloatArray] = _Cache(most)
        self.outcomes: _Cache[tuple[int, bytes], dict[str, float]] = _Cache(_OUTCOMES)
        known = self.gaussian
        self.near, self.far = (1.0, 1.0) if known is None else (float(known.near[0]), float(known.far[0]))
        self._features = self._feature_network()

    @cached_property
    def gaussian(self) -> GaussianBatch | None:
        """The Gaussian with the data's spectrum, a batch of one; None if no spectrum is known."""
        images = self.source.data or self.model.data
        if images is not None:
            spectrum = image_spectrum(images, self.source.floor)
        elif self.model.eigenvalues is not None:
            spectrum = np.array(self.model.eigenvalues)
        else:
            return None
        return GaussianBatch(spectrum[None], np.ones((1, len(spectrum))), "ddim", shared=True)

    def noise(self, numbers: list[int]) -> FloatArray:
        """Standard normal ``[images, pixels, rows]``; that of an image does not depend on how many images there are."""
        shape = self.size, self.pixels

        def draw(own: list[int]) -> list[FloatArray]:
            return [np.random.Generator(np.random.Philox(key=n)).standard_normal(shape) for n in own]

        return np.stack(self._noise.get(numbers, draw), axis=-1)

    def denoise(self, z: FloatArray, sigma: FloatArray) -> FloatArray:
        """The network's clean images for states ``[images, pixels, rows]`` at ``sigma`` ``[rows]``.

        Raises:
            SchedrlError: The network's answer has another shape or is not finite.
        """
        import torch

        with np.errstate(divide="ignore"):
            logsnr = (-2.0 * np.log(sigma)).clip(-LOGSNR_LIMIT, LOGSNR_LIMIT)
        images = np.ascontiguousarray(np.moveaxis(z, -1, 0), dtype=np.float32)
        shown = torch.from_numpy(images.reshape(-1, *self.model.image_shape))
        logsnrs = torch.from_numpy(np.repeat(logsnr, self.size).astype(np.float32))
        part, found = max(_LEAST, _AT_ONCE // self.pixels), []
        for begin in range(0, len(shown), part):
            own, own_logsnr = shown[begin : begin + part], logsnrs[begin : begin + part]
            count = len(own)
            if count < _LEAST:
                chosen = torch.arange(_LEAST) % count
                own, own_logsnr = own[chosen], own_logsnr[chosen]
            estimate = self.model.denoise(own, own_logsnr)
            if estimate.shape != own.shape:
                raise SchedrlError(
                    f"network '{self.source.model}': its answer must be shaped as the images, {tuple(own.shape)} "
                    f"(got {tuple(estimate.shape)})"
                )
            found.append(estimate[:count].detach().cpu().double().numpy())
        clean = np.concatenate(found).reshape(len(logsnr), self.size, self.pixels)
        if not np.isfinite(clean).all():
            raise SchedrlError(
                f"network '{self.source.model}': its estimates must be finite (got NaN or infinity)"
            )
        if self.source.clip:
            clean = clean.clip(-1.0, 1.0)
        return np.ascontiguousarray(np.moveaxis(clean, 0, -1))

    def teacher(self, numbers: Rows) -> FloatArray:
        """Images to which the flow takes the noise of these seeds, ``[images, pixels, rows]``."""

        def flow(own: list[int]) -> list[FloatArray]:
            arrived = self._flow(self.noise(own))
            return [arrived[..., column].copy() for column in range(len(own))]

        part = max(1, (_AT_ONCE // 4) // (self.size * self.pixels))
        return np.stack(self._teacher.get(numbers.tolist(), flow, part), axis=-1)

    def measure(self, images: FloatArray, numbers: Rows) -> Parts:
        """Parts of the error of samples ``[images, pixels, rows]``, each ``[rows]``."""
        parts = {"teacher_mse": mean_square(images - self.teacher(numbers))}
        if self._features is not None:
            parts["frechet"] = np.array([self._frechet(images[..., row]) for row in range(images.shape[-1])])
        return parts

    def _flow(self, z: FloatArray) -> FloatArray:
        """The deterministic flow in second-order steps, on the tangent law between the data's two scales."""
        middle = float(np.sqrt(self.near * self.far))
        sigmas = middle * np.tan(0.5 * np.pi * np.linspace(1.0, 0.0, self.source.teacher_steps + 1))
        sigmas[0] = np.inf
        for here, there in pairwise(sigmas.tolist()):
            clean = self.denoise(z, np.full(z.shape[-1], here))
            ahead = ddim_step(z, clean, here, there)
            if there > 0.0:
                second = self.denoise(ahead, np.full(z.shape[-1], there))
                if here > middle:
                    # Heun's step of z / sigma in 1 / sigma, which stays finite at infinite noise.
                    ahead = ddim_step(z, 0.5 * (clean + second), here, there)
                else:
                    ahead = heun_step(z, clean, ahead, second, here, there)
            z = ahead
        return z

    def _frechet(self, images: FloatArray) -> float:
        from schedrl.metrics.distances import FeatureStatistics, frechet_distance

        shaped = images.reshape(-1, *self.model.image_shape).clip(-1.0, 1.0).astype(np.float32)
        own = FeatureStatistics.of(self._reference.extractor.features(shaped))
        return frechet_distance(own, self._reference.statistics)

    @cached_property
    def _reference(self) -> ReferenceFeatures:
        """Features of the training images, computed with the first distance and not to check a benchmark."""
        from schedrl.metrics.sample_quality import ReferenceFeatures

        assert self._features is not None
        return ReferenceFeatures.of(self._training_images(), self._features)

    def _feature_network(self) -> FeatureExtractor | None:
        if self.source.features is None:
            return None
        from schedrl.metrics.features import extractor

        train = self._training_images()
        network = extractor(self.source.features, train)
        network.features(train[:1])  # raises if it is not for these images
        if self.size <= network.dimension:
            raise SchedrlError(
                f"source.images: the {network.dimension} features of '{network.name}' need at least "
                f"{network.dimension + 1} images an episode (got {self.size})"
            )
        return network

    def _training_images(self) -> NDArray[np.float32]:
        images = self.source.data or self.model.data
        if images is None:
            raise SchedrlError(
                f"source.data: network '{self.source.model}' does not say what it was trained on; name the image set "
                "for Fréchet distances"
            )
        train = data.load(images).train
        if train.shape[1:] != self.model.image_shape:
            raise SchedrlError(
                f"source.data: images of '{images.name}' are {train.shape[1:]}, those of network "
                f"'{self.source.model}' {self.model.image_shape}"
            )
        return train


_networks: _Cache[tuple[NetworkSource, str], SharedNetwork] = _Cache(8)


def shared_network(source: NetworkSource) -> SharedNetwork:
    """The network of a source, loaded once in a process as long as its name stands for the same network."""
    from schedrl.diffusion.trained_models import find_model

    model = find_model(source.model)
    return _networks.get([(source, model.identity)], lambda _: [SharedNetwork(source, model)])[0]


def mean_square(states: FloatArray) -> FloatArray:
    """Mean square over images and pixels, ``[rows]``; the order of summation does not depend on the other rows."""
    rows = np.ascontiguousarray(np.moveaxis(states, -1, 0)).reshape(states.shape[-1], -1)
    return np.asarray(np.square(rows).mean(axis=1))


def noise_of(z: FloatArray, clean: FloatArray, sigma: FloatArray | float) -> FloatArray:
    """The noise in states ``z``, given their clean images."""
    cosine, sine = cosine_sine(np.asarray(sigma, dtype=np.float64))
    return np.asarray((z - cosine * clean) / sine)


def ddim_step(
    z: FloatArray, clean: FloatArray, sigma: FloatArray | float, sigma_next: FloatArray | float
) -> FloatArray:
    """One DDIM step (η = 0); sigmas broadcast against states."""
    cosine, sine = cosine_sine(np.asarray(sigma_next, dtype=np.float64))
    return np.asarray(cosine * clean + sine * noise_of(z, clean, sigma))


def heun_step(
    z: FloatArray,
    clean: FloatArray,
    ahead: FloatArray,
    clean_ahead: FloatArray,
    sigma: FloatArray | float,
    sigma_next: FloatArray | float,
) -> FloatArray:
    """Heun's correction of a DDIM step, for z / alpha as a function of sigma (Karras et al. 2022, algorithm 1).

    Args:
        z: States at ``sigma``, which is finite.
        clean: Estimates there.
        ahead: States at ``sigma_next`` by DDIM.
        clean_ahead: Estimates there.
        sigma: Broadcasts against states.
        sigma_next: Above 0; broadcasts against states.
    """
    here, there = np.asarray(sigma, dtype=np.float64), np.asarray(sigma_next, dtype=np.float64)
    slope = 0.5 * (noise_of(z, clean, here) + noise_of(ahead, clean_ahead, there))
    (cosine, _), (cosine_next, _) = cosine_sine(here), cosine_sine(there)
    return np.asarray(cosine_next * (z / cosine + (there - here) * slope))
