"""Series with known structure, for docs, tests and benchmarks: the same seed gives the same series."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecast.series.calendar import Frequency
from forecast.series.encoding import encode
from forecast.series.panel import Panel


def seasonal(
    *,
    num_series: int = 1,
    num_steps: int = 200,
    season_length: int = 12,
    level: float = 100.0,
    trend: float = 0.1,
    amplitude: float = 10.0,
    noise: float = 1.0,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Level + trend per step + a sine of one season + normal noise, (num_series, num_steps).

    Series differ in phase (uniform) and in amplitude (half to one and a half times the given one).
    """
    generator = np.random.default_rng(seed)
    phases = generator.uniform(0, 2 * np.pi, (num_series, 1))
    sizes = amplitude * generator.uniform(0.5, 1.5, (num_series, 1))
    steps = np.arange(num_steps)
    wave = sizes * np.sin(2 * np.pi * steps / season_length + phases)
    return np.asarray(level + trend * steps + wave + generator.normal(0, noise, (num_series, num_steps)))


def random_walk(
    *, num_series: int = 1, num_steps: int = 200, level: float = 100.0, noise: float = 1.0, seed: int = 0
) -> NDArray[np.float64]:
    """Sums of normal steps from `level` on, (num_series, num_steps): nothing beats the naive forecast."""
    steps = np.random.default_rng(seed).normal(0, noise, (num_series, num_steps))
    steps[:, 0] = 0.0
    return np.asarray(level + np.cumsum(steps, axis=1))


def as_frame(values: NDArray[Any], *, freq: str | int = "D", start: Any = "2020-01-01") -> pd.DataFrame:
    """Values (num_series, num_steps) as a long frame `unique_id, ds, y`; the ids are s0, s1, ..."""
    num_series, num_steps = values.shape
    stamps = _grid(freq).stamps(_start(freq, start), num_steps)
    ids = np.repeat(np.array([f"s{place}" for place in range(num_series)], dtype=object), num_steps)
    return pd.DataFrame({"unique_id": ids, "ds": np.tile(stamps, num_series), "y": values.ravel()})


def as_panel(values: NDArray[Any], *, freq: str | int = "D", start: Any = "2020-01-01") -> Panel:
    """Values (num_series, num_steps) as a panel; the ids are s0, s1, ..."""
    num_series, num_steps = values.shape
    lengths = np.full(num_series, num_steps, dtype=np.int64)
    ids = np.array([f"s{place}" for place in range(num_series)], dtype=object)
    encoded = encode(
        np.ascontiguousarray(values, dtype=np.float64).ravel(), lengths.cumsum() - lengths, lengths
    )
    starts = np.repeat(_grid(freq).stamps(_start(freq, start), 1), num_series)
    return Panel.build(ids, encoded, lengths, starts, freq=_grid(freq))


def _grid(freq: str | int) -> Frequency:
    return Frequency.parse(freq)


def _start(freq: str | int, start: Any) -> Any:
    return 0 if _grid(freq).is_integer and not isinstance(start, int) else start
