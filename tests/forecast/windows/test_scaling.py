"""Scales and transforms: inverse of each other, precise far from zero, blind to what is missing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.windows.scaling import apply_scale, fit_scale
from forecast.windows.transforms import asinh, difference, expm1, last_observed, log1p, reference, sinh, step

KINDS = ["mean_std", "last", "robust"]


def window(values: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    context = torch.tensor([values])
    observed = ~context.isnan()
    return torch.where(observed, context, 0.0), observed


@pytest.mark.parametrize(
    ("kind", "center", "size"),
    [("mean_std", 2.5, 5**0.5 / 2), ("last", 4.0, 3.5**0.5), ("robust", 2.0, 2 / 1.349)],
)
def test_scales_of_a_window_worked_out_by_hand(kind: str, center: float, size: float) -> None:
    z, observed = window([1.0, 2.0, float("nan"), 3.0, 4.0])
    scale = fit_scale(kind, z, observed, level=torch.tensor([[4.0]]))
    assert float(scale.center) == pytest.approx(center)
    assert float(scale.size) == pytest.approx(size)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_changes_no_scale(kind: str) -> None:
    full = window([1.0, 5.0, 2.0])
    padded = window([float("nan"), 1.0, float("nan"), 5.0, 2.0, float("nan")])
    one, other = (fit_scale(kind, *each, level=torch.ones(1, 1)) for each in (full, padded))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("values", [[3.0, 3.0, 3.0], [float("nan")] * 3, [float("nan"), 0.0, 0.0], [7.0]])
def test_nothing_that_moves_gives_size_zero_and_scores_of_zero(kind: str, values: list[float]) -> None:
    z, observed = window(values)
    scale = fit_scale(kind, z, observed, level=torch.tensor([[1e9]]))
    assert float(scale.size) == 0
    assert (apply_scale(z, observed, scale).abs() < 51).all()


def test_the_newest_observed_value_is_found_behind_gaps() -> None:
    nothing = float("nan")
    for values, expected in [([1.0, 2.0, nothing], 2.0), ([nothing, nothing], 0.0), ([5.0], 5.0)]:
        assert float(last_observed(*window(values))) == expected


@pytest.mark.parametrize("transform", ["none", "log", "relative", "asinh"])
@settings(max_examples=60, deadline=None)
@given(
    level=st.floats(1.0, 1e9),
    moves=st.lists(st.floats(-0.5, 2.0), min_size=2, max_size=8),
)
def test_a_step_by_the_difference_leads_back(transform: str, level: float, moves: list[float]) -> None:
    context = torch.tensor([[move * level * 0.9 for move in moves]])
    observed = torch.ones_like(context, dtype=torch.bool)
    at = reference(context, torch.tensor([level]), observed)
    delta = difference(transform, context, at.last, at)
    back = step(transform, at.last[:, :, None], delta[..., None], at)[..., 0]
    torch.testing.assert_close(back, context, rtol=1e-4, atol=level * 3e-6)


@pytest.mark.parametrize("transform", ["none", "log", "relative", "asinh"])
def test_a_step_of_zero_is_the_base_exactly(transform: str) -> None:
    context = torch.tensor([[0.1, 0.7, -0.3]])
    at = reference(context, torch.tensor([1.3]), context > -9)
    assert torch.equal(step(transform, context[..., None], torch.zeros(1, 3, 2), at)[..., 1], context)


@pytest.mark.parametrize("transform", ["log", "relative", "asinh"])
def test_unit_moves_at_a_level_of_1e9_keep_their_digits(transform: str) -> None:
    context = torch.tensor([[-3.0, 1.0, 2.0, 0.0]])
    at = reference(context, torch.tensor([1e9]), context > -9)
    z = difference(transform, context, at.last, at)
    slope = {"log": 1e-9, "relative": 1e-9, "asinh": 1e-9 / 2**0.5}[transform]
    torch.testing.assert_close(z, context * slope, rtol=1e-5, atol=0.0)


def test_asinh_differences_agree_with_plain_ones_across_signs() -> None:
    raw = torch.tensor([[-50.0, -1.0, 0.0, 0.5, 30.0, 2.0]], dtype=torch.float64)
    at = reference(raw - 2.0, torch.tensor([2.0], dtype=torch.float64), raw < 99)
    expected = torch.asinh(raw / at.unit) - torch.asinh(2.0 / at.unit)
    torch.testing.assert_close(difference("asinh", raw - 2.0, at.last, at), expected)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(log1p, np.log1p), (expm1, np.expm1), (asinh, np.arcsinh), (sinh, np.sinh)]
)
def test_precise_functions_are_precise(ours: object, theirs: object) -> None:
    x = torch.cat(
        [10.0 ** -torch.arange(0, 12.0), -(10.0 ** -torch.arange(1, 12.0)), torch.tensor([0.0, 5.0])]
    )
    expected = torch.from_numpy(theirs(x.double().numpy())).float()  # type: ignore[operator]
    torch.testing.assert_close(ours(x), expected, rtol=3e-6, atol=0.0)  # type: ignore[operator]
