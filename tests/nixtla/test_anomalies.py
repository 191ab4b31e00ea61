"""Anomalies found through the real client."""

from typing import Any

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pytest
from nixtla import ApiError, NixtlaClient

from service.settings import Settings
from tests.nixtla.live import client_of, live, monthly
from tests.service.builders import Registry, baseline

pytestmark = [
    pytest.mark.filterwarnings("ignore:detect_anomalies:FutureWarning"),  # the client announces new names
    pytest.mark.filterwarnings("ignore:The 'warn' method:DeprecationWarning"),  # and calls it
]


def spoilt(num_steps: int = 100, ids: tuple[str, ...] = ("a", "b")) -> pd.DataFrame:
    """Series of which the first has an outlier at step 95."""
    df = monthly(num_steps, ids=ids)
    df.loc[95, "y"] = 700.0
    return df


def test_an_outlier_is_found_and_the_rest_is_what_the_native_api_says(client: NixtlaClient, url: str) -> None:
    df = spoilt()
    found = client.detect_anomalies(df, freq="MS", level=99, model="air")
    assert len(found) == 2 * (100 - 12)
    assert found[(found["unique_id"] == "a")]["anomaly"].iloc[95 - 12]
    assert found["ds"].tolist() == df.groupby("unique_id").tail(88)["ds"].tolist()
    series = [
        {"unique_id": str(name), "start": "2020-01-01", "y": own["y"].tolist()}
        for name, own in df.groupby("unique_id")
    ]
    answer = httpx.post(f"{url}/v1/anomalies", json={"model": "air", "level": 99, "series": series}).json()
    for column, key in (("TimeGPT", "median"), ("TimeGPT-lo-99", "lo-99"), ("anomaly", "anomaly")):
        expected = np.concatenate([each[key] for each in answer["anomalies"]])
        np.testing.assert_allclose(found[column].astype(float), expected.astype(float), rtol=1e-5)


def test_partitions_polars_and_missing_values(client: NixtlaClient) -> None:
    df = spoilt()
    df.loc[[20, 150], "y"] = np.nan
    whole = client.detect_anomalies(df, freq="MS", model="air")
    parts = client.detect_anomalies(df, freq="MS", model="air", num_partitions=2, date_features=True)
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-6)
    assert not whole["anomaly"].iloc[20 - 12], "what is missing is no anomaly"
    frame = client.detect_anomalies(pl.from_pandas(spoilt()), freq="1mo", model="air", num_partitions=1)
    assert frame["anomaly"].sum() >= 1


@pytest.mark.parametrize(("h", "step_size"), [(1, None), (4, None), (6, 3), (3, 1), (24, 24)])
def test_the_last_steps_are_judged_online(client: NixtlaClient, h: int, step_size: int | None) -> None:
    df = spoilt()
    found = client.detect_anomalies_online(
        df, h=h, detection_size=10, step_size=step_size, freq="MS", model="air", level=99
    )
    assert len(found) == 20
    assert found["ds"].tolist() == df.groupby("unique_id").tail(10)["ds"].tolist()
    own = found[found["unique_id"] == "a"]
    assert own["anomaly"].iloc[5]
    assert own["anomaly_score"].abs().idxmax() == own.index[5]
    outside = (found["y"] < found["TimeGPT-lo-99"]) | (found["y"] > found["TimeGPT-hi-99"])
    assert found["anomaly"].tolist() == outside.tolist()


def test_online_forecasts_are_those_of_the_cut_history(client: NixtlaClient) -> None:
    df = spoilt(ids=("a",))
    found = client.detect_anomalies_online(df, h=4, detection_size=10, freq="MS", model="air")
    for first, cutoff in ((0, 90), (4, 94)):
        alone = client.forecast(df.head(cutoff), h=4, freq="MS", model="air")
        size = 2 if first else 4  # the last window is moved so that it ends with the history
        np.testing.assert_allclose(
            found["TimeGPT"].iloc[first : first + size], alone["TimeGPT"].iloc[:size], rtol=1e-5
        )


@pytest.mark.parametrize("call", ["detect_anomalies", "forecast"])
def test_more_work_than_one_answer_may_take_is_refused_for_good(registry: Registry, call: str) -> None:
    registry.add("air", "1", baseline(), "champion")
    df = monthly(2000, ids=tuple(f"s{place:03d}" for place in range(20)), start="1700-01-01")
    with live(Settings(request_seconds=0.05)) as url:
        asked: dict[str, Any] = {"freq": "MS", "model": "air", **({"h": 2} if call == "forecast" else {})}
        with pytest.raises(ApiError, match="num_partitions=2") as refused:
            getattr(client_of(url), call)(
                df, **asked, **({"add_history": True} if call == "forecast" else {})
            )
    assert refused.value.status_code == 413, "which the client does not ask again after"


def test_pauses_are_no_anomalies_and_leave_no_hole(client: NixtlaClient) -> None:
    df = spoilt(200, ids=("a",))
    df.loc[120:160, "y"] = np.nan
    found = client.detect_anomalies_online(df, h=4, detection_size=150, freq="MS", model="air")
    assert found["ds"].tolist() == df["ds"].tolist()[50:]
    assert not found["anomaly"].iloc[72:110].any()
    assert found["anomaly"].iloc[45]


def test_one_threshold_for_all_series(client: NixtlaClient) -> None:
    df = spoilt()
    found = client.detect_anomalies_online(
        df, h=2, detection_size=10, freq="MS", model="air", threshold_method="multivariate"
    )
    flags = found["anomaly"].to_numpy().reshape(2, 10)
    assert (flags[0] == flags[1]).all()
    assert flags[0, 5]
    assert found["accumulated_anomaly_score"].idxmax() in (5, 15)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"detection_size": 95}, "windows asked for"),
        ({"h": 2, "step_size": 3}, "larger than h"),
        ({"level": 0}, "no interval"),
        ({"level": 100}, "below 100"),
        ({"h": 1000}, "max_horizon"),
        ({"detection_size": 2**30}, "may hold"),
        ({"model": "gone"}, "there are: air"),
    ],
)
def test_what_cannot_be_judged_is_refused(client: NixtlaClient, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError, match=words) as refused:
        client.detect_anomalies_online(
            spoilt(), **{"h": 2, "detection_size": 4, "freq": "MS", "model": "air", **asked}
        )
    assert refused.value.status_code in (404, 422)
