"""Sources whose denoiser is a trained network. What a variant says of one; nothing here loads PyTorch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schedrl.data import AnyData
from schedrl.errors import Spec

__all__ = ["FeaturesName", "NetworkError", "NetworkSpec"]

NetworkError = Literal["teacher", "frechet"]

FeaturesName = Literal["digits-cnn", "fashion-cnn", "inception", "pca"]
"""Feature networks of :mod:`schedrl.metrics.features`."""


class NetworkSpec(Spec):
    """A trained network, sampled from starting noise that is drawn anew each episode.

    Attributes:
        model: ``"digits"`` or ``"fashion"``, the networks that are shipped (the second needs Fashion-MNIST, for what
            closed forms know of the data); the folder of a trained one, as ``schedrl fit`` writes it; or a name given
            to :func:`schedrl.diffusion.trained_models.register_predictor`. Results are kept under this name: another
            network deserves another.
        error: What an episode is scored by: ``"teacher"``, the mean squared distance, pixel by pixel, to where the
            network's own deterministic flow takes the same noise on a fine grid; or ``"frechet"``, the Fréchet distance
            of the episode's images to the training images.
        images: Images of an episode, which walk the same grid.
        teacher_steps: Steps of the fine grid; each but the last is of second order and calls the network twice.
        features: Feature network of the Fréchet distance; with it, both measures are among the error's parts.
        clip: Clip the network's estimates of clean images to [−1, 1].
        data: The image set that closed-form grids take their spectrum from, and Fréchet distances their reference;
            the one that the network was trained on when absent.
        floor: Least standard deviation kept of that spectrum.
    """

    kind: Literal["network"] = "network"
    model: Annotated[str, Field(min_length=1)] = "digits"
    error: NetworkError = "teacher"
    images: Annotated[int, Field(ge=1, le=65_536)] = 8
    teacher_steps: Annotated[int, Field(ge=2, le=10_000)] = 32
    features: FeaturesName | None = None
    clip: bool = True
    data: AnyData | None = None
    floor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.02

    @model_validator(mode="after")
    def _named_features(self) -> NetworkSpec:
        if self.error == "frechet" and self.features is None:
            raise ValueError(
                "features: error 'frechet' needs a feature network, as features = \"digits-cnn\""
            )
        return self
