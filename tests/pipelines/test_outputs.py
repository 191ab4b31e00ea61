"""Scheduled forecasts: stored once by version, cutoff and series, in a folder or a table, and read back."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forecast import stored
from forecast.errors import LockedError, NotFoundError, SpecError
from forecast.series.panel import Panel
from pipelines import outputs, registry, schedule
from pipelines import recipe as recipes
from pipelines.lock import output_lock
from pipelines.outputs import Stored
from tests import servers
from tests.pipelines.conftest import RECIPE, Command, Trained, sales, write_recipe


def store(path: Path) -> Stored:
    return outputs.store(recipes.load(str(path)), say=lambda line: None)


def add(trained: Trained, lines: str) -> Path:
    """The recipe with a [forecast] table."""
    trained.recipe.write_text(f"{RECIPE}[forecast]\n{lines}")
    return trained.recipe


def test_forecasts_are_stored_once_with_the_version_in_each_row(trained_copy: Trained) -> None:
    path = add(trained_copy, 'output = "out"\nlevels = [90]')
    first, again = store(path), store(path)
    assert (first.stored, first.known, again.stored, again.known) == (2, 0, 0, 2)
    frame = pd.read_parquet(path.parent / "out")
    assert list(frame.columns) == [
        "model", "version", "unique_id", "cutoff", "step", "ds", "median", "lo-90", "hi-90", "stored_at",
    ]  # fmt: skip
    assert (len(frame), set(frame["version"]), set(frame["cutoff"])) == (14, {"1"}, {"2026-04-30T00:00:00"})
    north = frame[frame["unique_id"] == "north"].sort_values("step")
    own = registry.load(registry.find("shop")).predict(_history()).to_frame(levels=[90])
    np.testing.assert_allclose(north["median"], own.loc[own["unique_id"] == "north", "median"])
    assert north["ds"].iloc[0] == "2026-05-01T00:00:00"


def _history() -> Panel:
    from forecast.series.read import from_frame

    return from_frame(sales(), freq="D", unique_id="shop", ds="day", y="units")


def test_new_data_and_a_new_version_are_stored_beside_the_old_and_the_latest_is_found(
    trained_copy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = add(trained_copy, "")
    store(path)
    sales(121).to_parquet(path.parent / "sales.parquet")
    monkeypatch.setattr(outputs, "_now", lambda: "2031-01-01T00:00:00+00:00")
    assert (store(path).stored, store(path).stored) == (2, 0)
    latest = stored.announced("shop").latest("south")
    assert latest is not None
    assert set(latest["cutoff"]) == {"2026-05-01T00:00:00"}
    assert latest["step"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert stored.announced("shop").latest("west") is None
    with pytest.raises(NotFoundError, match="no forecasts of 'depot' are stored"):
        stored.announced("depot")


def test_a_killed_call_goes_on_with_the_series_that_are_left(
    trained_copy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = add(trained_copy, "")
    monkeypatch.setattr(outputs, "SERIES_PER_PART", 1)
    write, calls = stored.Folder.write, [0]

    def dies_later(self: stored.Folder, frame: pd.DataFrame) -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        write(self, frame)

    with monkeypatch.context() as patch:
        patch.setattr(stored.Folder, "write", dies_later)
        with pytest.raises(KeyboardInterrupt):
            store(path)
    assert (store(path).stored, store(path).known) == (1, 2)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_a_table_holds_each_forecast_once_and_gets_columns_for_new_levels(
    trained_copy: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "sqlite":
        _check_table(trained_copy, f"sqlite:///{tmp_path}/out.db", monkeypatch)
        return
    with servers.postgres() as running:
        _check_table(trained_copy, running.create("out"), monkeypatch)


def _check_table(trained: Trained, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUT", address)
    path = add(trained, 'output = "${OUT}"\ntable = "daily"')
    first = store(path)
    assert (first.stored, store(path).stored, first.output) == (2, 0, "${OUT}")
    frame = stored.announced("shop").latest("north")
    assert frame is not None
    assert frame["lo-80"].iloc[0] <= frame["median"].iloc[0] <= frame["hi-95"].iloc[0]
    note = (trained.home / "forecasts" / "shop.json").read_text()
    assert json.loads(note) == {"output": "${OUT}", "table": "daily"}
    sales(121).to_parquet(path.parent / "sales.parquet")
    add(trained, 'output = "${OUT}"\ntable = "daily"\nlevels = [99.5]')
    monkeypatch.setattr(outputs, "_now", lambda: "2031-01-01T00:00:00+00:00")
    assert store(path).stored == 2
    newest = stored.announced("shop").latest("north")
    assert newest is not None
    assert {"lo-99.5", "hi-99.5"} <= set(newest.columns)
    assert "lo-80" not in newest.columns


def test_a_retrain_stores_forecasts_and_so_does_one_that_changes_nothing(
    tracked: Path, tmp_path: Path, forecast: Command
) -> None:
    path = write_recipe(tmp_path, text=f'{RECIPE}[forecast]\noutput = "out"\n')
    assert json.loads(forecast("retrain", path, "--json").out)["forecasts"]["stored"] == 2
    again = json.loads(forecast("retrain", path, "--json").out)
    assert (again["verdict"], again["forecasts"]["stored"], again["forecasts"]["known"]) == (
        "unchanged",
        0,
        2,
    )
    assert "forecasts" not in json.loads(forecast("retrain", path, "--dry-run", "--json").out)
    assert json.loads(forecast("store", path, "--json").out)["known"] == 2


def test_forecasts_by_a_cron_line_of_their_own_are_a_task_of_the_scheduler(tmp_path: Path) -> None:
    text = f'{RECIPE}[schedule]\ntimezone = "Asia/Tokyo"\n[forecast]\nwhen = "0 5 * * *"\n'
    recipe = recipes.parse(text, origin="here")
    own, store_task = schedule.tasks({"shop.toml": recipe})
    assert (own.command[0], store_task.command[:2]) == ("retrain", ("store", "shop.toml"))
    assert (store_task.when.cron, store_task.when.timezone, store_task.when.at_start) == (
        "0 5 * * *",
        "Asia/Tokyo",
        False,
    )
    after = recipes.parse(f"{RECIPE}[forecast]\n", origin="here")
    assert len(schedule.tasks({"shop.toml": after})) == 1


def test_what_cannot_be_stored_says_why(trained_copy: Trained, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"the recipe 'shop' has no \[forecast\] table"):
        store(trained_copy.recipe)
    path = add(trained_copy, "")
    with output_lock("shop"), pytest.raises(LockedError, match="stores forecasts of 'shop'"):
        store(path)
    renamed = write_recipe(tmp_path / "b", text=RECIPE.replace('"shop"', '"depot"', 1) + "[forecast]\n")
    with pytest.raises(NotFoundError, match="'depot' has no champion"):
        store(renamed)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('when = "daily"', "forecast.when: a cron line has five fields"),
        ("levels = [120]", "forecast.levels.0: input should be less than 100"),
        ('tabel = "a"', r"unknown key 'forecast.tabel' \(did you mean 'table'\?\)"),
        ('table = "a; drop"', "forecast.table: string should match"),
    ],
)
def test_a_forecast_table_that_makes_no_sense_is_refused(lines: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        recipes.parse(f"{RECIPE}[forecast]\n{lines}", origin="here")


def test_a_table_made_by_hand_without_our_rows_has_no_forecast(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("create table other (a int)")
    connection.close()
    assert stored.open_store(f"sqlite:///{tmp_path}/a.db", model="shop").latest("north") is None
