"""Models with covariates of every kind, asked by the real client, which sends no names."""

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from nixtla import ApiError, NixtlaClient

import forecast as fc
from tests.nixtla.live import client_of, live, monthly
from tests.service.builders import Registry

pytestmark = pytest.mark.filterwarnings("ignore:detect_anomalies:FutureWarning")
STEPS = 60
KINDS: dict[str, Any] = {"known": ["price"], "past": ["visits", "staff"], "static": ["size", "region"]}


def shops(num_steps: int = STEPS) -> pd.DataFrame:
    """Three shops whose sales follow all covariates; `region` is a category."""
    df = monthly(num_steps, ids=("a", "b", "c"))
    random = np.random.default_rng(0)
    df["price"] = random.uniform(1, 2, len(df))
    df["visits"] = random.uniform(10, 20, len(df))
    df["staff"] = random.integers(1, 9, len(df)).astype(float)
    df["size"] = df["unique_id"].map({"a": 1.0, "b": 5.0, "c": 9.0})
    df["region"] = df["unique_id"].map({"a": "north", "b": "south", "c": "north"})
    df["y"] += 40 * df["price"] + 3 * df["visits"] + df["size"]
    return df


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with the model `shop`, trained for a moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORECAST_HOME", str(tmp_path_factory.mktemp("shops")))
        panel = fc.from_frame(shops(), freq="MS", **KINDS)
        spec = fc.ModelSpec(backbone="gru", horizon=4, context_length=24, hidden_size=8, members=1)
        Registry().add("shop", "1", fc.fit(panel, spec, fc.TrainConfig(seed=0, max_steps=60)), "champion")
        with live() as url:
            yield url


@pytest.fixture
def asking(service: str) -> NixtlaClient:
    """The real client of it."""
    return client_of(service)


def native(url: str, df: pd.DataFrame, *, steps: int, horizon: int) -> "np.ndarray[Any, Any]":
    """The native answer for the first `steps` of each shop, where everything is sent by its name."""
    series = [
        {
            "unique_id": str(name),
            "start": "2020-01-01",
            "y": own["y"].tolist()[:steps],
            "known": {"price": own["price"].tolist()[: steps + horizon]},
            "past": {key: own[key].tolist()[:steps] for key in ("visits", "staff")},
            "static": {"size": own["size"].iloc[0], "region": own["region"].iloc[0]},
        }
        for name, own in df.groupby("unique_id")
    ]
    asked = {"model": "shop", "horizon": horizon, "series": series}
    answer = httpx.post(f"{url}/v1/forecasts", json=asked, timeout=60).raise_for_status().json()
    return np.concatenate([each["median"] for each in answer["forecasts"]])


def split(df: pd.DataFrame, horizon: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Histories with all columns, and the future of the price."""
    last = df.groupby("unique_id").cumcount(ascending=False) < horizon
    return df[~last], df.loc[last, ["unique_id", "ds", "price"]]


ASKED: dict[str, Any] = {
    "freq": "MS",
    "model": "shop",
    "hist_exog_list": ["visits", "staff", "size", "region"],
    "categorical_exog_list": ["region"],
}


def test_every_kind_of_covariate_reaches_the_model(asking: NixtlaClient, service: str) -> None:
    df = shops()
    history, future = split(df, 4)
    found = asking.forecast(history, h=4, X_df=future, **ASKED)
    expected = native(service, df, steps=STEPS - 4, horizon=4)
    np.testing.assert_allclose(found["TimeGPT"], expected, rtol=1e-5)
    other = history.assign(region="south")
    assert not np.allclose(asking.forecast(other, h=4, X_df=future, **ASKED)["TimeGPT"], expected)
    parts = asking.forecast(history, h=4, X_df=future, num_partitions=3, **ASKED)
    np.testing.assert_allclose(parts["TimeGPT"], expected, rtol=1e-5)


def test_looking_back_reads_them_too(asking: NixtlaClient, service: str) -> None:
    df = shops()
    expected = native(service, df, steps=STEPS - 4, horizon=4)
    replayed = asking.cross_validation(df, h=4, n_windows=2, **ASKED)
    last = replayed[replayed["cutoff"] == df["ds"].iloc[STEPS - 5]]
    np.testing.assert_allclose(last["TimeGPT"], expected, rtol=1e-5)
    history, future = split(df, 4)
    fitted = asking.forecast(history, h=4, X_df=future, add_history=True, **ASKED)
    np.testing.assert_allclose(fitted.groupby("unique_id").tail(4)["TimeGPT"], expected, rtol=1e-5)
    numbers = df.drop(columns="region")
    with pytest.raises(ApiError, match="region, and got 0"):
        asking.detect_anomalies_online(
            numbers,
            h=2,
            detection_size=4,
            freq="MS",
            model="shop",
            hist_exog_list=["visits", "staff", "size"],
        )


def test_anomalies_are_judged_with_them(asking: NixtlaClient) -> None:
    df = shops()
    df.loc[50, "y"] = 5000.0
    found = asking.detect_anomalies(df, freq="MS", model="shop", categorical_exog_list=["region"])
    assert found[found["unique_id"] == "a"].set_index("ds")["anomaly"][df["ds"][50]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hist_exog_list": ["visits", "size", "region"]}, "visits, staff, and got 1"),
        ({"hist_exog_list": ["visits", "staff", "size", "more", "region"]}, "visits, staff, and got 3"),
        ({"categorical_exog_list": None, "hist_exog_list": ["visits", "staff", "size"]}, "region, and got 0"),
        ({"date_features": ["month"]}, "date_features counts as features"),
    ],
)
def test_too_few_or_too_many_are_refused_by_name(
    asking: NixtlaClient, change: dict[str, Any], words: str
) -> None:
    history, future = split(shops().assign(more=1.0), 4)
    with pytest.raises(ApiError, match=words) as refused:
        asking.forecast(history, h=4, X_df=future, **{**ASKED, **change})
    assert refused.value.status_code == 422


def test_a_category_that_changes_within_a_series_is_refused(asking: NixtlaClient) -> None:
    history, future = split(shops(), 4)
    history = history.assign(region=np.where(np.arange(len(history)) % 2, "north", "south"))
    with pytest.raises(ApiError, match="one value per series"):
        asking.forecast(history, h=4, X_df=future, **ASKED)


def test_a_horizon_beyond_the_trained_one_has_no_past_to_read(asking: NixtlaClient) -> None:
    history, future = split(shops(70), 10)
    with pytest.raises(ApiError, match="ask for at most 4"):
        asking.forecast(history, h=10, X_df=future, **ASKED)
