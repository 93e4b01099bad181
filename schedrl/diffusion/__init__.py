"""Diffusion networks and their training: a population of independent runs in one batched computation.

Importing this package loads no torch, so that specs can be checked without it; its modules do:
:mod:`~schedrl.diffusion.unet`, :mod:`~schedrl.diffusion.process`, :mod:`~schedrl.diffusion.samplers`,
:mod:`~schedrl.diffusion.population`. :class:`~schedrl.diffusion.dsc.DSC` is loaded, and torch with it, when it is
asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schedrl.diffusion.ava import AVAController, AVASpec

if TYPE_CHECKING:
    from schedrl.diffusion.dsc import DSC

__all__ = ["DSC", "AVAController", "AVASpec"]


def __getattr__(name: str) -> Any:
    if name == "DSC":
        from schedrl.diffusion.dsc import DSC

        return DSC
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
