"""Networks by name, and how they are trained."""

from __future__ import annotations

from schedrl.diffusion.spec import MSFISpec, OptimizerSpec, TrainingSpec, UNetSpec
from schedrl.errors import Spec, unknown_name

__all__ = ["NETWORKS", "NamedNetwork", "named_network"]


class NamedNetwork(Spec):
    """A network and how it is trained unless told otherwise.

    Attributes:
        name: Its name.
        what: One line for people.
        training: Network, optimizer and batch.
        image_shape: ``(C, H, W)`` of the images it is meant for; it takes others whose sides can be halved as often.
        num_train_timesteps: T of its training.
    """

    name: str
    what: str
    training: TrainingSpec
    image_shape: tuple[int, int, int]
    num_train_timesteps: int = 1000


_SMALL: dict[str, tuple[UNetSpec, float, int, float, tuple[int, int, int]]] = {
    "digits": (UNetSpec(channels=(16, 32), embedding=32, groups=4), 3e-3, 64, 0.999, (1, 8, 8)),
    "fashion": (UNetSpec(channels=(32, 64, 64), embedding=64, groups=8), 1e-3, 64, 0.999, (1, 28, 28)),
    "cifar10": (UNetSpec(channels=(64, 128, 128), embedding=128, groups=8), 5e-4, 64, 0.9995, (3, 32, 32)),
}

_AKOD = UNetSpec(channels=(64, 128, 256, 512), embedding=256, groups=32, msfi=MSFISpec(), modulation=True)
"""Paper B: four blocks down, four up, 512 channels at the bottleneck. The other widths are not printed."""


def _plain(name: str) -> NamedNetwork:
    network, rate, batch, decay, shape = _SMALL[name]
    training = TrainingSpec(
        network=network,
        optimizer=OptimizerSpec(name="adamw", learning_rate=rate),
        batch_size=batch,
        ema_decay=decay,
    )
    return NamedNetwork(
        name=f"unet-{name}", what=f"a plain U-Net for {name}", training=training, image_shape=shape
    )


def _akod(name: str) -> NamedNetwork:
    plain = _plain(name)
    network = plain.training.network.model_copy(update={"msfi": MSFISpec(), "modulation": True})
    return NamedNetwork(
        name=f"unet-akod-{name}", what=f"the same with MSFI and β modulation, for {name}",
        training=plain.training.model_copy(update={"network": network}), image_shape=plain.image_shape,
    )  # fmt: skip


NETWORKS: dict[str, NamedNetwork] = {
    each.name: each
    for each in (
        *(_plain(name) for name in _SMALL),
        *(_akod(name) for name in ("digits", "fashion")),
        NamedNetwork(
            name="unet-akod-cifar10",
            what="paper B's network: four blocks down, four up, 512 channels at the bottleneck; AdamW 1e-4, batch 64",
            training=TrainingSpec(
                network=_AKOD, optimizer=OptimizerSpec(name="adamw", learning_rate=1e-4, weight_decay=1e-2),
                batch_size=64, ema_decay=0.9999,
            ),
            image_shape=(3, 32, 32),
        ),
    )
}  # fmt: skip
"""By name."""


def named_network(name: str) -> NamedNetwork:
    """Look a network up.

    Raises:
        SchedrlError: There is none of that name.

    Examples:
        >>> named_network("unet-akod-cifar10").training.network.channels[-1]
        512
    """
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS)
    return NETWORKS[name]
