"""Baselines by name: a forecaster from a panel, with as little fitting as each needs."""

from forecast.errors import SpecError
from forecast.models.baselines import baseline_forecaster
from forecast.models.forecaster import Forecaster
from forecast.models.spec import ModelSpec
from forecast.series.panel import Panel


def fit_baseline(panel: Panel, spec: ModelSpec, *, held_out: int = 0) -> Forecaster:
    """The forecaster of a baseline spec on every series of `panel`; not calibrated yet.

    The last `held_out` steps of each series teach no weights: a ridge chooses its transform on them.
    """
    if not spec.is_baseline:
        raise SpecError(f"{spec.backbone!r} is a network, not a baseline; train it with fit()")
    if spec.backbone == "ridge":
        from forecast.training.ridge import fit_ridge  # scikit-learn only where it is needed

        return fit_ridge(panel, spec, held_out=held_out)
    return baseline_forecaster(panel, spec)
