"""Does loading a panel stay linear and lean? One JSON line per case: `case, ours, peer, ratio`.

Loading Parquet is compared with reading the same file into a pandas frame (what most libraries do at
least), memory with the float64 array of the values, growth with the processor time per
series of a panel of ten thousand.

    python benchmarks/panel_scale.py [--largest 1000000] [--steps 200]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

SIZES = (1_000, 10_000, 100_000, 1_000_000)


def main() -> None:
    """Write one file per size, load each in a process of its own, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=300_000, help="most series in a panel")
    parser.add_argument("--steps", type=int, default=200, help="points per series")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    parser.add_argument("--how", choices=["ours", "pandas"], default="ours", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        print(json.dumps(load(options.load, options.how)))
        return
    sizes = sorted({*(size for size in SIZES if size < options.largest), options.largest})
    smallest: float | None = None
    with tempfile.TemporaryDirectory() as folder:
        for num_series in sizes:
            path = write(Path(folder) / "panel.parquet", num_series, options.steps)
            ours, pandas = child(path, "ours"), child(path, "pandas")
            report(f"load_seconds_{num_series}", ours["seconds"], pandas["seconds"])
            report(f"load_cpu_seconds_{num_series}", ours["cpu_seconds"], pandas["cpu_seconds"])
            raw_mb = num_series * options.steps * 8 / 1e6
            report(f"peak_memory_mb_{num_series}", ours["peak_mb"], raw_mb)
            report(f"panel_memory_mb_{num_series}", ours["panel_mb"], raw_mb)
            each = ours["cpu_seconds"] / num_series * 1e6
            smallest = each if smallest is None and num_series >= 10_000 else smallest
            report(f"load_cpu_microseconds_per_series_{num_series}", each, smallest or each)
            report(f"until_milliseconds_{num_series}", ours["until_ms"], ours["seconds"] * 1e3)
            report(f"fingerprint_seconds_{num_series}", ours["fingerprint_seconds"], ours["seconds"])


def report(case: str, ours: float, peer: float) -> None:
    """One line for one case."""
    line = {"case": case, "ours": round(ours, 4), "peer": round(peer, 4), "ratio": round(ours / peer, 3)}
    print(json.dumps(line), flush=True)


def write(path: Path, num_series: int, num_steps: int) -> Path:
    """A long Parquet file of hourly random walks, written in parts so that writing stays lean too."""
    stamps = (np.datetime64("2024-01-01T00", "us") + np.arange(num_steps) * np.timedelta64(1, "h")).astype(
        "datetime64[us]"
    )
    generator = np.random.default_rng(0)
    schema = pa.schema([("unique_id", pa.string()), ("ds", pa.timestamp("us")), ("y", pa.float64())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for low in range(0, num_series, 5_000):
            count = min(5_000, num_series - low)
            ids = pa.array([f"series-{place:07d}" for place in range(low, low + count)])
            rows = pa.array(np.repeat(np.arange(count), num_steps))
            values = np.cumsum(generator.normal(size=(count, num_steps)), axis=1)
            part = [ids.take(rows), pa.array(np.tile(stamps, count)), pa.array(values.ravel())]
            writer.write_table(pa.Table.from_arrays(part, schema=schema))
    return path


def child(path: Path, how: str) -> dict[str, float]:
    """The figures of one loading in a fresh process, so that peaks do not mix."""
    command = [sys.executable, __file__, "--load", str(path), "--how", how]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(result.stdout)
    return figures


def load(path: str, how: str) -> dict[str, float]:
    """Load a file by our reader or by pandas; seconds, and megabytes above those of an idle process."""
    import forecast as fc

    warm = pd.DataFrame({"ds": pd.date_range("2024", periods=30, freq="h"), "y": np.arange(30.0)})
    fc.from_frame(warm, freq="h").until("2024-01-02").fingerprint()  # imports and first calls are not loading
    before = peak_mb()
    started, cpu = time.perf_counter(), time.process_time()
    loaded: Any = fc.read_parquet(path, freq="h") if how == "ours" else pd.read_parquet(path)
    figures = {"seconds": time.perf_counter() - started, "peak_mb": peak_mb() - before}
    figures["cpu_seconds"] = time.process_time() - cpu
    if how == "ours":
        arrays = [value for value in vars(loaded).values() if isinstance(value, np.ndarray)]
        figures["panel_mb"] = sum(array.nbytes for array in arrays) / 1e6
        started = time.perf_counter()
        loaded.until("2024-01-05")
        figures["until_ms"] = (time.perf_counter() - started) * 1e3
        started = time.perf_counter()
        loaded.fingerprint()
        figures["fingerprint_seconds"] = time.perf_counter() - started
    return figures


def peak_mb() -> float:
    """The most memory this process has held so far; where Linux says so, without that of its parent."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
