"""Weights of the season map: least squares over training windows, in one pass.

R rows (a phase of a window), F features, M seasons ahead
"""

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
    """Ridge regression of the scores ahead, every window weighed as in the network's loss.

    A window counts by the share of its context that is observed; missing targets are left out.
    """
    num_features, num_ahead = season_map.weights.shape
    zeros = season_map.weights.double().new_zeros
    moments = zeros(num_ahead, num_features, num_features)
    products = zeros(num_features, num_ahead)
    for numbers in torch.split(index.spread(MAX_WINDOWS), BATCH):
        features, target, weight = _rows(season_map, step, sampler.windows(index, numbers))
        known = ~target.isnan()
        weighted = (features * weight[:, None]).T
        moments += weighted @ features
        for ahead in (~known).any(0).nonzero()[:, 0].tolist():
            missing = ~known[:, ahead]
            moments[ahead] -= weighted[:, missing] @ features[missing]
        products += weighted @ torch.where(known, target, torch.zeros_like(target))
    mean_square = moments.diagonal(dim1=1, dim2=2).mean(1)  # (M,)
    penalty = (PENALTY * mean_square).clamp(min=torch.finfo(torch.float32).tiny)
    moments += torch.diag_embed(penalty[:, None].expand(-1, num_features))
    season_map.weights.copy_(torch.linalg.solve(moments, products.T[..., None])[..., 0].T)


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
