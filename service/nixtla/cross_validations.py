"""Earlier forecasts for the nixtla client: the windows of a cross-validation, and fitted values."""

import numpy as np

from service.backtests import Windows, check_count, replay, rolling, with_enough
from service.batching import IsGone
from service.inference import Parts, asked_horizon
from service.models import Served
from service.nixtla.answers import Answer, flat, intervals, points, tokens
from service.nixtla.naming import resolve
from service.nixtla.panels import Sent, panel_of
from service.nixtla.payload import Asked, CrossValidationAsked, FittedAsked
from service.nixtla.replays import (
    Tails,
    check_room,
    covering,
    laid_out,
    positions,
    replay_notes,
    tails_of,
)


async def cross_validation(
    asked: CrossValidationAsked, parts: Parts, is_gone: IsGone | None = None
) -> Answer:
    """The model's forecasts at the last cutoffs of every series; with full_history its fitted values."""
    if asked.full_history:
        return await fitted(asked, parts, is_gone)
    served, _ = await resolve(asked.model, parts)
    horizon = asked_horizon(asked.h, served.forecaster)
    check_count(len(asked.series) * asked.n_windows, horizon, served, parts)
    sent = await parts.workers.run(lambda: panel_of(asked, served.forecaster, horizon=0))
    windows = rolling(
        sent.panel, horizon=horizon, num_windows=asked.n_windows, stride=asked.step_size or horizon
    )
    needed = served.forecaster.min_context
    check_room(sent.panel, windows, asked.n_windows, needed=needed)
    check_room(
        sent.panel, with_enough(served.forecaster, sent.panel, windows), asked.n_windows, needed=needed
    )
    replayed = await replay(served, sent.panel, windows, horizon, parts, is_gone)
    mean = points(replayed.forecast, parts.settings.point).ravel()
    body = {
        "mean": mean,
        "sizes": windows.counts(len(sent.panel)) * horizon,
        "idxs": positions(replayed).ravel(),
        "intervals": flat(intervals(replayed.forecast, asked.levels)),
        "weights_x": sent.weights_x,
        "feature_contributions": None,
        **tokens(len(asked.series.y), len(mean)),
    }
    notes = (*replay_notes(replayed, asked.levels), *sent.notes)
    return Answer(body=body, served=served, notes=notes)


async def fitted(
    asked: CrossValidationAsked | FittedAsked, parts: Parts, is_gone: IsGone | None = None
) -> Answer:
    """What the model says of each step with enough history before it, in blocks of its horizon."""
    served, _ = await resolve(asked.model, parts)
    sent = await parts.workers.run(lambda: panel_of(asked, served.forecaster, horizon=0))
    windows, horizon = covering(served.forecaster, sent.panel)
    if not len(windows):
        return _nothing(asked, served, sent)
    enough = with_enough(served.forecaster, sent.panel, windows)
    replayed = await replay(served, sent.panel, enough, horizon, parts, is_gone)
    tails, total = tails_of(sent.panel, windows), len(asked.series.y)
    at = positions(replayed)
    found = intervals(replayed.forecast, asked.levels)
    body = {
        "mean": laid_out(points(replayed.forecast, parts.settings.point), at, tails, total),
        "intervals": found and {name: laid_out(ends, at, tails, total) for name, ends in found.items()},
        **_frame(tails, sent),
        **tokens(total, len(tails.idxs)),
    }
    notes = (*replay_notes(replayed, asked.levels), *sent.notes)
    return Answer(body=body, served=served, notes=notes)


def _frame(tails: Tails, sent: Sent) -> dict[str, object]:
    return {
        "sizes": tails.sizes,
        "idxs": tails.idxs,
        "weights_x": sent.weights_x,
        "feature_contributions": None,
    }


def _nothing(asked: Asked, served: Served, sent: Sent) -> Answer:
    """No series is longer than what the model has to see first."""
    none = np.zeros(0, dtype=np.int64)
    tails = tails_of(sent.panel, Windows(none, none))
    names = [f"{end}-{level}" for level in asked.levels for end in ("lo", "hi")]
    body = {
        "mean": [],
        "intervals": {name: [] for name in names} or None,
        **_frame(tails, sent),
        **tokens(len(asked.series.y), 0),
    }
    return Answer(body=body, served=served, notes=sent.notes)
