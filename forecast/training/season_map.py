"""Weights of the season map: least squares over training windows, in one pass.

R rows (a phase of a window), F features, M seasons ahead
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from forecast.models.season_map import SeasonMap
from forecast.training.losses import LARGEST_MEAN
from forecast.training.step import Step, relative_size
from forecast.windows.sampler import Batch, DeviceIndex, Sampler

MAX_WINDOWS = 4096
"""Windows learned from, spread evenly: with all their phases enough for a hundred weights a season ahead."""

BATCH = 512

PENALTY = 0.001
"""Ridge penalty as a share of the mean square of a feature."""


@torch.no_grad()
def fit_season_map(season_map: SeasonMap, step: Step, sampler: Sampler, index: DeviceIndex) -> None:
    """Ridge regression of the scores ahead, with errors in units as in the network's loss.

    A window counts by the share of its context that is observed; missing targets are left out.
    """
    num_features, num_ahead = season_map.weights.shape
    zeros = season_map.weights.double().new_zeros
    moments = zeros(num_features, num_features)
    lacking: dict[int, Tensor] = {}
    products = zeros(num_features, num_ahead)
    for numbers in torch.split(index.spread(MAX_WINDOWS), BATCH):
        features, target, weight = _rows(season_map, step, sampler.windows(index, numbers))
        known = ~target.isnan()
        weighted = (features * weight[:, None]).T
        moments += weighted @ features
        for ahead in (~known).any(0).nonzero()[:, 0].tolist():
            missing = ~known[:, ahead]
            lost = weighted[:, missing] @ features[missing]
            lacking[ahead] = lacking.get(ahead, 0.0) + lost
        products += weighted @ torch.where(known, target, torch.zeros_like(target))
    season_map.weights.copy_(_solved(moments, products))
    for ahead, lost in lacking.items():
        season_map.weights[:, ahead] = _solved(moments - lost, products[:, ahead])


def _solved(moments: Float[Tensor, "F F"], products: Tensor) -> Tensor:
    """The weights of ridge regressions with the same features."""
    penalty = PENALTY * moments.diagonal().mean()
    diagonal = torch.full_like(moments.diagonal(), max(float(penalty), torch.finfo(torch.float32).tiny))
    return cast(Tensor, torch.linalg.solve(moments + torch.diag(diagonal), products))


def _rows(
    season_map: SeasonMap, step: Step, batch: Batch
) -> tuple[Float[Tensor, "R F"], Float[Tensor, "R M"], Float[Tensor, " R"]]:
    """Features, targets (NaN where missing) and weights of every phase of every window."""
    window, target = step.seen(batch)
    length = season_map.season_length
    ahead = F.pad(target, (0, -target.shape[1] % length), value=torch.nan)
    ahead = ahead.reshape(len(target), -1, length).transpose(1, 2)
    far = (target.abs().nanmean(1) / LARGEST_MEAN).nan_to_num(1.0).clamp(min=1)
    weight = batch.weight * (relative_size(window.scale.size[:, 0], batch.usual_size) / far).square()
    weight = weight * window.observed.to(weight.dtype).mean(1)
    features = season_map.features(window.scores, window.observed)
    return (
        features.flatten(0, 1).double(),
        ahead.flatten(0, 1).double(),
        weight.repeat_interleave(length).double(),
    )
