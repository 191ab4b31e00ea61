"""What a window is measured by: a centre and a scale, taken from its context alone.

B windows, L context_length, S season_length
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from forecast.windows.transforms import last_observed

FLOOR = 1e-12
"""Smallest scale that is divided by, as a share of the level (or of one, in log and asinh units)."""

LARGEST_SCORE = 50.0
"""Scaled context values are cut to this, so that one outlier cannot drown the window that follows it."""


class Scale(NamedTuple):
    """Centre and scale of a window, in the units of the transform."""

    center: Float[Tensor, "B 1"]
    size: Float[Tensor, "B 1"]
    """Zero for a constant context, so that what is forecast from it is the constant."""


def fit_scale(
    kind: str,
    z: Float[Tensor, "B L"],
    observed: Bool[Tensor, "B L"],
    *,
    level: Float[Tensor, "B 1"],
) -> Scale:
    """The scale of transformed context values `z`, zero where missing; `kind` is mean_std, last or robust.

    `level` is what the floor is relative to. Missing values count for nothing.
    """
    center, size = {"mean_std": _mean_std, "last": _last, "robust": _robust}[kind](z, observed)
    spread = _largest(z - last_observed(z, observed), observed)
    floor = FLOOR * level.abs() + 1e-30
    return Scale(center=center, size=torch.where(spread > 0, torch.maximum(size, floor), 0.0))


def apply_scale(z: Float[Tensor, "B L"], observed: Bool[Tensor, "B L"], scale: Scale) -> Float[Tensor, "B L"]:
    """Scores: distances from the centre in units of the scale; zero where missing or where all are equal."""
    size = torch.where(scale.size > 0, scale.size, torch.ones_like(scale.size))
    scores = ((z - scale.center) / size).clamp(-LARGEST_SCORE, LARGEST_SCORE)
    return scores * observed


def _mean_std(z: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    center = _mean(z, observed)
    return center, _root_mean_square(z - center, observed)


def _last(z: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    center = last_observed(z, observed)
    return center, _root_mean_square(z - center, observed)


def _robust(z: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Median, and the interquartile range as a normal's deviation (the mean deviation where that is zero)."""
    ordered = torch.where(observed, z, torch.full_like(z, 3e38)).sort(dim=1).values
    newest = (observed.sum(1, keepdim=True) - 1).clamp(min=0)
    low, center, high = (
        torch.where(newest >= 0, ordered.gather(1, (newest * quarter) // 4), 0.0) for quarter in (1, 2, 3)
    )
    missing = center > 1e38
    center = torch.where(missing, torch.zeros_like(center), center)
    spread = torch.where(missing, torch.zeros_like(center), (high - low) / 1.349)
    return center, torch.where(spread > 0, spread, _mean((z - center).abs(), observed))


def _mean(z: Tensor, observed: Tensor) -> Tensor:
    count = observed.sum(1, keepdim=True).clamp(min=1)
    return ((z * observed) / count).sum(1, keepdim=True)


def _root_mean_square(z: Tensor, observed: Tensor) -> Tensor:
    """Squares are taken in units of the largest value: 1e30 squared does not fit float32."""
    largest = _largest(z, observed)
    shares = z * observed / torch.where(largest > 0, largest, torch.ones_like(largest))
    return largest * _mean(shares * shares, observed).sqrt()


def _largest(z: Tensor, observed: Tensor) -> Tensor:
    return (z * observed).abs().amax(1, keepdim=True)
