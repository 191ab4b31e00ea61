"""Intervals that follow what came: they cover as often as they say, also after a change."""

import numpy as np
import pandas as pd
import pytest

from forecast.evaluation.adaptive import adapt, scores, stretches, unstretched
from forecast.models.calibration import Calibration

Z80 = 1.2815515655446004


def frame(spread: np.ndarray, *, seed: int = 0) -> pd.DataFrame:
    """One forecast per stamp whose 80 % interval supposes a spread of 1; `spread` is what there really is."""
    random = np.random.default_rng(seed)
    num = len(spread)
    return pd.DataFrame(
        {
            "ds": np.arange(num),
            "y": 5.0 + spread * random.normal(0, 1, num),
            "median": 5.0,
            "lo-80": 5.0 - Z80,
            "hi-80": 5.0 + Z80,
            "in_sample": False,
        }
    )


def test_the_path_is_that_of_the_paper() -> None:
    """Equation (2), step by step, in a slow loop."""
    old, new = frame(np.ones(50)), frame(np.full(60, 2.0), seed=1)
    pool, alpha, misses = list(scores(old, 80)), 0.2, []
    for score in scores(new, 80):
        width = np.quantile(pool, min(max(1 - alpha, 0), 1), method="higher")
        misses.append(score > width)
        alpha += 0.05 * (0.2 - misses[-1])
        pool.append(score)
    found = adapt(old, new, 80, gamma=0.05)
    assert found is not None
    assert found.alpha == pytest.approx(alpha)
    assert found.misses == pytest.approx(np.mean(misses))
    assert found.num_stamps == 60


@pytest.mark.parametrize(("truth", "low", "high"), [(1.0, 0.8, 1.25), (2.5, 1.9, 3.2), (0.5, 0.35, 0.65)])
def test_the_stretch_comes_to_what_the_spread_is(truth: float, low: float, high: float) -> None:
    found = adapt(frame(np.ones(100)), frame(np.full(300, truth), seed=2), 80)
    assert found is not None
    assert low < found.stretch < high


def test_coverage_over_a_change_is_what_was_asked_for() -> None:
    spread = np.concatenate([np.ones(400), np.full(400, 3.0)])
    fixed = float((scores(frame(spread, seed=3), 80) > 1).mean())
    found = adapt(frame(np.ones(100)), frame(spread, seed=3), 80)
    assert found is not None
    assert fixed > 0.35
    assert found.misses == pytest.approx(0.2, abs=0.02)


def test_nothing_new_is_no_reason_to_change() -> None:
    assert adapt(frame(np.ones(20)), frame(np.ones(0)), 80) is None


def test_quantiles_between_levels_are_stretched_between_them() -> None:
    found = stretches((0.025, 0.1, 0.3, 0.5, 0.9, 0.975), {80: 2.0, 95: 3.0})
    np.testing.assert_allclose(found, [3.0, 2.0, 2.0, 1.0, 2.0, 3.0])


def test_a_stretched_calibration_moves_intervals_and_never_the_median() -> None:
    levels = (0.025, 0.1, 0.5, 0.9, 0.975)
    plain = Calibration.none(2, levels)
    wide = Calibration(
        quantile_levels=levels, corrections=plain.corrections, stretch=np.array([3.0, 2.0, 1.0, 2.0, 3.0])
    )
    quantiles = np.array([[[-2.0, -1.0, 0.5, 1.0, 2.5]]])
    found = wide.apply(quantiles, np.ones(1))
    np.testing.assert_allclose(found, [[[-7.0, -2.5, 0.5, 1.5, 6.5]]])
    again = Calibration.from_tensors(wide.tensors(), levels)
    np.testing.assert_array_equal(again.apply(quantiles, np.ones(1)), found)
    assert "stretch" not in plain.tensors()
    columns = {
        "median": [0.5], "lo-80": [-2.5], "hi-80": [1.5], "lo-95": [-7.0], "hi-95": [6.5],
    }  # fmt: skip
    back = unstretched(pd.DataFrame(columns), {80: 2.0, 95: 3.0})
    assert back[["lo-80", "hi-80", "lo-95", "hi-95"]].iloc[0].tolist() == [-1.0, 1.0, -2.0, 2.5]
