"""The only part of the service that talks to MLflow: a process that keeps the cache up to the registry.

`python -m service.watcher` polls, copies the artifact folder of every version that an alias names (and of
those that requests ask for), and replaces the manifest. While the registry is away the last one stays.
"""

import argparse
import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from forecast import home
from forecast.errors import ArtifactError, ForecastError, TrackingError
from service.manifest import (
    CHAMPION,
    Cache,
    CachedVersion,
    Manifest,
    Question,
    Reference,
    digest_of,
    write_atomically,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger("service.watcher")

LOOK_SECONDS = 0.05
"""How often questions are looked for."""
START_SECONDS = 1.5
"""On a single core, how long workers with a warm cache may start before MLflow is imported beside them."""
LIVE_SECONDS = 15.0
"""How often the registry is asked for a champion's live figures."""
RETRY_SECONDS = 30.0
"""How long a version that could not be copied is left alone."""
MAX_REQUESTED = 32
"""Copies kept only because requests asked for them."""
MAX_LISTED = 20
"""Versions of a model that are named to who asked for one there is not."""
KEEP_SECONDS = 3600.0
"""How long a copy outlives its last mention, for requests and services that still use it."""
DATABASE_REPLACED = 3
"""Exit code: the database is another file than before, and MLflow keeps connections to the old one."""

MEASURE_SECONDS = 120.0
"""How long the measurement of one version's runtimes may take."""

_MEASURING = threading.Lock()
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class Watcher:
    """One registry and the cache that follows it."""

    def __init__(self, cache: Cache, *, models: tuple[str, ...] = (), measures: bool = False) -> None:
        """measures: find out which runtime answers fastest for each network."""
        self.cache = cache
        self.measures = measures
        self._measured: set[str] = set()
        self.models = models
        self._requested: dict[tuple[str, str], None] = {}
        self._failed: dict[tuple[str, str], tuple[float, str]] = {}
        self._known: dict[str, list[str]] = {}
        self._whole: set[str] = set()
        self._live_until: dict[tuple[str, str], float] = {}
        self._client: MlflowClient | None = None
        self._database: int | None = None
        self._trouble = ""

    def run(self, *, poll_seconds: float) -> None:
        """Follow the registry for ever."""
        next_poll = 0.0
        while True:
            questions = self.cache.questions()
            if questions or time.monotonic() >= next_poll:
                self.poll(questions)
                next_poll = time.monotonic() + poll_seconds
            time.sleep(LOOK_SECONDS)

    def poll(self, questions: list[Question] | None = None) -> None:
        """Bring the cache up to the registry once, and answer. Never raises for what the registry does."""
        questions = questions or []
        try:
            if self._connect():
                self._sync([reference for q in questions if (reference := Reference.read(q.path))])
            self._say("")
        except (
            Exception,
            ForecastError,
        ) as error:  # MLflow, its database and its network each raise their own
            self._say(
                f"the registry cannot be used ({home.first_line(error)}); the last copies go on serving"
            )
        for question in questions:
            question.settle()

    def _say(self, trouble: str) -> None:
        """Log a trouble once, and its end."""
        if trouble != self._trouble:
            log.warning("%s", trouble or "the registry can be used again")
            self._trouble = trouble

    def _connect(self) -> bool:
        """Whether there is a registry to ask. An embedded database that does not exist is not created."""
        database = database_file(home.tracking_uri())
        if database is not None:
            try:
                found = database.stat()
            except OSError:
                found = None
            if found is None or not found.st_size:
                if self._client is not None:
                    raise TrackingError(f"the database {database} is gone")
                return False
            if self._database not in (None, found.st_ino):
                log.warning("the database %s was replaced", database)
                sys.exit(DATABASE_REPLACED)
            self._database = found.st_ino
        if self._client is None:
            self._client = _open_client()
        return True

    def _sync(self, asked: list[Reference]) -> None:
        before = self._read()
        aliases: dict[str, dict[str, str]] = {}
        created: dict[str, int] = {}
        for model in self._registered():
            aliases[model.name] = {alias: str(version) for alias, version in sorted(model.aliases.items())}
            created[model.name] = int(model.creation_timestamp)
        for name in before.aliases.keys() - aliases.keys():
            self._check_gone(name)
        self._remember(asked, aliases)
        previous = self._previous(before, aliases)
        wanted = [(name, version) for name, own in aliases.items() for version in own.values()]
        wanted += [*previous.items(), *(key for key in self._requested if key[0] in aliases)]
        versions: list[CachedVersion] = []
        problems: dict[str, str] = {}
        is_news = False
        for name, version in dict.fromkeys(wanted):
            copy = before.find(name, version)
            if copy is None or copy.created != created[name] or not self._is_whole(copy):
                copy, trouble = self._try_copy(name, version, created[name])
                is_news = is_news or copy is not None
                if trouble and version == aliases[name].get(CHAMPION):
                    problems[name] = f"version {version} cannot be copied: {trouble}"
            if copy is not None:
                live = self._live(copy) if version == aliases[name].get(CHAMPION) else copy.live
                versions.append(replace(copy, runtime=self._runtime(copy), live=live))
        known = {name: own for name, own in (before.known | self._known).items() if name in aliases}
        manifest = Manifest(
            aliases=aliases, versions=tuple(versions), problems=problems, previous=previous, known=known
        )
        if is_news or manifest != before or not self.cache.manifest_file.exists():
            self.cache.write(manifest)
            self._sweep(manifest)

    def _live(self, copy: CachedVersion) -> dict[str, float | None]:
        """The newest figures of `forecast monitor`, asked for now and then."""
        assert self._client is not None
        key = (copy.name, copy.version)
        if time.monotonic() >= self._live_until.get(key, 0.0):
            self._live_until[key] = time.monotonic() + LIVE_SECONDS
            tags = self._client.get_model_version(*key).tags or {}
            return read_metrics(tags, name="forecast.live")
        return copy.live

    def _runtime(self, copy: CachedVersion) -> dict[str, Any]:
        """What was measured of a copy's runtimes; a measurement begins where there is none."""
        if copy.runtime or not self.measures:
            return copy.runtime
        folder = self.cache.folder(copy)
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads(self.cache.measured_file(copy.digest).read_bytes())
            return found
        from service.measure import is_measurable  # loads pandas, which would delay the start of workers

        if copy.digest not in self._measured and is_measurable(folder):
            self._measured.add(copy.digest)
            threading.Thread(target=measure_apart, args=[self.cache, copy.digest], daemon=True).start()
        return {}

    def _is_whole(self, copy: CachedVersion) -> bool:
        """Whether a copy is there and as it was made; its content is read once in this process's life."""
        folder = self.cache.folder(copy)
        if not folder.is_dir():
            return False
        if copy.digest not in self._whole and digest_of(folder) == copy.digest:
            self._whole.add(copy.digest)
        return copy.digest in self._whole

    def _read(self) -> Manifest:
        try:
            return self.cache.read()
        except ArtifactError as error:
            log.warning("%s; it is written anew", error)
            return Manifest()

    def _registered(self) -> Iterator[Any]:
        """The registered models that are to be served."""
        assert self._client is not None
        token: str | None = None
        while True:
            page = self._client.search_registered_models(max_results=1000, page_token=token)
            yield from (model for model in page if not self.models or model.name in self.models)
            token = page.token
            if not token:
                return

    def _check_gone(self, name: str) -> None:
        """TrackingError for a model that the registry has although its list left it out.

        An answer that was cut off may read as an empty list, and everything would stop serving.
        """
        from mlflow.exceptions import MlflowException

        assert self._client is not None
        if self.models and name not in self.models:
            return
        try:
            self._client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return
            raise
        raise TrackingError(f"the registry's list lacks {name!r}, which is there")

    def _remember(self, asked: list[Reference], aliases: dict[str, dict[str, str]]) -> None:
        """Note the versions that requests ask for; the least recently asked for is forgotten first."""
        for reference in asked:
            if reference.version is not None and reference.name in aliases:
                key = (reference.name, reference.version)
                self._requested.pop(key, None)
                if self._has_version(*key):
                    self._failed.pop(key, None)
                    self._requested[key] = None
                else:
                    self._known[reference.name] = self._newest(reference.name)
        while len(self._requested) > MAX_REQUESTED:
            del self._requested[next(iter(self._requested))]

    def _newest(self, name: str) -> list[str]:
        """The newest versions of a model, for who asked for one that there is not."""
        assert self._client is not None
        quoted = name.replace("'", "\\'")
        found = self._client.search_model_versions(
            f"name='{quoted}'", max_results=MAX_LISTED, order_by=["version_number DESC"]
        )
        return [str(version.version) for version in found]

    def _has_version(self, name: str, version: str) -> bool:
        from mlflow.exceptions import MlflowException

        assert self._client is not None
        if not (
            version.isascii() and version.isdigit() and len(version) < 10 and version == str(int(version))
        ):
            return False
        try:
            self._client.get_model_version(name, version)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        return True

    def _previous(self, before: Manifest, aliases: dict[str, dict[str, str]]) -> dict[str, str]:
        """By name: the last champion before this one whose copy is here, kept to fall back to."""
        previous: dict[str, str] = {}
        for name, own in aliases.items():
            was, now = before.aliases.get(name, {}).get(CHAMPION), own.get(CHAMPION)
            if now is None:
                continue
            last = (
                was if was not in (None, now) and before.find(name, was or "") else before.previous.get(name)
            )
            if last and last != now:
                previous[name] = last
        return previous

    def _try_copy(self, name: str, version: str, created: int) -> tuple[CachedVersion | None, str]:
        """The copy of a version, or why there is none; what failed is tried again after a while."""
        key = (name, version)
        if key in self._failed and time.monotonic() < self._failed[key][0]:
            return None, self._failed[key][1]
        try:
            copy = self._copy(name, version, created)
            self._failed.pop(key, None)
            log.info("copied %s version %s", name, version)
            return copy, ""
        except (Exception, ForecastError) as error:
            trouble = home.first_line(error)
            log.warning("%s version %s cannot be copied: %s", name, version, trouble)
            self._failed[key] = (time.monotonic() + RETRY_SECONDS, trouble)
            return None, trouble

    def _copy(self, name: str, version: str, created: int) -> CachedVersion:
        from mlflow.artifacts import download_artifacts

        assert self._client is not None
        registered = self._client.get_model_version(name, version)
        self.cache.artifacts.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".copying-", dir=self.cache.artifacts) as draft:
            downloaded = download_artifacts(artifact_uri=f"models:/{name}/{version}", dst_path=draft)
            folder = artifact_folder(Path(downloaded))
            digest = digest_of(folder)
            self._place(folder, self.cache.artifacts / digest)
        run_id = registered.run_id or None
        metrics = read_metrics(registered.tags or {})
        return CachedVersion(
            name=name, version=version, run_id=run_id, digest=digest, created=created, metrics=metrics
        )

    def _place(self, folder: Path, target: Path) -> None:
        """Move a copy to its place; what lies there already is kept if it is whole."""
        if target.is_dir():
            if digest_of(target) == target.name:
                os.utime(target)
                return
            shutil.rmtree(target)
        os.replace(folder, target)
        os.utime(target)

    def _sweep(self, manifest: Manifest) -> None:
        """Remove copies that no registry's manifest mentions and that are not new."""
        if not self.cache.artifacts.is_dir():
            return  # nothing was copied yet
        used = {copy.digest for copy in manifest.versions}
        for other in self.cache.registry.parent.glob("*/manifest.json"):
            with contextlib.suppress(ArtifactError):
                used |= {copy.digest for copy in replace(self.cache, registry=other.parent).read().versions}
        for folder in self.cache.artifacts.iterdir():
            with contextlib.suppress(OSError):
                if (
                    folder.name.split(".")[0] not in used
                    and time.time() - folder.stat().st_mtime > KEEP_SECONDS
                ):
                    shutil.rmtree(folder) if folder.is_dir() else folder.unlink()


def measure_apart(cache: Cache, digest: str) -> None:
    """Have a process measure the runtimes of a copy, and keep what it finds; one at a time."""
    with _MEASURING:
        command = [sys.executable, "-m", "service.measure", str(cache.artifacts / digest)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=MEASURE_SECONDS, check=True
            )
            found = json.loads(done.stdout)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            log.warning("the runtimes of %s could not be measured (%s)", digest[:12], type(error).__name__)
            return
        write_atomically(cache.measured_file(digest), found)
        log.info("%s answers for %s (difference %.1e)", found["runtime"], digest[:12], found["parity"])


def read_metrics(tags: dict[str, str], name: str = "forecast.metrics") -> dict[str, float | None]:
    """The figures that a retrain, or a look, wrote to a version; none where it did not, or somebody else
    did.
    """
    try:
        found = json.loads(tags.get(name, "{}"))
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(name): value for name, value in found.items() if value is None or type(value) in (int, float)}


def artifact_folder(model: Path) -> Path:
    """The artifact folder inside a registered model; ArtifactError when it holds none."""
    found = [
        path.parent
        for path in sorted(model.rglob("spec.json"))
        if path.with_name("weights.safetensors").is_file()
    ]
    if not found:
        raise ArtifactError(
            "it holds no spec.json beside weights.safetensors, so `forecast retrain` did not make it"
        )
    return found[0]


def database_file(uri: str) -> Path | None:
    """The file of a SQLite address; None for a server."""
    parts = urlsplit(uri)
    if parts.scheme.split("+")[0] != "sqlite":
        return None
    return Path(unquote(parts.path.removeprefix("/")))


def _open_client() -> "MlflowClient":
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    import mlflow

    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    uri = home.tracking_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    with home.database_lock() if home.is_embedded() else contextlib.nullcontext():
        client.search_registered_models(max_results=1)
    return client


def _end_with_parent() -> None:
    """End this process when its standard input closes: whoever started it has ended."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def _set_up_logs(level: str) -> None:
    """As the service's, which starts this process with its own environment."""
    if os.environ.get("FORECAST_LOG_FORMAT", "").strip() == "json":
        from service.logs import set_up

        set_up(level=level, style="json")
    else:
        logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s watcher: %(message)s")


def main() -> None:
    """Wait for the cache's lock, which one watcher holds at a time, then follow the registry."""
    parser = argparse.ArgumentParser(prog="python -m service.watcher", description=__doc__)
    parser.add_argument("--poll-seconds", type=float, default=2.0)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--measure", action="store_true", help="find the fastest runtime of each network")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which ends us
    _end_with_parent()
    _set_up_logs(arguments.log_level)
    from filelock import FileLock

    cache = Cache.of(arguments.model)
    try:
        cache.wanted.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.error("the cache cannot be written (%s); set FORECAST_HOME to a folder that can", error)
        sys.exit(1)
    with FileLock(cache.lock_file, poll_interval=0.1):
        if len(os.sched_getaffinity(0)) == 1 and cache.manifest_file.exists():
            time.sleep(START_SECONDS)
        for stale in cache.wanted.iterdir():
            stale.unlink(missing_ok=True)
        Watcher(cache, models=tuple(arguments.model), measures=arguments.measure).run(
            poll_seconds=arguments.poll_seconds
        )


if __name__ == "__main__":
    main()
