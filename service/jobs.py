"""Work that is asked for now and fetched later: kept in a file, so that no restart loses it.

Every process that shares the folder takes from the same list. Who computes a job holds it by a lease that it
renews; where a process is gone the lease runs out and another takes the job up again.
"""

import contextlib
import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from forecast import home
from service.errors import Problem, problem
from service.settings import Settings

LEASE_SECONDS = 15.0
MAX_ATTEMPTS = 3
"""Times that a job is begun; one that ends the process each time is given up."""
OPEN = ("pending", "running")
OVER = ("succeeded", "failed", "cancelled")

_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, task TEXT NOT NULL, model TEXT NOT NULL, body BLOB, timeout REAL NOT NULL,
    status TEXT NOT NULL, result BLOB, error TEXT, owner TEXT, lease REAL,
    attempts INTEGER NOT NULL DEFAULT 0, submitted REAL NOT NULL, ended REAL, size INTEGER NOT NULL,
    headers TEXT
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, submitted);
"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job as it is computed."""

    id: str
    task: str
    model: str
    """The version that answers, decided when the job was submitted."""
    body: bytes
    timeout: float
    """Seconds that it may be computed for."""


class Result(NamedTuple):
    """What a job came to."""

    content: bytes
    """JSON."""
    headers: Mapping[str, str] = MappingProxyType({})
    """What stands beside it."""


@dataclass(frozen=True, kw_only=True)
class JobState:
    """One job as its client sees it."""

    id: str
    task: str
    status: str
    result: bytes | None
    error: str | None
    headers: dict[str, str] = field(default_factory=dict)


class JobStore:
    """The list of jobs. Methods block for a moment and may be called from any thread."""

    def __init__(self, settings: Settings, path: Path | None = None) -> None:
        self.settings = settings
        self.path = path or home.home() / "jobs" / "jobs.db"
        self.owner = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def exists(self) -> bool:
        """Whether there ever was a job; nothing is written before that."""
        return self._connection is not None or self.path.exists()

    def submit(self, task: str, model: str, body: bytes, *, timeout: float) -> str:
        """The id of a new job; Problem 429 while as many wait, or as much is kept, as may be."""
        job_id, now = uuid.uuid4().hex, time.time()
        with self._writing() as db:
            waiting, kept = db.execute(
                "SELECT count(*) FILTER (WHERE status IN ('pending', 'running')), coalesce(sum(size), 0)"
                " FROM jobs"
            ).fetchone()
            if waiting >= self.settings.jobs_waiting:
                raise too_many(f"{waiting} jobs wait or are computed already")
            if kept + len(body) > self.settings.jobs_bytes:
                kept = self._make_room(db, len(body))
            if kept + len(body) > self.settings.jobs_bytes:
                raise too_many("the jobs that wait take all the space there is for them")
            db.execute(
                "INSERT INTO jobs (id, task, model, body, timeout, status, submitted, size)"
                " VALUES (?, ?, ?, ?, ?, 'pending', ?, ?)",
                (job_id, task, model, body, timeout, now, len(body)),
            )
        return job_id

    def _make_room(self, db: sqlite3.Connection, needed: int) -> int:
        """Forget the oldest results until there is room; the bytes that are kept then."""
        kept = int(db.execute("SELECT coalesce(sum(size), 0) FROM jobs").fetchone()[0])
        for job_id, size in db.execute(
            "SELECT id, size FROM jobs WHERE ended IS NOT NULL ORDER BY ended"
        ).fetchall():
            if kept + needed <= self.settings.jobs_bytes:
                break
            db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
            kept -= size
        return kept

    def claim(self) -> Job | None:
        """The next job to compute, held from now on; None while there is none."""
        now = time.time()
        with self._writing() as db:
            db.execute(
                "UPDATE jobs SET status = 'failed', error = ?, ended = ?, body = NULL, size = 0"
                " WHERE status = 'running' AND lease < ? AND attempts >= ?",
                (
                    f"the service ended {MAX_ATTEMPTS} times while computing this job",
                    now,
                    now,
                    MAX_ATTEMPTS,
                ),
            )
            row = db.execute(
                "SELECT id, task, model, body, timeout FROM jobs WHERE status = 'pending'"
                " OR (status = 'running' AND lease < ?) ORDER BY submitted LIMIT 1",
                (now,),
            ).fetchone()
            if row is None:
                return None
            db.execute(
                "UPDATE jobs SET status = 'running', owner = ?, lease = ?, attempts = attempts + 1"
                " WHERE id = ?",
                (self.owner, now + LEASE_SECONDS, row[0]),
            )
        return Job(id=row[0], task=row[1], model=row[2], body=row[3], timeout=row[4])

    def renew(self, job_ids: Collection[str]) -> set[str]:
        """Hold these jobs for longer; those that are no longer ours, for they were cancelled."""
        with self._writing() as db:
            db.execute(
                "UPDATE jobs SET lease = ? WHERE owner = ? AND status = 'running'",
                (time.time() + LEASE_SECONDS, self.owner),
            )
            held = db.execute("SELECT id FROM jobs WHERE owner = ? AND status = 'running'", (self.owner,))
            return set(job_ids) - {row[0] for row in held}

    def finish(self, job_id: str, *, result: Result | None = None, error: str | None = None) -> None:
        """Keep what a job of ours came to; nothing happens where it was cancelled meanwhile."""
        content, headers = result or (None, {})
        with self._writing() as db:
            db.execute(
                "UPDATE jobs SET status = ?, result = ?, headers = ?, error = ?, ended = ?, size = ?,"
                " body = NULL WHERE id = ? AND owner = ? AND status = 'running'",
                (
                    "succeeded" if error is None else "failed",
                    content,
                    json.dumps(dict(headers)),
                    error,
                    time.time(),
                    len(content or b""),
                    job_id,
                    self.owner,
                ),
            )

    def release(self) -> None:
        """Give the jobs of this process back, to be begun again by whoever comes next."""
        with self._writing() as db:
            db.execute(
                "UPDATE jobs SET status = 'pending', owner = NULL, attempts = attempts - 1"
                " WHERE owner = ? AND status = 'running'",
                (self.owner,),
            )

    def cancel(self, job_id: str) -> str | None:
        """End a job that is not over. Its status before that, or None where there is no such job."""
        with self._writing() as db:
            row = db.execute("SELECT status FROM jobs WHERE id = ?", (job_id,)).fetchone()
            if row is not None and row[0] in OPEN:
                db.execute(
                    "UPDATE jobs SET status = 'cancelled', ended = ?, body = NULL, size = 0 WHERE id = ?",
                    (time.time(), job_id),
                )
        return None if row is None else str(row[0])

    def find(self, job_id: str) -> JobState | None:
        """How a job stands; None where there is none of that id, or no longer."""
        if not self.exists():
            return None
        with self._reading() as db:
            row = db.execute(
                "SELECT id, task, status, result, error, headers, ended FROM jobs WHERE id = ?", (job_id,)
            ).fetchone()
        if row is None or (row[6] is not None and row[6] < time.time() - self.settings.jobs_keep_seconds):
            return None
        headers = json.loads(row[5] or "{}")
        return JobState(id=row[0], task=row[1], status=row[2], result=row[3], error=row[4], headers=headers)

    def expire(self) -> int:
        """Forget what ended long enough ago; how many jobs that were."""
        with self._writing() as db:
            oldest = time.time() - self.settings.jobs_keep_seconds
            num_gone = db.execute("DELETE FROM jobs WHERE ended < ?", (oldest,)).rowcount
        with self._reading() as db:
            db.execute("PRAGMA incremental_vacuum")
        return num_gone

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction that nobody else writes in."""
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time; Problem 503 where the file cannot be used."""
        with self._lock:
            try:
                yield self._opened()
            except sqlite3.Error as error:
                detail = f"the list of jobs cannot be used now ({error}); ask without a job, or again later"
                raise problem("unavailable", detail, headers={"Retry-After": "10"}) from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            made = sqlite3.connect(self.path, timeout=10, isolation_level=None, check_same_thread=False)
            made.execute("PRAGMA auto_vacuum = INCREMENTAL")
            made.execute("PRAGMA journal_mode = WAL")
            made.executescript(_TABLE)
            if "headers" not in {row[1] for row in made.execute("PRAGMA table_info(jobs)")}:
                with contextlib.suppress(sqlite3.OperationalError):  # another process was first
                    made.execute("ALTER TABLE jobs ADD COLUMN headers TEXT")
            self._connection = made
        return self._connection


def too_many(why: str) -> Problem:
    """The answer while no further job is taken."""
    return problem("too-many-jobs", f"{why}; ask again in a moment", headers={"Retry-After": "5"})
