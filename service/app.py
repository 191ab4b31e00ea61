"""The HTTP application: the parts, put together."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from forecast import __version__
from forecast.errors import SpecError
from service.admission import AdmissionMiddleware, refuse
from service.answers import ProblemOut
from service.batching import Batcher
from service.errors import MEDIA_TYPE, add_handlers
from service.head import HeadMiddleware
from service.inference import Parts, Workers
from service.job_runner import JobRunner
from service.jobs import JobStore
from service.manifest import Cache
from service.metrics import Metrics, MetricsMiddleware, is_shared
from service.models import ModelStore
from service.nixtla import jobs as nixtla_jobs
from service.nixtla import metadata as nixtla_metadata
from service.nixtla import routes as nixtla_routes
from service.quick import App, Quick
from service.recorder import Recorder
from service.request_id import HEADER, RequestIdMiddleware
from service.routes import anomalies, backtests, docs, forecasts, health, models, stored
from service.schemas import AnomalyRequest, BacktestRequest, ForecastRequest
from service.security import OPEN, Keyring, SecurityMiddleware
from service.settings import Settings

_ABOUT = """Forecasts by every model whose version carries the alias `champion`.

Errors are RFC 9457 problem details (`application/problem+json`) with at most 20 `errors`."""

ROUTERS = (
    forecasts.router,
    stored.router,
    backtests.router,
    anomalies.router,
    models.router,
    health.router,
    docs.router,
    nixtla_routes.router,
    nixtla_jobs.router,
    nixtla_metadata.router,
)
"""Everything that answers; a new dialect is one more line."""

_USUAL_PROBLEMS = (400, 401, 403, 404, 408, 413, 415, 422, 500, 503)
"""What a route may answer that `_PROBLEMS` does not name."""

_PROBLEMS = {
    "post /v1/forecasts": (400, 401, 403, 404, 408, 413, 415, 422, 500, 503),
    "post /v1/backtests": (400, 401, 403, 404, 408, 413, 415, 422, 500, 503),
    "post /v1/anomalies": (400, 401, 403, 404, 408, 413, 415, 422, 500, 503),
    "get /v1/forecasts/{model}/{unique_id}": (401, 403, 404, 500, 503),
    "get /v1/models": (401, 403, 500),
    "get /v1/models/{name}": (401, 403, 404, 422, 500, 503),
    "get /livez": (500,),
    "get /startupz": (500,),
    "get /readyz": (500,),
}
_REASONS = {
    400: "The body cannot be read",
    401: "No valid API key, where there are keys",
    403: "The API key has not the scope of this path",
    408: "The body did not arrive in time",
    404: "No model, version or alias of that name",
    413: "The body is too large",
    415: "The body has a content-encoding other than gzip or zstd",
    422: "The request does not fit the documented form, or the model",
    500: "A fault of the service",
    503: "Cannot be answered now; Retry-After says when to ask again",
}


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application over the cache folder; `forecast serve` starts the watcher that fills it."""
    settings = settings or Settings.from_environment()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        parts: Parts = app.state.parts
        parts.batcher.start()
        await parts.store.start()
        looking = asyncio.create_task(app.state.metrics.follow()) if is_shared() else None
        app.state.job_runner.start()
        if parts.recorder is not None:
            parts.recorder.start()
        yield
        await app.state.job_runner.stop()
        if parts.recorder is not None:
            await asyncio.to_thread(parts.recorder.stop)
        if looking is not None:
            looking.cancel()
        await parts.store.stop()
        parts.batcher.stop()
        parts.workers.stop()

    app = App(
        title="forecast",
        version=__version__,
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        **telemetry(settings),
    )
    parts = Parts(
        settings=settings,
        store=ModelStore(settings, Cache.of(settings.models)),
        workers=Workers(settings),
        batcher=Batcher(settings),
        bulk=asyncio.Semaphore(settings.bulk_requests),
        recorder=Recorder(settings) if settings.record else None,
    )
    app.state.parts = parts
    app.state.is_stopping = False
    app.state.jobs = JobStore(settings)
    app.state.job_runner = JobRunner(app.state.jobs, settings, partial(nixtla_jobs.compute, parts=parts))
    app.state.settings, app.state.store = parts.settings, parts.store
    app.state.workers, app.state.batcher = parts.workers, parts.batcher
    for router in ROUTERS:
        app.include_router(router)
    add_handlers(app)
    app.state.metrics = Metrics(parts.store, parts.batcher, parts.recorder)
    app.state.keyring = Keyring()
    app.add_middleware(HeadMiddleware)
    app.add_middleware(SecurityMiddleware, keyring=app.state.keyring)
    app.add_middleware(AdmissionMiddleware, settings=settings)
    counting = {"metrics": app.state.metrics, "logs_requests": settings.log_format == "json"}
    app.add_middleware(MetricsMiddleware, **counting)  # around those that refuse, which counts too
    app.add_middleware(RequestIdMiddleware)
    app.state.refuse = MetricsMiddleware(refuse, **counting)
    if not settings.otel:  # FastAPI sees only what goes through it
        app.quick = Quick(parts, app.state.keyring, app.state.metrics)
    _describe(app)
    return app


def telemetry(settings: Settings) -> dict[str, Any]:
    """FastAPI's own OpenTelemetry where it is asked for; SpecError where its packages are missing."""
    if not settings.otel:
        return {}
    if importlib.util.find_spec("opentelemetry.exporter") is None:
        raise SpecError("FORECAST_OTEL needs OpenTelemetry's exporter: pip install 'forecast[otel]'")
    return {"telemetry": {"auto_configure": True, "exclude": lambda scope: scope["path"] in OPEN}}


def _describe(app: FastAPI) -> None:
    """Make the OpenAPI document exact: the body, which routes read raw, and the errors each may answer."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=_ABOUT, routes=app.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in (ForecastRequest, BacktestRequest, AnomalyRequest, ProblemOut):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    problem = {"schema": {"$ref": "#/components/schemas/ProblemOut"}}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status in _PROBLEMS.get(f"{method} {path}", _USUAL_PROBLEMS):
                described = {"description": _REASONS[status], "content": {MEDIA_TYPE: problem}}
                operation["responses"].setdefault(str(status), described)
            for response in operation["responses"].values():
                response["headers"] = {HEADER: {"schema": {"type": "string"}}}
    return document
