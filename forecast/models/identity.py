"""Identity: does a history belong to a series the model was trained on? Answered from hashes alone.

Two kinds of hashes are kept. Ids, and *fingerprints*: hashes of eight consecutive rounded values, of which
the share that fits is kept by a rule on the hash itself, so that a history that starts anywhere in the
training series still meets one of them (Broder, "On the resemblance and containment of documents", 1997).
No value can be read back from either.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

RUN = 8
"""Consecutive values in one fingerprint."""

MIN_DISTINCT = 4
"""Runs with fewer distinct values say nothing about who they belong to."""

MAX_FINGERPRINTS = 65_536
"""Half a megabyte: above it every other fingerprint is dropped until the rest fits."""

CHUNK = 1_000
"""Series whose fingerprints are merged at once."""

MANTISSA_BITS = 13
"""Values are rounded to about four digits, so that the way they were stored does not matter."""


class SeriesSource(Protocol):
    """The part of a panel that identity reads."""

    @property
    def unique_ids(self) -> NDArray: ...

    def y(self, index: int) -> NDArray[np.float64]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Identity:
    """Hashed ids and value fingerprints of the training series."""

    ids: NDArray[np.uint64]
    fingerprints: NDArray[np.uint64]
    thinning: int = 0
    """A fingerprint is kept when its lowest `thinning` bits are zero."""

    @classmethod
    def none(cls) -> "Identity":
        """Knows no series."""
        empty = np.zeros(0, dtype=np.uint64)
        return cls(ids=empty, fingerprints=empty)

    @classmethod
    def of(cls, panel: SeriesSource) -> "Identity":
        """The identity of every series of a panel."""
        kept, thinning = np.zeros(0, dtype=np.uint64), 0
        pending: list[NDArray[np.uint64]] = []
        last = len(panel.unique_ids) - 1
        for index in range(last + 1):
            pending.append(_thin(value_fingerprints(panel.y(index)), thinning))
            if index < last and len(pending) < CHUNK:
                continue
            kept = np.unique(np.concatenate([kept, *pending]))
            pending = []
            while len(kept) > MAX_FINGERPRINTS:
                thinning += 1
                kept = _thin(kept, thinning)
        return cls(ids=np.unique(hash_ids(panel.unique_ids)), fingerprints=kept, thinning=thinning)

    def knows(self, panel: SeriesSource) -> NDArray[np.bool_]:
        """(N,) True for a series known by its id or by its values; False means unknown, not new."""
        known: NDArray[np.bool_] = np.isin(hash_ids(panel.unique_ids), self.ids)
        for index in np.flatnonzero(~known):
            known[index] = self.knows_values(panel.y(int(index)))
        return known

    def knows_values(self, y: NDArray[np.float64]) -> bool:
        """Whether a history (n,) shares a run of values with a training series."""
        if not len(self.fingerprints):
            return False
        return bool(np.isin(_thin(value_fingerprints(y), self.thinning), self.fingerprints).any())

    def tensors(self) -> dict[str, NDArray]:
        """What the artifact keeps under `identity.`; uint64 as int64 bits, which every reader has."""
        return {
            "ids": self.ids.view(np.int64),
            "fingerprints": self.fingerprints.view(np.int64),
            "thinning": np.array([self.thinning], dtype=np.int64),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, NDArray]) -> "Identity":
        """The inverse of `tensors`; an artifact without them knows no series."""
        if not {"ids", "fingerprints", "thinning"} <= set(tensors):
            return cls.none()
        return cls(
            ids=np.ascontiguousarray(tensors["ids"]).view(np.uint64),
            fingerprints=np.ascontiguousarray(tensors["fingerprints"]).view(np.uint64),
            thinning=int(tensors["thinning"][0]),
        )


def hash_ids(unique_ids: Iterable[object]) -> NDArray[np.uint64]:
    """(N,) one hash per id, the same in every process."""
    digests = b"".join(hashlib.blake2b(str(name).encode(), digest_size=8).digest() for name in unique_ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def value_fingerprints(y: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Hashes of the runs of observed values of a series (n,), without those that say nothing."""
    values = _rounded(y[np.isfinite(y)])
    if len(values) < RUN:
        return np.zeros(0, dtype=np.uint64)
    runs = np.lib.stride_tricks.sliding_window_view(values, RUN)
    distinct = (np.diff(np.sort(runs, axis=1), axis=1) != 0).sum(axis=1) + 1
    return _mix(runs[distinct >= MIN_DISTINCT])


def _rounded(y: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Values (n,) as whole numbers that agree for values equal in their first four digits."""
    fraction, exponent = np.frexp(y)
    digits = np.rint(fraction * (1 << MANTISSA_BITS)).astype(np.int64)
    whole: NDArray[np.uint64] = (digits * 4096 + exponent).view(np.uint64)
    return whole


def _mix(runs: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One 64-bit hash per row (n, RUN): multiply, shift and add, position by position (splitmix64)."""
    state = np.full(len(runs), 0x9E3779B97F4A7C15, dtype=np.uint64)
    for column in range(runs.shape[1]):
        state = state + runs[:, column] * np.uint64(0xD1B54A32D192ED03)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    hashes: NDArray[np.uint64] = np.unique(state)
    return hashes


def _thin(hashes: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    kept: NDArray[np.uint64] = hashes[(hashes & np.uint64((1 << bits) - 1)) == 0]
    return kept
