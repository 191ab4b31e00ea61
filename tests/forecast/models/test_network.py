"""What every network does, whatever its backbone."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from forecast.models.baselines import naive, seasonal_naive
from forecast.models.catalog import BACKBONES
from forecast.models.network import Covariates, ForecastNetwork
from forecast.models.onnx_export import export
from forecast.models.onnx_runtime import OnnxBackend
from forecast.models.spec import SCALINGS, TRANSFORMS, ModelSpec
from forecast.models.torch_backend import TorchBackend
from forecast.series.batch import ContextBatch


def small(backbone: str = "gru", **changes: object) -> ModelSpec:
    """A resolved spec of a tiny network."""
    resolved: dict[str, object] = {
        "horizon": 7,
        "context_length": 26,
        "patch_length": 4,
        "hidden_size": 8,
        "num_layers": 2,
        "num_heads": 2,
        "decoder": "parallel",
        "scaling": "mean_std",
        "transform": "none",
        "residual": "last",
        "season_length": 6,
    }
    return ModelSpec(backbone=backbone, **{**resolved, **changes})  # type: ignore[arg-type]


def trained(spec: ModelSpec, seed: int = 0) -> ForecastNetwork:
    """A network whose zeros are replaced, as training would."""
    torch.manual_seed(seed)
    network = ForecastNetwork(spec).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def windows(num_windows: int, length: int = 26, *, level: float = 100.0, noise: float = 1.0) -> ContextBatch:
    """Positive histories with missing values: a gap in the middle, and a start that is not there."""
    generator = np.random.default_rng(3)
    season = np.sin(np.arange(length) * 2 * np.pi / 6)
    raw = level + noise * (3 * season + generator.normal(size=(num_windows, length)))
    raw[0, 5:8] = np.nan
    raw[-1, : length // 2] = np.nan
    return ContextBatch.from_raw(raw)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(("residual", "baseline"), [("last", naive), ("season", seasonal_naive)])
def test_an_untrained_network_is_the_naive_forecast_exactly(
    backbone: str, transform: str, residual: str, baseline: object
) -> None:
    spec = small(backbone, residual=residual, transform=transform)
    batch = windows(5)
    quantiles = TorchBackend(ForecastNetwork(spec))(batch)
    expected = baseline(batch.context.astype(float), 7, 6)  # type: ignore[operator]
    np.testing.assert_array_equal(quantiles[:, :, 8], expected.astype(np.float32))


def test_untrained_quantiles_are_those_of_a_normal_in_units_of_the_scale() -> None:
    batch = windows(3)
    quantiles = TorchBackend(ForecastNetwork(small()))(batch)
    deviation = np.nanstd(batch.context, axis=1)
    np.testing.assert_allclose(quantiles[:, 0, 13] / deviation, 1.6449, rtol=1e-3)
    np.testing.assert_allclose(quantiles[:, 0, 3] / deviation, -1.6449, rtol=1e-3)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("decoder", ["direct", "parallel"])
@pytest.mark.parametrize("pooling", ["last", "attention"])
def test_every_step_depends_on_the_newest_observation(backbone: str, decoder: str, pooling: str) -> None:
    spec = small(backbone, decoder=decoder, pooling=pooling, horizon=12)
    member = trained(spec).members[0]
    scores = torch.randn(1, 26, requires_grad=True)
    observed = torch.ones(1, 26, dtype=torch.bool)
    median = member(scores, observed, Covariates())[0, :, 8]
    for step in range(12):
        (gradient,) = torch.autograd.grad(median[step], scores, retain_graph=True)
        assert gradient[0, -1].abs() > 1e-7, f"step {step} does not see the newest observation"


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("scaling", SCALINGS)
def test_quantiles_never_cross_and_are_never_missing(backbone: str, transform: str, scaling: str) -> None:
    quantiles = TorchBackend(trained(small(backbone, transform=transform, scaling=scaling)))(windows(5))
    assert np.isfinite(quantiles).all()
    assert (np.diff(quantiles, axis=2) >= 0).all()


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("scaling", ["mean_std", "last", "robust"])
@pytest.mark.parametrize("residual", ["last", "season"])
def test_a_constant_history_gives_the_constant(transform: str, scaling: str, residual: str) -> None:
    spec = small(transform=transform, scaling=scaling, residual=residual)
    quantiles = TorchBackend(trained(spec))(ContextBatch.from_raw(np.full((2, 26), 7.0)))
    np.testing.assert_array_equal(quantiles, 0)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("scaling", ["mean_std", "last", "robust"])
def test_unit_noise_survives_a_level_of_a_thousand_million(transform: str, scaling: str) -> None:
    backend = TorchBackend(trained(small(transform=transform, scaling=scaling)))
    low, high = windows(4, level=1e5), windows(4, level=1e9)
    np.testing.assert_allclose(backend(high), backend(low), rtol=2e-3, atol=2e-3)
    assert np.ptp(backend(high)[0, :, 8]) > 0.01


@pytest.mark.parametrize("outlier", [1e12, -1e12, 3.3e38])
@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("transform", ["none", "asinh"])
def test_one_absurd_value_gives_no_missing_forecast(outlier: float, scaling: str, transform: str) -> None:
    raw = np.random.default_rng(0).normal(size=(2, 26)) + 5
    raw[0, 10] = outlier
    raw[1, -1] = outlier
    quantiles = TorchBackend(trained(small(scaling=scaling, transform=transform)))(ContextBatch.from_raw(raw))
    assert np.isfinite(quantiles[0]).all()
    assert not np.isnan(quantiles).any()


@pytest.mark.parametrize("length", [1, 3, 25])
def test_a_short_history_is_answered_whatever_stands_before_it(length: int) -> None:
    raw = np.full((1, 26), np.nan)
    raw[0, -length:] = 10 + np.arange(length)
    quantiles = TorchBackend(trained(small(residual="season")))(ContextBatch.from_raw(raw))
    assert np.isfinite(quantiles).all()


def test_members_are_averaged_quantile_by_quantile() -> None:
    network = trained(small(members=3))
    batch = windows(2)
    context, level = torch.from_numpy(batch.context), torch.from_numpy(batch.level.astype(np.float32))
    together = network(context, level)
    window = network.read(context, level)
    each = [network.units(window, network.scores(window, member, Covariates())) for member in range(3)]
    torch.testing.assert_close(together, torch.stack(each).mean(0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_member_sees_its_look_back_and_no_further(backbone: str) -> None:
    """Scores of the older half move the first member's forecast and not the second's."""
    spec = small(backbone, members=2, look_backs=(26, 12), past=("a",), known=("b",), linear=True)
    network = trained(spec)
    batch = windows(2)
    window = network.read(torch.from_numpy(batch.context), torch.from_numpy(batch.level.astype(np.float32)))
    covariates = Covariates(past=torch.randn(2, 1, 26), known=torch.randn(2, 1, 33))

    def scores(member: int, *, since: int) -> torch.Tensor:
        changed = window._replace(scores=window.scores.clone())
        changed.scores[:, :since] += 1
        past, known = (each.clone() for each in covariates[:2] if each is not None)
        past[:, :, :since] += 1
        known[:, :, :since] += 1
        return network.scores(changed, member, Covariates(past=past, known=known))

    torch.testing.assert_close(scores(1, since=14), scores(1, since=0))
    assert not torch.allclose(scores(1, since=15), scores(1, since=0))
    assert not torch.allclose(scores(0, since=14), scores(0, since=0))


def test_members_with_look_backs_of_their_own_are_exported(tmp_path: Path) -> None:
    parity(small("transformer", members=2, look_backs=(26, 12), positions="learned"), tmp_path)
    (tmp_path / "gru").mkdir()
    parity(small("gru", members=3, look_backs=(26, 12, 26)), tmp_path / "gru")


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("residual", ["last", "season"])
def test_targets_and_units_are_inverse(transform: str, residual: str) -> None:
    network = ForecastNetwork(small(transform=transform, residual=residual))
    batch = windows(4)
    window = network.read(torch.from_numpy(batch.context), torch.from_numpy(batch.level.astype(np.float32)))
    future = torch.randn(4, 7)
    back = network.units(window, network.target(window, future)[..., None])[..., 0]
    torch.testing.assert_close(back, future, rtol=1e-5, atol=2e-5)


def parity(spec: ModelSpec, folder: Path) -> None:
    """The exported graph answers as torch does, for one window, for seven, and for gaps."""
    backend = TorchBackend(trained(spec))
    assert export(backend.network, folder / "model.onnx")
    graph = OnnxBackend(folder / "model.onnx")
    for num_windows in (1, 7):
        for level in (100.0, 1e7):
            batch = windows(num_windows, level=level)
            ours, theirs = backend(batch), graph(batch)
            size = np.abs(ours).max()
            np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4 * size)


@pytest.mark.parametrize(
    ("backbone", "transform", "scaling"),
    list(zip(BACKBONES, [*TRANSFORMS, "log"], [*SCALINGS, "last"], strict=True)),
)
def test_the_exported_graph_answers_as_torch_does(
    backbone: str, transform: str, scaling: str, tmp_path: Path
) -> None:
    parity(small(backbone, transform=transform, scaling=scaling), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "transform", "scaling"), list(itertools.product(BACKBONES, TRANSFORMS, SCALINGS))
)
def test_every_graph_answers_as_torch_does(
    backbone: str, transform: str, scaling: str, tmp_path: Path
) -> None:
    parity(small(backbone, transform=transform, scaling=scaling), tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"decoder": "direct", "patch_length": 1},
        {"decoder": "direct", "pooling": "attention"},
        {"residual": "season", "linear": True},
        {"members": 2},
        {"backbone": "transformer", "positions": "learned"},
        {"backbone": "transformer", "positions": "sinusoidal", "decoder": "direct"},
        {"backbone": "elman", "activation": "relu"},
        {"backbone": "lstm", "decoder": "direct", "patch_length": 1},
    ],
)
def test_every_variant_can_be_exported(changes: dict[str, object], tmp_path: Path) -> None:
    parity(small(**changes), tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize("backbone", ["lstm", "gru", "elman"])
def test_recurrent_layers_become_the_runtimes_own_operators(backbone: str, tmp_path: Path) -> None:
    import onnx

    export(trained(small(backbone)), tmp_path / "model.onnx")
    operators = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert {"lstm": "LSTM", "gru": "GRU", "elman": "RNN"}[backbone] in operators


@pytest.mark.parametrize("transform", ["none", "log"])
def test_a_season_map_is_exported_with_its_share(transform: str, tmp_path: Path) -> None:
    parity(small(season_map=0.5, transform=transform), tmp_path)
    (tmp_path / "far").mkdir()
    parity(small(season_map=0.25, members=2, horizon=13), tmp_path / "far")


def test_the_season_maps_share_moves_the_median_and_the_other_quantiles_with_it() -> None:
    spec = small(season_map=0.25)
    network = trained(spec)
    assert network.season_map is not None
    network.season_map.weights.copy_(torch.randn_like(network.season_map.weights))
    batch = windows(5)
    level = torch.from_numpy(batch.level.astype(np.float32))
    window = network.read(torch.from_numpy(batch.context), level)
    alone = network.scores(window, 0, Covariates())
    ahead = network.season_map(window.scores, window.observed)
    median = alone[..., network.middle]
    share = 0.25 * network.season_map.seen(window.observed)  # less for the first and the last window
    assert share[:, 0].tolist() == pytest.approx([0.25 * 21 / 24, 0.25, 0.25, 0.25, 0.25 * 13 / 24])
    moved = alone + (share * (ahead - median))[..., None]
    both = network(torch.from_numpy(batch.context), level)
    torch.testing.assert_close(both, network.units(window, moved))
    torch.testing.assert_close(moved.diff(dim=-1), alone.diff(dim=-1))


def test_a_forgotten_median_is_the_base_and_the_quantiles_keep_their_distances() -> None:
    network = trained(small(linear=True, members=2))
    batch = windows(5)
    context, level = torch.from_numpy(batch.context), torch.from_numpy(batch.level.astype(np.float32))
    before = network(context, level)
    network.forget_median()
    after = network(context, level)
    last = naive(batch.context.astype(np.float64), 7, 1)[:, :, None]
    np.testing.assert_allclose(after[..., [network.middle]].detach(), last, atol=1e-4)
    torch.testing.assert_close(after.diff(dim=-1), before.diff(dim=-1), rtol=1e-4, atol=1e-4)
