"""What the tests of the service share."""

from collections.abc import Iterator

import pytest

from tests.service.builders import Client, Registry, baseline, serving


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
