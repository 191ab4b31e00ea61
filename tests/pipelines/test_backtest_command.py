"""`forecast backtest RECIPE`: a table, a page, and no trace in the registry."""

import json
from pathlib import Path

import pytest

from forecast import home
from pipelines.backtest_command import backtest

RECIPE = """
name = "cheap"
freq = "MS"
horizon = 6
season_length = 12
candidates = ["ridge"]
[data]
dataset = "air_passengers"
[backtest]
num_windows = 2
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "cheap.toml"
    path.write_text(RECIPE)
    return str(path)


def test_the_candidates_are_judged_and_the_page_is_written(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    backtest(recipe, output=page)
    told = capsys.readouterr().out
    assert "ridge" in told
    assert "seasonal_naive" in told
    assert told.endswith(f"wrote {page}\n")
    assert "<h1>Backtest of cheap</h1>" in page.read_text()
    assert not home.database_file().exists()


def test_json_names_what_select_chose(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backtest(recipe, output=tmp_path / "page.html", as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["chosen"] == told["candidates"][0]["name"]
    assert {each["name"] for each in told["candidates"]} == {"ridge", "naive", "seasonal_naive", "drift"}
    assert all(each["seconds"] >= 0 and each["metrics"]["wql"] > 0 for each in told["candidates"])
