"""The search: its trials, what it may look at, and its winner in the gate."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from forecast.errors import SpecError
from forecast.evaluation.blocks import Blocks
from forecast.series.panel import Panel
from pipelines import recipe as recipes
from pipelines import registry, retrain, search, sources, tracking
from pipelines.replay import replay
from pipelines.search import Found
from tests.pipelines.conftest import RECIPE, write_recipe

SEARCH = (
    RECIPE.replace('["seasonal_naive"]', '["gru"]')
    + "[gate]\nmust_beat = []\n[training]\nmax_steps = 4\n[model]\nmembers = 1\n"
    + "[search]\ntrials = 3\n[search.space]\nhidden_size = [4, 8]\nnum_layers = [1]\ndropout = [0.0]\n"
    + "context_length = [7, 14]\nlearning_rate = {low = 1e-4, high = 1e-1, log = true}\n"
)


@pytest.mark.slow
def test_trials_are_child_runs_and_the_best_one_competes_in_the_gate(tracked: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    path = write_recipe(tmp_path, text=SEARCH)
    outcome = retrain.retrain(recipes.load(str(path)), say=lines.append)
    assert [each["name"] for each in outcome.candidates] == [
        "gru",
        "naive",
        "seasonal_naive",
        "drift",
        "search",
    ]
    parent = tracking.client().get_run(outcome.run_id)
    trials = [run for run in tracking.children(parent) if run.data.tags.get("forecast.role") == "trial"]
    assert [run.data.tags["forecast.trial"] for run in trials] == ["0", "1", "2"]
    assert all("learning_rate" in run.data.params for run in trials)
    assert any("select_wql" in run.data.metrics for run in trials)
    best = [line for line in lines if line.startswith("search: trial") and "is the best" in line]
    assert len(best) == 1
    assert outcome.verdict == "promoted"
    version = registry.find("shop")
    if version.tags["forecast.candidate"] == "search":
        assert "learning_rate" in version.tags["forecast.training"]
    assert retrain.retrain(recipes.load(str(path)), say=lines.append).verdict == "unchanged"
    repeated = replay(outcome.run_id, say=lines.append)
    assert repeated["same"], repeated["differs"]
    assert {row["candidate"] for row in repeated["metrics"]} >= {"gru", "search"}
    (child,) = [run for run in tracking.children(parent) if run.info.run_name == "search"]
    alone = replay(child.info.run_id, say=lines.append)
    assert {row["candidate"] for row in alone["metrics"]} == {"search"}
    assert alone["same"], alone["differs"]


def found_in(panel: Panel, path: Path) -> tuple[Found, list[dict[str, float]]]:
    """What a search finds in a panel, and the select metrics of its trials."""
    recipe = recipes.load(str(path))
    job = retrain.Job(recipe=recipe, panel=panel, fingerprint=panel.fingerprint(), say=lambda line: None)
    blocks = Blocks.cut(panel, horizon=7, num_windows=2)
    with tracking.run(tracking.experiment("shop"), name="search") as parent:
        found = search.search(job, parent, blocks)
    assert found is not None
    trials = tracking.children(tracking.client().get_run(parent.run_id))
    return found, [dict(run.data.metrics) for run in trials]


def test_the_search_does_not_look_at_the_judge_block(tracked: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, text=SEARCH)
    panel = sources.panel(recipes.load(str(path)))
    absurd = panel.values.copy()
    for begin, length in zip(panel.begins, panel.lengths, strict=True):
        absurd[begin + length - 14 : begin + length] = -50.0 * np.arange(1, 15)
    first, scores = found_in(panel, path)
    second, others = found_in(replace(panel, base=absurd), path)
    assert (first.spec, first.training, first.number) == (second.spec, second.training, second.number)
    assert scores == others
    blocks = Blocks.cut(panel, horizon=7, num_windows=2)
    assert min(blocks.select) >= 14 + 7, "the block that was made absurd lies after all of select"


def test_a_search_that_was_interrupted_goes_on_with_what_is_left(
    tracked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_recipe(tmp_path, text=SEARCH)
    panel = sources.panel(recipes.load(str(path)))
    objective, calls = search._objective, [0]

    def dies_later(*arguments: object) -> float:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return objective(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(search, "_objective", dies_later)
    with pytest.raises(KeyboardInterrupt):
        found_in(panel, path)
    _, scores = found_in(panel, path)
    assert (calls[0], len(scores)) == (4, 1)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "search: a search needs an end: `trials` or `seconds`"),
        ("trials = 0", "search.trials: input should be greater than or equal to 1"),
        (
            "trials = 2\nspace = {hiden_size = [1]}",
            "search: there is nothing to search by the name 'hiden_size'",
        ),
        ("trials = 2\nspace = {dropout = {low = 1.0, high = 0.1}}", "search: a range is"),
        ("trails = 2", r"unknown key 'search.trails' \(did you mean 'trials'\?\)"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(lines: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        recipes.parse(f"{RECIPE}[search]\n{lines}", origin="here")
