"""A model used on series: histories in, calibrated quantiles in units out.

N series, B windows, L context_length, H trained horizon, S steps asked for, Q quantile levels
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from forecast import __version__
from forecast.errors import (
    ArtifactError,
    ContextError,
    CovariateError,
    DataError,
    EmptyDataError,
    FrequencyError,
    HorizonError,
    ValueRangeError,
)
from forecast.models.calibration import (
    FEW_WINDOWS,
    Calibration,
    context_scale,
    median_index,
    ordered,
)
from forecast.models.identity import Identity
from forecast.models.spec import ModelSpec
from forecast.series.batch import ContextBatch, saturated
from forecast.series.calendar import Frequency
from forecast.series.encoding import LARGEST
from forecast.series.forecast import Forecast
from forecast.series.panel import Panel

FEW_TO_JUDGE = 8
"""Observed values below which no value is called an outlier."""

FORMAT_VERSION = 2
"""Of the artifact folder; raised when an older reader could no longer understand it."""

MAX_CELLS = 16_777_216
"""Context values held at once: a panel is forecast in chunks of so many (64 MiB)."""

POSITIVE_TRANSFORMS = ("log", "relative")
"""Transforms of values above zero."""

ROUNDING = 2.0**-23
"""Share of the largest value below which a relative value may be nothing but float32's rounding."""

NUM_NAMED = 5
"""At most so many ids stand in an error message."""


class Backend(Protocol):
    """What a runtime does: one pass over a batch."""

    def __call__(self, batch: ContextBatch) -> NDArray[np.float32]:
        """Quantiles (B, H, Q) in units relative to `batch.level`, ascending along Q."""
        ...

    def tensors(self) -> dict[str, NDArray]:
        """The weights by name; empty where there are none."""
        ...

    def export_onnx(self, path: Path) -> bool:
        """Write the graph to `path`; False where it has none."""
        ...


def default_min_context(*, season_length: int, context_length: int) -> int:
    """Observed steps a request has to bring: the larger of 3 and one season, at most the context."""
    return min(max(3, season_length), context_length)


@dataclass(frozen=True, kw_only=True)
class ForecasterInfo:
    """What is known about a trained forecaster: the content of `spec.json`."""

    kind: str
    """network or baseline."""
    model: dict[str, Any]
    """The resolved `ModelSpec` as a dictionary."""
    freq: str | int
    season_length: int
    horizon: int
    context_length: int
    min_context: int
    max_horizon: int
    quantile_levels: tuple[float, ...]
    trained_until: str | int | None = None
    """Last stamp of the training data: ISO 8601 in UTC, or an integer step; None: trained on nothing."""
    data_fingerprint: str = ""
    package_version: str = __version__
    timezone: str | None = None
    covariates: dict[str, list[str]] = field(default_factory=dict)
    """Names by kind: past, known, static."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Why a field that the user left open was resolved as it is."""
    holidays: tuple[str, ...] = ()
    """Closed days of a trading calendar, ISO dates."""
    calibration: dict[str, Any] = field(default_factory=dict)
    """How the calibration was made; the numbers are in the tensors."""
    num_series: int = 0
    num_steps: int | None = None
    """Optimiser steps that the weights saw."""
    format_version: int = FORMAT_VERSION

    @classmethod
    def of(
        cls,
        panel: Panel,
        spec: ModelSpec,
        *,
        reasons: dict[str, str] | None = None,
        covariates: dict[str, list[str]] | None = None,
        num_steps: int | None = None,
    ) -> "ForecasterInfo":
        """The info of a model with the resolved `spec`, trained on the whole of `panel`."""
        season_length = spec.season_length or panel.season_length
        context_length = spec.context_length or max(season_length, spec.horizon)
        return cls(
            kind="baseline" if spec.is_baseline else "network",
            model=spec.to_dict(),
            freq=panel.freq.alias,
            season_length=season_length,
            horizon=spec.horizon,
            context_length=context_length,
            min_context=spec.min_context
            or default_min_context(season_length=season_length, context_length=context_length),
            max_horizon=spec.max_horizon or 4 * spec.horizon,
            quantile_levels=tuple(spec.quantile_levels),
            trained_until=stamp_text(panel.last_stamps().max()),
            data_fingerprint=panel.fingerprint(),
            timezone=panel.timezone,
            covariates=covariates or {},
            reasons=reasons or {},
            holidays=tuple(panel.holidays),
            num_series=len(panel),
            num_steps=num_steps,
        )

    @property
    def spec(self) -> ModelSpec:
        """The resolved spec."""
        return ModelSpec.from_dict(self.model)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ForecasterInfo":
        """The info of a `spec.json`; ArtifactError for another format version or a wrong set of keys."""
        version = values.get("format_version")
        if version not in range(1, FORMAT_VERSION + 1):
            raise ArtifactError(
                f"the artifact has format version {version!r} and this package ({__version__}) reads 1 to "
                f"{FORMAT_VERSION}; upgrade the package, or train the model again"
            )
        known = {each.name for each in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ArtifactError(f"spec.json holds unknown keys: {', '.join(unknown)}")
        try:
            tuples = {name: tuple(values.get(name, ())) for name in ("quantile_levels", "holidays")}
            return cls(**{**values, **tuples})
        except TypeError as error:
            raise ArtifactError(f"spec.json lacks what a model needs: {error}") from error


def stamp_text(stamp: Any) -> str | int:
    """A stamp as `spec.json` keeps it: ISO 8601 to the second where that is exact, or the integer step."""
    if not isinstance(stamp, np.datetime64):
        return int(stamp)
    seconds = stamp.astype("datetime64[s]")
    return str(seconds if seconds == stamp else stamp)


@dataclass(frozen=True, kw_only=True, eq=False)
class Forecaster:
    """A trained (or calibrated baseline) model with everything that a forecast needs."""

    info: ForecasterInfo
    backend: Backend
    calibration: Calibration
    identity: Identity = field(default_factory=Identity.none)

    @property
    def horizon(self) -> int:
        """Steps that one pass forecasts."""
        return self.info.horizon

    @property
    def max_horizon(self) -> int:
        """Longest horizon that `predict` answers, by blocks."""
        return self.info.max_horizon

    @property
    def context_length(self) -> int:
        """Past steps that the model sees."""
        return self.info.context_length

    @property
    def min_context(self) -> int:
        """Observed steps that a history has to have within the context."""
        return self.info.min_context

    @property
    def freq(self) -> Frequency:
        """The frequency of the series it forecasts."""
        return Frequency.parse(self.info.freq)

    @property
    def quantile_levels(self) -> tuple[float, ...]:
        return self.info.quantile_levels

    @property
    def trained_until(self) -> np.datetime64 | int | None:
        """Last stamp of the training data."""
        stamp = self.info.trained_until
        return np.datetime64(stamp, "us") if isinstance(stamp, str) else stamp

    def predict(self, panel: Panel, horizon: int | None = None) -> Forecast:
        """Forecast every series of `panel` from its last stamp on, in units, never NaN.

        `horizon` defaults to the trained one; a shorter one gives its first steps, a longer one up to
        `max_horizon` is answered by blocks: the median is fed back and the width grows on. Raises
        FrequencyError, ContextError (naming the series that are too short), EmptyDataError and HorizonError.
        """
        num_steps = self.horizon if horizon is None else horizon
        check_panel(panel)
        self._check_horizon(num_steps)
        self._check_frequency(panel)
        parts = [self._predict_chunk(chunk, num_steps) for chunk in self._chunks(panel)]
        in_sample = self._sample_notes(panel)
        notes = [own for _, each in parts for own in each]
        return Forecast(
            unique_ids=panel.unique_ids,
            ds=self._future_stamps(panel, num_steps),
            quantile_levels=np.asarray(self.quantile_levels, dtype=np.float64),
            values=np.concatenate([values for values, _ in parts]),
            notes=tuple((*own, *sample) for own, sample in zip(notes, in_sample, strict=True)),
            freq=panel.freq,
            timezone=panel.timezone,
            lower_bound=self.info.model.get("lower_bound"),
            upper_bound=self.info.model.get("upper_bound"),
            integer=bool(self.info.model.get("integer")),
        )

    def predict_windows(self, contexts: NDArray[np.floating]) -> NDArray[np.float32]:
        """Quantiles (B, H, Q) in units for raw windows (B, L), left-padded with NaN, all of one frequency.

        What the model registry's example input and the batch path use: no stamps, no notes. ContextError for
        rows with fewer observed values than `min_context`.
        """
        batch = window_batch(_as_numbers(contexts), self.context_length)
        self._check_contexts(batch, [f"row {row}" for row in range(len(batch.level))])
        return self._values(batch, self.horizon, self._lift(batch)).astype(np.float32)

    def can_predict(self, panel: Panel) -> NDArray[np.bool_]:
        """(N,) which series bring at least `min_context` observed values."""
        counts = [chunk.contexts(self.context_length).num_observed for chunk in self._chunks(panel)]
        enough: NDArray[np.bool_] = np.concatenate(counts) >= self.min_context
        return enough

    def _chunks(self, panel: Panel) -> Iterator[Panel]:
        rows = max(1, MAX_CELLS // self.context_length)
        if len(panel) <= rows:
            yield panel
            return
        for start in range(0, len(panel), rows):
            yield panel.select(np.arange(start, min(start + rows, len(panel))))

    def predict_batch(
        self, batch: ContextBatch, horizon: int, *, names: Iterable[Any], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], list[list[str]]]:
        """Quantiles (B, S, Q) in units and notes for contexts cut already, of series `lengths` (B,) long.

        `predict` without its stamps and without the notes about training data: what a service calls that
        forecasts the contexts of many requests at once. Raises ContextError and EmptyDataError naming the
        rows by `names`.
        """
        self._check_contexts(batch, names)
        rolled_out = horizon > self.horizon
        short = lengths < self.context_length
        flat = constant(batch)
        lift = self._lift(batch)
        unlike = {"outlier": has_outlier(batch), **self._unlike_training(batch)}
        if lift is not None:
            unlike["shifted"] = lift > 0
        kinds = {
            (is_short, is_flat): self._notes(short=is_short, constant=is_flat, rolled_out=rolled_out)
            for is_short in (False, True)
            for is_flat in (False, True)
        }
        notes = [list(kinds[kind]) for kind in zip(short.tolist(), flat.tolist(), strict=True)]
        for note, rows in unlike.items():
            for row in np.flatnonzero(rows):
                notes[row].append(note)
        return self._values(batch, horizon, lift), notes

    def quantiles(self, panel: Panel, horizon: int) -> tuple[NDArray[np.float64], list[list[str]]]:
        """Quantiles (N, S, Q) in units and notes: `predict` without its stamps and the notes about training.

        What replays one history at many cutoffs, each a series of `panel`. Raises what `predict` raises.
        """
        check_panel(panel)
        self._check_horizon(horizon)
        self._check_frequency(panel)
        return self._predict_chunk(panel, horizon)

    def _predict_chunk(self, panel: Panel, num_steps: int) -> tuple[NDArray[np.float64], list[list[str]]]:
        batch = self._batch(panel, num_steps)
        return self.predict_batch(batch, num_steps, names=panel.unique_ids, lengths=np.asarray(panel.lengths))

    def _batch(self, panel: Panel, num_steps: int) -> ContextBatch:
        """The contexts, with what the model knows of the future as far as it is asked."""
        panel = self._as_trained(panel)
        calendar = bool(self.info.model.get("calendar")) and panel.has_stamps
        known = bool(self.info.covariates.get("known"))
        blocks = -(-num_steps // self.horizon)
        ahead = num_steps if known else blocks * self.horizon if calendar else 0
        return panel.contexts(self.context_length, horizon=ahead, calendar=calendar)

    def _as_trained(self, panel: Panel) -> Panel:
        """The panel with the covariates and categories of the training, each in its place."""
        return panel.with_covariates(
            past=self.info.covariates.get("past", ()),
            known=self.info.covariates.get("known", ()),
            static_numeric=self.info.model.get("static_numeric") or (),
            static_categories=self.info.model.get("static_categories"),
        )

    def _unlike_training(self, batch: ContextBatch) -> dict[str, NDArray[np.bool_]]:
        """By note, the rows (B,) that lack something beside their values which the model would use."""
        codes, known = batch.static_categorical, batch.known
        notes: dict[str, NDArray[np.bool_]] = {}
        if codes is not None:
            notes["unknown_category"] = np.asarray((codes < 0).any(axis=1))
        if known is not None:
            notes["known_missing"] = np.asarray(np.isnan(known[..., batch.context_length :]).any(axis=(1, 2)))
        if self.info.model.get("calendar") and batch.calendar is None:
            notes["no_calendar"] = np.ones(len(batch), dtype=bool)
        return notes

    def _notes(self, *, short: bool, constant: bool, rolled_out: bool) -> list[str]:
        """The notes of one series in their fixed order, without those about training data."""
        few = 0 < self.calibration.num_windows < FEW_WINDOWS
        wanted = {
            "short_history": short,
            f"baseline:{self.info.model['backbone']}": self.info.kind == "baseline",
            "rolled_out": rolled_out,
            "constant": constant,
            "few_windows": few,
            "uncalibrated": not self.calibration.is_fitted,
        }
        return [note for note, holds in wanted.items() if holds]

    def _sample_notes(self, panel: Panel) -> list[list[str]]:
        """Per series, whether its history ends before the training data did and is part of it."""
        if self.trained_until is None or not len(panel):
            return [[] for _ in range(len(panel))]
        early = np.flatnonzero((panel.last_stamps() < self.trained_until) | (not panel.has_stamps))
        notes: list[list[str]] = [[] for _ in range(len(panel))]
        if len(early):
            known = self.identity.knows(panel.select(early))
            for index, is_known in zip(early, known, strict=True):
                notes[index] = ["in_sample" if is_known else "may_be_in_sample"]
        return notes

    def _values(
        self, batch: ContextBatch, num_steps: int, lift: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        """Quantiles (B, S, Q) in units, bounded and rounded as the spec asks."""
        read = batch if lift is None else replace(batch, level=batch.level + lift)
        relative = self._roll_out(read, num_steps, level=batch.level)
        if (flat := constant(batch)).any():
            relative[flat] -= relative[flat][..., [self._median]]
        values = relative + batch.level[:, None, None]
        return self._bounded(values)

    @property
    def _median(self) -> int:
        return median_index(self.quantile_levels)

    def _roll_out(
        self, batch: ContextBatch, num_steps: int, *, level: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Calibrated quantiles (B, S, Q) relative to the level, block by block with the median fed back.

        The model's own are held to the bounds first, as they were when the calibration was fitted to them;
        `level` (B,) is what the answer will be added to.
        """
        scale = context_scale(batch, self.info.season_length, self.calibration.scale_seasons)
        history = batch.context.astype(np.float64)
        blocks: list[NDArray[np.float64]] = []
        for start in range(0, num_steps, self.horizon):
            current = _block(batch, history, start=start, horizon=self.horizon)
            base = current.level - batch.level
            own = self._clipped(self._pass(current), level + base)
            block = self.calibration.apply(own, scale) + base[:, None, None]
            if blocks:
                block = self._widened(block, blocks[-1], start)
            blocks.append(block)
            if start + self.horizon < num_steps:
                medians = block[..., self._median]
                history = np.concatenate([history, medians], axis=1)[:, -history.shape[1] :]
        whole = blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)
        return whole[:, :num_steps]

    def _pass(self, batch: ContextBatch) -> NDArray[np.float64]:
        """One pass; what a network answers beyond float32 becomes its largest number, NaN the last value."""
        with np.errstate(over="ignore", invalid="ignore"):
            quantiles = np.asarray(self.backend(batch))
        found = quantiles.astype(np.float64)
        if not np.isfinite(found).all():
            largest = float(np.finfo(np.float32).max)
            found = np.nan_to_num(found, nan=0.0, posinf=largest, neginf=-largest)
        return ordered(found, self._median)

    def _widened(
        self, block: NDArray[np.float64], before: NDArray[np.float64], start: int
    ) -> NDArray[np.float64]:
        """A later block: as wide as the calibration's growth says, never narrower than the one before.

        Its quantiles were made as if the fed-back medians had been observed. Step h of a block that starts
        after `start` steps is ((start + h) / h) ** growth wider.
        """
        steps = np.arange(1, self.horizon + 1)
        growth = ((start + steps) / steps) ** self.calibration.growth
        centre = block[..., self._median, None]
        deviation = (block - centre) * growth[:, None]
        earlier = before - before[..., self._median, None]
        lower = np.minimum(np.minimum(deviation, earlier), earlier[:, -1:])
        upper = np.maximum(np.maximum(deviation, earlier), earlier[:, -1:])
        side = np.arange(block.shape[-1]) - self._median
        return centre + np.where(side < 0, lower, np.where(side > 0, upper, 0.0))

    def _bounded(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        rounded = np.rint(values) if self.info.model.get("integer") else values
        return self._clipped(rounded, np.zeros(len(values)))

    def _clipped(self, values: NDArray[np.float64], level: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values (B, S, Q), relative to a level (B,), within the bounds of the spec."""
        lower, upper = (self.info.model.get(f"{side}_bound") for side in ("lower", "upper"))
        if lower is not None:
            values = np.maximum(values, (lower - level)[:, None, None])
        if upper is not None:
            values = np.minimum(values, (upper - level)[:, None, None])
        return values

    def _future_stamps(self, panel: Panel, num_steps: int) -> NDArray[Any]:
        """(N, S) the stamps of a forecast, or numbers of steps where the panel has no stamps."""
        if not panel.has_stamps:
            return panel.lengths[:, None] + np.arange(num_steps)
        return self._with_holidays(panel).future_stamps(num_steps)

    def _with_holidays(self, panel: Panel) -> Panel:
        """The panel with the model's closed days where it came with none."""
        if self.info.freq != "trading" or len(panel.holidays) or not self.info.holidays:
            return panel
        return replace(panel, holidays=self.info.holidays)

    def _check_horizon(self, num_steps: int) -> None:
        if isinstance(num_steps, bool) or not isinstance(num_steps, (int, np.integer)) or num_steps < 1:
            raise HorizonError(
                f"the horizon is {num_steps!r}; it has to be a whole number of at least 1 step"
            )
        if num_steps > self.max_horizon:
            raise HorizonError(
                f"the horizon {num_steps} is beyond the model's max_horizon {self.max_horizon} (trained for "
                f"{self.horizon}); ask for at most {self.max_horizon} steps, or train with a longer horizon"
            )
        if num_steps > self.horizon and self.info.covariates.get("past"):
            raise CovariateError(
                f"the model uses past covariates ({', '.join(self.info.covariates['past'])}), whose future "
                f"is unknown: it forecasts at most its horizon of {self.horizon} steps and got {num_steps}"
            )

    def _check_frequency(self, panel: Panel) -> None:
        if self.freq.is_compatible(panel.freq):
            return
        own, got = (freq.words.split(" (")[0] for freq in (self.freq, panel.freq))
        raise FrequencyError(
            f"the model forecasts {own} series ({self.freq}) and got {got} stamps ({panel.freq}); "
            f"send {own} data, or ask for a model of that frequency"
        )

    def _check_contexts(self, batch: ContextBatch, names: Iterable[Any]) -> None:
        observed = np.asarray(batch.num_observed)
        if not len(observed):
            raise EmptyDataError("there is no series to forecast; send at least one")
        if (observed >= max(1, self.min_context)).all():
            return
        labels = np.asarray(list(names), dtype=object)
        if (empty := observed == 0).any():
            raise EmptyDataError(
                f"all values are missing in the last {self.context_length} steps of {named(labels[empty])}; "
                "leave these series out, or send their observed history"
            )
        short = observed < self.min_context
        raise ContextError(
            f"the model needs at least {self.min_context} observed values and got "
            f"{int(observed[short].min())} for {named(labels[short])}; send a longer history"
        )

    def _lift(self, batch: ContextBatch) -> NDArray[np.float64] | None:
        """(B,) what has to be added to contexts for the model's transform to read them; None for nothing.

        Logarithms and shares of the last value need values above zero. A context that has others is moved up
        until its lowest value is as large as its spread, and what is forecast from it down again.
        """
        if self.info.model.get("transform") not in POSITIVE_TRANSFORMS:
            return None
        lowest, highest = extremes(batch)
        if (lowest > 0).all():
            return None
        spread = np.where(highest > lowest, highest - lowest, np.maximum(np.abs(highest), 1.0))
        return np.where(lowest > 0, 0.0, spread - lowest)


def constant(batch: ContextBatch) -> NDArray[np.bool_]:
    """(B,) windows whose observed values are all the same (the last one is the level, that is 0)."""
    moved = batch.context != 0
    moved &= ~np.isnan(batch.context)
    flat: NDArray[np.bool_] = ~moved.any(axis=1)
    return flat


def has_outlier(batch: ContextBatch) -> NDArray[np.bool_]:
    """(B,) windows in which one value lies as far from the mean as all others together.

    An error or the first of its kind: what is forecast from them says little.
    """
    observed = ~np.isnan(batch.context)
    count = observed.sum(axis=1)
    if observed.all():
        filled = batch.context.astype(np.float64)
    else:
        filled = np.where(observed, batch.context, 0.0).astype(np.float64)
    mean = filled.sum(axis=1) / np.maximum(count, 1)
    distances = np.abs(filled - mean[:, None]) * observed
    largest = distances.max(axis=1)
    return np.asarray((count >= FEW_TO_JUDGE) & (largest > 0) & (largest >= 0.49 * distances.sum(axis=1)))


def extremes(batch: ContextBatch) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(B,) the least and the largest observed value in units; zero where float32 cannot tell it from zero."""
    raw = batch.raw()
    lowest, highest = np.fmin.reduce(raw, axis=1), np.fmax.reduce(raw, axis=1)
    largest = np.maximum(np.abs(batch.level), np.maximum(np.abs(lowest), np.abs(highest)))
    return np.where(np.abs(lowest) <= ROUNDING * largest, 0.0, lowest), highest


def check_panel(panel: object) -> None:
    """DataError for anything but a panel, which frames and files have to become first."""
    if not isinstance(panel, Panel):
        raise DataError(
            f"a panel of series is needed and got {type(panel).__name__}; make one with "
            "fc.from_frame(frame, freq=...), fc.read_csv(path) or fc.read_parquet(path)"
        )


def _as_numbers(contexts: object) -> NDArray[np.float64]:
    try:
        return np.asarray(contexts, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(
            "windows are rows of numbers, all of one length; send NaN where one is missing"
        ) from None


def window_batch(windows: NDArray[np.float64], context_length: int) -> ContextBatch:
    """Raw windows (B, any length) as a batch of the last `context_length` steps, left-padded with NaN."""
    if windows.ndim != 2:
        raise DataError(f"windows are rows of values (B, L); got an array of shape {windows.shape}")
    if (large := (np.abs(windows) >= LARGEST).any(axis=1)).any():
        raise ValueRangeError(
            f"row {int(large.argmax())} holds an infinite value or one beyond ±{LARGEST:g}; correct it, or "
            "send NaN where a value is missing"
        )
    windows = windows[:, -context_length:]
    padding = np.full((len(windows), context_length - windows.shape[1]), np.nan)
    return ContextBatch.from_raw(np.concatenate([padding, windows], axis=1))


def _block(batch: ContextBatch, history: NDArray[np.float64], *, start: int, horizon: int) -> ContextBatch:
    """The batch of the block after `start` steps: its context ends with the medians of the blocks before."""
    length = batch.context_length + horizon
    batch = replace(
        batch,
        known=_ahead(batch.known, start=start, length=length),
        calendar=_ahead(batch.calendar, start=start, length=length),
    )
    if start == 0:
        return batch
    last = history[:, -1]
    return replace(
        batch,
        context=saturated(history - last[:, None]),
        level=batch.level + last,
        num_observed=np.isfinite(history).sum(axis=1, dtype=np.int64),
    )


def _ahead(values: NDArray[np.float32] | None, *, start: int, length: int) -> NDArray[np.float32] | None:
    """`length` steps of (B, K, any) from `start` on, NaN where they are not known."""
    if values is None:
        return None
    part = values[..., start : start + length]
    missing = np.full((*part.shape[:-1], length - part.shape[-1]), np.nan, dtype=np.float32)
    return np.concatenate([part, missing], axis=-1)


def named(ids: NDArray) -> str:
    """Ids for a message: the first few, and how many more there are."""
    shown = ", ".join(repr(str(each)) for each in ids[:NUM_NAMED])
    return shown if len(ids) <= NUM_NAMED else f"{shown} and {len(ids) - NUM_NAMED} more"
