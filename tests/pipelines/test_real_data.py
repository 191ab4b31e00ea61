"""The built-in recipes on real series, as their users bring them."""

from pathlib import Path

import pandas as pd
import pytest

from pipelines import recipe as recipes
from pipelines import registry, sources
from pipelines.recipe import Recipe
from pipelines.retrain import retrain
from tests.builders import shared_data


def with_baselines_only(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"candidates": ("naive",)})


def machine_temperature(folder: Path) -> Path:
    """One sensor that repeats an hour and steps back once."""
    frame = pd.read_parquet(shared_data("nab_known_cause.parquet"))
    sensor = frame[frame["unique_id"].astype(str).str.endswith("machine_temperature_system_failure")]
    assert not sensor["ds"].is_monotonic_increasing
    sensor.to_parquet(folder / "sensor.parquet")
    return folder / "sensor.parquet"


def test_holidays_of_stocks_are_no_gaps(tmp_path: Path) -> None:
    prices = shared_data("stocks_daily_2007_2016.parquet")
    panel = sources.panel(recipes.with_data(recipes.load("stocks"), path=prices))
    assert str(panel.freq) == "trading"
    assert panel.lengths.tolist() == [2306] * 5
    assert panel.num_observed().tolist() == [2306] * 5


def test_stocks_get_an_honest_champion_with_intervals(tracked: Path) -> None:
    prices = shared_data("stocks_daily_2007_2016.parquet")
    recipe = with_baselines_only(recipes.with_data(recipes.load("stocks"), path=prices))
    outcome = retrain(recipe, say=lambda line: None)
    assert outcome.verdict == "promoted"
    forecaster = registry.load(registry.find("stocks"))
    frame = forecaster.predict(sources.panel(recipe)).to_frame(levels=[80])
    assert (frame["lo-80"] < frame["median"]).all()
    assert frame["ds"].dt.dayofweek.max() < 5
    naive = next(each for each in outcome.candidates if each["name"] == "naive")
    assert 0.7 < naive["metrics"]["coverage_80"] < 0.95


def test_a_sensor_that_steps_back_is_put_on_its_grid(tracked: Path, tmp_path: Path) -> None:
    recipe = recipes.with_data(recipes.load("sensors"), path=machine_temperature(tmp_path))
    panel = sources.panel(recipe)
    assert {"sorted", "duplicates_resolved"} <= set(panel.report.codes)
    assert str(panel.freq) == "5min"
    outcome = retrain(with_baselines_only(recipe), say=lambda line: None)
    assert outcome.verdict == "promoted"
    assert registry.find("sensors").data["grid"] == "5min"


def test_the_built_in_recipe_reads_the_passengers() -> None:
    panel = sources.panel(recipes.load("air_passengers"))
    assert (len(panel), panel.lengths.tolist(), str(panel.freq)) == (1, [144], "MS")


@pytest.mark.slow
def test_air_passengers_from_an_empty_home_is_promoted(tracked: Path) -> None:
    outcome = retrain(recipes.load("air_passengers"), say=lambda line: None)
    assert outcome.verdict == "promoted"
    names = ["lstm", "gru", "transformer", "naive", "seasonal_naive", "drift"]
    assert [each["name"] for each in outcome.candidates] == names
