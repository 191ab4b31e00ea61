"""How far a candidate's training is: its epochs for the log, and a line every few seconds."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from forecast.training.events import EpochEvent

Say = Callable[[str], None]

PROGRESS_SECONDS = 10.0
"""Between two lines about the same training."""

CURVES = ("train_loss", "validation_loss", "learning_rate")
"""What is logged of every epoch, over the optimiser's steps."""


class Progress:
    """Keeps the epochs of a candidate for the log, and says how far it is every few seconds."""

    def __init__(self, *, say: Say, name: str) -> None:
        self._say, self._name = say, name
        self._begun = time.monotonic()
        self._ended = threading.Event()
        self.epochs: list[EpochEvent] = []

    def __call__(self, event: "EpochEvent") -> None:
        self.epochs.append(event)

    def __enter__(self) -> Self:
        threading.Thread(target=self._report, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    @property
    def took(self) -> str:
        """The time since the start, in words."""
        return f"{time.monotonic() - self._begun:.1f} s"

    def curves(self) -> Iterator[dict[str, float | None]]:
        """One point per epoch; networks beyond the first, averaged with it, have curves of their own."""
        for event in self.epochs:
            suffix = f"/network_{event.member + 1}" if event.member else ""
            yield {"step": event.step, **{f"{name}{suffix}": getattr(event, name) for name in CURVES}}

    def _report(self) -> None:
        told = 0
        while not self._ended.wait(PROGRESS_SECONDS):
            news, told = len(self.epochs) > told, len(self.epochs)
            idle = "fitted again at later cutoffs" if self.epochs else "begins"
            state = self._state(self.epochs[-1]) if news else idle
            self._say(f"{self._name}: {state}, {self.took}")

    def _state(self, event: "EpochEvent") -> str:
        number = f"network {event.member + 1}, " if event.member else ""
        if event.validation_loss is None:
            return f"{number}step {event.step}, loss {event.train_loss:.4g}"
        return f"{number}step {event.step}, validation loss {event.validation_loss:.4g}"
