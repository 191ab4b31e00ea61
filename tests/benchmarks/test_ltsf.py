"""The long-horizon benchmark cuts and counts as the protocol says."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ltsf.py"


@pytest.mark.parametrize(("split", "ends"), [("60,20,15", (60, 80, 95)), ("0.7,0.1,0.2", (70, 80, 100))])
def test_naive_errors_are_those_of_an_obvious_loop(
    tmp_path: Path, split: str, ends: tuple[int, int, int]
) -> None:
    generator = np.random.default_rng(0)
    raw = generator.normal(size=(100, 2)).cumsum(axis=0) * [1, 50] + [0, 1000]
    frame = pd.DataFrame(raw, columns=["a", "b"])
    frame.insert(0, "when", pd.date_range("2020-01-01", periods=100, freq="h"))
    frame.to_csv(tmp_path / "wide.csv", index=False)
    command = [sys.executable, str(SCRIPT), "--data", str(tmp_path / "wide.csv"), "--split", split]
    done = subprocess.run(
        [*command, "--horizons", "4", "--models", "naive"], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["model"] for line in lines] == ["naive", "seasonal_naive", "naive"]
    train, validation, test = ends
    scaled = (raw - raw[:train].mean(axis=0)) / raw[:train].std(axis=0)
    for name, (first, last) in {"mse": (validation, test), "val_mse": (train, validation)}.items():
        apart = [scaled[origin : origin + 4] - scaled[origin - 1] for origin in range(first, last - 4 + 1)]
        assert lines[0][name] == pytest.approx(np.mean(np.square(apart)), abs=1e-4)
        assert lines[2][name] == pytest.approx(lines[0][name], abs=2e-4)
    assert set(lines[0]) == {
        "model", "horizon", "mse", "mae", "mse_sd", "val_mse", "seconds", "parameters", "seeds",
    }  # fmt: skip
