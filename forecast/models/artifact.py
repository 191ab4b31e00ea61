"""The artifact: a folder that holds a forecaster, as JSON and tensors, without code and without data.

spec.json               what the model is and was trained on; the digests of the other files
weights.safetensors     network.* (also a ridge's), calibration.*, identity.*
model.onnx              the network's graph, where it could be exported
"""

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.errors import ArtifactError, ForecastError, SpecError
from forecast.models.baselines import baseline_backend
from forecast.models.calibration import Calibration
from forecast.models.forecaster import Backend, Forecaster, ForecasterInfo
from forecast.models.identity import Identity

SPEC = "spec.json"
WEIGHTS = "weights.safetensors"
GRAPH = "model.onnx"
RUNTIMES = ("auto", "onnx", "torch")


def save(forecaster: Forecaster, folder: str | Path, *, onnx: bool = True) -> Path:
    """Write a forecaster to `folder`, which must not exist or be empty; returns it.

    All or nothing: the files are written beside it and moved in one step. The same forecaster gives the same
    `spec.json` and `weights.safetensors` byte for byte. `onnx` also writes the graph where the model has one.
    """
    target = Path(folder).resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ArtifactError(f"{target} exists and is not an empty folder; choose another, or empty it")
    draft = _draft(target)
    try:
        _write(forecaster, draft, onnx=onnx)
        draft.chmod(0o755)
        os.replace(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return target


def _draft(target: Path) -> Path:
    """A new folder beside `target`; ArtifactError where none can be made."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ArtifactError(f"no folder can be made at {target} ({error.strerror}); choose another") from None


def load(folder: str | Path, *, runtime: str = "auto") -> Forecaster:
    """Read a forecaster; ArtifactError where a file is missing, damaged or of another format version.

    runtime: "onnx" and "torch" insist on one; "auto" takes ONNX Runtime where both the graph and the package
    are there, and torch otherwise. A baseline needs neither.
    """
    if runtime not in RUNTIMES:
        raise SpecError(f"no runtime is called {runtime!r}; there are: {', '.join(RUNTIMES)}")
    folder = Path(folder)
    info, digests = _read_spec(folder / SPEC)
    _verify(folder, digests)
    backend = _backend(info, folder, runtime)
    tensors = _read_tensors(folder / WEIGHTS, ("calibration", "identity"))
    return Forecaster(
        info=info,
        backend=backend,
        calibration=Calibration.from_tensors(tensors["calibration"], info.quantile_levels),
        identity=Identity.from_tensors(tensors["identity"]),
    )


def digest(folder: str | Path) -> str:
    """SHA-256 over what the forecasts depend on, hex: equal for equal models wherever they lie."""
    folder = Path(folder)
    info, digests = _read_spec(folder / SPEC)
    content = json.dumps([info.to_dict(), digests.get(WEIGHTS)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _write(forecaster: Forecaster, folder: Path, *, onnx: bool) -> None:
    from safetensors.numpy import save as serialise

    groups = {
        "network": forecaster.backend.tensors(),
        "calibration": forecaster.calibration.tensors(),
        "identity": forecaster.identity.tensors(),
    }
    flat = {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}
    tensors = {name: np.ascontiguousarray(flat[name]) for name in sorted(flat)}
    (folder / WEIGHTS).write_bytes(serialise(tensors))  # with the permissions of any new file
    if onnx and not forecaster.backend.export_onnx(folder / GRAPH):
        (folder / GRAPH).unlink(missing_ok=True)
    digests = {name: _sha256(folder / name) for name in (WEIGHTS, GRAPH) if (folder / name).exists()}
    calibration = {
        **forecaster.info.calibration,
        "scale": "mean_absolute_difference",
        "num_windows": forecaster.calibration.num_windows,
        "growth": forecaster.calibration.growth,
    }
    info = replace(forecaster.info, calibration=calibration)
    content = {**info.to_dict(), "files": digests}
    (folder / SPEC).write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def _read_spec(path: Path) -> tuple[ForecasterInfo, dict[str, str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path.parent} holds no {SPEC}: it is not a saved model") from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"{path} holds a {type(content).__name__} instead of an object")
    digests = content.pop("files", {})
    info = ForecasterInfo.from_dict(content)
    try:
        info.spec  # noqa: B018  (built to be checked)
    except (ForecastError, TypeError) as error:
        raise ArtifactError(f"{path} describes a model that this package cannot build: {error}") from error
    return info, digests


def _verify(folder: Path, digests: dict[str, Any]) -> None:
    """Every file named in the spec is there and has the content it was saved with."""
    if WEIGHTS not in digests:
        raise ArtifactError(f"{folder / SPEC} names no {WEIGHTS}")
    for name, expected in digests.items():
        path = folder / name
        if name not in (WEIGHTS, GRAPH) or not path.is_file():
            raise ArtifactError(f"{folder} lacks {name}; copy the whole folder")
        if _sha256(path) != expected:
            raise ArtifactError(f"{path} is damaged: its content is not what was saved; copy or train again")


def _backend(info: ForecasterInfo, folder: Path, runtime: str) -> Backend:
    if info.spec.is_baseline:
        return _baseline(info, folder)
    has_graph = (folder / GRAPH).is_file()
    if runtime == "onnx" and not has_graph:
        raise ArtifactError(
            f"{folder} holds no {GRAPH}; load it with runtime='torch', or save it with onnx=True"
        )
    if runtime == "onnx" or (runtime == "auto" and has_graph and _is_installed("onnxruntime")):
        from forecast.models.onnx_runtime import OnnxBackend

        return OnnxBackend(folder / GRAPH)
    from forecast.models.torch_backend import TorchBackend

    return TorchBackend.from_tensors(info.spec, _read_tensors(folder / WEIGHTS, ("network",))["network"])


def _baseline(info: ForecasterInfo, folder: Path) -> Backend:
    try:
        return baseline_backend(info, _read_tensors(folder / WEIGHTS, ("network",))["network"])
    except SpecError as error:
        raise ArtifactError(f"{folder} cannot be loaded: {error}") from error


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _read_tensors(path: Path, groups: Iterable[str]) -> dict[str, dict[str, NDArray]]:
    """The tensors of some groups, by group and name without it."""
    from safetensors import SafetensorError, safe_open

    found: dict[str, dict[str, NDArray]] = {group: {} for group in groups}
    try:
        with safe_open(str(path), framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (not a dictionary)
                group, _, rest = name.partition(".")
                if group in found:
                    found[group][rest] = tensors.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
