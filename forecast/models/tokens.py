"""Tokens: patches of a context and of what is known of the future.

B windows, C channels, L steps, P patch_length, N tokens, M future tokens, D hidden_size
"""

from typing import cast

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def patches(channels: Float[Tensor, "B C L"], patch_length: int) -> Float[Tensor, "B N F"]:
    """Neighbouring steps side by side, F = C * P; steps that fill the first patch are zero."""
    num_channels, num_steps = channels.shape[1:]
    missing = -num_steps % patch_length
    whole = F.pad(channels, (missing, 0))
    num_tokens = (num_steps + missing) // patch_length
    side_by_side = whole.reshape(-1, num_channels, num_tokens, patch_length).transpose(1, 2)
    return side_by_side.reshape(-1, num_tokens, num_channels * patch_length)


class Tokens(nn.Module):
    """One token of `token_size` per patch; with `linear=False` a patch is its own token."""

    def __init__(self, *, num_channels: int, patch_length: int, hidden_size: int, linear: bool) -> None:
        super().__init__()
        self.patch_length = patch_length
        self.token_size = hidden_size if linear else num_channels * patch_length
        self.linear = nn.Linear(num_channels * patch_length, hidden_size) if linear else nn.Identity()

    def forward(self, channels: Float[Tensor, "B C L"]) -> Float[Tensor, "B N D"]:
        return cast(Tensor, self.linear(patches(channels, self.patch_length)))
