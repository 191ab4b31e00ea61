"""Retraining: what is logged, registered and promoted, and what is left alone."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from forecast.errors import ArtifactError, DataError
from forecast.models.artifact import load
from forecast.series.read import from_frame
from pipelines import figures, provenance, registry, tracking
from pipelines import recipe as recipes
from pipelines.retrain import Outcome, retrain
from tests.pipelines.conftest import RECIPE, Command, Trained, sales, write_recipe

METRICS = {"mae", "rmse", "smape", "mase", "wql", "coverage_80", "coverage_95"}


def run(path: Path, *, dry_run: bool = False) -> Outcome:
    return retrain(recipes.load(str(path)), dry_run=dry_run, say=lambda line: None)


def aliases() -> dict[str, tuple[str, ...]]:
    return {each.version: each.aliases for each in registry.versions("shop")}


def test_the_first_retrain_makes_a_champion(trained: Trained) -> None:
    outcome = trained.outcome
    assert list(outcome) == [
        "recipe",
        "run_id",
        "data_fingerprint",
        "candidates",
        "model_version",
        "verdict",
        "reason",
        "tracking_uri",
        "warnings",
    ]
    assert (outcome["recipe"], outcome["verdict"], outcome["model_version"]) == ("shop", "promoted", "1")
    assert [each["name"] for each in outcome["candidates"]] == ["seasonal_naive", "naive", "drift"]
    assert all(set(each["metrics"]) == METRICS for each in outcome["candidates"])
    assert aliases() == {"1": ("champion",)}


def test_a_retrain_is_one_parent_run_with_a_child_per_candidate(trained: Trained) -> None:
    parent = tracking.client().get_run(trained.outcome["run_id"])
    assert parent.info.status == "FINISHED"
    assert parent.inputs is not None
    assert parent.inputs.dataset_inputs[0].dataset.digest == trained.outcome["data_fingerprint"][:36]
    assert parent.data.tags["forecast.verdict"] == "promoted"
    children = tracking.children(parent)
    assert [child.info.run_name for child in children] == ["seasonal_naive", "naive", "drift"]
    assert registry.find("shop").run_id == children[0].info.run_id


def test_the_registered_candidates_run_holds_params_metrics_and_error_by_step(trained: Trained) -> None:
    client = tracking.client()
    run = client.get_run(registry.find("shop").run_id)
    assert run.data.params["backbone"] == "seasonal_naive"
    assert run.data.params["horizon"] == "7"
    assert set(run.data.metrics) >= METRICS
    for name in ("mae_by_step", "mase_by_step", "coverage80_by_step"):
        points = client.get_metric_history(run.info.run_id, name)
        assert [point.step for point in points] == [1, 2, 3, 4, 5, 6, 7]
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files >= {"backtest.parquet", "by_series.parquet", "reasons.json"}
    figures = {file.path for file in client.list_artifacts(run.info.run_id, "figures")}
    assert figures == {
        f"figures/{name}.png" for name in ("fan_charts", "error_by_step", "calibration", "residuals")
    }


def test_a_run_and_its_version_say_which_code_made_them(trained: Trained) -> None:
    parent = tracking.client().get_run(trained.outcome["run_id"]).data.tags
    assert parent["forecast.packages.torch"]
    assert parent["forecast.package_version"]
    tags = registry.find("shop").tags
    assert tags["forecast.seed"] == "0"
    assert tags["forecast.git_revision"] == parent.get("forecast.git_revision", "")


def test_a_figure_that_cannot_be_drawn_ends_nothing(
    trained_copy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ValueError("nothing to draw")

    monkeypatch.setattr(figures, "calibration", fails)
    write_recipe(trained_copy.recipe.parent, num_days=130)
    lines: list[str] = []
    outcome = retrain(recipes.load(str(trained_copy.recipe)), say=lines.append)
    assert outcome.verdict == "promoted"
    assert "seasonal_naive: a figure could not be drawn (ValueError: nothing to draw)" in lines


def test_a_version_says_in_tags_and_words_what_it_is(trained: Trained) -> None:
    version = registry.find("shop")
    assert version.spec["backbone"] == "seasonal_naive"
    assert version.spec["context_length"] is None
    assert version.levels == (80.0, 95.0)
    assert version.data == {"columns": {"unique_id": "shop", "ds": "day", "y": "units"}}
    assert version.tags["forecast.trained_until"] == "2026-04-30T00:00:00"
    assert version.tags["forecast.parent_run"] == trained.outcome["run_id"]
    assert version.tags["forecast.champion_before"] == "none"
    card = str(tracking.client().get_model_version("shop", "1").description)
    assert "seasonal_naive for `shop`: 7 steps ahead, daily (D)" in card
    assert "| metric | seasonal_naive | naive | drift |" in card
    assert all(f"**{part}" in card for part in ("Data", "Decision", "Accuracy", "Calibration", "Limits"))
    retrain_page = tracking.client().get_run(trained.outcome["run_id"]).data.tags["mlflow.note.content"]
    assert retrain_page.startswith("promoted (version 1): first champion")
    assert retrain_page.index("**seasonal_naive**") < retrain_page.index("| drift |")
    model_page = str(tracking.client().get_registered_model("shop").description)
    assert "`champion` serves" in model_page
    assert f"## Champion: version 1\n\n{card}" in model_page
    assert "version 1: promoted, first champion" in model_page


def test_every_retrain_renews_the_page_of_its_model(trained_copy: Trained) -> None:
    tracking.client().update_registered_model("shop", "as an older release has written it")
    recipe = recipes.load(str(trained_copy.recipe))
    assert retrain(recipe, say=lambda line: None).verdict == "unchanged"
    assert "## Champion: version 1\n" in _model_page()
    write_recipe(trained_copy.recipe.parent, num_days=130)
    assert retrain(recipe, say=lambda line: None).verdict == "promoted"
    assert "## Champion: version 2\n" in _model_page()
    assert "until 2026-05-10" in _model_page()
    registry.rollback("shop", reason="the holidays")
    assert "## Champion: version 1\n" in _model_page()
    assert "version 1: rolled back to, the holidays" in _model_page()
    registry.promote(registry.find("shop/2"), reason="because " * 500)
    assert "## Champion: version 2\n" in _model_page()
    assert len(_model_page()) == registry.DESCRIPTION_CHARACTERS


def _model_page() -> str:
    return str(tracking.client().get_registered_model("shop").description)


def test_the_same_again_is_unchanged_and_says_so_before_torch_is_loaded(trained: Trained) -> None:
    code = (
        "import sys\nfrom forecast.cli import main\n"
        f"sys.argv = ['forecast', 'retrain', {str(trained.recipe)!r}, '--json']\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules, file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    again = json.loads(ended.stdout)
    assert again["verdict"] == "unchanged"
    same = ("run_id", "model_version", "data_fingerprint", "candidates", "tracking_uri")
    assert {key: again[key] for key in same} == {key: trained.outcome[key] for key in same}
    assert ended.stderr.splitlines()[-1] == "False"


def test_new_data_refreshes_the_champion_and_keeps_the_one_before(trained_copy: Trained) -> None:
    write_recipe(trained_copy.recipe.parent, num_days=130)
    outcome = run(trained_copy.recipe)
    assert (outcome.verdict, outcome.model_version) == ("promoted", "2")
    assert outcome.data_fingerprint != trained_copy.outcome["data_fingerprint"]
    assert aliases() == {"1": ("previous",), "2": ("champion",)}
    assert registry.find("shop").tags["forecast.champion_before"] == "1"
    figures = tracking.client().get_run(outcome.run_id).data.metrics
    assert (
        figures["gate_frozen_windows"] == 2
    )  # of two shops, at the one cutoff after the champion's training
    assert figures["gate_frozen_champion"] > 0


def test_a_champion_that_cannot_be_loaded_does_not_stop_its_successor(
    trained_copy: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(version: registry.Version) -> None:
        raise ArtifactError("its files are gone")

    monkeypatch.setattr(registry, "load", gone)
    write_recipe(trained_copy.recipe.parent, num_days=130)
    lines: list[str] = []
    outcome = retrain(recipes.load(str(trained_copy.recipe)), dry_run=True, say=lines.append)
    assert outcome.reason.startswith("would promote: ")
    assert "version 1 cannot be scored as it serves: its files are gone" in lines


def test_a_candidate_that_is_not_better_stays_challenger(trained_copy: Trained) -> None:
    text = RECIPE.replace('["seasonal_naive"]', '["drift"]') + "[gate]\nmust_beat = []"
    outcome = run(write_recipe(trained_copy.recipe.parent, text=text))
    assert (outcome.verdict, outcome.model_version) == ("kept", "2")
    assert aliases() == {"1": ("champion",), "2": ("challenger",)}
    reason = registry.find("shop@challenger").tags["forecast.reason"]
    assert "drift against seasonal_naive of version 1: wql" in reason
    assert "## Champion: version 1\n" in _model_page()
    assert f"version 2: kept, {reason}" in _model_page()
    assert run(trained_copy.recipe).verdict == "unchanged"


def test_a_dry_run_says_what_it_would_do_and_registers_nothing(trained_copy: Trained) -> None:
    write_recipe(trained_copy.recipe.parent, num_days=130)
    outcome = run(trained_copy.recipe, dry_run=True)
    assert (outcome.verdict, outcome.model_version) == ("dry-run", None)
    assert outcome.reason.startswith("would promote: ")
    assert aliases() == {"1": ("champion",)}
    assert run(trained_copy.recipe).verdict == "promoted"


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("forecast.evaluation.candidates.refit_full", KeyboardInterrupt),
        ("pipelines.registry.promote", DataError),
    ],
)
def test_an_interrupted_retrain_leaves_the_champion_alone(
    trained_copy: Trained, monkeypatch: pytest.MonkeyPatch, step: str, error: type[BaseException]
) -> None:
    write_recipe(trained_copy.recipe.parent, num_days=130)

    def breaks(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(step, breaks)
        with pytest.raises(error):
            run(trained_copy.recipe)
    assert [version for version, names in aliases().items() if names] == ["1"]
    assert run(trained_copy.recipe).verdict == "promoted"


def test_a_version_that_was_deleted_is_trained_again(trained_copy: Trained) -> None:
    tracking.client().delete_model_version("shop", "1")
    assert run(trained_copy.recipe).verdict == "promoted"


def test_the_registered_model_the_library_and_the_command_give_the_same_numbers(
    trained: Trained, forecast: Command, tmp_path: Path
) -> None:
    import mlflow
    import pandas as pd

    history = sales().rename(columns={"shop": "unique_id", "day": "ds", "units": "y"})
    history.to_parquet(tmp_path / "history.parquet")
    with tracking.addressed():
        served = mlflow.pyfunc.load_model("models:/shop@champion").predict(history)
    ended = forecast("predict", "--model", "shop", "--data", tmp_path / "history.parquet")
    assert ended.code == 0, ended.err
    printed = pd.read_csv(io.StringIO(ended.out), parse_dates=["ds"])
    forecaster = registry.load(registry.find("shop"))
    own = forecaster.predict(from_frame(history, freq="D")).to_frame(levels=[80, 95])
    assert list(served.columns) == list(own.columns) == list(printed.columns)
    for column in ("median", "lo-80", "hi-80", "lo-95", "hi-95"):
        np.testing.assert_allclose(served[column], own[column], rtol=1e-4)
        np.testing.assert_allclose(printed[column], own[column], rtol=1e-4)


NETWORK = """
[gate]
must_beat = []
[training]
max_steps = 4
[model]
hidden_size = 8
num_layers = 1
members = 1
"""


def test_a_network_is_registered_with_its_curves_and_answers_the_same_everywhere(
    tracked: Path, tmp_path: Path, forecast: Command
) -> None:
    import mlflow
    import pandas as pd

    text = (
        RECIPE.replace("seasonal_naive", "gru").replace("horizon", "context_length = 14\nhorizon") + NETWORK
    )
    path = write_recipe(tmp_path / "data", text=text)
    ended = forecast("retrain", path, "--json")
    assert ended.code == 0, ended.err
    outcome = json.loads(ended.out)
    assert (outcome["verdict"], outcome["candidates"][0]["name"]) == ("promoted", "gru")
    version = registry.find("shop")
    run_of_it = tracking.client().get_run(version.run_id)
    assert run_of_it.data.params["hidden_size"] == "8"
    assert run_of_it.data.params["training.max_steps"] == "4"
    assert "train_loss" in run_of_it.data.metrics
    assert run_of_it.data.metrics["windows_per_second"] > 0
    assert run_of_it.data.tags["forecast.device"] == provenance.device("auto")
    drawn = [file.path for file in tracking.client().list_artifacts(version.run_id, "figures")]
    assert "figures/loss_curves.png" in drawn
    assert "gru" in ended.err

    history = sales().rename(columns={"shop": "unique_id", "day": "ds", "units": "y"})
    with tracking.addressed():
        served = mlflow.pyfunc.load_model("models:/shop@champion").predict(history)
    history.to_parquet(tmp_path / "history.parquet")
    printed = forecast("predict", "--model", "shop", "--data", tmp_path / "history.parquet").out
    command = pd.read_csv(io.StringIO(printed), parse_dates=["ds"])
    with registry.downloaded(version) as folder:
        own = load(folder, runtime="torch").predict(from_frame(history, freq="D")).to_frame(levels=[80, 95])
    for column in ("median", "lo-80", "hi-80", "lo-95", "hi-95"):
        np.testing.assert_allclose(served[column], own[column], rtol=1e-4)
        np.testing.assert_allclose(command[column], own[column], rtol=1e-4)


def test_no_training_value_and_no_pickle_is_registered(trained: Trained) -> None:
    with registry.downloaded(registry.find("shop")) as folder:
        model = folder.parents[1]
        files = [path for path in model.rglob("*") if path.is_file()]
        assert {path.suffix for path in files} <= {
            ".json",
            ".safetensors",
            ".onnx",
            ".py",
            ".yaml",
            ".txt",
            "",
        }
        example = json.loads((model / "input_example.json").read_text())
    values = {row[2] for row in example["data"]}
    assert not values & set(sales()["units"])


def test_the_logged_requirements_name_our_package_and_no_address(trained: Trained) -> None:
    with registry.downloaded(registry.find("shop")) as folder:
        text = (folder.parents[1] / "requirements.txt").read_text()
    assert "forecast" in text
    assert "://" not in text
