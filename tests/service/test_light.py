"""The serving path predicts with a trained network and loads neither torch nor mlflow."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forecast.models.forecaster import Forecaster
from forecast.series.panel import Panel
from tests.service.builders import Registry, monthly_values, network, panel, request_body, serving

ANSWER = """
import json, sys
from tests.service.builders import request_body, serving
with serving() as client:
    models = client.get("/v1/models").json()["models"]
    answer = client.post(request_body(model="net", levels=[80])).json()
loaded = [name for name in ("torch", "mlflow", "sklearn", "statsforecast", "scipy") if name in sys.modules]
print(json.dumps({"answer": answer, "models": models, "loaded": loaded}))
"""


@pytest.fixture(scope="module")
def lstm() -> Forecaster:
    """A tiny LSTM."""
    return network(panel(), backbone="lstm")


def in_another_process() -> dict[str, Any]:
    """What a fresh interpreter answers and has loaded."""
    root = Path(__file__).resolve().parents[2]
    finished = subprocess.run(
        [sys.executable, "-c", ANSWER], cwd=root, capture_output=True, text=True, check=True
    )
    content: dict[str, Any] = json.loads(finished.stdout)
    return content


def test_a_network_is_served_by_onnx_runtime_without_torch_or_mlflow(
    registry: Registry, lstm: Forecaster
) -> None:
    registry.add("net", "1", lstm, "champion")
    found = in_another_process()
    assert found["loaded"] == []
    assert found["models"][0]["kind"] == "network"
    expected = lstm.predict(panel(), 3)
    forecast = found["answer"]["forecasts"][0]
    np.testing.assert_allclose(forecast["median"], expected.median[0], rtol=1e-4)
    np.testing.assert_allclose(forecast["hi-80"], expected.interval(80)[1][0], rtol=1e-4)


def test_a_network_without_a_graph_is_served_by_torch(registry: Registry, lstm: Forecaster) -> None:
    registry.add("net", "1", lstm, "champion", onnx=False)
    with serving() as client:
        response = client.post(request_body(model="net"))
        assert response.status_code == 200
        expected = lstm.predict(panel(), 3).median[0]
        np.testing.assert_allclose(response.json()["forecasts"][0]["median"], expected, rtol=1e-5)


def test_a_model_with_covariates_wants_exactly_these(registry: Registry) -> None:
    values = np.array(monthly_values())
    trained_on = Panel.from_arrays(
        ["AP"], [values], starts=["2020-01-01"], freq="MS", known=[{"price": np.arange(54.0)}]
    )
    registry.add("priced", "1", network(trained_on, backbone="gru", known=("price",)), "champion")
    series = request_body()["series"][0]

    def ask(client: Any, **more: Any) -> Any:
        return client.post(request_body(model="priced", series=[{**series, **more}]))

    with serving() as client:
        assert ask(client, known={"price": [1.0] * 51}).status_code == 200
        assert "uses the known covariates price" in ask(client).json()["detail"]
        short = ask(client, known={"price": [1.0] * 50}).json()
        assert short["errors"][0]["pointer"] == "#/series/0/known/price"
        assert "50 values were sent and 51 are needed" in short["detail"]
        assert ask(client, known={"price": [1.0] * 51}, static={"size": 3}).status_code == 422


def test_a_watcher_loads_little_before_the_workers_have_started() -> None:
    code = (
        "import sys, service.watcher; print([m for m in ('pandas', 'numpy', 'mlflow') if m in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"
