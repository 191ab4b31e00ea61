"""What the demo prints beside the forecast: the models best first, and the link to their runs."""

import pytest

from pipelines import demo, tracking
from pipelines import recipe as recipes
from tests.pipelines.conftest import Trained

RESULT = {
    "candidates": [
        {"name": "silent", "metrics": {"wql": 0.1, "mae": None}},
        {"name": "second", "metrics": {"wql": 0.2, "mae": 2.0}},
        {"name": "first", "metrics": {"wql": 0.3, "mae": 1.0}},
    ]
}


def ranked_by(metric: str, patch: pytest.MonkeyPatch) -> None:
    text = recipes.load("air_passengers")
    changed = text.model_copy(update={"gate": text.gate.model_copy(update={"metric": metric})})
    patch.setattr(recipes, "load", lambda name: changed)


def test_the_models_are_ranked_by_the_metric_of_the_gate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ranked_by("mae", monkeypatch)
    demo._print_comparison(RESULT)
    out = capsys.readouterr().out
    assert "best mae first" in out
    assert out.index("first ") < out.index("second") < out.index("silent")


def test_the_link_sorts_the_runs_of_a_retrain_by_the_metric_of_the_gate(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked_by("mase", monkeypatch)
    link = "\n".join(demo._mlflow_ui(trained.outcome))
    run = tracking.client().get_run(trained.outcome["run_id"])
    assert f"/#/experiments/{run.info.experiment_id}/runs?workflowType=machine_learning" in link
    assert "orderByKey=metrics.%60mase%60&orderByAsc=true" in link
    assert run.info.run_id in link
