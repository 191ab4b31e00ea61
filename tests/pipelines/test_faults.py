"""What goes wrong around MLflow: a dead server, a full disk, a database that takes nothing."""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from forecast import home
from forecast.errors import TrackingError
from pipelines import recipe as recipes
from pipelines import registry, spool, tracking
from pipelines.retrain import retrain
from tests import servers
from tests.pipelines.conftest import RECIPE, Trained, write_recipe

PROGRAM = str(Path(sys.executable).with_name("forecast"))


@pytest.fixture
def server(tmp_path: Path, empty_database: Path) -> Iterator[servers.Mlflow]:
    """An MLflow server that a test may kill and start again."""
    shutil.copy(empty_database, tmp_path / "server.db")
    backend = f"sqlite:///{tmp_path / 'server.db'}"
    with servers.mlflow_server(tmp_path / "server", backend=backend) as running:
        yield running


@pytest.mark.slow
def test_a_server_killed_between_two_candidates_ends_no_training_and_gets_everything_later(
    server: servers.Mlflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    recipe = recipes.load(str(write_recipe(tmp_path / "data")))
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if line.startswith("seasonal_naive: wql"):
            server.kill()

    with pytest.raises(TrackingError):
        retrain(recipe, say=say)
    assert any(line.startswith("drift: wql") for line in lines), "the training went on to the last candidate"
    assert spool.waiting()
    server.start()
    tracking._client.cache_clear()
    parents = tracking.retrains("shop")
    assert spool.waiting() == []
    assert [run.info.status for run in parents] == ["FAILED"]
    children = tracking.children(parents[0])
    assert [child.info.run_name for child in children] == ["seasonal_naive", "naive", "drift"]
    assert all("wql" in child.data.metrics for child in children)
    assert retrain(recipe, say=lambda line: None).verdict == "promoted"


@pytest.mark.slow
def test_a_server_killed_once_the_alias_has_moved_still_ends_as_promoted(
    server: servers.Mlflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    recipe = recipes.load(str(write_recipe(tmp_path / "data")))
    log_promotion = registry._log_promotion

    def dies(*arguments: object, **named: object) -> None:
        server.kill()
        log_promotion(*arguments, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(registry, "_log_promotion", dies)
        outcome = retrain(recipe, say=lambda line: None)
    assert (outcome.verdict, outcome.model_version) == ("promoted", "1")
    server.start()
    tracking._client.cache_clear()
    assert [(move["from"], move["to"]) for move in registry.promotions("shop")] == [("none", "1")]
    assert registry.find("shop").version == "1"
    assert retrain(recipe, say=lambda line: None).verdict == "unchanged"


@pytest.mark.slow
def test_a_database_that_cannot_be_written_ends_in_one_line(trained_copy: Trained) -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("needs setpriv to be somebody whom the file system refuses")
    write_recipe(trained_copy.recipe.parent, num_days=130)
    database = home.database_file()
    before = database.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///file:{database}?mode=ro&uri=true")
        ended = subprocess.run(
            [PROGRAM, "retrain", str(trained_copy.recipe)], capture_output=True, text=True, check=False
        )
    assert ended.returncode == 1, ended.stderr
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("error: MLflow at sqlite")
    assert "check the server, its database" in last
    assert "Traceback" not in ended.stderr
    assert database.read_bytes() == before


@pytest.mark.slow
def test_a_disk_that_is_full_for_the_model_leaves_the_champion_alone(trained_copy: Trained) -> None:
    def tiny_files() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as a full disk: an error and no signal
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    most = home.database_file().stat().st_size + 200_000  # what is logged fits, and the weights do not
    champion = registry.champion("shop")
    small = {"PYTHONDONTWRITEBYTECODE": "1", "FORECAST_CHECKPOINT_SECONDS": "0"}
    model = trained_copy.recipe.read_text().replace('["seasonal_naive"]', '["gru"]')
    trained_copy.recipe.write_text(
        model + "[training]\nmax_steps = 2\n[model]\nhidden_size = 256\nmembers = 1\n[gate]\nmust_beat = []\n"
    )
    ended = subprocess.run(
        [PROGRAM, "retrain", str(trained_copy.recipe)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=tiny_files,
        env={**os.environ, **small},
    )
    assert ended.returncode == 1, ended.stderr
    tracking._client.cache_clear()
    after = registry.champion("shop")
    assert champion is not None
    assert after is not None
    assert after.version == champion.version
    assert "no checkpoint could be written into" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.strip().splitlines()[-1].startswith("error: MLflow at sqlite")
    registry.load(after)


def test_a_version_deleted_under_the_champion_is_replaced_by_the_next_retrain(trained_copy: Trained) -> None:
    recipe = recipes.load(str(trained_copy.recipe))
    tracking.client().delete_model_version("shop", "1")
    assert registry.champion("shop") is None
    outcome = retrain(recipe, say=lambda line: None)
    assert (outcome.verdict, outcome.model_version) == ("promoted", "2")
    assert registry.find("shop").version == "2"


def test_a_renamed_recipe_is_a_new_model_and_leaves_the_old_one_serving(trained_copy: Trained) -> None:
    renamed = write_recipe(trained_copy.recipe.parent, text=RECIPE.replace('"shop"\n', '"store"\n', 1))
    outcome = retrain(recipes.load(str(renamed)), say=lambda line: None)
    assert (outcome.verdict, outcome.model_version) == ("promoted", "1")
    assert registry.names() == ["shop", "store"]
    assert registry.find("shop").aliases == registry.find("store").aliases == ("champion",)


def test_metrics_that_are_not_finite_are_neither_logged_nor_printed(
    tracked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_recipe(tmp_path / "data")
    import pandas as pd

    flat = pd.read_parquet(path.parent / "sales.parquet").assign(
        units=5.0
    )  # no error to scale by: MASE is 0/0
    flat.to_parquet(path.parent / "sales.parquet")
    outcome = retrain(recipes.load(str(path)), say=lambda line: None)
    text = json.dumps(outcome.to_dict(), allow_nan=False)
    assert json.loads(text)["candidates"][0]["metrics"]["mase"] is None
    for run in tracking.client().search_runs([tracking.experiment("shop")]):
        assert all(abs(value) < 1e300 for value in run.data.metrics.values())


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("models",), ("history", "shop"), ("retrain", "air_passengers")])
def test_a_server_that_is_down_at_the_start_is_told_of_within_seconds(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{servers.free_port()}")
    begun = time.monotonic()
    ended = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False)
    assert time.monotonic() - begun < 30
    assert ended.returncode == 1
    assert "cannot be reached" in ended.stderr.splitlines()[-1]
