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
        median = self.median(states)  # (B, M, P)
        spread = F.softplus(self.widths(states.detach() if detach_widths else states) + _ONE)
        width, shape = spread[..., : self.num_steps], spread[..., self.num_steps :]
        gaps = self.spacing * shape  # (B, M, Q - 1)
        below = -gaps[..., : self.middle].flip(-1).cumsum(-1).flip(-1)
        above = gaps[..., self.middle :].cumsum(-1)
        around = torch.cat([below, torch.zeros_like(median[..., :1]), above], dim=-1)
        levels_first = around.permute(2, 0, 1).contiguous()  # what follows works on long rows of steps
        return cast(Tensor, (median + width * levels_first[..., None]).flatten(2).permute(1, 2, 0))


def _zero(linear: nn.Linear) -> nn.Linear:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
