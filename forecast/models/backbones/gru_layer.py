"""A GRU layer for training on a CPU: the recurrence of `nn.GRU` with its way back written out.

torch records dozens of small operations per token for a GRU on a CPU. Here the gates of a token come from one
product, and nothing is kept but what the way back reads.

B windows, N tokens, T token_size, D hidden_size
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

aten = torch.ops.aten


class GRULayer(Function):
    """One layer of `nn.GRU`, features first, so that each gate of a token is one piece of memory.

    Source: Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014, with the reset gate
    after the product, as in `nn.GRU`. Gates are in its order: reset, update, new.
    """

    @staticmethod
    def forward(
        ctx: Any,
        tokens: Float[Tensor, "N T B"],
        start: Float[Tensor, "D B"],
        token_weight: Float[Tensor, "3*D T"],
        state_weight: Float[Tensor, "3*D D"],
        token_bias: Float[Tensor, " 3*D"],
        state_bias: Float[Tensor, " 3*D"],
    ) -> Float[Tensor, "N D B"]:
        """The state after each token."""
        num_tokens, _, num_windows = tokens.shape
        size = len(start)
        new_weight, new_bias = state_weight[2 * size :], state_bias[2 * size :, None]
        bias = token_bias + torch.cat([state_bias[: 2 * size], torch.zeros_like(start[:, 0])])
        gates = torch.baddbmm(bias[:, None], token_weight.expand(num_tokens, -1, -1), tokens)
        recalled = tokens.new_empty(num_tokens, size, num_windows)
        states = tokens.new_empty(num_tokens + 1, size, num_windows)
        states[0] = start
        steps = zip(
            states[:-1], states[1:], gates[:, : 2 * size], *gates.chunk(3, dim=1), recalled, strict=True
        )
        for state, following, both, reset, update, new, recall in steps:
            both.addmm_(state_weight[: 2 * size], state).sigmoid_()
            torch.addmm(new_bias, new_weight, state, out=recall)
            new.addcmul_(reset, recall).tanh_()
            torch.lerp(new, state, update, out=following)
        ctx.save_for_backward(tokens, token_weight, state_weight, gates, recalled, states)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_states: Float[Tensor, "N D B"]) -> tuple[Tensor | None, ...]:
        """The gradients of what `forward` takes; `by_x` is that of x, gates being taken before their bend."""
        tokens, token_weight, state_weight, gates, recalled, states = ctx.saved_tensors
        size = state_weight.shape[1]
        by_tokens = torch.empty_like(tokens) if ctx.needs_input_grad[0] else None
        by_token_weight, by_state_weight = torch.zeros_like(token_weight), torch.zeros_like(state_weight)
        by_gates, by_products = torch.empty_like(gates[0]), torch.empty_like(gates[0])
        by_reset, by_update, by_recall = by_products.chunk(3)
        by_new = by_gates[2 * size :]
        by_biases = torch.zeros_like(by_gates), torch.zeros_like(by_recall)
        by_state, spare = torch.zeros_like(by_recall), torch.empty_like(by_recall)
        steps = list(zip(tokens, states[:-1], *gates.chunk(3, dim=1), recalled, by_states, strict=True))
        for number in reversed(range(len(steps))):
            token, state, reset, update, new, recall, by_output = steps[number]
            by_state += by_output
            torch.sub(state, new, out=spare).mul_(by_state)
            aten.sigmoid_backward.grad_input(spare, update, grad_input=by_update)
            kept = by_state * update
            aten.tanh_backward.grad_input(by_state.sub_(kept), new, grad_input=by_new)
            torch.mul(by_new, recall, out=spare)
            aten.sigmoid_backward.grad_input(spare, reset, grad_input=by_reset)
            torch.mul(by_new, reset, out=by_recall)
            by_gates[: 2 * size] = by_products[: 2 * size]
            by_state_weight.addmm_(by_products, state.t())
            by_token_weight.addmm_(by_gates, token.t())
            by_biases[0].add_(by_gates)
            by_biases[1].add_(by_recall)
            if by_tokens is not None:
                torch.mm(token_weight.t(), by_gates, out=by_tokens[number])
            by_state = kept.addmm_(state_weight.t(), by_products)
        by_token_bias = by_biases[0].sum(1)
        by_state_bias = torch.cat([by_token_bias[: 2 * size], by_biases[1].sum(1)])
        return by_tokens, by_state, by_token_weight, by_state_weight, by_token_bias, by_state_bias
