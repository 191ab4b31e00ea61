"""Cross-validation and fitted values by the real client, compared with forecasts of cut histories."""

import time
from typing import Any

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pytest
from nixtla import ApiError, NixtlaClient

from tests.nixtla.live import monthly


@pytest.mark.parametrize(("step_size", "cutoffs"), [(None, [63, 66, 69]), (1, [67, 68, 69])])
def test_each_window_is_the_forecast_of_the_history_until_its_cutoff(
    client: NixtlaClient, df: pd.DataFrame, step_size: int | None, cutoffs: list[int]
) -> None:
    found = client.cross_validation(
        df, h=3, freq="MS", n_windows=3, step_size=step_size, level=[80], model="air"
    )
    assert len(found) == 2 * 3 * 3
    for name, own in df.groupby("unique_id"):
        for cutoff in cutoffs:
            last = own["ds"].iloc[cutoff - 1]
            window = found[(found["unique_id"] == name) & (found["cutoff"] == last)]
            alone = client.forecast(own.head(cutoff), h=3, freq="MS", level=[80], model="air")
            assert window["ds"].tolist() == alone["ds"].tolist()
            for column in ("TimeGPT", "TimeGPT-lo-80", "TimeGPT-hi-80"):
                np.testing.assert_allclose(window[column], alone[column], rtol=1e-5)
            np.testing.assert_allclose(window["y"], own["y"].iloc[cutoff : cutoff + 3])


def test_partitions_quantiles_and_polars(client: NixtlaClient) -> None:
    df = monthly(72, ids=("c", "a", "b"))
    asked: dict[str, Any] = {"h": 4, "n_windows": 2, "quantiles": [0.1, 0.9], "model": "air"}
    whole = client.cross_validation(df, freq="MS", **asked)
    parts = client.cross_validation(df, freq="MS", num_partitions=3, **asked)
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-6)
    frame = client.cross_validation(pl.from_pandas(df), freq="1mo", **asked)
    assert isinstance(frame, pl.DataFrame)
    np.testing.assert_allclose(frame["TimeGPT-q-90"].to_numpy(), whole["TimeGPT-q-90"], rtol=1e-6)


def test_fitted_values_line_up_with_the_history(client: NixtlaClient) -> None:
    df = pd.concat([monthly(72, ids=("a",)), monthly(40, ids=("b",))], ignore_index=True)
    found = client.forecast(df, h=3, freq="MS", level=[90], add_history=True, model="air")
    for name, num_steps in (("a", 72), ("b", 40)):
        own = found[found["unique_id"] == name]
        history = df[df["unique_id"] == name]
        assert len(own) == num_steps - 12 + 3, "what stands after min_context, and the future"
        assert own["ds"].tolist()[:-3] == history["ds"].tolist()[12:]
        for start in (num_steps - 6, num_steps - 12):
            block = client.forecast(history.head(start), h=6, freq="MS", level=[90], model="air")
            fitted = own[own["ds"].isin(block["ds"])]
            np.testing.assert_allclose(fitted["TimeGPT"], block["TimeGPT"], rtol=1e-5)
            np.testing.assert_allclose(fitted["TimeGPT-hi-90"], block["TimeGPT-hi-90"], rtol=1e-5)
    first = client.forecast(df.head(12), h=6, freq="MS", model="air")["TimeGPT"]
    np.testing.assert_allclose(found[found["unique_id"] == "a"]["TimeGPT"].iloc[:6], first, rtol=1e-5)


def test_fitted_values_in_partitions_and_polars(client: NixtlaClient) -> None:
    df = monthly(50, ids=("a", "b", "c"))
    whole = client.forecast(df, h=2, freq="MS", add_history=True, model="air")
    parts = client.forecast(df, h=2, freq="MS", add_history=True, model="air", num_partitions=2)
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-6)
    frame = client.forecast(
        pl.from_pandas(df), h=2, freq="1mo", add_history=True, model="air", num_partitions=1
    )
    np.testing.assert_allclose(frame["TimeGPT"].to_numpy(), whole["TimeGPT"], rtol=1e-6)


def test_a_history_without_room_for_fitted_values_still_gets_its_forecast(client: NixtlaClient) -> None:
    found = client.forecast(monthly(12), h=2, freq="MS", add_history=True, model="air", level=[80])
    assert len(found) == 2


def test_known_covariates_are_used_at_every_cutoff(client: NixtlaClient) -> None:
    df = monthly(72, ids=("a", "b")).assign(price=np.tile(np.linspace(1, 2, 72), 2), promo=1.0)
    found = client.cross_validation(df, h=3, freq="MS", model="priced")
    future = df.groupby("unique_id").tail(3).drop(columns="y")
    history = df.groupby("unique_id").head(69)
    alone = client.forecast(history, h=3, freq="MS", X_df=future, model="priced")
    np.testing.assert_allclose(found["TimeGPT"], alone["TimeGPT"], rtol=1e-5)
    whole = client.forecast(history, h=3, freq="MS", X_df=future, model="priced", add_history=True)
    assert len(whole) == 2 * (69 - 12 + 3)
    short = client.forecast(
        history.groupby("unique_id").head(15),
        h=3,
        freq="MS",
        X_df=df.groupby("unique_id").head(18).groupby("unique_id").tail(3).drop(columns="y"),
        model="priced",
        add_history=True,
    )
    assert len(short) == 2 * (15 - 12 + 3), "fewer steps than a horizon"


def body(**more: Any) -> dict[str, Any]:
    """What the client sends, by hand, to see the headers that it does not show."""
    df = monthly(48)
    series = {"y": df["y"].tolist(), "sizes": [48], "start_datetime": ["2020-01-01"], "X": None}
    return {"series": series, "model": "air", "freq": "MS", "h": 3, "n_windows": 1, "step_size": 3, **more}


def test_the_result_of_a_job_is_marked_like_the_answer_of_the_call(url: str) -> None:
    path = f"{url}/v2/cross_validation"
    job_id = httpx.post(f"{path}/async", json=body()).json()["job_id"]
    deadline = time.monotonic() + 30
    while (state := httpx.get(f"{path}/jobs/{job_id}")).json()["status"] in ("pending", "running"):
        assert not [name for name in state.headers if name.startswith("x-forecast")]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    called = httpx.post(path, json=body())
    for name in ("x-forecast-notes", "x-forecast-model", "x-forecast-run"):
        assert state.headers[name] == called.headers[name]
    assert {**state.json()["result"], "request_id": ""} == {**called.json(), "request_id": ""}


@pytest.mark.parametrize("more", [{}, {"full_history": True}])
def test_what_the_model_was_trained_on_is_marked(url: str, more: dict[str, Any]) -> None:
    known = httpx.post(f"{url}/v2/cross_validation", json=body(**more))
    assert known.headers["x-forecast-notes"].split(", ")[0] == "in_sample"
    assert known.headers["x-forecast-model"] == "air/2"
    assert known.headers["x-forecast-run"] == "run-air-2"
    later = body(**more)
    later["series"]["start_datetime"] = ["2030-01-01"]
    unknown = httpx.post(f"{url}/v2/cross_validation", json=later)
    assert "in_sample" not in unknown.headers.get("x-forecast-notes", "")
    assert unknown.json()["mean"] == known.json()["mean"]


def test_the_r_client_gets_its_fitted_values(url: str, client: NixtlaClient) -> None:
    asked = body(level=[80])
    asked["series"].pop("start_datetime")
    found = httpx.post(f"{url}/v2/historic_forecast", json=asked).json()
    frame = client.forecast(monthly(48), h=3, freq="MS", add_history=True, level=[80], model="air")
    assert found["sizes"] == [36]
    np.testing.assert_allclose(found["mean"], frame["TimeGPT"].iloc[:36], rtol=1e-5)
    np.testing.assert_allclose(found["intervals"]["lo-80"], frame["TimeGPT-lo-80"].iloc[:36], rtol=1e-5)


def test_gaps_leave_no_hole_in_the_index(client: NixtlaClient) -> None:
    df = monthly(100)
    df.loc[30:60, "y"] = np.nan
    found = client.forecast(df, h=2, freq="MS", add_history=True, model="air")
    assert found["ds"].tolist()[:-2] == df["ds"].tolist()[12:]
    assert found["TimeGPT"].isna().any(), "where too little was seen"
    assert found["TimeGPT"].iloc[-25:].notna().all()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"n_windows": 30}, "of the 30 windows"),
        ({"n_windows": 10**6}, "may hold"),
        ({"h": 1000}, "max_horizon"),
        ({"finetune_steps": 1}, "retrain"),
    ],
)
def test_windows_that_do_not_fit_are_refused(client: NixtlaClient, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError, match=words) as refused:
        client.cross_validation(monthly(40), **{"h": 3, "freq": "MS", "model": "air", **asked})
    assert refused.value.status_code in (422, 501)
