"""What a training step counts: errors in units, however restless a window is."""

import numpy as np
import pytest
import torch

from forecast.models.network import ForecastNetwork
from forecast.models.spec import ModelSpec
from forecast.series.panel import Panel
from forecast.training.config import TrainConfig
from forecast.training.defaults import resolve
from forecast.training.fit import Job, halfway_to_typical
from forecast.training.step import LARGEST_RELATIVE_SIZE, relative_size


def job(*series: np.ndarray, transform: str = "none") -> Job:
    panel = Panel.from_arrays(
        [f"s{place}" for place in range(len(series))],
        list(series),
        freq="h",
        starts=["2026-01-01"] * len(series),
    )
    spec, _ = resolve(ModelSpec(backbone="gru", horizon=4, context_length=16, transform=transform), panel)
    config = TrainConfig(max_steps=1, progress="quiet")
    network = ForecastNetwork(spec)
    return Job(panel, network, config, device=torch.device("cpu"), validation=0, weights=None)


def test_a_window_counts_by_how_much_it_moves_beside_its_series() -> None:
    size = torch.tensor([1.0, 2.0, 0.0, 3.0, 1e12])
    usual = torch.tensor([2.0, 2.0, 2.0, 0.0, 2.0])
    assert relative_size(size, usual).tolist() == [0.5, 1.0, 0.0, 1.0, LARGEST_RELATIVE_SIZE]


def test_the_usual_size_of_a_series_is_that_of_its_windows() -> None:
    random = np.random.default_rng(0)
    walk = random.normal(size=600).cumsum()
    work = job(walk, 1000 * walk, np.full(600, 7.0))
    windows = work.sampler.windows(work.training, torch.arange(work.training.num_windows))
    size = work.network.read(windows.context, windows.level).scale.size[:, 0]
    series, _ = work.training.locate(torch.arange(work.training.num_windows))
    for place in range(2):
        mean = float(size[series == place].mean())
        assert float(work.sampler.usual_sizes[place]) == pytest.approx(mean, rel=0.3)
    first, second, constant = work.sampler.usual_sizes.tolist()
    assert second == pytest.approx(1000 * first, rel=1e-4), "units do not matter"
    assert constant == 0


def test_in_logarithms_restless_series_count_more_by_half_of_what_they_differ() -> None:
    random = np.random.default_rng(0)
    walk = random.normal(size=600).cumsum() / 100
    plain = job(np.exp(walk), np.exp(16 * walk), np.exp(4 * walk), transform="log")
    quiet, restless, typical = plain.sampler.usual_sizes.tolist()
    assert typical / quiet == pytest.approx(2, rel=1e-3)
    assert restless / typical == pytest.approx(2, rel=1e-3)
    assert halfway_to_typical(torch.tensor([0.0, 1.0, 4.0, 16.0])).tolist() == [0.0, 2.0, 4.0, 8.0]
    assert halfway_to_typical(torch.zeros(2)).tolist() == [0.0, 0.0]


def test_a_restless_window_outweighs_a_quiet_one_with_the_same_error_in_scales() -> None:
    """Half a series moves ten times as much; the same scaled errors there count ten times as much."""
    random = np.random.default_rng(1)
    noise = random.normal(size=400)
    work = job(np.concatenate([noise[:200], 10 * noise[:200]]))
    step = work._training(0, None).step
    quiet, restless = (work.sampler.windows(work.training, torch.tensor([place])) for place in (30, 230))
    np.testing.assert_allclose(10 * quiet.context, restless.context, rtol=1e-4, atol=1e-4)
    both = quiet._replace(
        **{
            name: torch.cat([getattr(quiet, name), getattr(restless, name)])
            for name in ("context", "level", "target", "weight", "usual_size", "upright")
        }
    )
    far = both._replace(target=both.target + torch.tensor([[0.0], [30.0]]))  # three scales away from the base
    with torch.no_grad():
        alone = [float(step.loss(far._replace(weight=w), step.module)) for w in torch.eye(2)]
        together = float(step.loss(far, step.module))
    assert together == pytest.approx((alone[0] + 10 * alone[1]) / 11, rel=0.02)
