"""A network run by ONNX Runtime, without torch.

B windows, H horizon, Q quantile levels
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.errors import ArtifactError, CovariateError
from forecast.series.batch import ContextBatch

MAX_ROWS = 256
"""Windows in one pass: larger ones are no faster and take memory."""


class OnnxBackend:
    """Runs a saved graph; `Backend` of `forecast.models.forecaster`."""

    def __init__(self, path: Path, *, num_threads: int = 1) -> None:
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own errors share no base class
            raise ArtifactError(f"{path} is no graph that ONNX Runtime can run: {error}") from error
        self.path = Path(path)
        self.inputs: dict[str, tuple[Any, ...]] = {
            each.name: tuple(each.shape) for each in self.session.get_inputs()
        }

    def __call__(self, batch: ContextBatch) -> NDArray[np.float32]:
        """Quantiles (B, H, Q) relative to the batch's level."""
        parts = [
            self._pass(batch.rows(slice(start, start + MAX_ROWS))) for start in range(0, len(batch), MAX_ROWS)
        ]
        return np.concatenate(parts)

    def tensors(self) -> dict[str, NDArray]:
        """The weights live in the graph; the artifact that it came from holds them by name beside it."""
        from safetensors.numpy import load_file

        saved = load_file(str(self.path.with_name("weights.safetensors")))
        return {
            name.removeprefix("network."): value
            for name, value in saved.items()
            if name.startswith("network.")
        }

    def export_onnx(self, path: Path) -> bool:
        """Copy the graph to `path`."""
        path.write_bytes(self.path.read_bytes())
        return True

    def _pass(self, batch: ContextBatch) -> NDArray[np.float32]:
        given = {name: self._input(name, batch) for name in self.inputs}
        quantiles: NDArray[np.float32] = self.session.run(None, given)[0]
        return quantiles

    def _input(self, name: str, batch: ContextBatch) -> NDArray:
        values = getattr(batch, name)
        if values is None and name == "calendar":
            return np.full((len(batch), *self.inputs[name][1:]), np.nan, dtype=np.float32)
        if values is None:
            raise CovariateError(
                f"the model was trained with {name} covariates, and they are missing here; "
                "send them with every series"
            )
        dtype = np.int64 if name == "static_categorical" else np.float32
        return np.ascontiguousarray(values, dtype=dtype)
