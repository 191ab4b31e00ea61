"""Every way in which a delivery of data goes wrong: one line, its exit code, the champion as it was, and the
same command once the delivery is good.
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from pipelines import recipe as recipes
from pipelines import registry
from pipelines.retrain import retrain
from tests.pipelines.conftest import RECIPE, Command, Trained, sales

NOBODY = "127.0.0.1:9"


def place(trained: Trained, line: str) -> None:
    """Let the recipe read from somewhere else."""
    trained.recipe.write_text(RECIPE.replace('path = "sales.parquet"', line))


def csv(trained: Trained, text: str) -> None:
    place(trained, 'path = "sales.csv"')
    (trained.recipe.parent / "sales.csv").write_text(text)


def told(frame: pd.DataFrame) -> str:
    return str(frame.to_csv(index=False))


def parquet(trained: Trained, frame: pd.DataFrame) -> None:
    frame.to_parquet(trained.recipe.parent / "sales.parquet")


def cut(trained: Trained) -> None:
    path = trained.recipe.parent / "sales.parquet"
    path.write_bytes(path.read_bytes()[:-500])


FRESH = sales(130)

FAULTS: dict[str, tuple[Callable[[Trained], None], int, str]] = {
    "the address answers nobody": (
        lambda t: place(t, f'url = "http://{NOBODY}/x.csv"'),
        1,
        "cannot be reached",
    ),
    "the database answers nobody": (
        lambda t: place(t, f'database = "postgresql+psycopg://me:secret@{NOBODY}/x"\nquery = "select 1"'),
        1,
        "cannot be used",
    ),
    "the file is gone": (lambda t: (t.recipe.parent / "sales.parquet").unlink(), 2, "there is no file"),
    "the file is empty": (lambda t: csv(t, ""), 2, "is empty"),
    "only the header came": (lambda t: csv(t, "shop,day,units\n"), 2, "has no rows"),
    "no row came": (lambda t: parquet(t, FRESH.head(0)), 2, "no rows"),
    "a parquet file is half written": (cut, 2, "cannot be read as Parquet"),
    "a line is half written": (lambda t: csv(t, told(FRESH)[:-24]), 2, "another number of columns"),
    "the last lines are missing": (
        lambda t: csv(t, told(FRESH.iloc[:-20])),
        2,
        "end before they ended last time",
    ),
    "half of it is missing": (lambda t: csv(t, told(FRESH.head(130))), 2, "are gone"),
    "a column has another name": (
        lambda t: parquet(t, FRESH.rename(columns={"units": "amount"})),
        2,
        "there is no column 'units'",
    ),
    "a column has another type": (
        lambda t: parquet(t, FRESH.assign(units=FRESH["units"].round().astype(str) + " pcs")),
        2,
        "units",
    ),
    "it is in another unit": (lambda t: parquet(t, FRESH.assign(units=FRESH["units"] * 1000)), 2, "[shift]"),
    "the stamps went back": (
        lambda t: parquet(t, FRESH.assign(day=FRESH["day"] - pd.Timedelta(days=30))),
        2,
        "[backwards]",
    ),
    "a day came twice": (
        lambda t: parquet(t, pd.concat([FRESH, FRESH[FRESH["day"] == "2026-05-03"]])),
        2,
        "more than once",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_delivery_changes_nothing_and_a_good_one_is_taken(
    trained_copy: Trained, forecast: Command, fault: str
) -> None:
    spoil, code, words = FAULTS[fault]
    spoil(trained_copy)
    ended = forecast("retrain", trained_copy.recipe, "--json")
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert (ended.code, ended.out, len(errors)) == (code, "", 1), ended.err
    assert words in errors[0]
    assert "secret" not in ended.err
    assert [(each.version, "champion" in each.aliases) for each in registry.versions("shop")] == [("1", True)]


@pytest.mark.slow
def test_the_good_delivery_after_bad_ones_is_trained_on(trained_copy: Trained, forecast: Command) -> None:
    cut(trained_copy)
    assert forecast("retrain", trained_copy.recipe).code == 2
    place(trained_copy, f'url = "http://{NOBODY}/x.csv"')
    assert forecast("retrain", trained_copy.recipe).code == 1
    parquet(trained_copy, FRESH)
    trained_copy.recipe.write_text(RECIPE)
    outcome = retrain(recipes.load(str(trained_copy.recipe)), say=lambda line: None)
    assert (outcome.verdict, outcome.model_version) == ("promoted", "2")


@pytest.mark.slow
def test_a_value_that_is_half_written_is_told_by_the_missing_end_of_its_line(
    trained_copy: Trained, forecast: Command
) -> None:
    whole = told(FRESH)
    csv(trained_copy, whole)
    assert forecast("retrain", trained_copy.recipe).code == 0
    grown = told(sales(137))
    csv(trained_copy, grown[:-4])
    ended = forecast("retrain", trained_copy.recipe)
    assert ended.code == 2
    assert "[unfinished] the last line of sales.csv has no end" in ended.err
    assert registry.find("shop").version == "2"
    csv(trained_copy, grown)
    assert forecast("retrain", trained_copy.recipe).code == 0
    assert registry.find("shop").version == "3"


def test_rows_in_another_order_are_the_same_delivery(trained_copy: Trained, forecast: Command) -> None:
    parquet(trained_copy, sales(120).iloc[::-1])
    ended = forecast("retrain", trained_copy.recipe)
    assert ended.code == 0
    assert "unchanged" in ended.out
    assert Path(trained_copy.recipe).exists()
