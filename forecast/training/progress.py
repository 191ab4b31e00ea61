"""What a person sees of a training: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any

from forecast.training.events import EpochEvent

QUIET_SECONDS = 10.0
"""Without a terminal, trainings shorter than this say nothing, and longer ones no more often."""


class Progress:
    """Shows steps and checks on stderr; `mode` is auto, bar, lines or quiet."""

    def __init__(self, mode: str, *, num_steps: int, label: str) -> None:
        if mode == "auto":
            mode = "bar" if sys.stderr.isatty() else "seldom"
        self.mode, self.num_steps, self.label = mode, num_steps, label
        self.said = time.monotonic()
        self.bar: Any = None
        if mode == "bar":
            from tqdm import tqdm

            self.bar = tqdm(total=num_steps, desc=label, unit="step", leave=False, file=sys.stderr)

    def step(self) -> None:
        """One step is done."""
        if self.bar is not None:
            self.bar.update()

    def check(self, event: EpochEvent) -> None:
        """A check is done."""
        losses = f"loss {event.train_loss:.4f}"
        if event.validation_loss is not None:
            losses += f", validation {event.validation_loss:.4f}"
        if self.bar is not None:
            self.bar.set_postfix_str(losses)
        elif self.mode == "lines" or (
            self.mode == "seldom" and time.monotonic() - self.said >= QUIET_SECONDS
        ):
            self.said = time.monotonic()
            rate = f"{event.windows_per_second:,.0f} windows/s"
            print(f"{self.label}: step {event.step} of {self.num_steps}, {losses}, {rate}", file=sys.stderr)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.bar is not None:
            self.bar.close()
