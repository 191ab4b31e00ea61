"""A look at what serves: answers beside what came, live figures in MLflow, drift, corrected intervals."""

import contextlib
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from forecast import answered, home
from forecast.answered import Answered
from forecast.errors import LockedError, SourceError
from forecast.evaluation.metrics import score
from forecast.models.forecaster import Forecaster
from forecast.series.panel import Panel
from forecast.series.read import from_frame
from pipelines import monitor, outputs, registry, retrain, schedule, tracking
from pipelines import recipe as recipes
from pipelines.child import Ended as ChildEnded
from pipelines.lock import monitor_lock
from pipelines.monitor import Look
from pipelines.sections import ScheduleSection
from tests import servers
from tests.pipelines.conftest import RECIPE, Command, Trained, sales, write_recipe

Change = Callable[[pd.DataFrame], pd.DataFrame]
FIRST_NEW = pd.Timestamp("2026-05-01")
LATER = "[monitor]\nmin_stamps = 5\n"


def new_days(path: Path, num_days: int, change: Change = lambda frame: frame) -> pd.DataFrame:
    """So many days are in the data now, the new ones changed; returns it in our words."""
    frame = sales(num_days)
    is_new = frame["day"] >= FIRST_NEW
    frame = pd.concat([frame[~is_new], change(frame[is_new])]).sort_values(["shop", "day"])
    frame.to_parquet(path.parent / "sales.parquet")
    return frame.rename(columns={"shop": "unique_id", "day": "ds", "units": "y"})


def look(path: Path) -> Look:
    return monitor.look(recipes.load(str(path)), say=lambda line: None)


def answer(frame: pd.DataFrame, *, every: int = 7, names: bool = True, widen: float = 1.0) -> None:
    """What a service would have recorded: the champion asked on each so many'th day from the training on."""
    champion = registry.champion("shop")
    assert champion is not None
    forecaster = registry.load(champion)
    days = pd.date_range(FIRST_NEW - pd.Timedelta(days=1), frame["ds"].max(), freq=f"{every}D")
    answers = [
        recorded(forecaster, champion.version, history, widen=widen, names=names)
        for day in days
        if len(history := from_frame(frame[frame["ds"] <= day], freq="D"))
    ]
    answered.write(answers, answered.folder(), name=answered.file_name("test", time.monotonic_ns()))


def recorded(forecaster: Forecaster, version: str, history: Panel, *, widen: float, names: bool) -> Answered:
    forecast = forecaster.predict(history)
    centre = forecast.median[..., None]
    return Answered(
        model="shop",
        version=version,
        freq="D",
        recorded_at=time.time(),
        unique_ids=forecast.unique_ids if names else [None] * len(forecast),
        cutoffs=history.last_stamps(),
        ds=forecast.ds,
        tails=np.stack([history.y(place)[-8:] for place in range(len(history))]),
        quantile_levels=forecast.quantile_levels,
        values=centre + widen * (forecast.values - centre),
    )


def by_kind(found: Look) -> dict[str, Any]:
    return {each.kind: each for each in found.drift}


def test_a_model_without_a_champion_is_to_be_trained(tracked: Path, tmp_path: Path) -> None:
    found = look(write_recipe(tmp_path))
    assert (found.verdict, found.reason) == ("retrain", "the model has no champion yet")


def test_nothing_new_is_no_reason_to_retrain(trained_copy: Trained) -> None:
    found = look(trained_copy.recipe)
    assert (found.verdict, found.versions) == ("wait", ())
    assert "too little is known" in found.reason


def test_live_figures_are_those_of_a_slow_loop_and_stand_in_mlflow(trained_copy: Trained) -> None:
    frame = new_days(trained_copy.recipe, 148)
    answer(frame)
    answer(frame)  # asked for again: it counts once
    found = look(trained_copy.recipe)
    (live,) = found.versions
    expected = by_hand(frame)
    assert live.num_values == len(expected) == 2 * 28
    assert (live.num_series, live.num_cutoffs, live.in_sample) == (2, 4, 0)
    for name in ("mae", "rmse", "wql", "coverage_80", "coverage_95"):
        assert live.metrics[name] == pytest.approx(score(expected)[name], rel=1e-4), name
    inside = (expected["y"] >= expected["lo-80"]) & (expected["y"] <= expected["hi-80"])
    assert live.metrics["coverage_80"] == pytest.approx(inside.mean())
    assert (found.verdict, found.champion, found.answers["unlike_the_data"]) == ("wait", "1", 0)
    assert "no drift: error" in found.reason
    look(trained_copy.recipe)
    run = tracking.client().get_run(str(found.run_id))
    assert run.info.status == "FINISHED"
    assert run.data.tags["forecast.model_version"] == "1"
    assert run.data.metrics["live_coverage_80"] == pytest.approx(live.metrics["coverage_80"])
    history = tracking.client().get_metric_history(run.info.run_id, "live_wql")
    assert [point.step for point in history] == [0, 1]
    assert [point.step for point in tracking.client().get_metric_history(run.info.run_id, "retrain")] == [
        0,
        1,
    ]
    told = json.loads(registry.find("shop").tags["forecast.live"])
    assert told["coverage_80"] == live.metrics["coverage_80"]


def by_hand(frame: pd.DataFrame) -> pd.DataFrame:
    """The same forecasts one by one, and what came beside them."""
    forecaster = registry.load(registry.find("shop"))
    rows = []
    for day in pd.date_range(FIRST_NEW - pd.Timedelta(days=1), periods=4, freq="7D"):
        history = from_frame(frame[frame["ds"] <= day], freq="D")
        told = forecaster.predict(history).to_frame(levels=[80, 95])
        rows.append(told.merge(frame, on=["unique_id", "ds"]).assign(mase_scale=np.nan, step=1))
    return pd.concat(rows, ignore_index=True)


def test_series_that_go_on_as_before_are_left_alone_and_a_jump_is_found(trained_copy: Trained) -> None:
    frame = new_days(trained_copy.recipe, 148)
    answer(frame)
    assert look(trained_copy.recipe).verdict == "wait"
    frame = new_days(trained_copy.recipe, 148, lambda new: new.assign(units=new["units"] * 1.5))
    answer(frame)
    found = look(trained_copy.recipe)
    assert found.verdict == "retrain"
    assert by_kind(found)["level"].found
    assert "the level of the series moved by" in found.reason


def test_forecasts_that_became_worse_are_found(trained_copy: Trained) -> None:
    random = np.random.default_rng(0)
    frame = new_days(
        trained_copy.recipe, 176, lambda new: new.assign(units=new["units"] + random.normal(0, 30, len(new)))
    )
    answer(frame)
    found = look(trained_copy.recipe)
    drift = by_kind(found)
    assert found.verdict == "retrain"
    assert drift["error"].found
    assert drift["error"].size > 5
    assert drift["spread"].found
    assert "times the error of the backtest" in found.reason


def test_series_without_names_are_recognised_by_their_last_values(trained_copy: Trained) -> None:
    answer(new_days(trained_copy.recipe, 141), names=False)
    found = look(trained_copy.recipe)
    assert (found.versions[0].num_values, found.versions[0].num_series) == (42, 2)


def test_answers_to_other_data_do_not_count(trained_copy: Trained) -> None:
    frame = new_days(trained_copy.recipe, 141)
    answer(frame.assign(y=frame["y"] * 1.1))
    found = look(trained_copy.recipe)
    assert found.versions == ()
    assert found.answers["unlike_the_data"] == found.answers["recorded"] > 0


def test_values_that_were_corrected_later_are_the_same_data(trained_copy: Trained) -> None:
    frame = new_days(trained_copy.recipe, 141)
    answer(frame)
    new_days(
        trained_copy.recipe,
        141,
        lambda new: new.assign(units=new["units"].where(new["day"].dt.day % 5 > 0, 90)),
    )
    found = look(trained_copy.recipe)
    assert found.answers["unlike_the_data"] == 0
    assert found.versions[0].num_values > 30


@pytest.mark.parametrize("place", ["folder", "table"])
def test_stored_forecasts_are_answers_too(trained_copy: Trained, place: str) -> None:
    output = "out" if place == "folder" else f"sqlite:///{home.home()}/out.db"
    trained_copy.recipe.write_text(f'{RECIPE}[forecast]\noutput = "{output}"\nlevels = [80, 95]\n')
    for num_days in (120, 127, 134):
        new_days(trained_copy.recipe, num_days)
        outputs.store(recipes.load(str(trained_copy.recipe)), say=lambda line: None)
    frame = new_days(trained_copy.recipe, 141)
    stored_only = look(trained_copy.recipe).versions[0]
    assert (stored_only.num_values, stored_only.num_cutoffs) == (42, 3)
    answered_too = frame[frame["ds"] < FIRST_NEW + pd.Timedelta(days=14)]
    answer(answered_too)
    both = look(trained_copy.recipe).versions[0]
    assert both.num_values == 42
    for name, value in stored_only.metrics.items():
        assert both.metrics[name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zone", "integer", "months", "trading"])
def test_every_kind_of_time_is_joined(tracked: Path, tmp_path: Path, kind: str) -> None:
    """Stored forecasts, and recorded ones without an offset, of data that grows by seven steps."""
    stamps: Any = {
        "zone": pd.date_range("2026-01-01", periods=127, freq="D"),
        "integer": np.arange(1000, 1127),
        "months": pd.date_range("2015-01-01", periods=127, freq="MS"),
        "trading": pd.bdate_range("2026-01-01", periods=127),
    }[kind]
    freq = {"zone": "'D'", "integer": "1", "months": "'MS'", "trading": "'trading'"}[kind]
    more = 'timezone = "Europe/Berlin"' if kind == "zone" else ""
    text = (
        f"name = 'shop'\nhorizon = 7\nfreq = {freq}\nseason_length = 7\ncandidates = ['seasonal_naive']\n"
        f"[data]\npath = 'x.parquet'\n{more}\n[backtest]\nnum_windows = 2\n[forecast]\n"
    )
    (tmp_path / "shop.toml").write_text(text)
    y = 10.0 * (np.arange(127) % 7) + np.random.default_rng(0).normal(50, 1, 127)
    frame = pd.DataFrame({"unique_id": "a", "ds": stamps, "y": y})
    frame.head(120).to_parquet(tmp_path / "x.parquet")
    recipe = recipes.load(str(tmp_path / "shop.toml"))
    retrain.retrain(recipe, say=lambda line: None)
    outputs.store(recipe, say=lambda line: None)
    frame.to_parquet(tmp_path / "x.parquet")
    found = look(tmp_path / "shop.toml").versions[0]
    assert (found.num_values, found.num_cutoffs, found.in_sample) == (7, 1, 0)
    champion = registry.find("shop")
    history = from_frame(frame.head(120), freq=recipe.freq, season_length=7)
    written = recorded(registry.load(champion), "1", history, widen=1.0, names=True)
    answered.write([written], answered.folder(), name="a")
    shutil.rmtree(home.home() / "forecasts")
    again = look(tmp_path / "shop.toml")
    assert again.answers["unlike_the_data"] == 0
    assert again.versions[0].metrics == pytest.approx(found.metrics, rel=1e-4)


@pytest.mark.postgres
def test_stored_forecasts_are_read_from_postgresql(
    trained_copy: Trained, postgres: servers.Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTPUT_URL", postgres.create("answers"))
    trained_copy.recipe.write_text(f'{RECIPE}[forecast]\noutput = "${{OUTPUT_URL}}"\n')
    outputs.store(recipes.load(str(trained_copy.recipe)), say=lambda line: None)
    new_days(trained_copy.recipe, 127)
    assert look(trained_copy.recipe).versions[0].num_values == 14


def test_intervals_that_are_too_narrow_are_corrected_by_a_version_of_the_same_model(
    trained_copy: Trained,
) -> None:
    trained_copy.recipe.write_text(f"{RECIPE}{LATER}recalibrate = true\n[gate]\ncoverage_80 = [0.0, 1.0]\n")
    random = np.random.default_rng(1)
    frame = new_days(
        trained_copy.recipe, 218, lambda new: new.assign(units=new["units"] + random.normal(0, 9, len(new)))
    )
    answer(frame)
    found = look(trained_copy.recipe)
    assert (found.recalibrated, found.champion) == ("2", "1")
    old, new = registry.find("shop/1"), registry.find("shop")
    assert (new.version, new.tags["forecast.verdict"], "previous" in old.aliases) == ("2", "promoted", True)
    assert "intervals recalibrated on" in new.tags["forecast.reason"]
    history = from_frame(frame, freq="D")
    before, after = registry.load(old).predict(history), registry.load(new).predict(history)
    np.testing.assert_array_equal(before.median, after.median)
    wide = [np.subtract(*each.interval(80)[::-1]).mean() for each in (before, after)]
    stretch = {each.level: each.stretch for each in found.intervals}
    assert wide[1] / wide[0] == pytest.approx(stretch[80.0], rel=1e-3)
    assert stretch[80.0] > 1.5
    # the next look counts what both versions answered as one model's, and finds nothing more to do
    again = look(trained_copy.recipe)
    assert again.recalibrated is None
    assert [each.stretch for each in again.intervals] == pytest.approx(list(stretch.values()))
    answer(frame)
    later = {each.version: each for each in look(trained_copy.recipe).versions}
    narrow, corrected = (float(later[each].metrics["coverage_80"] or 0) for each in ("1", "2"))
    assert narrow < 0.65 < corrected


def test_intervals_stay_where_the_recipe_does_not_ask_for_more(trained_copy: Trained) -> None:
    trained_copy.recipe.write_text(f"{RECIPE}{LATER}")
    answer(new_days(trained_copy.recipe, 176), widen=0.1)
    found = look(trained_copy.recipe)
    assert found.recalibrated is None
    assert [each.stretch > 1.5 for each in found.intervals] == [True, True]
    assert by_kind(found)["coverage"].size < 0.4
    assert len(registry.versions("shop")) == 1


def test_the_command_says_what_to_do_and_does_it(trained_copy: Trained, forecast: Command) -> None:
    frame = new_days(trained_copy.recipe, 148)
    answer(frame)
    shown = forecast("monitor", trained_copy.recipe)
    assert shown.code == 0, shown.err
    assert "1 (champion)" in shown.out
    assert "do not retrain: no drift" in shown.out
    quiet = json.loads(forecast("monitor", trained_copy.recipe, "--retrain", "--json").out)
    assert (quiet["retrain"], quiet["retrained"]) == (False, None)
    new_days(trained_copy.recipe, 148, lambda new: new.assign(units=new["units"] + 60))
    moved = forecast("monitor", trained_copy.recipe, "--retrain", "--json")
    found = json.loads(moved.out)
    assert (found["verdict"], found["retrained"]["verdict"]) == ("retrain", "promoted"), moved.err
    assert found["retrained"]["model_version"] == "2"
    verdict, _, outcome = schedule.judged(
        ChildEnded(code=0, out=moved.out, last_line="", seconds=1.0, timed_out=False, stopped=False),
        timeout_seconds=1,
    )
    assert (verdict, outcome["model_version"]) == ("promoted", "2")
    # the new champion was trained on what moved, which is no drift for it
    assert json.loads(forecast("monitor", trained_copy.recipe, "--json").out)["verdict"] == "wait"


def test_one_look_at_a_time(trained_copy: Trained) -> None:
    with monitor_lock("shop"), pytest.raises(LockedError, match="look at the answers of 'shop'"):
        look(trained_copy.recipe)


def test_data_that_cannot_be_reached_is_told_of(trained_copy: Trained, forecast: Command) -> None:
    trained_copy.recipe.write_text(
        RECIPE.replace('path = "sales.parquet"', 'url = "http://127.0.0.1:9/x.csv"')
    )
    with pytest.raises(SourceError):
        look(trained_copy.recipe)
    assert forecast("monitor", trained_copy.recipe).code == 1


@pytest.mark.parametrize(
    ("trigger", "table", "commands"),
    [
        ("schedule", "", ["retrain R --json"]),
        ("schedule", "[monitor]", ["retrain R --json", "monitor R --json"]),
        ("drift", "", ["monitor R --retrain --json"]),
        ("drift", "[monitor]", ["monitor R --retrain --json"]),
        ("both", "", ["retrain R --json", "monitor R --retrain --json"]),
    ],
)
def test_a_trigger_says_what_is_started(
    tmp_path: Path, trigger: str, table: str, commands: list[str]
) -> None:
    text = f'{RECIPE}[schedule]\ntrigger = "{trigger}"\n{table}\n'
    found = schedule.tasks({"R": recipes.load(str(write_recipe(tmp_path, text=text)))})
    assert [" ".join(each.command) for each in found] == commands
    assert [each.key for each in found] == ["shop", "shop.monitor"][: len(found)]
    assert isinstance(found[-1].when, ScheduleSection)
    if len(found) == 2:
        assert (found[1].when.cron, found[1].when.at_start) == ("0 6 * * *", False)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_the_service_answered_over_http_comes_back_as_live_accuracy(
    trained_copy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real service, the real registry, the real command: two weeks of asking, then what came."""
    monkeypatch.setenv("FORECAST_RECORD", "true")
    monkeypatch.setenv("FORECAST_RECORD_SECONDS", "0.5")
    monkeypatch.setenv("FORECAST_LOOKUP_SECONDS", "90")
    retrain.retrain(recipes.load(str(trained_copy.recipe)), say=lambda line: None)
    frame = new_days(trained_copy.recipe, 141)
    expected = []
    with serving() as url:
        for day in pd.date_range(FIRST_NEW - pd.Timedelta(days=1), periods=3, freq="7D"):
            told = ask(url, frame[frame["ds"] <= day])
            expected.append(told.merge(frame, on=["unique_id", "ds"]))
        ended = subprocess.run(
            [program(), "monitor", str(trained_copy.recipe), "--json"],
            capture_output=True,
            text=True,
            check=False,
        )
        early = json.loads(ended.stdout) if ended.returncode == 0 else {}
    rows = pd.concat(expected)
    found = look(trained_copy.recipe)
    (live,) = found.versions
    assert live.num_values == len(rows) == 42
    assert live.metrics["mae"] == pytest.approx((rows["y"] - rows["median"]).abs().mean(), rel=1e-4)
    inside = (rows["y"] >= rows["lo-80"]) & (rows["y"] <= rows["hi-80"])
    assert live.metrics["coverage_80"] == pytest.approx(inside.mean())
    assert early["champion"] == live.version, ended.stderr


def program() -> str:
    return str(Path(sys.executable).with_name("forecast"))


@contextlib.contextmanager
def serving() -> Iterator[str]:
    process = subprocess.Popen(
        [program(), "serve", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.communicate(timeout=30)


def ask(url: str, history: pd.DataFrame) -> pd.DataFrame:
    """The answer of /v1/forecasts to these histories, as a frame."""
    series = [
        {"unique_id": name, "start": str(rows["ds"].min().date()), "y": rows["y"].tolist()}
        for name, rows in history.groupby("unique_id")
    ]
    body = json.dumps({"model": "shop", "levels": [80], "series": series}).encode()
    request = urllib.request.Request(f"{url}/v1/forecasts", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        answer = json.load(response)
    parts = [pd.DataFrame({**each, "notes": ""}) for each in answer["forecasts"]]
    return pd.concat(parts).assign(ds=lambda told: pd.to_datetime(told["ds"]))
