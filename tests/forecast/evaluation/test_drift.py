"""What calls a change a change: seldom where there is none, and soon where there is one."""

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]  # publishes no types

from forecast.evaluation.drift import error_drift, farthest, input_drift, two_sample
from forecast.series.panel import Panel

ALPHA = 0.01


def test_two_groups_are_compared_as_an_independent_library_does() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        old, new = random.normal(0, 1, 6), random.normal(1, 1, 4)
        expected = stats.ttest_ind(new, old, alternative="greater").pvalue
        assert two_sample(old, new) == pytest.approx(expected)
    assert two_sample(np.array([1.0]), np.array([2.0, 3.0])) is None


def test_one_more_value_is_judged_by_students_prediction_interval() -> None:
    old = np.random.default_rng(1).normal(3, 2, 9)
    reach = stats.t.ppf(0.975, 8) * old.std(ddof=1) * np.sqrt(1 + 1 / 9)
    found = farthest(old, np.array([old.mean() + reach]))
    assert found is not None
    assert list(found) == pytest.approx([0.05, reach])


def panel_of(
    random: np.random.Generator, *, kind: str, num_series: int = 3, num_steps: int = 300, new: int = 28
) -> Panel:
    """Daily series with a week's pattern; nothing happens to them but what `kind` says of the last steps."""
    steps = np.arange(num_steps)
    ys = []
    for place in range(num_series):
        noise = {
            "heavy": random.standard_t(4, num_steps),
            "dependent": ar(random, num_steps, 0.7),
            "walk": np.cumsum(random.normal(0, 1, num_steps)) - 10 * (steps % 7),
        }.get(kind, random.normal(0, 1, num_steps))
        y = 50.0 + 20 * place + 10.0 * (steps % 7) + 0.05 * steps + 2 * noise
        y[-new:] += {"jump": 15.0}.get(kind, 0.0)
        y[-new:] += {"noisy": 1.0, "still": 0.0}.get(kind, 0.0) * random.normal(0, 8, new)
        ys.append(y)
    ids = [f"s{place}" for place in range(num_series)]
    return Panel.from_arrays(ids, ys, starts=["2025-01-01"] * num_series, freq="D")


def ar(random: np.random.Generator, num_steps: int, phi: float) -> NDArray[np.float64]:
    values = random.normal(0, 1, num_steps)
    for step in range(1, num_steps):
        values[step] += phi * values[step - 1]
    return values


def until(panel: Panel, new: int) -> int:
    return int(panel.drop_last(new).last_stamps().max().astype(np.int64))


@pytest.mark.parametrize("kind", ["quiet", "heavy", "dependent", "walk"])
@pytest.mark.parametrize("new", [4, 28])
def test_series_that_go_on_as_before_seldom_raise_an_alarm(kind: str, new: int) -> None:
    random, alarms, rounds = np.random.default_rng(7), 0, 50
    for _ in range(rounds):
        panel = panel_of(random, kind=kind, new=new)
        found = input_drift(panel, until(panel, new), horizon=7, alpha=ALPHA / 3)
        alarms += any(each.found for each in found)
    assert alarms <= 2, f"{alarms} of {rounds}"


@pytest.mark.parametrize(("kind", "name"), [("jump", "level"), ("noisy", "spread")])
def test_series_that_change_raise_one(kind: str, name: str) -> None:
    random, alarms = np.random.default_rng(8), 0
    for _ in range(20):
        panel = panel_of(random, kind=kind)
        found = {each.kind: each for each in input_drift(panel, until(panel, 28), horizon=7, alpha=ALPHA / 3)}
        alarms += found[name].found
    assert alarms >= 18


def test_two_new_days_say_nothing() -> None:
    panel = panel_of(np.random.default_rng(9), kind="jump", new=2)
    found = input_drift(panel, until(panel, 2), horizon=7, alpha=ALPHA)
    assert [(each.found, each.p_value) for each in found] == [(False, None)] * 2


def frame(
    random: np.random.Generator, *, num_windows: int, horizon: int = 7, factor: float = 1.0, first: int = 0
) -> pd.DataFrame:
    """Forecasts of three series whose error grows with the step and is shared by them in part."""
    parts = []
    for window in range(num_windows):
        shared = random.normal(0, 1, horizon)
        for name, scale in (("a", 1.0), ("b", 10.0), ("c", 100.0)):
            error = scale * factor * np.sqrt(np.arange(1, horizon + 1)) * (shared + random.normal(0, 1, 7))
            cutoff = first + window * horizon
            parts.append(
                pd.DataFrame(
                    {
                        "unique_id": name,
                        "ds": cutoff + np.arange(1, horizon + 1),
                        "step": np.arange(1, horizon + 1),
                        "cutoff_step": cutoff,
                        "y": 50.0,
                        "median": 50.0 + error,
                        "mase_scale": scale,
                        "in_sample": False,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("num_live", [1, 6])
def test_forecasts_as_good_as_before_seldom_raise_an_alarm(num_live: int) -> None:
    random, alarms, rounds = np.random.default_rng(3), 0, 100
    for _ in range(rounds):
        before, since = frame(random, num_windows=4), frame(random, num_windows=num_live, first=100)
        alarms += error_drift(before, since, horizon=7, alpha=ALPHA / 3, least_ratio=1.25).found
    assert alarms <= 3, f"{alarms} of {rounds}"


def test_forecasts_that_became_three_times_worse_raise_one() -> None:
    random, found = np.random.default_rng(4), []
    for _ in range(20):
        before, since = frame(random, num_windows=4), frame(random, num_windows=4, first=100, factor=3.0)
        found.append(error_drift(before, since, horizon=7, alpha=ALPHA / 3, least_ratio=1.25))
    assert sum(each.found for each in found) >= 18
    assert np.median([each.size or 0 for each in found]) == pytest.approx(3.0, rel=0.25)


def test_better_forecasts_and_none_at_all_raise_no_alarm() -> None:
    random = np.random.default_rng(5)
    before = frame(random, num_windows=6)
    better = error_drift(
        before, frame(random, num_windows=6, factor=0.2), horizon=7, alpha=0.05, least_ratio=1
    )
    assert (better.found, better.p_value is not None and better.p_value > 0.9) == (False, True)
    none = error_drift(before, before.iloc[:0], horizon=7, alpha=0.05, least_ratio=1)
    assert (none.found, none.p_value, none.num_live) == (False, None, 0)
