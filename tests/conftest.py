"""What every test gets: a home folder of its own and no tracking server by accident."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests import servers

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # tiny networks train faster on one thread than on several that wait


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the home folder, or the MLflow server, of whoever runs it."""
    monkeypatch.setenv("FORECAST_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)  # MLflow leaves it behind; programs would follow
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Postgres]:
    """A private PostgreSQL for the whole session; each test makes a database of its own in it."""
    with servers.postgres() as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """`FORECAST_TESTS_REQUIRE=postgres,browser` makes skips of tests with these marks failures."""
    report = yield
    required = os.environ.get("FORECAST_TESTS_REQUIRE", "").replace(",", " ").split()
    if report.skipped and any(item.get_closest_marker(mark) for mark in required):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped and FORECAST_TESTS_REQUIRE wants it: {report.longrepr}"
    return report
