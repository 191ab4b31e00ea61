"""What a training asks of its machine: processor, memory and GPUs, sampled beside it for the run's pages."""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Self

FIRST_SECONDS, MOST_SECONDS = 0.5, 10.0
"""Between two samples: often at first, so that a short training has some, then less and less."""

_GPU_FIELDS = ("index", "utilization.gpu", "memory.used", "power.draw")
_GPU_NAMES = ("utilization_percentage", "memory_usage_megabytes", "power_usage_watts")
_MEGABYTE = 1e6


class Sampler:
    """Samples while its block runs; the names are those that MLflow shows under System metrics."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system metrics", daemon=True)
        self._samples: list[dict[str, float | None]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=MOST_SECONDS)

    def points(self) -> Iterator[dict[str, float | None]]:
        """One point per sample: its values, its `step` and `at`, milliseconds since 1970."""
        for step, sample in enumerate(self._samples):
            yield {"step": step, **sample}

    def _run(self) -> None:
        import psutil

        process, pause = psutil.Process(), FIRST_SECONDS
        psutil.cpu_percent()  # the first answer is about nothing
        while not self._ended.wait(pause):
            memory = psutil.virtual_memory()
            values: dict[str, float | None] = {
                "system/cpu_utilization_percentage": psutil.cpu_percent(),
                "system/system_memory_usage_percentage": memory.percent,
                "system/system_memory_usage_megabytes": memory.used / _MEGABYTE,
                "system/process_memory_usage_megabytes": process.memory_info().rss / _MEGABYTE,
            }
            self._samples.append({"at": int(time.time() * 1000), **values, **gpus()})
            pause = min(1.5 * pause, MOST_SECONDS)


def gpus() -> dict[str, float | None]:
    """What every GPU is doing, by NVIDIA's own tool; empty where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    query = [program, f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader,nounits"]
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True)
        return _read(done.stdout)
    return {}


def _read(table: str) -> dict[str, float | None]:
    """Rows of `_GPU_FIELDS` as metrics; what a GPU does not tell ("[N/A]") is left out."""
    found: dict[str, float | None] = {}
    for line in table.strip().splitlines():
        index, *values = (each.strip() for each in line.split(","))
        for name, value in zip(_GPU_NAMES, values, strict=True):
            with suppress(ValueError):
                found[f"system/gpu_{index}_{name}"] = float(value)
    return found
