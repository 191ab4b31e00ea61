"""The tables of a recipe's TOML file, each a frozen value that accepts no key without a meaning."""

import difflib
import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

BASELINES = ("naive", "seasonal_naive", "drift")
"""Evaluated beside the candidates of every recipe."""


class Section(BaseModel):
    """A table of the TOML file: frozen, and no key is accepted that means nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


SOURCES = ("path", "dataset", "url", "database")
"""Where data may come from; a recipe names one of them."""

_SECONDS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d|w)")


def duration_seconds(text: str) -> float:
    """The seconds of "90s", "30min", "6h", "1d"; ValueError for other texts and for less than a second."""
    found = _DURATION.fullmatch(text.strip().lower())
    value = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if value < 1:
        raise ValueError(f"a duration is a number with s, min, h, d or w, such as 6h, and not {text!r}")
    return value


class Filter(Section):
    """`[[data.filters]]`: what a row has to show in one column."""

    column: str
    """Of the data, by its own name."""
    one_of: tuple[str | int | float | bool, ...] | None = None
    """The values that a row may have."""
    none_of: tuple[str | int | float | bool, ...] | None = None
    """The values that it may not have."""
    at_least: float | None = None
    """The smallest number that it may have."""
    at_most: float | None = None
    """The largest."""

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if all(getattr(self, name) is None for name in ("one_of", "none_of", "at_least", "at_most")):
            raise ValueError("a filter needs `one_of`, `none_of`, `at_least` or `at_most`")
        return self


class DataSection(Section):
    """`[data]`: where the series come from and how the file is read; the words are those of the readers."""

    path: str | None = None
    """A CSV or Parquet file, a pattern such as sales/*.csv, or a folder of (partitioned) Parquet files;
    relative to the recipe's file."""
    dataset: str | None = None
    """A built-in series in place of a file: see `forecast datasets`."""
    url: str | None = None
    """A CSV or Parquet file on the web; a copy is kept, and fetched again when the server has another one."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """What the file at `url` has to be; a copy that is this file is not asked for again."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Of the request to `url`."""
    database: str | None = None
    """A database as SQLAlchemy names it: postgresql+psycopg://user:${PASSWORD}@host/name."""
    query: str | None = None
    """What is read from `database`: a select with the columns of a long table."""
    columns: dict[Literal["unique_id", "ds", "y"], str] = Field(default_factory=dict)
    """Ours = theirs, for columns that are named otherwise."""
    delimiter: str | None = None
    """Between the fields of a CSV file; left out, it is detected."""
    decimal: str | None = None
    """Decimal mark of a CSV file: . or ,; left out, it is detected."""
    day_first: bool | None = None
    """Whether 03/04/2026 is the third of April; left out, it is detected or refused as ambiguous."""
    date_format: str | None = None
    """How stamps are written, such as %d.%m.%Y; left out, it is detected."""
    encoding: str | None = None
    """Of a CSV file, such as latin-1; left out, it is detected."""
    wide: bool = False
    """One column per series beside the stamps, in place of the long format."""
    timezone: str | None = None
    """Of stamps that name none, such as Europe/Berlin."""
    grid: str | None = None
    """Put readings that jitter on a grid of this step."""
    align: Literal["floor", "nearest", "ceil"] = "floor"
    """Which step of the grid a reading belongs to."""
    aggregate: Literal["mean", "sum", "min", "max", "first", "last", "median"] = "mean"
    """What several readings of one step become."""
    duplicates: Literal["error", "first", "last", "mean", "sum"] = "error"
    """For repeated stamps of a series."""
    gaps: Literal["nan", "zero", "forward"] = "nan"
    """For absent steps: missing, zero, or the value before."""
    infinite: Literal["error", "nan"] = "error"
    """For infinite values: refused, or missing."""
    holidays: tuple[str, ...] = ()
    """Days without trading, ISO dates: no forecast is dated on them."""
    filters: tuple[Filter, ...] = ()
    """Rows have to meet all of these; the others are not read."""
    since: str | None = None
    """Rows before this stamp are not read."""
    until: str | None = None
    """Rows after this stamp are not read."""
    resample: str | None = None
    """Bring rows to longer steps (MS, W-SUN, D, h): those of a step become one by `aggregate`."""
    complete_after: str | None = None
    """Leave out a last step that ended less than this ago, such as 0s or 2h: more of it may still come. Left
    out, every step counts, but for `resample`, where the step has to have ended."""
    past: tuple[str, ...] = ()
    """Columns of covariates that are known until the cutoff."""
    known: tuple[str, ...] = ()
    """Columns of covariates that are known into the future."""
    static: tuple[str, ...] = ()
    """Columns of covariates that belong to a series."""

    @property
    def selects(self) -> bool:
        """Whether rows are left out or brought to other steps."""
        return bool(self.filters or self.since or self.until or self.resample)

    @property
    def period_wait_seconds(self) -> float | None:
        """How long after its end a step counts; None: at once."""
        if self.complete_after is None:
            return 0.0 if self.resample else None
        return 0.0 if self.complete_after in ("0", "0s") else duration_seconds(self.complete_after)

    @field_validator("complete_after")
    @classmethod
    def _a_duration(cls, text: str | None) -> str | None:
        if text is not None and text not in ("0", "0s"):
            duration_seconds(text)
        return text

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in SOURCES if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"set {' or '.join(f'`{name}`' for name in given)}, not both")
        if bool(self.database) != bool(self.query):
            raise ValueError("`database` and `query` go together: the address, and what is read from it")
        if (self.sha256 or self.headers) and not self.url:
            raise ValueError("`sha256` and `headers` belong to a `url`")
        if self.url and not self.url.startswith(("http://", "https://", "${")):
            raise ValueError("`url` begins with https:// or http://; a file on this machine is a `path`")
        if self.resample and self.grid:
            raise ValueError("set `resample` or `grid`, not both: each brings rows to steps")
        return self


class BacktestSection(Section):
    """`[backtest]`: how many forecasts of the past the candidates are judged by."""

    num_windows: int = Field(default=4, ge=1, strict=True)
    """Unseen windows per series that candidates are judged on."""
    stride: int | None = Field(default=None, ge=1, strict=True)
    """Steps between neighbouring cutoffs; left out, the horizon."""


class GateSection(Section):
    """`[gate]`: what a new model has to show before it becomes champion."""

    metric: Literal["mae", "rmse", "smape", "mase", "wql"] = "wql"
    """What candidates are compared by."""
    margin: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share by which another kind of model has to be better than the champion: 0.02 is two percent."""
    tolerance: float = Field(default=0.1, ge=0.0)
    """Share by which a new model may be worse than the champion as it serves, on windows new to both."""
    minimum_windows: int = Field(default=8, ge=1)
    """Fewer windows after the champion's training than this say nothing about it, and block nothing."""
    coverage_80: tuple[float, float] = (0.6, 0.95)
    """Least and most share of values inside the 80 % intervals; only a clear miss keeps a model out."""
    coverage_95: tuple[float, float] = (0.8, 1.0)
    """The same for the 95 % intervals."""
    must_beat: tuple[str, ...] = BASELINES
    """The best of these has to be beaten, else it becomes the candidate itself."""

    @property
    def coverage_bounds(self) -> dict[int, tuple[float, float]]:
        """The bounds by level in percent."""
        return {80: self.coverage_80, 95: self.coverage_95}

    @field_validator("coverage_80", "coverage_95")
    @classmethod
    def _bounds(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= bounds[0] < bounds[1] <= 1:
            raise ValueError(f"bounds are two rising shares, such as [0.6, 0.95], and not {list(bounds)}")
        return bounds

    @field_validator("must_beat")
    @classmethod
    def _known_baselines(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in BASELINES:
                raise ValueError(
                    f"{name!r} is no baseline{nearest(name, BASELINES)}; there are {listed(BASELINES)}"
                )
        return names


class TrainingSection(Section):
    """`[training]`: limits of the training; what is left out follows the written rule of the library."""

    seed: int = Field(default=0, ge=0)
    """Of weights and batches: the same seed and data give the same model."""
    max_epochs: int | None = Field(default=None, ge=1, strict=True)
    """Left out, by rule."""
    max_steps: int | None = Field(default=None, ge=1, strict=True)
    """Of the optimiser; left out, by rule."""
    max_seconds: float | None = Field(default=None, gt=0)
    """Per candidate and fit. A limit in seconds gives up that the same seed gives the same model."""
    batch_size: int | None = Field(default=None, ge=1, strict=True)
    """Windows in one step; left out, by rule."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Left out, by rule."""
    patience: int | None = Field(default=None, ge=1, strict=True)
    """Looks at the validation loss without progress before it ends; left out, by rule."""
    device: str = "auto"
    """auto, cpu, cuda, or cuda:1."""


class BudgetSection(Section):
    """`[budget]`: what a whole retrain may need; beyond it ends with exit code 1 and registers nothing."""

    seconds: float | None = Field(default=None, gt=0)
    """From its start to its end."""
    memory_mib: float | None = Field(default=None, gt=0)
    """Of this process in the machine's memory."""


class RetentionSection(Section):
    """`[retention]`: what `forecast prune` keeps; what has an alias is kept always."""

    keep_versions: int = Field(default=20, ge=1)
    """The newest versions."""
    keep_runs: int = Field(default=100, ge=1)
    """The newest retrains, with the runs of their candidates."""
    keep_days: float = Field(default=0.0, ge=0.0)
    """Everything younger than this, whatever its number."""


class ScheduleSection(Section):
    """`[schedule]`: when `forecast schedule` retrains; left out, every day at 3 o'clock."""

    cron: str | None = None
    """Five fields as in a crontab (minute hour day month weekday), or @hourly, @daily, @weekly, @monthly."""
    every: str | None = None
    """Time between two starts in place of a cron line: 30min, 6h, 1d."""
    timezone: str = "UTC"
    """In which the cron line is read. An hour that a clock change skips runs right after it, and what is set
    for an hour that comes twice runs once."""
    jitter_seconds: float = Field(default=0.0, ge=0.0, le=86_400)
    """A start is put off by a random time up to this."""
    timeout_seconds: float = Field(default=21_600.0, gt=0.0)
    """A run that takes longer is ended."""
    at_start: bool = True
    """Whether a model without a champion is trained as soon as the scheduler starts."""
    catch_up: bool = True
    """Whether a start that was missed while nothing ran is made up for, once."""
    trigger: Literal["schedule", "drift", "both"] = "schedule"
    """What retrains: each start; a drift that `forecast monitor` finds at a start; or each start, and a drift
    that it finds by `when` of [monitor]."""

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        from pipelines import triggers

        if self.cron is not None and self.every is not None:
            raise ValueError("set `cron` or `every`, not both")
        triggers.check(self)
        return self


SEARCHED = "search"
"""Names the best trial of a search among the candidates."""


class SearchSection(Section):
    """`[search]`: trials of specs and trainings with Optuna; the best becomes one more candidate."""

    trials: int | None = Field(default=None, ge=1, strict=True)
    """How many; this, seconds, or both."""
    seconds: float | None = Field(default=None, gt=0)
    """For all trials together; one that has begun is trained to its end."""
    backbones: tuple[str, ...] = ()
    """Left out, the networks among the candidates."""
    seed: int = Field(default=0, ge=0)
    """Of what is tried."""
    storage: str | None = None
    """Optuna's own database as SQLAlchemy names it; left out, a file in FORECAST_HOME/search."""
    space: dict[
        str, tuple[str | int | float | bool, ...] | dict[Literal["low", "high", "log"], int | float | bool]
    ] = Field(default_factory=dict)
    """Beside or in place of the usual one: `hidden_size = [32, 64]`, `dropout = {low = 0.0, high = 0.3}`,
    `learning_rate = {low = 1e-4, high = 1e-2, log = true}`."""

    @model_validator(mode="after")
    def _ends_and_exists(self) -> Self:
        from pipelines import search

        if self.trials is None and self.seconds is None:
            raise ValueError("a search needs an end: `trials` or `seconds`")
        search.check(self)
        return self


AFTER_RETRAIN = "after_retrain"


class ForecastSection(Section):
    """`[forecast]`: every series is forecast by the champion and stored; an empty table will do."""

    output: str | None = None
    """A folder, or a database as SQLAlchemy names it; left out, a folder in FORECAST_HOME."""
    table: str = Field(default="forecasts", pattern="^[A-Za-z_][A-Za-z0-9_]{0,62}$")
    """In the database."""
    levels: tuple[Annotated[float, Field(strict=True, gt=0, lt=100)], ...] | None = None
    """Left out, those of the recipe."""
    horizon: int | None = Field(default=None, ge=1, strict=True)
    """Left out, that of the recipe."""
    when: str = AFTER_RETRAIN
    """after_retrain, or a cron line for `forecast schedule`, in the time zone of [schedule]."""

    @field_validator("when")
    @classmethod
    def _can_be_kept(cls, when: str) -> str:
        if when != AFTER_RETRAIN:
            from pipelines import triggers

            triggers.check(ScheduleSection(cron=when))
        return when


class MonitorSection(Section):
    """`[monitor]`: how `forecast monitor` judges what was answered; an empty table will do."""

    when: str = "0 6 * * *"
    """A cron line by which `forecast schedule` looks, in the time zone of [schedule]."""
    alpha: float = Field(default=0.01, gt=0.0, lt=0.5)
    """The chance that a look finds a drift where there is none."""
    least_ratio: float = Field(default=1.25, ge=1.0)
    """An error smaller than so many times that of the backtest is no drift, however sure it is."""
    max_age: str | None = None
    """Answers older than this (90d) are not looked at; left out, all are."""
    recalibrate: bool = False
    """Whether intervals that cover too little or too much are corrected, by a new version of the model."""
    gamma: float = Field(default=0.02, gt=0.0, le=1.0)
    """How far the misses of one stamp move the intervals."""
    min_stamps: int = Field(default=10, ge=1, strict=True)
    """Stamps that have to have come before intervals are corrected."""

    @field_validator("when")
    @classmethod
    def _can_be_kept(cls, when: str) -> str:
        from pipelines import triggers

        triggers.check(ScheduleSection(cron=when))
        return when

    @field_validator("max_age")
    @classmethod
    def _a_duration(cls, text: str | None) -> str | None:
        if text is not None:
            duration_seconds(text)
        return text


class Hook(Section):
    """A command that is run, or an address that gets a POST; either is told of the event as JSON."""

    command: str | tuple[str, ...] | None = None
    """A program with its arguments; no shell."""
    url: str | None = None
    """http(s); it may hold ${NAME}."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Of the request; they may hold ${NAME}."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError("set `command` or `url`, one of them")
        if self.url and not self.url.startswith(("http://", "https://", "${")):
            raise ValueError(f"a webhook's address begins with https:// or http://, and not {self.url[:8]!r}")
        return self


class HooksSection(Section):
    """`[hooks]`: who is told of what. A hook that fails is tried again, told of, and changes nothing else."""

    on_failure: Hook | None = None
    on_promotion: Hook | None = None
    attempts: int = Field(default=3, ge=1, le=10)
    """How often a hook is tried, with pauses of 1 s, 4 s, ..."""
    timeout_seconds: float = Field(default=10.0, gt=0.0, le=600)
    """Of one attempt."""


def nearest(name: str, known: tuple[str, ...] | list[str]) -> str:
    """ " (did you mean 'x'?)" where a known name is close to `name`."""
    matches = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def listed(names: tuple[str, ...] | list[str]) -> str:
    """Names with commas between."""
    return ", ".join(names)
