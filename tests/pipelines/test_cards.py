"""What the card of a model says of its median."""

import numpy as np
import pytest

import forecast as fc
from forecast.series.panel import Panel
from pipelines.cards import median_lines


@pytest.mark.parametrize(
    ("spec", "steps", "said"),
    [
        ({}, 0, "**Median.** The last value: the network was not trained."),
        ({"season_map": 0.5}, 2, "**Median.** The network's, mixed with a linear map of the season (50%)."),
        ({"median": "learned"}, 2, None),
    ],
)
def test_the_card_says_what_the_median_is_where_it_is_not_the_networks_alone(
    spec: dict, steps: int, said: str | None
) -> None:
    y = np.random.default_rng(0).normal(size=200).cumsum()
    data = Panel.from_arrays(["a"], [y], freq="MS", starts=["2001-01-01"])
    forecaster = fc.fit(
        data,
        fc.ModelSpec(horizon=3, context_length=24, residual="last", **spec),
        fc.TrainConfig(max_steps=steps, progress="quiet"),
    )
    assert median_lines(forecaster.info) == ([] if said is None else [said, ""])
