"""What tracking a training in MLflow costs: the same candidate with and without a run.

    python benchmarks/logging_overhead.py --repeats 3
    python benchmarks/logging_overhead.py --cases air_passengers

The default GRU is evaluated as a retrain does it, once bare and once inside a run of an embedded MLflow with
everything a retrain logs of a candidate: parameters, curves, metrics, system metrics, tables, and figures
where a retrain draws them. Once on the recipe `air_passengers`, once on a panel of a hundred hourly series.
Interleaved, medians.

Prints one JSON line per case with the keys case, ours, peer, ratio (seconds of processor time, all threads,
of the candidate with tracking and without) and share: what was spent outside of the evaluation itself, as a
share of it. On a machine with other work the ratio shakes by several percent and the share does not.
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

CASES = ("air_passengers", "panel")
HOURS = 1_000
"""The length of each series of the panel."""


def main() -> None:
    """Print the cases."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--series", type=int, default=100, help="series of the panel")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FORECAST_HOME"] = folder
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        for case in options.cases:
            recipe = built_in() if case == "air_passengers" else of_a_panel(Path(folder), options.series)
            print(json.dumps({"case": case, **measured(recipe, options.repeats)}), flush=True)


def built_in() -> Any:
    """The recipe `air_passengers`."""
    from pipelines import recipe

    return recipe.load("air_passengers")


def of_a_panel(folder: Path, num_series: int) -> Any:
    """A recipe of many noisy daily waves, all of it as the rules would have it."""
    from pipelines.recipe import Recipe

    hours = np.arange(HOURS)
    random = np.random.default_rng(0)
    waves = [
        pd.DataFrame(
            {
                "unique_id": f"wave {number}",
                "ds": pd.Timestamp("2026-01-01") + pd.to_timedelta(hours, unit="h"),
                "y": 50
                + 10 * np.sin(2 * np.pi * (hours + number) / 24)
                + random.normal(size=HOURS).cumsum() / 5,
            }
        )
        for number in range(num_series)
    ]
    pd.concat(waves, ignore_index=True).to_parquet(folder / "waves.parquet")
    return Recipe.model_validate(
        {
            "name": "waves",
            "freq": "h",
            "horizon": 24,
            "candidates": ["gru"],
            "data": {"path": str(folder / "waves.parquet")},
        }
    )


def measured(recipe: Any, repeats: int) -> dict[str, float]:
    """Medians with and without MLflow, and what the first is of the second."""
    from forecast.evaluation.blocks import Blocks
    from pipelines import sources
    from pipelines.retrain import Job

    panel = sources.panel(recipe)
    job = Job(recipe=recipe, panel=panel, fingerprint=panel.fingerprint(), say=lambda line: None)
    num_windows = recipe.backtest.num_windows
    blocks = Blocks.cut(panel, horizon=recipe.horizon, num_windows=num_windows, stride=recipe.stride)
    spec = next(spec for spec in recipe.specs() if spec.backbone == "gru")
    tracked(job, blocks, spec)  # whatever is only done once
    rows = [(*tracked(job, blocks, spec), bare(job, blocks, spec)) for _ in range(repeats)]
    ours, peer = (statistics.median(row[column] for row in rows) for column in (0, 2))
    share = statistics.median((row[0] - row[1]) / row[1] for row in rows)
    return {
        "ours": round(ours, 3),
        "peer": round(peer, 3),
        "ratio": round(ours / peer, 4),
        "share": round(share, 4),
    }


def tracked(job: Any, blocks: Any, spec: Any) -> tuple[float, float]:
    """Seconds with a run, as a retrain spends them, and those of its evaluation alone."""
    from unittest import mock

    from forecast.evaluation import candidates
    from pipelines import checkpoints, retrain, tracking

    evaluate, inside = candidates.evaluate, []

    def timed(*arguments: Any, **named: Any) -> Any:
        began = time.process_time()
        try:
            return evaluate(*arguments, **named)
        finally:
            inside.append(time.process_time() - began)

    experiment = tracking.experiment(job.recipe.name)
    with (
        tracking.run(experiment, name="overhead", tags={}) as parent,
        mock.patch.object(candidates, "evaluate", timed),
    ):
        began = time.process_time()
        retrain._try(job, parent, spec, blocks)
        seconds = time.process_time() - began
    checkpoints.forget(job.recipe.name)  # else the next one would go on from its end
    return seconds, inside[0]


def bare(job: Any, blocks: Any, spec: Any) -> float:
    """Seconds without MLflow, with the checkpoints of a retrain."""
    from forecast.evaluation.candidates import evaluate
    from pipelines import checkpoints

    began = time.process_time()
    evaluate(spec, job.panel, blocks, job.config)
    seconds = time.process_time() - began
    checkpoints.forget(job.recipe.name)
    return seconds


if __name__ == "__main__":
    main()
