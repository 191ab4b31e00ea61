"""The benchmark of training: which file it reads, and what it refuses."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.train_throughput import series

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "train_throughput.py"


@pytest.mark.parametrize("form", ["csv", "parquet", "index"])
def test_every_series_of_a_wide_file_is_read_and_no_stamp(form: str, tmp_path: Path) -> None:
    values = np.arange(20.0).reshape(10, 2)
    frame = pd.DataFrame(values, columns=["a", "b"])
    frame.insert(0, "date", pd.date_range("2020-01-01", periods=10, freq="h"))
    file = tmp_path / ("wide.csv" if form == "csv" else "wide.parquet")
    if form == "csv":
        frame.to_csv(file, index=False)
    else:
        (frame.set_index("date") if form == "index" else frame).to_parquet(file)
    assert np.array_equal(series(str(file)), values.T)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "3"], "--steps is at least 20"),
        (["--data", "nowhere.csv"], "there is no file nowhere.csv"),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_line(arguments: list[str], message: str) -> None:
    ended = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True)
    assert ended.returncode == 2
    assert message in ended.stderr.splitlines()[-1]
