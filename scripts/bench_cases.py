"""What the benchmark of populations trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from schedrl.diffusion.training_spec import TrainingSpec, UNetSpec
from schedrl.metrics.metric_specs import BoundSpec
from schedrl.metrics.variational_bound import Bound


@dataclass(frozen=True)
class Case:
    """What is trained: network, images and batch; the images are random, their content does not matter here."""

    network: UNetSpec
    shape: tuple[int, int, int]
    batch_size: int = 32
    validation: int = 100

    @property
    def spec(self) -> TrainingSpec:
        """As a population takes it."""
        return TrainingSpec(network=self.network, batch_size=self.batch_size)

    def images(self, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Random images."""
        return np.random.default_rng(0).uniform(-1, 1, (count, *self.shape)).astype(np.float32)

    def bound(self, device: str) -> Bound:
        """The measurement at a phase's end."""
        return Bound(BoundSpec(images=self.validation), self.images(self.validation), 17, device)


CASES = {
    "digits": Case(UNetSpec(channels=(8, 16), embedding=32, groups=4), (1, 8, 8)),
    "digits-wide": Case(UNetSpec(channels=(16, 32), embedding=32, groups=4), (1, 8, 8)),
    # AKOD's plan for CIFAR-10, four levels down to 512 channels, at a quarter of its width.
    "colour-quarter": Case(UNetSpec(channels=(16, 32, 64, 128), embedding=128, groups=8), (3, 32, 32), 64, 8),
    # DDPM's plan for it (128, 256, 256, 256; Ho et al. 2020), likewise.
    "colour-ddpm": Case(UNetSpec(channels=(32, 64, 64, 64), embedding=128, groups=8), (3, 32, 32), 32, 8),
    "grey-1m": Case(UNetSpec(channels=(32, 64, 128), embedding=128, groups=8), (1, 32, 32), 32, 32),
}
