"""Are calibrated intervals true? Coverage on windows after the calibrate block, at several ends of a series.

    python benchmarks/coverage.py --data LONG_FILE --freq h --horizon 24 --until 11660 14540 17420

Each end is a panel of its own, cut off after so many steps (default: whole): fit, select and calibrate come
before, the last `--num-windows` windows, a horizon apart, are judged. Nothing is refitted in between.

Prints one JSON line per end and model: model, horizon, until, windows (cutoffs judged), coverage_80 and
coverage_95 (percent), their standard errors in percentage points (se_80, se_95 as a backtest reports them, by
series and by time; block_se_80, block_se_95 by moving blocks of n ** (1 / 3) cutoffs, null below 8 cutoffs),
wql, seconds.

Source of the moving blocks: Künsch, "The jackknife and the bootstrap for general stationary observations",
The Annals of Statistics 1989.
"""

import argparse
import json
import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import forecast as fc
from forecast.errors import ForecastError

MIN_CUTOFFS = 8
"""Fewer say nothing about blocks in time."""


def main() -> None:
    """Print a line for every end and model."""
    options = parsed()
    freq = int(options.freq) if (options.freq or "").isdigit() else options.freq
    panel = fc.read_parquet(options.data, freq=freq, season_length=options.season_length)
    longest = int(panel.lengths.max())
    for until in options.until or [longest]:
        if not 0 < until <= longest:
            raise SystemExit(f"--until {until} is outside of the series, which have up to {longest} steps")
        shown = panel.drop_last(longest - until) if until < longest else panel
        for model in options.models:
            try:
                print(json.dumps(line(shown, model, options) | {"until": until}), flush=True)
            except ForecastError as error:
                raise SystemExit(f"--until {until}: {error}") from None


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="Parquet: unique_id, ds, y")
    parser.add_argument("--freq", help="of the stamps, as pandas calls it, 1 for steps; inferred without it")
    parser.add_argument("--season-length", type=int, help="by frequency without it")
    parser.add_argument("--horizon", type=int, default=24)
    parser.add_argument("--num-windows", type=int, default=100)
    parser.add_argument(
        "--until", nargs="+", type=int, help="steps that are kept of the longest; all end together"
    )
    models = ["seasonal_naive", "ridge", "lstm", "gru", "transformer"]
    parser.add_argument("--models", nargs="+", default=models)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def line(panel: fc.Panel, model: str, options: argparse.Namespace) -> dict[str, Any]:
    """One model's coverage on the last windows of a panel."""
    result = fc.backtest(
        fc.ModelSpec(backbone=model, horizon=options.horizon),
        panel,
        num_windows=options.num_windows,
        stride=options.horizon,
        config=fc.TrainConfig(seed=options.seed, progress="quiet"),
        baselines=(),
    )
    found: dict[str, Any] = {"model": model, "horizon": options.horizon, "windows": options.num_windows}
    for level in (80, 95):
        shares = inside(result.forecasts, level)
        found[f"coverage_{level}"] = round(100 * float(shares.mean()), 1)
        found[f"se_{level}"] = points(result.coverage[level].estimate.error)
        found[f"block_se_{level}"] = points(block_error(shares))
    return found | {"wql": round(result.metrics["wql"], 4), "seconds": round(result.seconds, 1)}


def inside(forecasts: pd.DataFrame, level: int) -> NDArray[np.float64]:
    """The share of targets inside the interval by cutoff, in the order of time."""
    rows = forecasts[forecasts["y"].notna()]
    hit = rows["y"].between(rows[f"lo-{level}"], rows[f"hi-{level}"])
    return np.asarray(hit.groupby(rows["cutoff_step"]).mean(), dtype=np.float64)


def block_error(shares: NDArray[np.float64]) -> float:
    """The standard error of the mean of shares (n,) that moving blocks in time give; NaN of fewer than 8."""
    if len(shares) < MIN_CUTOFFS:
        return math.nan
    size = math.ceil(len(shares) ** (1 / 3))
    means = np.convolve(shares, np.full(size, 1 / size), mode="valid")
    return float(np.std(means) * math.sqrt(size / len(shares)))


def points(error: float) -> float | None:
    """A standard error in percentage points, None where it is unknown."""
    return round(100 * error, 2) if math.isfinite(error) else None


if __name__ == "__main__":
    main()
