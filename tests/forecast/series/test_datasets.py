"""The built-in series are the published ones."""

import numpy as np
import pytest

import forecast as fc
from forecast.errors import NotFoundError
from forecast.series import datasets, synthetic
from tests.builders import shared_data


def test_the_airline_figures_are_those_of_the_published_series() -> None:
    frame = datasets.load("air_passengers")
    published = fc.read_csv(shared_data("air_passengers.csv"), freq="MS")
    np.testing.assert_array_equal(frame["y"], published.y(0))
    np.testing.assert_array_equal(frame["ds"].to_numpy(), published.ds(0))
    assert frame["y"].sum() == 40363


def test_data_sets_say_what_they_are() -> None:
    assert datasets.names() == ("air_passengers",)
    about = datasets.describe("air_passengers")
    panel = fc.from_frame(datasets.load("air_passengers"))
    assert (panel.freq.alias, panel.season_length) == (about.freq, about.season_length)
    assert (len(panel), panel.lengths.sum()) == (about.num_series, about.num_rows)


def test_an_unknown_data_set_names_those_there_are() -> None:
    with pytest.raises(NotFoundError, match="'titanic'; built in: air_passengers"):
        datasets.load("titanic")


def test_synthetic_series_repeat_with_their_seed() -> None:
    for make in (synthetic.seasonal, synthetic.random_walk):
        one = make(num_series=3, num_steps=20, seed=5)
        np.testing.assert_array_equal(one, make(num_series=3, num_steps=20, seed=5))
        assert (one != make(num_series=3, num_steps=20, seed=6)).any()


def test_synthetic_panels_and_frames_hold_the_same() -> None:
    values = synthetic.seasonal(num_series=2, num_steps=30, season_length=7)
    for freq in ("D", 1):
        panel = synthetic.as_panel(values, freq=freq)
        assert (
            panel.fingerprint()
            == fc.from_frame(synthetic.as_frame(values, freq=freq), freq=freq).fingerprint()
        )
