"""What was answered is kept for `forecast monitor`: noted in a list and written by a thread."""

import logging
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast import answered
from forecast.answered import TAIL, Answered
from forecast.series.forecast import Forecast
from forecast.series.panel import Panel
from service.models import Served
from service.rows import Ahead, Rows
from service.settings import Settings

log = logging.getLogger("service")

MAX_PENDING = 4_000_000
"""Numbers that may wait to be written (32 MB); what comes beyond is dropped and counted."""
TROUBLE_SECONDS = 60.0
"""Between two lines about the same trouble."""
LIMIT_EVERY = 16
"""Files between two looks at the folder's size."""


class Recorder:
    """Keeps answers; one per process. Nothing that happens here reaches who asked."""

    def __init__(self, settings: Settings, root: Path | None = None) -> None:
        self.root = root or (Path(settings.record_folder) if settings.record_folder else answered.folder())
        self.seconds = settings.record_seconds
        self.max_bytes = settings.record_bytes
        self.recorded = 0
        """Series that were written."""
        self.dropped = 0
        """Series that were not: too many waited, or the disk did not take them."""
        self._pending: deque[Answered] = deque()
        self._size = 0
        self._owner = f"{os.getpid()}x{uuid.uuid4().hex[:6]}"
        self._number = 0
        self._told = -TROUBLE_SECONDS
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        """Begin to write every `FORECAST_RECORD_SECONDS`."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)

    def note_rows(
        self, served: Served, rows: Rows, futures: Sequence[Ahead], forecasts: Sequence[Forecast]
    ) -> None:
        """Note the answer to histories without stamps of their own; costs microseconds."""
        first = 0
        for forecast in forecasts:
            last = first + len(forecast)
            own = futures[first:last]
            self._note(
                served,
                forecast,
                cutoffs=np.array([each.last for each in own]),
                ds=[each.stamps for each in own],
                tails=rows.contexts[first:last, -TAIL:].copy(),
            )
            first = last

    def note_panel(
        self, served: Served, panel: Panel, forecasts: Sequence[Forecast], *, is_named: bool = True
    ) -> None:
        """Note the answer to a panel; `is_named` says whether its ids are those of the caller."""
        if not panel.has_stamps:  # nothing that comes later could be told to belong to it
            return
        cutoffs, tails = panel.last_stamps(), tails_of(panel)
        first = 0
        for forecast in forecasts:
            part = slice(first, first + len(forecast))
            names = forecast.unique_ids if is_named else [None] * len(forecast)
            self._note(
                served, forecast, names=names, cutoffs=cutoffs[part], ds=forecast.ds, tails=tails[part]
            )
            first += len(forecast)

    def _note(
        self,
        served: Served,
        forecast: Forecast,
        *,
        cutoffs: NDArray[Any],
        ds: Sequence[Any] | NDArray[Any],
        tails: NDArray[np.float64],
        names: Sequence[Any] | NDArray[Any] | None = None,
    ) -> None:
        size = forecast.values.size
        if self._size + size > MAX_PENDING:
            self.dropped += len(forecast)
            return
        self._size += size
        self._pending.append(
            Answered(
                model=served.name,
                version=served.version,
                freq=served.forecaster.info.freq,
                recorded_at=time.time(),
                unique_ids=forecast.unique_ids if names is None else names,
                cutoffs=cutoffs,
                ds=ds,
                tails=tails,
                quantile_levels=forecast.quantile_levels,
                values=forecast.values,
            )
        )

    def _run(self) -> None:
        while not self._ending.wait(self.seconds):
            self._write()
        self._write()

    def _write(self) -> None:
        """Everything that waits, as one file for each model."""
        answers = [self._pending.popleft() for _ in range(len(self._pending))]
        if not answers:
            return
        count = sum(len(each.unique_ids) for each in answers)
        try:
            files = answered.write(answers, self.root, name=answered.file_name(self._owner, self._number))
            self._number += 1
            self.recorded += count
            for file in files:
                answered.merge(file.parent, owner=self._owner)
            if self._number % LIMIT_EVERY == 1:
                answered.limit(self.root, max_bytes=self.max_bytes)
        except Exception as error:  # whatever a disk or a value does: answers go on
            self.dropped += count
            self._tell(error)
        finally:
            self._size -= sum(each.size for each in answers)

    def _tell(self, error: Exception) -> None:
        if time.monotonic() - self._told > TROUBLE_SECONDS:
            self._told = time.monotonic()
            log.warning("answers cannot be recorded in %s (%s); they are lost", self.root, error)


def tails_of(panel: Panel) -> NDArray[np.float64]:
    """(N, T) the last values of every series, in units; NaN before its start and where missing."""
    steps = panel.lengths[:, None] - np.arange(TAIL, 0, -1)
    values = panel.base[panel.begins[:, None] + np.maximum(steps, 0)].astype(np.float64)
    return np.where(steps >= 0, panel.offsets[:, None] + panel.scales[:, None] * values, np.nan)
