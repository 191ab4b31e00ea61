"""The losses are those of the textbook, and so are their gradients."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from forecast.training.losses import forecast_loss, pinball

LEVELS = torch.tensor([0.1, 0.5, 0.7, 0.95], dtype=torch.float64)


def textbook(quantiles: Tensor, target: Tensor, levels: Tensor) -> Tensor:
    error = target[..., None] - quantiles
    return torch.maximum(levels * error, (levels - 1) * error).mean(-1)


def sample(seed: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    quantiles = torch.randn(3, 5, 4, generator=random, dtype=torch.float64).sort(dim=2).values
    return quantiles.requires_grad_(), torch.randn(3, 5, generator=random, dtype=torch.float64)


@pytest.mark.parametrize("levels_first_in_memory", [False, True])
def test_pinball_is_the_textbooks(levels_first_in_memory: bool) -> None:
    quantiles, target = sample(0)
    given = quantiles
    if levels_first_in_memory:
        given = quantiles.movedim(2, 0).contiguous().movedim(0, 2)
    weights = torch.linspace(1, 2, 15, dtype=torch.float64).reshape(3, 5)
    loss = (pinball(given, target, LEVELS) * weights).sum()
    expected = (textbook(quantiles, target, LEVELS) * weights).sum()
    torch.testing.assert_close(loss, expected)
    (slopes,) = torch.autograd.grad(loss, quantiles)
    (expected_slopes,) = torch.autograd.grad(expected, quantiles)
    torch.testing.assert_close(slopes, expected_slopes)


def test_around_a_median_that_is_held_still_the_others_learn_their_distance_from_it() -> None:
    quantiles, target = sample(1)
    median = quantiles[..., 1:2]
    expected = textbook(quantiles - median + median.detach(), target, LEVELS).sum()
    loss = pinball(quantiles, target, LEVELS, held=1).sum()
    torch.testing.assert_close(loss, expected)
    (slopes,) = torch.autograd.grad(loss, quantiles)
    (expected_slopes,) = torch.autograd.grad(expected, quantiles)
    torch.testing.assert_close(slopes, expected_slopes)
    torch.testing.assert_close(slopes.sum(-1), torch.zeros(3, 5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("kind", "point"), [("mae", F.l1_loss), ("mse", F.mse_loss), ("huber", F.huber_loss)]
)
def test_the_median_learns_by_its_own_error_where_that_is_asked_for(kind: str, point: object) -> None:
    quantiles, target = sample(2)
    target[0, 2] = torch.nan
    seen = ~target.isnan()
    weight = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    upright = torch.ones(3, dtype=torch.float64)
    loss = forecast_loss(
        quantiles, target, levels=LEVELS, middle=1, kind=kind, weight=weight, upright=upright
    )
    (slopes,) = torch.autograd.grad(loss, quantiles)
    shares = (weight[:, None] * seen) / (weight[:, None] * seen).sum()
    median = quantiles[..., 1]
    own = point(median, target.nan_to_num(), reduction="none")  # type: ignore[operator]
    (expected,) = torch.autograd.grad((own * shares).sum(), median)
    torch.testing.assert_close(slopes.sum(-1), expected)
    assert (slopes[0, 2] == 0).all(), "what is missing teaches nothing"


def test_how_wide_quantiles_are_is_learned_from_upright_windows_alone() -> None:
    quantiles, target = sample(3)
    weight, upright = torch.ones(3, dtype=torch.float64), torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    loss = forecast_loss(
        quantiles, target, levels=LEVELS, middle=1, kind="mae", weight=weight, upright=upright
    )
    (slopes,) = torch.autograd.grad(loss, quantiles)
    turned = slopes[1].clone()
    assert (turned[:, 1].abs() > 0).all(), "the median learns from what is upside down too"
    turned[:, 1] = 0
    assert (turned == 0).all()
    assert (slopes[0].abs() > 0).all()
