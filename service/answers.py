"""What the HTTP API answers; the OpenAPI document is made from it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

RESPONSE_EXAMPLE: dict[str, Any] = {
    "model": {
        "name": "air_passengers",
        "version": "3",
        "alias": "champion",
        "run_id": "0b0d3c3ad9f44d8fb1d0d0c0ffee0123",
        "trained_until": "1960-12-01T00:00:00",
    },
    "freq": "MS",
    "horizon": 3,
    "forecasts": [
        {
            "unique_id": "AP",
            "ds": ["1961-01-01T00:00:00", "1961-02-01T00:00:00", "1961-03-01T00:00:00"],
            "median": [448.1, 421.9, 460.3],
            "lo-80": [430.2, 398.4, 430.8],
            "hi-80": [466.7, 446.0, 491.5],
            "notes": [],
        }
    ],
}


class ModelUsed(BaseModel):
    """Which model answered."""

    name: str
    version: str
    alias: str | None = Field(description="The alias asked for; null when a version was asked for.")
    run_id: str | None
    trained_until: str | int | None


class ForecastOut(BaseModel):
    """The forecast of one series; `lo-`/`hi-` or `q-` lists stand beside `median`."""

    model_config = ConfigDict(
        json_schema_extra={
            "patternProperties": {"^(lo|hi|q)-": {"type": "array", "items": {"type": "number"}}},
            "additionalProperties": False,
        }
    )

    unique_id: str
    ds: list[str] | list[int]
    median: list[float] | None = Field(None, description="Left out when `output` does not name it.")
    mean: list[float] | None = Field(None, description="Only when `output` names it.")
    notes: list[str] = Field(
        description="Short codes: short_history, gaps_filled, baseline:naive, rolled_out, ..."
    )


class ForecastResponse(BaseModel):
    """The forecasts, in the order of the series sent."""

    model: ModelUsed
    freq: str | int
    horizon: int
    forecasts: list[ForecastOut]


class MetricsOut(BaseModel):
    """How good forecasts were; null where nothing can be scored."""

    num_values: int = Field(description="Forecast steps that count: observed, and after the training data.")
    mae: float | None
    rmse: float | None
    smape: float | None = Field(description="In percent, 0 to 200.")
    mase: float | None = Field(description="In units of the mean absolute seasonal difference.")
    wql: float | None = Field(description="Twice the mean quantile loss over the mean of |y|.")
    coverage: dict[str, float | None] = Field(description="By level: the share of values inside.")


class WindowOut(BaseModel):
    """The forecast from one cutoff beside what came; `lo-`/`hi-` lists stand beside `median`."""

    model_config = ConfigDict(
        json_schema_extra={
            "patternProperties": {"^(lo|hi)-": {"type": "array", "items": {"type": "number"}}},
            "additionalProperties": False,
        }
    )

    cutoff: str | int = Field(description="The last stamp that the model saw.")
    ds: list[str] | list[int]
    y: list[float | None]
    median: list[float]
    in_sample: list[bool] = Field(
        description="Steps not after the model's `trained_until`: they count in no metric."
    )


class BacktestOut(BaseModel):
    """One series."""

    unique_id: str
    metrics: MetricsOut
    windows: list[WindowOut] = Field(description="Oldest first; without those of too little history.")
    notes: list[str] = Field(
        description="in_sample, may_be_in_sample, fewer_windows, gaps_filled, baseline:NAME, ..."
    )


class BacktestResponse(BaseModel):
    """The backtests, in the order of the series sent."""

    model: ModelUsed
    freq: str | int
    horizon: int
    num_windows: int
    stride: int
    metrics: MetricsOut = Field(description="Over all series.")
    backtests: list[BacktestOut]


class AnomalySummary(BaseModel):
    """Counts over what was judged after the training data."""

    num_values: int
    num_anomalies: int
    share: float | None = Field(description="Of anomalies among the values; about 1 - level is chance.")
    num_in_sample: int = Field(description="Values not after the model's `trained_until`, not counted above.")


class AnomalyOut(BaseModel):
    """One series: every judged step, from the first with enough history on."""

    model_config = ConfigDict(
        json_schema_extra={
            "patternProperties": {"^(lo|hi)-": {"type": "array", "items": {"type": "number"}}},
            "additionalProperties": False,
        }
    )

    unique_id: str
    ds: list[str] | list[int]
    y: list[float | None]
    median: list[float] = Field(description="Forecast one step ahead.")
    score: list[float | None] = Field(
        description="How far out the value lies, in standard-normal deviations of the forecast; signed."
    )
    anomaly: list[bool | None] = Field(description="Whether it lies outside the interval; null: missing.")
    in_sample: list[bool]
    notes: list[str]


class AnomalyResponse(BaseModel):
    """What was judged, in the order of the series sent."""

    model: ModelUsed
    freq: str | int
    level: float
    summary: AnomalySummary
    anomalies: list[AnomalyOut]


class CalibrationOut(BaseModel):
    """How the intervals were calibrated."""

    num_windows: int = Field(description="Windows that they were estimated from; 0: not calibrated.")
    parametric_quantiles: list[float] = Field(description="Quantiles beyond what the sample supports.")


class ModelOut(BaseModel):
    """One model that is served."""

    name: str
    version: str
    aliases: list[str]
    run_id: str | None
    kind: str = Field(description="network or baseline")
    freq: str | int
    season_length: int
    horizon: int
    max_horizon: int
    min_context: int
    context_length: int
    trained_until: str | int | None
    accuracy: dict[str, float | None] = Field(
        description="Metrics of the champion's retrain on unseen windows; empty where none are registered."
    )
    calibration: CalibrationOut
    all_aliases: dict[str, str] = Field(description="Every alias of the name and the version it stands for.")
    versions: list[str] = Field(description="Versions at hand here; others are fetched when asked for.")


class RuntimeOut(BaseModel):
    """What runs a model, and what was measured to choose it."""

    name: Literal["onnx", "torch", "numpy"]
    parity: float | None = Field(
        description="Largest relative difference between ONNX Runtime and torch; null: not measured."
    )
    milliseconds: dict[str, dict[str, float]] | None = Field(
        description="By runtime and number of series in one pass; null: not measured."
    )


class ModelDetail(ModelOut):
    """One model with everything that is known of it here."""

    quantile_levels: list[float]
    covariates: dict[str, list[str]]
    num_series: int
    live_accuracy: dict[str, float | None] = Field(
        description="Metrics of its answers on what came since; empty where `forecast monitor` did not look."
    )
    runtime: RuntimeOut


class ModelsResponse(BaseModel):
    """Every model that answers by its name."""

    models: list[ModelOut]


class Live(BaseModel):
    """The process answers."""

    status: Literal["alive"]


class Started(BaseModel):
    """Whether the process has looked for its models."""

    status: Literal["started", "starting"]


class ServedName(BaseModel):
    """A name and the version that answers to it."""

    name: str
    version: str


class Ready(BaseModel):
    """Whether forecasts can be answered."""

    status: Literal["ready", "no model", "stopping"]
    models: list[ServedName] | None = None
    problems: dict[str, str] | None = Field(
        None, description="By name of the model: why its newest champion does not serve."
    )


class FaultOut(BaseModel):
    """One thing wrong."""

    pointer: str = Field(description="Where in the body: a JSON pointer (RFC 6901) as a URI fragment.")
    detail: str


class ProblemOut(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: Annotated[list[FaultOut], Field(max_length=20)]
