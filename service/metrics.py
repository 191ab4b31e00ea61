"""What Prometheus reads of one process: requests, batches, the queue, and what serves."""

import logging
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.batching import Batcher
from service.models import ModelStore

log = logging.getLogger("service.requests")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The figures of one application."""

    def __init__(self, store: ModelStore, batcher: Batcher) -> None:
        self.store = store
        self.batcher = batcher
        own = self.registry = CollectorRegistry()
        self.requests = Counter(
            "forecast_requests", "Requests by route and status.", ["route", "status"], registry=own
        )
        self.seconds = Histogram(
            "forecast_request_seconds", "How long answers took.", ["route"], buckets=_SECONDS, registry=own
        )
        self.answers = Counter(
            "forecast_answers", "Answered requests by model.", ["model", "version"], registry=own
        )
        self.rows = Histogram("forecast_batch_rows", "Series in one pass.", buckets=_ROWS, registry=own)
        self.waited = Histogram(
            "forecast_wait_seconds", "How long batches waited.", buckets=_SECONDS, registry=own
        )
        self.computed = Histogram(
            "forecast_compute_seconds", "How long passes took.", buckets=_SECONDS, registry=own
        )
        self.queued = Gauge("forecast_queue_rows", "Series that wait, by lane.", ["lane"], registry=own)
        self.oldest = Gauge("forecast_queue_age_seconds", "How long the first one waits.", registry=own)
        self.served = Gauge("forecast_model_info", "1 for what serves.", ["model", "version"], registry=own)
        self.age = Gauge("forecast_model_age_seconds", "Since a version was loaded.", ["model"], registry=own)
        self.loads = Gauge("forecast_model_loads", "Versions loaded by this process.", registry=own)
        self.problems = Gauge(
            "forecast_model_problems", "Champions that do not serve for a fault.", registry=own
        )
        batcher.on_batch = self._batch
        self._counted: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._answered: dict[tuple[str, str], Counter] = {}

    def count(self, route: str, status: int, seconds: float) -> None:
        """One answer; its counters are looked up once, which costs more than counting."""
        found = self._counted.get((route, status))
        if found is None:
            found = (self.requests.labels(route, str(status)), self.seconds.labels(route))
            self._counted[route, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def count_answer(self, model: str, version: str) -> None:
        """One answer made by a version."""
        found = self._answered.get((model, version))
        if found is None:
            found = self._answered[model, version] = self.answers.labels(model, version)
        found.inc()

    def _batch(self, rows: int, waited: float, seconds: float) -> None:
        self.rows.observe(rows)
        self.waited.observe(max(0.0, waited))
        self.computed.observe(seconds)

    def text(self) -> bytes:
        """The figures now, as Prometheus reads them."""
        for lane, rows in self.batcher.queued_rows.items():
            self.queued.labels(lane).set(rows)
        self.oldest.set(self.batcher.oldest_seconds)
        snapshot = self.store.snapshot
        self.served.clear()
        self.age.clear()
        for served in snapshot.champions.values():
            self.served.labels(served.name, served.version).set(1)
            self.age.labels(served.name).set(time.time() - served.loaded_at)
        self.loads.set(self.store.num_loads)
        self.problems.set(len(snapshot.problems))
        content: bytes = generate_latest(self.registry)
        return content


class MetricsMiddleware:
    """Counts every answer and says in `Server-Timing` how long it took."""

    def __init__(self, app: ASGIApp, metrics: Metrics, *, logs_requests: bool = False) -> None:
        self.app = app
        self.logs_requests = logs_requests
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        route = route_of(scope["path"])

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = time.perf_counter() - started
                timing = b"total;dur=%.2f" % (1000 * seconds)
                message["headers"] = [*message.get("headers", ()), (b"server-timing", timing)]
                self.metrics.count(route, message["status"], seconds)
                self._log(scope, route, message["status"], seconds)
                for model, version in scope.get("state", {}).get("answered_by", ()):
                    self.metrics.count_answer(model, version)
            await send(message)

        await self.app(scope, receive, counted)

    def _log(self, scope: Scope, route: str, status: int, seconds: float) -> None:
        """One line for each request where logs are read by machines."""
        if not self.logs_requests:
            return
        state = scope.get("state", {})
        model, version = next(iter(state.get("answered_by", ())), (None, None))
        more = {"method": scope["method"], "route": route, "status": status, "ms": round(1000 * seconds, 2)}
        more |= {"request_id": state.get("request_id"), "model": model, "version": version}
        log.info("request", extra=more)


def route_of(path: str) -> str:
    """The route of a path without what callers may put there: as many labels as there are routes."""
    if path.startswith("/v1/models/"):
        return "/v1/models/{name}"
    return path if path in _PATHS else "other"


_PATHS = frozenset(
    {
        *("/v1/forecasts", "/v1/models", "/v1/backtests", "/v1/anomalies"),
        *("/v2/forecast", "/v2/models", "/v2/cross_validation", "/v2/anomaly_detection"),
        *("/v2/online_anomaly_detection", "/model_params", "/validate_api_key"),
        *("/livez", "/readyz", "/startupz", "/metrics", "/docs", "/openapi.json"),
    }
)
