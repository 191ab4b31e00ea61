"""What Prometheus reads: requests, batches, the queue, and what serves."""

import asyncio
import logging
import os
import re
import time
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.batching import Batcher
from service.models import ModelStore
from service.recorder import Recorder

log = logging.getLogger("service.requests")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
MAX_LABELS = 5_000
"""Kinds of answers (route, status, model, version) that are counted apart; further ones count as other."""

_Mode = Literal["livemax", "livesum"]
_PHASES = ("read", "parse", "wait", "compute", "write")
_ALL_PHASES = ", ".join(f"{phase};dur=%.2f" for phase in ("total", *_PHASES)).encode()
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The figures of one application; of all workers together where they share a folder for them."""

    def __init__(self, store: ModelStore, batcher: Batcher, recorder: Recorder | None = None) -> None:
        self.store = store
        self.recorder = recorder
        self.batcher = batcher
        own = self.registry = CollectorRegistry()
        by = ["route", "model", "version"]
        self.requests = Counter(
            "forecast_requests", "Requests by route, status and model.", ["status", *by], registry=own
        )
        self.seconds = Histogram(
            "forecast_request_seconds", "How long answers took.", by, buckets=_SECONDS, registry=own
        )
        self.rows = Histogram("forecast_batch_rows", "Series in one pass.", buckets=_ROWS, registry=own)
        self.phases = Counter(
            "forecast_phase_seconds", "Where the time of forecasts went.", ["phase"], registry=own
        )
        self.loads = Counter("forecast_model_loads", "Versions loaded.", registry=own)
        self.failed_loads = Counter(
            "forecast_model_load_failures", "Versions that could not be loaded.", registry=own
        )

        def gauge(name: str, meaning: str, *labels: str, mode: _Mode = "livemax") -> Gauge:
            return Gauge(name, meaning, labels, registry=own, multiprocess_mode=mode)

        self.queued = gauge("forecast_queue_rows", "Series that wait, by lane.", "lane", mode="livesum")
        self.oldest = gauge("forecast_queue_age_seconds", "How long the first one waits.")
        self.served = gauge("forecast_model_info", "1 for what serves.", "model", "version")
        self.age = gauge("forecast_model_age_seconds", "Since the version was loaded.", "model")
        self.accuracy = gauge(
            "forecast_model_accuracy",
            "On windows unseen in training; live_ ones on what came since.",
            "model",
            "version",
            "metric",
        )
        self.problems = gauge("forecast_model_problems", "Champions that do not serve for a fault.")
        self.workers = gauge("forecast_workers", "Processes that answer.", mode="livesum")
        self.recorded = Counter("forecast_recorded_series", "Series whose answer was recorded.", registry=own)
        self.unrecorded = Counter(
            "forecast_unrecorded_series", "Series whose answer was to be recorded and was not.", registry=own
        )
        batcher.on_batch = self.rows.observe
        store.on_load = self._load
        self._counted: dict[tuple[str, int, str, str], tuple[Counter, Histogram]] = {}
        self._shown: set[tuple[str, str]] = set()
        self._phases: dict[str, float] = {}
        self._kept = (0, 0)

    def count(self, route: str, status: int, seconds: float, model: str = "", version: str = "") -> None:
        """One answer; its counters are looked up once, which costs more than counting."""
        found = self._counted.get((route, status, model, version))
        if found is None:
            if len(self._counted) > MAX_LABELS:
                model = version = "other"
            found = (
                self.requests.labels(str(status), route, model, version),
                self.seconds.labels(route, model, version),
            )
            self._counted[route, status, model, version] = found
        found[0].inc()
        found[1].observe(seconds)

    def count_phases(self, phases: dict[str, float]) -> None:
        """Where the time of one answer went; handed on at the next look, which costs less."""
        for phase, seconds in phases.items():
            self._phases[phase] = self._phases.get(phase, 0.0) + seconds

    def _load(self, succeeded: bool) -> None:
        (self.loads if succeeded else self.failed_loads).inc()

    def look(self) -> None:
        """Bring what is not counted as it happens up to now."""
        phases, self._phases = self._phases, {}
        for phase, seconds in phases.items():
            self.phases.labels(phase).inc(max(0.0, seconds))
        for lane, rows in self.batcher.queued_rows.items():
            self.queued.labels(lane).set(rows)
        self.oldest.set(self.batcher.oldest_seconds)
        snapshot = self.store.snapshot
        serving = {(served.name, served.version): served for served in snapshot.champions.values()}
        for name, version in self._shown - set(serving):
            self.served.labels(name, version).set(0)
        for (name, version), served in serving.items():
            self.served.labels(name, version).set(1)
            self.age.labels(name).set(time.time() - served.loaded_at)
            live = {f"live_{metric}": value for metric, value in served.live.items()}
            for metric, value in (served.metrics | live).items():
                if value is not None:
                    self.accuracy.labels(name, version, metric).set(value)
        self._shown |= set(serving)
        self.problems.set(len(snapshot.problems))
        self._look_at_recorder()
        self.workers.set(1)

    def _look_at_recorder(self) -> None:
        if self.recorder is not None:
            before, self._kept = self._kept, (self.recorder.recorded, self.recorder.dropped)
            self.recorded.inc(self._kept[0] - before[0])
            self.unrecorded.inc(self._kept[1] - before[1])

    async def follow(self) -> None:
        """Look every second, for the workers that are not asked themselves."""
        while True:
            self.look()
            await asyncio.sleep(1.0)

    def text(self) -> bytes:
        """The figures now, as Prometheus reads them."""
        self.look()
        registry = self.registry
        if is_shared():
            from prometheus_client import multiprocess

            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        content: bytes = generate_latest(registry)
        return content


def is_shared() -> bool:
    """Whether several workers count into one folder."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ


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
                state = scope.get("state", {})
                phases = state.get("phases")
                timing = server_timing(seconds, phases)
                message["headers"] = [*message.get("headers", ()), (b"server-timing", timing)]
                model, version = state.get("answered_by", ("", ""))
                self.metrics.count(route, message["status"], seconds, model, version)
                if phases:
                    self.metrics.count_phases(phases)
                if self.logs_requests:
                    log_request(scope, route, message["status"], seconds)
            await send(message)

        await self.app(scope, receive, counted)


def server_timing(seconds: float, phases: dict[str, float] | None) -> bytes:
    """The value of `Server-Timing`: the whole, and its parts where they are known, in ms."""
    if phases is None:
        return b"total;dur=%.2f" % (1000 * seconds)
    if len(phases) == len(_PHASES):
        return _ALL_PHASES % (1000 * seconds, *[1000 * phases[phase] for phase in _PHASES])
    parts = [f"{phase};dur={1000 * own:.2f}" for phase, own in phases.items()]
    return ", ".join([f"total;dur={1000 * seconds:.2f}", *parts]).encode()


def log_request(scope: Scope, route: str, status: int, seconds: float) -> None:
    """One line for a request, where logs are read by machines."""
    state = scope.get("state", {})
    model, version = state.get("answered_by", (None, None))
    more = {"method": scope["method"], "route": route, "status": status, "ms": round(1000 * seconds, 2)}
    more |= {"request_id": state.get("request_id"), "model": model, "version": version}
    log.log(logging.DEBUG if route in _PROBES else logging.INFO, "request", extra=more)


_PROBES = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})
"""Asked for every few seconds by machines: no news."""


def route_of(path: str) -> str:
    """The route of a path without what callers may put there: as many labels as there are routes."""
    if path.startswith("/v1/models/"):
        return "/v1/models/{name}"
    if path.startswith("/v2/") and (job := _JOB.fullmatch(path)):
        return f"/v2/{job[1]}/async" if path.endswith("/async") else "/v2/jobs/{id}"
    return path if path in _PATHS else "other"


_JOB = re.compile(
    r"/v2/(forecast|cross_validation|anomaly_detection|finetune|simulate|explain|async)/(?:async|jobs/[^/]+(?:/cancel)?)"
)
_PATHS = frozenset(
    {
        *("/v1/forecasts", "/v1/models", "/v1/backtests", "/v1/anomalies"),
        *("/v2/forecast", "/v2/models", "/v2/cross_validation", "/v2/anomaly_detection"),
        *("/v2/online_anomaly_detection", "/v2/historic_forecast"),
        *("/model_params", "/validate_api_key", "/validate_token", "/usage"),
        *("/livez", "/readyz", "/startupz", "/metrics", "/docs", "/openapi.json"),
    }
)
