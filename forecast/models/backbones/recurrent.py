"""What the recurrent backbones share: a pass over the tokens, and one step per future query from its end.

B windows, N tokens, M future queries, T token_size, D hidden_size
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from forecast.models.backbones.base import Backbone
from forecast.models.spec import ModelSpec


class Recurrent(Backbone):
    """A torch RNN; the future is decoded in parallel, as segments that know their place.

    Source of the decoder: Lin et al., "SegRNN: Segment recurrent neural network for long-term time series
    forecasting", 2023; ours keeps every layer's state.
    """

    takes_patches = True
    cell: Callable[..., nn.RNNBase]
    num_states = 1
    """State tensors of the cell: two for an LSTM."""

    def __init__(self, spec: ModelSpec, *, token_size: int) -> None:
        nn.Module.__init__(self)
        layers = spec.num_layers or 1
        self.hidden_size = spec.hidden_size or token_size
        self.rnn = self.cell(
            token_size,
            self.hidden_size,
            num_layers=layers,
            batch_first=True,
            dropout=(spec.dropout or 0.0) if layers > 1 else 0.0,
            **self.options(spec),
        )

    def options(self, spec: ModelSpec) -> dict[str, Any]:
        """Arguments of the cell beside its sizes."""
        return {}

    def forward(self, tokens: Float[Tensor, "B N T"]) -> Float[Tensor, "B N D"]:
        return self.run(tokens, self._start(tokens))[0]

    def decode(
        self, tokens: Float[Tensor, "B N T"], queries: Float[Tensor, "B M T"]
    ) -> Float[Tensor, "B M D"]:
        _, end = self.run(tokens, self._start(tokens))
        num_queries = queries.shape[1]
        if isinstance(end, tuple):
            start: Any = tuple(_repeat(state, num_queries) for state in end)
        else:
            start = _repeat(end, num_queries)
        states = self.run(queries.reshape(-1, 1, queries.shape[2]), start)[0]  # (B * M, 1, D)
        return states.reshape(-1, num_queries, self.hidden_size)

    def run(self, tokens: Float[Tensor, "B N T"], start: Any) -> tuple[Float[Tensor, "B N D"], Any]:
        """The states after each token, and those of every layer after the last, from `start` on."""
        states, end = self.rnn(tokens, start)
        return states, end

    def _start(self, tokens: Tensor) -> Any:
        """The state before the first token, given so that an exported graph takes any number of windows."""
        zeros = tokens.new_zeros(self.rnn.num_layers, tokens.shape[0], self.hidden_size)
        return (zeros, zeros) if self.num_states == 2 else zeros


def _repeat(state: Tensor, times: int) -> Tensor:
    """(layers, B, D) -> (layers, B * times, D), each window's state beside itself."""
    layers, _, hidden_size = state.shape
    wide = state[:, :, None].expand(-1, -1, times, -1)
    return wide.reshape(layers, -1, hidden_size)
