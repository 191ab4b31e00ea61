"""Dilated causal convolutions over tokens.

B windows, N tokens, T token_size, D hidden_size
"""

from typing import cast

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from forecast.models.backbones.base import Backbone
from forecast.models.spec import ModelSpec


class DilatedConvolution(Backbone):
    """Residual layers whose dilation doubles, each state seeing its own token and earlier ones.

    Source: Bai et al., "An empirical evaluation of generic convolutional and recurrent networks for sequence
    modeling", 2018; ours normalises before each layer and has one convolution per layer.
    """

    def __init__(self, spec: ModelSpec, *, token_size: int) -> None:
        super().__init__(spec, token_size=token_size)
        kernel_size = spec.kernel_size or 3
        self.layers = nn.ModuleList(
            CausalLayer(
                self.hidden_size, kernel_size=kernel_size, dilation=2**depth, dropout=spec.dropout or 0.0
            )
            for depth in range(spec.num_layers or 1)
        )

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        states = tokens
        for layer in self.layers:
            states = states + layer(states)
        return states


class CausalLayer(nn.Module):
    """Norm, causal convolution, GELU, projection."""

    def __init__(self, hidden_size: int, *, kernel_size: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.reach = (kernel_size - 1) * dilation
        self.norm = nn.LayerNorm(hidden_size)
        self.conv = nn.Conv1d(hidden_size, hidden_size, kernel_size, dilation=dilation)
        self.out = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        channels = F.pad(self.norm(states).transpose(1, 2), (self.reach, 0))  # (B, D, reach + N)
        mixed = F.gelu(self.conv(channels)).transpose(1, 2)
        return cast(Tensor, self.dropout(self.out(mixed)))
