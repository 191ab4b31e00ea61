"""What a scheduler answers over HTTP: whether it lives, how its recipes do, and figures for Prometheus."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pipelines import triggers
from pipelines.schedule import Runner, Scheduler

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def serve(scheduler: Scheduler, *, host: str, port: int) -> ThreadingHTTPServer:
    """Answer GET /livez, /readyz, /status and /metrics in threads. Raises OSError where the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        """One request."""

        timeout = 10

        def do_GET(self) -> None:
            status, kind, body = _answer(scheduler, self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            """Probes come every few seconds; they are no news."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def status(scheduler: Scheduler) -> dict[str, Any]:
    """Every task with its last and next run."""
    return {"status": "ok", "recipes": [row(each, scheduler.next_start(each)) for each in scheduler.runners]}


def row(runner: Runner, next_start: datetime | None) -> dict[str, Any]:
    """One task as JSON: moments in UTC."""
    state = runner.state
    return {
        "recipe": runner.task.key,
        "next_run": None if next_start is None else text(next_start.timestamp()),
        "running_since": text(runner.running_since),
        "last_run": text(state.started),
        "last_success": text(state.succeeded),
        "last_verdict": state.verdict,
        "last_reason": state.reason,
        "last_duration_seconds": state.duration_seconds,
        "model_version": state.model_version,
    }


def text(moment: float | None) -> str | None:
    """Seconds since 1970 as ISO in UTC."""
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def _answer(scheduler: Scheduler, path: str) -> tuple[int, str, bytes]:
    if path == "/metrics":
        registry = CollectorRegistry()
        registry.register(Figures(scheduler))
        return 200, CONTENT_TYPE, generate_latest(registry)
    if path == "/livez":
        alive = scheduler.is_alive()
        return (200 if alive else 503), "application/json", _json({"status": "ok" if alive else "stuck"})
    if path in ("/readyz", "/status"):
        ready = scheduler.is_alive() and not scheduler.stopping.is_set()
        return (200 if ready else 503), "application/json", _json(status(scheduler))
    return 404, "application/json", _json({"error": "ask for /livez, /readyz, /status or /metrics"})


def _json(values: Any) -> bytes:
    return json.dumps(values).encode()


class Figures:
    """The state of a scheduler as metrics, read when they are asked for."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def describe(self) -> list[Metric]:
        """Nothing beforehand."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One family after the other."""
        runners = self._scheduler.runners
        gauges = {
            "last_success_timestamp_seconds": ("When the last successful run ended.", "succeeded"),
            "last_run_timestamp_seconds": ("When the last run began.", "started"),
            "last_duration_seconds": ("How long the last run took.", "duration_seconds"),
        }
        for name, (meaning, attribute) in gauges.items():
            family = GaugeMetricFamily(f"forecast_schedule_{name}", meaning, labels=["recipe"])
            for runner in runners:
                if (value := getattr(runner.state, attribute)) is not None:
                    family.add_metric([runner.task.key], float(value))
            yield family
        yield self._verdicts()
        yield self._next()
        yield self._periods()
        yield self._running()
        yield self._counts()

    def _verdicts(self) -> Metric:
        meaning = "1 for the verdict of the last run."
        family = GaugeMetricFamily("forecast_schedule_last_verdict", meaning, labels=["recipe", "verdict"])
        for runner in self._scheduler.runners:
            if runner.state.verdict:
                family.add_metric([runner.task.key, runner.state.verdict], 1.0)
        return family

    def _next(self) -> Metric:
        name = "forecast_schedule_next_run_timestamp_seconds"
        family = GaugeMetricFamily(name, "When a task is due next.", labels=["recipe"])
        for runner in self._scheduler.runners:
            if (due := self._scheduler.next_start(runner)) is not None:
                family.add_metric([runner.task.key], due.timestamp())
        return family

    def _periods(self) -> Metric:
        meaning = "The longest time between two of a task's next starts."
        family = GaugeMetricFamily("forecast_schedule_period_seconds", meaning, labels=["recipe"])
        for runner in self._scheduler.runners:
            period = triggers.period_seconds(runner.task.when, now=time.time())
            if period is not None:
                family.add_metric([runner.task.key], period)
        return family

    def _running(self) -> Metric:
        meaning = "For how long a run is going on; 0 for none."
        family = GaugeMetricFamily("forecast_schedule_running_seconds", meaning, labels=["recipe"])
        for runner in self._scheduler.runners:
            since = runner.running_since
            family.add_metric([runner.task.key], 0.0 if since is None else max(time.time() - since, 0.0))
        return family

    def _counts(self) -> Metric:
        meaning = "Runs of this process by verdict."
        family = CounterMetricFamily("forecast_schedule_runs", meaning, labels=["recipe", "verdict"])
        for runner in self._scheduler.runners:
            for verdict, count in sorted(runner.counts.items()):
                family.add_metric([runner.task.key, verdict], count)
        return family
