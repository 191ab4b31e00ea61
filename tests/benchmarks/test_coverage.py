"""The coverage benchmark counts what lies inside, at each end, with an error that blocks in time give."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.coverage import block_error

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "coverage.py"


def long_file(folder: Path) -> Path:
    """Two hourly series of noise whose quantiles are known."""
    noise = np.random.default_rng(0).normal(size=(2, 1500))
    stamps = pd.date_range("2024-01-01", periods=1500, freq="h")
    frame = pd.concat(
        pd.DataFrame({"unique_id": name, "ds": stamps, "y": y}) for name, y in zip("ab", noise, strict=True)
    )
    frame.to_parquet(folder / "long.parquet")
    return folder / "long.parquet"


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True)


def test_noise_is_covered_as_often_as_the_level_says_at_each_end(tmp_path: Path) -> None:
    command = ["--data", str(long_file(tmp_path)), "--freq", "h", "--horizon", "6", "--num-windows", "40"]
    done = ran(*command, "--models", "seasonal_naive", "--until", "1200", "1500")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["until"] for line in lines] == [1200, 1500]
    for line in lines:
        assert line["coverage_80"] == pytest.approx(80, abs=4 * line["se_80"])
        assert 0.5 < line["block_se_80"] < 4
        assert line["windows"] == 40


def test_an_end_outside_of_the_series_is_told_in_a_line(tmp_path: Path) -> None:
    done = ran("--data", str(long_file(tmp_path)), "--until", "1501", "--models", "naive")
    assert done.returncode == 1
    assert done.stderr.strip() == "--until 1501 is outside of the series, which have up to 1500 steps"


def test_blocks_in_time_see_what_neighbours_share() -> None:
    shares = np.repeat(np.random.default_rng(0).normal(size=250), 4)
    assert block_error(np.random.default_rng(1).normal(size=1000)) == pytest.approx(1000**-0.5, rel=0.3)
    assert block_error(shares) == pytest.approx(250**-0.5, rel=0.35)
    assert np.isnan(block_error(np.ones(7)))
