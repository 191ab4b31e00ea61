"""From a recipe's `[data]`, or a file given on the command line, to a panel."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecast import home
from forecast.errors import DataError, SpecError
from pipelines.recipe import Recipe, builtin_names
from pipelines.sections import DataSection

if TYPE_CHECKING:
    from forecast.series.panel import Panel

CSV_SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")

_PLACES = ("path", "dataset")
_CSV_ONLY = ("delimiter", "decimal", "day_first", "encoding")


def panel(recipe: Recipe) -> "Panel":
    """The series of a recipe. Raises SpecError when it names none and DataError when they cannot be used."""
    if recipe.data.dataset:
        return _built_in(recipe)
    if not recipe.data.path:
        raise SpecError(
            f"the recipe {recipe.name!r} has no data: add `--data FILE` to the command, or set "
            f'`path = "FILE"` under [data]{_place(recipe.name)} (a CSV or Parquet file with the columns '
            "unique_id, ds, y, or with others named under `columns`)"
        )
    return read(Path(recipe.data.path), recipe.data, freq=recipe.freq, season_length=recipe.season_length)


def _place(name: str) -> str:
    """Where a built-in recipe is written to be changed; nothing where it is the user's own file."""
    return f" of {home.recipes_folder() / name}.toml" if name in builtin_names() else ""


def read(
    path: Path, data: DataSection, *, freq: str | int | None = None, season_length: int | None = None
) -> "Panel":
    """The series of a file, read as `data` says; DataError where there is none or it cannot be used."""
    from forecast.series import read as readers

    options = {**_options(data), "freq": freq, "season_length": season_length}
    if kind(path) == "parquet":
        return readers.read_parquet(path, **options)
    return readers.read_csv(
        path,
        delimiter=data.delimiter,
        decimal=data.decimal,
        dayfirst=data.day_first,
        encoding=data.encoding,
        **options,
    )


def kind(path: Path) -> str:
    """ "csv" or "parquet" by the file's name; DataError for others and where there is no such file."""
    name = path.name.lower()
    found = "csv" if name.endswith(CSV_SUFFIXES) else "parquet" if name.endswith(PARQUET_SUFFIXES) else ""
    if not found:
        known = ", ".join(CSV_SUFFIXES + PARQUET_SUFFIXES)
        raise DataError(f"{path} is of an unknown kind; give a file that ends in {known}")
    if path.is_dir():
        raise DataError(f"{path} is a folder; give the path of one CSV or Parquet file")
    if not path.exists():
        raise DataError(f"there is no file {path}; check the path")
    return found


def how_read(data: DataSection) -> dict[str, Any]:
    """The policies of `data` without where the file lay: what a later file of the same kind is read by."""
    return data.model_dump(mode="json", exclude=set(_PLACES), exclude_defaults=True)


def same_way(policies: Mapping[str, Any], *, columns: Mapping[str, str] | None = None) -> DataSection:
    """A `[data]` that reads a file by the policies of `how_read`, with other columns where they are given."""
    own: dict[str, Any] = {"columns": dict(columns)} if columns else {}
    return DataSection.model_validate({**policies, **own})


def _built_in(recipe: Recipe) -> "Panel":
    from forecast.series import datasets
    from forecast.series.read import from_frame

    frame = datasets.load(str(recipe.data.dataset))
    freq = recipe.freq or datasets.describe(str(recipe.data.dataset)).freq
    return from_frame(frame, freq=freq, season_length=recipe.season_length, **_options(recipe.data))


def _options(data: DataSection) -> dict[str, Any]:
    """What every reader takes, in its words."""
    left_out = {*_PLACES, *_CSV_ONLY, "columns"}
    columns = {str(ours): theirs for ours, theirs in data.columns.items()}
    return {**data.model_dump(exclude=left_out, exclude_none=True), **columns}
