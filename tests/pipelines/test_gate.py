"""The gate: who wins a retrain, and what becomes of the champion."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from forecast.errors import TrainingError
from forecast.evaluation.candidates import Evaluated
from forecast.models.calibration import Calibration
from forecast.models.spec import ModelSpec
from pipelines.gate import Incumbent, decide
from pipelines.recipe import Recipe

RECIPE = Recipe.model_validate({"name": "shop", "horizon": 2, "candidates": ["lstm", "gru"]})


def evaluated(name: str, loss: float, *, select: float | None = None) -> Evaluated:
    """A candidate whose forecasts miss by `loss` everywhere: mae = loss, and wql follows it."""
    spec = ModelSpec(backbone=name, horizon=2)
    stamps = pd.date_range("2026-01-01", periods=8, freq="D")
    frame = pd.DataFrame(
        {
            "unique_id": "a",
            "cutoff": np.repeat(stamps[:4] - pd.Timedelta(days=1), 2),
            "ds": stamps,
            "step": [1, 2] * 4,
            "y": 100.0,
            "median": 100.0 + loss,
            "lo-80": 100.0 + loss - 1,
            "hi-80": 100.0 + loss + 1,
            "mase_scale": 1.0,
            "cutoff_step": np.repeat([-8, -6, -4, -2], 2),
            "in_sample": False,
        }
    )
    return Evaluated(
        name=name,
        spec=spec,
        refit_spec=spec,
        reasons={},
        calibration=Calibration.none(2, spec.quantile_levels),
        select_metrics={"wql": loss if select is None else select},
        metrics={"wql": loss},
        coverage={},
        by_step={},
        by_series=pd.DataFrame(),
        forecasts=frame,
        num_steps=None,
        seconds=0.0,
        rolling_refits=True,
    )


def candidates(**losses: float) -> list[Evaluated]:
    return [evaluated(name, loss) for name, loss in losses.items()]


def champion(of: Evaluated, *, is_candidate: bool = True, has_same_data: bool = False) -> Incumbent:
    return Incumbent(version="7", evaluated=of, is_candidate=is_candidate, has_same_data=has_same_data)


def test_without_a_champion_the_best_candidate_is_promoted() -> None:
    decision = decide(candidates(lstm=3.0, gru=2.0, naive=5.0, seasonal_naive=4.0), RECIPE, incumbent=None)
    assert (decision.winner.name, decision.promote) == ("gru", True)
    assert "gru beats every baseline, wql 2 against 4 of seasonal_naive" in decision.reason


def test_candidates_are_chosen_by_what_the_judge_has_not_seen() -> None:
    lstm, gru = evaluated("lstm", 3.0, select=1.0), evaluated("gru", 2.0, select=2.0)
    assert decide([lstm, gru, evaluated("naive", 9.0)], RECIPE, incumbent=None).winner is lstm


def test_where_no_network_beats_the_baselines_the_best_of_them_wins() -> None:
    decision = decide(candidates(lstm=3.0, gru=2.0, naive=1.5, drift=1.0), RECIPE, incumbent=None)
    assert (decision.winner.name, decision.promote) == ("drift", True)
    assert "drift is not beaten by gru, the best in selection (wql 2 against 1 of drift)" in decision.reason


def test_a_network_that_equals_a_baseline_does_not_beat_it() -> None:
    assert decide(candidates(gru=1.0, naive=1.0), RECIPE, incumbent=None).winner.name == "naive"


def test_baselines_outside_must_beat_do_not_compete() -> None:
    gate = RECIPE.gate.model_copy(update={"must_beat": ("drift",)})
    lenient = RECIPE.model_copy(update={"gate": gate})
    assert decide(candidates(gru=2.0, naive=1.0, drift=3.0), lenient, incumbent=None).winner.name == "gru"


def test_the_same_spec_on_new_data_is_a_refresh() -> None:
    all_of = candidates(lstm=3.0, gru=2.0, naive=5.0)
    decision = decide(all_of, RECIPE, incumbent=champion(all_of[1]))
    assert (decision.winner.name, decision.promote) == ("gru", True)
    assert "gru trained again, follows version 7" in decision.reason


def test_another_spec_that_is_better_is_promoted() -> None:
    decision = decide(candidates(gru=2.0, naive=5.0), RECIPE, incumbent=champion(evaluated("lstm", 3.0)))
    assert (decision.winner.name, decision.promote) == ("gru", True)
    assert "gru against lstm of version 7: wql" in decision.reason


def test_another_spec_that_is_not_better_by_the_margin_stays_challenger() -> None:
    gate = RECIPE.gate.model_copy(update={"margin": 0.5})
    strict = RECIPE.model_copy(update={"gate": gate})
    old = champion(evaluated("lstm", 3.0), is_candidate=False)
    decision = decide(candidates(gru=2.0, naive=5.0), strict, incumbent=old)
    assert (decision.winner.name, decision.promote) == ("gru", False)
    assert "margin 50 %" in decision.reason


def test_a_champion_that_holds_its_own_is_refreshed_with_new_data_and_kept_without() -> None:
    strict = RECIPE.model_copy(update={"gate": RECIPE.gate.model_copy(update={"margin": 0.5})})
    all_of = candidates(lstm=3.0, gru=2.0, naive=5.0)
    refreshed = decide(all_of, strict, incumbent=champion(all_of[0]))
    assert (refreshed.winner.name, refreshed.promote) == ("lstm", True)
    kept = decide(all_of, strict, incumbent=champion(all_of[0], has_same_data=True))
    assert (kept.winner.name, kept.promote) == ("gru", False)


def test_a_champion_that_a_baseline_has_overtaken_is_not_refreshed() -> None:
    strict = RECIPE.model_copy(update={"gate": RECIPE.gate.model_copy(update={"margin": 0.5})})
    all_of = candidates(lstm=3.0, naive=2.0)
    decision = decide(all_of, strict, incumbent=champion(all_of[0]))
    assert (decision.winner.name, decision.promote) == ("naive", False)


def test_without_any_score_there_is_no_winner() -> None:
    blind = [replace(each, metrics={"wql": float("nan")}) for each in candidates(gru=1.0, naive=1.0)]
    with pytest.raises(TrainingError, match="no candidate has a finite wql"):
        decide(blind, RECIPE, incumbent=None)
