"""A recipe: one TOML file, checked and typed: what to forecast, from which data, and what to beat."""

import hashlib
import json
import re
import tomllib
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from forecast import home, placeholders
from forecast.errors import NotFoundError, SpecError
from forecast.models.catalog import BACKBONES
from forecast.models.catalog import BASELINES as ALL_BASELINES
from forecast.models.spec import ModelSpec
from pipelines.check_sections import ChecksSection
from pipelines.sections import (
    BASELINES,
    SOURCES,
    BacktestSection,
    BudgetSection,
    DataSection,
    ForecastSection,
    GateSection,
    HooksSection,
    MonitorSection,
    RetentionSection,
    ScheduleSection,
    SearchSection,
    Section,
    TrainingSection,
    listed,
    nearest,
)

NOT_OF_A_MODEL_TABLE = ("backbone", "horizon", "season_length", "context_length")
"""Fields of a spec that stand above the tables of a recipe."""
_OF_EVERY_MODEL = ("quantile_levels", "min_context", "max_horizon", "lower_bound", "upper_bound", "integer")

_KEPT = frozenset(
    {
        ("data", "url"),
        ("data", "database"),
        ("data", "headers"),
        ("hooks",),
        ("forecast", "output"),
        ("search", "storage"),
    }
)
"""Where `${NAME}` stays as written until it is used, so that its value is in no log and no answer."""

_NOT_OF_THE_MODEL: Any = {
    "data": {*SOURCES, "sha256", "headers", "query"},
    "retention": True,
    "budget": True,
    "checks": True,
    "forecast": True,
    "monitor": True,
    "schedule": True,
    "hooks": True,
}
"""What may change without making another model of the same data."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,99}")


class Recipe(Section):
    """One retraining, fully described. `name` also names the experiment and the registered model."""

    name: str
    """Names the recipe, its experiment and its model: at most 100 letters, digits, _, - and ."""
    horizon: int = Field(ge=1, strict=True)
    """Steps to forecast."""
    freq: str | int | None = None
    """Left out, it is inferred from the stamps."""
    season_length: int | None = Field(default=None, ge=1, strict=True)
    """Steps in one season; left out, by freq."""
    context_length: int | None = Field(default=None, ge=1, strict=True)
    """Past steps that a network sees; left out, by rule."""
    levels: tuple[Annotated[float, Field(strict=True)], ...] = (80.0, 95.0)
    """Intervals in percent."""
    candidates: tuple[str, ...] = ("lstm", "gru", "transformer")
    """Networks and baselines that compete; naive, seasonal_naive and drift always do."""
    data: DataSection = DataSection()
    backtest: BacktestSection = BacktestSection()
    gate: GateSection = GateSection()
    training: TrainingSection = TrainingSection()
    search: SearchSection | None = None
    budget: BudgetSection = BudgetSection()
    retention: RetentionSection = RetentionSection()
    checks: ChecksSection = ChecksSection()
    schedule: ScheduleSection = ScheduleSection()
    forecast: ForecastSection | None = None
    monitor: MonitorSection | None = None
    hooks: HooksSection = HooksSection()
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
            raise ValueError(f"each candidate is named once, and got {listed(names)}")
        known = [*BACKBONES, *ALL_BASELINES]
        for name in names:
            if name not in known:
                raise ValueError(f"there is no {name!r}{nearest(name, known)}; choose from {listed(known)}")
        return names

    @field_validator("model")
    @classmethod
    def _fields_of_a_spec(cls, values: dict[str, Any]) -> dict[str, Any]:
        known = [field.name for field in fields(ModelSpec) if field.name not in NOT_OF_A_MODEL_TABLE]
        for key in values:
            if key in NOT_OF_A_MODEL_TABLE:
                place = "candidates" if key == "backbone" else key
                raise ValueError(
                    f"{key!r} is set above the tables of the recipe, as {place!r}; move it there"
                )
            if key not in known:
                raise ValueError(f"unknown key {key!r}{nearest(key, known)}; remove or correct it")
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

    def public(self) -> dict[str, Any]:
        """The recipe as it may be logged: no passwords, no headers, no hooks."""
        values = self.model_dump(mode="json", exclude={"hooks": True, "data": {"headers"}})
        shown: dict[str, Any] = placeholders.masked(values)
        return shown

    def variables(self) -> list[str]:
        """The environment variables that are needed beyond those that were put in when it was read."""
        output = self.forecast.output if self.forecast else None
        storage = self.search.storage if self.search else None
        kept = [
            self.data.url,
            self.data.database,
            self.data.headers,
            self.hooks.model_dump(),
            output,
            storage,
        ]
        return sorted({name for text in placeholders.texts(kept) for name in placeholders.names(text)})

    def digest(self) -> str:
        """sha256 in hex of everything that decides the model; the data itself has its own fingerprint."""
        content = self.model_dump(mode="json", exclude=_NOT_OF_THE_MODEL)
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
    return _with_absolute_paths(recipe, folder) if folder else recipe


def parse(text: str, *, origin: str) -> Recipe:
    """A recipe from TOML text; `origin` names it in errors. Raises SpecError with all that is wrong."""
    try:
        values = placeholders.expand_all(tomllib.loads(text), keep=_KEPT)
        return Recipe.model_validate(values)
    except SpecError as error:
        raise SpecError(f"{origin}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{origin} is not valid TOML: {error}; correct that line") from error
    except ValidationError as error:
        raise SpecError(f"{origin}: " + "; ".join(readable(detail) for detail in error.errors())) from error


def json_schema() -> dict[str, Any]:
    """The JSON schema of a recipe's file, for editors."""
    schema = Recipe.model_json_schema()
    own = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "forecast recipe"}
    names = {"type": "string", "enum": [*BACKBONES, *ALL_BASELINES]}
    schema["properties"]["candidates"]["items"] = names
    return {**schema, **own}


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
    changes: dict[str, Any] = {}
    if path:
        nothing = dict.fromkeys((*SOURCES, "sha256", "query"))
        changes = {**nothing, "headers": {}, "path": str(path.resolve())}
    if columns:
        changes["columns"] = columns
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=changes)})


def _find(reference: str) -> tuple[Path | None, str]:
    """The file of a recipe and what to call it; None for a built-in one."""
    if reference.endswith(".toml"):
        path = Path(reference).expanduser()
        if not path.is_file():
            raise NotFoundError(
                f"there is no recipe file {reference!r}; check the path, or give a name: {listed(_names())}"
            )
        return path.resolve(), f"the recipe {reference}"
    if reference in home_names():
        path = home.recipes_folder() / f"{reference}.toml"
        return path, f"the recipe {path}"
    if reference in builtin_names():
        return None, f"the built-in recipe {reference}"
    raise NotFoundError(
        f"there is no recipe {reference!r}{nearest(reference, _names())}; there are {listed(_names())}, a "
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


def _with_absolute_paths(recipe: Recipe, folder: Path) -> Recipe:
    asked = recipe.forecast
    if asked and asked.output and "://" not in asked.output and not asked.output.startswith("${"):
        output = str(folder / Path(asked.output).expanduser())
        recipe = recipe.model_copy(update={"forecast": asked.model_copy(update={"output": output})})
    if not recipe.data.path:
        return recipe
    return with_data(recipe, path=folder / Path(recipe.data.path).expanduser())


def readable(detail: ErrorDetails) -> str:
    """One pydantic finding as a sentence that names the key and the fix."""
    keys = [str(part) for part in detail["loc"] if part != "[key]"]
    key = ".".join(keys)
    if detail["type"] == "extra_forbidden":
        return f"unknown key {key!r}{nearest(keys[-1], _keys_beside(keys))}; remove or correct it"
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
        if key.isdecimal():  # the place in a list of tables
            continue
        below = table_of(table.model_fields[key].annotation) if key in table.model_fields else None
        if below is None:
            return []
        table = below
    return list(table.model_fields)


def table_of(annotation: Any) -> type[BaseModel] | None:
    """The table that a field is, holds a list of, or may be."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := table_of(each))), None)
