"""Forecasts by the real nixtla client, compared with the native API's."""

from typing import Any

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pytest
from nixtla import ApiError, NixtlaClient

from service.settings import Settings
from tests.nixtla.live import client_of, live, monthly, native
from tests.service.builders import Registry, baseline


def test_the_client_shows_what_the_native_api_answers(
    client: NixtlaClient, url: str, df: pd.DataFrame
) -> None:
    found = client.forecast(df, h=6, freq="MS", level=[80, 95.5], model="air")
    answered = native(url, df, model="air", horizon=6, levels=[80, 95.5])
    assert len(found) == 12
    for name, own in found.groupby("unique_id"):
        one = answered[str(name)]
        assert own["ds"].dt.strftime("%Y-%m-%dT%H:%M:%S").tolist() == one["ds"]
        np.testing.assert_allclose(own["TimeGPT"], one["median"], rtol=1e-5)
        for column in ("lo-80", "hi-80", "lo-95.5", "hi-95.5"):
            np.testing.assert_allclose(own[f"TimeGPT-{column}"], one[column], rtol=1e-5)
    lows = found[["TimeGPT-lo-95.5", "TimeGPT-lo-80", "TimeGPT", "TimeGPT-hi-80", "TimeGPT-hi-95.5"]]
    assert (np.diff(lows.to_numpy(), axis=1) >= 0).all(), "intervals nest"


def test_quantiles_are_those_of_the_native_api(client: NixtlaClient, url: str, df: pd.DataFrame) -> None:
    found = client.forecast(df, h=3, freq="MS", quantiles=[0.1, 0.5, 0.9], model="air")
    answered = native(url, df, model="air", horizon=3, quantiles=[0.1, 0.5, 0.9])
    for column, key in (("TimeGPT-q-10", "q-0.1"), ("TimeGPT-q-50", "q-0.5"), ("TimeGPT-q-90", "q-0.9")):
        np.testing.assert_allclose(found[column], answered["a"][key] + answered["b"][key], rtol=1e-5)


@pytest.mark.parametrize("name", ["air", "air@champion", "air/2", "air@challenger", "air/1"])
def test_models_are_named_as_in_the_native_api(client: NixtlaClient, url: str, name: str) -> None:
    df = monthly(72)
    found = client.forecast(df, h=2, freq="MS", model=name)
    np.testing.assert_allclose(
        found["TimeGPT"], native(url, df, model=name, horizon=2)["a"]["median"], rtol=1e-5
    )


def test_partitions_and_order_change_nothing(client: NixtlaClient) -> None:
    df = monthly(72, ids=("c", "a", "b"))
    whole = client.forecast(df, h=4, freq="MS", level=[80], model="air")
    shuffled = client.forecast(
        df.sample(frac=1, random_state=0), h=4, freq="MS", level=[80], model="air", num_partitions=2
    )
    pd.testing.assert_frame_equal(
        whole.sort_values(["unique_id", "ds"], ignore_index=True),
        shuffled.sort_values(["unique_id", "ds"], ignore_index=True),
        rtol=1e-6,
    )


def test_partitions_do_not_crowd_each_other_out(registry: Registry) -> None:
    registry.add("air", "1", baseline(), "champion")
    df = monthly(60, ids=tuple(f"s{place:04d}" for place in range(400)))
    narrow = Settings(queue_rows=1, hold_seconds=0.001, bulk_requests=1)
    with live(narrow) as url:
        found = client_of(url).forecast(df, h=2, freq="MS", model="air", num_partitions=10)
    assert len(found) == 800, "the client gives up at the first 503"


def test_polars_frames_come_back_as_polars(client: NixtlaClient, df: pd.DataFrame) -> None:
    found = client.forecast(pl.from_pandas(df), h=6, freq="1mo", level=[90], model="air")
    assert isinstance(found, pl.DataFrame)
    expected = client.forecast(df, h=6, freq="MS", level=[90], model="air")
    for column in ("TimeGPT", "TimeGPT-lo-90", "TimeGPT-hi-90"):
        np.testing.assert_allclose(found[column].to_numpy(), expected[column], rtol=1e-6)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "Europe/Berlin"])
def test_time_zones_come_back_as_they_were_sent(client: NixtlaClient, zone: str) -> None:
    ds = pd.date_range("2024-03-20", periods=240, freq="h", tz=zone)
    df = pd.DataFrame({"ds": ds, "y": np.arange(240) % 24 + 1.0})
    found = client.forecast(df, h=5, freq="h", model="hourly")
    assert str(found["ds"].dt.tz) == zone
    assert found["ds"].tolist() == pd.date_range(ds[-1], periods=6, freq="h")[1:].tolist()
    plain = client.forecast(
        df.assign(ds=pd.date_range("2024-03-20", periods=240, freq="h")), h=5, model="hourly"
    )
    np.testing.assert_allclose(found["TimeGPT"], plain["TimeGPT"])


@pytest.mark.parametrize("model", ["steps", "daily"])
def test_integer_time_is_forecast_by_any_model(client: NixtlaClient, model: str) -> None:
    df = pd.DataFrame({"unique_id": 7, "ds": np.arange(3, 63), "y": np.arange(60.0)})
    found = client.forecast(df, h=4, freq=1, model=model, level=[80])
    assert found["ds"].tolist() == [63, 64, 65, 66]
    assert found["unique_id"].tolist() == [7] * 4


@pytest.mark.parametrize(
    ("freq", "start", "model"),
    [("D", "2024-01-03", "daily"), ("ME", "2020-01-31", "air"), ("h", "2024-01-01 00:30", "hourly")],
)
def test_frequencies_of_the_model_in_other_words_are_understood(
    client: NixtlaClient, freq: str, start: str, model: str
) -> None:
    df = pd.DataFrame({"ds": pd.date_range(start, periods=60, freq=freq), "y": np.arange(60.0)})
    assert len(client.forecast(df, h=3, freq=freq, model=model)) == 3
    assert len(client.forecast(df, h=3, model=model)) == 3, "inferred by the client"
    offset = pd.tseries.frequencies.to_offset(freq)
    assert len(client.forecast(df, h=3, freq=offset, model=model)) == 3


@pytest.mark.parametrize(
    ("offset", "start", "model"),
    [
        (pd.DateOffset(months=1), "2020-01-15", "air"),
        (pd.DateOffset(days=1), "2024-01-03", "daily"),
        (2 * pd.DateOffset(minutes=30), "2024-01-01", "hourly"),
    ],
)
def test_offsets_of_pandas_without_a_name_are_understood(
    client: NixtlaClient, offset: pd.DateOffset, start: str, model: str
) -> None:
    stamps = [pd.Timestamp(start) + step * offset for step in range(60)]
    df = pd.DataFrame({"ds": stamps, "y": np.arange(60.0)})
    found = client.forecast(df, h=3, freq=offset, model=model)
    assert found["ds"].tolist() == [pd.Timestamp(start) + step * offset for step in (60, 61, 62)]


def test_trading_days_are_business_days_with_or_without_holidays(client: NixtlaClient) -> None:
    holiday = pd.offsets.CustomBusinessDay(holidays=["2024-01-15"])
    for freq in ("B", holiday):
        ds = pd.date_range("2024-01-02", periods=60, freq=freq)
        found = client.forecast(
            pd.DataFrame({"ds": ds, "y": np.arange(60.0)}), h=3, freq=freq, model="stocks"
        )
        assert len(found) == 3


@pytest.mark.parametrize("spoil", ["gap", "twice"])
def test_an_irregular_index_is_refused_by_the_client_itself(client: NixtlaClient, spoil: str) -> None:
    df = monthly(60)
    df = df.drop(index=30) if spoil == "gap" else pd.concat([df, df.tail(1)])
    with pytest.raises(ValueError, match="missing timestamps" if spoil == "gap" else "duplicate"):
        client.forecast(df, h=2, freq="MS", model="air")


def test_missing_values_are_read_as_missing(client: NixtlaClient, url: str) -> None:
    df = monthly(72)
    df.loc[[3, 65, 70], "y"] = np.nan
    found = client.forecast(df, h=3, freq="MS", model="air")
    whole = df.assign(y=df["y"].astype(object).where(df["y"].notna(), None))
    np.testing.assert_allclose(
        found["TimeGPT"], native(url, whole, model="air", horizon=3)["a"]["median"], rtol=1e-5
    )


def test_an_id_column_of_another_name_and_none_at_all(client: NixtlaClient) -> None:
    df = monthly(72)
    named = df.rename(columns={"unique_id": "shop", "ds": "month", "y": "sales"})
    found = client.forecast(
        named, h=2, freq="MS", id_col="shop", time_col="month", target_col="sales", model="air"
    )
    alone = client.forecast(df.drop(columns="unique_id").set_index("ds"), h=2, freq="MS", model="air")
    assert list(found.columns) == ["shop", "month", "TimeGPT"]
    assert list(alone.columns) == ["ds", "TimeGPT"]
    np.testing.assert_allclose(alone["TimeGPT"], found["TimeGPT"])


def priced(num_steps: int = 72) -> pd.DataFrame:
    """Series with the covariates of the model `priced`."""
    df = monthly(num_steps, ids=("b", "a"))
    return df.assign(
        price=1 + np.tile(np.arange(num_steps) / num_steps, 2),
        promo=np.tile(np.arange(num_steps) % 2, 2) * 1.0,
    )


def test_known_covariates_reach_the_model_in_its_order(client: NixtlaClient, url: str) -> None:
    whole = priced(76)
    df, future = whole.groupby("unique_id").head(72), whole.groupby("unique_id").tail(4).drop(columns="y")
    found = client.forecast(df, h=4, freq="MS", X_df=future, model="priced", level=[80])
    body = {
        "model": "priced",
        "horizon": 4,
        "series": [
            {
                "unique_id": str(name),
                "start": "2020-01-01",
                "y": own["y"].tolist()[:72],
                "known": {"price": own["price"].tolist(), "promo": own["promo"].tolist()},
            }
            for name, own in whole.groupby("unique_id")
        ],
    }
    answered = httpx.post(f"{url}/v1/forecasts", json=body).json()["forecasts"]
    expected = np.concatenate([each["median"] for each in answered])
    np.testing.assert_allclose(found["TimeGPT"], expected, rtol=1e-5)
    swapped = client.forecast(
        df[["unique_id", "ds", "y", "promo", "price"]],
        h=4,
        freq="MS",
        X_df=future[["unique_id", "ds", "promo", "price"]],
        model="priced",
    )
    assert not np.allclose(swapped["TimeGPT"], expected), "names do not travel: the order says which is which"


def test_covariates_that_the_model_does_not_use_count_nothing(client: NixtlaClient, df: pd.DataFrame) -> None:
    plain = client.forecast(df, h=3, freq="MS", model="air")
    dated = client.forecast(
        df, h=3, freq="MS", model="air", date_features=True, date_features_to_one_hot=True
    )
    np.testing.assert_allclose(plain["TimeGPT"], dated["TimeGPT"])
    weights: Any = client.weights_x
    assert (weights["weights"] == 0).all(), "which the client shows"
    extra = df.assign(temperature=1.0, colour="red")
    historic = client.forecast(
        extra,
        h=3,
        freq="MS",
        model="air",
        hist_exog_list=["temperature", "colour"],
        categorical_exog_list=["colour"],
        model_parameters={"anything": 1},
    )
    np.testing.assert_allclose(plain["TimeGPT"], historic["TimeGPT"])
    weights = client.weights_x
    assert weights["features"].tolist() == ["temperature", "colour"]


def test_the_wrong_number_of_covariates_is_refused_by_name(client: NixtlaClient) -> None:
    whole = priced(76)
    df, future = whole.groupby("unique_id").head(72), whole.groupby("unique_id").tail(4).drop(columns="y")
    with pytest.raises(ApiError, match=r"price, promo, and got 1") as refused:
        client.forecast(df, h=4, freq="MS", X_df=future.drop(columns="promo"), model="priced")
    assert refused.value.status_code == 422


def test_a_large_body_comes_compressed(client: NixtlaClient) -> None:
    """More than a megabyte of JSON, which the client sends as one zstd frame."""
    df = monthly(60, ids=tuple(f"s{place:05d}" for place in range(1600)))
    found = client.forecast(df, h=2, freq="MS", model="air/1")
    assert len(found) == 3200
    np.testing.assert_allclose(found["TimeGPT"], df.groupby("unique_id")["y"].last().repeat(2), rtol=1e-5)


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"h": 1000}, 422, "max_horizon"),
        ({"level": [100]}, 422, "from 0 to below 100"),
        ({"level": [-1]}, 422, "from 0 to below 100"),
        ({"model": "nothing"}, 404, "air"),
        ({"model": "air/77"}, 404, "air"),
        ({"model": "timegpt-2.1"}, 404, "FORECAST_DEFAULT_MODEL"),
        ({"model": "daily"}, 422, "daily"),
        ({"finetune_steps": 5}, 501, "retrain"),
        ({"finetuned_model_id": "x"}, 501, "retrain"),
    ],
)
def test_what_cannot_be_answered_is_refused_at_once(
    client: NixtlaClient, df: pd.DataFrame, asked: dict[str, Any], status: int, words: str
) -> None:
    with pytest.raises(ApiError) as refused:
        client.forecast(df, **{"h": 2, "freq": "MS", "model": "air", **asked})
    assert refused.value.status_code == status
    assert words in refused.value.body["detail"]
    assert refused.value.status_code not in (408, 409, 429, 502, 503, 504), "the client would ask again"


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_values_are_refused(client: NixtlaClient, df: pd.DataFrame, value: float) -> None:
    df.loc[70, "y"] = value
    with pytest.raises(ApiError, match=r"3\.4e38"):
        client.forecast(df, h=2, freq="MS", model="air")


def test_a_short_history_is_refused_with_the_need(client: NixtlaClient) -> None:
    with pytest.raises(ApiError, match=r"at least 12 observed values and got 5"):
        client.forecast(monthly(5), h=2, freq="MS", model="air")
    missing = monthly(60).assign(y=np.nan)
    with pytest.raises(ApiError, match="missing") as refused:
        client.forecast(missing, h=2, freq="MS", model="air")
    assert refused.value.status_code == 422
