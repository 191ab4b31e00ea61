"""Figures: which series are shown, and that odd tables draw."""

import io
import math

import numpy as np
import pandas as pd
import pytest

from pipelines import figures
from tests.pipelines.test_gate import forecasts


@pytest.mark.parametrize(
    ("losses", "shown"),
    [
        ([3.0, 1.0, 2.0], [("best", "b"), ("median", "c"), ("worst", "a")]),
        ([3.0, 1.0], [("best", "b"), ("worst", "a")]),
        ([3.0, math.nan], [("the only series", "a")]),
        ([math.nan], []),
    ],
)
def test_the_best_the_median_and_the_worst_series_are_shown(
    losses: list[float], shown: list[tuple[str, str]]
) -> None:
    table = pd.DataFrame({"unique_id": list("abc")[: len(losses)], "wql": losses})
    assert [(label, name) for label, name, _ in figures.extremes(table, "wql")] == shown


@pytest.mark.parametrize("missing", [False, True])
def test_every_figure_draws_with_and_without_observed_values(missing: bool) -> None:
    frame = forecasts(2.0, noise=1.0)
    if missing:
        frame["y"] = np.nan
    by_series = pd.DataFrame({"unique_id": ["a"], "wql": [math.nan if missing else 0.1]})
    by_step = {name: np.array([1.0, math.nan]) for name in ("mae", "coverage_80", "coverage_95")}
    curves = [{"step": 1, "train_loss": 1.0, "validation_loss": None}]
    drawn = [
        figures.fan_charts(frame, by_series, metric="wql", title="gru"),
        figures.error_by_step(by_step, title="gru"),
        figures.calibration(frame, title="gru"),
        figures.residuals(frame, title="gru"),
        figures.loss_curves(curves, title="gru"),
    ]
    for figure in drawn:
        file = io.BytesIO()
        figure.savefig(file, format="png")
        assert file.getvalue().startswith(b"\x89PNG")
