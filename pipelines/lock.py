"""Locks that end with the process that holds them: one retrain of a recipe, and one promotion, at a time."""

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from forecast import home
from forecast.errors import LockedError, TrackingError

if TYPE_CHECKING:
    import sqlalchemy

PROMOTION_SECONDS = 60.0
"""How long a promotion waits for another one, which takes well under a second."""

DATABASE_SECONDS = 600.0
"""How long an upgrade of the database waits for another one."""

LOCK_URL = "FORECAST_LOCK_URL"
"""Names a PostgreSQL database whose advisory locks hold for all hosts; left out, the locks are files."""


@contextmanager
def recipe_lock(name: str) -> Iterator[None]:
    """Hold the lock of the recipe `name`; LockedError at once when another process holds it.

    The lock belongs to this process alone: programs it starts do not inherit the open file, and a forked
    child closes its copy, so that killing this process frees the lock whatever its children do.
    """
    with _held(name, seconds=0.0):
        yield


@contextmanager
def promotion_lock(name: str) -> Iterator[None]:
    """Hold the right to move the aliases of the model `name`; LockedError when it is held for a minute.

    A retrain takes it for its last step only, so that an operator need not wait for a training to end.
    """
    with _held(f"{name}.promotion", seconds=PROMOTION_SECONDS):
        yield


@contextmanager
def output_lock(name: str) -> Iterator[None]:
    """Hold the right to store forecasts of the recipe `name`; LockedError at once when it is held."""
    with _held(f"{name}.forecast", seconds=0.0):
        yield


@contextmanager
def monitor_lock(name: str) -> Iterator[None]:
    """Hold the right to look at the answers of the model `name`; LockedError at once when it is held."""
    with _held(f"{name}.monitor", seconds=0.0):
        yield


@contextmanager
def database_lock(uri: str) -> Iterator[None]:
    """Hold the right to change the tables of a database: PostgreSQL keeps the lock itself."""
    if uri.startswith("postgresql"):
        with _advisory(uri, "forecast database", seconds=DATABASE_SECONDS, variable="MLFLOW_TRACKING_URI"):
            yield
        return
    with _held("database", seconds=DATABASE_SECONDS):
        yield


@contextmanager
def _held(name: str, *, seconds: float) -> Iterator[None]:
    if url := os.environ.get(LOCK_URL):
        with _advisory(url, name, seconds=seconds):
            yield
        return
    _warn_of_other_hosts()
    with _file(home.home() / "locks" / f"{name}.lock", name, seconds=seconds):
        yield


@contextmanager
def _file(path: Path, name: str, *, seconds: float) -> Iterator[None]:
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=seconds)
    try:
        lock.acquire()
    except Timeout as error:
        raise _busy(name, str(path)) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _advisory(url: str, name: str, *, seconds: float, variable: str = LOCK_URL) -> Iterator[None]:
    """A session's advisory lock in PostgreSQL: it ends with the connection, thus with the process."""
    import sqlalchemy

    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
    try:
        connection = engine.connect()
    except sqlalchemy.exc.SQLAlchemyError as error:
        # the driver's own words are not repeated: they may name the password
        where = ", or unset that variable where only one host retrains" if variable == LOCK_URL else ""
        raise TrackingError(
            f"the database that keeps the locks cannot be used ({type(error).__name__}); start it, or "
            f"correct {variable}{where}"
        ) from None
    with connection:
        if not _obtained(connection, key, seconds=seconds):
            raise _busy(name, f"{variable}, advisory lock {key}")
        try:
            yield
        finally:
            with suppress(sqlalchemy.exc.SQLAlchemyError):  # a lost connection has freed it already
                connection.execute(sqlalchemy.text("select pg_advisory_unlock(:key)"), {"key": key})


def _obtained(connection: "sqlalchemy.Connection", key: int, *, seconds: float) -> bool:
    import sqlalchemy

    until = time.monotonic() + seconds
    query = sqlalchemy.text("select pg_try_advisory_lock(:key)")
    while not connection.execute(query, {"key": key}).scalar():
        if time.monotonic() >= until:
            return False
        time.sleep(0.1)
    return True


def _busy(name: str, place: str) -> LockedError:
    own, _, kind = name.rpartition(".")
    whats = {
        "promotion": f"promotion of {own!r}",
        "forecast": f"process that stores forecasts of {own!r}",
        "monitor": f"look at the answers of {own!r}",
    }
    what = whats.get(kind, f"run of the recipe {name!r}")
    return LockedError(f"another {what} holds its lock ({place}); wait for it to end and try again")


@lru_cache(maxsize=1)
def _warn_of_other_hosts() -> None:
    if home.tracking_uri().startswith(("http://", "https://")):
        print(
            f"note: without {LOCK_URL} the locks are files of this host; let only this one retrain",
            file=sys.stderr,
        )
