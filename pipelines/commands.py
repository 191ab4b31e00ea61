"""The commands datasets, recipe, retrain, predict and models: what they take and what they print."""

import json
import signal
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forecast.errors import ColumnsError, DataError, FrequencyError, LevelError, SpecError
from pipelines.reading_options import (
    Columns,
    DayFirst,
    Decimal,
    Delimiter,
    Duplicates,
    Gaps,
    Grid,
    Infinite,
    Timezone,
    Wide,
    given,
)
from pipelines.tables import number, print_table

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from forecast.series.panel import Panel
    from pipelines.recipe import Recipe
    from pipelines.registry import Version
    from pipelines.sections import DataSection

METRICS = {
    "mae": "mae",
    "rmse": "rmse",
    "smape": "smape",
    "mase": "mase",
    "wql": "wql",
    "coverage_80": "in 80 %",
    "coverage_95": "in 95 %",
}
"""The metrics shown, with their titles; the last two are the shares of values inside the intervals."""

OUTPUT_SUFFIXES = (".csv", ".parquet", ".json")

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout and everything else on stderr.")
]

recipe = typer.Typer(help="Write recipes: TOML files that say what to forecast.", no_args_is_help=True)


def datasets() -> None:
    """List the real series that are built in."""
    from forecast.series import datasets as built_in

    for name in built_in.names():
        each = built_in.describe(name)
        typer.echo(f"{name}: {each.title}")
        typer.echo(
            f"  freq {each.freq}, {each.num_series} series, {each.num_rows} rows; source: {each.source}"
        )


@recipe.callback()
def _recipe() -> None:
    """Write recipes: TOML files that say what to forecast."""


@recipe.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Names the recipe, its experiment and its model.")],
    data: Annotated[Path, typer.Option(help="A CSV or Parquet file.")],
    horizon: Annotated[int, typer.Option(help="Steps to forecast.", min=1)],
    freq: Annotated[
        str | None, typer.Option(help="Step of the series: D, h, 15min, MS, trading, ...")
    ] = None,
    columns: Columns = None,
    day_first: DayFirst = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    wide: Wide = None,
    timezone: Timezone = None,
    grid: Grid = None,
    duplicates: Duplicates = None,
    gaps: Gaps = None,
    infinite: Infinite = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a recipe of this name.")] = False,
) -> None:
    """Look at a data file, decide how to read it, and write the recipe. What is declared is not guessed."""
    from pipelines import new_recipe

    declared = {
        "freq": freq,
        "columns": _columns(columns),
        "dayfirst": day_first,
        "delimiter": delimiter,
        "decimal": decimal,
        "wide": wide,
        "timezone": timezone,
        "grid": grid,
        "duplicates": duplicates,
        "gaps": gaps,
        "infinite": infinite,
    }
    written, decisions = new_recipe.write(name, data, horizon=horizon, declared=declared, force=force)
    for decision in decisions:
        typer.echo(f"- {decision}")
    typer.echo(f"wrote {written}")
    typer.echo(f"next: forecast retrain {name}")


@recipe.command("check")
def check(
    reference: Annotated[str, typer.Argument(metavar="FILE", help="A .toml file, or a recipe's name.")],
    with_data: Annotated[
        bool, typer.Option("--data/--no-data", help="Whether the data is read and looked at, too.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Check a recipe: its keys, its variables, its schedule, and its data. Exit code 2 where one is wrong."""
    with redirect_stdout(sys.stderr):
        from pipelines import recipe_check

        found = recipe_check.check(reference, with_data=with_data)
    if as_json:
        typer.echo(json.dumps(found, allow_nan=False))
        return
    for line in found["lines"]:
        typer.echo(f"- {line}")
    typer.echo(f"the recipe {found['recipe']} is fine")


@recipe.command("schema")
def schema() -> None:
    """Print the JSON schema of recipes, with which editors check and complete them."""
    from pipelines import recipe as recipes

    typer.echo(json.dumps(recipes.json_schema(), indent=2, ensure_ascii=False))


def retrain(
    recipe: Annotated[
        str, typer.Argument(help="A built-in name, a name made by `recipe new`, a .toml file.")
    ],
    data: Annotated[Path | None, typer.Option(help="Read this file in place of the recipe's.")] = None,
    columns: Columns = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Evaluate and print; register and promote nothing.")
    ] = False,
    skip_checks: Annotated[
        bool, typer.Option("--skip-checks", help="Train whatever the recipe's [checks] say of the data.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train the candidates of a recipe, compare them with the champion, and promote what is better."""
    from pipelines import hooks
    from pipelines import recipe as recipes

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the run in MLflow is closed
    with redirect_stdout(sys.stderr):
        chosen = recipes.with_data(recipes.load(recipe), path=data, columns=_columns(columns))
        with hooks.told(chosen.name, chosen.hooks, say=_say, silent=dry_run) as told:
            found = retrained(chosen, dry_run=dry_run, skip_checks=skip_checks, say=_say)
            told.update(found)
    if as_json:
        typer.echo(json.dumps(found, allow_nan=False))
    else:
        _print_outcome(chosen, found)


def retrained(
    recipe: "Recipe", *, say: "Callable[[str], None]", dry_run: bool = False, skip_checks: bool = False
) -> dict[str, Any]:
    """The outcome of a retrain, with the forecasts that are stored after it."""
    from pipelines import retrain as retraining
    from pipelines.sections import AFTER_RETRAIN

    found = retraining.retrain(recipe, dry_run=dry_run, skip_checks=skip_checks, say=say).to_dict()
    if recipe.forecast and recipe.forecast.when == AFTER_RETRAIN and not dry_run:
        from pipelines import outputs

        found["forecasts"] = outputs.store(recipe, say=say).to_dict()
    return found


def replay(
    run_id: Annotated[
        str, typer.Argument(help="The run of a retrain in MLflow, or of one of its candidates.")
    ],
    data: Annotated[Path | None, typer.Option(help="Read this file in place of the recipe's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Repeat a retrain from MLflow: the same figures on the same data, or what differs (exit code 1)."""
    with redirect_stdout(sys.stderr):
        from pipelines import replay as repeating

        found = repeating.replay(run_id, data=data, say=_say)
    if as_json:
        typer.echo(json.dumps(found, allow_nan=False))
    else:
        for line in found["differs"]:
            typer.echo(f"- {line}")
        names = {row["candidate"] for row in found["metrics"]}
        same = f"the same figures for all of {len(names)} candidates"
        typer.echo(f"{found['recipe']}: {same if found['same'] else 'not the same figures'}")
    if not found["same"]:
        raise typer.Exit(1)


def store(
    recipe: Annotated[str, typer.Argument(help="A name, or a .toml file, with a [forecast] table.")],
    as_json: AsJson = False,
) -> None:
    """Forecast every series of a recipe's data with its champion, and store what is not stored yet."""
    with redirect_stdout(sys.stderr):
        from pipelines import outputs
        from pipelines import recipe as recipes

        found = outputs.store(recipes.load(recipe), say=_say)
    if as_json:
        typer.echo(json.dumps(found.to_dict()))
    else:
        typer.echo(f"{found.stored} new forecasts by version {found.model_version} in {found.output}")


def predict(
    model: Annotated[str, typer.Option(help="NAME, NAME@ALIAS or NAME/VERSION.")],
    data: Annotated[
        Path,
        typer.Option(
            help="A CSV or Parquet file with the histories, or a folder (or pattern) of such files."
        ),
    ],
    horizon: Annotated[int | None, typer.Option(help="Steps to forecast; default: as trained.")] = None,
    level: Annotated[
        list[float] | None,
        typer.Option(help="An interval in percent, repeatable; default: the recipe's levels."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write to this .csv, .parquet or .json file; left out, CSV on stdout. A folder for a folder."
        ),
    ] = None,
    columns: Columns = None,
    day_first: DayFirst = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    wide: Wide = None,
    timezone: Timezone = None,
    grid: Grid = None,
    duplicates: Duplicates = None,
    gaps: Gaps = None,
    infinite: Infinite = None,
) -> None:
    """Forecast the series of a file, or of a folder file by file, with a registered model.

    How the file is written is as the model's recipe says, or detected, unless it is said here.
    """
    from pipelines import bulk

    reading = given(
        columns=_columns(columns) or None,
        day_first=day_first,
        delimiter=delimiter,
        decimal=decimal,
        wide=wide,
        timezone=timezone,
        grid=grid,
        duplicates=duplicates,
        gaps=gaps,
        infinite=infinite,
    )
    for each in level or []:
        if not 0 < each < 100:
            raise LevelError(f"a level is a percentage between 0 and 100, such as 80, and got {each:g}")
    if bulk.is_partitioned(data):
        _predict_partitions(model, data, output, horizon=horizon, levels=level, reading=reading)
        return
    if output and output.suffix not in OUTPUT_SUFFIXES:
        raise SpecError(f"--output {output} is of an unknown kind; end it in {', '.join(OUTPUT_SUFFIXES)}")
    with redirect_stdout(sys.stderr):
        frame = _forecast(model, data, horizon=horizon, levels=level, reading=reading)
    _write(frame, output)


def models(
    every: Annotated[bool, typer.Option("--all", help="Also the versions without an alias.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the registered models: versions, aliases, metrics and until when they were trained."""
    with redirect_stdout(sys.stderr):
        from pipelines import registry

        found = [version for name in registry.names() for version in registry.versions(name)]
    rows = [_model_row(each) for each in found if every or each.aliases]
    if as_json:
        typer.echo(json.dumps({"models": rows}, allow_nan=False))
    else:
        _print_models(rows)


def _forecast(
    model: str, data: Path, *, horizon: int | None, levels: list[float] | None, reading: dict[str, Any]
) -> "pd.DataFrame":
    """The forecast as the library's frame; notes go to stderr."""
    from pipelines import registry, sources

    sources.kind(data)
    version = registry.find(model)
    forecaster = registry.load(version)
    panel = _histories(version, data, freq=forecaster.info.freq, reading=reading)
    forecast = forecaster.predict(panel, horizon=horizon)
    for unique_id, notes in zip(forecast.unique_ids, forecast.notes, strict=True):
        if notes:
            _say(f"{unique_id}: {', '.join(notes)}")
    return forecast.to_frame(levels=version.levels if levels is None else levels)


def _predict_partitions(
    model: str,
    data: Path,
    output: Path | None,
    *,
    horizon: int | None,
    levels: list[float] | None,
    reading: dict[str, Any],
) -> None:
    """A folder of forecasts for a folder of histories."""
    if output is None or output.suffix in OUTPUT_SUFFIXES:
        raise SpecError(f"{data} is many files, and so are its forecasts; name a folder as --output")
    with redirect_stdout(sys.stderr):
        from pipelines import bulk, registry

        version = registry.find(model)
        forecaster = registry.load(version)
        asked = bulk.Asked(
            model=version.name,
            version=version.version,
            horizon=horizon or forecaster.horizon,
            levels=version.levels if levels is None else tuple(levels),
        )
        freq = forecaster.info.freq
        num_rows = bulk.predict(
            forecaster,
            asked,
            data,
            output,
            read=lambda path: _histories(version, path, freq=freq, reading=reading),
            say=_say,
        )
    _say(f"wrote {num_rows:,} rows to {output}")


def _histories(version: "Version", data: Path, *, freq: str | int, reading: dict[str, Any]) -> "Panel":
    """The file read as the model's training data was, but for what is said of it; without --columns, by its
    columns or else by ours.
    """
    from pipelines import sources

    policies = {**version.data, **reading}
    try:
        return _read(data, sources.same_way(policies), freq=freq)
    except ColumnsError:
        if "columns" in reading:
            raise
        return _read(data, sources.same_way({**policies, "columns": {}}), freq=freq)


def _read(path: Path, data: "DataSection", *, freq: str | int) -> "Panel":
    """The series of a file; where its frequency is not the model's, the model itself is to say so."""
    from pipelines import sources

    try:
        return sources.read(path, data, freq=freq)
    except FrequencyError as error:
        try:
            return sources.read(path, data)
        except DataError:
            raise error from None


def _write(frame: "pd.DataFrame", output: Path | None) -> None:
    """CSV on stdout, or a file by its suffix."""
    if output is None:
        frame.to_csv(sys.stdout, index=False)
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.suffix == ".csv":
            frame.to_csv(output, index=False)
        elif output.suffix == ".parquet":
            frame.to_parquet(output, index=False)
        else:
            frame.to_json(output, orient="records", date_format="iso", indent=1)
    except OSError as error:
        raise DataError(f"{output} cannot be written: {error}; choose another path") from error
    _say(f"wrote {len(frame)} rows to {output}")


def _columns(text: str | None) -> dict[str, str]:
    """`unique_id=shop,ds=day` as a table; SpecError for anything else."""
    pairs = [part.split("=", 1) for part in (text or "").split(",") if part.strip()]
    if any(len(pair) != 2 or pair[0].strip() not in ("unique_id", "ds", "y") for pair in pairs):
        raise SpecError(f"--columns takes unique_id=THEIRS,ds=THEIRS,y=THEIRS, and got {text!r}")
    return {ours.strip(): theirs.strip() for ours, theirs in pairs}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print_outcome(recipe: "Recipe", outcome: dict[str, Any]) -> None:
    """A readable summary: every candidate, best first, and what was decided."""
    metric = recipe.gate.metric
    ranked = sorted(outcome["candidates"], key=lambda each: _or_infinity(each["metrics"].get(metric)))
    rows = [[each["name"], *(number(each["metrics"].get(name)) for name in METRICS)] for each in ranked]
    typer.echo(f"candidates of {recipe.name} on the same unseen windows, best {metric} first")
    print_table(["model", *METRICS.values()], rows, numbers=METRICS.values())
    version = f" (version {outcome['model_version']})" if outcome["model_version"] else ""
    typer.echo(f"{outcome['verdict']}{version}: {outcome['reason']}")


def _print_models(rows: list[dict[str, Any]]) -> None:
    if not rows:
        typer.echo("no model is registered yet; `forecast retrain air_passengers` makes one")
        return
    texts = [
        [row["name"], ", ".join(row["aliases"]), row["kind"], row["freq"], *_numbers(row)] for row in rows
    ]
    titles = ["name", "aliases", "kind", "freq", "version", "horizon", "trained until", *METRICS.values()]
    essential = ["name", "aliases", "kind", "version", "trained until", "mae", "wql"]
    print_table(titles, texts, numbers=titles[4:], essential=essential)


def _numbers(row: dict[str, Any]) -> list[str]:
    """The columns of a model's row that are aligned to the right."""
    trained_until = str(row["trained_until"]).removesuffix("T00:00:00")
    return [
        row["version"],
        str(row["horizon"]),
        trained_until,
        *(number(row["metrics"].get(name)) for name in METRICS),
    ]


def _model_row(version: "Version") -> dict[str, Any]:
    tags = version.tags
    return {
        "name": version.name,
        "version": version.version,
        "aliases": list(version.aliases),
        "kind": tags.get("forecast.candidate", ""),
        "freq": tags.get("forecast.freq", ""),
        "horizon": int(tags.get("forecast.horizon", 0)),
        "metrics": version.metrics,
        "trained_until": tags.get("forecast.trained_until", ""),
        "run_id": version.run_id,
    }


def _or_infinity(value: float | None) -> float:
    return float("inf") if value is None else value
