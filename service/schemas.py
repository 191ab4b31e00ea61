"""What the HTTP API takes, typed and strict; the OpenAPI document is made from it."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from service.errors import Fault, from_validation_error, problem
from service.stamps import Stamp, read_stamp

MAX_SERIES = 10_000
MAX_LEVELS = 100
MAX_COVARIATES = 100
MAX_WINDOWS = 10_000
MAX_STRIDE = 1_000_000
MAX_ABS = 3.4e38
"""Values are kept in float32, and some clients send its largest value for infinity."""

_NUMBERS = {int, float}
_NUMBERS_OR_NULL = {int, float, type(None)}
_NO_NUMBER = "true, false and texts are no numbers"


def _fail(message: str, *path: str | int) -> PydanticCustomError:
    """A validation error at `path` below the place where it is raised."""
    return PydanticCustomError("invalid", message.replace("{", "(").replace("}", ")"), {"path": path})


def _first(items: Iterable[Any], fails: Callable[[Any], bool]) -> int:
    return next(index for index, item in enumerate(items) if fails(item))


def _values(sent: Any) -> NDArray[np.float64]:
    """A history: numbers below 3.4e38 and null, as float64 with NaN."""
    if type(sent) is not list:
        raise _fail("a list of numbers and null is needed")
    if not set(map(type, sent)) <= _NUMBERS_OR_NULL:
        raise _fail(
            f"a number or null is needed; {_NO_NUMBER}",
            _first(sent, lambda v: type(v) not in _NUMBERS_OR_NULL),
        )
    values = np.array(sent, dtype=np.float64)
    too_large = np.abs(values) >= MAX_ABS
    if too_large.any():
        raise _fail("the number is too large: its size has to stay below 3.4e38", int(too_large.argmax()))
    return values


def _freq(sent: Any) -> str | int:
    if type(sent) not in (str, int) or len(str(sent)) > 40:
        raise _fail("a frequency is a short text such as MS, D or 15min, or an integer step")
    frequency: str | int = sent
    return frequency


def _stamp(sent: Any) -> Stamp:
    try:
        return read_stamp(sent)
    except ValueError as error:
        raise _fail(str(error)) from error


def _stamps(sent: Any) -> list[Stamp]:
    """The stamps of a history: all texts of one zone, or all integers."""
    if type(sent) is not list or not sent:
        raise _fail("a list of one or more stamps is needed")
    stamps = []
    for index, value in enumerate(sent):
        try:
            stamps.append(read_stamp(value))
        except ValueError as error:
            raise _fail(str(error), index) from error
    first = stamps[0]
    for index, stamp in enumerate(stamps):
        if stamp.is_integer != first.is_integer:
            raise _fail("stamps are either all texts or all integers", index)
        if stamp.offset != first.offset:
            raise _fail(
                "mixed time zones: every stamp of a request needs the same UTC offset, or none", index
            )
    return stamps


def _numbers(*, low: float, high: float) -> Callable[[Any], tuple[float, ...]]:
    """A validator of numbers strictly between two limits; an int stays an int."""

    def validate(sent: Any) -> tuple[float, ...]:
        if type(sent) is not list or not 1 <= len(sent) <= MAX_LEVELS:
            raise _fail(f"a list of 1 to {MAX_LEVELS} numbers is needed")
        for index, value in enumerate(sent):
            if type(value) not in _NUMBERS:
                raise _fail(f"a number is needed; {_NO_NUMBER}", index)
            if not low < value < high:
                raise _fail(f"the number has to lie between {low} and {high}, both excluded", index)
        return tuple(sent)

    return validate


_between_0_and_100 = _numbers(low=0, high=100)


def _level(sent: Any) -> float:
    """One level in percent; an int stays an int."""
    return _between_0_and_100([sent])[0]


def _covariates(sent: Any) -> dict[str, NDArray[np.float64]]:
    """Named rows of numbers."""
    if type(sent) is not dict or len(sent) > MAX_COVARIATES:
        raise _fail(f"an object of at most {MAX_COVARIATES} lists by name is needed")
    rows = {}
    for name, row in sent.items():
        try:
            rows[name] = _values(row)
        except PydanticCustomError as error:
            raise _fail(error.message(), name, *(error.context or {}).get("path", ())) from error
    return rows


def _static(sent: Any) -> dict[str, float | str]:
    """Named numbers or categories."""
    if type(sent) is not dict or len(sent) > MAX_COVARIATES:
        raise _fail(f"an object of at most {MAX_COVARIATES} values by name is needed")
    for name, value in sent.items():
        if type(value) not in _NUMBERS and type(value) is not str:
            raise _fail("a number or a text is needed", name)
        if type(value) is not str and abs(value) >= MAX_ABS:
            raise _fail("the number is too large: its size has to stay below 3.4e38", name)
    return dict(sent)


_STAMP_SCHEMA = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "integer"}]}
_NUMBER_OR_NULL = {"anyOf": [{"type": "number"}, {"type": "null"}]}


def _between(low: float, high: float) -> dict[str, Any]:
    item = {"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": high}
    return {"type": "array", "items": item, "minItems": 1, "maxItems": MAX_LEVELS}


Values = Annotated[
    NDArray[np.float64], PlainValidator(_values), WithJsonSchema({"type": "array", "items": _NUMBER_OR_NULL})
]
Freq = Annotated[
    str | int,
    PlainValidator(_freq),
    WithJsonSchema({"anyOf": [{"type": "string", "maxLength": 40}, {"type": "integer"}]}),
]
OneStamp = Annotated[Stamp, PlainValidator(_stamp), WithJsonSchema(_STAMP_SCHEMA)]
ManyStamps = Annotated[
    list[Stamp],
    PlainValidator(_stamps),
    WithJsonSchema({"type": "array", "items": _STAMP_SCHEMA, "minItems": 1}),
]
Levels = Annotated[tuple[float, ...], PlainValidator(_between_0_and_100), WithJsonSchema(_between(0, 100))]
Quantiles = Annotated[
    tuple[float, ...], PlainValidator(_numbers(low=0, high=1)), WithJsonSchema(_between(0, 1))
]
Covariates = Annotated[
    dict[str, NDArray[np.float64]],
    PlainValidator(_covariates),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": MAX_COVARIATES,
            "additionalProperties": {"type": "array", "items": _NUMBER_OR_NULL},
        }
    ),
]
Static = Annotated[
    dict[str, float | str],
    PlainValidator(_static),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": MAX_COVARIATES,
            "additionalProperties": {"anyOf": [{"type": "number"}, {"type": "string"}]},
        }
    ),
]


Level = Annotated[
    float,
    PlainValidator(_level),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 100}),
]


class Strict(BaseModel):
    """Takes nothing undeclared and converts nothing; one error for each object with unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_fields(cls, sent: Any) -> Any:
        if isinstance(sent, dict):
            unknown = list(islice((name for name in sent if name not in cls.model_fields), 1))
            if unknown:
                known = ", ".join(cls.model_fields)
                raise _fail(f"the field is unknown; known are {known}", unknown[0])
        return sent


class SeriesIn(Strict):
    """One history: `y` with either the first stamp or all of them."""

    unique_id: str = Field(min_length=1, max_length=512, description="Names the series in the answer.")
    start: OneStamp | None = Field(
        None, description="The first stamp; further ones follow at the model's frequency. Instead of `ds`."
    )
    ds: ManyStamps | None = Field(
        None, description="Ascending stamps on the model's grid; gaps are filled with null and noted."
    )
    y: Values = Field(description="The values, null where missing.")
    past: Covariates | None = Field(None, description="Covariates known for the history: one value per step.")
    known: Covariates | None = Field(
        None, description="Covariates known for the history and the horizon: one value per step of both."
    )
    static: Static | None = Field(None, description="Values that hold for the whole series.")

    @model_validator(mode="after")
    def _either_start_or_ds(self) -> Self:
        if (self.start is None) == (self.ds is None):
            raise _fail("either start or ds is needed, and not both")
        if self.ds is not None and len(self.ds) != len(self.y):
            raise _fail(
                f"ds has {len(self.ds)} stamps and y {len(self.y)} values; send one stamp for each", "ds"
            )
        return self

    @property
    def first_stamp(self) -> Stamp:
        """The stamp of the first value."""
        return self.start if self.start is not None else (self.ds or [])[0]


_TWO_YEARS = [
    *(360, 342, 406, 396, 420, 472, 548, 559, 463, 407, 362, 405),
    *(417, 391, 419, 461, 472, 535, 622, 606, 508, 461, 390, 432),
]
REQUEST_EXAMPLE: dict[str, Any] = {
    "model": "air_passengers",
    "horizon": 3,
    "levels": [80],
    "series": [
        {
            "unique_id": "AP",
            "start": "1959-01-01",
            "y": _TWO_YEARS,
        }
    ],
}


_EIGHT_YEARS = [round(v * (1 + 0.1 * year)) for year in range(8) for v in _TWO_YEARS[:12]]
_HISTORY = {
    "model": "air_passengers",
    "series": [{"unique_id": "AP", "start": "1953-01-01", "y": _EIGHT_YEARS}],
}
BACKTEST_EXAMPLE: dict[str, Any] = {**_HISTORY, "horizon": 6, "num_windows": 3, "levels": [80]}
ANOMALY_EXAMPLE: dict[str, Any] = {**_HISTORY, "level": 99, "last": 24}


class Histories(Strict):
    """Named histories for a model: what every request of the native API brings."""

    model: str = Field(
        min_length=1,
        max_length=512,
        description="`name` (its champion), `name@alias` or `name/version`.",
    )
    series: Annotated[list[SeriesIn], Field(min_length=1, max_length=MAX_SERIES)]
    freq: Freq | None = Field(
        None,
        description="The spacing of the data, to be checked against the model's: MS, D, h, 15min, 1, ...",
    )

    @model_validator(mode="after")
    def _distinct_ids_and_one_zone(self) -> Self:
        self._check_ids()
        self._check_zones()
        return self

    def _check_ids(self) -> None:
        places: dict[str, int] = {}
        for index, series in enumerate(self.series):
            if (first := places.setdefault(series.unique_id, index)) != index:
                raise _fail(f"the same unique_id stands at series {first}", "series", index, "unique_id")

    def _check_zones(self) -> None:
        first = self.series[0].first_stamp
        for index, series in enumerate(self.series):
            place = ("series", index, "start" if series.start is not None else "ds")
            if series.first_stamp.is_integer != first.is_integer:
                raise _fail("stamps are either all texts or all integers", *place)
            if series.first_stamp.offset != first.offset:
                raise _fail(
                    "mixed time zones: every stamp of a request needs the same UTC offset, or none", *place
                )


class ForecastRequest(Histories):
    """Histories, and what to forecast from them."""

    model_config = ConfigDict(json_schema_extra={"examples": [REQUEST_EXAMPLE]})

    horizon: int | None = Field(
        None,
        ge=1,
        description="Steps to forecast; default: the trained horizon; at most the model's max_horizon.",
    )
    levels: Levels | None = Field(
        None, description="Central intervals in percent: 80 answers as lo-80 and hi-80. Default: none."
    )
    quantiles: Quantiles | None = Field(
        None, description="Quantiles instead of levels: 0.1 answers as q-0.1."
    )
    output: Annotated[list[Literal["median", "mean"]], Field(min_length=1, max_length=2)] = Field(
        default=["median"],
        description="Which central values to answer; the mean is integrated from the quantiles.",
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.levels is not None and self.quantiles is not None:
            raise _fail("levels and quantiles exclude each other; send one of them", "quantiles")
        return self


class BacktestRequest(Histories):
    """Histories, and from how many of their cutoffs to forecast what followed."""

    model_config = ConfigDict(json_schema_extra={"examples": [BACKTEST_EXAMPLE]})

    horizon: int | None = Field(
        None, ge=1, description="Steps from each cutoff; default: the trained horizon; at most max_horizon."
    )
    num_windows: int = Field(
        4,
        ge=1,
        le=MAX_WINDOWS,
        description="Cutoffs in each series; the last one is a horizon before its end.",
    )
    stride: int | None = Field(
        None, ge=1, le=MAX_STRIDE, description="Steps between cutoffs; default: the horizon."
    )
    levels: Levels = Field(
        (80, 95), description="Central intervals in percent; their coverage is among the metrics."
    )


class AnomalyRequest(Histories):
    """Histories, and how rare a value has to be to be called an anomaly."""

    model_config = ConfigDict(json_schema_extra={"examples": [ANOMALY_EXAMPLE]})

    level: Level = Field(
        99, description="The central interval, in percent, outside of which a value is an anomaly."
    )
    last: int | None = Field(
        None,
        ge=1,
        description="Judge only the last so many steps of each series; default: all with enough history.",
    )


Asking = TypeVar("Asking", bound=Histories)
Made = TypeVar("Made", bound=BaseModel)

_PLAIN_FIELDS = {"model", "series", "horizon", "levels"}
_PLAIN_SERIES = {"unique_id", "start", "y"}


def _plain(content: dict[str, Any]) -> ForecastRequest | None:
    """The usual request, accepted by hand in a fifth of the time; None for any other and all that is wrong.

    What it accepts `ForecastRequest.model_validate` accepts with the same result.
    """
    series, model, horizon = content.get("series"), content.get("model"), content.get("horizon")
    if not content.keys() <= _PLAIN_FIELDS or type(series) is not list or len(series) != 1:
        return None
    only = series[0]
    if type(only) is not dict or only.keys() != _PLAIN_SERIES or type(only["unique_id"]) is not str:
        return None
    if type(model) is not str or not (0 < len(model) <= 512 and 0 < len(only["unique_id"]) <= 512):
        return None
    if horizon is not None and (type(horizon) is not int or horizon < 1):
        return None
    levels = content.get("levels")
    try:
        start = read_stamp(only["start"])
        asked = None if levels is None else _between_0_and_100(levels)
        y = _values(only["y"])
    except (ValueError, PydanticCustomError):
        return None
    history = {"unique_id": only["unique_id"], "start": start, "y": y}
    rest: dict[str, Any] = {"ds": None, "past": None, "known": None, "static": None}
    request = {"model": model, "series": [_made(SeriesIn, {**history, **rest})], "horizon": horizon}
    return _made(
        ForecastRequest,
        {**request, "freq": None, "levels": asked, "quantiles": None, "output": ["median"]},
    )


def _made(kind: type[Made], values: dict[str, Any]) -> Made:
    """`kind.model_construct(**values)` of all its fields, in a tenth of the time."""
    made = kind.__new__(kind)
    object.__setattr__(made, "__dict__", values)
    object.__setattr__(made, "__pydantic_fields_set__", set(values))
    object.__setattr__(made, "__pydantic_extra__", None)
    object.__setattr__(made, "__pydantic_private__", None)
    return made


def parse(body: bytes | bytearray) -> ForecastRequest:
    """The forecasts that a body asks for; the errors of `parse_as`."""
    content = _object(body)
    return _plain(content) or _validated(content, ForecastRequest)


def parse_as(body: bytes | bytearray, kind: type[Asking]) -> Asking:
    """The request in a body; Problem 400 when it is not JSON, 422 when it does not fit the schema.

    NaN, Infinity and numbers that overflow are values that do not fit. Of a key that occurs twice the last
    counts.
    """
    return _validated(_object(body), kind)


def _object(body: bytes | bytearray) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if _is_no_number(error):
            found = "NaN, Infinity and numbers that overflow are refused; send null where one is missing"
            raise problem("invalid-request", f"{found}: {error}") from None
        raise problem("not-json", f"the body cannot be read as JSON: {error}") from None
    if type(content) is not dict:
        raise problem("invalid-request", "the body has to be a JSON object")
    if type(series := content.get("series")) is list and len(series) > MAX_SERIES:
        found = f"{len(series):,} series were sent; at most {MAX_SERIES:,} fit one request"
        raise problem("invalid-request", found, errors=[Fault(pointer="/series", detail=found)])
    return content


def _is_no_number(error: orjson.JSONDecodeError) -> bool:
    """Whether only JSON's lack of such numbers made a body unreadable."""
    place = error.doc[error.pos : error.pos + len("-Infinity")].lstrip("-")
    return place.startswith(("NaN", "Infinity")) or "infinity" in error.msg


def _validated(content: dict[str, Any], kind: type[Asking]) -> Asking:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise from_validation_error(error) from None


class Asked(Strict):
    """What the query of an Arrow request asks for; the fields of `ForecastRequest` beside the histories."""

    model: str = Field(min_length=1, max_length=512)
    horizon: int | None = Field(None, ge=1)
    freq: Freq | None = None
    levels: Levels | None = None
    quantiles: Quantiles | None = None
    output: Annotated[list[Literal["median", "mean"]], Field(min_length=1, max_length=2)] = Field(
        default=["median"]
    )
    literally: bytes = b""
    """The lists as they stand in the query, as JSON: columns repeat how numbers were written."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.levels is not None and self.quantiles is not None:
            raise _fail("levels and quantiles exclude each other; send one of them", "quantiles")
        return self


def parse_query(query: Sequence[tuple[str, str]]) -> Asked:
    """What a query asks for: `model=m&horizon=24&levels=80,95`; Problem 422 where it does not fit."""
    content: dict[str, Any] = {}
    for name, text in query:
        if name == "literally" or name in content:
            raise problem("invalid-request", "a name in the query is unknown, or stands there twice")
        content[name] = _of_query(name, text)
    lists = [f'"{name}": [{text}]'.encode() for name, text in query if name in ("levels", "quantiles")]
    try:
        return Asked.model_validate({**content, "literally": b", ".join(lists)})
    except ValidationError as error:
        raise from_validation_error(error) from None


def _of_query(name: str, text: str) -> Any:
    """One value of a query as JSON would hold it; a text where it cannot be read."""
    if name == "output":
        return text.split(",")
    if name in ("levels", "quantiles", "horizon") or (name == "freq" and text.lstrip("-").isdecimal()):
        try:
            read = orjson.loads(f"[{text}]")
        except orjson.JSONDecodeError:
            return text
        return read if name in ("levels", "quantiles") else read[0] if len(read) == 1 else text
    return text
