"""What an interrupted training needs to go on exactly: a file of tensors with JSON in its header."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from forecast.errors import ArtifactError
from forecast.replacing import replacing

FILE = "checkpoint.safetensors"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Tensors by name, and plain values."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]

    def group(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `name.`, without it."""
        start = f"{name}."
        return {
            key.removeprefix(start): value for key, value in self.tensors.items() if key.startswith(start)
        }


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Replace the checkpoint in `folder` in one step: a kill leaves the old one or the new one, whole.

    Raises OSError where the disk takes nothing; the old checkpoint stays then.
    """
    from safetensors.torch import save

    tensors = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in checkpoint.tensors.items()
    }
    written = save(tensors, metadata={"state": json.dumps(checkpoint.state)})
    with replacing(folder / FILE) as draft, draft.open("wb") as stream:
        stream.write(written)
        stream.flush()
        os.fsync(stream.fileno())


def read(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`; ArtifactError where there is none or it cannot be read."""
    from safetensors import SafetensorError, safe_open

    path = Path(folder) / FILE
    if not path.is_file():
        raise ArtifactError(
            f"{folder} holds no {FILE}; start without resume_from, or name the folder it is in."
        )
    try:
        with safe_open(str(path), framework="pt") as file:
            state = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no dictionary)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read as a checkpoint: {error}.") from error
    return Checkpoint(tensors=tensors, state=state)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of torch's own generators."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random_state(states: dict[str, Tensor], device: torch.device) -> None:
    """Put torch's own generators where they were."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
