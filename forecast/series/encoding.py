"""Values as float32 relative to a float64 offset and scale per series: small changes at a high level survive.

T flat values, N series
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 18
"""Values encoded at a time, so that float64 temporaries stay small."""

LARGEST = 3.4e38
"""Values have to be smaller in size than this: the largest float32, less a little."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Flat values of N series: in units, `offsets[i] + scales[i] * values`."""

    values: NDArray[np.float32]
    """(T,), NaN where missing."""
    offsets: NDArray[np.float64]
    """(N,) the first observed value; 0 where there is none."""
    scales: NDArray[np.float64]
    """(N,) a power of two, at least 1, of the size of the first observed value."""
    first_observed: NDArray[np.int64]
    """(N,) the step of the first observed value; the length of the series where there is none."""


def encode(y: NDArray[np.float64], begins: NDArray[np.int64], lengths: NDArray[np.int64]) -> Encoded:
    """Encode flat values (T,) in units.

    Series i is `y[begins[i] : begins[i] + lengths[i]]`, NaN where missing.

    Offset and scale depend on the first observed value alone: a later value never changes how an earlier one
    is stored. The scale keeps every difference of two values below `LARGEST` inside float32, and the error of
    a value below 1e-7 of its distance from the first.
    """
    first = first_observed(y, begins, lengths)
    seen = first < lengths
    offsets = np.zeros(len(begins))
    offsets[seen] = y[(begins + first)[seen]]
    scales = power_of_two(offsets)
    values = np.empty(len(y), dtype=np.float32)
    for low in range(0, len(y), _BLOCK):
        block = slice(low, min(low + _BLOCK, len(y)))
        owner = owners(begins, lengths, block.start, block.stop)
        part = (y[block] - offsets[owner]) / scales[owner]
        part[np.isnan(part)] = np.nan  # one bit pattern for missing
        values[block] = part
    return Encoded(values=values, offsets=offsets, scales=scales, first_observed=first)


def power_of_two(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest power of two not above each size, and at least 1."""
    _, exponents = np.frexp(sizes)
    return np.asarray(np.ldexp(1.0, np.maximum(exponents - 1, 0)))


def owners(begins: NDArray[np.int64], lengths: NDArray[np.int64], low: int, high: int) -> NDArray[np.int64]:
    """The series of each flat position from low to high, for series that lie one after the other."""
    ends = begins + lengths
    first, last = np.searchsorted(ends, [low, high - 1], side="right")
    counts = np.minimum(ends[first : last + 1], high) - np.maximum(begins[first : last + 1], low)
    return np.repeat(np.arange(first, last + 1), counts)


def first_observed(
    y: NDArray[np.floating], begins: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The step of each series' first value that is not NaN; its length where there is none."""
    first = np.zeros(len(begins), dtype=np.int64)
    filled = lengths > 0
    late = np.flatnonzero(filled)[np.isnan(y[begins[filled]])]
    if len(late):
        observed = np.append(np.flatnonzero(~np.isnan(y)), len(y))
        next_observed = observed[np.searchsorted(observed, begins[late])]
        first[late] = np.minimum(next_observed - begins[late], lengths[late])
    return first


def flat_indices(begins: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The flat positions of all series, one after the other: (sum of lengths,)."""
    ends = np.cumsum(lengths)
    shift = begins - (ends - lengths)
    return np.asarray(np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(shift, lengths))
