"""The real process beside a real registry: the documented migration, and jobs that survive its end."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest

from forecast import home
from forecast.series import datasets
from tests.nixtla.live import client_of, monthly
from tests.service.builders import Registered, baseline

pytestmark = pytest.mark.slow

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "nixtla.md").read_text()
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture
def registered(tmp_path: Path) -> Registered:
    """A registry in the home folder of this test with a champion and a challenger of `air_passengers`."""
    made = Registered()
    made.version("air_passengers", baseline(start="1949-01-01"), "champion")
    made.version("air_passengers", baseline("naive", start="1949-01-01"), "challenger")
    return made


@contextmanager
def served(**environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`forecast serve` on a free port, and its URL."""
    command = [str(Path(sys.executable).with_name("forecast")), "serve", "--port", "0"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "FORECAST_LOOKUP_SECONDS": "90", **environment},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving on "), line
        yield process, line.split()[-1]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_the_documented_migration_runs(registered: Registered) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", DOCS, flags=re.DOTALL | re.MULTILINE)
    assert ADDRESS in example
    df = datasets.load("air_passengers")
    with served(FORECAST_DEFAULT_MODEL="air_passengers") as (_, url):
        assert client_of(url).list_models() == ["air_passengers"], "the first question waits for the registry"
        names = {"df": df}
        exec(example.replace(ADDRESS, url), names)
        found = pd.DataFrame(names["forecast"])
        assert len(found) == 12
        assert {"TimeGPT", "TimeGPT-lo-95", "TimeGPT-hi-80"} <= set(found.columns)
        client = client_of(url)
        default = client.forecast(df, h=12, freq="MS", level=[80, 95])
        pd.testing.assert_frame_equal(found, default)
        challenger = client.forecast(df, h=2, freq="MS", model="air_passengers@challenger")
        np.testing.assert_allclose(challenger["TimeGPT"], df["y"].iloc[-1], rtol=1e-5)
        registered.client.set_registered_model_alias("air_passengers", "champion", "2")
        deadline = time.monotonic() + 60
        while not np.allclose(client.forecast(df, h=2, freq="MS")["TimeGPT"], challenger["TimeGPT"]):
            assert time.monotonic() < deadline, "the new champion never answered"
            time.sleep(0.2)


def test_jobs_survive_a_kill(registered: Registered) -> None:
    df = monthly(400, ids=tuple(f"s{place:03d}" for place in range(30)), start="1950-01-01")
    asked = {"h": 1, "step_size": 1, "n_windows": 300, "freq": "MS", "model": "air_passengers"}
    with served(FORECAST_JOBS_RUNNING="1") as (process, url):
        jobs = [client_of(url).jobs.cross_validation(df, **asked) for _ in range(6)]  # type: ignore[arg-type]
        process.kill()
    assert (home.home() / "jobs" / "jobs.db").exists()
    with served(FORECAST_WORKERS="2") as (_, url):  # either process may be asked
        for job in jobs:
            deadline = time.monotonic() + 100
            while True:
                found = httpx.get(f"{url}/v2/cross_validation/jobs/{job.job_id}", timeout=60).json()
                if found["status"] not in ("pending", "running"):
                    break
                assert time.monotonic() < deadline, found
                time.sleep(0.2)
            assert found["status"] == "succeeded", found["error"]
            assert len(found["result"]["mean"]) == 30 * 300
    shutil.rmtree(home.home() / "jobs")
