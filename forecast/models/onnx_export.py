"""Write a network as an ONNX graph: values in units relative to a level in, quantiles relative to it out.

Inputs are `context` (B, L), NaN where missing, `level` (B,), and the covariates that the spec names; the
output is `quantiles` (B, H, Q). With `level` zero, contexts and quantiles are plain raw values. Recurrent
layers become ONNX's own LSTM, GRU and RNN operators; the number of windows is free.
"""

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from forecast.models.network import Covariates, ForecastNetwork
from forecast.models.spec import ModelSpec

OPSET = 17


def export(network: ForecastNetwork, path: Path) -> bool:
    """Write the graph to `path`; False where the package `onnx` is not installed."""
    if importlib.util.find_spec("onnx") is None:
        return False
    inputs = example_inputs(network.spec)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the tracing exporter is announced to go; it alone is fast and keeps RNNs
        torch.onnx.export(
            Flat(network).cpu().eval(),
            tuple(inputs.values()),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=["quantiles"],
            dynamic_axes={name: {0: "windows"} for name in (*inputs, "quantiles")},
        )
    return True


def example_inputs(spec: ModelSpec) -> dict[str, Tensor]:
    """Two windows by input name: what the graph is traced with, and which inputs it has."""
    length, whole = spec.context_length or 1, (spec.context_length or 1) + spec.horizon
    inputs = {
        "context": torch.linspace(-1, 0, 2 * length).reshape(2, length),
        "level": torch.tensor([9.0, 7.0]),
    }
    if spec.past:
        inputs["past"] = torch.zeros(2, len(spec.past), length)
    if spec.known:
        inputs["known"] = torch.zeros(2, len(spec.known), whole)
    if spec.static_numeric:
        inputs["static_numeric"] = torch.zeros(2, len(spec.static_numeric))
    if spec.static_categories:
        inputs["static_categorical"] = torch.zeros(2, len(spec.static_categories), dtype=torch.int64)
    if spec.calendar and spec.calendar_size:
        inputs["calendar"] = torch.zeros(2, spec.calendar_size, whole)
    return inputs


class Flat(nn.Module):
    """The network with its covariates as plain arguments, in the order of `example_inputs`."""

    def __init__(self, network: ForecastNetwork) -> None:
        super().__init__()
        self.network = network
        self.names = list(example_inputs(network.spec))[2:]

    def forward(self, context: Tensor, level: Tensor, *covariates: Tensor) -> Any:
        given: dict[str, Any] = dict(zip(self.names, covariates, strict=True))
        return self.network(context, level, Covariates(**given))
