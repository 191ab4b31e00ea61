"""Which runtime answers for a model: measured where it serves, and only where both say the same.

`python -m service.measure FOLDER` runs apart from the service, because it loads torch: it compares ONNX
Runtime with torch on histories of many kinds, times both, and prints what it found as one JSON object.
"""

import argparse
import importlib.util
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from forecast.models.artifact import GRAPH, load
from forecast.models.forecaster import Forecaster
from forecast.series.batch import ContextBatch
from service.warm import sample_panel

TOLERANCE = 1e-4
"""Largest difference between the runtimes, relative to the spread of the history, that lets ONNX serve."""
GAIN = 0.8
"""Torch, which takes more memory, serves where it takes less than this share of ONNX Runtime's time."""
ROWS = (1, 32)
REPEATS = 7
BURST_SECONDS = 0.03


def is_measurable(folder: Path) -> bool:
    """Whether there is a choice: a graph, and both packages."""
    packages = ("onnxruntime", "torch")
    return (folder / GRAPH).is_file() and all(importlib.util.find_spec(name) for name in packages)


def measure(folder: Path) -> dict[str, Any]:
    """The runtime that should serve a saved network, the largest difference, and ms by runtime and rows."""
    onnx, torch = (load(folder, runtime=name) for name in ("onnx", "torch"))
    parity = difference(onnx, torch)
    taken: dict[str, dict[str, float]] = {"onnx": {}, "torch": {}}
    for rows in ROWS:
        batch = _batch(onnx, rows)
        fastest = {"onnx": np.inf, "torch": np.inf}
        for _ in range(REPEATS):  # in turns, so that what else the machine does hits both
            for name, each in (("onnx", onnx), ("torch", torch)):
                fastest[name] = min(fastest[name], _seconds(each, batch))
        for name, seconds in fastest.items():
            taken[name][str(rows)] = round(1000 * seconds, 4)
    return {"runtime": choose(parity, taken), "parity": parity, "milliseconds": taken}


def choose(parity: float, taken: dict[str, dict[str, float]]) -> str:
    """onnx or torch."""
    if not parity <= TOLERANCE:
        return "torch"
    ratios = [taken["torch"][str(rows)] / taken["onnx"][str(rows)] for rows in ROWS]
    return "torch" if float(np.prod(ratios)) ** (1 / len(ratios)) < GAIN else "onnx"


def difference(one: Forecaster, other: Forecaster) -> float:
    """The largest difference of two forecasters' quantiles, relative to the spread of each history."""
    batch = _batch(one, 24)
    ours, theirs = (np.asarray(each.backend(batch), dtype=np.float64) for each in (one, other))
    spread = np.nanmax(np.abs(batch.context), axis=1)[:, None, None]
    size = np.maximum(np.maximum(np.abs(theirs), spread), 1e-12)
    found = np.abs(ours - theirs) / size
    return float(found.max()) if np.isfinite(found).all() else float("inf")


def _batch(forecaster: Forecaster, rows: int) -> ContextBatch:
    """Histories of many kinds: walks, seasons, short, gappy, constant and very large or small ones."""
    sample = forecaster._batch(sample_panel(forecaster), forecaster.horizon)
    noise = np.random.default_rng(0)
    length = forecaster.context_length
    walks = np.cumsum(noise.normal(size=(rows, length)), axis=1) + 50
    walks += 10 * np.sin(2 * np.pi * np.arange(length) / max(2, forecaster.info.season_length))
    walks *= 10.0 ** noise.choice([0, 0, 0, 3, 6], size=(rows, 1))
    values = np.abs(walks) + 1  # above zero, which some transforms need
    for row in range(1, rows):
        if row % 4 == 1:
            values[row, : noise.integers(0, length - forecaster.min_context + 1)] = np.nan
        if row % 4 == 2 and length - 1 > forecaster.min_context:
            values[
                row, noise.integers(0, length - 1, size=max(1, (length - forecaster.min_context) // 4))
            ] = np.nan
        if row == 3:
            values[row] = 7.0
    return _with_values(sample, values)


def _with_values(sample: ContextBatch, values: Any) -> ContextBatch:
    plain = ContextBatch.from_raw(values)
    repeated = {
        name: None if (part := getattr(sample, name)) is None else np.repeat(part, len(values), axis=0)
        for name in ("past", "known", "static_numeric", "static_categorical", "calendar")
    }
    return ContextBatch(context=plain.context, level=plain.level, num_observed=plain.num_observed, **repeated)


def _seconds(forecaster: Forecaster, batch: ContextBatch) -> float:
    """Seconds of one pass, from as many as fit a burst."""
    passes = 0
    begun = time.perf_counter()
    while (now := time.perf_counter()) - begun < BURST_SECONDS or not passes:
        forecaster.backend(batch)
        passes += 1
    return (now - begun) / passes


def main() -> None:
    """Print what `measure` finds."""
    parser = argparse.ArgumentParser(prog="python -m service.measure", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    os.nice(10)
    import torch

    torch.set_num_threads(1)  # as the service runs it
    print(json.dumps(measure(folder)))


if __name__ == "__main__":
    main()
