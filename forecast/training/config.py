"""How a network is trained, as opposed to what it is (`ModelSpec`)."""

from dataclasses import asdict, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any

from forecast.errors import SpecError
from forecast.models.spec import is_number

DEVICES = ("auto", "cpu", "cuda")
SCHEDULES = ("cosine", "one_cycle", "constant")
PRECISIONS = ("auto", "float32", "bf16")
PROGRESS = ("auto", "bar", "lines", "quiet")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Seed, budget, optimiser and device of one training; None means "by rule" or "no limit"."""

    seed: int = 0
    """The same seed, data and machine give the same tensors, bit for bit on a CPU."""
    max_epochs: int | None = None
    """Stop after so many passes over the training windows; 0: untrained, which forecasts naively."""
    max_steps: int | None = None
    """Stop after so many optimiser steps, 0 as above; None: by rule."""
    max_seconds: float | None = None
    """Stop after so many seconds of training, with the best weights found until then."""
    schedule_steps: int | None = None
    """Steps over which the learning rate rises and falls; None: `max_steps`."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, or cuda:1."""
    batch_size: int | None = None
    """Windows per step."""
    learning_rate: float | None = None
    """Highest learning rate of the schedule."""
    weight_decay: float | None = None
    """AdamW's decay of matrices; biases and norms are not decayed."""
    schedule: str = "cosine"
    """cosine (warm-up, then down to zero), one_cycle (a longer warm-up), or constant."""
    clip_norm: float = 1.0
    """Gradients are shortened to this norm."""
    averaging: float = 0.99
    """Decay of the running average of the weights that is validated and kept; 0 keeps the last weights."""
    patience: int | None = None
    """Validations without a better loss before training stops; None: by rule, and none for counted epochs or
    steps."""
    truncate_share: float = 0.25
    """Share of training windows whose context is cut to a random length."""
    drop_share: float = 0.1
    """Share of training windows that lose a random span of their context."""
    flip_share: float | None = None
    """Share of training windows that are learned upside down, so that no drift is; None: by rule."""
    precision: str = "auto"
    """auto (bf16 autocast on a GPU that has it), float32, or bf16."""
    compile: bool | None = None
    """Whether the network goes through torch.compile; None: only where it was measured to be faster."""
    cuda_graphs: bool | None = None
    """Whether a GPU replays the step as one CUDA graph; None: on a GPU, where the step can be captured."""
    deterministic: bool = False
    """Whether torch refuses algorithms that differ from run to run (a CPU run repeats without it)."""
    checkpoint: Path | None = None
    """Folder that holds what an interrupted training needs to go on; None: no checkpoint."""
    checkpoint_seconds: float = 30.0
    """Seconds between two checkpoints; 0: one after every step."""
    progress: str = "auto"
    """auto (a bar on a terminal, elsewhere a line every ten seconds), bar, lines, or quiet."""

    def __post_init__(self) -> None:
        for name in ("max_epochs", "max_steps"):
            self._at_least(name, 0)
        for name in ("schedule_steps", "batch_size", "patience"):
            self._at_least(name, 1)
        if self.checkpoint is not None:
            self._take_checkpoint()
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or not 0 <= self.seed < 2**31:
            raise SpecError(f"seed is a whole number from 0 to {2**31 - 1}; got {self.seed!r}.")
        if self.weight_decay is not None:
            self._not_below_zero("weight_decay")
        self._not_below_zero("checkpoint_seconds")
        for name in ("max_seconds", "learning_rate"):
            if getattr(self, name) is not None:
                self._above_zero(name)
        self._above_zero("clip_norm")
        for name in ("truncate_share", "drop_share", "averaging"):
            self._share(name)
        if self.flip_share is not None:
            self._share("flip_share")
        self._one_of("schedule", SCHEDULES)
        self._one_of("precision", PRECISIONS)
        self._one_of("progress", PROGRESS)
        if self.device not in DEVICES and not str(self.device).startswith("cuda:"):
            raise SpecError(f"device is one of {', '.join(DEVICES)} or cuda:NUMBER; got {self.device!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        return {**values, "checkpoint": None if self.checkpoint is None else str(self.checkpoint)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig":
        """The config of a dictionary; raises SpecError for keys that a config does not have."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise SpecError(f"a train config has no {', '.join(unknown)}; it has {', '.join(sorted(known))}.")
        checkpoint = values.get("checkpoint")
        return cls(**{**values, "checkpoint": None if checkpoint is None else Path(checkpoint)})

    def _take_checkpoint(self) -> None:
        if not isinstance(self.checkpoint, str | PathLike):
            raise SpecError(f"checkpoint is the path of a folder; got {self.checkpoint!r}.")
        object.__setattr__(self, "checkpoint", Path(self.checkpoint))

    def _at_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise SpecError(f"{name} is a whole number from {least} on; got {value!r}.")

    def _share(self, name: str) -> None:
        value = getattr(self, name)
        if not is_number(value) or not 0 <= value <= 1:
            raise SpecError(f"{name} is a share in [0, 1]; got {value!r}.")

    def _not_below_zero(self, name: str) -> None:
        value = getattr(self, name)
        if not (is_number(value) and value >= 0):
            raise SpecError(f"{name} is not below zero; got {value!r}.")

    def _above_zero(self, name: str) -> None:
        value = getattr(self, name)
        if not (is_number(value) and value > 0):
            raise SpecError(f"{name} is above zero; got {value!r}.")

    def _one_of(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            raise SpecError(f"{name} is one of {', '.join(choices)}; got {getattr(self, name)!r}.")
