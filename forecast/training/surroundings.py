"""What a training changes in its process while it runs, and puts back afterwards."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from forecast.models.network import ForecastNetwork

WORK_WORTH_THREADS = 100_000_000
"""Windows in a batch times tokens times parameters from which on a second CPU thread is worth its cost."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's mallopt(3)."""

KEPT = 1 << 30
"""Bytes up to which a buffer is taken from memory that is kept, and up to which free memory is kept."""

USUAL = {M_MMAP_THRESHOLD: 32 << 20, M_TRIM_THRESHOLD: 64 << 20}
"""Where glibc's own rule ends up in a process that has freed large buffers."""


@contextmanager
def repeatable_algorithms(wanted: bool) -> Iterator[None]:
    """Whether torch refuses algorithms that differ from run to run; afterwards as it was before."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextmanager
def enough_threads(network: ForecastNetwork, *, batch_size: int) -> Iterator[None]:
    """One CPU thread for a small network: several would mostly wait for each other."""
    before = torch.get_num_threads()
    spec = network.spec
    num_tokens = -(-(spec.context_length or 1) // (spec.patch_length or 1))
    work = batch_size * num_tokens * sum(parameter.numel() for parameter in network.parameters())
    torch.set_num_threads(1 if work < WORK_WORTH_THREADS else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep memory that is freed for the next step; afterwards what is free goes back to the system.

    glibc maps every buffer from 32 MiB on anew, and a mapping is filled one page fault at a time: for an LSTM
    over many tokens that was half of the time. Without glibc nothing is changed.
    """
    library = _glibc()
    if library is None:
        yield
        return
    for option in USUAL:
        library.mallopt(option, KEPT)
    try:
        yield
    finally:
        for option, usual in USUAL.items():
            library.mallopt(option, usual)
        library.malloc_trim(0)


def _glibc() -> Any:
    """The C library of this process where it is glibc, or None."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows has no library without a name
        return None
    return library if hasattr(library, "gnu_get_libc_version") else None
