"""What the client asks beside its tasks."""

from pathlib import Path

import httpx
import pytest
from nixtla import ApiError, NixtlaClient

from service.keys import create_key, revoke_key
from service.settings import Settings
from tests.nixtla.live import client_of, live, monthly
from tests.service.builders import Registry, baseline


def test_models_are_listed_and_described(client: NixtlaClient, url: str) -> None:
    assert client.list_models() == ["air", "daily", "hourly", "priced", "steps", "stocks"]
    asked = httpx.get(f"{url}/model_params", params={"model": "air@champion", "freq": "MS"}).json()
    posted = httpx.post(f"{url}/model_params", json={"model": "air@champion", "freq": "MS"}).json()
    assert asked == posted == {"detail": {"input_size": 24, "horizon": 6}}
    assert client.finetuned_models(as_df=False) == []
    assert client.delete_finetuned_model("x") is False
    with pytest.raises(ApiError, match="retrain"):
        client.finetuned_model("x")
    assert isinstance(client.usage(), dict)


def test_without_keys_every_key_is_good(client: NixtlaClient) -> None:
    assert client.validate_api_key()


def test_keys_open_what_their_scopes_say(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.security.LOOK_SECONDS", 0.0)
    registry.add("air", "1", baseline(), "champion")
    secret, key = create_key("notebook", scopes=["forecast"])
    reader, _ = create_key("dashboard", scopes=["read"])
    with live() as url:
        good, bad = client_of(url, secret), client_of(url, "fk_wrong")
        assert good.validate_api_key()
        assert not bad.validate_api_key()
        assert client_of(url, reader).validate_api_key()
        assert len(good.forecast(monthly(), h=2, freq="MS", model="air", validate_api_key=True)) == 2
        with pytest.raises(ApiError, match="unknown, expired or revoked") as refused:
            bad.forecast(monthly(), h=2, freq="MS", model="air")
        assert refused.value.status_code == 401
        with pytest.raises(ApiError, match="scope 'forecast'") as refused:
            client_of(url, reader).forecast(monthly(), h=2, freq="MS", model="air")
        assert refused.value.status_code == 403
        assert httpx.post(f"{url}/validate_token").status_code == 401
        assert (
            httpx.post(f"{url}/validate_token", headers={"authorization": f"Bearer {secret}"}).status_code
            == 200
        )
        revoke_key(key.id)
        assert not good.validate_api_key()


def test_the_clients_own_names_mean_the_default_model(registry: Registry) -> None:
    registry.add("air", "1", baseline(), "champion")
    registry.add("air", "2", baseline("naive"), "challenger")
    with live(Settings(default_model="air@challenger")) as url:
        client = client_of(url)
        df = monthly()
        found = client.forecast(df, h=2, freq="MS")
        assert found["TimeGPT"].tolist() == pytest.approx([df["y"].iloc[-1]] * 2)
        assert found.equals(client.forecast(df, h=2, freq="MS", model="timegpt-1-long-horizon"))


def test_without_models_the_404_says_what_to_do(tmp_path: Path) -> None:
    with live() as url, pytest.raises(ApiError, match="retrain RECIPE") as refused:
        client_of(url).forecast(monthly(), h=2, freq="MS")
    assert refused.value.status_code == 404


def test_the_point_forecast_can_be_the_mean(registry: Registry) -> None:
    registry.add("air", "1", baseline(transform="log"), "champion")
    df = monthly()
    with live(Settings(point="mean")) as url:
        found = client_of(url).forecast(df, h=3, freq="MS", model="air")["TimeGPT"].tolist()
        history = {"unique_id": "a", "start": "2020-01-01", "y": df["y"].tolist()}
        body = {"model": "air", "horizon": 3, "output": ["mean", "median"], "series": [history]}
        one = httpx.post(f"{url}/v1/forecasts", json=body).json()["forecasts"][0]
    assert found == pytest.approx(one["mean"], rel=1e-5)
