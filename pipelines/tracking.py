"""The only writer of MLflow runs: an experiment per recipe, a run per retrain, a child per candidate."""

import json
import logging
import math
import os
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from filelock import Timeout

from forecast import home
from forecast.errors import TrackingError
from pipelines.lock import LOCK_URL, database_lock
from pipelines.spool import Spool, waiting

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Run

CONNECT_SECONDS = 3.0
"""How long a tracking server may take to accept a connection."""

IDENTITY = "forecast.identity"
"""The tag that a retrain is recognised by: recipe, data and package version in one digest."""

CONTINUED = "live_num_values"
"""The metric that every continuation of a monitoring run logs."""

METRICS_PER_BATCH = 1000
PARAMS_PER_BATCH = 100
"""What MLflow takes in one call."""

_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
"""What we ask of MLflow; a setting of the user's own environment wins, except that pickle stays off."""


def client() -> "MlflowClient":
    """A client of the tracking server, or of the embedded database, which is created when it is missing.

    Raises TrackingError within seconds when the server cannot be used.
    """
    return _client(home.tracking_uri())


def masked(uri: str) -> str:
    """The address without a password: fit for output, logs and tags."""
    parts = urlsplit(uri)
    if not parts.password:
        return uri
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.split(':')[0]}:***@{host}"))


@contextmanager
def answering() -> Iterator[None]:
    """Turn what MLflow, its database or its network raises into a TrackingError that says what to do."""
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, requests.RequestException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        raise TrackingError(
            f"MLflow at {masked(home.tracking_uri())} failed: {home.first_line(error)}; check the server, "
            "its database and its free space, then run the same command again"
        ) from error


def experiment(name: str) -> str:
    """The id of the experiment `name`: created on first use, restored where somebody deleted it."""
    found = client().get_experiment_by_name(name)
    if found is None:
        return _create_experiment(name)
    if found.lifecycle_stage == "deleted":
        client().restore_experiment(found.experiment_id)
    return str(found.experiment_id)


@dataclass
class OpenRun:
    """A run that is being written, in batches: a call costs milliseconds, a value almost nothing.

    Writing ends no training: what the server does not take, because it is gone or its disk is full, is kept
    in a spool, together with all that follows, and delivered by the next command.
    """

    run_id: str
    """A name of our own where the run could not be created yet."""
    experiment_id: str
    spool: Spool | None = None
    held: list[tuple[str, float, int, int]] | None = None
    """Metrics that wait for the end of a `together`."""

    def settle(self) -> None:
        """Deliver what was spooled; raises TrackingError while the server does not answer."""
        if self.spool is not None:
            _require_open_port(home.tracking_uri())
            with answering():
                self.run_id = _deliver(client(), self.spool)
            self.spool = None

    def write(self, entry: Mapping[str, Any], file: Path | None = None) -> None:
        """Send one entry to the server, or keep it for later."""
        if self.spool is None:
            try:
                _require_open_port(home.tracking_uri())
                _send(client(), self.run_id, entry, file)
                return
            except lost() as error:
                self.spool = _begin_spool({"run_id": self.run_id}, error)
        self.spool.append(entry, file)

    def next_step(self) -> int:
        """The step after the last one of a run that is continued, from its metric `live_num_values`."""
        return len(client().get_metric_history(self.run_id, CONTINUED))

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters; nested tables become dotted names, None is left out."""
        items = [(key, str(value)) for key, value in flat(values).items() if value is not None]
        for start in range(0, len(items), PARAMS_PER_BATCH):
            self.write({"kind": "params", "items": items[start : start + PARAMS_PER_BATCH]})

    @contextmanager
    def together(self) -> Iterator[None]:
        """Send the metrics that the block logs at its end, in as few calls as they fit in."""
        self.held = []
        try:
            yield
        finally:
            items, self.held = self.held, None
            self._send_metrics(items)

    def metrics(self, values: Mapping[str, float | None], *, step: int = 0) -> None:
        """Log the finite ones of `values`; what is missing or infinite would ruin the charts."""
        self._log_metrics((name, value, step, None) for name, value in values.items())

    def metric_by_step(self, name: str, values: Sequence[float]) -> None:
        """Log a curve over the horizon: `values[0]` is the first step ahead and is logged with step 1."""
        self._log_metrics((name, float(value), step, None) for step, value in enumerate(values, start=1))

    def curve(self, points: Iterable[Mapping[str, float | None]]) -> None:
        """Log points of curves; each names its values, its `step`, and `at` (ms since 1970) if not now."""
        self._log_metrics(
            (name, value, int(point["step"] or 0), point.get("at"))
            for point in points
            for name, value in point.items()
            if name not in ("step", "at")
        )

    def tags(self, values: Mapping[str, object]) -> None:
        """Set tags."""
        items = [(key, str(value)) for key, value in values.items()]
        for start in range(0, len(items), PARAMS_PER_BATCH):
            self.write({"kind": "tags", "items": items[start : start + PARAMS_PER_BATCH]})

    def input(self, *, name: str, digest: str, source: str, schema: str, profile: str, context: str) -> None:
        """Name the data that this run has read; the data itself stays where it is."""
        data = {"name": name, "digest": digest[:36], "source_type": "local", "source": source}
        self.write(
            {"kind": "input", "data": {**data, "schema": schema, "profile": profile}, "context": context}
        )

    def json(self, values: object, file_name: str) -> None:
        """Keep plain values as a JSON file of the run."""
        with tempfile.TemporaryDirectory(prefix="forecast-") as scratch:
            path = Path(scratch) / file_name
            path.write_text(json.dumps(values, indent=2), encoding="utf-8")
            self.write({"kind": "file"}, path)

    def table(self, frame: "pd.DataFrame", file_name: str) -> None:
        """Keep a table as a Parquet file of the run."""
        with tempfile.TemporaryDirectory(prefix="forecast-") as scratch:
            path = Path(scratch) / file_name
            frame.to_parquet(path, index=False)
            self.write({"kind": "file"}, path)

    def figure(self, figure: "Figure", file_name: str) -> None:
        """Keep a figure as a PNG file of the run, shown in its pages."""
        with tempfile.TemporaryDirectory(prefix="forecast-") as scratch:
            path = Path(scratch) / Path(file_name).name
            figure.savefig(path, format="png")
            folder = str(Path(file_name).parent)
            self.write({"kind": "file", "folder": None if folder == "." else folder}, path)

    def _log_metrics(self, points: Iterable[tuple[str, float | None, int, float | None]]) -> None:
        now = int(time.time() * 1000)
        items = [
            (name, float(value), int(at or now), step)
            for name, value, step, at in points
            if value is not None and math.isfinite(value)
        ]
        if self.held is None:
            self._send_metrics(items)
        else:
            self.held += items

    def _send_metrics(self, items: Sequence[tuple[str, float, int, int]]) -> None:
        for start in range(0, len(items), METRICS_PER_BATCH):
            self.write({"kind": "metrics", "items": [*items[start : start + METRICS_PER_BATCH]]})


@contextmanager
def run(
    experiment_id: str,
    *,
    name: str,
    tags: Mapping[str, object] | None = None,
    parent: OpenRun | None = None,
    may_wait: bool = False,
) -> Iterator[OpenRun]:
    """An open run; it ends as FINISHED, as FAILED by an error, as KILLED by an interrupt.

    A child run that cannot be created is spooled as a whole; a run without a parent needs the server, unless
    it `may_wait`.
    """
    texts = {key: str(value) for key, value in (tags or {}).items()} | {"mlflow.source.name": "forecast"}
    if parent:
        texts["mlflow.parentRunId"] = parent.run_id
    opened = _open(experiment_id, name=name, tags=texts, may_wait=may_wait or parent is not None)
    status = "KILLED"
    try:
        yield opened
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        opened.write({"kind": "end", "status": status, "time": int(time.time() * 1000)})


def continued(experiment_id: str, *, name: str, tags: Mapping[str, str]) -> OpenRun:
    """The finished run that carries these tags, to be written to again; made where there is none."""
    conditions = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
    found = client().search_runs([experiment_id], " and ".join(conditions), max_results=1)
    if found:
        return OpenRun(str(found[0].info.run_id), experiment_id)
    with run(experiment_id, name=name, tags=tags) as made:
        return made


def _open(experiment_id: str, *, name: str, tags: dict[str, str], may_wait: bool) -> OpenRun:
    begun = int(time.time() * 1000)
    try:
        _require_open_port(home.tracking_uri())
        created = client().create_run(experiment_id, start_time=begun, run_name=name, tags=tags)
    except lost() as error:
        if not may_wait:
            raise
        header = {"run_id": None, "experiment_id": experiment_id, "name": name, "tags": tags, "begun": begun}
        return OpenRun(f"spooled-{uuid.uuid4().hex}", experiment_id, _begin_spool(header, error))
    return OpenRun(str(created.info.run_id), experiment_id)


def lost() -> tuple[type[Exception], ...]:
    """What says that something did not arrive at the server."""
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    return (
        TrackingError,
        MlflowException,
        requests.RequestException,
        sqlalchemy.exc.SQLAlchemyError,
        OSError,
    )


def _begin_spool(header: Mapping[str, Any], error: Exception) -> Spool:
    spool = Spool.begin({**header, "tracking_uri": masked(home.tracking_uri())})
    print(
        f"note: MLflow at {masked(home.tracking_uri())} does not take what is logged "
        f"({home.first_line(error)}); it is kept in {spool.folder} and "
        "delivered by the next command",
        file=sys.stderr,
    )
    return spool


def _send(to: "MlflowClient", run_id: str, entry: Mapping[str, Any], file: Path | None) -> None:
    """One entry of a run to the server."""
    from mlflow import entities

    match entry["kind"]:
        case "params":
            to.log_batch(run_id, params=[entities.Param(*item) for item in entry["items"]])
        case "tags":
            to.log_batch(run_id, tags=[entities.RunTag(*item) for item in entry["items"]])
        case "metrics":
            to.log_batch(run_id, metrics=[entities.Metric(*item) for item in entry["items"]])
        case "input":
            tag = entities.InputTag("mlflow.data.context", entry["context"])
            data = entities.Dataset(**entry["data"])
            to.log_inputs(run_id, datasets=[entities.DatasetInput(data, [tag])])
        case "file":
            to.log_artifact(run_id, str(file), entry.get("folder"))
        case "end":
            to.set_terminated(run_id, entry["status"], entry["time"])


def _deliver(to: "MlflowClient", spool: Spool) -> str:
    """Everything of a spool to the server; returns the run. Entries that it refuses are left out."""
    from mlflow.exceptions import MlflowException

    header = spool.header
    if header["run_id"] is None:
        created = to.create_run(
            header["experiment_id"], start_time=header["begun"], run_name=header["name"], tags=header["tags"]
        )
        header["run_id"] = str(created.info.run_id)
        spool.write_header(header)
    for entry, file in spool.entries():
        try:
            _send(to, header["run_id"], entry, file)
        except MlflowException as error:
            if error.error_code not in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
                raise
        spool.count_delivered()
    spool.remove()
    return str(header["run_id"])


def _deliver_waiting(to: "MlflowClient", uri: str) -> None:
    """What earlier commands could not deliver; what cannot be delivered now waits on."""
    mine = [each for each in waiting() if each.header["tracking_uri"] == masked(uri)]
    refused: tuple[type[Exception], ...] = (*lost(), Timeout)
    try:
        with home.database_lock(timeout_seconds=0):
            for spool in mine:
                if not spool.is_being_written():
                    _deliver(to, spool)
    except refused:
        return


def newest_run(experiment_name: str, *, tags: Mapping[str, str]) -> "Run | None":
    """The newest finished run that carries all these tags; None where there is none."""
    found = runs(experiment_name, tags=tags, most=1)
    return found[0] if found else None


def table_of(run_id: str, file_name: str) -> "pd.DataFrame | None":
    """A Parquet file of a run; None where the run has none, or it cannot be read."""
    import pandas as pd
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="forecast-") as scratch:
        try:
            return pd.read_parquet(Path(client().download_artifacts(run_id, file_name, scratch)))
        except (MlflowException, OSError, ValueError):
            return None


def json_of(run_id: str, file_name: str) -> Any:
    """The content of a JSON file of a run; None where the run has none, or it cannot be read."""
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="forecast-") as scratch:
        try:
            path = Path(client().download_artifacts(run_id, file_name, scratch))
            return json.loads(path.read_text(encoding="utf-8"))
        except (MlflowException, OSError, ValueError):
            return None


def runs(experiment_name: str, *, tags: Mapping[str, str], most: int = 1000) -> "list[Run]":
    """The finished runs that carry all these tags, newest first."""
    found = client().get_experiment_by_name(experiment_name)
    if found is None:
        return []
    conditions = [
        "attributes.status = 'FINISHED'",
        *(f"tags.`{key}` = '{value}'" for key, value in tags.items()),
    ]
    return list(
        client().search_runs(
            [found.experiment_id],
            " and ".join(conditions),
            max_results=most,
            order_by=["attributes.start_time DESC"],
        )
    )


def children(parent: "Run") -> "list[Run]":
    """The child runs of a parent run, in the order in which they were started."""
    return list(
        client().search_runs(
            [parent.info.experiment_id],
            f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'",
            order_by=["attributes.start_time ASC"],
        )
    )


def retrains(experiment_name: str) -> "list[Run]":
    """The parent runs of an experiment, however they ended, newest first; promotions are not among them."""
    found = client().get_experiment_by_name(experiment_name)
    if found is None:
        return []
    listed: list[Run] = []
    token = None
    while True:
        page = client().search_runs(
            [found.experiment_id],
            f"tags.`{IDENTITY}` != ''",
            max_results=1000,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        listed.extend(run for run in page if "mlflow.parentRunId" not in run.data.tags)
        token = page.token
        if not token:
            return listed


def close_abandoned(experiment_name: str) -> None:
    """End the runs of retrains that were killed: nobody else will. The recipe's lock has to be held.

    Where several hosts share a server without a shared lock, another one may be at work: nothing is touched.
    """
    if not home.is_embedded() and not os.environ.get(LOCK_URL):
        return
    found = client().get_experiment_by_name(experiment_name)
    if found is None:
        return
    running = client().search_runs([found.experiment_id], "attributes.status = 'RUNNING'", max_results=1000)
    for run in running:
        if IDENTITY in run.data.tags or "mlflow.parentRunId" in run.data.tags:
            client().set_terminated(run.info.run_id, "KILLED")


def parent_of(run_id: str) -> str | None:
    """The parent run of a run; None where it has none, or is gone."""
    from mlflow.exceptions import MlflowException

    try:
        parent: str | None = client().get_run(run_id).data.tags.get("mlflow.parentRunId")
    except MlflowException:
        return None
    return parent


def delete_with_children(parent: "Run") -> None:
    """Mark a run and its child runs as deleted; `mlflow gc` removes them and their files."""
    for run in [*children(parent), parent]:
        client().delete_run(run.info.run_id)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, the names joined by dots."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result


@contextmanager
def addressed() -> Iterator[None]:
    """Point MLflow's global functions at our server for a while; its logging of models knows no other way."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(home.tracking_uri())
    mlflow.set_registry_uri(home.tracking_uri())
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before or "")
        mlflow.set_registry_uri("")
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def prepare(uri: str) -> None:
    """Set MLflow up for this process; TrackingError within seconds where nobody answers at `uri`."""
    _configure()
    _require_open_port(uri)
    import mlflow  # noqa: F401  # sets its loggers up, which are then quietened

    _quieten()
    _require_login(uri)


@lru_cache(maxsize=4)
def _client(uri: str) -> "MlflowClient":
    prepare(uri)
    from mlflow import MlflowClient

    with answering(), _creation_lock(uri):
        made = MlflowClient(tracking_uri=uri, registry_uri=uri)
        made.search_experiments(max_results=1)
        made.search_registered_models(max_results=1)
    if waiting():
        _deliver_waiting(made, uri)
    return made


def _creation_lock(uri: str) -> AbstractContextManager[None]:
    """What lets one process create the tables of an empty database; a server has created its own."""
    if home.is_embedded():
        return home.database_lock()
    return nullcontext() if uri.startswith(("http://", "https://")) else database_lock(uri)


def _configure() -> None:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"


def _quieten() -> None:
    """Progress notes of MLflow and its migration tool are not ours to show; errors come as exceptions."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _require_open_port(uri: str) -> None:
    """Raise TrackingError when nobody listens: MLflow itself would try for minutes."""
    parts = urlsplit(uri)
    scheme = parts.scheme.split("+")[0]
    if not parts.hostname or scheme not in _PORTS:
        return
    try:
        port = parts.port or _PORTS[scheme]
        socket.create_connection((parts.hostname, port), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise TrackingError(
            f"the MLflow server at {masked(uri)} cannot be reached ({error}); start it, correct "
            "MLFLOW_TRACKING_URI, or unset that variable to use the embedded database"
        ) from error


def _require_login(uri: str) -> None:
    """Raise TrackingError when a database refuses us: MLflow itself would try for minutes."""
    if urlsplit(uri).scheme.split("+")[0] in {"http", "https", "sqlite", "file", ""}:
        return
    import sqlalchemy

    with answering():
        engine = sqlalchemy.create_engine(uri)
        try:
            engine.connect().close()
        finally:
            engine.dispose()


def _create_experiment(name: str) -> str:
    from mlflow.exceptions import MlflowException

    location = (home.artifact_root() / name).as_uri() if home.is_embedded() else None
    tags = {"mlflow.experimentKind": "custom_model_development"}  # opens the machine-learning pages of the UI
    try:
        return str(client().create_experiment(name, artifact_location=location, tags=tags))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return experiment(name)
