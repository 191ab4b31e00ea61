"""Metrics against slow, obvious loops and against utilsforecast."""

import math

import numpy as np
import pandas as pd
import pytest
from utilsforecast import losses

from forecast.evaluation.metrics import (
    METRICS,
    column_names,
    coverage,
    quantile_columns,
    row_losses,
    score,
    score_by,
    unscaled,
)

LEVELS = (0.025, 0.1, 0.5, 0.9, 0.975)


def frame(num_series: int = 3, num_windows: int = 4, horizon: int = 5, seed: int = 0) -> pd.DataFrame:
    """Random forecasts with some missing targets."""
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [[f"s{i}" for i in range(num_series)], range(num_windows), range(1, horizon + 1)],
        names=["unique_id", "cutoff", "step"],
    )
    rows = index.to_frame(index=False)
    rows["y"] = rng.normal(10, 3, len(rows))
    rows.loc[rng.random(len(rows)) < 0.1, "y"] = np.nan
    quantiles = np.sort(rng.normal(10, 3, (len(rows), 5)), axis=1)
    for place, name in enumerate(column_names(LEVELS)):
        rows[name] = quantiles[:, place]
    rows["mase_scale"] = rows["unique_id"].map({"s0": 2.0, "s1": 3.0, "s2": np.nan})
    rows["cutoff_step"] = rows["cutoff"]
    rows["in_sample"] = False
    return rows


def slow(rows: pd.DataFrame) -> dict[str, float]:
    """Every metric by a loop over rows."""
    errors, squares, relative, scaled, loss, size = [], [], [], [], 0.0, 0.0
    inside: dict[int, list[bool]] = {80: [], 95: []}
    widths: dict[int, list[float]] = {80: [], 95: []}
    for row in rows.to_dict("records"):
        y, median = row["y"], row["median"]
        if math.isnan(y):
            continue
        errors.append(abs(y - median))
        squares.append((y - median) ** 2)
        relative.append(200 * abs(y - median) / (abs(y) + abs(median)))
        if row["mase_scale"] > 0:
            scaled.append(abs(y - median) / row["mase_scale"])
        for level, column in quantile_columns(rows).items():
            q = row[column]
            loss += 2 * (level * (y - q) if y >= q else (1 - level) * (q - y)) / len(LEVELS)
        size += abs(y)
        for percent, own in inside.items():
            own.append(row[f"lo-{percent}"] <= y <= row[f"hi-{percent}"])
            widths[percent].append(row[f"hi-{percent}"] - row[f"lo-{percent}"])
    return {
        "mae": float(np.mean(errors)),
        "rmse": math.sqrt(float(np.mean(squares))),
        "smape": float(np.mean(relative)),
        "mase": float(np.mean(scaled)) if scaled else math.nan,
        "wql": loss / size,
        "coverage_80": float(np.mean(inside[80])),
        "coverage_95": float(np.mean(inside[95])),
        "width_80": float(np.mean(widths[80])),
        "width_95": float(np.mean(widths[95])),
    }


def test_every_metric_equals_the_obvious_loop() -> None:
    assert score(frame()) == pytest.approx(slow(frame()), nan_ok=True)


@pytest.mark.parametrize("by", ["unique_id", "step"])
def test_groups_are_scored_as_if_they_were_everything(by: str) -> None:
    table = score_by(frame(), by)
    assert list(table.columns) == list(METRICS)
    for name, rows in frame().groupby(by):
        assert table.loc[name].to_dict() == pytest.approx(slow(rows), nan_ok=True)


def test_wql_equals_the_scaled_crps_of_utilsforecast() -> None:
    rows = frame().dropna(subset=["y"]).drop(columns="cutoff")
    columns = quantile_columns(rows)
    theirs = losses.scaled_crps(rows, models={"m": list(columns.values())}, quantiles=np.array(list(columns)))
    assert score_by(frame(), "unique_id")["wql"].to_numpy() == pytest.approx(theirs["m"].to_numpy())


def test_rows_in_sample_and_without_target_do_not_count() -> None:
    rows = frame()
    rows.loc[rows["cutoff"] == 0, ["y", "in_sample"]] = [1e9, True]
    assert score(rows) == pytest.approx(score(frame()[frame()["cutoff"] > 0]), nan_ok=True)


def test_a_frame_with_nothing_to_score_gives_nan() -> None:
    rows = frame().assign(in_sample=True)
    assert all(math.isnan(value) for value in score(rows).values())
    assert not len(score_by(rows, "step"))


def test_series_that_never_move_are_named_and_left_out_of_mase_alone() -> None:
    assert unscaled(frame()) == ("s2",)
    still = score_by(frame(), "unique_id").loc[["s2"]]
    assert still["mase"].isna().all()
    assert (still["mae"] > 0).all()


@pytest.mark.parametrize(("y", "median", "smape"), [(0.0, 0.0, 0.0), (1.0, 0.0, 200.0), (3.0, 1.0, 100.0)])
def test_smape_runs_from_0_to_200_percent(y: float, median: float, smape: float) -> None:
    rows = frame(1, 1, 1).assign(y=y, median=median)
    assert score(rows)["smape"] == pytest.approx(smape)
    assert row_losses(rows, "smape") == pytest.approx([smape])


@pytest.mark.parametrize("metric", ["wql", "mae", "rmse", "smape", "mase"])
def test_row_losses_average_to_the_metric(metric: str) -> None:
    rows = frame().dropna(subset=["y"])
    mean = float(np.nanmean(row_losses(rows, metric)))
    expected = {"wql": score(rows)["wql"] * rows["y"].abs().mean(), "rmse": score(rows)["rmse"] ** 2}
    assert mean == pytest.approx(expected.get(metric, score(rows)[metric]))


def test_levels_and_columns_are_inverse() -> None:
    levels = (0.005, 0.01, 0.0225, 0.1, 0.5, 0.9, 0.995)
    names = column_names(levels)
    assert names == ["lo-99", "lo-98", "lo-95.5", "lo-80", "median", "hi-80", "hi-99"]
    assert list(quantile_columns(pd.DataFrame(columns=names))) == pytest.approx(levels)


def test_coverage_of_independent_windows_has_the_binomial_error() -> None:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"unique_id": "a", "cutoff_step": np.arange(2000), "y": rng.normal(size=2000)})
    rows = rows.assign(**{"lo-80": -1.2816, "hi-80": 1.2816})
    found = coverage(rows, 80, horizon=1)
    assert found.estimate.mean == pytest.approx(0.8, abs=0.03)
    assert found.estimate.error == pytest.approx(math.sqrt(0.8 * 0.2 / 2000), rel=0.1)
    assert not found.excludes(0.8)
    assert found.excludes(0.95)


def test_overlapping_windows_make_coverage_less_sure() -> None:
    rng = np.random.default_rng(0)
    blocks = np.repeat(rng.normal(size=100), 20)
    rows = pd.DataFrame({"unique_id": "a", "cutoff_step": np.arange(2000), "y": blocks})
    rows = rows.assign(**{"lo-80": -1.2816, "hi-80": 1.2816})
    assert coverage(rows, 80, horizon=20).estimate.error == pytest.approx(0.04, rel=0.3)
