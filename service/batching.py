"""From many requests to few passes: one inference thread, two lanes, a bounded queue.

Rows of requests that wait for the same model go through it together. Nobody waits for company: while one
batch is computed the next one gathers by itself, so that batches are of one row at low load and full at high.
A request of many rows is cut into chunks and takes turns with the small ones.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.errors import overloaded, problem
from service.settings import Settings

log = logging.getLogger("service")

MAX_ROWS = 64
"""Rows of small requests in one pass; on a CPU larger batches are no faster and keep others waiting."""
SMALL_ROWS = 32
"""Jobs up to this many rows take the small lane."""
CHUNK_ROWS = 256
"""Rows of a bulk request in one pass, after which the small lane has its turn."""
MAX_HELD = 256
"""Requests that may wait for room in the queue at a time."""
PASSES = 4
"""Where one pass takes long, a request may wait for so many of them."""
SWEEP_SECONDS = 0.1
"""How often waiting requests are looked at: is the deadline over, is the client gone?"""


IsGone = Callable[[], Awaitable[bool]]
"""Tells whether nobody waits for an answer any more."""


@dataclass(eq=False, slots=True)
class Job:
    """A part of a request that waits for the inference thread.

    Jobs of the same `key` may be computed together: `work` is then called with the arguments of all of them
    and answers one result (or error) for each. Without a key it is computed alone.
    """

    work: Callable[[Sequence[Any]], Sequence[Any]]
    argument: Any
    rows: int
    key: Hashable | None
    future: "asyncio.Future[Any]"
    deadline: float
    since: float = field(default_factory=time.monotonic)
    outcome: Any = None
    waited: float = 0.0
    """Seconds before its batch was computed."""
    computed: float = 0.0
    """Seconds that its batch took."""


class Batcher:
    """The inference thread and the queue before it. One per process; methods are called on its event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.num_batches = 0
        self.on_batch: Callable[[int], None] = lambda rows: None
        self._lanes: dict[str, deque[Job]] = {"small": deque(), "bulk": deque()}
        self._rows = {"small": 0, "bulk": 0}
        self._ready = threading.Condition()
        self._stopping = False
        self._is_idle = False
        self._is_waking = False
        self._bulk_is_next = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._room = asyncio.Event()
        self._held = 0
        self._last_seconds = 0.0
        self._watched: dict[Job, Callable[[], Awaitable[bool]]] = {}
        self._sweeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the thread and the watch over those who wait, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()
        self._sweeper = asyncio.create_task(self._sweep())

    def stop(self) -> None:
        """Take no more; what is being computed ends."""
        with self._ready:
            self._stopping = True
            self._ready.notify_all()
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._thread is not None:
            self._thread.join(timeout=5)

    @property
    def queued_rows(self) -> dict[str, int]:
        """Rows that wait or are computed, by lane."""
        return dict(self._rows)

    @property
    def oldest_seconds(self) -> float:
        """How long the first of those that wait has waited."""
        waiting = [lane[0].since for lane in self._lanes.values() if lane]
        return max(0.0, time.monotonic() - min(waiting)) if waiting else 0.0

    async def call(self, work: Callable[..., Any], *arguments: Any, rows: int) -> Any:
        """The result of `work(*arguments)`, computed in the inference thread by itself."""
        return await self.submit(lambda many: [work(*many[0])], arguments, rows=rows, key=None)

    async def submit(
        self,
        work: Callable[[Sequence[Any]], Sequence[Any]],
        argument: Any,
        *,
        rows: int,
        key: Hashable | None,
        is_gone: Callable[[], Awaitable[bool]] | None = None,
        deadline: float | None = None,
        lane: str | None = None,
        phases: dict[str, float] | None = None,
    ) -> Any:
        """The outcome of a job. Problem 503 when the queue stays full, or the deadline passes.

        phases: takes the seconds that it waited and was computed, added to what is there.
        """
        lane = lane or ("small" if rows <= SMALL_ROWS else "bulk")
        if self._is_full(lane, rows):
            await self._hold(lane, rows)
        assert self._loop is not None
        future: asyncio.Future[Any] = self._loop.create_future()
        deadline = time.monotonic() + self.settings.request_seconds if deadline is None else deadline
        job = Job(work, argument, rows, key, future, deadline)
        if is_gone is not None:
            self._watched[job] = is_gone
        self._rows[lane] += rows
        self._lanes[lane].append(job)
        if self._is_idle and not self._is_waking:
            self._is_waking = True
            self._loop.call_soon(self._wake)
        try:
            outcome = await future
            if phases is not None:
                phases["wait"] = phases.get("wait", 0.0) + job.waited
                phases["compute"] = phases.get("compute", 0.0) + job.computed
            return outcome
        finally:
            self._rows[lane] -= rows
            self._watched.pop(job, None)
            if not self._room.is_set():
                self._room.set()

    def _wake(self) -> None:
        """Wake the thread, after everything that came in the same turn of the event loop has been queued."""
        self._is_waking = False
        with self._ready:
            self._ready.notify()

    def _is_full(self, lane: str, rows: int) -> bool:
        queued = self._rows[lane]
        return queued > 0 and queued + rows > self.settings.queue_rows

    async def _hold(self, lane: str, rows: int) -> None:
        """Wait a moment for room."""
        if self._held >= MAX_HELD:
            raise overloaded()
        self._held += 1
        try:
            async with asyncio.timeout(self.settings.hold_seconds):
                while self._is_full(lane, rows):
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            raise overloaded() from None
        finally:
            self._held -= 1

    # In the inference thread

    def _run(self) -> None:
        while True:
            with self._ready:
                self._is_idle = True  # before the look at the lanes: `submit` appends before it reads this
                while not self._stopping and not any(self._lanes.values()):
                    self._ready.wait()
                self._is_idle = False
                if self._stopping:
                    return
                jobs = self._take()
            if jobs:
                self._compute(jobs)

    def _take(self) -> list[Job]:
        """The next batch: lanes take turns, and jobs that nobody waits for any more are left out."""
        small, bulk = self._lanes["small"], self._lanes["bulk"]
        lane = bulk if bulk and (self._bulk_is_next or not small) else small
        self._bulk_is_next = lane is small
        first = lane.popleft()
        if _is_over(first):
            return []
        now = time.monotonic()
        if lane is small:
            longest = max(self.settings.queue_seconds, PASSES * self._last_seconds)
            while now - first.since > longest:  # refused at once, for those after it to be in time
                self._refuse(first)
                if not lane:
                    return []
                first = lane.popleft()
        jobs, rows = [first], first.rows
        if first.key is not None and lane is small:
            passed: list[Job] = []
            while lane and rows < MAX_ROWS:
                job = lane.popleft()
                if _is_over(job):
                    continue
                if job.key == first.key:
                    jobs.append(job)
                    rows += job.rows
                else:
                    passed.append(job)
            lane.extendleft(reversed(passed))
        return jobs

    def _refuse(self, job: Job) -> None:
        job.outcome = overloaded()
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_deliver, [job])

    def _compute(self, jobs: list[Job]) -> None:
        started = time.monotonic()
        try:
            outcomes = jobs[0].work([job.argument for job in jobs])
        except BaseException as error:
            outcomes = [error]
            if len(jobs) > 1:
                outcomes = [_alone(job) for job in jobs]
        self._last_seconds = seconds = time.monotonic() - started
        for job, outcome in zip(jobs, outcomes, strict=True):
            job.outcome, job.waited, job.computed = outcome, started - job.since, seconds
        self.num_batches += 1
        self.on_batch(sum(job.rows for job in jobs))
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_deliver, jobs)

    # On the event loop

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            for job, is_gone in list(self._watched.items()):
                if job.future.done() or now - job.since < SWEEP_SECONDS:
                    continue
                if now > job.deadline:
                    job.future.set_exception(too_late())
                elif await is_gone() and not job.future.done():
                    job.future.set_exception(gone())


def _is_over(job: Job) -> bool:
    return job.future.done()


def _alone(job: Job) -> Any:
    try:
        return job.work([job.argument])[0]
    except BaseException as error:
        return error


def _deliver(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if isinstance(job.outcome, BaseException):
            job.future.set_exception(job.outcome)
        else:
            job.future.set_result(job.outcome)


def gone() -> Exception:
    """What is noted of a request whose client has gone; nobody reads it."""
    return problem("client-gone", "the connection ended before the answer was ready")


def too_late() -> Exception:
    """The answer when a request waited for longer than its deadline."""
    detail = "the forecast was not ready before the deadline of this service; ask again in a moment"
    return problem("overloaded", detail, headers={"Retry-After": "1"})
