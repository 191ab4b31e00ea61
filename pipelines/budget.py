"""A retrain may take so much time and memory, and ends in one clear line where it needs more."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from forecast.errors import BudgetError

if TYPE_CHECKING:
    from pipelines.sections import BudgetSection

LOOK_SECONDS = 0.5
"""Between two looks at clock and memory."""

AGAIN_SECONDS = 15.0
"""After an interruption that ended nothing: it came where exceptions are dropped, as in a finalizer."""

_MIB = 2**20


@contextmanager
def within(budget: "BudgetSection") -> Iterator[None]:
    """Raise BudgetError in the block, which the main thread runs, once it needs more than the budget."""
    if budget.seconds is None and budget.memory_mib is None:
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        raise BudgetError("a budget can be kept by the main thread only; leave [budget] out")
    watch = _Watch(budget)
    before = signal.signal(signal.SIGALRM, watch.interrupt)
    watch.start()
    try:
        yield
    finally:
        watch.over.set()
        watch.join()
        signal.signal(signal.SIGALRM, before)


class _Watch(threading.Thread):
    """Looks at clock and memory beside the work, and interrupts it until it ends."""

    def __init__(self, budget: "BudgetSection") -> None:
        super().__init__(daemon=True)
        self.budget = budget
        self.over = threading.Event()
        self.begun = time.monotonic()
        self.told = ""

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """What the main thread runs between two of its steps."""
        if self.over.is_set():
            return
        raise BudgetError(
            f"the retrain {self.told}; nothing was registered. Raise the limit, or train less: fewer "
            "candidates, smaller models, `max_seconds` under [training]"
        )

    def run(self) -> None:
        """Until the work is over or too much."""
        import psutil

        process = psutil.Process()
        while not self.over.wait(AGAIN_SECONDS if self.told else LOOK_SECONDS):
            self.told = self.told or self._too_long() or self._too_large(process.memory_info().rss / _MIB)
            if self.told:
                os.kill(os.getpid(), signal.SIGALRM)

    def _too_long(self) -> str:
        limit = self.budget.seconds
        if limit is None or time.monotonic() - self.begun <= limit:
            return ""
        return f"took longer than its budget, [budget] seconds = {limit:g}"

    def _too_large(self, mib: float) -> str:
        limit = self.budget.memory_mib
        if limit is None or mib <= limit:
            return ""
        return f"needs {mib:,.0f} MiB of memory and its budget is [budget] memory_mib = {limit:g}"
