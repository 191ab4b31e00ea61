"""AutoETS and AutoTheta: fitted to each history, optional, and never an empty answer."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from forecast.errors import ArtifactError, SpecError
from forecast.evaluation.blocks import Blocks
from forecast.evaluation.candidates import evaluate, refit_full
from forecast.models.artifact import load, save
from forecast.models.baselines import baseline_forecaster
from forecast.models.spec import ModelSpec
from forecast.models.statistical import PROCEDURES, StatisticalBackend
from forecast.series.batch import ContextBatch
from forecast.series.panel import Panel


def panel(length: int = 96) -> Panel:
    steps = np.arange(length)
    noise = np.random.default_rng(0).normal(size=length)
    y = 100 + steps + 20 * np.sin(2 * np.pi * steps / 12) + noise
    return Panel.from_arrays(["a"], [y], freq="MS", starts=["2020-01-01"])


@pytest.mark.parametrize("name", list(PROCEDURES))
def test_a_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsforecast", None)
    monkeypatch.setitem(sys.modules, "statsforecast.models", None)
    with pytest.raises(SpecError, match="pip install statsforecast"):
        baseline_forecaster(panel(), ModelSpec(backbone=name, horizon=6))


def saved(folder: Path) -> Path:
    """An artifact of auto_theta, made without statsforecast."""
    own = baseline_forecaster(panel(), ModelSpec(backbone="naive", horizon=6))
    model = {**own.info.model, "backbone": "auto_theta"}
    return save(replace(own, info=replace(own.info, model=model)), folder)


def test_an_artifact_says_what_it_needs_where_the_package_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path / "model")
    monkeypatch.setitem(sys.modules, "statsforecast", None)
    monkeypatch.setitem(sys.modules, "statsforecast.models", None)
    with pytest.raises(ArtifactError, match="needs the package statsforecast"):
        load(folder)


def test_other_baselines_do_not_import_it() -> None:
    code = (
        "import sys; from forecast.models.artifact import load; from forecast.models.baselines import *;"
        "assert 'statsforecast' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PROCEDURES))
def test_odd_histories_have_a_finite_answer(name: str) -> None:
    backend = StatisticalBackend(name, horizon=4, season_length=12, num_quantiles=3)
    rows = np.full((5, 40), np.nan)
    rows[0, -1] = 3
    rows[1, -3:] = [1, 2, 3]
    rows[2] = 7
    rows[3] = np.random.default_rng(0).normal(size=40)
    rows[3, 10:20] = np.nan
    rows[4] = 1e9 + np.arange(40)
    answer = backend(ContextBatch.from_raw(rows))
    assert answer.shape == (5, 4, 3)
    assert np.isfinite(answer).all()
    assert (answer[:3] == 0).all()  # the last value
    assert answer[4, :, 0] == pytest.approx([1, 2, 3, 4], abs=2.5)  # theta halves a trend


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PROCEDURES))
def test_it_is_evaluated_refitted_saved_and_loaded_like_any_candidate(name: str, tmp_path: Path) -> None:
    data = panel(132)
    spec = ModelSpec(backbone=name, horizon=6)
    blocks = Blocks.cut(data, horizon=6, num_windows=2)
    evaluated, naive = (
        evaluate(each, data, blocks) for each in (spec, spec.with_(backbone="seasonal_naive"))
    )
    assert evaluated.metrics["mae"] < naive.metrics["mae"]
    full = refit_full(evaluated, data)
    again = load(save(full, tmp_path / "model"))
    assert (again.predict(data).values == full.predict(data).values).all()
    assert f"baseline:{name}" in again.predict(data).notes[0]
    assert not again.backend.tensors()
    assert np.diff(again.predict(data).values, axis=-1).min() >= 0
