"""Retrains that are killed at every step and started again, and retrains that need too much."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from forecast import home
from pipelines import recipe as recipes
from pipelines import registry, tracking
from pipelines.retrain import retrain
from tests.pipelines.conftest import RECIPE, Trained, write_recipe

pytestmark = pytest.mark.slow

PROGRAM = str(Path(sys.executable).with_name("forecast"))

NETWORK = RECIPE.replace('["seasonal_naive"]', '["gru"]').replace("horizon", "context_length = 14\nhorizon")
NETWORK += "[training]\nmax_steps = 60\n[model]\nhidden_size = 8\nnum_layers = 1\nmembers = 1\n"
NETWORK += "[gate]\nmust_beat = []\n"

KILL_AT = """
import os, signal, sys
from importlib import import_module
module, name = sys.argv.pop(1).rsplit(".", 1)
def dies(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
found = import_module(module)
setattr(found, name, dies)
from forecast.cli import main
sys.argv[0] = "forecast"
main()
"""


def killed_at(step: str, recipe: Path) -> None:
    """A retrain that is killed as soon as it reaches a function of ours."""
    ended = subprocess.run(
        [sys.executable, "-c", KILL_AT, step, "retrain", str(recipe)], capture_output=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def again(recipe: Path) -> dict[str, Any]:
    return retrain(recipes.load(str(recipe)), say=lambda line: None).to_dict()


STEPS = {
    "the data is read": "pipelines.sources.panel",
    "a candidate is trained": "forecast.evaluation.candidates.evaluate",
    "a candidate is logged": "pipelines.retrain._log_candidate",
    "a version is registered": "mlflow.pyfunc.log_model",
    "a version is promoted": "pipelines.registry.promote",
    "the promotion is logged": "pipelines.registry._log_promotion",
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_retrain_killed_when(trained_copy: Trained, step: str) -> None:
    """Whatever the step: the champion answers meanwhile, and the same again ends well and closes all runs."""
    write_recipe(trained_copy.recipe.parent, num_days=130)
    killed_at(step, trained_copy.recipe)
    tracking._client.cache_clear()
    champion = registry.champion("shop")
    assert champion is not None
    assert registry.load(champion).horizon == 7
    outcome = again(trained_copy.recipe)
    assert outcome["verdict"] in ("promoted", "kept", "unchanged")
    after = registry.champion("shop")
    assert after is not None
    assert after.tags["forecast.trained_until"] == "2026-05-10T00:00:00"
    runs = tracking.client().search_runs([tracking.experiment("shop")])
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED", "FAILED"}


def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_figures(
    tracked: Path, tmp_path: Path
) -> None:
    path = write_recipe(tmp_path / "data", text=NETWORK)
    killed_at("forecast.evaluation.candidates.refit_full", path)
    kept = sorted((home.home() / "checkpoints" / "shop").rglob("*.safetensors"))
    assert kept
    resumed = again(path)
    assert not (home.home() / "checkpoints" / "shop").exists(), "a finished retrain leaves none"
    tracking._client.cache_clear()
    tracking.client().delete_registered_model("shop")
    fresh = again(path)
    assert resumed["candidates"] == fresh["candidates"]
    assert resumed["candidates"][0]["name"] == "gru"


def test_a_training_killed_in_the_middle_does_not_begin_anew(tracked: Path, tmp_path: Path) -> None:
    text = NETWORK.replace("max_steps = 60", "max_steps = 1_000_000\npatience = 1_000_000")
    path = write_recipe(tmp_path / "data", text=text)
    folder = home.home() / "checkpoints" / "shop"
    environment = {**os.environ, "FORECAST_CHECKPOINT_SECONDS": "1"}
    steps: list[int] = []
    for _ in range(2):
        process = subprocess.Popen(
            [PROGRAM, "retrain", str(path)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        steps.append(_step_after(folder, since=steps[-1] if steps else 0, process=process))
        process.kill()
        process.communicate()
    assert steps[1] > steps[0] > 0


def _step_after(folder: Path, *, since: int, process: subprocess.Popen[bytes]) -> int:
    """The step of the first checkpoint that is written from now on."""
    from forecast.training.checkpoint import read

    begun, until = time.time(), time.monotonic() + 120
    while time.monotonic() < until:
        assert process.poll() is None
        for file in folder.rglob("checkpoint.safetensors"):
            if file.stat().st_mtime > begun:
                step = int(read(file.parent).state["training"]["step"])
                assert step > since, "it began anew"
                return step
        time.sleep(0.2)
    raise AssertionError("no checkpoint was written")


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("seconds = 6", "took longer than its budget, [budget] seconds = 6"),
        ("memory_mib = 50", "MiB of memory and its budget is [budget] memory_mib = 50"),
    ],
)
def test_a_retrain_that_needs_too_much_ends_in_one_line(
    tracked: Path, tmp_path: Path, budget: str, words: str
) -> None:
    text = NETWORK.replace("max_steps = 60", "max_steps = 1_000_000\npatience = 1_000_000")
    path = write_recipe(tmp_path / "data", text=f"{text}[budget]\n{budget}\n")
    begun = time.monotonic()
    ended = subprocess.run([PROGRAM, "retrain", str(path)], capture_output=True, text=True, check=False)
    assert time.monotonic() - begun < 60
    assert ended.returncode == 1, ended.stderr
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("error: the retrain ")
    assert words in last
    assert "Traceback" not in ended.stderr
    runs = tracking.client().search_runs([tracking.experiment("shop")])
    assert all(run.info.status == "FAILED" for run in runs)
    assert registry.names() == []
