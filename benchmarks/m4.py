"""Accuracy on parts of the M4 competition: one network for all series of a frequency, by rule.

    python benchmarks/m4.py --data FOLDER --groups hourly weekly --models gru lstm transformer

The folder holds `m4_GROUP_train.parquet` and `m4_GROUP_test.parquet`, long tables unique_id, ds (integer
steps), y. A model goes the way of a retrain: fitted, selected and calibrated inside the training part,
refitted on all of it, asked once for the horizon of the test part. Nothing is chosen on the test part.

Prints one JSON line per group and model: group, model, smape (percent, 0 to 200), mase, coverage_95,
select_smape (on the training part's select block), seconds, parameters. Means over series and steps as in
the competition, MASE by its seasons (hourly 24, weekly 1).

Source: Makridakis, Spiliotis & Assimakopoulos, "The M4 Competition: 100,000 time series and 61 forecasting
methods", 2020.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import forecast as fc
from benchmarks.ltsf import num_parameters
from forecast.evaluation.blocks import Blocks
from forecast.evaluation.candidates import evaluate, refit_full

SEASONS = {"hourly": (24, 24), "daily": (7, 1), "weekly": (52, 1), "monthly": (12, 12), "quarterly": (4, 4)}
"""The season a model is told, and the one that MASE is scaled by."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The series of one frequency and what came after them."""

    name: str
    panel: fc.Panel
    future: NDArray[np.float64]
    """(N, H) the official test part, in the panel's order."""
    scale: NDArray[np.float64]
    """(N,) what MASE divides by: the mean absolute difference over one season of the training part."""


def main() -> None:
    """Print a line for every group and model."""
    options = parsed()
    for name in options.groups:
        group = read(Path(options.data), name)
        for model in options.models:
            print(json.dumps(line(group, model, options)), flush=True)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", required=True, help="folder with m4_GROUP_train.parquet and m4_GROUP_test.parquet"
    )
    parser.add_argument("--groups", nargs="+", default=["hourly", "weekly"], choices=list(SEASONS))
    baselines = ["naive", "seasonal_naive", "ridge"]
    parser.add_argument("--models", nargs="+", default=[*baselines, "lstm", "gru", "transformer"])
    parser.add_argument("--members", type=int, help="networks that are averaged; by rule without it")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def read(folder: Path, name: str) -> Group:
    """A group's training part as a panel, its test part beside it."""
    season, scored = SEASONS[name]
    train = pd.read_parquet(folder / f"m4_{name}_train.parquet")
    test = pd.read_parquet(folder / f"m4_{name}_test.parquet")
    panel = fc.from_frame(train, freq=1, season_length=season)
    rows = {
        key: own.sort_values("ds")["y"].to_numpy(np.float64)
        for key, own in test.groupby("unique_id", observed=True)
    }
    return Group(
        name=name,
        panel=panel,
        future=np.stack([rows[each] for each in panel.unique_ids]),
        scale=np.array([_scale(panel.y(series), scored) for series in range(len(panel))]),
    )


def _scale(y: NDArray[np.float64], season_length: int) -> float:
    return float(np.nanmean(np.abs(y[season_length:] - y[:-season_length])))


def line(group: Group, model: str, options: argparse.Namespace) -> dict[str, Any]:
    """One model's errors on the test part."""
    began = time.perf_counter()
    spec = fc.ModelSpec(backbone=model, horizon=group.future.shape[1], members=options.members)
    config = fc.TrainConfig(seed=options.seed, progress="quiet")
    blocks = Blocks.cut(group.panel, horizon=spec.horizon, num_windows=1)
    evaluated = evaluate(spec, group.panel, blocks, config)
    forecaster = refit_full(evaluated, group.panel, config)
    answer = forecaster.predict(group.panel)
    low, high = answer.interval(95)
    return {
        "group": group.name,
        "model": model,
        "smape": round(smape(answer.median, group.future), 3),
        "mase": round(float(np.mean(np.abs(answer.median - group.future) / group.scale[:, None])), 4),
        "coverage_95": round(float(np.mean((low <= group.future) & (group.future <= high))), 4),
        "select_smape": round(float(evaluated.select_metrics["smape"]), 3),
        "seconds": round(time.perf_counter() - began, 1),
        "parameters": num_parameters(forecaster),
    }


def smape(forecast: NDArray[np.float64], actual: NDArray[np.float64]) -> float:
    """Mean symmetric percentage error, in percent between 0 and 200."""
    return float(200 * np.mean(np.abs(forecast - actual) / (np.abs(forecast) + np.abs(actual))))


if __name__ == "__main__":
    main()
