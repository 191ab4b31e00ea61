"""Losses over observed targets, in units of each window's scale.

B windows, H horizon, Q quantile levels
"""

import torch
from jaxtyping import Float
from torch import Tensor
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
) -> Float[Tensor, ""]:
    """The mean loss over targets that are not NaN; `kind` is pinball, mae, mse or huber.

    The last three act on the median, `middle` among the levels; the other quantiles then learn by pinball
    around a median that is held still. A window that jumps far beyond its scale is weighted down, so that it
    cannot drown the others.
    """
    observed = ~target.isnan()
    known = torch.where(observed, target, torch.zeros_like(target))
    size = known.abs().sum(1) / observed.sum(1).clamp(min=1)
    shares = (weight / (size / LARGEST_MEAN).clamp(min=1))[:, None] * observed  # (B, H)
    if kind == "pinball":
        each = _pinball(quantiles, known, levels)
    else:
        median = quantiles[..., middle]
        around = quantiles - (median - median.detach())[..., None]
        each = _point(median, known, kind) + _pinball(around, known, levels)
    return (each * shares).sum() / shares.sum().clamp(min=1e-12)


def _pinball(
    quantiles: Float[Tensor, "B H Q"], target: Float[Tensor, "B H"], levels: Float[Tensor, " Q"]
) -> Float[Tensor, "B H"]:
    """Mean pinball loss over the levels.

    Source: Koenker & Bassett, "Regression quantiles", Econometrica 1978. Without the factor 2 that some put
    in front.
    """
    error = target[..., None] - quantiles
    return (levels * error + F.relu(-error)).mean(-1)


def _point(median: Tensor, target: Tensor, kind: str) -> Tensor:
    if kind == "mse":
        return F.mse_loss(median, target, reduction="none")
    if kind == "huber":
        return F.huber_loss(median, target, reduction="none")
    return F.l1_loss(median, target, reduction="none")
