"""The registered model as MLflow runs it: a long frame in, the library's frame out.

MLflow keeps a copy of this file with every version and runs that copy, so it holds nothing but the call of
the installed library; what changes between versions lies in the artifact folder, which has a format number.
"""

from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from forecast.models.artifact import load
from forecast.series.read import from_frame


class ForecastModel(PythonModel):
    """Forecasts the series of a frame with columns unique_id, ds, y."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the artifact folder that was logged with this version."""
        self.forecaster = load(context.artifacts["forecaster"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """unique_id, ds, median, lo-80, hi-80, ... for every series; `params` may set horizon and levels."""
        asked = params or {}
        info = self.forecaster.info
        covariates: dict[str, Any] = dict(info.covariates)
        panel = from_frame(model_input, freq=info.freq, **covariates)
        forecast = self.forecaster.predict(panel, horizon=asked.get("horizon"))
        return forecast.to_frame(levels=[float(level) for level in asked.get("levels", ())])


mlflow.models.set_model(ForecastModel())
