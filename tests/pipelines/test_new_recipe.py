"""`forecast recipe new`: what it decides, what it refuses, and that what it writes can be used."""

from pathlib import Path

import pytest

from forecast import home
from pipelines import recipe as recipes
from pipelines import sources
from tests.builders import shared_data
from tests.pipelines.conftest import Command, sales


def german(path: Path, *, first_day: str = "2026-01-01") -> Path:
    """One shop as a German spreadsheet exports it: semicolons, decimal commas, day first."""
    frame = sales(100).query("shop == 'north'")
    days = frame["day"].dt.strftime("%d.%m.%Y")
    values = frame["units"].map(lambda value: f"{value:.2f}".replace(".", ","))
    lines = [f"{day};{value}" for day, value in zip(days, values, strict=True)]
    path.write_text("\n".join(["Datum;Umsatz", *lines]), encoding="utf-8")
    return path


def test_a_spreadsheets_file_is_understood_written_and_read(forecast: Command, tmp_path: Path) -> None:
    data = german(tmp_path / "umsatz.csv")
    ended = forecast(
        "recipe", "new", "umsatz", "--data", data, "--horizon", 7, "--columns", "ds=Datum,y=Umsatz"
    )
    assert ended.code == 0, ended.err
    for word in ("daily", "7 steps", "4 windows", "next: forecast retrain umsatz"):
        assert word in ended.out
    recipe = recipes.load("umsatz")
    assert (recipe.freq, recipe.horizon, recipe.season_length) == ("D", 7, 7)
    assert (recipe.data.delimiter, recipe.data.decimal) == (";", ",")
    panel = sources.panel(recipe)
    assert panel.lengths.tolist() == [100]
    assert panel.y(0)[0] == pytest.approx(sales()["units"][0], abs=0.01)


def test_a_recipe_is_replaced_only_when_asked(forecast: Command, tmp_path: Path) -> None:
    sales().to_parquet(tmp_path / "sales.parquet")
    columns = "unique_id=shop,ds=day,y=units"
    command = (
        "recipe",
        "new",
        "shop",
        "--data",
        tmp_path / "sales.parquet",
        "--columns",
        columns,
        "--horizon",
    )
    assert forecast(*command, 7).code == 0
    refused = forecast(*command, 3)
    assert refused.code == 2
    assert "replace it with --force" in refused.err
    assert recipes.load("shop").horizon == 7
    assert forecast(*command, 3, "--force").code == 0
    assert recipes.load("shop").horizon == 3


def test_an_ambiguous_date_order_is_refused_with_the_flag_that_settles_it(
    forecast: Command, tmp_path: Path
) -> None:
    days = "\n".join(f"0{month}/0{day}/2026,{day}" for month in range(1, 9) for day in range(1, 9))
    (tmp_path / "a.csv").write_text("date,value\n" + days)
    ended = forecast("recipe", "new", "a", "--data", tmp_path / "a.csv", "--horizon", 1)
    assert (ended.code, ended.out) == (2, "")
    assert "--day-first" in ended.err
    assert not home.recipes_folder().exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["a/b", "--data", "sales.parquet", "--horizon", "7"], "the name 'a/b' cannot be used"),
        (["a", "--data", "nowhere.csv", "--horizon", "7"], "there is no file nowhere.csv"),
        (["a", "--data", "sales.parquet", "--horizon", "60"], "at least"),
        (["a", "--data", "empty.csv", "--horizon", "7"], "empty.csv"),
        (["a", "--data", "sales.parquet", "--horizon", "7", "--freq", "fortnight"], "fortnight"),
    ],
)
def test_what_cannot_become_a_recipe_is_refused(
    forecast: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    sales().rename(columns={"shop": "unique_id", "day": "ds", "units": "y"}).to_parquet("sales.parquet")
    Path("empty.csv").touch()
    ended = forecast("recipe", "new", *arguments)
    assert ended.code == 2
    assert word in ended.err
    assert "Traceback" not in ended.err
    assert not home.recipes_folder().exists()


def test_a_file_with_a_byte_order_mark_becomes_a_recipe(forecast: Command, tmp_path: Path) -> None:
    data = german(tmp_path / "umsatz.csv")
    data.write_bytes(b"\xef\xbb\xbf" + data.read_bytes())
    ended = forecast("recipe", "new", "umsatz", "--data", data, "--horizon", 7)
    assert ended.code == 0, ended.err
    assert sources.panel(recipes.load("umsatz")).lengths.tolist() == [100]


@pytest.mark.parametrize(
    ("row", "flag", "value"),
    [
        ("2024-01-05,1", "--duplicates", "first"),
        ("2024-01-31,inf", "--infinite", "nan"),
        ("2024-01-31T03:10:00,1", "--grid", "D"),
    ],
)
def test_what_a_finding_needs_is_said_as_a_flag(
    forecast: Command, tmp_path: Path, row: str, flag: str, value: str
) -> None:
    data = tmp_path / "a.csv"
    data.write_text("\n".join(["ds,y", *(f"2024-01-{day:02},{day}" for day in range(1, 31)), row]))
    command = ("recipe", "new", "a", "--data", data, "--horizon", 3, "--freq", "D")
    refused = forecast(*command)
    assert refused.code == 2
    assert flag in refused.err
    ended = forecast(*command, flag, value)
    assert ended.code == 0, ended.err


def test_a_short_history_is_judged_on_fewer_windows(forecast: Command, tmp_path: Path) -> None:
    sales(62).to_parquet(tmp_path / "sales.parquet")
    data = ("--data", tmp_path / "sales.parquet", "--columns", "unique_id=shop,ds=day,y=units")
    ended = forecast("recipe", "new", "shop", *data, "--horizon", 12)
    assert ended.code == 0, ended.err
    assert recipes.load("shop").backtest.num_windows < 4


def test_daily_stocks_count_trading_days(forecast: Command) -> None:
    ended = forecast(
        "recipe", "new", "prices", "--data", shared_data("stocks_daily_2007_2016.parquet"), "--horizon", 5
    )
    assert ended.code == 0, ended.err
    assert recipes.load("prices").freq == "trading"
