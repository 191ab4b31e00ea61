"""What every backbone does: tokens in, one state per token out, and states for future queries.

B windows, N tokens, M future queries, T token_size, D hidden_size
"""

from typing import cast

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from forecast.models.spec import ModelSpec


class Backbone(nn.Module):
    """A new backbone overrides `forward`, and `decode` where it has a way of its own to look ahead."""

    takes_patches = False
    """Whether tokens may come as bare patches rather than projected to the hidden size."""

    def __init__(self, spec: ModelSpec, *, token_size: int) -> None:
        super().__init__()
        self.hidden_size = spec.hidden_size or token_size
        self.query = nn.Linear(token_size, self.hidden_size)
        self.mix = nn.Linear(self.hidden_size, self.hidden_size)

    def forward(self, tokens: Float[Tensor, "B N T"]) -> Float[Tensor, "B N D"]:
        """One state per token; the last one has seen the newest token."""
        raise NotImplementedError

    def decode(
        self, tokens: Float[Tensor, "B N T"], queries: Float[Tensor, "B M T"]
    ) -> Float[Tensor, "B M D"]:
        """One state per future query, each made from the last state."""
        state = self(tokens)[:, -1:]
        return cast(Tensor, state + F.gelu(self.mix(F.gelu(state + self.query(queries)))))
