"""The gate: who wins a retrain, and what becomes of the champion."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from forecast.errors import TrainingError
from forecast.evaluation.candidates import Evaluated
from forecast.evaluation.metrics import Coverage
from forecast.evaluation.uncertainty import Estimate
from forecast.models.calibration import Calibration
from forecast.models.spec import ModelSpec
from pipelines.gate import Frozen, Incumbent, decide
from pipelines.recipe import Recipe

RECIPE = Recipe.model_validate({"name": "shop", "horizon": 2, "candidates": ["lstm", "gru"]})


def forecasts(loss: float, *, noise: float = 0.0, num_windows: int = 4) -> pd.DataFrame:
    """Windows of two steps whose forecasts miss by `loss`, every other one by `noise` more and less."""
    stamps = pd.date_range("2026-01-01", periods=2 * num_windows, freq="D")
    misses = loss + noise * np.resize([1.0, 1.0, -1.0, -1.0], 2 * num_windows)
    return pd.DataFrame(
        {
            "unique_id": "a",
            "cutoff": np.repeat(stamps[::2] - pd.Timedelta(days=1), 2),
            "ds": stamps,
            "step": [1, 2] * num_windows,
            "y": 100.0,
            "median": 100.0 + misses,
            "lo-80": 100.0 + misses - 1,
            "hi-80": 100.0 + misses + 1,
            "mase_scale": 1.0,
            "cutoff_step": np.repeat(np.arange(-2 * num_windows, 0, 2), 2),
            "in_sample": False,
        }
    )


def evaluated(
    name: str, loss: float, *, select: float | None = None, noise: float = 0.0, num_windows: int = 4
) -> Evaluated:
    """A candidate whose forecasts miss by `loss` everywhere: mae = loss, and wql follows it."""
    spec = ModelSpec(backbone=name, horizon=2)
    frame = forecasts(loss, noise=noise, num_windows=num_windows)
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


def champion(
    of: Evaluated, *, is_candidate: bool = True, has_same_data: bool = False, frozen: Frozen | None = None
) -> Incumbent:
    return Incumbent(
        version="7",
        evaluated=of,
        is_candidate=is_candidate,
        has_same_data=has_same_data,
        frozen=frozen,
    )


def gated(**changes: object) -> Recipe:
    return RECIPE.model_copy(update={"gate": RECIPE.gate.model_copy(update=changes)})


def covering(each: Evaluated, share: float, *, error: float, level: int = 80) -> Evaluated:
    """The same candidate with intervals that hold `share` of the values."""
    estimate = Estimate(mean=share, error=error, degrees=9)
    return replace(each, coverage={level: Coverage(level=level, estimate=estimate, width=1.0)})


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


def test_a_refresh_may_be_worse_than_the_champion_as_it_serves_by_the_tolerance_and_no_more() -> None:
    all_of = candidates(gru=2.0, naive=5.0)
    frozen = Frozen(forecasts=forecasts(1.9), is_fair=True)
    old = champion(all_of[0], frozen=frozen)
    assert decide(all_of, gated(minimum_windows=4, tolerance=0.1), incumbent=old).promote
    kept = decide(all_of, gated(minimum_windows=4, tolerance=0.01), incumbent=old)
    assert (kept.winner.name, kept.promote) == ("gru", False)
    assert "worse than version 7 as it serves: wql" in kept.reason
    assert kept.figures["frozen_windows"] == 4
    assert kept.figures["frozen_champion"] < kept.figures["frozen_challenger"]


def test_a_different_spec_has_to_hold_its_own_against_the_champion_as_it_serves_too() -> None:
    frozen = Frozen(forecasts=forecasts(1.0), is_fair=True)
    old = champion(evaluated("lstm", 3.0), is_candidate=False, frozen=frozen)
    decision = decide(candidates(gru=2.0, naive=5.0), gated(minimum_windows=4), incumbent=old)
    assert not decision.promote
    assert "gru against lstm of version 7" in decision.reason
    assert "as it serves" in decision.reason


@pytest.mark.parametrize(
    "frozen",
    [
        None,
        Frozen(forecasts=forecasts(0.1, num_windows=7), is_fair=True),
        Frozen(forecasts=forecasts(0.1).head(0), is_fair=True),
        Frozen(forecasts=forecasts(0.1).assign(y=np.nan), is_fair=True),
        Frozen(forecasts=forecasts(0.1, num_windows=12), is_fair=False),
    ],
    ids=[
        "no new window",
        "fewer than minimum_windows",
        "empty",
        "nothing observed",
        "champion saw later data",
    ],
)
def test_what_says_nothing_about_the_champion_as_it_serves_never_blocks(frozen: Frozen | None) -> None:
    all_of = [evaluated("gru", 2.0, num_windows=12), evaluated("naive", 5.0, num_windows=12)]
    decision = decide(all_of, gated(minimum_windows=8), incumbent=champion(all_of[0], frozen=frozen))
    assert (decision.winner.name, decision.promote) == ("gru", True)


def test_a_difference_that_may_be_chance_does_not_block_a_refresh() -> None:
    noisy = [evaluated("gru", 3.0, noise=2.9, num_windows=12), evaluated("naive", 9.0, num_windows=12)]
    frozen = Frozen(forecasts=forecasts(2.6, num_windows=12), is_fair=True)
    assert decide(noisy, RECIPE, incumbent=champion(noisy[0], frozen=frozen)).promote
    steady = [evaluated("gru", 3.0, num_windows=12), noisy[1]]
    assert not decide(steady, RECIPE, incumbent=champion(steady[0], frozen=frozen)).promote


def test_a_better_spec_that_may_be_better_by_chance_is_not_promoted_where_there_are_windows_to_tell() -> None:
    noisy = evaluated("gru", 2.8, noise=2.7, num_windows=12)
    old = champion(evaluated("lstm", 3.0, num_windows=12), is_candidate=False)
    decision = decide([noisy], gated(must_beat=()), incumbent=old)
    assert not decision.promote
    assert "not significant" in decision.reason


def test_with_few_windows_the_margin_decides_and_the_reason_says_so() -> None:
    old = champion(evaluated("lstm", 3.0), is_candidate=False)
    decision = decide(candidates(gru=2.9, naive=9.0), RECIPE, incumbent=old)
    assert decision.promote
    assert "not significant" in decision.reason


@pytest.mark.parametrize(
    ("share", "error", "promoted"),
    [
        (0.55, 0.01, False),
        (0.55, 0.05, True),
        (0.99, 0.01, False),
        (0.8, 0.01, True),
        (0.1, float("nan"), True),
    ],
)
def test_calibration_blocks_only_beyond_its_confidence_range(
    share: float, error: float, promoted: bool
) -> None:
    gru = covering(evaluated("gru", 2.0), share, error=error)
    all_of = [gru, evaluated("naive", 5.0)]
    refreshed = decide(all_of, RECIPE, incumbent=champion(gru))
    assert refreshed.promote is promoted
    other = decide(all_of, RECIPE, incumbent=champion(evaluated("lstm", 3.0), is_candidate=False))
    assert other.promote is promoted
    if not promoted:
        assert "coverage_80 asks for 60 to 95 %" in refreshed.reason


def test_the_first_champion_needs_no_significance_no_windows_and_no_calibration() -> None:
    gru = covering(evaluated("gru", 2.0), 0.1, error=0.001)
    decision = decide([gru, evaluated("naive", 5.0)], gated(margin=0.9, minimum_windows=99), incumbent=None)
    assert (decision.winner.name, decision.promote) == ("gru", True)


def test_a_winner_that_is_held_back_gives_way_to_a_refresh_of_the_champion() -> None:
    gru = covering(evaluated("gru", 2.0), 0.1, error=0.01)
    lstm = evaluated("lstm", 3.0)
    decision = decide([lstm, gru, evaluated("naive", 5.0)], RECIPE, incumbent=champion(lstm))
    assert (decision.winner.name, decision.promote) == ("lstm", True)
    assert "coverage_80" in decision.reason


def test_better_intervals_alone_can_win() -> None:
    wide, narrow = evaluated("lstm", 1.0), evaluated("gru", 1.0)
    wide.forecasts["hi-80"] += 50.0
    decision = decide([narrow], gated(must_beat=()), incumbent=champion(wide, is_candidate=False))
    assert (decision.winner.name, decision.promote) == ("gru", True)
