"""Losses over observed targets, in units of each window's scale.

B windows, H horizon, Q quantile levels
"""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

LARGEST_MEAN = 10.0
"""Windows whose targets lie further from the base than this, on average and in scales, count for less."""


def forecast_loss(
    quantiles: Float[Tensor, "B H Q"],
    target: Float[Tensor, "B H"],
    *,
    levels: Float[Tensor, " Q"],
    middle: int,
    kind: str,
    weight: Float[Tensor, " B"],
    upright: Float[Tensor, " B"],
) -> Float[Tensor, ""]:
    """The mean loss over targets that are not NaN; `kind` is pinball, mae, mse or huber.

    The last three act on the median, `middle` among the levels; the other quantiles then learn by pinball
    around a median that is held still, from windows that are `upright` (1, else 0): what is turned upside
    down would spread them alike to both sides. A window that jumps far beyond its scale is weighted down, so
    that it cannot drown the others.
    """
    observed = ~target.isnan()
    known = torch.where(observed, target, torch.zeros_like(target))
    size = known.abs().sum(1) / observed.sum(1).clamp(min=1)
    shares = (weight / (size / LARGEST_MEAN).clamp(min=1))[:, None] * observed  # (B, H)
    if kind == "pinball":
        return _mean(pinball(quantiles, known, levels), shares)
    around = pinball(quantiles, known, levels, held=middle)
    return _mean(_point(quantiles[..., middle], known, kind), shares) + _mean(
        around, shares * upright[:, None]
    )


def _mean(each: Tensor, shares: Tensor) -> Tensor:
    return (each * shares).sum() / shares.sum().clamp(min=1e-12)


def pinball(
    quantiles: Float[Tensor, "B H Q"],
    target: Float[Tensor, "B H"],
    levels: Float[Tensor, " Q"],
    *,
    held: int | None = None,
) -> Float[Tensor, "B H"]:
    """Mean pinball loss over the levels.

    The quantile numbered `held` is held still: the others learn as distances from it, and it learns nothing.
    Source: Koenker & Bassett, "Regression quantiles", Econometrica 1978. Without the factor 2 that some put
    in front.
    """
    return cast(Tensor, _Pinball.apply(quantiles, target, levels, held))  # type: ignore[no-untyped-call]


class _Pinball(Function):
    """`pinball` with its way back written out: half of a training at long horizons went into it."""

    @staticmethod
    def forward(ctx: Any, quantiles: Tensor, target: Tensor, levels: Tensor, held: int | None) -> Tensor:
        error = target[..., None] - quantiles
        slopes = levels - (error < 0).to(levels.dtype)
        ctx.save_for_backward(slopes)
        ctx.held = held
        return (error * slopes).mean(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_loss: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        by_quantiles = slopes * (by_loss / -slopes.shape[-1])[..., None]
        if ctx.held is not None:
            by_quantiles[..., ctx.held] -= by_quantiles.sum(-1)
        return by_quantiles, None, None, None


def _point(median: Tensor, target: Tensor, kind: str) -> Tensor:
    if kind == "mse":
        return F.mse_loss(median, target, reduction="none")
    if kind == "huber":
        return F.huber_loss(median, target, reduction="none")
    return F.l1_loss(median, target, reduction="none")
