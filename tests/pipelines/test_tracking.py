"""Runs in MLflow: what is written, how a run ends, and what happens without a server."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from forecast import home
from forecast.errors import TrackingError
from pipelines import tracking


@pytest.fixture
def experiment(tracked: Path) -> str:
    return tracking.experiment("shop")


def test_an_experiment_opens_in_the_right_pages_and_keeps_its_files_at_home(
    experiment: str,
) -> None:
    found = tracking.client().get_experiment(experiment)
    assert found.tags["mlflow.experimentKind"] == "custom_model_development"
    assert found.artifact_location == (home.artifact_root() / "shop").as_uri()
    assert tracking.experiment("shop") == experiment


def test_a_deleted_experiment_is_restored(experiment: str) -> None:
    tracking.client().delete_experiment(experiment)
    assert tracking.experiment("shop") == experiment
    assert tracking.client().get_experiment(experiment).lifecycle_stage == "active"


def test_a_child_run_holds_params_metrics_curves_and_tables(experiment: str) -> None:
    with (
        tracking.run(experiment, name="retrain") as parent,
        tracking.run(experiment, name="gru", parent=parent) as child,
    ):
        child.params({"backbone": "gru", "training": {"seed": 0, "max_steps": None}})
        child.metrics({"wql": 0.25, "mase": float("inf"), "mae": None})
        child.metric_by_step("mae_by_step", [1.0, 2.0, 3.0])
        child.curve({"step": step, "train_loss": 1.0 / step} for step in range(1, 2001))
        child.table(pd.DataFrame({"unique_id": ["a"], "wql": [0.25]}), "by_series.parquet")
        child.input(name="d", digest="f" * 64, source="{}", schema="{}", profile="{}", context="training")
    run = tracking.client().get_run(child.run_id)
    assert run.data.params == {"backbone": "gru", "training.seed": "0"}
    assert run.data.metrics == {"wql": 0.25, "mae_by_step": 3.0, "train_loss": 1 / 2000}
    history = tracking.client().get_metric_history(child.run_id, "mae_by_step")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert [file.path for file in tracking.client().list_artifacts(child.run_id)] == ["by_series.parquet"]
    assert run.inputs is not None
    assert run.inputs.dataset_inputs[0].dataset.digest == "f" * 36
    assert run.info.status == "FINISHED"
    newest = tracking.newest_run("shop", tags={"mlflow.source.name": "forecast"})
    assert newest is not None


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_run_that_breaks_off_says_so(experiment: str, error: type[BaseException], status: str) -> None:
    with pytest.raises(error), tracking.run(experiment, name="retrain") as run:
        raise error
    assert tracking.client().get_run(run.run_id).info.status == status
    assert tracking.newest_run("shop", tags={}) is None


def test_a_run_is_found_by_its_tags(experiment: str) -> None:
    with tracking.run(experiment, name="one", tags={"forecast.identity": "a"}) as run:
        pass
    found = tracking.newest_run("shop", tags={"forecast.identity": "a"})
    assert found is not None
    assert found.info.run_id == run.run_id
    assert tracking.newest_run("shop", tags={"forecast.identity": "b"}) is None
    assert tracking.newest_run("another", tags={}) is None


@pytest.fixture
def closed_port() -> Iterator[int]:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg"])
def test_a_server_that_is_down_is_named_within_seconds_and_without_its_password(
    scheme: str, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://anna:secret@127.0.0.1:{closed_port}/mlflow")
    begun = time.monotonic()
    with pytest.raises(
        TrackingError, match=rf"{scheme[:4]}.*://anna:\*\*\*@127.0.0.1.* cannot be reached"
    ) as raised:
        tracking.client()
    assert time.monotonic() - begun < 5
    assert "secret" not in str(raised.value)


def test_a_database_that_is_none_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.db").write_text("these are not the tables you are looking for " * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'notes.db'}")
    with pytest.raises(TrackingError, match="file is not a database"):
        tracking.client()


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:////home/a/mlflow.db", "sqlite:////home/a/mlflow.db"),
        ("http://mlflow:5000", "http://mlflow:5000"),
        ("https://anna:s@cret@mlflow:5000/x", "https://anna:***@mlflow:5000/x"),
        ("postgresql+psycopg://anna:secret@db/mlflow", "postgresql+psycopg://anna:***@db/mlflow"),
    ],
)
def test_an_address_is_shown_without_its_password(uri: str, shown: str) -> None:
    assert tracking.masked(uri) == shown


@pytest.mark.slow
def test_several_processes_may_use_an_empty_home_at_once() -> None:
    code = "from pipelines import tracking; tracking.experiment('shop')"
    started = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(4)]
    ended = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0] * 4, ended
    assert len(tracking.client().search_experiments(filter_string="name = 'shop'")) == 1
