"""Batches by one gather on the device: an index in, windows out, nothing copied per series.

B windows, L context_length, H horizon, N series, T flat values, P / K past / known covariates, F calendar
features
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from forecast.series.calendar import calendar_features
from forecast.series.covariates import CovariateRows
from forecast.series.panel import Panel
from forecast.windows.index import WindowIndex
from forecast.windows.spec import WindowSpec
from forecast.windows.transforms import last_observed

MAX_EPOCH_WINDOWS = 1_048_576
"""An epoch is every training window once, or a random draw of so many where there are more."""

CALENDAR_SHARE = 0.1
"""Share of training windows without calendar features, so that a request without stamps is nothing new."""


class Batch(NamedTuple):
    """Windows relative to their level (the last value of the visible context), NaN where missing."""

    context: Float[Tensor, "B L"]
    level: Float[Tensor, " B"]
    target: Float[Tensor, "B H"]
    weight: Float[Tensor, " B"]
    usual_size: Float[Tensor, " B"]
    """The scale that windows of the series usually have; 0 where nothing is known of it."""
    upright: Float[Tensor, " B"]
    """1, and 0 for a window that was turned upside down."""
    past: Float[Tensor, "B P L"] | None = None
    known: Float[Tensor, "B K L+H"] | None = None
    static_numeric: Float[Tensor, "B S"] | None = None
    static_categorical: Int[Tensor, "B C"] | None = None
    calendar: Float[Tensor, "B F L+H"] | None = None


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What training does to windows, so that short and gappy histories and other drifts are nothing new."""

    truncate_share: float = 0.25
    """Windows whose visible context is cut to a length drawn between `min_context` and L."""
    drop_share: float = 0.1
    """Windows that lose a span of up to a quarter of their context."""
    flip_share: float = 0.0
    """Windows that are turned upside down: every value times -1, covariates as they are."""


class Sampler:
    """A panel's flat arrays on a device, and windows of them by number."""

    def __init__(
        self,
        panel: Panel,
        spec: WindowSpec,
        *,
        device: torch.device,
        weights: NDArray[np.float32] | None = None,
        calendar: bool = False,
    ) -> None:
        self.spec = spec
        self.device = device
        self.storage = _storage(panel, device)
        values = torch.from_numpy(panel.values)
        self.values = values.to(self.storage)
        self.begins = self._array(panel.indptr[:-1])
        self.offsets = self._array(panel.offsets)
        self.scales = self._array(panel.scales)
        weights = np.ones(len(panel), dtype=np.float32) if weights is None else weights
        self.weights = self._array(weights.astype(np.float32))
        self.usual_sizes = torch.zeros(len(panel), device=self.storage)
        self.span = torch.arange(-spec.context_length, spec.horizon, device=self.storage)
        self.past = _rows(panel.past, self.storage)
        self.known = _rows(panel.known, self.storage)
        static = panel.static
        self.static_numeric = self._array(static.numeric) if static.numeric_names else None
        self.static_categorical = self._array(static.codes) if static.categorical_names else None
        self.calendar = Calendar(panel, horizon=spec.horizon, device=self.storage) if calendar else None

    def windows(self, index: "DeviceIndex", numbers: Int[Tensor, " B"]) -> Batch:
        """The windows of some numbers, as they are."""
        series, origins = index.locate(numbers)
        return self._batch(series, origins, index.limits[series], visible=None)

    def training_windows(
        self,
        index: "DeviceIndex",
        numbers: Int[Tensor, " B"],
        *,
        augmentation: Augmentation,
        generator: torch.Generator,
    ) -> Batch:
        """The windows of some numbers, at random with part of their context taken away or upside down."""
        series, origins = index.locate(numbers)
        visible = self._visible(len(numbers), augmentation, generator)
        batch = self._batch(series, origins, index.limits[series], visible=visible)
        if augmentation.flip_share:
            flipped = torch.rand(len(numbers), generator=generator, device=self.storage)
            batch = _upside_down(batch, self._moved(flipped < augmentation.flip_share))
        if batch.calendar is None:
            return batch
        keep = torch.rand(len(numbers), generator=generator, device=self.storage) >= CALENDAR_SHARE
        calendar = torch.where(keep.to(self.device)[:, None, None], batch.calendar, torch.nan)
        return batch._replace(calendar=calendar)

    def _batch(self, series: Tensor, origins: Tensor, limits: Tensor, *, visible: Tensor | None) -> Batch:
        length = self.spec.context_length
        steps = origins[:, None] + self.span  # (B, L + H) steps of the series
        inside = (steps >= 0) & (steps < limits[:, None])
        if visible is not None:
            inside[:, :length] &= visible
        flat = (self.begins[series][:, None] + steps).clamp(0, len(self.values) - 1)
        values = torch.where(inside, self.values[flat], torch.nan)
        observed = ~values[:, :length].isnan()
        last = last_observed(torch.where(observed, values[:, :length], 0.0), observed)
        scales, offsets = self.scales[series], self.offsets[series]
        units = (values - last) * scales[:, None].to(values.dtype)
        parts = (
            units[:, :length],
            (offsets + scales * last[:, 0]).to(values.dtype),
            units[:, length:],
            self.weights[series],
            self.usual_sizes[series],
            torch.ones(len(series), dtype=values.dtype, device=self.storage),
            None if self.past is None else self.past.gather(series, steps[:, :length]),
            None if self.known is None else self.known.gather(series, steps),
            None if self.static_numeric is None else self.static_numeric[series],
            None if self.static_categorical is None else self.static_categorical[series],
            None if self.calendar is None else self.calendar.gather(series, steps),
        )
        return Batch(*(None if part is None else self._moved(part) for part in parts))  # type: ignore[arg-type]

    def _visible(self, num_windows: int, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
        """(B, L) what training may see of each context."""
        length, least = self.spec.context_length, min(self.spec.min_context, self.spec.context_length)
        draws = torch.rand(5, num_windows, 1, generator=generator, device=self.storage)
        positions = torch.arange(length, device=self.storage)
        kept = least + (draws[0] * (length - least + 1)).floor()
        kept = torch.where(draws[1] < augmentation.truncate_share, kept, float(length))
        start = draws[2] * length
        size = draws[3] * length / 4 * (draws[4] < augmentation.drop_share)
        inside_span = (positions >= start) & (positions < start + size)
        return (positions >= length - kept) & ~inside_span

    def _array(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.storage)

    def _moved(self, part: Tensor) -> Tensor:
        return part if self.storage == self.device else part.pin_memory().to(self.device, non_blocking=True)


def _upside_down(batch: Batch, flipped: Bool[Tensor, " B"]) -> Batch:
    sign = torch.where(flipped, -1.0, 1.0).to(batch.context.dtype)
    return batch._replace(
        context=batch.context * sign[:, None],
        level=batch.level * sign,
        target=batch.target * sign[:, None],
        upright=(~flipped).to(sign.dtype),
    )


class DeviceIndex:
    """A window index as tensors."""

    def __init__(self, index: WindowIndex, device: torch.device) -> None:
        self.num_windows = index.num_windows
        self.stride = index.stride
        self.ends = torch.from_numpy(index.ends).to(device)
        self.befores = torch.from_numpy(index.ends - index.counts).to(device)
        self.first = torch.from_numpy(index.first).to(device)
        self.limits = torch.from_numpy(index.limits).to(device)

    def locate(self, numbers: Int[Tensor, " B"]) -> tuple[Int[Tensor, " B"], Int[Tensor, " B"]]:
        """Series and origins of window numbers."""
        series = torch.searchsorted(self.ends, numbers, right=True)
        return series, self.first[series] + (numbers - self.befores[series]) * self.stride

    def order(self, *, seed: int, epoch: int) -> Int[Tensor, " W"]:
        """The window numbers of one epoch in their random order, the same for the same seed and epoch."""
        generator = torch.Generator(self.ends.device).manual_seed((seed * 1_000_003 + epoch) % 2**63)
        if self.num_windows <= 16 * MAX_EPOCH_WINDOWS:
            order = torch.randperm(self.num_windows, generator=generator, device=self.ends.device)
            return order[:MAX_EPOCH_WINDOWS]
        return torch.randint(
            self.num_windows, (MAX_EPOCH_WINDOWS,), generator=generator, device=self.ends.device
        )

    def spread(self, most: int) -> Int[Tensor, " W"]:
        """At most so many window numbers, evenly from the first to the last."""
        count = min(self.num_windows, most)
        numbers = torch.arange(count, device=self.ends.device)
        return numbers * (self.num_windows - 1) // max(count - 1, 1)

    @property
    def num_epoch_windows(self) -> int:
        """Windows in one epoch."""
        return min(self.num_windows, MAX_EPOCH_WINDOWS)


class Rows:
    """Covariates over time as tensors."""

    def __init__(self, rows: CovariateRows, device: torch.device) -> None:
        self.values = torch.from_numpy(np.ascontiguousarray(rows.values)).to(device)  # (C, T)
        self.begins = torch.from_numpy(rows.begins).to(device)
        self.lengths = torch.from_numpy(rows.lengths).to(device)
        self.offsets = torch.from_numpy(rows.offsets).to(device)
        self.scales = torch.from_numpy(rows.scales).to(device)

    def gather(self, series: Tensor, steps: Int[Tensor, "B W"]) -> Float[Tensor, "B C W"]:
        """Values in units at steps of series; NaN outside a row."""
        inside = (steps >= 0) & (steps < self.lengths[series][:, None])
        flat = (self.begins[series][:, None] + steps).clamp(0, self.values.shape[1] - 1)
        taken = self.values[:, flat].double()  # (C, B, W)
        units = self.offsets[:, series, None] + self.scales[:, series, None] * taken
        return torch.where(inside, units, torch.nan).float().transpose(0, 1)


def _rows(rows: CovariateRows, device: torch.device) -> Rows | None:
    return Rows(rows, device) if len(rows) else None


class Calendar:
    """Calendar features of every step that a window can reach; series that start together share them."""

    def __init__(self, panel: Panel, *, horizon: int, device: torch.device) -> None:
        keys = panel.starts.tolist() if panel.base_stamps is None else list(range(len(panel)))
        longest: dict[Any, int] = {}
        for series, key in enumerate(keys):
            if key not in longest or panel.lengths[series] > panel.lengths[longest[key]]:
                longest[key] = series
        tables, places, size = [], {}, 0
        for key, series in longest.items():
            steps = np.arange(panel.lengths[series] + horizon)[None]
            stamps = panel.select([series]).stamps_at(steps)
            tables.append(calendar_features(stamps, panel.freq, timezone=panel.timezone)[0].T)
            places[key], size = size, size + steps.shape[1]
        self.table = torch.from_numpy(np.concatenate(tables)).to(device)  # (steps, F)
        self.places = torch.tensor([places[key] for key in keys], device=device)

    def gather(self, series: Tensor, steps: Int[Tensor, "B W"]) -> Float[Tensor, "B F W"]:
        """Features at steps of series; steps before a start count as the start."""
        rows = self.places[series][:, None] + steps.clamp(min=0)
        return self.table[rows.clamp(max=len(self.table) - 1)].transpose(1, 2)


def _storage(panel: Panel, device: torch.device) -> torch.device:
    """Where the panel lies: on the device, or in main memory where it would fill half of the device's."""
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    return device if 2 * panel.values.nbytes < free else torch.device("cpu")
