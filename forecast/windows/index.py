"""Which windows exist: all index arithmetic of training and validation.

N series, W windows

A window is named by its series and its origin: how many steps of the series it may see. Its context is
`[origin - context_length, origin)` and its targets `[origin, origin + horizon)`, cut at the series' limit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecast.windows.spec import WindowSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowIndex:
    """Windows numbered through all series, without a list of them."""

    first: NDArray[np.int64]
    """(N,) the first origin of each series."""
    counts: NDArray[np.int64]
    """(N,) windows of each series."""
    limits: NDArray[np.int64]
    """(N,) no target lies at this step or later."""
    stride: int = 1

    @property
    def num_windows(self) -> int:
        """W."""
        return int(self.counts.sum())

    @property
    def ends(self) -> NDArray[np.int64]:
        """(N,) one past the last window number of each series."""
        return np.cumsum(self.counts)

    def locate(self, windows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Series and origins of window numbers (W,)."""
        ends = self.ends
        series = np.searchsorted(ends, windows, side="right")
        within = windows - (ends - self.counts)[series]
        return series, self.first[series] + within * self.stride


def training_windows(
    spec: WindowSpec, *, starts: NDArray[np.int64], limits: NDArray[np.int64]
) -> WindowIndex:
    """Every window with at least one target before its series' limit.

    `starts` (N,) are the first observed steps and `limits` (N,) the ends of what may be learned. The newest
    windows have fewer than `horizon` targets: they teach the nearest steps the newest data.
    """
    first = starts + spec.min_context
    return _index(first, limits - first, limits, spec.stride)


def whole_windows(
    spec: WindowSpec, *, starts: NDArray[np.int64], origins: NDArray[np.int64], limits: NDArray[np.int64]
) -> WindowIndex:
    """The windows from `origins` (N,) on whose targets all lie before the limit.

    Where `stride` does not divide the range, the newest window counts and the oldest is left out.
    """
    first = np.maximum(origins, starts + spec.min_context)
    room = limits - spec.horizon - first  # the last origin less the first
    first = first + np.where(room > 0, room % spec.stride, 0)
    return _index(first, room + 1, limits, spec.stride)


def _index(
    first: NDArray[np.int64], room: NDArray[np.int64], limits: NDArray[np.int64], stride: int
) -> WindowIndex:
    counts = np.maximum(-(-room // stride), 0)
    return WindowIndex(first=first, counts=counts, limits=limits, stride=stride)
