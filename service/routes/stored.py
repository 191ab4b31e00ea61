"""The forecasts that a retrain or a schedule has stored, read back."""

import math
from typing import Any

from fastapi import APIRouter

from forecast.errors import NotFoundError
from forecast.stored import age_seconds, announced

router = APIRouter(tags=["forecasts"])

_ONCE = ("model", "version", "unique_id", "cutoff", "stored_at")


@router.get(
    "/v1/forecasts/{model}/{unique_id:path}",
    summary="The latest stored forecast of a series",
    responses={
        200: {
            "content": {
                "application/json": {
                    "example": {
                        "model": "sales",
                        "version": "3",
                        "unique_id": "north",
                        "cutoff": "2026-01-31T00:00:00",
                        "stored_at": "2026-02-01T03:00:12+00:00",
                        "age_seconds": 3600.5,
                        "ds": ["2026-02-01T00:00:00"],
                        "median": [12.5],
                        "lo-80": [9.1],
                        "hi-80": [16.2],
                    }
                }
            }
        }
    },
)
def stored_forecast(model: str, unique_id: str) -> dict[str, Any]:
    """What `[forecast]` of the model's recipe has stored last, with the version that made it and its age."""
    found = announced(model).latest(unique_id)
    if found is None:
        raise NotFoundError(
            f"no forecast of the series {unique_id[:100]!r} is stored for the model {model!r}"
        )
    first = {name: str(found[name].iloc[0]) for name in _ONCE}
    columns = [name for name in found.columns if name == "median" or name.startswith(("lo-", "hi-"))]
    values = {name: [_number(value) for value in found[name]] for name in columns}
    stamps = [str(stamp) for stamp in found["ds"]]
    return {**first, "age_seconds": round(age_seconds(first["stored_at"]), 1), "ds": stamps, **values}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
