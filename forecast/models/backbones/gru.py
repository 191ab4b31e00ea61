"""Gated recurrent units."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forecast.models.backbones.gru_layer import GRULayer
from forecast.models.backbones.recurrent import Recurrent


class GRU(Recurrent):
    """Source: Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014; torch's form."""

    cell = nn.GRU

    def run(self, tokens: Tensor, start: Any) -> tuple[Tensor, Any]:
        """As `nn.GRU`; in training on a CPU by layers that are faster there from two tokens on."""
        if not self.training or tokens.shape[1] == 1 or not _plain(tokens):
            return super().run(tokens, start)
        states, ends = tokens.permute(1, 2, 0).contiguous(), []  # (N, T, B)
        for layer, own in enumerate(start):
            if layer:
                states = F.dropout(states, self.rnn.dropout)
            weights = (getattr(self.rnn, f"{name}_l{layer}") for name in WEIGHTS)
            states = GRULayer.apply(states, own.t(), *weights)  # type: ignore[no-untyped-call]
            ends.append(states[-1].t())
        return states.permute(2, 0, 1), torch.stack(ends)


WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
"""Of a layer, as torch names them."""


def _plain(tokens: Tensor) -> bool:
    """Whether `GRULayer` can read them: float32 on a CPU, recorded by torch and by nothing else."""
    special = torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
    on_cpu = tokens.device.type == "cpu" and tokens.dtype == torch.float32
    return on_cpu and torch.is_grad_enabled() and not special
