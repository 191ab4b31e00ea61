"""Verdicts: the margin, the test, and what the reason says."""

import numpy as np
import pandas as pd
import pytest

from forecast.errors import DataError, SpecError
from forecast.evaluation.compare import compare
from forecast.evaluation.uncertainty import clustered_mean


def frame(
    error: float, *, num_series: int = 1, num_windows: int = 3, noise: float = 0.0, seed: int = 0
) -> pd.DataFrame:
    """Forecasts of 100 that miss by `error` and some noise."""
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_product(
        [range(num_series), range(num_windows), [1, 2]], names=["unique_id", "cutoff", "step"]
    )
    rows = index.to_frame(index=False)
    rows["unique_id"] = rows["unique_id"].astype(str)
    rows["y"] = 100.0
    rows["median"] = 100.0 - error + noise * rng.normal(size=len(rows))
    rows["lo-80"], rows["hi-80"] = rows["median"] - 1, rows["median"] + 1
    rows["mase_scale"], rows["in_sample"] = 2.0, False
    rows["cutoff_step"] = 2 * rows["cutoff"]
    return rows


@pytest.mark.parametrize(
    ("error", "margin", "promote"),
    [(5.0, 0.0, True), (5.0, 0.4, True), (5.0, 0.6, False), (10.0, 0.0, False), (11.0, 0.0, False)],
)
def test_with_few_windows_the_margin_decides(error: float, margin: float, promote: bool) -> None:
    verdict = compare(frame(10), frame(error), metric="mae", margin=margin)
    assert verdict.promote is promote
    assert verdict.p_value is None
    assert "not significant" in verdict.reason


def test_the_reason_reads_like_a_sentence() -> None:
    reason = compare(frame(10), frame(7.83), metric="mae", margin=0.02).reason
    assert reason == "mae 10 -> 7.83 (+21.7 %, margin 2 %, not significant)"


def test_many_windows_promote_only_what_chance_does_not_explain() -> None:
    def many(error: float, seed: int) -> pd.DataFrame:
        return frame(error, num_windows=60, noise=8.0, seed=seed)

    lucky = compare(many(10, seed=1), many(9.8, seed=2), metric="mae")
    assert lucky.improvement != 0
    assert not lucky.promote
    sure = compare(many(10, seed=1), many(5, seed=2), metric="mae")
    assert sure.promote
    assert sure.is_significant
    assert "not significant" not in sure.reason


@pytest.mark.parametrize(("error", "promote"), [(10.0, True), (10.4, True), (10.6, False), (9.0, True)])
def test_a_refresh_has_to_be_not_worse_by_more_than_the_tolerance(error: float, promote: bool) -> None:
    verdict = compare(frame(10), frame(error), metric="mae", tolerance=0.05)
    assert verdict.promote is promote
    assert "tolerance 5 %" in verdict.reason


@pytest.mark.parametrize("metric", ["wql", "mae", "rmse", "smape", "mase"])
def test_every_metric_can_decide(metric: str) -> None:
    assert compare(frame(10), frame(5), metric=metric).promote
    assert not compare(frame(5), frame(10), metric=metric).promote


def test_only_windows_that_both_have_count() -> None:
    worse_elsewhere = frame(5, num_windows=9)
    worse_elsewhere.loc[worse_elsewhere["cutoff"] >= 3, "median"] = -1e6
    verdict = compare(frame(10), worse_elsewhere, metric="mae")
    assert verdict.promote
    assert verdict.num_windows == 3


def test_strangers_and_unknown_metrics_are_refused() -> None:
    with pytest.raises(DataError, match="share no window"):
        compare(frame(1), frame(1).assign(unique_id="x"))
    with pytest.raises(SpecError, match="wql, mae"):
        compare(frame(1), frame(1), metric="accuracy")


def test_a_perfect_incumbent_is_never_beaten() -> None:
    assert not compare(frame(0), frame(0), metric="mae").promote
    assert not compare(frame(0), frame(1), metric="mae").promote


def clustered(values: np.ndarray, series: np.ndarray, steps: np.ndarray, span: int = 1) -> float:
    return clustered_mean(values, series=series, steps=steps, span=span).error


def test_the_error_of_independent_windows_is_the_plain_one() -> None:
    values = np.random.default_rng(0).normal(size=4000)
    found = clustered(values, np.zeros(4000), np.arange(4000))
    assert found == pytest.approx(1 / np.sqrt(4000), rel=0.05)


def test_windows_that_share_targets_count_once() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=400), 10)
    assert clustered(values, np.zeros(4000), np.arange(4000), span=10) == pytest.approx(0.05, rel=0.1)


def test_series_that_move_together_are_no_independent_witnesses() -> None:
    shock = np.random.default_rng(0).normal(size=100)
    values, series = np.tile(shock, 50), np.repeat(np.arange(50), 100)
    found = clustered(values, series, np.tile(np.arange(100), 50))
    assert found == pytest.approx(0.1, rel=0.15)  # 100 shocks, not 5,000 windows


def test_too_few_groups_give_no_error() -> None:
    assert np.isnan(clustered(np.arange(6.0), np.arange(6) % 2, np.arange(6) // 2))
