"""What the nixtla client sends: unknown keys are let pass, everything that is read is checked.

n series, T flat values of all series, h steps asked for
"""

from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from service.errors import from_validation_error, problem
from service.schemas import MAX_COVARIATES, MAX_LEVELS
from service.schemas import _fail as fail
from service.schemas import _values as values
from service.stamps import Stamp, read_stamp

MAX_SERIES = 100_000
"""Series of one request; a forecast of as many steps is bounded by the size of its answer."""
LARGEST_COUNT = 2**31

_NUMBERS = {int, float}
_CATEGORIES = {int, float, str, bool, type(None)}

Row = NDArray[np.float64] | list[Any]
"""One exogenous feature of all series: numbers, or categories as they came."""


def _count(sent: Any) -> int:
    """A whole number of 1 or more; R writes it as 8.0."""
    if type(sent) is float and sent.is_integer():
        sent = int(sent)
    if type(sent) is not int or not 1 <= sent <= LARGEST_COUNT:
        raise fail(f"a whole number from 1 to {LARGEST_COUNT:,} is needed")
    return sent


def _steps(sent: Any) -> int:
    return 0 if type(sent) in _NUMBERS and sent == 0 else _count(sent)


def _sizes(sent: Any) -> NDArray[np.int64]:
    sent = [sent] if type(sent) in _NUMBERS else sent
    if type(sent) is not list or not 1 <= len(sent) <= MAX_SERIES:
        raise fail(f"the lengths of 1 to {MAX_SERIES:,} series are needed; use num_partitions for more")
    return np.array([_count(size) for size in sent], dtype=np.int64)


def _levels(sent: Any) -> tuple[float, ...]:
    """Levels as they were written: the client looks for `lo-80` or `lo-80.0` accordingly."""
    sent = [sent] if type(sent) in _NUMBERS else sent
    if type(sent) is not list or len(sent) > MAX_LEVELS:
        raise fail(f"at most {MAX_LEVELS} levels are answered at a time")
    for place, level in enumerate(sent):
        if type(level) not in _NUMBERS or not 0 <= level < 100:
            raise fail("a level lies from 0 to below 100, in percent: 80, 95.5", place)
    return tuple(sent)


def _rows(sent: Any) -> tuple[Row, ...]:
    if type(sent) is not list or len(sent) > MAX_COVARIATES:
        raise fail(f"at most {MAX_COVARIATES} exogenous features are read, each as one list")
    return tuple(_row(row, place) for place, row in enumerate(sent))


def _row(sent: Any, place: int) -> Row:
    if type(sent) is not list or not set(map(type, sent)) <= _CATEGORIES:
        raise fail("an exogenous feature is a list of numbers, or of categories, and null", place)
    if any(kind in (str, bool) for kind in set(map(type, sent))):
        return sent
    try:
        return values(sent)
    except PydanticCustomError as error:
        raise fail(error.message(), place, *(error.context or {}).get("path", ())) from error


def _stamps(sent: Any) -> tuple[Stamp, ...]:
    sent = [sent] if type(sent) is str else sent
    if type(sent) is not list or len(sent) > MAX_SERIES:
        raise fail("one ISO 8601 text per series is needed")
    try:
        return tuple(read_stamp(text) for text in sent)
    except ValueError as error:
        raise fail(str(error)) from error


def _indices(sent: Any) -> frozenset[int]:
    sent = [sent] if type(sent) is int else sent
    if type(sent) is not list or not all(type(index) is int and index >= 0 for index in sent):
        raise fail("a list of row numbers of X is needed")
    return frozenset(sent)


def _text(sent: Any) -> str:
    text = str(sent) if type(sent) in (str, int) else ""
    if not 1 <= len(text) <= 40:
        raise fail("a frequency is a short text such as MS, D or 15min")
    return text


Count = Annotated[int, PlainValidator(_count)]
Steps = Annotated[int, PlainValidator(_steps)]
Rows = Annotated[tuple[Row, ...], PlainValidator(_rows)]
Indices = Annotated[frozenset[int], PlainValidator(_indices)]
Levels = Annotated[tuple[float, ...], PlainValidator(_levels)]


class Lenient(BaseModel):
    """Ignores what it does not know: the client sends more with every version."""

    model_config = ConfigDict(extra="ignore", arbitrary_types_allowed=True, protected_namespaces=())


class SeriesSent(Lenient):
    """All histories in one flat list: no ids and no stamps travel but the first of each."""

    y: Annotated[NDArray[np.float64], PlainValidator(values)]
    """(T,) NaN where missing."""
    sizes: Annotated[NDArray[np.int64], PlainValidator(_sizes)]
    """(n,)."""
    X: Rows | None = None
    """One row (T,) per feature."""
    X_future: Rows | None = None
    """One row (n * h,) for each of the first features, whose future is known."""
    start_datetime: Annotated[tuple[Stamp, ...], PlainValidator(_stamps)] | None = None
    """The first stamp of each series; absent for integer time and for zones with a summer time."""
    categorical_exog: Indices | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = int(self.sizes.sum())
        if total != len(self.y):
            raise fail(f"the sizes add up to {total:,} and y has {len(self.y):,} values", "sizes")
        for place, row in enumerate(self.X or ()):
            if len(row) != total:
                raise fail(f"the feature has {len(row):,} values and y has {total:,}", "X", place)
        if self.start_datetime is not None and len(self.start_datetime) != len(self.sizes):
            raise fail("one first stamp per series is needed", "start_datetime")
        if any(index >= len(self.X or ()) for index in self.categorical_exog or ()):
            raise fail("a row number lies beyond X", "categorical_exog")
        return self

    def __len__(self) -> int:
        return len(self.sizes)


class Asked(Lenient):
    """What every task sends."""

    series: SeriesSent
    model: Annotated[str, Field(strict=True, min_length=1, max_length=512)]
    freq: Annotated[str, PlainValidator(_text)] | None = None
    level: Levels | None = None
    finetune_steps: Steps | None = None
    finetuned_model_id: Any = None
    feature_contributions: Any = None
    multivariate: Any = None
    hist_exog: Indices | None = None

    @property
    def levels(self) -> tuple[float, ...]:
        """The levels asked for, each once."""
        return tuple({f"{level}": level for level in self.level or ()}.values())


class ForecastAsked(Asked):
    """The body of /v2/forecast."""

    h: Count

    @model_validator(mode="after")
    def _future(self) -> Self:
        future, needed = self.series.X_future or (), len(self.series) * self.h
        if len(future) > len(self.series.X or ()):
            raise fail("every feature of X_future has to be in X too", "series", "X_future")
        for place, row in enumerate(future):
            if len(row) != needed:
                detail = f"the feature has {len(row):,} values and {needed:,} (series x h) are needed"
                raise fail(detail, "series", "X_future", place)
        return self


class CrossValidationAsked(Asked):
    """The body of /v2/cross_validation."""

    h: Count = 1
    n_windows: Count = 1
    step_size: Count | None = None
    full_history: bool = False
    """Fitted values are asked for: h, n_windows and step_size say nothing then."""


class FittedAsked(Asked):
    """The body of /v2/historic_forecast, which the R client sends."""


class AnomaliesAsked(Asked):
    """The body of /v2/anomaly_detection."""


class OnlineAnomaliesAsked(Asked):
    """The body of /v2/online_anomaly_detection."""

    h: Count
    detection_size: Count
    step_size: Count | None = None
    threshold_method: Literal["univariate", "multivariate"] = "univariate"


A = TypeVar("A", bound=Asked)


def read_content(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; Problem 400 or 422."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise problem("not-json", f"the body cannot be read as JSON: {error}") from None
    if type(content) is not dict:
        raise problem("invalid-request", "the body has to be a JSON object")
    return content


def parse(content: dict[str, Any], kind: type[A]) -> A:
    """A body as what it asks for; Problem 422 where it does not fit."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise from_validation_error(error) from None
