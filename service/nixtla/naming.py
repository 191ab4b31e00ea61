"""Which model a request of the nixtla client means: ours by name, the client's own names by the default."""

from forecast.errors import NotFoundError
from service.inference import Parts
from service.models import Served

CLIENT_NAMES = ("timegpt-", "azureai")
"""How the client calls models that are not ours: `timegpt-2.1` is what it asks for when nobody names one."""


async def resolve(asked: str, parts: Parts) -> tuple[Served, str | None]:
    """The version that a name means and the alias it was asked by; NotFoundError lists what there is."""
    if not asked.startswith(CLIENT_NAMES) or asked in (await parts.store.settled()).champions:
        return await parts.store.resolve(asked)
    if not parts.settings.default_model:
        raise NotFoundError(
            f"{asked!r} is none of our models and there is no default; pass model=..., one of: "
            f"{_names(parts)}; or set FORECAST_DEFAULT_MODEL where the service is started"
        )
    return await parts.store.resolve(parts.settings.default_model)


def _names(parts: Parts) -> str:
    names = sorted(parts.store.snapshot.champions)
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(names[:20]) + more or "none yet (`forecast retrain RECIPE` trains and promotes one)"
