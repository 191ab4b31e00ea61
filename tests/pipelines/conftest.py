"""What the tests of the pipelines share: a home folder with a database, and the command line."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from forecast import home
from forecast.cli import main
from pipelines import recipe as recipes
from pipelines.retrain import retrain


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded database without runs, made once: its tables take a second."""
    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORECAST_HOME", str(folder))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        from pipelines import tracking

        tracking.client()
    return folder / "mlflow.db"


@pytest.fixture
def tracked(empty_database: Path) -> Path:
    """This test's own home folder with an embedded database."""
    home.home().mkdir(parents=True, exist_ok=True)
    shutil.copy(empty_database, home.database_file())
    return home.home()


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def forecast(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command `forecast` in this process, as the console script does."""

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["forecast", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        streams = capsys.readouterr()
        return Ended(int(ended.value.code or 0), streams.out, streams.err)

    return run


RECIPE = """
name = "shop"
freq = "D"
horizon = 7
candidates = ["seasonal_naive"]
[data]
path = "sales.parquet"
columns = {unique_id = "shop", ds = "day", y = "units"}
[backtest]
num_windows = 2
"""


def sales(num_days: int = 120) -> pd.DataFrame:
    """Two shops with a week's pattern, and noise."""
    random = np.random.default_rng(0)
    days = np.arange(400)
    frames = [
        pd.DataFrame(
            {
                "shop": name,
                "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(days, unit="D"),
                "units": level + 10.0 * (days % 7) + random.normal(0, 2, len(days)),
            }
        ).head(num_days)
        for name, level in (("north", 100.0), ("south", 300.0))
    ]
    return pd.concat(frames, ignore_index=True)


def write_recipe(folder: Path, *, text: str = RECIPE, num_days: int = 120) -> Path:
    """A recipe with its data in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    sales(num_days).to_parquet(folder / "sales.parquet")
    (folder / "shop.toml").write_text(text)
    return folder / "shop.toml"


@dataclass(frozen=True)
class Trained:
    """A home folder in which the recipe `shop` was trained once."""

    home: Path
    recipe: Path
    outcome: dict[str, Any]


@pytest.fixture(scope="session")
def trained_once(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Made once; `trained` and `trained_copy` give it to a test."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = write_recipe(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORECAST_HOME", str(folder / "home"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        (folder / "home").mkdir()
        shutil.copy(empty_database, home.database_file())
        outcome = retrain(recipes.load(str(recipe)), say=lambda line: None)
    return Trained(folder / "home", recipe, outcome.to_dict())


@pytest.fixture
def trained(trained_once: Trained, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """To be read and not to be written to."""
    monkeypatch.setenv("FORECAST_HOME", str(trained_once.home))
    return trained_once


@pytest.fixture
def trained_copy(trained_once: Trained, tmp_path: Path) -> Trained:
    """A copy in this test's own home folder; files that are there already stay where they are."""
    home.home().mkdir(parents=True, exist_ok=True)
    shutil.copy(trained_once.home / "mlflow.db", home.database_file())
    return Trained(home.home(), write_recipe(tmp_path / "data"), trained_once.outcome)
