"""The tables of a recipe's TOML file, each a frozen value that accepts no key without a meaning."""

import difflib
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

BASELINES = ("naive", "seasonal_naive", "drift")
"""Evaluated beside the candidates of every recipe."""


class Section(BaseModel):
    """A table of the TOML file: frozen, and no key is accepted that means nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSection(Section):
    """`[data]`: where the series come from and how the file is read; the words are those of the readers."""

    path: str | None = None
    """A CSV or Parquet file; a relative path is relative to the recipe's file."""
    dataset: str | None = None
    """A built-in series in place of a file: see `forecast datasets`."""
    columns: dict[Literal["unique_id", "ds", "y"], str] = Field(default_factory=dict)
    """Ours = theirs, for columns that are named otherwise."""
    delimiter: str | None = None
    decimal: str | None = None
    day_first: bool | None = None
    """Whether 03/04/2026 is the third of April; left out, it is detected or refused as ambiguous."""
    date_format: str | None = None
    """How stamps are written, such as %d.%m.%Y; left out, it is detected."""
    encoding: str | None = None
    wide: bool = False
    """One column per series beside the stamps, in place of the long format."""
    timezone: str | None = None
    grid: str | None = None
    """Put readings that jitter on a grid of this step."""
    align: Literal["floor", "nearest", "ceil"] = "floor"
    aggregate: Literal["mean", "sum", "min", "max", "first", "last", "median"] = "mean"
    duplicates: Literal["error", "first", "last", "mean", "sum"] = "error"
    gaps: Literal["nan", "zero", "forward"] = "nan"
    infinite: Literal["error", "nan"] = "error"
    holidays: tuple[str, ...] = ()
    """Days without trading, ISO dates: no forecast is dated on them."""
    past: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    static: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.path and self.dataset:
            raise ValueError("set `path` or `dataset`, not both")
        return self


class BacktestSection(Section):
    """`[backtest]`: how many forecasts of the past the candidates are judged by."""

    num_windows: int = Field(default=4, ge=1, strict=True)
    stride: int | None = Field(default=None, ge=1, strict=True)
    """Steps between neighbouring cutoffs; left out, the horizon."""


class GateSection(Section):
    """`[gate]`: what a new model has to show before it becomes champion."""

    metric: Literal["mae", "rmse", "smape", "mase", "wql"] = "wql"
    margin: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share by which another kind of model has to be better than the champion: 0.02 is two percent."""
    tolerance: float = Field(default=0.1, ge=0.0)
    """Share by which a new model may be worse than the champion as it serves, on windows new to both."""
    minimum_windows: int = Field(default=8, ge=1)
    """Fewer windows after the champion's training than this say nothing about it, and block nothing."""
    coverage_80: tuple[float, float] = (0.6, 0.95)
    """Least and most share of values inside the 80 % intervals; only a clear miss keeps a model out."""
    coverage_95: tuple[float, float] = (0.8, 1.0)
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
    max_epochs: int | None = Field(default=None, ge=1, strict=True)
    max_steps: int | None = Field(default=None, ge=1, strict=True)
    max_seconds: float | None = Field(default=None, gt=0)
    """Per candidate and fit. A limit in seconds gives up that the same seed gives the same model."""
    batch_size: int | None = Field(default=None, ge=1, strict=True)
    learning_rate: float | None = Field(default=None, gt=0)
    patience: int | None = Field(default=None, ge=1, strict=True)
    device: str = "auto"


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

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        from pipelines import triggers

        if self.cron is not None and self.every is not None:
            raise ValueError("set `cron` or `every`, not both")
        triggers.check(self)
        return self


class Hook(Section):
    """A command that is run, or an address that gets a POST; either is told of the event as JSON."""

    command: str | tuple[str, ...] | None = None
    """A program with its arguments; no shell."""
    url: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)

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
    timeout_seconds: float = Field(default=10.0, gt=0.0, le=600)
    """Of one attempt."""


def nearest(name: str, known: tuple[str, ...] | list[str]) -> str:
    """ " (did you mean 'x'?)" where a known name is close to `name`."""
    matches = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def listed(names: tuple[str, ...] | list[str]) -> str:
    """Names with commas between."""
    return ", ".join(names)
