"""Which windows exist: every off-by-one in one place."""

import numpy as np
import pytest
import torch

from forecast.errors import SpecError
from forecast.windows.index import WindowIndex, training_windows, whole_windows
from forecast.windows.sampler import DeviceIndex
from forecast.windows.spec import WindowSpec
from forecast.windows.split import MAX_VALIDATION_WINDOWS, split


def origins(index: WindowIndex) -> list[tuple[int, int]]:
    """Every window as (series, origin)."""
    series, at = index.locate(np.arange(index.num_windows))
    return list(zip(series.tolist(), at.tolist(), strict=True))


def arrays(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize(
    ("min_context", "start", "limit", "expected"),
    [
        (1, 0, 4, [1, 2, 3]),  # one step seen, at least one to learn
        (2, 0, 4, [2, 3]),
        (2, 1, 4, [3]),  # the first observed value comes late
        (3, 0, 4, [3]),
        (4, 0, 4, []),
        (9, 0, 4, []),
    ],
)
def test_training_windows_have_enough_past_and_at_least_one_target(
    min_context: int, start: int, limit: int, expected: list[int]
) -> None:
    spec = WindowSpec(context_length=5, horizon=3, min_context=min_context)
    index = training_windows(spec, starts=arrays(start), limits=arrays(limit))
    assert [origin for _, origin in origins(index)] == expected


@pytest.mark.parametrize(("stride", "expected"), [(1, [4, 5, 6, 7]), (2, [5, 7]), (3, [4, 7]), (9, [7])])
def test_whole_windows_end_with_the_newest_whatever_the_stride(stride: int, expected: list[int]) -> None:
    spec = WindowSpec(context_length=5, horizon=3, stride=stride)
    index = whole_windows(spec, starts=arrays(0), origins=arrays(4), limits=arrays(10))
    assert [origin for _, origin in origins(index)] == expected


def test_windows_are_numbered_through_all_series_the_empty_ones_too() -> None:
    spec = WindowSpec(context_length=5, horizon=2, min_context=2)
    index = training_windows(spec, starts=arrays(0, 0, 0), limits=arrays(4, 1, 3))
    assert origins(index) == [(0, 2), (0, 3), (2, 2)]


def test_the_device_finds_the_same_windows() -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(0, 30, size=40)
    spec = WindowSpec(context_length=5, horizon=3, min_context=4, stride=2)
    index = training_windows(spec, starts=np.zeros(40, dtype=np.int64), limits=lengths)
    numbers = np.arange(index.num_windows)
    series, at = DeviceIndex(index, torch.device("cpu")).locate(torch.from_numpy(numbers))
    expected = index.locate(numbers)
    np.testing.assert_array_equal(series.numpy(), expected[0])
    np.testing.assert_array_equal(at.numpy(), expected[1])


def test_an_epoch_is_every_window_once() -> None:
    spec = WindowSpec(context_length=5, horizon=3)
    index = DeviceIndex(
        training_windows(spec, starts=arrays(0, 0), limits=arrays(30, 20)), torch.device("cpu")
    )
    first, again, second = (index.order(seed=1, epoch=epoch) for epoch in (0, 0, 1))
    assert sorted(first.tolist()) == list(range(index.num_windows))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_some_windows_are_spread_evenly_from_the_first_to_the_last() -> None:
    windows = training_windows(WindowSpec(context_length=5, horizon=1), starts=arrays(0), limits=arrays(42))
    index = DeviceIndex(windows, torch.device("cpu"))
    assert index.num_windows == 41
    assert index.spread(5).tolist() == [0, 10, 20, 30, 40]
    assert index.spread(1).tolist() == [0]
    assert index.spread(100).tolist() == list(range(41))


def test_no_validation_target_is_trained_on() -> None:
    generator = np.random.default_rng(1)
    lengths = generator.integers(1, 60, size=50)
    spec = WindowSpec(context_length=8, horizon=4, min_context=3)
    halves = split(spec, starts=np.zeros(50, dtype=np.int64), lengths=lengths, num_held_out=10)
    learned, held = (
        {(s, o + k) for s, o in origins(part) for k in range(4)}
        for part in (halves.training, halves.validation)
    )
    learned = {(series, step) for series, step in learned if step < halves.training.limits[series]}
    assert learned
    assert held
    assert not learned & held
    assert all(step < lengths[series] for series, step in learned | held)


def test_a_series_too_short_to_split_is_learned_whole() -> None:
    spec = WindowSpec(context_length=8, horizon=4, min_context=3)
    halves = split(spec, starts=arrays(0, 0), lengths=arrays(12, 40), num_held_out=10)
    assert halves.held_out.tolist() == [0, 10]
    assert {series for series, _ in origins(halves.validation)} == {1}


@pytest.mark.parametrize("num_held_out", [0, 3])
def test_less_than_a_horizon_held_out_validates_nothing(num_held_out: int) -> None:
    spec = WindowSpec(context_length=8, horizon=4)
    halves = split(spec, starts=arrays(0), lengths=arrays(40), num_held_out=num_held_out)
    assert halves.validation.num_windows == 0
    assert halves.training.limits.tolist() == [40]


def test_validation_windows_are_thinned_to_a_documented_number() -> None:
    spec = WindowSpec(context_length=8, horizon=4)
    lengths = np.full(300, 200, dtype=np.int64)
    halves = split(spec, starts=np.zeros(300, dtype=np.int64), lengths=lengths, num_held_out=100)
    assert 0 < halves.validation.num_windows <= MAX_VALIDATION_WINDOWS + 300


def test_a_window_without_a_step_is_refused() -> None:
    with pytest.raises(SpecError, match="horizon is a whole number from 1 on; got 0"):
        WindowSpec(context_length=3, horizon=0)
