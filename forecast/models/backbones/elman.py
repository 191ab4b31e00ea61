"""The simple recurrent network."""

from typing import Any

from torch import nn

from forecast.models.backbones.recurrent import Recurrent
from forecast.models.spec import ModelSpec


class Elman(Recurrent):
    """Source: Elman, "Finding structure in time", 1990; `activation` is tanh or relu."""

    cell = nn.RNN

    def options(self, spec: ModelSpec) -> dict[str, Any]:
        return {"nonlinearity": spec.activation or "tanh"}
