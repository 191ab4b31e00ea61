"""Every backbone by name: to add one, write its file and add a line here.

The classes are named, not imported, so that reading a spec never loads torch.
"""

from importlib import import_module
from typing import Any

BACKBONES: dict[str, str] = {
    "conv": "forecast.models.backbones.conv:DilatedConvolution",
    "elman": "forecast.models.backbones.elman:Elman",
    "gru": "forecast.models.backbones.gru:GRU",
    "lstm": "forecast.models.backbones.lstm:LSTM",
    "transformer": "forecast.models.backbones.transformer:Transformer",
}

BASELINES: tuple[str, ...] = ("naive", "seasonal_naive", "drift", "ridge", "auto_ets", "auto_theta")
"""Procedures without a network that a spec may name in the place of a backbone."""


def backbone_class(name: str) -> Any:
    """The class of a backbone; torch is imported here and not before."""
    module, _, attribute = BACKBONES[name].partition(":")
    return getattr(import_module(module), attribute)
