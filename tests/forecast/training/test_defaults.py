"""The rule of defaults, on data of many shapes: what it decides, and that it says why."""

import numpy as np
import pytest

import forecast as fc
from forecast.errors import DataError, SpecError
from forecast.models.catalog import BACKBONES
from forecast.series.panel import Panel
from forecast.training.config import TrainConfig
from forecast.training.defaults import PATIENCE, goes_below_zero, in_epochs, look, plan, resolve


def panel(
    length: int, *, freq: str | int = "MS", growth: float = 0.0, seed: int = 0, num_series: int = 1
) -> Panel:
    """A season around a level that grows by `growth` over the series."""
    generator = np.random.default_rng(seed)
    season = 12
    steps = np.arange(length)
    ys = [
        (100 + 10 * np.sin(2 * np.pi * steps / season) + generator.normal(size=length))
        * (1 + growth * steps / length)
        for _ in range(num_series)
    ]
    start: object = 1 if isinstance(freq, int) else "2001-01-01"
    names = [str(each) for each in range(num_series)]
    return Panel.from_arrays(names, ys, freq=freq, starts=[start] * num_series, season_length=season)


@pytest.mark.parametrize("length", [4, 13, 30, 144, 1_000, 20_000])
@pytest.mark.parametrize("horizon", [1, 12, 96])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_field_is_decided_within_bounds_and_with_a_reason(
    length: int, horizon: int, backbone: str
) -> None:
    spec, reasons = resolve(fc.ModelSpec(backbone=backbone, horizon=horizon), panel(length))
    assert 1 <= spec.context_length < length or length == 1  # type: ignore[operator]
    assert 1 <= spec.min_context <= spec.context_length  # type: ignore[operator]
    assert 1 <= spec.patch_length <= spec.context_length  # type: ignore[operator]
    assert 16 <= spec.hidden_size <= 256  # type: ignore[operator]
    for field in (
        "context_length",
        "patch_length",
        "hidden_size",
        "dropout",
        "decoder",
        "scaling",
        "transform",
    ):
        assert getattr(spec, field) is not None
        assert reasons[field]


def test_what_the_user_sets_stays_and_needs_no_reason() -> None:
    asked = fc.ModelSpec(horizon=12, context_length=50, hidden_size=8, transform="asinh", scaling="last")
    spec, reasons = resolve(asked, panel(144))
    assert (spec.context_length, spec.hidden_size, spec.transform, spec.scaling) == (50, 8, "asinh", "last")
    assert not {"context_length", "hidden_size", "transform", "scaling"} & set(reasons)


def test_contexts_are_whole_seasons_and_patches_fit_into_them() -> None:
    spec, _ = resolve(fc.ModelSpec(horizon=12), panel(144))
    assert spec.context_length % 12 == 0  # type: ignore[operator]
    assert 12 % spec.patch_length == 0  # type: ignore[operator]


@pytest.mark.parametrize(("growth", "transform"), [(0.0, "none"), (0.5, "none"), (4.0, "log")])
def test_seasons_that_grow_with_the_level_are_taken_in_logarithms(growth: float, transform: str) -> None:
    assert resolve(fc.ModelSpec(horizon=12), panel(144, growth=growth))[0].transform == transform


@pytest.mark.parametrize(("lowest", "transform"), [(50.0, "log"), (0.5, "none"), (-1.0, "none")])
def test_much_positive_data_is_taken_in_logarithms_unless_it_comes_near_zero(
    lowest: float, transform: str
) -> None:
    values = panel(20_000).y(0)
    values[5] = lowest
    data = Panel.from_arrays(["a"], [values], freq="h", starts=["2001-01-01"], season_length=12)
    assert resolve(fc.ModelSpec(horizon=12), data)[0].transform == transform


def test_every_second_member_sees_half_the_context() -> None:
    spec, reasons = resolve(fc.ModelSpec(horizon=12, members=3), panel(20_000))
    length = spec.context_length or 0
    full, half, last = spec.look_backs or ()
    assert full == last == length
    assert length / 2 <= half < length / 2 + (spec.patch_length or 0)
    assert "half" in reasons["look_backs"]
    assert resolve(fc.ModelSpec(horizon=12), panel(20_000))[0].look_backs is None
    short = fc.ModelSpec(horizon=12, members=2, context_length=18)
    assert resolve(short, panel(144))[0].look_backs is None, "half of it holds no season"


def test_zeros_are_never_taken_in_logarithms() -> None:
    data = panel(144, growth=4.0)
    values = data.y(0)
    values[5] = 0.0
    zero = Panel.from_arrays(["a"], [values], freq="MS", starts=["2001-01-01"])
    assert resolve(fc.ModelSpec(horizon=12), zero)[0].transform == "none"


def test_a_season_is_repeated_where_it_forecasts_better_than_the_last_value() -> None:
    assert resolve(fc.ModelSpec(horizon=12), panel(144))[0].residual == "season"
    walk = np.random.default_rng(0).normal(size=400).cumsum() + 100
    data = Panel.from_arrays(["w"], [walk], freq="MS", starts=["2001-01-01"])
    assert resolve(fc.ModelSpec(horizon=12), data)[0].residual == "last"


@pytest.mark.parametrize(("noise", "residual"), [(1.0, "season"), (5.0, "last")])
def test_much_data_repeats_a_season_only_where_it_wins_clearly(noise: float, residual: str) -> None:
    steps = np.arange(12_000)
    y = 10 * np.sin(2 * np.pi * steps / 12) + noise * np.random.default_rng(0).normal(size=12_000)
    data = Panel.from_arrays(["w"], [y], freq="h", starts=["2001-01-01"], season_length=12)
    asked = fc.ModelSpec(horizon=12)
    assert look(asked, data).season_wins
    assert resolve(asked, data)[0].residual == residual
    assert resolve(asked, data.drop_last(11_000))[0].residual == "season"


def test_positive_values_without_a_season_are_taken_in_logarithms_and_without_a_linear_map() -> None:
    walk = np.random.default_rng(0).normal(size=120).cumsum() + 100
    data = Panel.from_arrays(["w"], [walk], freq="MS", starts=["2001-01-01"])
    spec, reasons = resolve(fc.ModelSpec(horizon=12), data)
    assert (spec.transform, spec.residual, spec.linear) == ("log", "last", False)
    assert "without a season" in reasons["transform"]
    below = Panel.from_arrays(["w"], [walk - 200], freq="MS", starts=["2001-01-01"])
    assert resolve(fc.ModelSpec(horizon=12), below)[0].transform == "none"
    assert resolve(fc.ModelSpec(horizon=12), panel(144))[0].linear


def test_more_data_makes_a_larger_network() -> None:
    sizes = [
        resolve(fc.ModelSpec(horizon=12), panel(length))[0].hidden_size for length in (100, 10_000, 100_000)
    ]
    assert sizes == sorted(sizes)  # type: ignore[type-var]
    assert sizes[0] < sizes[2]  # type: ignore[operator]


def test_few_windows_are_all_learned_for_fixed_steps() -> None:
    lengths = np.array([144])
    few = plan(TrainConfig(), spec=fc.ModelSpec(horizon=12), num_windows=132, lengths=lengths)
    many = plan(TrainConfig(), spec=fc.ModelSpec(horizon=12), num_windows=50_000, lengths=lengths * 100)
    assert few.num_held_out == 0
    assert many.num_held_out >= 12
    assert few.num_steps < many.num_steps


def test_many_series_are_learned_longer_than_one() -> None:
    def num_steps(num_series: int) -> int:
        lengths = np.full(num_series, 60_000 // num_series)
        return plan(
            TrainConfig(), spec=fc.ModelSpec(horizon=24), num_windows=50_000, lengths=lengths
        ).num_steps

    assert [num_steps(number) for number in (1, 16, 100, 10_000)] == [400, 1000, 2500, 5000]


def test_the_median_learns_by_its_own_error_where_there_is_much_data() -> None:
    losses = [resolve(fc.ModelSpec(horizon=12), panel(length))[0].loss for length in (144, 20_000)]
    assert losses == ["pinball", "mae"]
    assert resolve(fc.ModelSpec(horizon=12, loss="huber"), panel(144))[0].loss == "huber"


def test_few_long_series_are_learned_upside_down_too_where_the_horizon_is_far() -> None:
    spec, _ = resolve(fc.ModelSpec(horizon=48, season_length=12), panel(144))

    def share(num_series: int = 7, length: int = 10_000, below_zero: bool = True, **changes: object) -> float:
        config = TrainConfig(flip_share=changes.pop("flip_share", None))  # type: ignore[arg-type]
        upright = {"transform": "none", "scaling": "mean_std"}
        return plan(
            config,
            spec=spec.with_(**{**upright, **changes}),
            num_windows=50_000,
            lengths=np.full(num_series, length),
            below_zero=below_zero,
        ).flip_share

    assert share() == 0.5
    assert share(num_series=100) == 0, "of many series a drift can be learned"
    assert share(length=1_000) == 0, "of few values everything has to be"
    assert share(horizon=47) == share(season_length=1, horizon=29) == 0, "soon ahead the way up counts"
    assert share(season_length=1, horizon=30) == 0.5
    assert share(below_zero=False) == 0, "a floor at zero has no counterpart"
    assert share(transform="log") == 0
    assert share(scaling="none") == 0
    assert share(known=("price",)) == 0, "a covariate's effect has a direction"
    assert share(flip_share=0.0) == 0
    assert share(num_series=100, flip_share=0.2) == 0.2
    with pytest.raises(SpecError, match="flip_share needs transform='none'"):
        share(transform="log", flip_share=0.2)


def test_most_series_have_to_go_below_zero_to_count_as_such() -> None:
    values = np.arange(20.0)
    rows = [values - 3, values - 1, values, values + 5]
    data = Panel.from_arrays(["a", "b", "c", "d"], rows, freq="D", starts=["2001-01-01"] * 4)
    assert not goes_below_zero(data)
    assert goes_below_zero(data.select([0, 1, 2]))


def test_epochs_and_steps_asked_for_bound_the_plan() -> None:
    spec, lengths = fc.ModelSpec(horizon=12), np.array([1000])

    def num_steps(config: TrainConfig) -> int:
        planned = plan(config, spec=spec, num_windows=950, lengths=lengths)
        return in_epochs(planned, config, num_windows=810).num_steps

    assert num_steps(TrainConfig(max_epochs=2, batch_size=100)) == 18
    assert num_steps(TrainConfig(max_epochs=2, max_steps=7, batch_size=100)) == 7
    assert num_steps(TrainConfig(max_steps=7)) == 7


def test_patience_is_a_rule_only_where_the_number_of_steps_is_one() -> None:
    spec, _ = resolve(fc.ModelSpec(horizon=12), panel(2_000))
    lengths = np.array([2_000])

    def patience(**asked: int) -> int | None:
        return plan(TrainConfig(**asked), spec=spec, num_windows=1_000, lengths=lengths).patience  # type: ignore[arg-type]

    assert patience() == PATIENCE
    assert patience(patience=2) == 2
    assert patience(max_steps=100) is None
    assert patience(max_epochs=3) is None


def test_a_season_longer_than_the_context_cannot_be_repeated() -> None:
    with pytest.raises(SpecError, match="residual='season' needs a whole season"):
        resolve(fc.ModelSpec(horizon=3, context_length=5, residual="season"), panel(144))


def test_nothing_observed_is_an_error() -> None:
    data = panel(20).head([3])
    with pytest.raises(DataError, match="all values"):
        look(
            fc.ModelSpec(horizon=3), Panel.from_arrays(["a"], [[np.nan] * 3], freq="D", starts=["2001-01-01"])
        )
    assert look(fc.ModelSpec(horizon=3), data).num_series == 1
