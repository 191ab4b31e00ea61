"""What the nixtla client reads: flat lists, intervals by the level as it was sent, never NaN."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from fastapi import Response
from numpy.typing import NDArray

from forecast.series.forecast import Forecast
from service.models import Served

NOTES_HEADER = "x-forecast-notes"
MODEL_HEADER = "x-forecast-model"
RUN_HEADER = "x-forecast-run"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a task found: the body, without the id of its request, and what goes beside it."""

    body: dict[str, Any]
    served: Served
    notes: tuple[str, ...] = ()

    def response(self, request_id: str) -> Response:
        """As HTTP; what has to be known about the numbers stands in headers, which the client ignores."""
        return Response(self.content(request_id), headers=self.headers, media_type="application/json")

    @property
    def headers(self) -> dict[str, str]:
        """Which version and run answered, and the notes."""
        found = {MODEL_HEADER: f"{self.served.name}/{self.served.version}"}
        if self.served.run_id:
            found[RUN_HEADER] = self.served.run_id
        if self.notes:
            found[NOTES_HEADER] = ", ".join(self.notes)
        return found

    def content(self, request_id: str) -> bytes:
        """The body as JSON."""
        return orjson.dumps({**self.body, "request_id": request_id}, option=orjson.OPT_SERIALIZE_NUMPY)


def points(forecast: Forecast, point: str) -> NDArray[np.float64]:
    """(N, H) what the client calls the mean: our median, or the mean where that is configured."""
    return forecast.mean if point == "mean" else forecast.median


def intervals(forecast: Forecast, levels: Sequence[float]) -> dict[str, NDArray[np.float64]] | None:
    """`lo-80`, `hi-80`, ... (N, H) for each level as it was sent; None without levels. 0 is the median."""
    if not levels:
        return None
    found = {}
    for level in levels:
        low, high = forecast.interval(level) if level else (forecast.median, forecast.median)
        found[f"lo-{level}"], found[f"hi-{level}"] = low, high
    return found


def flat(arrays: dict[str, NDArray[np.float64]] | None) -> dict[str, NDArray[np.float64]] | None:
    """The same with every array as one list."""
    return arrays and {name: np.ascontiguousarray(array.ravel()) for name, array in arrays.items()}


def notes_of(forecasts: Iterable[Forecast], levels: Sequence[float]) -> tuple[str, ...]:
    """Every note of any series once, those about the training data first."""
    noted = (forecast.noted([level for level in levels if level]) for forecast in forecasts)
    found = dict.fromkeys(note for forecast in noted for own in forecast.notes for note in own)
    return tuple(sorted(found, key=lambda note: (not note.endswith("in_sample"), note)))


def tokens(num_read: int, num_answered: int) -> dict[str, int]:
    """What the client counts; nothing is charged here."""
    return {"input_tokens": num_read, "output_tokens": num_answered, "finetune_tokens": 0}
