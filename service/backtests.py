"""Rolling origins over histories that were posted: what a served model would have said at earlier cutoffs.

The core of every dialect that looks back: `rolling` or `every_step` choose windows, `replay` forecasts all
of them in few passes. Each window is a series of its own that shares its values with the history it is from.

N series, R windows, H horizon, Q quantile levels
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.errors import ContextError
from forecast.models.forecaster import Forecaster, named
from forecast.series.forecast import Forecast
from forecast.series.panel import Panel
from service.columns import Columns
from service.errors import problem
from service.inference import Parts, chunk_rows
from service.models import Served

IN_SAMPLE, MAY_BE = "in_sample", "may_be_in_sample"


@dataclass(frozen=True, eq=False)
class Windows:
    """Cutoffs: the forecast of each follows the first `seen` steps of the series at `places`."""

    places: NDArray[np.int64]
    """(R,) in ascending order."""
    seen: NDArray[np.int64]
    """(R,) ascending within a series."""

    def __len__(self) -> int:
        return len(self.places)

    def chosen(self, which: NDArray[np.bool_]) -> "Windows":
        """Some of them."""
        return Windows(self.places[which], self.seen[which])

    def counts(self, num_series: int) -> NDArray[np.int64]:
        """(N,) windows of each series."""
        return np.bincount(self.places, minlength=num_series)


@dataclass(frozen=True, kw_only=True, eq=False)
class Replayed:
    """What a model would have said at each cutoff, beside what came."""

    panel: Panel
    windows: Windows
    forecast: Forecast
    """R rows."""
    y: NDArray[np.float64]
    """(R, H) in units, NaN where missing or beyond the history."""
    in_sample: NDArray[np.bool_]
    """(R, H) steps that are not after the model's training data: they count in no metric."""
    notes: tuple[tuple[str, ...], ...]
    """(N,) by series: `in_sample` where it is known as training data, else `may_be_in_sample`; or none."""

    def of_series(self, place: int) -> slice:
        """The rows of one series."""
        first, last = np.searchsorted(self.windows.places, [place, place + 1])
        return slice(int(first), int(last))


def rolling(panel: Panel, *, horizon: int, num_windows: int, stride: int) -> Windows:
    """The last `num_windows` cutoffs of every series, the last one a horizon before its end."""
    back = horizon + stride * np.arange(num_windows - 1, -1, -1)
    seen = panel.lengths[:, None] - back
    places = np.broadcast_to(np.arange(len(panel))[:, None], seen.shape)
    return Windows(places.ravel(), seen.ravel()).chosen(seen.ravel() > 0)


def every_step(panel: Panel, *, last: int | None = None) -> Windows:
    """The cutoff before each step of every series, or before each of its `last` steps."""
    counts = np.maximum(panel.lengths - 1, 0)
    if last is not None:
        counts = np.minimum(counts, last)
    places = np.repeat(np.arange(len(panel)), counts)
    within = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
    return Windows(places, (panel.lengths - counts)[places] + within)


def with_enough(forecaster: Forecaster, panel: Panel, windows: Windows) -> Windows:
    """The windows whose context holds `min_context` observed values; ContextError where none does."""
    observed = np.concatenate([[0], np.cumsum(~np.isnan(panel.values))])
    first = panel.indptr[windows.places]
    begin = np.maximum(windows.seen - forecaster.context_length, 0)
    found = windows.chosen(observed[first + windows.seen] - observed[first + begin] >= forecaster.min_context)
    if not len(found):
        raise ContextError(
            f"no series has {forecaster.min_context} observed values before one of its cutoffs: the longest "
            f"of {named(panel.unique_ids)} has {int(panel.lengths.max())} steps; send longer histories, "
            "or ask for a shorter horizon or later cutoffs"
        )
    return found


def check_count(num_windows: int, horizon: int, served: Served, parts: Parts) -> None:
    """Problem 422 where windows would hold more numbers than the service holds at once."""
    asked, most = (
        num_windows * horizon * len(served.forecaster.quantile_levels),
        parts.settings.max_values,
    )
    if asked > most:
        raise problem(
            "invalid-request",
            f"{num_windows:,} windows of {horizon} steps hold {asked:,} numbers and may hold {most:,}; "
            "send fewer series, or ask for fewer windows or steps",
        )


async def replay(
    served: Served,
    panel: Panel,
    windows: Windows,
    horizon: int,
    parts: Parts,
    is_gone: Callable[[], Awaitable[bool]] | None = None,
    *,
    ys: Sequence[NDArray[np.float64]] = (),
) -> Replayed:
    """The forecasts of all windows, computed in turns with what others ask for, under one deadline.

    ys: the histories as they were sent, for a panel keeps seven digits of them.
    Raises what `Forecaster.predict` raises, and Problem 422 where more numbers are asked for than are held.
    """
    forecaster = served.forecaster
    check_count(len(windows), horizon, served, parts)
    size = chunk_rows(horizon, len(forecaster.quantile_levels))
    deadline = time.monotonic() + parts.settings.request_seconds
    found: list[tuple[NDArray[np.float64], list[list[str]]]] = []
    for start in range(0, len(windows), size):
        part = Windows(windows.places[start : start + size], windows.seen[start : start + size])
        found.append(
            await parts.batcher.submit(
                lambda many: [forecaster.quantiles(_cut(panel, part), horizon) for part in many],
                part,
                rows=len(part),
                key=None,
                is_gone=is_gone,
                deadline=deadline,
                lane="small" if len(windows) <= size and len(part) <= 32 else "bulk",
            )
        )
    return await parts.workers.run(_replayed, forecaster, panel, windows, horizon, found, ys)


def _cut(panel: Panel, windows: Windows) -> Panel:
    """Each window as a series of its own."""
    return panel.select(windows.places).head(windows.seen)


def _replayed(
    forecaster: Forecaster,
    panel: Panel,
    windows: Windows,
    horizon: int,
    found: Sequence[tuple[NDArray[np.float64], list[list[str]]]],
    ys: Sequence[NDArray[np.float64]],
) -> Replayed:
    shown = panel.select(windows.places)
    steps = windows.seen[:, None] + np.arange(horizon)
    ds = shown.stamps_at(steps)
    known = _known(forecaster, panel)
    model = forecaster.info.model
    forecast = Forecast(
        unique_ids=shown.unique_ids,
        ds=ds,
        quantile_levels=np.asarray(forecaster.quantile_levels, dtype=np.float64),
        values=np.concatenate([values for values, _ in found]),
        notes=tuple(tuple(note) for _, notes in found for note in notes),
        freq=panel.freq,
        timezone=panel.timezone,
        lower_bound=model.get("lower_bound"),
        upper_bound=model.get("upper_bound"),
        integer=bool(model.get("integer")),
    )
    in_sample = _early(forecaster, panel, ds, known[windows.places])
    touched = np.zeros(len(panel), dtype=bool)
    np.logical_or.at(touched, windows.places, in_sample.any(axis=1) | (not panel.has_stamps))
    return Replayed(
        panel=panel,
        windows=windows,
        forecast=forecast,
        y=_targets(panel, windows.places, steps, ys),
        in_sample=in_sample,
        notes=tuple(
            ((IN_SAMPLE if known[place] else MAY_BE),) if touched[place] else ()
            for place in range(len(panel))
        ),
    )


def _known(forecaster: Forecaster, panel: Panel) -> NDArray[np.bool_]:
    """(N,) which series are known to be training data."""
    if forecaster.trained_until is None:
        return np.zeros(len(panel), dtype=bool)
    return forecaster.identity.knows(panel)


def _early(
    forecaster: Forecaster, panel: Panel, ds: NDArray[Any], known: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(R, H) steps not after the training data; without stamps every step of a series known by its values."""
    if forecaster.trained_until is None:
        return np.zeros(ds.shape, dtype=bool)
    if not panel.has_stamps:
        return np.broadcast_to(known[:, None], ds.shape).copy()
    return np.asarray(ds <= forecaster.trained_until)


def _targets(
    panel: Panel, places: NDArray[np.int64], steps: NDArray[np.int64], ys: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """(R, H) the values at `steps`: as they were sent where no step was filled in, else of the panel."""
    sent = ys or [np.zeros(0)] * len(panel)
    flat = [y if len(y) == panel.lengths[place] else panel.y(place) for place, y in enumerate(sent)]
    inside = steps < panel.lengths[places][:, None]
    values = np.concatenate(flat)[panel.indptr[places][:, None] + np.where(inside, steps, 0)]
    return np.where(inside, values, np.nan)


# Metrics


def metrics_of(replayed: Replayed, columns: Columns) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The metrics over all series and those of each; None for what cannot be scored."""
    from forecast.evaluation import metrics

    frame = _frame(replayed)
    counts = metrics.countable(frame).groupby("unique_id").size()
    by_series = metrics.score_by(frame, "unique_id")
    inside = _inside(replayed, columns)
    whole = _metrics(metrics.score(frame), int(counts.sum()), inside, slice(None))
    own = []
    for place, name in enumerate(replayed.panel.unique_ids):
        scores = by_series.loc[name].to_dict() if name in by_series.index else {}
        own.append(_metrics(scores, int(counts.get(name, 0)), inside, replayed.of_series(place)))
    return whole, own


def _frame(replayed: Replayed) -> Any:
    """The rows that `forecast.evaluation.metrics` scores."""
    from forecast.evaluation.replay import Replay, SeasonalScales

    windows = replayed.windows
    return Replay(
        unique_ids=replayed.forecast.unique_ids,
        cutoffs=np.zeros(len(windows), dtype=np.int64),
        cutoff_steps=windows.seen - replayed.panel.lengths[windows.places],
        ds=np.zeros(replayed.y.shape, dtype=np.int64),
        y=replayed.y,
        values=replayed.forecast.values,
        scale=np.ones(len(windows)),
        still=np.zeros(len(windows), dtype=bool),
        mase_scale=SeasonalScales(replayed.panel).at(windows.places, windows.seen),
        in_sample=replayed.in_sample,
        quantile_levels=tuple(replayed.forecast.quantile_levels.tolist()),
    ).frame()


def _inside(replayed: Replayed, columns: Columns) -> dict[str, NDArray[np.float64]]:
    """By level as it was sent: (R, H) 1 where the value lies inside, 0 outside, NaN where it counts not."""
    arrays = columns.arrays(replayed.forecast)
    counts = np.isfinite(replayed.y) & ~replayed.in_sample
    return {
        key: np.where(
            counts, (arrays[f"lo-{key}"] <= replayed.y) & (replayed.y <= arrays[f"hi-{key}"]), np.nan
        )
        for key, _ in columns.levels
    }


def _metrics(
    scores: dict[str, float], num_values: int, inside: dict[str, NDArray[np.float64]], rows: slice
) -> dict[str, Any]:
    names = ("mae", "rmse", "smape", "mase", "wql")
    found = {name: finite(scores.get(name, np.nan)) for name in names}
    coverage = {
        key: finite(float(np.nanmean(each[rows]))) if num_values else None for key, each in inside.items()
    }
    return {"num_values": num_values, **found, "coverage": coverage}


def finite(value: float) -> float | None:
    """A number for JSON: None where it is none."""
    return float(value) if np.isfinite(value) else None
