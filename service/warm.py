"""One forecast made before a model serves: what cannot answer now would not answer later either."""

from typing import Any

import numpy as np

from forecast.errors import ArtifactError, ForecastError
from forecast.models.forecaster import Forecaster
from forecast.series.panel import Panel


def warm(forecaster: Forecaster) -> None:
    """Forecast a made-up history once; ArtifactError when that fails or is not finite."""
    try:
        values = forecaster.predict(sample_panel(forecaster)).values
    except ForecastError as error:
        raise ArtifactError(f"the model cannot forecast: {error}") from error
    except Exception as error:  # a runtime may raise anything on a file it cannot run
        raise ArtifactError(f"the model cannot be run: {type(error).__name__}: {error}") from error
    if not np.isfinite(values).all():
        raise ArtifactError("the model answers with values that are not finite")


def sample_panel(forecaster: Forecaster) -> Panel:
    """A rising history as long as the model looks back, with whatever covariates it wants."""
    num_steps = forecaster.context_length
    freq = forecaster.freq
    start: Any = 0 if freq.is_integer else freq.advance(np.datetime64("2024-01-01", "us"), 0)
    lengths = {"past": num_steps, "known": num_steps + forecaster.horizon}
    covariates: dict[str, Any] = {}
    for kind, names in forecaster.info.covariates.items():
        if names and kind in lengths:
            covariates[kind] = [{name: np.zeros(lengths[kind]) for name in names}]
        elif names:
            categories = forecaster.info.model.get("static_categories") or {}
            covariates[kind] = [{name: "" if name in categories else 0.0 for name in names}]
    return Panel.from_arrays(
        ["warm"],
        [np.arange(1.0, num_steps + 1)],
        starts=[start],
        freq=freq,
        season_length=forecaster.info.season_length,
        holidays=forecaster.info.holidays,
        **covariates,
    )
