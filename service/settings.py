"""What an operator sets: one frozen value from flags, the environment and defaults, in that order."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from forecast.errors import SpecError

_SIZES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def _setting(default: Any, variable: str, meaning: str) -> Any:
    return field(default=default, metadata={"variable": variable, "meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the service runs. `table()` lists every setting for the docs."""

    host: str = _setting("127.0.0.1", "FORECAST_HOST", "address to listen on")
    port: int = _setting(8000, "FORECAST_PORT", "port to listen on; 0 takes a free one and prints it")
    workers: int = _setting(
        1, "FORECAST_WORKERS", "processes that answer, sharing the port; 0: one for each core"
    )
    models: tuple[str, ...] = _setting((), "FORECAST_MODELS", "names to serve, comma separated; empty: all")
    poll_seconds: float = _setting(2.0, "FORECAST_POLL_SECONDS", "how often the registry is asked for news")
    lookup_seconds: float = _setting(
        15.0, "FORECAST_LOOKUP_SECONDS", "how long a request waits for a version that is not cached yet"
    )
    max_body: int = _setting(
        64 * 2**20, "FORECAST_MAX_BODY", "largest request body, in bytes or with a unit: 64MiB"
    )
    max_values: int = _setting(
        10_000_000,
        "FORECAST_MAX_VALUES",
        "most numbers that one answer may hold (series x horizon x columns)",
    )
    queue_rows: int = _setting(
        512, "FORECAST_QUEUE_ROWS", "series that may wait for the model before others are held and refused"
    )
    queue_seconds: float = _setting(
        0.25, "FORECAST_QUEUE_SECONDS", "how long a small request may wait for its turn before 503"
    )
    open_requests: int = _setting(
        2048, "FORECAST_OPEN_REQUESTS", "requests that are read or answered at a time; more are refused"
    )
    hold_seconds: float = _setting(
        0.25, "FORECAST_HOLD_SECONDS", "how long a request waits for room in the queue before 503"
    )
    request_seconds: float = _setting(
        30.0, "FORECAST_REQUEST_SECONDS", "deadline of a request: what waits for longer is answered 503"
    )
    runtime: str = _setting(
        "auto", "FORECAST_RUNTIME", "onnx, torch, or auto: the faster one for each model, as measured here"
    )
    threads: int = _setting(
        0, "FORECAST_THREADS", "threads that read and write bulk requests; 0: one for each core, at most 8"
    )
    body_seconds: float = _setting(
        30.0, "FORECAST_BODY_SECONDS", "how long the headers, and after them the body, of a request may take"
    )
    bulk_requests: int = _setting(
        8, "FORECAST_BULK_REQUESTS", "large bodies that are read and answered at a time; others are held"
    )
    insecure: bool = _setting(
        False, "FORECAST_INSECURE", "listen beyond this machine although there are no API keys"
    )
    drain_seconds: float = _setting(
        0.0,
        "FORECAST_DRAIN_SECONDS",
        "how long requests are still taken after SIGTERM while /readyz says 503",
    )
    default_model: str = _setting(
        "",
        "FORECAST_DEFAULT_MODEL",
        "model that answers where the nixtla client asks for timegpt-*; empty: 404",
    )
    point: str = _setting(
        "median", "FORECAST_POINT", "what the nixtla client gets as its point forecast: median or mean"
    )
    jobs_running: int = _setting(2, "FORECAST_JOBS_RUNNING", "jobs that each process computes at a time")
    jobs_waiting: int = _setting(
        100, "FORECAST_JOBS_WAITING", "jobs that may wait or be computed; others are answered 429"
    )
    jobs_bytes: int = _setting(
        2**30, "FORECAST_JOBS_BYTES", "most that jobs and their results may take on disk, in bytes"
    )
    jobs_keep_seconds: float = _setting(
        86_400.0, "FORECAST_JOBS_KEEP_SECONDS", "how long the result of a job can be fetched"
    )
    job_seconds: float = _setting(
        3_600.0, "FORECAST_JOB_SECONDS", "how long a job may be computed; clients may ask for less"
    )
    record: bool = _setting(
        False, "FORECAST_RECORD", "keep what was answered, for `forecast monitor`: forecasts and last values"
    )
    record_folder: str = _setting(
        "",
        "FORECAST_RECORD_FOLDER",
        "where answers are kept, and looked for by `forecast monitor`; empty: FORECAST_HOME/answers",
    )
    record_bytes: int = _setting(
        2**30, "FORECAST_RECORD_BYTES", "most that recorded answers may take on disk; the oldest go first"
    )
    record_seconds: float = _setting(
        10.0, "FORECAST_RECORD_SECONDS", "how often what was answered is written to disk"
    )
    stop_seconds: int = _setting(20, "FORECAST_STOP_SECONDS", "how long open requests may take after SIGTERM")
    otel: bool = _setting(
        False,
        "FORECAST_OTEL",
        "send traces and metrics by OTLP, as OTEL_EXPORTER_OTLP_ENDPOINT says (extra `otel`)",
    )
    log_level: str = _setting(
        "info", "FORECAST_LOG_LEVEL", "debug, info, warning or error; logs go to stderr"
    )

    log_format: str = _setting(
        "text", "FORECAST_LOG_FORMAT", "text, or json: one object per line, with one line for each request"
    )

    def __post_init__(self) -> None:
        self._require("port", 0 <= self.port <= 65535, "a port from 0 to 65535")
        for name in (
            "poll_seconds",
            "lookup_seconds",
            "hold_seconds",
            "queue_seconds",
            "request_seconds",
            "body_seconds",
            "record_seconds",
        ):
            self._require(name, 0 < getattr(self, name) <= 3600, "seconds above 0 and up to 3600")
        for name in ("max_body", "max_values", "queue_rows", "bulk_requests", "open_requests"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("workers", 0 <= self.workers <= 256, "a number from 0 to 256")
        self._require("drain_seconds", 0 <= self.drain_seconds <= 3600, "seconds from 0 to 3600")
        self._require("threads", 0 <= self.threads <= 64, "a number from 0 to 64")
        self._require("stop_seconds", self.stop_seconds >= 0, "seconds from 0 up")
        for name in ("jobs_running", "jobs_waiting", "jobs_bytes", "record_bytes"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("job_seconds", 0 < self.job_seconds <= 3600, "seconds above 0 and up to 3600")
        self._require("jobs_keep_seconds", 0 < self.jobs_keep_seconds <= 10**8, "seconds above 0")
        self._require("point", self.point in ("median", "mean"), "median or mean")
        self._require("runtime", self.runtime in ("auto", "onnx", "torch"), "auto, onnx or torch")
        self._require("log_format", self.log_format in ("text", "json"), "text or json")
        self._require("log_level", self.log_level in _LOG_LEVELS, " or ".join(_LOG_LEVELS))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **flags: Any) -> "Settings":
        """Settings with `flags` first (None: not given), then the environment, then the defaults.

        SpecError when a variable cannot be read, naming it.
        """
        environment = os.environ if environment is None else environment
        given = {name: value for name, value in flags.items() if value is not None}
        for setting in fields(cls):
            text = environment.get(setting.metadata["variable"], "").strip()
            if text and setting.name not in given:
                given[setting.name] = _read(setting.metadata["variable"], text, like=setting.default)
        return cls(**given)

    @property
    def num_workers(self) -> int:
        """Processes that answer."""
        return self.workers or len(os.sched_getaffinity(0))

    def to_environment(self) -> dict[str, str]:
        """The variables that `from_environment` reads these settings from."""
        values = {f.metadata["variable"]: getattr(self, f.name) for f in fields(self)}
        return {
            variable: ",".join(value)
            if isinstance(value, tuple)
            else str(value).lower()
            if isinstance(value, bool)
            else str(value)
            for variable, value in values.items()
        }

    @classmethod
    def table(cls) -> list[tuple[str, str, str]]:
        """One row per setting: its environment variable, its default and what it means."""
        return [(f.metadata["variable"], _shown(f.default), f.metadata["meaning"]) for f in fields(cls)]

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            variable = self.__dataclass_fields__[name].metadata["variable"]
            raise SpecError(f"{variable} has to be {wanted}; got {getattr(self, name)!r}")


_LOG_LEVELS = ("debug", "info", "warning", "error")


def _read(variable: str, text: str, *, like: Any) -> Any:
    """The text of an environment variable as the type of its default."""
    try:
        if isinstance(like, tuple):
            return tuple(name.strip() for name in text.split(",") if name.strip())
        if variable == "FORECAST_MAX_BODY":
            return _size(text)
        if isinstance(like, bool):
            return _BOOLEANS[text.lower()]
        return type(like)(text)
    except (ValueError, KeyError) as error:
        raise SpecError(f"{variable} has to be {_KINDS[type(like)]}; got {text!r}") from error


_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _size(text: str) -> int:
    """Bytes of "67108864", "64M", "64 MB" or "64MiB"; the units are binary."""
    match = re.fullmatch(r"(\d+)\s*([kmg]?)(i?b)?", text.lower())
    if not match:
        raise ValueError(text)
    return int(match[1]) * _SIZES[match[2]]


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default == () else str(default)


def markdown() -> str:
    """The settings as the table of the documentation."""
    rows = [f"| `{variable}` | {default} | {meaning} |" for variable, default, meaning in Settings.table()]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(markdown())
