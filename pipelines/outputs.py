"""Scheduled forecasts: every series of a recipe's data, forecast by its champion and stored once."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from forecast import placeholders, stored
from forecast.errors import NotFoundError, SpecError
from pipelines import registry, sources, tracking
from pipelines.lock import output_lock
from pipelines.recipe import Recipe
from pipelines.sections import ForecastSection

if TYPE_CHECKING:
    import pandas as pd

    from forecast.models.forecaster import Forecaster
    from forecast.series.panel import Panel

SERIES_PER_PART = 20_000
"""Forecast and stored at a time: what is in memory beside the data, and what a kill can cost."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a call has stored."""

    recipe: str
    model_version: str
    stored: int
    """Series whose forecast is new."""
    known: int
    """Series whose forecast from this cutoff by this version was stored before."""
    too_short: int
    output: str
    """Where, without a password."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def store(recipe: Recipe, *, say: Say = print) -> Stored:
    """Forecast with the champion and keep what is not kept yet, by version, cutoff and series.

    Raises SpecError where the recipe has no [forecast], NotFoundError where the model has no champion, and
    LockedError where another process is doing the same.
    """
    asked = recipe.forecast
    if asked is None:
        raise SpecError(
            f"the recipe {recipe.name!r} has no [forecast] table; add one, if only `[forecast]` with `levels`"
        )
    with output_lock(recipe.name), tracking.answering():
        champion = registry.champion(recipe.name)
        if champion is None:
            raise NotFoundError(
                f"the model {recipe.name!r} has no champion to forecast with; run `forecast retrain` first"
            )
        output = asked.output or str(stored.default_folder(recipe.name))
        place = stored.open_store(output, model=recipe.name, table=asked.table)
        panel = sources.panel(recipe)
        todo = _todo(panel, place.known(champion.version))
        new, too_short = (0, 0) if todo is None else _store(recipe, asked, champion, todo, place)
        stored.announce(recipe.name, output=output, table=asked.table)
    shown = placeholders.masked_url(output)
    known = len(panel) - new - too_short
    say(f"{recipe.name}: forecasts of {new:,} series stored in {shown}, {known:,} were there already")
    return Stored(
        recipe=recipe.name,
        model_version=champion.version,
        stored=new,
        known=known,
        too_short=too_short,
        output=shown,
    )


def _store(
    recipe: Recipe,
    asked: ForecastSection,
    champion: registry.Version,
    todo: "Panel",
    place: stored.Store,
) -> tuple[int, int]:
    """Forecast and keep; the numbers of series with a forecast, and of those that are too short for one."""
    forecaster = registry.load(champion)
    enough = forecaster.can_predict(todo)
    if enough.any():
        horizon, levels = asked.horizon or recipe.horizon, asked.levels or recipe.levels
        for part in _parts(todo.select(enough.nonzero()[0])):
            place.write(rows(part, forecaster, champion, horizon=horizon, levels=levels))
    return int(enough.sum()), int((~enough).sum())


def rows(
    panel: "Panel",
    forecaster: "Forecaster",
    version: registry.Version,
    *,
    horizon: int,
    levels: tuple[float, ...],
) -> "pd.DataFrame":
    """The forecasts of a panel as they are stored; stamps as text, so that each reader reads the same."""
    import numpy as np

    frame = forecaster.predict(panel, horizon=horizon).to_frame(levels=levels)
    cutoffs = np.repeat(_cutoffs(panel), horizon)
    frame["ds"] = [_text(each) for each in frame["ds"]]
    frame.insert(0, "model", version.name)
    frame.insert(1, "version", version.version)
    frame.insert(3, "cutoff", cutoffs)
    frame.insert(4, "step", np.tile(np.arange(1, horizon + 1), len(panel)))
    frame["stored_at"] = _now()
    return frame


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _todo(panel: "Panel", known: "pd.DataFrame") -> "Panel | None":
    """The series without a stored forecast from their last stamp."""
    import numpy as np

    there = set(zip(known["unique_id"].astype(str), known["cutoff"].astype(str), strict=True))
    own = zip(panel.unique_ids.astype(str), _cutoffs(panel), strict=True)
    left = np.array([each not in there for each in own], dtype=bool)
    return panel.select(left.nonzero()[0]) if left.any() else None


def _parts(panel: "Panel") -> "Iterator[Panel]":
    import numpy as np

    for start in range(0, len(panel), SERIES_PER_PART):
        yield panel.select(np.arange(start, min(start + SERIES_PER_PART, len(panel))))


def _cutoffs(panel: "Panel") -> list[str]:
    from forecast.series.calendar import zoned

    texts = [_text(each) for each in zoned(panel.last_stamps(), panel.timezone)]
    return [text.zfill(12) for text in texts] if panel.freq.is_integer else texts


def _text(stamp: Any) -> str:
    """A stamp as ISO text, a step as it is."""
    import pandas as pd

    return str(stamp) if isinstance(stamp, int) or _is_step(stamp) else pd.Timestamp(stamp).isoformat()


def _is_step(stamp: Any) -> bool:
    import numpy as np

    return isinstance(stamp, np.integer)
