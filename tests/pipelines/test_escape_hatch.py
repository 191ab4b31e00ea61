"""MLflow's own scoring server in place of our service: the same champion, the same numbers."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import requests

from forecast import home
from forecast.series.read import from_frame
from pipelines import registry
from tests import servers
from tests.pipelines.conftest import Trained, sales

pytestmark = pytest.mark.slow


def test_mlflow_models_serve_answers_with_the_numbers_of_the_library(
    trained: Trained, tmp_path: Path
) -> None:
    port = servers.free_port()
    mlflow = shutil.which("mlflow", path=str(Path(sys.executable).parent))
    assert mlflow
    arguments = ["models", "serve", "-m", "models:/shop@champion", "--env-manager", "local"]
    process = servers.Process(
        [mlflow, *arguments, "--port", str(port)],
        tmp_path / "serve.log",
        {
            "MLFLOW_TRACKING_URI": home.tracking_uri(),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
    )
    history = sales().rename(columns={"shop": "unique_id", "day": "ds", "units": "y"})
    rows = history.assign(ds=history["ds"].dt.strftime("%Y-%m-%dT%H:%M:%S"))
    try:
        process.start()
        process.wait_for(f"http://127.0.0.1:{port}/ping")
        answer = requests.post(
            f"http://127.0.0.1:{port}/invocations",
            json={"dataframe_split": rows.to_dict(orient="split", index=False), "params": {"levels": [80]}},
            timeout=60,
        )
    finally:
        process.stop()
    assert answer.ok, answer.text
    found = answer.json()["predictions"]
    own = registry.load(registry.find("shop")).predict(from_frame(history, freq="D")).to_frame(levels=[80])
    assert len(found) == len(own) == 14
    for column in ("median", "lo-80", "hi-80"):
        np.testing.assert_allclose([row[column] for row in found], own[column], rtol=1e-6, err_msg=column)
