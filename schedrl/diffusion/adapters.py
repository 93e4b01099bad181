"""Networks of other libraries as what the samplers here call.

A network from diffusers is called ``unet(x, t).sample``, knows the T steps of its training and estimates the noise, the
clean image or the velocity. Samplers here know log-SNR and want the clean image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from schedrl.diffusion.process import alpha_sigma, to_x0
from schedrl.diffusion.spec import PredictionType
from schedrl.errors import SchedrlError, unknown_name

__all__ = ["DiffusersPrediction", "UNetDenoiser"]

DiffusersPrediction = Literal["epsilon", "sample", "v_prediction"]
"""What diffusers calls the three things a network can say."""

_OURS: dict[str, PredictionType] = {"epsilon": "epsilon", "sample": "x0", "v_prediction": "v"}


class UNetDenoiser:
    """A diffusers U-Net as a :data:`~schedrl.diffusion.samplers.Denoiser`.

    Levels between two of the T steps are shown to it as a fractional step, read off linearly in log-SNR; levels beyond
    the table as its first or last step. Where there is more noise than the network ever saw, the state counts as one
    at its noisiest level, or a noise estimate would be divided by nothing.

    Args:
        unet: Called as ``unet(x, t)`` with ``x`` ``[n, C, H, W]`` and ``t`` ``[n]`` float; its answer has ``.sample``.
        alphas_cumprod: ᾱ of its T steps, falling, inside (0, 1).
        prediction_type: What it estimates, as diffusers says it.

    Raises:
        SchedrlError: The table does not fall inside (0, 1), or there is no such prediction.

    Examples:
        >>> from types import SimpleNamespace
        >>> silent = lambda x, t: SimpleNamespace(sample=0.0 * x)  # says that there is no noise
        >>> denoise = UNetDenoiser(silent, [0.8, 0.2])
        >>> denoise(torch.ones(1, 1, 2, 2), torch.tensor(0.0)).max()  # 1 / sqrt(0.5)
        tensor(1.4142)
    """

    def __init__(
        self,
        unet: Callable[[Tensor, Tensor], Any],
        alphas_cumprod: Sequence[float] | NDArray[Any] | Tensor,
        prediction_type: DiffusersPrediction = "epsilon",
    ) -> None:
        if prediction_type not in get_args(DiffusersPrediction):
            raise unknown_name("prediction_type", str(prediction_type), _OURS)
        table = torch.as_tensor(alphas_cumprod).detach().cpu().double().numpy()
        if table.ndim != 1 or len(table) < 2 or not np.isfinite(table).all():
            raise SchedrlError(
                f"alphas_cumprod: at least two finite numbers are needed (shape {table.shape})"
            )
        if not ((table > 0.0) & (table < 1.0)).all() or not (np.diff(table) < 0.0).all():
            raise SchedrlError("alphas_cumprod: must fall from step to step inside (0, 1)")
        self.unet, self.prediction_type = unet, prediction_type
        # Ascending, as interpolation wants it.
        self._levels = np.log(table / (1.0 - table))[::-1]
        self._steps = np.arange(len(table), dtype=np.float64)[::-1]

    def timestep(self, logsnr: Tensor) -> Tensor:
        """Fractional steps in [0, T − 1] of log-SNR, float32 and shaped alike."""
        found = np.interp(logsnr.detach().cpu().double().numpy(), self._levels, self._steps)
        return torch.as_tensor(found, dtype=torch.float32, device=logsnr.device)

    @torch.no_grad()
    def __call__(self, z: Tensor, logsnr: Tensor) -> Tensor:
        """The clean images it estimates.

        Args:
            z: States ``[..., C, H, W]``.
            logsnr: Their level, a scalar, or one for each image ``[...]``.
        """
        images = z.reshape(-1, *z.shape[-3:])
        level = logsnr.to(z.device).expand(z.shape[:-3]).reshape(-1)
        output = self.unet(images, self.timestep(level)).sample.to(z.dtype)
        alpha, sigma = alpha_sigma(level.double().clamp(min=float(self._levels[0])), images.ndim)
        kind = _OURS[self.prediction_type]
        return to_x0(kind, output, images, alpha.to(z.dtype), sigma.to(z.dtype)).reshape(z.shape)
