"""On which grid the histories of the nixtla client lie: frequency and first stamps, as far as sent."""

import re

import numpy as np
from numpy.typing import NDArray

from forecast.errors import DataError, FrequencyError
from forecast.models.forecaster import Forecaster
from forecast.series.calendar import Frequency
from service.nixtla.payload import SeriesSent
from service.rows import frequency
from service.stamps import to_array

INTEGER_TIME = "MS"
"""What the client sends for integer stamps, then without first stamps."""
TRADING_DAYS = ("B", "C")
"""How pandas calls business days, without and with holidays."""
_OFFSETS = {"years": "YS", "months": "MS", "weeks": "W", "days": "D", "hours": "h", "minutes": "min"}
_LAST = np.datetime64("9999-12-31T23:59:59.999999", "us")
_WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")


def grid_of(sent: str | None, series: SeriesSent, forecaster: Forecaster) -> Frequency:
    """The frequency of the histories; FrequencyError where it is not the model's."""
    own = frequency(forecaster.info.freq)
    has_dates = series.start_datetime is not None
    if sent is None or (sent == INTEGER_TIME and not has_dates):
        return own
    if own.kind == "trading" and sent in TRADING_DAYS:
        return own
    asked = Frequency.parse(_pandas(sent))
    if own.is_integer and not has_dates:
        return own
    if not asked.is_compatible(own):
        raise FrequencyError(
            f"the model forecasts {own.words} series and the data says {asked.words}; send data of the "
            "model's frequency, or name another model: list_models() says which there are"
        )
    return asked


def _pandas(sent: str) -> str:
    """polars writes minutes as 15m and integers as 1i, pandas a month as <DateOffset: months=1>."""
    minutes = re.fullmatch(r"(\d+)m", sent)
    integers = re.fullmatch(r"(\d+)i", sent)
    offset = re.fullmatch(r"<(?:(\d+) \* )?DateOffsets?: (\w+)=(\d+)>", sent)
    if offset and offset[2] in _OFFSETS:
        return f"{int(offset[1] or 1) * int(offset[3])}{_OFFSETS[offset[2]]}"
    return f"{minutes[1]}min" if minutes else integers[1] if integers else sent


def starts_of(
    series: SeriesSent, grid: Frequency, horizon: int
) -> tuple[Frequency, NDArray[np.datetime64] | None]:
    """The grid and the first stamps on it, on their wall clock; None where none were sent.

    No stamp goes back to the client, which keeps its own. So weeks that begin on another day, and months that
    are counted from another than the first or last, are taken for those of the nearest grid before.
    """
    if series.start_datetime is None or grid.is_integer:
        return grid, None
    if len({stamp.offset for stamp in series.start_datetime}) > 1:
        raise DataError("the first stamps have different UTC offsets; convert the time column to one zone")
    starts = to_array(series.start_datetime)
    if starts.dtype.kind != "M":
        return grid, None
    if grid.unit == "W":
        grid = _weekly(grid, starts[0])
    _, on_grid = grid.locate(starts, starts)
    if not on_grid.all():
        starts = grid.advance(starts, np.zeros(len(starts), dtype=np.int64))
    _check_years(starts, grid, series, horizon)
    return grid, starts


def _weekly(grid: Frequency, start: np.datetime64) -> Frequency:
    day = (int(start.astype("datetime64[D]").astype(np.int64)) + 3) % 7
    return Frequency.parse(f"{grid.multiple}W-{_WEEKDAYS[day]}")


def _check_years(starts: NDArray[np.datetime64], grid: Frequency, series: SeriesSent, horizon: int) -> None:
    step = (grid.advance(starts, 2) - starts).astype(np.float64)
    if (step * (series.sizes + horizon) > (_LAST - starts).astype(np.float64)).any():
        raise DataError("a history and its forecast run beyond the year 9999; correct the stamps")
