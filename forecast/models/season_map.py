"""The season map: what a phase of the season was in each season of the context, linearly to what it will be.

B windows, L context_length, H horizon, S season_length, N seasons of the context, M seasons ahead
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from forecast.models.spec import ModelSpec
from forecast.windows.transforms import last_observed

MAX_SEASONS = 64
"""Seasons that are read, the newest ones."""


class SeasonMap(nn.Module):
    """Scores around the base from phases, season means and the last value: one map for all phases.

    It is the network's opposite: a few thousand weights, fitted at once, that know of nothing but the season.
    The two err differently, so that a mixture errs less than either. Source of the shared phases: Lin et al.,
    "SparseTSF: Modeling Long-term Time Series Forecasting with 1k Parameters", ICML 2024.
    """

    weights: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.season_length, self.horizon = spec.season_length or 1, spec.horizon
        self.num_seasons = min((spec.context_length or 1) // self.season_length, MAX_SEASONS)
        num_ahead = -(-self.horizon // self.season_length)
        self.register_buffer("weights", torch.zeros(2 * self.num_seasons + 1, num_ahead))

    def forward(self, scores: Float[Tensor, "B L"], observed: Bool[Tensor, "B L"]) -> Float[Tensor, "B H"]:
        """Medians in units of the window's scale; `scores` are zero where missing."""
        ahead = self.features(scores, observed) @ self.weights  # (B, S, M)
        steps = ahead.transpose(1, 2).reshape(-1, ahead.shape[2] * self.season_length)
        return steps[:, : self.horizon]

    def seen(self, observed: Bool[Tensor, "B L"]) -> Float[Tensor, "B 1"]:
        """Share of the steps that the map reads which are observed: it takes a missing one for the mean."""
        steps = self.num_seasons * self.season_length
        return observed[:, -steps:].float().mean(1, keepdim=True)

    def features(self, scores: Float[Tensor, "B L"], observed: Bool[Tensor, "B L"]) -> Float[Tensor, "B S F"]:
        """What a phase was in every season, every season's mean, and the last value: F = 2 N + 1."""
        steps = self.num_seasons * self.season_length
        shape = (-1, self.num_seasons, self.season_length)
        phases = scores[:, -steps:].reshape(shape)
        count = observed[:, -steps:].reshape(shape).sum(2).clamp(min=1)
        whole = torch.cat([phases.sum(2) / count, last_observed(scores, observed)], dim=1)  # (B, N + 1)
        return torch.cat(
            [phases.transpose(1, 2), whole[:, None].expand(-1, self.season_length, -1)],
            dim=2,
        )
