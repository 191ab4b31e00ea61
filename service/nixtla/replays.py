"""What looks back: windows over the histories sent, and their forecasts laid beside the flat list of values.

n series, T flat values, R windows, H horizon, Q quantile levels
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecast.errors import ContextError
from forecast.models.forecaster import Forecaster
from forecast.series.forecast import Forecast
from forecast.series.panel import Panel
from service.backtests import Replayed, Windows
from service.nixtla.answers import notes_of


@dataclass(frozen=True, eq=False)
class Tails:
    """The last `sizes[i]` steps of every series, as positions in the flat list of values."""

    sizes: NDArray[np.int64]
    """(n,)."""
    idxs: NDArray[np.int64]
    """(sum of sizes,) ascending."""


def positions(replayed: Replayed) -> NDArray[np.int64]:
    """(R, H) where each forecast step stands in the flat list; -1 beyond the end of its series."""
    panel, windows = replayed.panel, replayed.windows
    steps = windows.seen[:, None] + np.arange(replayed.forecast.horizon)
    inside = steps < panel.lengths[windows.places][:, None]
    return np.where(inside, panel.indptr[windows.places][:, None] + steps, -1)


def tails_of(panel: Panel, windows: Windows) -> Tails:
    """What stands after the first cutoff of each series; nothing for a series without one."""
    first = panel.lengths.copy()
    np.minimum.at(first, windows.places, windows.seen)
    sizes = panel.lengths - first
    left = np.repeat(np.cumsum(sizes), sizes) - np.arange(int(sizes.sum()))
    return Tails(sizes, np.asarray(np.repeat(panel.indptr[1:], sizes) - left, dtype=np.int64))


def laid_out(
    values: NDArray[np.float64], at: NDArray[np.int64], tails: Tails, total: int
) -> NDArray[np.float64]:
    """The values (R, H) of steps `at` (R, H) in the order of the tails, NaN where there is none.

    Of two windows that reach the same step the later one counts.
    """
    flat = np.full(total, np.nan)
    inside = at >= 0
    flat[at[inside]] = values[inside]
    found: NDArray[np.float64] = flat[tails.idxs]
    return found


def covering(forecaster: Forecaster, panel: Panel) -> tuple[Windows, int]:
    """The cutoffs of fitted values: blocks of the model's horizon that end with the history.

    The first block of a series begins where enough of it was seen, and so is cut by the one after it.
    """
    first = _first_cutoffs(panel, forecaster.min_context)
    lengths = panel.lengths - first
    horizon = forecaster.horizon
    if len(panel.known) and (lengths > 0).any():
        horizon = min(horizon, int(lengths[lengths > 0].min()))  # they end with the history
    counts = -(-lengths // horizon)
    places = np.repeat(np.arange(len(panel)), counts)
    back = horizon * (np.repeat(np.cumsum(counts), counts) - np.arange(len(places)))
    return Windows(places, np.maximum((panel.lengths[places] - back), first[places])), horizon


def _first_cutoffs(panel: Panel, min_context: int) -> NDArray[np.int64]:
    """(n,) the steps before which `min_context` values were observed; the length where they never are."""
    observed = np.concatenate([[0], np.cumsum(~np.isnan(panel.values))])
    wanted = observed[panel.indptr[:-1]] + min_context
    reached = np.searchsorted(observed, wanted)
    return np.asarray(np.minimum(reached - panel.indptr[:-1], panel.lengths))


def check_room(panel: Panel, windows: Windows, wanted: int, *, needed: int) -> None:
    """ContextError where a series is too short for all windows asked for."""
    counts = windows.counts(len(panel))
    if (counts == wanted).all():
        return
    place = int((counts < wanted).argmax())
    raise ContextError(
        f"{panel.unique_ids[place]} has {int(panel.lengths[place]):,} steps, which hold "
        f"{int(counts[place])} of the {wanted} windows asked for with at least {needed} observed "
        "values before each; send longer histories, or ask for a smaller n_windows, step_size, h or "
        "detection_size"
    )


def replay_notes(replayed: Replayed, levels: tuple[float, ...]) -> tuple[str, ...]:
    """Every note of any window or series once, those about the training data first."""
    forecast: Forecast = replayed.forecast
    samples = dict.fromkeys(note for own in replayed.notes for note in own)
    return tuple(dict.fromkeys((*sorted(samples), *notes_of([forecast], levels))))
