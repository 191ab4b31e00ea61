"""What a model spec accepts, refuses and writes down."""

import json
import subprocess
import sys

import pytest

from forecast.errors import HorizonError, LevelError, SpecError
from forecast.models.spec import ModelSpec


def test_a_spec_needs_nothing_but_a_horizon() -> None:
    spec = ModelSpec(horizon=24)
    assert spec.backbone == "gru"
    assert not spec.is_baseline
    assert spec.num_quantiles == len(spec.quantile_levels)


def test_a_spec_survives_json() -> None:
    spec = ModelSpec(
        backbone="lstm", horizon=12, dropout=0.1, quantile_levels=(0.1, 0.5, 0.9), lower_bound=0.0
    )
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize("horizon", [0, -1, 1.5, True, None])
def test_a_horizon_below_one_is_refused(horizon: object) -> None:
    with pytest.raises(HorizonError, match=r"from 1 on; got"):
        ModelSpec(horizon=horizon)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("backbone", "mamba", "there is no backbone 'mamba'; choose one of .*gru.*naive"),
        ("scaling", "minmax", "scaling is one of mean_std"),
        ("transform", "sqrt", "transform is one of none, log"),
        ("loss", "crps", "loss is one of pinball"),
        ("hidden_size", 0, "hidden_size is a whole number"),
        ("dropout", 1.0, "dropout is a share"),
        ("dropout", "a", "dropout is a share"),
        ("lower_bound", "0", "lower_bound is a number; got '0'"),
        ("season_map", True, "season_map is a share"),
        ("season_map", 1.5, r"season_map is a share in \[0, 1\]; got 1.5"),
        ("median", "mean", "median is one of learned, base; got 'mean'"),
        ("max_horizon", 3, "max_horizon is a whole number not below horizon=12"),
    ],
)
def test_a_bad_value_is_refused_by_name(field: str, value: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ModelSpec(horizon=12, **{field: value})  # type: ignore[arg-type]


def test_values_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(SpecError, match="num_heads=3 has to divide hidden_size=16"):
        ModelSpec(horizon=1, hidden_size=16, num_heads=3)
    with pytest.raises(SpecError, match="min_context=20 is longer than context_length=10"):
        ModelSpec(horizon=1, context_length=10, min_context=20)
    for look_backs in ((8,), (8, 11), (8, 0)):
        with pytest.raises(SpecError, match="look_backs holds a number of steps for each of members=2"):
            ModelSpec(horizon=1, context_length=10, members=2, look_backs=look_backs)
    with pytest.raises(SpecError, match="lower_bound"):
        ModelSpec(horizon=1, lower_bound=1, upper_bound=0)


@pytest.mark.parametrize("levels", [(), (0.1, 0.9), (0.5, 0.1), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5)])
def test_quantile_levels_ascend_within_zero_and_one_around_the_median(levels: tuple[float, ...]) -> None:
    with pytest.raises(LevelError, match="quantile_levels"):
        ModelSpec(horizon=1, quantile_levels=levels)


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(SpecError, match="has no hiden_size"):
        ModelSpec.from_dict({"horizon": 1, "hiden_size": 3})


def test_reading_a_spec_loads_no_torch() -> None:
    code = (
        "import sys, forecast.models.spec; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
