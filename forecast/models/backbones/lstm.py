"""Long short-term memory."""

from torch import nn

from forecast.models.backbones.recurrent import Recurrent


class LSTM(Recurrent):
    """Source: Hochreiter & Schmidhuber, "Long short-term memory", 1997, with forget gates."""

    cell = nn.LSTM
    num_states = 2
