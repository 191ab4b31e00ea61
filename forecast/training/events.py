"""What training tells its listeners."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EpochEvent:
    """The state of training at a check: at the end of an epoch, or more often where epochs are long."""

    epoch: int
    """Epochs finished."""
    step: int
    """Optimiser steps done."""
    train_loss: float
    """Mean loss since the last event, in units of the windows' scale."""
    validation_loss: float | None
    """Loss of the averaged weights on the held-out windows; None where nothing is held out."""
    learning_rate: float
    seconds: float
    """Since training began, interruptions left out."""
    windows_per_second: float
    member: int = 0
    """Which of the networks that are averaged."""


Listener = Callable[[EpochEvent], None]
