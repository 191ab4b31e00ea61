"""Long short-term memory."""

from torch import nn

from forecast.models.backbones.recurrent import Recurrent


class LSTM(Recurrent):
    """Source: Hochreiter & Schmidhuber, "Long short-term memory", 1997, with forget gates."""

    cell = nn.LSTM
    num_states = 2
    states_at_once = 500_000
    """oneDNN keeps some 40 bytes per state for the way back; from 32 MiB on the C library maps every such
    buffer anew, and a quarter of the time goes into page faults."""
