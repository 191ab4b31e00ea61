"""What tracking a training in MLflow costs: the same candidate with and without a run.

    python benchmarks/logging_overhead.py --repeats 3

A GRU of one hourly series is evaluated as a retrain does it, once bare and once inside a run of an embedded
MLflow with everything a retrain logs: parameters, curves, metrics, system metrics, tables and figures.
Interleaved, medians.

Prints one JSON line with the keys case, ours, peer, ratio: seconds of processor time, all threads, of the
candidate with tracking and without.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def main() -> None:
    """Print the case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600, help="optimiser steps of one training")
    parser.add_argument("--length", type=int, default=20_000, help="hours of data")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FORECAST_HOME"] = folder
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        job, blocks, spec = prepared(Path(folder), options)
        tracked(job, blocks, spec)  # whatever is only done once
        pairs = [(tracked(job, blocks, spec), bare(job, blocks, spec)) for _ in range(options.repeats)]
    ours, peer = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    line = {
        "case": "candidate",
        "ours": round(ours, 3),
        "peer": round(peer, 3),
        "ratio": round(ours / peer, 4),
    }
    print(json.dumps(line), flush=True)


def prepared(folder: Path, options: argparse.Namespace) -> tuple[Any, Any, Any]:
    """A retrain's job on one noisy daily wave, its blocks, and the spec of its candidate."""
    from forecast.evaluation.blocks import Blocks
    from pipelines import sources
    from pipelines.recipe import Recipe
    from pipelines.retrain import Job

    hours = np.arange(options.length)
    noise = np.random.default_rng(0).normal(size=options.length)
    frame = pd.DataFrame(
        {
            "unique_id": "wave",
            "ds": pd.Timestamp("2024-01-01") + pd.to_timedelta(hours, unit="h"),
            "y": 10 * np.sin(2 * np.pi * hours / 24) + noise,
        }
    )
    frame.to_parquet(folder / "wave.parquet")
    recipe = Recipe.model_validate(
        {
            "name": "wave",
            "freq": "h",
            "horizon": 24,
            "candidates": ["gru"],
            "data": {"path": str(folder / "wave.parquet")},
            "training": {"max_steps": options.steps},
        }
    )
    panel = sources.panel(recipe)
    job = Job(recipe=recipe, panel=panel, fingerprint=panel.fingerprint(), say=lambda line: None)
    return (
        job,
        Blocks.cut(panel, horizon=24, num_windows=4),
        next(spec for spec in recipe.specs() if spec.backbone == "gru"),
    )


def tracked(job: Any, blocks: Any, spec: Any) -> float:
    """Seconds with a run, as a retrain spends them."""
    from pipelines import retrain, tracking

    experiment = tracking.experiment(job.recipe.name)
    with tracking.run(experiment, name="overhead", tags={}) as parent:
        began = time.process_time()
        retrain._try(job, parent, spec, blocks)
        return time.process_time() - began


def bare(job: Any, blocks: Any, spec: Any) -> float:
    """Seconds without MLflow."""
    from forecast.evaluation.candidates import evaluate
    from pipelines import retrain

    began = time.process_time()
    evaluate(spec, job.panel, blocks, retrain._config(job.recipe))
    return time.process_time() - began


if __name__ == "__main__":
    main()
