"""Does the service keep its memory and its answers over many requests and reloads?

    python benchmarks/soak.py [--requests 1000000] [--reloads 200] [--workers 1]

Starts `forecast serve` beside a real registry, asks with 16 connections (wrk) and moves the alias from one
version to the other and back all the while. One JSON line at every tenth of the way (requests, reloads,
memory of the largest worker), and one at the end: `case, ours, peer, ratio` where `ours` is the memory at the
end and `peer` that after the first tenth. Exit code 1 where an answer was no 200, or memory grew by more than
a tenth and 20 MB.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.serve import (
    NUM_BODIES,
    Bench,
    Server,
    register,
    report,
    single_body,
    write_lines,
    wrk,
)

GROWTH_MB = 20.0
BURST_SECONDS = 5


def main() -> None:
    """Serve, ask and reload until enough was asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--reloads", type=int, default=200)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--core", type=int, default=0, help="the core of the server")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        parser.exit(1, "wrk is missing: apt-get install wrk\n")
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = Path(scratch)
        os.environ |= {"FORECAST_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
        os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "FORECAST_POLL_SECONDS": "0.2"}
        os.environ |= {"FORECAST_WORKERS": str(options.workers)}
        register(seed=0)
        register(seed=1)
        bench = Bench(folder, options)
        stack.enter_context(bench.generators_elsewhere())
        ours = stack.enter_context(bench.service())
        sys.exit(soak(ours, folder, options))


def soak(ours: Server, folder: Path, options: argparse.Namespace) -> int:
    """Bursts of requests with reloads between and during them; the exit code."""
    lines = write_lines(folder / "bodies.jsonl", [single_body(seed) for seed in range(NUM_BODIES)])
    asked = reloads = errors = 0
    used: list[float] = []
    begun = time.monotonic()
    while asked < options.requests or reloads < options.reloads:
        promote(str(reloads % 2 + 1))
        seconds = BURST_SECONDS if asked < options.requests else 1
        burst = wrk(ours.url, "/v1/forecasts", lines, seconds=seconds)
        asked += round(burst.requests_per_second * seconds)
        errors += burst.num_errors
        reloads += 1
        share = min(asked / options.requests, reloads / options.reloads)
        if share * 10 >= len(used) + 1 or share >= 1:
            used.append(ours.memory_mb())
            line = {"requests": asked, "reloads": reloads, "errors": errors, "memory_mb": round(used[-1], 1)}
            print(json.dumps(line | {"seconds": round(time.monotonic() - begun)}), flush=True)
    report("soak_memory_mb", used[-1], used[0], requests=asked, reloads=reloads, errors=errors)
    has_grown = used[-1] - used[0] > max(GROWTH_MB, 0.1 * used[0])
    return int(bool(errors) or has_grown)


def promote(version: str) -> None:
    """Move the alias."""
    import mlflow

    mlflow.MlflowClient().set_registered_model_alias("bench", "champion", version)


if __name__ == "__main__":
    main()
