"""Gated recurrent units."""

from torch import nn

from forecast.models.backbones.recurrent import Recurrent


class GRU(Recurrent):
    """Source: Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014; torch's form."""

    cell = nn.GRU
