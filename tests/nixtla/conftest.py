"""A service on loopback with models that were really trained, once for all tests of the client."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from nixtla import NixtlaClient

import forecast as fc
from forecast.models.forecaster import Forecaster
from tests.nixtla.live import client_of, live, monthly
from tests.service.builders import Registry, baseline, network


def trained() -> Forecaster:
    """A small GRU, trained and calibrated on three monthly series until the end of 2024."""
    panel = fc.from_frame(monthly(ids=("a", "b", "c")), freq="MS")
    spec = fc.ModelSpec(backbone="gru", horizon=6, context_length=24, hidden_size=8, members=1)
    return fc.fit(panel, spec, fc.TrainConfig(seed=0, max_steps=30))


def with_covariates() -> Forecaster:
    """A network that reads two known covariates."""
    frame = monthly(ids=("a", "b"))
    frame["price"] = np.tile(np.linspace(1, 2, 60), 2)
    frame["promo"] = np.tile(np.arange(60) % 2, 2).astype(float)
    panel = fc.from_frame(frame, freq="MS", known=["price", "promo"])
    return network(panel, known=("price", "promo"))


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The service: `air` (1 challenger, 2 champion), `daily`, `hourly`, `steps`, `stocks`, `priced`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORECAST_HOME", str(tmp_path_factory.mktemp("nixtla")))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        registry = Registry()
        registry.add("air", "1", baseline("naive"), "challenger")
        registry.add("air", "2", trained(), "champion")
        registry.add("daily", "1", baseline(freq="D"), "champion")
        registry.add("hourly", "1", baseline(freq="h"), "champion")
        registry.add("steps", "1", baseline(freq=1, start=0), "champion")
        registry.add("stocks", "1", baseline(freq="trading"), "champion")
        registry.add("priced", "1", with_covariates(), "champion")
        with live() as found:
            yield found


@pytest.fixture
def client(url: str) -> NixtlaClient:
    """The real client of that service."""
    return client_of(url)


@pytest.fixture
def df() -> pd.DataFrame:
    """Two series that end after the training data."""
    return monthly(72, ids=("a", "b"))


@pytest.fixture
def registry() -> Registry:
    """An empty cache in the home folder of this test."""
    return Registry()
