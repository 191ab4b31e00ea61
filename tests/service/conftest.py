"""What the tests of the service share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from forecast import home
from tests.service.builders import Client, Registered, Registry, baseline, serving


@pytest.fixture
def registry() -> Registry:
    """An empty cache in the home folder of this test."""
    return Registry()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of an application that serves the monthly model `air` (1 challenger, 2 champion)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORECAST_HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        registry = Registry()
        registry.add("air", "1", baseline("naive"), "challenger")
        registry.add("air", "2", baseline(), "champion")
        with serving() as client:
            yield client


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded database without runs, made once: its tables take a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORECAST_HOME", str(tmp_path_factory.mktemp("empty")))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with home.database_lock():
            Registered().client.search_registered_models()
        return home.database_file()


@pytest.fixture
def registered(empty_database: Path) -> Registered:
    """A registry in the home folder of this test."""
    home.home().mkdir(parents=True, exist_ok=True)
    shutil.copy(empty_database, home.database_file())
    return Registered()
