"""The season map: the same linear map for every phase of the season."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast.models.season_map import MAX_SEASONS, SeasonMap
from forecast.models.spec import ModelSpec


def season_map(*, season_length: int, context_length: int, horizon: int) -> SeasonMap:
    return SeasonMap(ModelSpec(horizon=horizon, context_length=context_length, season_length=season_length))


@settings(deadline=None)
@given(season_length=st.integers(1, 9), context=st.integers(0, 30), horizon=st.integers(1, 30))
def test_weights_on_the_newest_season_repeat_it(season_length: int, context: int, horizon: int) -> None:
    made = season_map(season_length=season_length, context_length=season_length + context, horizon=horizon)
    made.weights[made.num_seasons - 1] = 1.0
    scores = torch.randn(3, season_length + context)
    expected = scores[:, -season_length:].repeat(1, horizon)[:, :horizon]
    torch.testing.assert_close(made(scores, torch.ones_like(scores, dtype=torch.bool)), expected)


def test_every_phase_sees_its_own_past_the_means_of_the_seasons_and_the_last_value() -> None:
    made = season_map(season_length=3, context_length=8, horizon=4)
    scores = torch.arange(8.0)[None]
    observed = torch.ones(1, 8, dtype=torch.bool)
    observed[0, 7] = False
    features = made.features(scores * observed, observed)[0]
    assert features.tolist() == [
        [2.0, 5.0, 3.0, 5.5, 6.0],
        [3.0, 6.0, 3.0, 5.5, 6.0],
        [4.0, 0.0, 3.0, 5.5, 6.0],
    ], "what is missing counts in no mean, and the last value is the last observed one"


def test_a_long_context_is_read_as_far_as_is_useful() -> None:
    made = season_map(season_length=2, context_length=1024, horizon=5)
    assert made.num_seasons == MAX_SEASONS
    assert made.weights.shape == (2 * MAX_SEASONS + 1, 3)
    scores = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1024)).astype(np.float32))
    made.weights.normal_()
    changed = scores.clone()
    changed[:, : -2 * MAX_SEASONS] = 9.0
    observed = torch.ones_like(scores, dtype=torch.bool)
    torch.testing.assert_close(made(changed, observed), made(scores, observed))
