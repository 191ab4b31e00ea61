"""How often the gate is right: promotions of challengers whose true advantage is known.

    python benchmarks/gate_simulation.py --repeats 400

Two procedures forecast the same windows of one series, side by side and 12 steps long, with errors that are
normal, grow with the step, share most of their course within a window and are 0.8 correlated between the
two; the challenger's are smaller by the true advantage. Their intervals are those of their own errors. Each
simulated pair goes through `fc.compare` as the gate calls it: for another spec (margin 0), and as the check
of a refresh against the champion as it serves (tolerance 2 %, an objection only where it is more than
chance).

Prints one JSON line per number of windows and true advantage, with the keys windows, advantage (share of the
champion's loss), promoted (share of the challengers with another spec), refreshed (share of the refreshes
that meet no objection), repeats.
"""

import argparse
import json

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import forecast as fc
from forecast.evaluation.compare import CONFIDENCE, Verdict

HORIZON = 12
LEVELS = {80: 1.2816, 95: 1.96}
SHARED_BY_MODELS = 0.8
SHARED_IN_WINDOW = 0.7


def main() -> None:
    """Print the rates for every case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--windows", nargs="+", type=int, default=[5, 12, 40])
    parser.add_argument("--advantages", nargs="+", type=float, default=[-0.2, -0.1, 0, 0.05, 0.1, 0.2])
    options = parser.parse_args()
    for num_windows in options.windows:
        for advantage in options.advantages:
            line = rates(num_windows, advantage, repeats=options.repeats)
            print(json.dumps(line), flush=True)


def rates(num_windows: int, advantage: float, *, repeats: int) -> dict[str, float]:
    """How often a challenger with a true advantage passes."""
    random = np.random.default_rng(0)
    promoted, refreshed = 0, 0
    for _ in range(repeats):
        champion, challenger = pair(num_windows, advantage, random)
        promoted += fc.compare(champion, challenger).promote
        refreshed += not is_objection(fc.compare(champion, challenger, tolerance=0.02))
    return {
        "windows": num_windows,
        "advantage": advantage,
        "promoted": round(promoted / repeats, 3),
        "refreshed": round(refreshed / repeats, 3),
        "repeats": repeats,
    }


def is_objection(verdict: Verdict) -> bool:
    """Worse by more than the tolerance, and by more than chance where there is enough to tell."""
    return not verdict.promote and not (verdict.p_value is not None and verdict.p_value <= CONFIDENCE)


def pair(
    num_windows: int, advantage: float, random: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Forecasts of champion and challenger for the same windows."""
    shared = errors(num_windows, random)
    own = [errors(num_windows, random) for _ in range(2)]
    weight = SHARED_BY_MODELS
    both = [np.sqrt(weight) * shared + np.sqrt(1 - weight) * each for each in own]
    return frame(both[0], size=1.0), frame(both[1] * (1 - advantage), size=1 - advantage)


def errors(num_windows: int, random: np.random.Generator) -> NDArray[np.float64]:
    """(W, H) normal errors that grow with the root of the step and are correlated within a window."""
    level = random.normal(size=(num_windows, 1))
    steps = random.normal(size=(num_windows, HORIZON))
    mixed = np.sqrt(SHARED_IN_WINDOW) * level + np.sqrt(1 - SHARED_IN_WINDOW) * steps
    return np.asarray(mixed * np.sqrt(np.arange(1, HORIZON + 1)))


def frame(missed: NDArray[np.float64], *, size: float) -> pd.DataFrame:
    """A backtest's frame of forecasts that miss 100 by so much, with intervals of the right width."""
    num_windows, horizon = missed.shape
    steps = np.tile(np.arange(1, horizon + 1), num_windows)
    stamps = pd.date_range("2026-01-01", periods=num_windows * horizon, freq="D")
    median = 100 + missed.ravel()
    spread = size * np.sqrt(steps)
    columns = {
        "unique_id": "a",
        "cutoff": np.repeat(stamps[::horizon] - pd.Timedelta(days=1), horizon),
        "cutoff_step": np.repeat(np.arange(-num_windows * horizon, 0, horizon), horizon),
        "ds": stamps,
        "step": steps,
        "y": 100.0,
        "median": median,
        "mase_scale": 1.0,
        "in_sample": False,
    }
    for level, score in LEVELS.items():
        columns |= {f"lo-{level}": median - score * spread, f"hi-{level}": median + score * spread}
    return pd.DataFrame(columns)


if __name__ == "__main__":
    main()
