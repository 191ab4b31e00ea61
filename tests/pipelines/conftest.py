"""What the tests of the pipelines share: a home folder with a database, and the command line."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from forecast import home
from forecast.cli import main


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
