"""A recipe: one TOML file, checked and typed: what to forecast, from which data, and what to beat."""

import difflib
import hashlib
import json
import re
import tomllib
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from forecast import home
from forecast.errors import NotFoundError, SpecError
from forecast.models.catalog import BACKBONES
from forecast.models.catalog import BASELINES as ALL_BASELINES
from forecast.models.spec import ModelSpec

BASELINES = ("naive", "seasonal_naive", "drift")
"""Evaluated beside the candidates of every recipe."""

_SET_ELSEWHERE = ("backbone", "horizon", "season_length", "context_length")
_OF_EVERY_MODEL = ("quantile_levels", "min_context", "max_horizon", "lower_bound", "upper_bound", "integer")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}")


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
                    f"{name!r} is no baseline{_nearest(name, BASELINES)}; there are {_list(BASELINES)}"
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


class Recipe(Section):
    """One retraining, fully described. `name` also names the experiment and the registered model."""

    name: str
    horizon: int = Field(ge=1, strict=True)
    freq: str | int | None = None
    """Left out, it is inferred from the stamps."""
    season_length: int | None = Field(default=None, ge=1, strict=True)
    context_length: int | None = Field(default=None, ge=1, strict=True)
    levels: tuple[Annotated[float, Field(strict=True)], ...] = (80.0, 95.0)
    candidates: tuple[str, ...] = ("lstm", "gru", "transformer")
    data: DataSection = DataSection()
    backtest: BacktestSection = BacktestSection()
    gate: GateSection = GateSection()
    training: TrainingSection = TrainingSection()
    retention: RetentionSection = RetentionSection()
    model: dict[str, Any] = Field(default_factory=dict)
    """`[model]`: further fields of ModelSpec, for every network among the candidates."""

    @field_validator("name")
    @classmethod
    def _fits_everywhere(cls, name: str) -> str:
        return checked_name(name)

    @field_validator("levels")
    @classmethod
    def _in_percent(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        for level in levels:
            if not 0 < level < 100:
                raise ValueError(f"a level is a percentage between 0 and 100, such as 80, and not {level:g}")
        return levels

    @field_validator("candidates")
    @classmethod
    def _some_and_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError('name at least one candidate, such as "lstm"')
        if len(set(names)) < len(names):
            raise ValueError(f"each candidate is named once, and got {_list(names)}")
        known = [*BACKBONES, *ALL_BASELINES]
        for name in names:
            if name not in known:
                raise ValueError(f"there is no {name!r}{_nearest(name, known)}; choose from {_list(known)}")
        return names

    @field_validator("model")
    @classmethod
    def _fields_of_a_spec(cls, values: dict[str, Any]) -> dict[str, Any]:
        known = [field.name for field in fields(ModelSpec) if field.name not in _SET_ELSEWHERE]
        for key in values:
            if key in _SET_ELSEWHERE:
                place = "candidates" if key == "backbone" else key
                raise ValueError(
                    f"{key!r} is set above the tables of the recipe, as {place!r}; move it there"
                )
            if key not in known:
                raise ValueError(f"unknown key {key!r}{_nearest(key, known)}; remove or correct it")
        return values

    @model_validator(mode="after")
    def _specs_make_sense(self) -> Self:
        try:
            self.specs()
        except SpecError as error:
            raise ValueError(f"[model] {error}") from error
        return self

    @property
    def stride(self) -> int:
        """Steps between neighbouring cutoffs of the backtest."""
        return self.backtest.stride or self.horizon

    @property
    def all_candidates(self) -> tuple[str, ...]:
        """The candidates, then the baselines that are not among them."""
        return self.candidates + tuple(name for name in BASELINES if name not in self.candidates)

    def specs(self) -> tuple[ModelSpec, ...]:
        """What is asked of every candidate; fields left open are resolved when the data is known."""
        return tuple(self._spec(name) for name in self.all_candidates)

    def digest(self) -> str:
        """sha256 in hex of everything that decides the model; the data itself has its own fingerprint."""
        content = self.model_dump(mode="json", exclude={"data": {"path", "dataset"}, "retention": True})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _spec(self, name: str) -> ModelSpec:
        own = {"backbone": name, "horizon": self.horizon, "season_length": self.season_length}
        if name in ALL_BASELINES:
            general = {key: value for key, value in self.model.items() if key in _OF_EVERY_MODEL}
            return ModelSpec.from_dict({**own, **general})
        return ModelSpec.from_dict({**own, "context_length": self.context_length, **self.model})


def checked_name(name: str) -> str:
    """`name` where it can name a recipe, an experiment, a model, and a file.

    Raises ValueError otherwise: `name/version` and `name@alias` are how a model is asked for.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"the name {name!r} cannot be used: take at most 100 letters, digits, '_', '-' and '.', beginning"
            " with a letter or digit (a '/', '@', ':' or space would clash with name/version and name@alias)"
        )
    return name


def load(reference: str) -> Recipe:
    """The recipe that `reference` means: a path to a .toml, a name in the home folder, or a built-in name.

    Raises NotFoundError when there is none and SpecError when the file is no valid recipe.
    """
    path, origin = _find(reference)
    recipe = parse(_text(path, origin) if path else _builtin_text(reference), origin=origin)
    folder = path.parent if path else None
    return _with_absolute_path(recipe, folder) if folder else recipe


def parse(text: str, *, origin: str) -> Recipe:
    """A recipe from TOML text; `origin` names it in errors. Raises SpecError with all that is wrong."""
    try:
        return Recipe.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{origin} is not valid TOML: {error}; correct that line") from error
    except ValidationError as error:
        raise SpecError(f"{origin}: " + "; ".join(_readable(detail) for detail in error.errors())) from error


def builtin_names() -> list[str]:
    """The recipes that come with this package."""
    folder = resources.files("pipelines") / "recipes"
    return sorted(
        entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")
    )


def home_names() -> list[str]:
    """The recipes made by `forecast recipe new`."""
    return sorted(path.stem for path in home.recipes_folder().glob("*.toml"))


def with_data(recipe: Recipe, *, path: Path | None = None, columns: dict[str, str] | None = None) -> Recipe:
    """The recipe reading another file, or other columns."""
    changes: dict[str, Any] = {"path": str(path.resolve()), "dataset": None} if path else {}
    if columns:
        changes["columns"] = columns
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=changes)})


def _find(reference: str) -> tuple[Path | None, str]:
    """The file of a recipe and what to call it; None for a built-in one."""
    if reference.endswith(".toml"):
        path = Path(reference).expanduser()
        if not path.is_file():
            raise NotFoundError(
                f"there is no recipe file {reference!r}; check the path, or give a name: {_list(_names())}"
            )
        return path.resolve(), f"the recipe {reference}"
    if reference in home_names():
        path = home.recipes_folder() / f"{reference}.toml"
        return path, f"the recipe {path}"
    if reference in builtin_names():
        return None, f"the built-in recipe {reference}"
    raise NotFoundError(
        f"there is no recipe {reference!r}{_nearest(reference, _names())}; there are {_list(_names())}, a "
        "path has to end in .toml, and `forecast recipe new NAME --data FILE --horizon H` writes one"
    )


def _names() -> list[str]:
    return sorted({*builtin_names(), *home_names()})


def _text(path: Path, origin: str) -> str:
    """The text of a recipe's file; SpecError where it is not UTF-8 or cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(f"{origin} is not written in UTF-8, as TOML is; save it in that encoding") from error
    except OSError as error:
        raise SpecError(f"{origin} cannot be read: {error.strerror}; correct that") from error


def _builtin_text(name: str) -> str:
    return (resources.files("pipelines") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def _with_absolute_path(recipe: Recipe, folder: Path) -> Recipe:
    if not recipe.data.path:
        return recipe
    return with_data(recipe, path=folder / Path(recipe.data.path).expanduser())


def _readable(detail: ErrorDetails) -> str:
    """One pydantic finding as a sentence that names the key and the fix."""
    keys = [str(part) for part in detail["loc"] if part != "[key]"]
    key = ".".join(keys)
    if detail["type"] == "extra_forbidden":
        return f"unknown key {key!r}{_nearest(keys[-1], _keys_beside(keys))}; remove or correct it"
    if detail["type"] == "missing":
        return f"the key {key!r} is missing; add it"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {message[0].lower()}{message[1:]}, and got {detail['input']!r}"


def _keys_beside(keys: list[str]) -> list[str]:
    """The keys that are known in the table where an unknown one was found."""
    table: type[BaseModel] = Recipe
    for key in keys[:-1]:
        annotation = table.model_fields[key].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        table = annotation
    return list(table.model_fields)


def _nearest(name: str, known: tuple[str, ...] | list[str]) -> str:
    matches = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def _list(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names)
