"""`[checks]`: what data has to look like before a model is made of it."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pipelines.sections import Section, duration_seconds

Action = Literal["off", "warn", "fail"]


class Check(Section):
    """What happens where data is not as it should be: nothing, a warning, or exit code 2."""

    action: Action = "warn"
    """off, warn or fail; `check = "fail"` sets it alone."""

    @model_validator(mode="before")
    @classmethod
    def _a_word_is_an_action(cls, values: Any) -> Any:
        return {"action": values} if isinstance(values, str) else values


class Freshness(Check):
    """How old the newest stamp may be, by the clock."""

    action: Action = "fail"
    """off, warn or fail; `check = "warn"` sets it alone."""
    max_age: str | None = None
    """Such as 2d or 6h; left out, the clock is not asked."""

    @field_validator("max_age")
    @classmethod
    def _a_duration(cls, text: str | None) -> str | None:
        if text is not None:
            duration_seconds(text)
        return text


class Backwards(Check):
    """Whether the data, or series of it, end before they ended last time."""

    action: Action = "fail"
    """off, warn or fail; `check = "warn"` sets it alone."""
    max_share: float = Field(default=0.0, ge=0.0, le=1.0)
    """Of last time's series that may end earlier now."""


class Rows(Check):
    """How many values there are, against last time."""

    action: Action = "fail"
    """off, warn or fail; `check = "warn"` sets it alone."""
    min_share: float = Field(default=0.5, ge=0.0)
    """Of last time's number; 1.0 means not fewer."""
    max_share: float | None = Field(default=None, gt=0.0)
    """Of last time's number; left out, any growth is fine."""


class Shift(Check):
    """Whether values are of another level or scale than last time, as after a change of units."""

    action: Action = "fail"
    """off, warn or fail; `check = "warn"` sets it alone."""
    max_shift: float = Field(default=8.0, gt=0.0)
    """How far the level may move, in units of the series' own spread."""
    max_ratio: float = Field(default=8.0, gt=1.0)
    """How many times as large or as small its spread may become."""
    max_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Of the series that may do so."""


class New(Check):
    """Series that were not there last time."""

    max_share: float = Field(default=0.5, ge=0.0)
    """Of last time's number."""


class Vanished(Check):
    """Series of last time that are not there any more."""

    action: Action = "fail"
    """off, warn or fail; `check = "warn"` sets it alone."""
    max_share: float = Field(default=0.2, ge=0.0, le=1.0)
    """Of last time's number."""


class Missing(Check):
    """How much is missing within the series."""

    max_share: float | None = Field(default=None, ge=0.0, le=1.0)
    """Of all steps; left out, only the rise counts."""
    max_rise: float = Field(default=0.2, ge=0.0, le=1.0)
    """By how much the share may rise against last time."""


class Unfinished(Check):
    """A CSV file without the line end that last time's had: the last line may be half written."""

    action: Action = "fail"
    """off, warn or fail; `check = "warn"` sets it alone."""


class ChecksSection(Section):
    """`[checks]`: each is a table with its limits, or only "off", "warn" or "fail"."""

    freshness: Freshness = Freshness()
    backwards: Backwards = Backwards()
    rows: Rows = Rows()
    shift: Shift = Shift()
    new: New = New()
    vanished: Vanished = Vanished()
    missing: Missing = Missing()
    unfinished: Unfinished = Unfinished()
