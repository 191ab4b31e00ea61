"""Forecasts of a folder of partitions: as of one file, with flat memory, and going on after a kill."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import bulk
from tests.pipelines.conftest import Command, Trained, sales

PROGRAM = str(Path(sys.executable).with_name("forecast"))


def write_partitions(folder: Path, *, count: int, series: int) -> Path:
    """`count` files with `series` series of 40 days each."""
    folder.mkdir(parents=True)
    days = pd.date_range("2026-03-01", periods=40)
    for part in range(count):
        names = np.repeat([f"s{part}-{number}" for number in range(series)], len(days))
        units = np.random.default_rng(part).normal(100, 10, len(names))
        table = pa.table({"shop": names, "day": np.tile(days, series), "units": units})
        pq.write_table(table, folder / f"part-{part:03}.parquet")
    return folder


def predict(forecast: Command, data: object, output: Path, *more: object) -> pd.DataFrame:
    ended = forecast("predict", "--model", "shop", "--data", data, "--output", output, *more)
    assert ended.code == 0, ended.err
    return pd.read_parquet(output).sort_values(["unique_id", "ds"], ignore_index=True)


def test_a_folder_and_a_pattern_give_what_one_file_gives(
    trained: Trained, forecast: Command, tmp_path: Path
) -> None:
    sales().to_parquet(tmp_path / "all.parquet")
    pq.write_to_dataset(
        pa.Table.from_pandas(sales(), preserve_index=False), tmp_path / "hive", partition_cols=["shop"]
    )
    for name, part in sales().groupby("shop"):
        part.to_csv(tmp_path / f"{name}.csv", index=False)
    whole = predict(forecast, tmp_path / "all.parquet", tmp_path / "one.parquet")
    by_folder = predict(forecast, tmp_path / "hive", tmp_path / "out-hive")
    by_pattern = predict(forecast, f"{tmp_path}/*.csv", tmp_path / "out-csv")
    for parts in (by_folder, by_pattern):
        pd.testing.assert_frame_equal(parts[list(whole.columns)], whole, check_dtype=False)


def test_the_same_again_goes_on_and_a_file_that_changed_is_forecast_anew(
    trained: Trained, forecast: Command, tmp_path: Path
) -> None:
    data = write_partitions(tmp_path / "data", count=3, series=2)
    predict(forecast, data, tmp_path / "out")
    files = sorted((tmp_path / "out").glob("*.parquet"))
    assert [file.name for file in files] == ["part-000.parquet", "part-001.parquet", "part-002.parquet"]
    files[1].unlink()
    os.utime(data / "part-002.parquet", (2e9, 2e9))
    before = [files[0].stat().st_mtime_ns, files[2].stat().st_mtime_ns]
    ended = forecast("predict", "--model", "shop", "--data", data, "--output", tmp_path / "out")
    assert "1 of 3 partitions were forecast before" in ended.err
    assert "wrote 28 rows" in ended.err
    assert files[0].stat().st_mtime_ns == before[0]
    assert files[2].stat().st_mtime_ns > before[1]
    note = json.loads((tmp_path / "out" / bulk.NOTE).read_text())
    assert note == {"model": "shop", "version": "1", "horizon": 7, "levels": [80.0, 95.0]}


def test_what_would_be_wrong_is_refused(trained: Trained, forecast: Command, tmp_path: Path) -> None:
    data = write_partitions(tmp_path / "data", count=2, series=2)
    predict(forecast, data, tmp_path / "out")
    arguments = ("predict", "--model", "shop", "--data", data)
    ended = forecast(*arguments, "--output", tmp_path / "out", "--horizon", 3)
    assert (ended.code, "holds other forecasts (model shop, version 1" in ended.err) == (2, True)
    ended = forecast(*arguments)
    assert (ended.code, "name a folder as --output" in ended.err) == (2, True)
    (tmp_path / "empty").mkdir()
    ended = forecast("predict", "--model", "shop", "--data", tmp_path / "empty", "--output", tmp_path / "b")
    assert (ended.code, "holds no CSV or Parquet file" in ended.err) == (2, True)
    pq.write_table(pq.read_table(data / "part-000.parquet"), data / "part-002.parquet")
    ended = forecast(*arguments, "--output", tmp_path / "out")
    assert (ended.code, "'s0-0' in" in ended.err and "earlier partition" in ended.err) == (2, True)


PEAK = """
import resource, sys
from forecast.cli import main
sys.argv[0] = "forecast"
try:
    main()
finally:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)
"""


@pytest.mark.slow
def test_six_times_the_series_take_the_same_memory(trained: Trained, tmp_path: Path) -> None:
    peaks = []
    for count in (2, 12):
        data = write_partitions(tmp_path / f"data-{count}", count=count, series=3_000)
        arguments = [
            "predict",
            "--model",
            "shop",
            "--data",
            str(data),
            "--output",
            str(tmp_path / f"{count}"),
        ]
        ended = subprocess.run(
            [sys.executable, "-c", PEAK, *arguments], capture_output=True, text=True, check=True
        )
        peaks.append(int(ended.stderr.split("peak ")[1].split()[0]))
    assert peaks[1] < peaks[0] + 60, peaks
