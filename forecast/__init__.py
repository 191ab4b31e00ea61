"""Train, evaluate, save and use time-series forecasters: the names users import.

Names are resolved on first use, so that importing this package costs nothing and the
serving path never loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Backtest": "forecast.evaluation.backtest",
    "Forecast": "forecast.series.forecast",
    "Forecaster": "forecast.models.forecaster",
    "ModelSpec": "forecast.models.spec",
    "Panel": "forecast.series.panel",
    "TrainConfig": "forecast.training.config",
    "Verdict": "forecast.evaluation.compare",
    "backtest": "forecast.evaluation.backtest",
    "compare": "forecast.evaluation.compare",
    "fit": "forecast.training.fit",
    "from_frame": "forecast.series.read",
    "load": "forecast.models.artifact",
    "read_csv": "forecast.series.read",
    "read_parquet": "forecast.series.read",
    "save": "forecast.models.artifact",
}

__all__ = [
    "Backtest",
    "Forecast",
    "Forecaster",
    "ModelSpec",
    "Panel",
    "TrainConfig",
    "Verdict",
    "backtest",
    "compare",
    "fit",
    "from_frame",
    "load",
    "read_csv",
    "read_parquet",
    "save",
]

if TYPE_CHECKING:
    from forecast.evaluation.backtest import Backtest, backtest
    from forecast.evaluation.compare import Verdict, compare
    from forecast.models.artifact import load, save
    from forecast.models.forecaster import Forecaster
    from forecast.models.spec import ModelSpec
    from forecast.series.forecast import Forecast
    from forecast.series.panel import Panel
    from forecast.series.read import from_frame, read_csv, read_parquet
    from forecast.training.config import TrainConfig
    from forecast.training.fit import fit


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'forecast' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
