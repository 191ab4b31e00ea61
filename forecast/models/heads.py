"""Quantiles that cannot cross: a median, and positive steps away from it.

B windows, M states per window, D hidden_size, P steps per state, Q quantile levels
"""

from statistics import NormalDist
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_ONE = 0.5413248546129181
"""softplus of it is 1."""


class QuantileHead(nn.Module):
    """P steps of Q quantiles from every state, in units of the window's scale.

    The last layer starts at zero: the median is then zero and the others are those of a standard normal. The
    step from one level to the next is that of a normal, times a width per step and a shape per level.
    """

    spacing: Tensor

    def __init__(self, *, hidden_size: int, num_steps: int, quantile_levels: tuple[float, ...]) -> None:
        super().__init__()
        self.middle = quantile_levels.index(0.5)
        self.num_steps = num_steps
        self.num_shapes = len(quantile_levels) - 1
        scores = torch.tensor([NormalDist().inv_cdf(level) for level in quantile_levels])
        self.register_buffer("spacing", scores.diff(), persistent=False)
        self.median = _zero(nn.Linear(hidden_size, num_steps))
        self.widths = _zero(nn.Linear(hidden_size, num_steps + self.num_shapes))

    def forward(
        self, states: Float[Tensor, "B M D"], *, detach_widths: bool = False
    ) -> Float[Tensor, "B S Q"]:
        """Quantiles of S = M * P steps; `detach_widths` keeps their gradients out of the states."""
        median = self.median(states)[..., None]  # (B, M, P, 1)
        spread = F.softplus(self.widths(states.detach() if detach_widths else states) + _ONE)
        width = spread[..., : self.num_steps, None]  # (B, M, P, 1)
        shape = spread[..., None, self.num_steps :]  # (B, M, 1, Q - 1)
        gaps = self.spacing * width * shape
        below = -gaps[..., : self.middle].flip(-1).cumsum(-1).flip(-1)
        above = gaps[..., self.middle :].cumsum(-1)
        around = torch.cat([below, torch.zeros_like(median), above], dim=-1)
        return cast(Tensor, (median + around).flatten(1, 2))


def _zero(linear: nn.Linear) -> nn.Linear:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
