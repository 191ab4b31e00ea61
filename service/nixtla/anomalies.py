"""Anomalies for the nixtla client: values outside the model's calibrated interval.

n series, R judged steps or windows, H horizon, Q quantile levels
"""

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.errors import DataError, LevelError
from service.anomalies import judge, normal_scores
from service.backtests import Replayed, Windows, check_count, replay, with_enough
from service.batching import IsGone
from service.errors import problem
from service.inference import Parts, asked_horizon
from service.nixtla.answers import Answer, intervals, points, tokens
from service.nixtla.naming import resolve
from service.nixtla.panels import panel_of
from service.nixtla.payload import AnomaliesAsked, Asked, OnlineAnomaliesAsked
from service.nixtla.replays import (
    Tails,
    check_room,
    laid_out,
    positions,
    replay_notes,
    tails_of,
)

LEVEL = 99
"""The level where none is sent, in percent."""


async def anomalies(asked: AnomaliesAsked, parts: Parts, is_gone: IsGone | None = None) -> Answer:
    """Every step that enough history stands before, judged by its forecast one step ahead."""
    served, _ = await resolve(asked.model, parts)
    level = level_of(asked)
    sent = await parts.workers.run(lambda: panel_of(asked, served.forecaster, horizon=0))
    ys = np.split(asked.series.y, sent.panel.indptr[1:-1])
    found = await judge(served, sent.panel, parts, level=level, is_gone=is_gone, ys=ys)
    replayed = found.replayed
    tails = tails_of(sent.panel, replayed.windows)
    body = {
        **_seen(replayed, tails, level, parts),
        "anomaly": _flags(found.anomaly[:, None], replayed, tails),
        "weights_x": sent.weights_x,
        "feature_contributions": None,
        **tokens(len(asked.series.y), len(tails.idxs)),
    }
    notes = (*replay_notes(replayed, (level,)), *sent.notes)
    return Answer(body=body, served=served, notes=notes)


async def online_anomalies(
    asked: OnlineAnomaliesAsked, parts: Parts, is_gone: IsGone | None = None
) -> Answer:
    """The last `detection_size` steps of every series, judged by forecasts of h steps."""
    served, _ = await resolve(asked.model, parts)
    level, horizon = level_of(asked), asked_horizon(asked.h, served.forecaster)
    stride = asked.step_size or horizon
    if stride > horizon:
        raise problem(
            "invalid-request", "step_size is larger than h and would leave steps unjudged; lower it"
        )
    horizon = min(horizon, asked.detection_size)
    num_windows = -(-max(asked.detection_size - horizon, 0) // stride) + 1
    check_count(len(asked.series) * num_windows, horizon, served, parts)
    sent = await parts.workers.run(lambda: panel_of(asked, served.forecaster, horizon=0))
    seen = sent.panel.lengths[:, None] - asked.detection_size + stride * np.arange(num_windows)
    seen = np.minimum(seen, sent.panel.lengths[:, None] - horizon)
    places = np.broadcast_to(np.arange(len(sent.panel))[:, None], seen.shape)
    needed = served.forecaster.min_context
    windows = Windows(places.ravel(), seen.ravel()).chosen(seen.ravel() >= needed)
    check_room(sent.panel, windows, num_windows, needed=needed)
    enough = with_enough(served.forecaster, sent.panel, windows)
    ys = np.split(asked.series.y, sent.panel.indptr[1:-1])
    replayed = await replay(served, sent.panel, enough, horizon, parts, is_gone, ys=ys)
    tails = tails_of(sent.panel, windows)
    body = {
        **_seen(replayed, tails, level, parts),
        **_judged(replayed, tails, level, asked.threshold_method == "multivariate"),
        "weights_x": sent.weights_x,
        "feature_contributions": None,
        **tokens(len(asked.series.y), len(tails.idxs)),
    }
    notes = (*replay_notes(replayed, (level,)), *sent.notes)
    return Answer(body=body, served=served, notes=notes)


def level_of(asked: Asked) -> float:
    """The level asked for, the largest where several are; LevelError for 0, which is no interval."""
    level = max(asked.level or (LEVEL,))
    if level == 0:
        raise LevelError("the level 0 is no interval, every value lies outside it; ask for example for 99")
    return level


def _seen(replayed: Replayed, tails: Tails, level: float, parts: Parts) -> dict[str, Any]:
    """What was forecast for the judged steps."""
    at, total = positions(replayed), int(replayed.panel.indptr[-1])
    ends = intervals(replayed.forecast, (level,)) or {}
    return {
        "mean": laid_out(points(replayed.forecast, parts.settings.point), at, tails, total),
        "intervals": {name: laid_out(end, at, tails, total) for name, end in ends.items()},
        "sizes": tails.sizes,
        "idxs": tails.idxs,
    }


def _flags(anomaly: NDArray[np.bool_], replayed: Replayed, tails: Tails) -> list[bool]:
    """Whether each judged step (R, H) is an anomaly, by the tails; one that cannot be judged is none."""
    total = int(replayed.panel.indptr[-1])
    found = laid_out(anomaly.astype(np.float64), positions(replayed), tails, total)
    flags: list[bool] = (found == 1).tolist()
    return flags


def _judged(replayed: Replayed, tails: Tails, level: float, together: bool) -> dict[str, Any]:
    """How far each value is from its forecast in standard-normal deviations, and whether that is much."""
    forecast, y = replayed.forecast, replayed.y
    low, high = forecast.interval(level)
    num_levels = len(forecast.quantile_levels)
    scores = normal_scores(
        forecast.quantile_levels, forecast.values.reshape(-1, num_levels), y.ravel()
    ).reshape(y.shape)
    total = int(replayed.panel.indptr[-1])
    laid = laid_out(scores, positions(replayed), tails, total)
    if together:
        return _together(laid, tails, level)
    with np.errstate(invalid="ignore"):
        anomaly = (y < low) | (y > high)
    return {"anomaly": _flags(np.asarray(anomaly), replayed, tails), "anomaly_score": laid}


def _together(scores: NDArray[np.float64], tails: Tails, level: float) -> dict[str, Any]:
    """One threshold for all series: the sum of their squared scores at each step, as chi-square distributed.

    Source: Wilson & Hilferty, "The Distribution of Chi-Square", PNAS 1931, for its quantiles.
    """
    if len(set(tails.sizes.tolist())) > 1:
        raise DataError("a multivariate threshold needs series of one length; cut them, or use univariate")
    by_step = scores.reshape(len(tails.sizes), -1)  # (n, detection_size)
    num_seen = np.maximum(np.isfinite(by_step).sum(axis=0), 1)
    total = np.nansum(by_step**2, axis=0)
    spread = 2 / (9 * num_seen)
    deviation = (np.cbrt(total / num_seen) - (1 - spread)) / np.sqrt(spread)
    anomaly = deviation > NormalDist().inv_cdf(level / 100)
    num_series = len(tails.sizes)
    return {
        "anomaly": np.tile(anomaly, num_series).tolist(),
        "anomaly_score": scores,
        "accumulated_anomaly_score": np.tile(total, num_series),
    }
