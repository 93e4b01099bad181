"""What all episodes of a network share: the network, starting noise, the teacher's images, what grids came to.

Noise is a function of a number. Whatever has been computed of it is kept, as much of it as fits, so that runs which
share a seed, and agents that are compared on the same seeds, compute it once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from functools import cached_property
from itertools import pairwise
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from schedrl import data
from schedrl.diffusion.trained_models import SampledModel, find_model
from schedrl.diffusion.training_spec import LOGSNR_LIMIT
from schedrl.environments.sampling.gaussian import GaussianBatch
from schedrl.environments.sampling.network_spec import NetworkSpec
from schedrl.environments.sampling.network_steps import ddim_step, heun_step, mean_square
from schedrl.environments.sampling.references import Scales
from schedrl.environments.sampling.spectrum import image_spectrum
from schedrl.errors import SchedrlError
from schedrl.metrics.distances import FeatureStatistics, frechet_distance
from schedrl.metrics.features import FeatureExtractor, extractor
from schedrl.metrics.sample_quality import ReferenceFeatures
from schedrl.schedules.conversions import FloatArray

__all__ = ["Laboratory", "laboratory"]

_AT_ONCE = 1 << 18
"""Pixels in one call of the network: its features stay in the cache."""

_LEAST = 16
"""Fewest images in one call: convolutions of fewer are summed in another order, so that an episode's last digits would
depend on how many run beside it."""

_KEPT = 1 << 25
"""Numbers kept of noise and of teachers, each: 256 MB."""

_OUTCOMES = 1 << 16
"""Grids whose errors are kept."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class _Kept(Generic[Key, Value]):
    """The latest values, at most so many."""

    def __init__(self, most: int) -> None:
        self.most, self.values = max(most, 1), OrderedDict[Key, Value]()

    def get(self, key: Key) -> Value | None:
        """A value, which becomes the latest."""
        if key in self.values:
            self.values.move_to_end(key)
        return self.values.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Keep a value; the one that was used least recently may go."""
        self.values[key] = value
        if len(self.values) > self.most:
            self.values.popitem(last=False)


class Laboratory:
    """A network and what is known of it. States are ``[images, pixels, rows]``.

    Args:
        source: What the variant says.
        model: The network.

    Raises:
        SchedrlError: The image set or the feature network is missing, or does not fit.
    """

    def __init__(self, source: NetworkSpec, model: SampledModel) -> None:
        self.source, self.model = source, model
        self.size, self.pixels = source.images, int(np.prod(model.image_shape))
        room = _KEPT // (self.size * self.pixels)
        self._noise: _Kept[int, FloatArray] = _Kept(room)
        self._teacher: _Kept[int, FloatArray] = _Kept(room)
        self.outcomes: _Kept[tuple[int, bytes], dict[str, float]] = _Kept(_OUTCOMES)
        self.scales = Scales(np.ones(1), np.ones(1)) if self.gaussian is None else self.gaussian.scales
        self._features = self._feature_network()

    @cached_property
    def gaussian(self) -> GaussianBatch | None:
        """The Gaussian with the data's spectrum, a batch of one, where a spectrum is known."""
        images = self.source.data or self.model.data
        if images is not None:
            spectrum = image_spectrum(images, self.source.floor)
        elif self.model.eigenvalues is not None:
            spectrum = np.array(self.model.eigenvalues)
        else:
            return None
        return GaussianBatch(spectrum[None], np.ones((1, len(spectrum))), "ddim", shared=True)

    def noise(self, number: int) -> FloatArray:
        """Standard normal ``[images, pixels]``: an image's own does not depend on how many there are."""
        if (found := self._noise.get(number)) is None:
            found = np.random.Generator(np.random.Philox(key=number)).standard_normal(
                (self.size, self.pixels)
            )
            self._noise.put(number, found)
        return found

    def denoise(self, z: FloatArray, sigma: FloatArray) -> FloatArray:
        """The network's clean images of states ``[images, pixels, rows]`` at levels ``[rows]``; one call for all rows.

        Raises:
            SchedrlError: The network's answer is shaped otherwise.
        """
        with np.errstate(divide="ignore"):
            level = (-2.0 * np.log(sigma)).clip(-LOGSNR_LIMIT, LOGSNR_LIMIT)
        images = np.ascontiguousarray(np.moveaxis(z, -1, 0), dtype=np.float32)
        shown = torch.from_numpy(images.reshape(-1, *self.model.image_shape))
        levels = torch.from_numpy(np.repeat(level, self.size).astype(np.float32))
        part, found = max(_LEAST, _AT_ONCE // self.pixels), []
        for begin in range(0, len(shown), part):
            own, level_of = shown[begin : begin + part], levels[begin : begin + part]
            count = len(own)
            if count < _LEAST:
                chosen = torch.arange(_LEAST) % count
                own, level_of = own[chosen], level_of[chosen]
            estimate = self.model.denoise(own, level_of)
            if estimate.shape != own.shape:
                raise SchedrlError(
                    f"network '{self.source.model}': its answer must be shaped as the images, {tuple(own.shape)} "
                    f"(got {tuple(estimate.shape)})"
                )
            found.append(estimate[:count].detach().cpu().double().numpy())
        clean = np.concatenate(found).reshape(len(level), self.size, self.pixels)
        if not np.isfinite(clean).all():
            raise SchedrlError(
                f"network '{self.source.model}': its estimates must be finite (got NaN or infinity)"
            )
        if self.source.clip:
            clean = clean.clip(-1.0, 1.0)
        return np.ascontiguousarray(np.moveaxis(clean, 0, -1))

    def teacher(self, numbers: NDArray[np.int64]) -> FloatArray:
        """Where the flow takes the noise of these numbers, ``[images, pixels, rows]``."""
        wanted = numbers.tolist()
        found = {number: self._teacher.get(number) for number in wanted}
        missing = [number for number, images in found.items() if images is None]
        part = max(1, (_AT_ONCE // 4) // (self.size * self.pixels))
        for begin in range(0, len(missing), part):
            own = missing[begin : begin + part]
            arrived = self._flow(np.stack([self.noise(number) for number in own], axis=-1))
            for column, number in enumerate(own):
                found[number] = images = arrived[..., column].copy()
                self._teacher.put(number, images)
        return np.stack([known for number in wanted if (known := found[number]) is not None], axis=-1)

    def measure(self, images: FloatArray, numbers: NDArray[np.int64]) -> dict[str, FloatArray]:
        """What samples ``[images, pixels, rows]`` are worth, each ``[rows]``."""
        parts = {"teacher_mse": mean_square(images - self.teacher(numbers))}
        if self._features is not None:
            parts["frechet"] = np.array([self._frechet(images[..., row]) for row in range(images.shape[-1])])
        return parts

    def _flow(self, z: FloatArray) -> FloatArray:
        """The deterministic flow in steps of second order, on the tangent law between the data's two scales."""
        middle = float(np.sqrt(self.scales.near[0] * self.scales.far[0]))
        levels = middle * np.tan(0.5 * np.pi * np.linspace(1.0, 0.0, self.source.teacher_steps + 1))
        levels[0] = np.inf
        rows = z.shape[-1]
        for here, there in pairwise(levels.tolist()):
            now, after = np.full(rows, here), np.full(rows, there)
            clean = self.denoise(z, now)
            ahead = ddim_step(z, clean, here, there)
            if there > 0.0:
                second = self.denoise(ahead, after)
                if here > middle:
                    # Heun's step of z / sigma in 1 / sigma, which is finite where noise is infinite.
                    ahead = ddim_step(z, 0.5 * (clean + second), here, there)
                else:
                    ahead = heun_step(z, clean, ahead, second, here, there)
            z = ahead
        return z

    def _frechet(self, images: FloatArray) -> float:
        shaped = images.reshape(-1, *self.model.image_shape).clip(-1.0, 1.0).astype(np.float32)
        own = FeatureStatistics.of(self._reference.extractor.features(shaped))
        return frechet_distance(own, self._reference.statistics)

    @cached_property
    def _reference(self) -> ReferenceFeatures:
        """Features of the training images: computed when the first distance is asked for, and not to check a plan."""
        assert self._features is not None
        return ReferenceFeatures.of(self._training_images(), self._features)

    def _feature_network(self) -> FeatureExtractor | None:
        if self.source.features is None:
            return None
        train = self._training_images()
        network = extractor(self.source.features, train)
        network.features(train[:1])  # raises where the images are not what it is for
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
                "that Fréchet distances are to"
            )
        train = data.load(images).train
        if train.shape[1:] != self.model.image_shape:
            raise SchedrlError(
                f"source.data: images of '{images.name}' are {train.shape[1:]}, those of network "
                f"'{self.source.model}' {self.model.image_shape}"
            )
        return train


_laboratories: _Kept[tuple[NetworkSpec, str], Laboratory] = _Kept(8)


def laboratory(source: NetworkSpec) -> Laboratory:
    """The laboratory of a source, one in a process as long as the network behind its name is the same.

    Raises:
        SchedrlError: The network, its data or the feature network is missing, or does not fit.
    """
    model = find_model(source.model)
    key = source, model.identity
    if (found := _laboratories.get(key)) is None:
        found = Laboratory(source, model)
        _laboratories.put(key, found)
    return found
