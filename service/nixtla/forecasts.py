"""Forecasts for the nixtla client."""

from service.batching import IsGone
from service.columns import Columns
from service.inference import Parts, asked_horizon, check_size, forecast_panel
from service.nixtla.answers import Answer, flat, intervals, notes_of, points, tokens
from service.nixtla.naming import resolve
from service.nixtla.panels import panel_of
from service.nixtla.payload import ForecastAsked


async def forecast(asked: ForecastAsked, parts: Parts, is_gone: IsGone | None = None) -> Answer:
    """The forecast of every series sent, h steps each."""
    served, _ = await resolve(asked.model, parts)
    horizon = asked_horizon(asked.h, served.forecaster)
    levels = asked.levels
    columns = Columns(("median",), tuple((str(level), level) for level in levels))
    check_size(len(asked.series), horizon, columns, parts.settings)
    sent = await parts.workers.run(lambda: panel_of(asked, served.forecaster, horizon=horizon))
    found = await forecast_panel(served, sent.panel, horizon, parts, is_gone)
    if parts.recorder is not None:
        parts.recorder.note_panel(served, sent.panel, [found], is_named=False)
    mean = points(found, parts.settings.point).ravel()
    body = {
        "mean": mean,
        "intervals": flat(intervals(found, levels)),
        "weights_x": sent.weights_x,
        "feature_contributions": None,
        **tokens(len(asked.series.y), len(mean)),
    }
    notes = (*notes_of([found], levels), *sent.notes)
    return Answer(body=body, served=served, notes=notes)
