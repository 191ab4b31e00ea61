"""A network run by torch.

B windows, H horizon, Q quantile levels
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forecast.errors import ArtifactError, CovariateError
from forecast.models.network import Covariates, ForecastNetwork
from forecast.models.spec import ModelSpec
from forecast.series.batch import ContextBatch

MAX_ROWS = 1024
"""Windows in one pass."""


class TorchBackend:
    """Runs a network in evaluation mode; `Backend` of `forecast.models.forecaster`."""

    def __init__(self, network: ForecastNetwork) -> None:
        self.network = network.eval().requires_grad_(False)

    @classmethod
    def from_tensors(cls, spec: ModelSpec, tensors: dict[str, NDArray]) -> "TorchBackend":
        """The network of a resolved spec with saved weights; ArtifactError where they do not fit."""
        network = ForecastNetwork(spec)
        try:
            network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in tensors.items()})
        except RuntimeError as error:
            raise ArtifactError(f"the weights do not fit the spec: {error}") from error
        return cls(network)

    def __call__(self, batch: ContextBatch) -> NDArray[np.float32]:
        """Quantiles (B, H, Q) relative to the batch's level."""
        require_covariates(self.network.spec, batch)
        parts = [
            self._pass(batch.rows(slice(start, start + MAX_ROWS))) for start in range(0, len(batch), MAX_ROWS)
        ]
        return np.concatenate(parts)

    def tensors(self) -> dict[str, NDArray]:
        """The weights and buffers by name."""
        return {name: value.cpu().numpy() for name, value in self.network.state_dict().items()}

    def export_onnx(self, path: Path) -> bool:
        """Write the network's graph; False where the packages for it are missing."""
        from forecast.models.onnx_export import export

        return export(self.network, path)

    def _pass(self, batch: ContextBatch) -> NDArray[np.float32]:
        with torch.inference_mode():
            quantiles = self.network(
                torch.from_numpy(np.ascontiguousarray(batch.context)),
                torch.from_numpy(batch.level.astype(np.float32)),
                Covariates(
                    past=_tensor(batch.past),
                    known=_tensor(batch.known),
                    static_numeric=_tensor(batch.static_numeric),
                    static_categorical=_tensor(batch.static_categorical),
                    calendar=_tensor(batch.calendar),
                ),
            )
        answer: NDArray[np.float32] = quantiles.numpy()
        return answer


def require_covariates(spec: ModelSpec, batch: ContextBatch) -> None:
    """CovariateError naming what the model was trained with and the batch lacks."""
    wanted = {
        "past": spec.past,
        "known": spec.known,
        "static_numeric": spec.static_numeric,
        "static_categorical": tuple(spec.static_categories or ()),
    }
    for kind, names in wanted.items():
        given = getattr(batch, kind)
        if names and (given is None or given.shape[1] != len(names)):
            raise CovariateError(
                f"the model was trained with the {kind.split('_')[0]} covariates {', '.join(names)}, "
                "and they are missing here; send them with every series"
            )


def _tensor(values: NDArray | None) -> Tensor | None:
    return None if values is None else torch.from_numpy(np.ascontiguousarray(values))
