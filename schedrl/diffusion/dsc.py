"""Dynamic step size control: AdamW whose rate falls with the noise in the batch and rises with the gradient norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from schedrl.errors import SchedrlError, unknown_name

Update = Literal["adam", "printed"]

_STEP_STATE = ("noise_level", "last_rate")
"""Kept in the groups, where ``state_dict``, copies and pickles find them."""


class DSC(torch.optim.AdamW):
    r"""AdamW with the AVA-DSC paper's dynamic step size (section 4).

    .. math:: \eta_t = \eta_{base}\, e^{-\gamma \beta} \min(1 + \lambda \lVert\nabla L\rVert, F)

    :math:`\beta` is the mean noise rate of the batch, set by :meth:`set_noise_level`; it holds until it is set again.
    :math:`\lVert\nabla L\rVert` is the global L2 norm over all parameters of all groups at the call of :meth:`step`
    (after any clipping). The paper says that the second factor boosts "when gradients become scarce"; its formula,
    implemented here, boosts when they are large. Weight decay is AdamW's, with :math:`\eta_t` as the rate.
    Learning-rate schedulers set :math:`\eta_{base}`, each group's ``lr``.

    With ``gamma = boost = 0`` and ``update="adam"`` every step equals :class:`torch.optim.AdamW` bit for bit, on all of
    its paths. ``update="printed"`` is the paper's step with its extra product,

    .. math:: \theta \leftarrow \theta - \eta_t \frac{\hat m}{\sqrt{\hat v} + \epsilon} \odot \nabla L

    (with the bias correction that the paper omits). Where gradient and momentum have the same sign the product is
    positive, so every parameter **decreases**, whichever way is downhill: on :math:`x^2 / 2` it approaches 0 from above
    and leaves 0, ever faster, below. It exists for measurements, not for use.

    A gradient norm that overflows counts as infinite: the second factor is F. A norm that is not a number boosts
    nothing; AdamW's step then makes those parameters NaN whose own gradients are.

    Args:
        params: As for AdamW, with groups; a group may have its own value of every option.
        lr: :math:`\eta_{base}`.
        betas: Decay of the two moment averages.
        eps: :math:`\epsilon`.
        weight_decay: Decoupled weight decay.
        amsgrad: As for AdamW; not with ``"printed"``.
        gamma: :math:`\gamma \ge 0`, in the inverse of the unit of the betas given.
        boost: :math:`\lambda \ge 0`, per unit of gradient norm.
        update: ``"adam"`` or ``"printed"``.
        per_sample: The rate has no noise factor. Instead the caller weights each sample's loss by
            :meth:`sample_weights`, since a batch mixes many noise levels.
        max_factor: F, at least 1.
        maximize: As for AdamW; not with ``"printed"``, whose step does not depend on the sign of the loss.
        foreach: As for AdamW; not with ``"printed"``.
        fused: As for AdamW; not with ``"printed"``.

    Examples:
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> optimizer = DSC([weight], lr=0.1, weight_decay=0.0, gamma=2.0, boost=0.5)
        >>> optimizer.set_noise_level(torch.tensor([0.1, 0.3]))
        >>> (0.5 * weight**2).sum().backward()
        >>> optimizer.step()
        >>> round(optimizer.last_rate, 4)  # 0.1 exp(-2 · 0.2) (1 + 0.5 √5)
        0.142
        >>> weight.detach()
        tensor([ 0.8580, -1.8580])
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        gamma: float = 0.0,
        boost: float = 0.0,
        update: Update = "adam",
        per_sample: bool = False,
        max_factor: float = 10.0,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        # The base class's constructor adds the groups, which need these.
        self._options: dict[str, Any] = {
            "gamma": gamma, "boost": boost, "update": update, "per_sample": per_sample, "max_factor": max_factor,
            **dict.fromkeys(_STEP_STATE),
        }  # fmt: skip
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, foreach=foreach, fused=fused
        )
        self.defaults.update(self._options)
        # A gradient scaler must unscale before the norm is taken, not inside the fused step.
        self._step_supports_amp_scaling = False

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; missing options have the constructor's values."""
        group = {**self._options, **param_group}
        if self.param_groups:
            group["noise_level"] = self.param_groups[0]["noise_level"]  # of the batch, so of all groups
        _check({**self.defaults, **group})
        super().add_param_group(group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # A copy has no _options yet, and AdamW's own checkpoints have none of them.
        self._options = {
            name: self.defaults[name]
            for name in ("gamma", "boost", "update", "per_sample", "max_factor", *_STEP_STATE)
        }
        for group in self.param_groups:
            for name, value in self._options.items():
                group.setdefault(name, value)

    def set_noise_level(self, betas: float | Tensor) -> None:
        r"""Set :math:`\beta` to the mean of ``betas``, until the next call.

        Args:
            betas: :math:`\beta(t)` of the batch's samples, any shape, or their mean. A tensor on an accelerator is
                waited for.
        """
        level = float(_checked_betas(betas).mean())
        for group in self.param_groups:
            group["noise_level"] = level

    def sample_weights(self, betas: Tensor) -> Tensor:
        r"""Weights :math:`e^{-\gamma \beta_i}` of the samples' losses under ``per_sample``.

        Args:
            betas: :math:`\beta(t_i)`, any shape.

        Returns:
            Weights in [0, 1], of that shape, dtype and device.
        """
        if not all(group["per_sample"] for group in self.param_groups):
            raise SchedrlError(
                "field 'per_sample': must be true to weight samples, or noise would count twice"
            )
        gammas = {float(group["gamma"]) for group in self.param_groups}
        if len(gammas) > 1:
            raise SchedrlError(
                f"field 'gamma': must be the same in all groups to weight samples (got {gammas})"
            )
        _checked_betas(betas)
        return torch.exp(-gammas.pop() * betas)

    @property
    def last_rate(self) -> float | None:
        r""":math:`\eta_t` of the first group's last step, None before it; other groups' is ``group["last_rate"]``."""
        rate: float | None = self.param_groups[0]["last_rate"]
        return rate

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: Computes loss and gradients again; it may call :meth:`set_noise_level`.

        Returns:
            The closure's loss, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        base = [group["lr"] for group in self.param_groups]
        norm = self._gradient_norm() if any(group["boost"] for group in self.param_groups) else 0.0
        factors = [_factor(group, norm) for group in self.param_groups]
        try:
            for group, rate, factor in zip(self.param_groups, base, factors, strict=True):
                group["lr"] = rate * factor
                group["last_rate"] = float(group["lr"])
            self._adam_step()
            for group in self.param_groups:
                if group["update"] == "printed":
                    self._printed_step(group)
        finally:
            for group, rate in zip(self.param_groups, base, strict=True):
                group["lr"] = rate
        return loss

    def _gradient_norm(self) -> float:
        """Global L2 norm, in float32 at least: half precision overflows where gradients do not."""
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not gradients:
            return 0.0
        norms = [
            torch.linalg.vector_norm(g.detach(), dtype=torch.promote_types(g.dtype, torch.float32))
            for g in gradients
        ]
        return float(torch.linalg.vector_norm(torch.stack([n.to(norms[0].device) for n in norms])))

    def _adam_step(self) -> None:
        """AdamW's own step in the groups with ``update="adam"``."""
        groups = self.param_groups
        chosen = [group for group in groups if group["update"] == "adam"]
        if not chosen:
            return
        step: Any = torch.optim.AdamW.step
        # The first plain AdamW wraps AdamW.step, also for subclasses, to run hooks. They run around this class's step.
        while getattr(step, "hooked", False):
            step = step.__wrapped__
        try:
            self.param_groups = chosen
            step(self)
        finally:
            self.param_groups = groups

    @torch.no_grad()
    def _printed_step(self, group: Mapping[str, Any]) -> None:
        rate, (decay_first, decay_second) = float(group["lr"]), group["betas"]
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            state = self.state[parameter]
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            state["step"] += 1
            count = float(state["step"])
            first = state["exp_avg"].lerp_(gradient, 1.0 - decay_first)
            second = (
                state["exp_avg_sq"].mul_(decay_second).addcmul_(gradient, gradient, value=1.0 - decay_second)
            )
            parameter.mul_(1.0 - rate * group["weight_decay"])
            denominator = (second / (1.0 - decay_second**count)).sqrt_().add_(group["eps"])
            direction = (first / denominator).mul_(gradient)
            parameter.sub_(direction, alpha=rate / (1.0 - decay_first**count))


def _factor(group: Mapping[str, Any], norm: float) -> float:
    """Factor of a group's base rate."""
    factor = 1.0
    if group["boost"] and not math.isnan(norm):
        factor = min(1.0 + group["boost"] * norm, group["max_factor"])
    if group["gamma"] and not group["per_sample"]:
        if group["noise_level"] is None:
            raise SchedrlError(
                f"gamma = {group['gamma']} needs the batch's noise: call set_noise_level(betas) before step(), or use "
                "per_sample=True and sample_weights(betas)"
            )
        factor *= math.exp(-group["gamma"] * group["noise_level"])
    return factor


def _check(group: Mapping[str, Any]) -> None:
    for name in ("gamma", "boost"):
        if not (math.isfinite(group[name]) and group[name] >= 0.0):
            raise SchedrlError(f"field '{name}': must be finite and at least 0 (got {group[name]})")
    if not group["max_factor"] >= 1.0:
        raise SchedrlError(f"field 'max_factor': must be at least 1 (got {group['max_factor']})")
    if group["update"] not in ("adam", "printed"):
        raise SchedrlError(
            f"field 'update': {unknown_name('update', str(group['update']), ('adam', 'printed'))}"
        )
    if group["update"] == "printed":
        for name in ("amsgrad", "maximize", "foreach", "fused"):
            if group.get(name):
                raise SchedrlError(
                    f"field '{name}': must not be set with update 'printed' (got {group[name]})"
                )


def _checked_betas(betas: float | Tensor) -> Tensor:
    """The betas on the CPU in float64."""
    given = betas if isinstance(betas, Tensor) else torch.tensor(betas, dtype=torch.float64)
    values = given.detach().cpu().double()
    good = values.isfinite() & (values >= 0.0)
    if values.numel() == 0:
        raise SchedrlError("field 'betas': must not be empty")
    if not good.all():
        raise SchedrlError(f"field 'betas': must be finite and at least 0 (got {float(values[~good][0])})")
    return values
