"""Anomalies in NAB's series: counted as the benchmark says, and found better than by a seasonal z-score."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.nab import Labelled, Score, compare
from tests.builders import shared_data

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "nab.py"


def labelled(*windows: tuple[int, int], missing: tuple[int, ...] = ()) -> Labelled:
    """A hundred hours, of which the first twenty are for learning."""
    ds = pd.date_range("2020-01-01", periods=100, freq="h")
    y = np.arange(100.0)
    y[list(missing)] = np.nan
    frame = pd.DataFrame({"unique_id": "a", "ds": ds, "y": y})
    return Labelled(frame=frame, num_learnt=20, windows=[(ds[first], ds[last]) for first, last in windows])


@pytest.mark.parametrize(
    ("flagged", "windows", "expected"),
    [
        ([], [(50, 60)], Score(num_values=80, num_windows=1)),
        (
            [55, 56, 59],
            [(50, 60)],
            Score(num_values=80, num_flagged=3, num_right=3, num_windows=1, num_found=1),
        ),
        (
            [48, 49, 50, 70, 71, 80],
            [(50, 60), (90, 95)],
            Score(num_values=80, num_flagged=6, num_right=1, num_false=2, num_windows=2, num_found=1),
        ),
        ([3, 25], [(15, 30)], Score(num_values=69)),
    ],
    ids=["nothing", "one window", "an alarm may reach into a window", "windows that begin too early"],
)
def test_flags_are_compared_with_windows(
    flagged: list[int], windows: list[tuple[int, int]], expected: Score
) -> None:
    assert compare(labelled(*windows), np.isin(np.arange(100), flagged)) == expected


def test_missing_values_count_nothing() -> None:
    score = compare(labelled((50, 60), missing=(55,)), np.isin(np.arange(100), [55]))
    assert (score.num_values, score.num_flagged, score.num_found) == (79, 0, 0)


@pytest.mark.slow
def test_calibrated_intervals_beat_a_seasonal_z_score_at_the_same_level() -> None:
    files = ["--data", str(shared_data("nab_known_cause.parquet"))]
    files += ["--labels", str(shared_data("nab_known_cause_labels.json"))]
    command = [sys.executable, str(SCRIPT), *files, "--levels", "99", "99.9"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    f1 = {(line["level"], line["detector"]): line["f1"] for line in lines}
    for level in (99, 99.9):
        for detector in ("one_step", "h24"):
            assert f1[level, detector] > 1.2 * f1[level, "seasonal_z"]
    assert all(line["windows"] == 18 and 0 < line["recall"] <= 1 for line in lines)
