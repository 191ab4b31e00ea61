"""What was answered beside what came: recorded answers and stored forecasts, joined with a recipe's data.

R answered series, H steps, Q quantile levels
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecast import answered, stored
from forecast.evaluation.metrics import COVERAGES, quantile_columns
from forecast.evaluation.replay import SeasonalScales
from forecast.series.calendar import naive_utc, to_utc
from forecast.series.forecast import between_levels, level_quantiles, number
from forecast.series.panel import Panel
from pipelines.recipe import Recipe
from pipelines.registry import Version
from pipelines.sections import duration_seconds

if TYPE_CHECKING:
    from pipelines.sections import MonitorSection

KEY = ["version", "unique_id", "cutoff", "ds"]
"""What an answer is recognised by: one asked for again counts once."""

UNLIKE_SHARE = 0.5
"""A history of which more than this share of its last values is not in the data was of other data."""


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Answers with what came, in the columns of a forecast frame beside `version`, `source` and `at`."""

    frame: pd.DataFrame
    counts: dict[str, int] = field(default_factory=dict)
    """Answered series: recorded and stored ones, and those that could not be told to belong to the data."""


def join(recipe: Recipe, panel: Panel, versions: Mapping[str, Version]) -> Joined:
    """Everything that was answered by these versions and has come by now.

    Rows that the version was trained on are `in_sample`. Raises DataError where recorded answers cannot be
    read, and SourceError where stored forecasts cannot.
    """
    levels = sorted({*recipe.levels, *COVERAGES})
    since = _since(recipe.monitor)
    counts: Counter[str] = Counter()
    actuals = Actuals(panel)
    parts = [*_recorded(recipe, levels, since, actuals, counts), *_stored(recipe, levels, since, counts)]
    parts = [part[part["version"].isin(list(versions))] for part in parts]
    if not any(len(part) for part in parts):
        return Joined(frame=_empty(levels), counts=dict(counts))
    frame = pd.concat([part for part in parts if len(part)], ignore_index=True)
    frame = frame.sort_values("at", kind="stable").drop_duplicates(KEY, keep="last")
    frame = actuals.beside(frame)
    until = frame["version"].map({each: trained_until(version) for each, version in versions.items()})
    frame["in_sample"] = (frame["ds"] <= until).to_numpy(dtype=bool)
    return Joined(frame=frame.reset_index(drop=True), counts=dict(counts))


def trained_until(version: Version) -> float:
    """The last stamp of a version's training data, in microseconds since 1970 or steps; minus infinity for
    none.
    """
    text = version.tags.get("forecast.trained_until", "None")
    if text in ("", "None"):
        return -np.inf
    return float(text) if text.lstrip("-").isdecimal() else float(np.datetime64(text, "us").astype(np.int64))


class Actuals:
    """The values of a panel, found by series and stamp."""

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        frame = panel.to_frame()
        self.y = frame["y"].to_numpy(dtype=np.float64)
        self.stamps = _numbers(frame["ds"], is_integer=panel.freq.is_integer)
        self.ends = np.cumsum(panel.lengths)
        self._places = pd.Index(panel.unique_ids.astype(str))
        self._known = np.unique(self.stamps)
        owner = np.repeat(np.arange(len(panel)), panel.lengths)
        self._keys = owner * len(self._known) + np.searchsorted(self._known, self.stamps)
        self._scales = SeasonalScales(panel)

    def places(self, unique_ids: Any) -> NDArray[np.int64]:
        """(R,) the place of each series in the panel; -1 for others."""
        return np.asarray(self._places.get_indexer(pd.Index(unique_ids).astype(str)), dtype=np.int64)

    def find(self, places: NDArray[np.int64], stamps: NDArray[np.int64]) -> NDArray[np.int64]:
        """(R,) where the value of a series at a stamp stands in `y`; -1 where there is none."""
        rank = np.searchsorted(self._known, stamps)
        inside = np.minimum(rank, len(self._known) - 1)
        keys = places * len(self._known) + inside
        found = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        there = (places >= 0) & (self._known[inside] == stamps) & (self._keys[found] == keys)
        return np.where(there, found, -1)

    def has(self, stamps: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(R,) whether any series has a step at these stamps."""
        return np.isin(stamps, self._known)

    def tails(self, found: NDArray[np.int64], places: NDArray[np.int64], length: int) -> NDArray[np.float64]:
        """(R, length) the values of a series up to where `find` found one; NaN before its start."""
        steps = found[:, None] - np.arange(length - 1, -1, -1)
        begins = self.ends[places] - np.asarray(self.panel.lengths)[places]
        return np.where(steps >= begins[:, None], self.y[np.maximum(steps, 0)], np.nan)

    def at(self, stamp: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The series that have a value at a stamp, and where it stands."""
        places = np.arange(len(self.panel))
        found = self.find(places, np.full(len(places), stamp))
        return places[found >= 0], found[found >= 0]

    def beside(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows whose value has come, with `y`, `cutoff_step` and `mase_scale`."""
        places = self.places(frame["unique_id"])
        found = self.find(places, frame["ds"].to_numpy(dtype=np.int64))
        came = (found >= 0) & np.isfinite(self.y[found])
        frame, places, found = frame[came], places[came], found[came]
        cutoffs = found - frame["step"].to_numpy(dtype=np.int64)
        ends = self.ends[places]
        seen = cutoffs + 1 - (ends - np.asarray(self.panel.lengths)[places])
        windows, own = np.unique(np.stack([places, np.maximum(seen, 0)]), axis=1, return_inverse=True)
        scales = self._scales.at(windows[0], windows[1])
        return frame.assign(
            y=self.y[found], cutoff_step=cutoffs - ends, mase_scale=scales[np.ravel(own)], in_sample=False
        )


def _recorded(
    recipe: Recipe, levels: Sequence[float], since: datetime | None, actuals: Actuals, counts: Counter[str]
) -> Iterator[pd.DataFrame]:
    """What the service recorded, file by file."""
    for rows in answered.read(recipe.name):
        if since is not None:
            rows = rows[rows["recorded_at"] >= since]
        counts["recorded"] += len(rows)
        shapes = [(len(ds), len(own)) for ds, own in zip(rows["ds"], rows["levels"], strict=True)]
        for shape in sorted(set(shapes)):
            alike = rows[[each == shape for each in shapes]]
            yield from _told_apart(alike, levels, actuals, counts)


def _told_apart(
    rows: pd.DataFrame, levels: Sequence[float], actuals: Actuals, counts: Counter[str]
) -> Iterator[pd.DataFrame]:
    """Rows with as many steps and quantiles each, without those whose history is not in the data."""
    tails = np.full((len(rows), answered.TAIL), np.nan)
    for place, own in enumerate(rows["tail"]):
        tails[place, answered.TAIL - len(own) :] = own
    rows = _in_utc(rows, actuals)
    cutoffs = rows["cutoff"].to_numpy(dtype=np.int64)
    places = actuals.places(rows["unique_id"].fillna(""))
    for row in np.flatnonzero(rows["unique_id"].isna().to_numpy()):
        places[row] = _recognised(tails[row], int(cutoffs[row]), actuals)
    found = actuals.find(places, cutoffs)
    alike = _are_alike(tails, actuals.tails(np.maximum(found, 0), np.maximum(places, 0), tails.shape[1]))
    belongs = (places >= 0) & (found >= 0) & alike
    counts["unlike_the_data"] += int((~belongs).sum())
    rows, places = rows[belongs], places[belongs]
    if not len(rows):
        return
    ds = np.stack(rows["ds"].to_list())
    grids = np.stack(rows["levels"].to_list())
    values = np.stack(rows["values"].to_list()).reshape(len(rows), ds.shape[1], grids.shape[1])
    for grid in np.unique(grids, axis=0):
        own = (grids == grid).all(axis=1)
        yield _long(
            rows["version"].astype(str).to_numpy()[own],
            actuals.panel.unique_ids.astype(str)[places[own]],
            cutoffs[belongs][own],
            ds[own],
            _at_levels(grid, values[own], levels),
            at=rows["recorded_at"].to_numpy()[own],
        )


def _in_utc(rows: pd.DataFrame, actuals: Actuals) -> pd.DataFrame:
    """The rows with stamps in UTC: one that the data does not have was told in the time of its zone."""
    zone = actuals.panel.timezone
    if zone is None:
        return rows
    local = ~actuals.has(rows["cutoff"].to_numpy(dtype=np.int64))

    def moved(stamps: Any) -> Any:
        return _numbers(to_utc(np.asarray(stamps).astype("datetime64[us]"), zone), is_integer=False)

    cutoff, ds = rows["cutoff"].to_numpy(dtype=np.int64).copy(), rows["ds"].to_list()
    cutoff[local] = moved(cutoff[local])
    told = [moved(own) if is_local else own for own, is_local in zip(ds, local, strict=True)]
    return rows.assign(cutoff=cutoff, ds=told)


def _recognised(tail: NDArray[np.float64], cutoff: int, actuals: Actuals) -> int:
    """The place of the only series whose last values at a cutoff are these; -1 for none, or several."""
    places, found = actuals.at(cutoff)
    if not len(places) or not np.isfinite(tail).any():
        return -1
    own = actuals.tails(found, places, len(tail))
    alike = _are_alike(np.broadcast_to(tail, own.shape), own, share=0.0)
    return int(places[alike][0]) if alike.sum() == 1 else -1


def _are_alike(
    sent: NDArray[np.float64], data: NDArray[np.float64], *, share: float = UNLIKE_SHARE
) -> NDArray[np.bool_]:
    """(R,) whether histories are those of the data, but for a share that was corrected since."""
    both = np.isfinite(sent) & np.isfinite(data)
    size = np.nanmax(np.abs(np.where(both, data, 0.0)), axis=1, initial=0.0)
    far = both & (np.abs(sent - np.where(both, data, 0.0)) > 1e-5 * np.maximum(size, 1e-30)[:, None])
    count = both.sum(axis=1)
    return np.asarray((count > 0) & (far.sum(axis=1) <= share * count))


def _stored(
    recipe: Recipe, levels: Sequence[float], since: datetime | None, counts: Counter[str]
) -> Iterator[pd.DataFrame]:
    """The forecasts that `[forecast]` has stored."""
    asked = recipe.forecast
    if asked is None:
        return
    output = asked.output or str(stored.default_folder(recipe.name))
    store = stored.open_store(output, model=recipe.name, table=asked.table)
    for frame in store.everything(since=since.isoformat(timespec="seconds") if since else None):
        columns = quantile_columns(frame.dropna(axis="columns", how="all"))
        values = frame[list(columns.values())].to_numpy(dtype=np.float64)[:, None, :]  # (rows, 1, Q)
        told = _at_levels(np.array(list(columns)), values, levels)
        counts["stored"] += len(frame[["version", "unique_id", "cutoff"]].drop_duplicates())
        yield pd.DataFrame(
            {
                "version": frame["version"].astype(str),
                "unique_id": frame["unique_id"].astype(str),
                "cutoff": _parsed(frame["cutoff"]),
                "ds": _parsed(frame["ds"]),
                "step": frame["step"].astype(np.int64),
                "at": pd.to_datetime(frame["stored_at"], utc=True),
                "source": "stored",
                **{name: column[:, 0] for name, column in told.items()},
            }
        ).dropna(subset=["median"])


def _at_levels(
    grid: NDArray[np.float64], values: NDArray[np.float64], levels: Sequence[float]
) -> dict[str, NDArray[np.float64]]:
    """`median`, `lo-80`, `hi-80`, ... (R, H) of quantiles (R, H, Q)."""
    columns = {"median": between_levels(grid, values, 0.5)}
    for level in levels:
        low, high = level_quantiles(level)
        columns[f"lo-{number(level)}"] = between_levels(grid, values, low)
        columns[f"hi-{number(level)}"] = between_levels(grid, values, high)
    return columns


def _long(
    versions: NDArray[Any],
    unique_ids: NDArray[Any],
    cutoffs: NDArray[np.int64],
    ds: NDArray[np.int64],
    columns: Mapping[str, NDArray[np.float64]],
    *,
    at: Any,
) -> pd.DataFrame:
    """One row per series and step."""
    horizon = ds.shape[1]
    return pd.DataFrame(
        {
            "version": np.repeat(versions, horizon),
            "unique_id": np.repeat(unique_ids, horizon),
            "cutoff": np.repeat(cutoffs, horizon),
            "ds": ds.ravel(),
            "step": np.tile(np.arange(1, horizon + 1), len(ds)),
            "at": pd.to_datetime(np.repeat(at, horizon), utc=True),
            "source": "service",
            **{name: column.ravel() for name, column in columns.items()},
        }
    )


def _empty(levels: Sequence[float]) -> pd.DataFrame:
    names = [f"{side}-{number(level)}" for level in levels for side in ("lo", "hi")]
    columns = ["version", "unique_id", "cutoff", "ds", "step", "y", "median", "mase_scale", "cutoff_step"]
    return pd.DataFrame({name: [] for name in [*columns, *names]}).assign(in_sample=np.zeros(0, dtype=bool))


def _parsed(texts: pd.Series) -> NDArray[np.int64]:
    """Stamps as stored forecasts write them."""
    if texts.astype(str).str.fullmatch(r"-?\d+").all():
        return np.asarray(texts.astype(np.int64), dtype=np.int64)
    return _numbers(pd.to_datetime(texts, utc=True, format="ISO8601"), is_integer=False)


def _numbers(stamps: Any, *, is_integer: bool) -> NDArray[np.int64]:
    """Microseconds since 1970 in UTC, or steps as they are."""
    if is_integer:
        return np.asarray(stamps, dtype=np.int64)
    return np.asarray(naive_utc(stamps)).astype("datetime64[us]").astype(np.int64)


def _since(section: "MonitorSection | None") -> datetime | None:
    if section is None or section.max_age is None:
        return None
    return datetime.now(UTC) - timedelta(seconds=duration_seconds(section.max_age))
