"""The GRU that trains on a CPU is torch's own, number by number and gradient by gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from forecast.models.backbones.gru import GRU
from forecast.models.spec import ModelSpec


def backbone(*, token_size: int, hidden_size: int, num_layers: int, dropout: float = 0.0) -> GRU:
    """A GRU in training."""
    spec = ModelSpec(
        backbone="gru", horizon=1, hidden_size=hidden_size, num_layers=num_layers, dropout=dropout
    )
    return GRU(spec, token_size=token_size).train()


def gradients(states: Tensor, end: Tensor, of: list[Tensor], weights: Tensor) -> list[Tensor]:
    """Of something that reads every state and every layer's end, in a different way each."""
    loss = (states * weights[:, :, None]).square().sum() + (
        end * torch.arange(1, len(end) + 1)[:, None, None]
    ).sum()
    return list(torch.autograd.grad(loss, of))


@settings(deadline=None)
@given(
    st.integers(1, 5),
    st.integers(2, 7),
    st.integers(1, 4),
    st.integers(1, 6),
    st.integers(1, 3),
    st.booleans(),
)
def test_states_and_gradients_are_those_of_torch(
    num_windows: int, num_tokens: int, token_size: int, hidden_size: int, num_layers: int, learned: bool
) -> None:
    torch.manual_seed(0)
    own = backbone(token_size=token_size, hidden_size=hidden_size, num_layers=num_layers)
    tokens = torch.randn(num_windows, num_tokens, token_size, requires_grad=learned)
    start = torch.randn(num_layers, num_windows, hidden_size, requires_grad=learned)
    weights = torch.randn(num_windows, num_tokens)
    read = [*own.rnn.parameters(), *([tokens, start] if learned else [])]
    states, end = own.run(tokens, start)
    theirs, their_end = own.rnn(tokens, start)
    torch.testing.assert_close(states, theirs)
    torch.testing.assert_close(end, their_end)
    for ours, expected in zip(
        gradients(states, end, read, weights), gradients(theirs, their_end, read, weights), strict=True
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_layers_drop_states_between_them_in_training_alone() -> None:
    own = backbone(token_size=2, hidden_size=16, num_layers=2, dropout=0.5)
    tokens, start = torch.randn(3, 5, 2), torch.zeros(2, 3, 16)
    torch.manual_seed(1)
    first = own.run(tokens, start)[0]
    assert not torch.equal(first, own.run(tokens, start)[0])
    torch.manual_seed(1)
    assert torch.equal(first, own.run(tokens, start)[0])
    own.eval()
    assert torch.equal(own.run(tokens, start)[0], own.rnn(tokens, start)[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_goes_through_torch(dtype: torch.dtype) -> None:
    own = backbone(token_size=2, hidden_size=4, num_layers=1)
    with torch.autocast("cpu", dtype=dtype):
        states, _ = own.run(torch.randn(3, 5, 2), torch.zeros(1, 3, 4))
    assert isinstance(own.rnn, nn.GRU)
    assert states.isfinite().all()
