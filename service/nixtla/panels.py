"""From what the nixtla client sends to a panel of the model's series."""

from dataclasses import dataclass

import numpy as np

from forecast.models.forecaster import Forecaster
from forecast.series.panel import Panel
from service.errors import problem
from service.nixtla.exogenous import Exogenous, assign, covariates
from service.nixtla.payload import Asked
from service.nixtla.timing import grid_of, starts_of
from service.stamps import zone_name

NO_FINE_TUNING = (
    "this service trains nothing: retrain with `forecast retrain RECIPE` and ask for the model by its name; "
    "leave out {name}"
)


@dataclass(frozen=True)
class Sent:
    """A request as a panel, with what has to be told about it."""

    panel: Panel
    exogenous: Exogenous
    notes: tuple[str, ...] = ()

    @property
    def weights_x(self) -> list[float] | None:
        """Zero for each feature where none was read; how much those count that are read is not known."""
        return [0.0] * self.exogenous.num_rows if self.exogenous.is_ignored else None


def panel_of(asked: Asked, forecaster: Forecaster, *, horizon: int) -> Sent:
    """The histories on the grid of the model, named by their place; the library's errors and Problem."""
    check_supported(asked)
    series = asked.series
    found = assign(asked, forecaster)
    grid, starts = starts_of(series, grid_of(asked.freq, series, forecaster), horizon)
    bounds = np.concatenate([[0], np.cumsum(series.sizes)])
    zone = (
        zone_name(series.start_datetime[0].offset) if starts is not None and series.start_datetime else None
    )
    panel = Panel.from_arrays(
        [f"series {place}" for place in range(len(series))],
        np.split(series.y, bounds[1:-1]),
        freq=grid,
        starts=None if starts is None else list(starts),
        timezone=zone,
        season_length=forecaster.info.season_length,
        holidays=forecaster.info.holidays,
        **covariates(asked, found, bounds),
    )
    ignored = {"exogenous_ignored": found.has_ignored, "multivariate_ignored": bool(asked.multivariate)}
    return Sent(panel, found, tuple(note for note, holds in ignored.items() if holds))


def check_supported(asked: Asked) -> None:
    """Problem 501 for what this service does not do, with what to do instead."""
    if asked.finetune_steps:
        raise problem("not-implemented", NO_FINE_TUNING.format(name="finetune_steps"))
    if asked.finetuned_model_id is not None:
        raise problem("not-implemented", NO_FINE_TUNING.format(name="finetuned_model_id"))
    if asked.feature_contributions:
        raise problem(
            "not-implemented",
            "the share of each feature is not computed here; leave out feature_contributions, and compare "
            "recipes with and without the feature in MLflow",
        )
