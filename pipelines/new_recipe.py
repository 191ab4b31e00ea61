"""A first recipe for a data file: looked at, decided, read once to prove it, and written."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecast import home
from forecast.errors import DataError, SpecError
from pipelines import recipe as recipes
from pipelines import sources

if TYPE_CHECKING:
    from forecast.series.panel import Panel
    from forecast.series.sniff import Sniffed

NUM_WINDOWS = 4
"""Forecasts of the past that a new recipe is judged by, where the data is long enough for so many."""

_POLICIES = ("grid", "duplicates", "gaps", "infinite")
"""What is to be done about findings: passed on to the readers, nothing to detect."""


def write(
    name: str, data: Path, *, horizon: int, declared: dict[str, Any], force: bool = False
) -> tuple[Path, list[str]]:
    """Write `name`.toml into the home folder; returns where it lies and what was decided, in sentences.

    `declared` holds what the user settled: freq, columns, dayfirst, delimiter, decimal, wide, timezone, grid,
    duplicates, gaps, infinite; the rest is detected. Raises SpecError for a name that cannot be used or is
    taken, and what the readers raise where the file cannot be used; nothing is written then.
    """
    target = _free_place(name, force=force)
    sources.kind(data)
    policies = {key: value for key, value in declared.items() if key in _POLICIES and value is not None}
    sniffed = _sniff(data, declared)
    document = _document(name, data, sniffed, horizon=horizon, policies=policies)
    panel = sources.panel(recipes.parse(_toml(document), origin=f"the recipe {name}"))
    decisions = [*sniffed.decisions, *(finding.message for finding in panel.report)]
    num_windows = _affordable_windows(panel, horizon)
    document["backtest"]["num_windows"] = num_windows
    decisions.append(f"{horizon} steps are forecast, and candidates are judged on {num_windows} windows")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(".toml.new")
    draft.write_text(_toml(document), encoding="utf-8")
    os.replace(draft, target)
    return target, list(dict.fromkeys(decisions))


def _free_place(name: str, *, force: bool) -> Path:
    try:
        target = home.recipes_folder() / f"{recipes.checked_name(name)}.toml"
    except ValueError as error:
        raise SpecError(str(error)) from error
    if target.exists() and not force:
        raise SpecError(
            f"there is a recipe {name!r} already ({target}); choose another name, or replace it with --force"
        )
    return target


def _sniff(data: Path, declared: dict[str, Any]) -> "Sniffed":
    from forecast.series.sniff import sniff

    columns = declared.get("columns") or {}
    asked = {key: value for key, value in declared.items() if key not in (*_POLICIES, "columns")}
    return sniff(data, **{**asked, "freq": declared.get("freq") or declared.get("grid")}, **columns)


def _document(
    name: str, data: Path, sniffed: "Sniffed", *, horizon: int, policies: dict[str, Any]
) -> dict[str, Any]:
    """The recipe as TOML holds it, with everything that was detected, so that it stays as it is."""
    defaults = recipes.Recipe(name=name, horizon=horizon)
    found = {
        "path": str(data.resolve()),
        "columns": sniffed.columns,
        "delimiter": sniffed.delimiter,
        "decimal": sniffed.decimal,
        "encoding": sniffed.encoding,
        "date_format": sniffed.date_format,
        "timezone": None if sniffed.timezone == "UTC" else sniffed.timezone,
        "wide": sniffed.wide or None,
        **policies,
    }
    return {
        "name": name,
        "freq": sniffed.freq,
        "horizon": horizon,
        "season_length": sniffed.season_length,
        "levels": [int(level) for level in defaults.levels],
        "candidates": list(defaults.candidates),
        "data": {key: value for key, value in found.items() if value is not None},
        "backtest": {"num_windows": NUM_WINDOWS, "stride": horizon},
        "gate": {"metric": defaults.gate.metric, "margin": 0.0, "must_beat": list(defaults.gate.must_beat)},
    }


def _affordable_windows(panel: "Panel", horizon: int) -> int:
    """As many windows as the data has room for, at most the usual number; DataError where there is none."""
    from forecast.evaluation.blocks import Blocks

    for num_windows in range(NUM_WINDOWS, 1, -1):
        try:
            Blocks.cut(panel, horizon=horizon, num_windows=num_windows)
        except DataError:
            continue
        return num_windows
    Blocks.cut(panel, horizon=horizon, num_windows=1)
    return 1


def _toml(document: dict[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(document)
