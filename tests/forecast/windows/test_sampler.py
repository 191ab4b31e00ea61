"""Batches against a slow obvious loop, and what training takes away from them."""

import numpy as np
import torch

from forecast.series.panel import Panel
from forecast.windows.index import training_windows
from forecast.windows.sampler import Augmentation, DeviceIndex, Sampler
from forecast.windows.spec import WindowSpec

CPU = torch.device("cpu")
SPEC = WindowSpec(context_length=6, horizon=3, min_context=2)


def panel() -> Panel:
    ys = [1e6 + np.arange(12.0), np.array([np.nan, 2.0, np.nan, 5.0, 7.0, 1.0, 3.0])]
    return Panel.from_arrays(["a", "b"], ys, freq="D", starts=["2001-01-01", "2001-02-01"])


def index(data: Panel) -> DeviceIndex:
    return DeviceIndex(training_windows(SPEC, starts=data.first_observed, limits=data.lengths), CPU)


def test_a_batch_holds_what_a_slow_loop_cuts_out() -> None:
    data = panel()
    windows = index(data)
    numbers = torch.arange(windows.num_windows)
    batch = Sampler(data, SPEC, device=CPU).windows(windows, numbers)
    series, origins = windows.locate(numbers)
    for row, (one, origin) in enumerate(zip(series.tolist(), origins.tolist(), strict=True)):
        y = np.concatenate([np.full(6, np.nan), data.y(one), np.full(3, np.nan)])
        level = float(batch.level[row])
        np.testing.assert_allclose(batch.context[row].numpy() + level, y[origin : origin + 6], rtol=1e-7)
        np.testing.assert_allclose(batch.target[row].numpy() + level, y[origin + 6 : origin + 9], rtol=1e-7)
        seen = y[origin : origin + 6]
        assert level == np.float32(seen[~np.isnan(seen)][-1])


def test_a_window_never_reaches_into_the_next_series() -> None:
    data = panel()
    windows = index(data)
    batch = Sampler(data, SPEC, device=CPU).windows(windows, torch.tensor([9]))
    assert batch.target[0].isnan().tolist() == [False, True, True]


def test_training_cuts_a_quarter_of_the_contexts_and_never_below_the_least() -> None:
    data = Panel.from_arrays(["a"], [np.arange(4000.0)], freq="D", starts=["2001-01-01"])
    spec = WindowSpec(context_length=50, horizon=3, min_context=10)
    windows = DeviceIndex(training_windows(spec, starts=data.first_observed, limits=data.lengths), CPU)
    sampler = Sampler(data, spec, device=CPU)
    batch = sampler.training_windows(
        windows,
        torch.arange(100, 3900),
        augmentation=Augmentation(truncate_share=0.25, drop_share=0.0),
        generator=torch.Generator().manual_seed(0),
    )
    seen = (~batch.context.isnan()).sum(1)
    assert seen.min() == 10
    assert abs(float((seen < 50).float().mean()) - 0.25 * 40 / 41) < 0.03
    first = batch.context.isnan().int().argmin(1)
    assert torch.equal(50 - first, seen), "what is cut lies before what is left"


def test_training_drops_spans_and_stays_relative_to_what_is_seen_last() -> None:
    data = Panel.from_arrays(["a"], [np.arange(400.0)], freq="D", starts=["2001-01-01"])
    spec = WindowSpec(context_length=40, horizon=3, min_context=40)
    windows = DeviceIndex(training_windows(spec, starts=data.first_observed, limits=data.lengths), CPU)
    batch = Sampler(data, spec, device=CPU).training_windows(
        windows,
        torch.arange(300),
        augmentation=Augmentation(truncate_share=0.0, drop_share=1.0),
        generator=torch.Generator().manual_seed(0),
    )
    missing = batch.context.isnan().sum(1)
    assert 0 < missing.max() <= 11
    for row in range(300):
        seen = batch.context[row][~batch.context[row].isnan()]
        assert seen[-1] == 0


def test_windows_upside_down_are_those_of_the_series_times_minus_one() -> None:
    values = np.random.default_rng(0).normal(size=400) + 5
    spec = WindowSpec(context_length=40, horizon=3, min_context=40)
    plain, turned = (
        Panel.from_arrays(["a"], [sign * values], freq="D", starts=["2001-01-01"]) for sign in (1, -1)
    )
    index = training_windows(spec, starts=plain.first_observed, limits=plain.lengths)
    windows, numbers = DeviceIndex(index, CPU), torch.arange(300)
    batch = Sampler(plain, spec, device=CPU).training_windows(
        windows,
        numbers,
        augmentation=Augmentation(truncate_share=0.0, drop_share=0.0, flip_share=0.5),
        generator=torch.Generator().manual_seed(0),
    )
    upright = Sampler(plain, spec, device=CPU).windows(windows, numbers)
    upside_down = Sampler(turned, spec, device=CPU).windows(windows, numbers)
    flipped = batch.level < 0
    assert 100 < flipped.sum() < 200
    assert torch.equal(batch.upright, (~flipped).float())
    for name in ("context", "level", "target"):
        drawn, one, other = (getattr(each, name) for each in (batch, upright, upside_down))
        torch.testing.assert_close(drawn[flipped], other[flipped])
        torch.testing.assert_close(drawn[~flipped], one[~flipped])


def test_series_weights_come_with_the_windows() -> None:
    data = panel()
    windows = index(data)
    sampler = Sampler(data, SPEC, device=CPU, weights=np.array([1.0, 0.25], dtype=np.float32))
    batch = sampler.windows(windows, torch.tensor([0, windows.num_windows - 1]))
    assert batch.weight.tolist() == [1.0, 0.25]


def test_covariates_and_calendar_features_are_those_that_a_request_brings() -> None:
    steps = np.arange(40.0)
    data = Panel.from_arrays(
        ["a", "b"],
        [steps, steps + 5],
        freq="D",
        starts=["2001-01-01", "2001-01-03"],
        past=[{"p": steps * 2}, {"p": steps * 3}],
        known=[{"k": np.arange(43.0)}, {"k": np.arange(43.0) + 7}],
        static=[{"size": 1.0, "kind": "x"}, {"size": 2.0, "kind": "y"}],
    )
    cut = data.head([30, 30])
    requested = cut.contexts(6, horizon=3, calendar=True)
    windows = DeviceIndex(training_windows(SPEC, starts=data.first_observed, limits=data.lengths), CPU)
    _, origins = windows.locate(torch.arange(windows.num_windows))
    numbers = torch.nonzero(origins == 30)[:, 0]
    batch = Sampler(data, SPEC, device=CPU, calendar=True).windows(windows, numbers)
    assert requested.past is not None
    np.testing.assert_array_equal(batch.past, requested.past)
    np.testing.assert_array_equal(batch.known, requested.known)
    np.testing.assert_array_equal(batch.static_numeric, requested.static_numeric)
    np.testing.assert_array_equal(batch.static_categorical, requested.static_categorical)
    np.testing.assert_allclose(batch.calendar, requested.calendar, atol=1e-6)  # type: ignore[arg-type]
