"""The last points of many series as one rectangle: what a backend is given to predict from.

B series, L context_length, H horizon, P / K past / known covariates, S / C static numeric / categorical, F
features
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class ContextBatch:
    """Contexts relative to a level: in units, `raw = level[:, None] + context`."""

    context: NDArray[np.float32]
    """(B, L), NaN where missing or before the start of the series (series are aligned at their end)."""
    level: NDArray[np.float64]
    """(B,) the last observed value of the context, 0 where nothing was observed."""
    num_observed: NDArray[np.int64]
    """(B,) values of the context that are not missing."""
    past: NDArray[np.float32] | None = None
    """(B, P, L), in units."""
    known: NDArray[np.float32] | None = None
    """(B, K, L + H), in units; NaN where no value was given."""
    static_numeric: NDArray[np.float32] | None = None
    """(B, S)."""
    static_categorical: NDArray[np.int64] | None = None
    """(B, C) codes; -1 where the category was missing or not seen in training."""
    calendar: NDArray[np.float32] | None = None
    """(B, F, L + H), see `forecast.series.calendar.calendar_features`."""

    def __len__(self) -> int:
        return len(self.context)

    @property
    def context_length(self) -> int:
        """L."""
        return int(self.context.shape[1])

    def raw(self) -> NDArray[np.float64]:
        """The contexts in units, (B, L) float64."""
        return self.level[:, None] + self.context.astype(np.float64)

    def rows(self, chosen: slice | NDArray[Any]) -> "ContextBatch":
        """Some of the rows, every part of them."""
        parts: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        taken: dict[str, Any] = {name: None if part is None else part[chosen] for name, part in parts.items()}
        return ContextBatch(**taken)

    @classmethod
    def from_raw(cls, contexts: NDArray[Any]) -> "ContextBatch":
        """A batch of values (B, L) in units, NaN where missing; without covariates."""
        raw = np.asarray(contexts, dtype=np.float64)
        level = last_observed(raw)
        return cls(
            context=saturated(raw - level[:, None]),
            level=level,
            num_observed=(~np.isnan(raw)).sum(axis=1, dtype=np.int64),
        )


def last_observed(rows: NDArray[Any]) -> NDArray[np.float64]:
    """The last value of each row (B, L) that is not NaN; 0 where all are."""
    observed = ~np.isnan(rows)
    position = rows.shape[1] - 1 - observed[:, ::-1].argmax(axis=1)
    last = rows[np.arange(len(rows)), position].astype(np.float64)
    return np.where(observed.any(axis=1), last, 0.0)


def saturated(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """As float32; what would overflow becomes the largest float32, NaN stays."""
    limit = float(np.finfo(np.float32).max)
    return np.clip(values, -limit, limit).astype(np.float32)
