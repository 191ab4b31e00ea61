"""The report: figures of what was computed, one page, and what it leaves out."""

import sys

import numpy as np
import pandas as pd
import pytest

from forecast.errors import SpecError
from forecast.evaluation.backtest import Backtest, backtest
from forecast.evaluation.figures import FIGURES, observed_shares, residual_autocorrelation
from forecast.models.spec import ModelSpec
from forecast.series.panel import Panel


def result(freq: str | int = "D") -> Backtest:
    """Three series, one of them constant and one too short for every cutoff."""
    generator = np.random.default_rng(0)
    steps = np.arange(160)
    wave = 50 + 10 * np.sin(2 * np.pi * steps / 7) + generator.normal(size=160)
    start = "2020-01-01" if isinstance(freq, str) else 0
    data = Panel.from_arrays(
        ["wave", "<flat>", "short"], [wave, np.full(160, 3.0), wave[:12]], freq=freq, starts=[start] * 3,
        season_length=7,
    )  # fmt: skip
    return backtest(ModelSpec(backbone="seasonal_naive", horizon=5), data, num_windows=3)


@pytest.mark.parametrize("freq", ["D", 1])
def test_every_figure_is_drawn(freq: str | int) -> None:
    pytest.importorskip("matplotlib")
    drawn = result(freq).report().figures()
    assert list(drawn) == list(FIGURES)
    assert all(figure.axes for figure in drawn.values())


def test_the_page_holds_its_pictures_the_table_and_what_is_left_out() -> None:
    pytest.importorskip("matplotlib")
    page = result().report(title="a < b").to_html()
    assert page.count("data:image/png;base64,") == len(FIGURES)
    assert "<h1>a &lt; b</h1>" in page
    assert "or without movement: &lt;flat&gt;, short." in page
    assert "Too short for one cutoff or more: short." in page
    assert "seasonal_naive" in page
    assert "http" not in page


def test_the_summary_tells_windows_coverage_and_cost() -> None:
    told = result().report().summary()
    assert told.startswith("seasonal_naive: ")
    assert "windows of 5 steps, 3 series" in told
    assert "inside the 80 % interval" in told
    assert told.endswith("seconds.")


def test_a_missing_matplotlib_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SpecError, match="pip install matplotlib"):
        result().report().to_html()


def test_the_calibration_curve_is_the_share_below_each_quantile() -> None:
    rows = pd.DataFrame({"y": [1.0, 2, 3, 4], "lo-80": 1.5, "median": 2.5, "hi-80": 9.0, "in_sample": False})
    levels, shares = observed_shares(rows)
    assert levels == pytest.approx([0.1, 0.5, 0.9])
    assert shares == pytest.approx([0.25, 0.5, 1.0])


def test_errors_that_alternate_are_negatively_correlated_at_one_step() -> None:
    y = np.tile([1.0, -1.0], 20)
    rows = pd.DataFrame({"unique_id": "a", "ds": np.arange(40), "step": 1, "y": y, "median": 0.0})
    values, count = residual_autocorrelation(rows.assign(in_sample=False))
    assert count == 40
    assert values[:2] == pytest.approx([-0.975, 0.95])
