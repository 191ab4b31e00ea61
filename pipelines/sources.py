"""From a recipe's `[data]`, or a file given on the command line, to a panel."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from forecast import placeholders
from forecast.errors import SpecError
from pipelines import places
from pipelines.recipe import Recipe, builtin_names, home_names, readable
from pipelines.sections import DataSection

if TYPE_CHECKING:
    from forecast.series.dates import DateOrder
    from forecast.series.panel import Panel
    from forecast.series.table import Table

kind = places.kind

_PLACES = ("path", "dataset", "url", "sha256", "headers", "database", "query")
_ROWS = ("filters", "since", "until", "complete_after")
"""Which rows train: a later file of the same kind is read whole."""
_CSV_ONLY = ("delimiter", "decimal", "day_first", "encoding")


def panel(recipe: Recipe) -> "Panel":
    """The series of a recipe. Raises SpecError when it names none, DataError when they cannot be used, and
    SourceError when the place they come from cannot be reached.
    """
    data = recipe.data
    if not any((data.path, data.dataset, data.url, data.database)):
        raise SpecError(
            f"the recipe {recipe.name!r} has no data: {_remedy(recipe)} (a CSV or Parquet file with the "
            "columns unique_id, ds, y, or with others named under `columns`)"
        )
    return _complete(_panel(recipe), data)


def unfinished(data: DataSection) -> tuple[Path, ...]:
    """The CSV files of `path` whose last line has no end; what comes over a network is known to be whole."""
    return tuple(places.unfinished(places.files(data.path))) if data.path else ()


def _panel(recipe: Recipe) -> "Panel":
    data = recipe.data
    asked: dict[str, Any] = {"freq": recipe.freq, "season_length": recipe.season_length}
    if data.dataset:
        return _built_in(recipe)
    if data.database:
        return _of_table(places.queried(data), None, data, **asked)
    found = [places.fetched(data)] if data.url else places.files(str(data.path))
    if len(found) == 1 and found[0].is_file() and not data.selects:
        return read(found[0], data, **asked)
    table, order = places.table(found, data)
    return _of_table(table, order, data, **asked)


def _complete(panel: "Panel", data: DataSection) -> "Panel":
    if data.period_wait_seconds is None:
        return panel
    from pipelines.selection import complete

    return complete(panel, data.period_wait_seconds)


def _of_table(
    table: "Table", order: "DateOrder | None", data: DataSection, *, freq: Any, season_length: int | None
) -> "Panel":
    """The series of a table, after filters and resampling."""
    from forecast.series.read import from_frame
    from pipelines import selection

    options = _options(data)
    table = selection.selected(table, data, order)
    if data.resample:
        table = selection.resampled(table, data, order)
        options["date_format"] = None
        freq = freq or data.resample
    elif order is not None:
        options["date_format"] = order.format
    return from_frame(table, freq=freq, season_length=season_length, **options)


def _remedy(recipe: Recipe) -> str:
    """What gives a recipe data: a file of one's own, or a new recipe where it is a built-in one."""
    if recipe.name not in builtin_names() or recipe.name in home_names():
        return (
            'give `forecast retrain` one with `--data FILE`, or set `path = "FILE"` under [data] of its file'
        )
    freq = f" --freq {recipe.freq}" if recipe.freq is not None else ""
    return (
        f"it is built in and reads yours: run `forecast retrain {recipe.name} --data FILE`, or write one of "
        f"your own with `forecast recipe new NAME --data FILE --horizon {recipe.horizon}{freq}`"
    )


def read(
    path: Path, data: DataSection, *, freq: str | int | None = None, season_length: int | None = None
) -> "Panel":
    """The series of a file, read as `data` says; DataError where there is none or it cannot be used."""
    from forecast.series import read as readers

    is_partition = kind(path) == "parquet" and any("=" in part for part in path.parts[:-1])
    if data.resample or is_partition or kind(path) == "folder":
        table, order = places.table([path], data)
        return _of_table(table, order, data, freq=freq, season_length=season_length)
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


def place(data: DataSection) -> str:
    """Where data comes from, as it may be logged."""
    if data.dataset:
        return f"built-in:{data.dataset}"
    return placeholders.masked_url(str(data.path or data.url or data.database))


def how_read(data: DataSection) -> dict[str, Any]:
    """The policies of `data` without where the file lay: what a later file of the same kind is read by."""
    return data.model_dump(mode="json", exclude={*_PLACES, *_ROWS}, exclude_defaults=True)


def same_way(policies: Mapping[str, Any], *, columns: Mapping[str, str] | None = None) -> DataSection:
    """A `[data]` that reads a file by the policies of `how_read`, with other columns where they are given."""
    own: dict[str, Any] = {"columns": dict(columns)} if columns else {}
    try:
        return DataSection.model_validate({**policies, **own})
    except ValidationError as error:
        told = "; ".join(f"--{readable(detail).replace('_', '-', 1)}" for detail in error.errors())
        raise SpecError(told) from error


def _built_in(recipe: Recipe) -> "Panel":
    from forecast.series import datasets
    from forecast.series.read import from_frame

    frame = datasets.load(str(recipe.data.dataset))
    freq = recipe.freq or datasets.describe(str(recipe.data.dataset)).freq
    return from_frame(frame, freq=freq, season_length=recipe.season_length, **_options(recipe.data))


def _options(data: DataSection) -> dict[str, Any]:
    """What every reader takes, in its words."""
    left_out = {*_PLACES, *_ROWS, *_CSV_ONLY, "columns", "resample"}
    columns = {str(ours): theirs for ours, theirs in data.columns.items()}
    return {**data.model_dump(exclude=left_out, exclude_none=True), **columns}
