"""An encoder-only transformer over tokens.

B windows, N tokens, M future queries, D hidden_size, A attention heads
"""

import math
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from forecast.models.backbones.base import Backbone
from forecast.models.spec import ModelSpec


class Transformer(Backbone):
    """Pre-norm encoder layers; future queries join the sequence as tokens whose values are yet unknown.

    Source: Vaswani et al., "Attention is all you need", 2017; pre-norm as Xiong et al., 2020; patches as
    Nie et al., "A time series is worth 64 words", 2023.
    """

    def __init__(self, spec: ModelSpec, *, token_size: int) -> None:
        nn.Module.__init__(self)
        self.hidden_size = spec.hidden_size or token_size
        num_tokens = -(-(spec.context_length or 1) // (spec.patch_length or 1))
        num_tokens += -(-spec.horizon // (spec.patch_length or 1))
        positions = spec.positions or "rotary"
        self.positions = _positions(positions, num_tokens, self.hidden_size)
        self.layers = nn.ModuleList(
            EncoderLayer(
                self.hidden_size,
                num_heads=spec.num_heads or 4,
                dropout=spec.dropout or 0.0,
                rotary=positions == "rotary",
                num_tokens=num_tokens,
            )
            for _ in range(spec.num_layers or 1)
        )
        self.norm = nn.LayerNorm(self.hidden_size)

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        states = self.positions(tokens)
        for layer in self.layers:
            states = layer(states)
        return cast(Tensor, self.norm(states))

    def decode(
        self, tokens: Float[Tensor, "B N D"], queries: Float[Tensor, "B M D"]
    ) -> Float[Tensor, "B M D"]:
        states = self(torch.cat([tokens, queries], dim=1))
        return cast(Tensor, states[:, tokens.shape[1] :])


class EncoderLayer(nn.Module):
    """Attention, then a feed-forward network of twice the width with GELU, each on normalised states."""

    def __init__(
        self, hidden_size: int, *, num_heads: int, dropout: float, rotary: bool, num_tokens: int
    ) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(hidden_size)
        self.attention = Attention(hidden_size, num_heads=num_heads, rotary=rotary, num_tokens=num_tokens)
        self.norm_forward = nn.LayerNorm(hidden_size)
        self.widen = nn.Linear(hidden_size, 2 * hidden_size)
        self.narrow = nn.Linear(2 * hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        states = states + self.dropout(self.attention(self.norm_attention(states)))
        mixed = self.narrow(self.dropout(F.gelu(self.widen(self.norm_forward(states)))))
        return cast(Tensor, states + self.dropout(mixed))


class Attention(nn.Module):
    """Multi-head attention of all tokens to all, by torch's scaled-dot-product kernel."""

    cos: Tensor
    sin: Tensor

    def __init__(self, hidden_size: int, *, num_heads: int, rotary: bool, num_tokens: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.rotary = rotary
        self.project = nn.Linear(hidden_size, 3 * hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)
        if rotary:
            cos, sin = rotations(num_tokens, hidden_size // num_heads)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)

    def forward(self, states: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        heads = self.project(states).unflatten(2, (3, self.num_heads, -1))  # (B, N, 3, A, D / A)
        query, key, value = (part.transpose(1, 2) for part in heads.unbind(2))  # (B, A, N, D / A)
        if self.rotary:
            query, key = self._rotate(query), self._rotate(key)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return cast(Tensor, self.out(mixed.transpose(1, 2).flatten(2)))

    def _rotate(self, heads: Tensor) -> Tensor:
        """Turn pairs of features by an angle that grows with the position: only distances matter then.

        Source: Su et al., "RoFormer: enhanced transformer with rotary position embedding", 2021.
        """
        num_tokens = heads.shape[2]
        first, second = heads.chunk(2, dim=-1)
        cos, sin = self.cos[:num_tokens], self.sin[:num_tokens]
        return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class Positions(nn.Module):
    """A table of positions that is added to the tokens; learned, or sines of geometric wavelengths."""

    def __init__(self, num_tokens: int, hidden_size: int, *, learned: bool) -> None:
        super().__init__()
        if learned:
            self.table = nn.Parameter(0.02 * torch.randn(num_tokens, hidden_size))
        else:
            cos, sin = rotations(num_tokens, hidden_size)
            self.register_buffer("table", torch.cat([sin, cos], dim=1)[:, :hidden_size], persistent=False)

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        return tokens + self.table[: tokens.shape[1]]


def rotations(num_tokens: int, size: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (num_tokens, ceil(size / 2)), of angles that grow with the position."""
    half = -(-size // 2)
    speeds = torch.exp(-math.log(10_000.0) * torch.arange(half) / max(half, 1))
    angles = torch.arange(num_tokens)[:, None] * speeds
    return angles.cos(), angles.sin()


def _positions(name: str, num_tokens: int, hidden_size: int) -> nn.Module:
    if name == "rotary":
        return nn.Identity()
    return Positions(num_tokens, hidden_size, learned=name == "learned")
