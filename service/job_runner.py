"""Computes the jobs of the list, a few at a time, beside the requests of the same process."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial

from forecast.errors import ForecastError
from service.errors import Problem, from_forecast_error
from service.jobs import LEASE_SECONDS, Job, JobStore, Result
from service.settings import Settings

log = logging.getLogger("service")

LOOK_SECONDS = 0.5
"""How often the list is looked at: another process may have taken a job in."""
EXPIRE_SECONDS = 60.0
BUSY_SECONDS = 1.0
"""How long a job waits before it asks again for the model that others keep busy."""

Compute = Callable[[Job], Awaitable[Result]]
"""Comes to the result of a job."""


class JobRunner:
    """Takes jobs from the list until it is stopped. One per process; used on its event loop."""

    def __init__(self, store: JobStore, settings: Settings, compute: Compute) -> None:
        self.store = store
        self.settings = settings
        self.compute = compute
        self._running: dict[str, asyncio.Task[None]] = {}
        self._woken = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._renewed = 0.0
        self._expired = 0.0

    def start(self) -> None:
        """Begin to take jobs, those first that were left when the service ended."""
        self._loop = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Take no more and give back what is being computed."""
        tasks = [task for task in (self._loop, *self._running.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.store.exists():
            with contextlib.suppress(Problem):
                await asyncio.to_thread(self.store.release)
            await asyncio.to_thread(self.store.close)

    def wake(self) -> None:
        """Look at the list now."""
        self._woken.set()

    def cancel(self, job_id: str) -> None:
        """Stop computing a job that was cancelled."""
        if task := self._running.get(job_id):
            task.cancel()

    async def _follow(self) -> None:
        while True:
            try:
                if self.store.exists():
                    await self._turn()
            except Problem as error:
                log.error("%s", error.detail)
            except Exception:
                log.exception("jobs cannot be taken; they wait")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), LOOK_SECONDS)
            self._woken.clear()

    async def _turn(self) -> None:
        """Renew what is held, forget what is old, take what there is room for."""
        now = time.monotonic()
        if self._running and now - self._renewed > LEASE_SECONDS / 5:
            for job_id in await asyncio.to_thread(self.store.renew, list(self._running)):
                self.cancel(job_id)
            self._renewed = now
        if now - self._expired > EXPIRE_SECONDS or not self._expired:
            await asyncio.to_thread(self.store.expire)
            self._expired = now
        while len(self._running) < self.settings.jobs_running:
            job = await asyncio.to_thread(self.store.claim)
            if job is None:
                return
            self._renewed = now
            task = asyncio.create_task(self._run(job))
            self._running[job.id] = task
            task.add_done_callback(partial(self._ended, job.id))

    def _ended(self, job_id: str, task: asyncio.Task[None]) -> None:
        self._running.pop(job_id, None)
        if not task.cancelled() and (error := task.exception()):
            log.error("what job %s came to could not be kept: %s; it is begun again", job_id, error)
        self.wake()

    async def _run(self, job: Job) -> None:
        """Compute a job and keep what it came to."""
        try:
            async with asyncio.timeout(job.timeout):
                result = await self._patiently(job)
            await asyncio.to_thread(self.store.finish, job.id, result=result)
        except TimeoutError:
            detail = f"the job was not done within {job.timeout:g} s; send fewer series or allow more time"
            await asyncio.to_thread(self.store.finish, job.id, error=detail)
        except Problem as error:
            await asyncio.to_thread(self.store.finish, job.id, error=error.detail)
        except ForecastError as error:
            await asyncio.to_thread(self.store.finish, job.id, error=from_forecast_error(error).detail)
        except Exception:
            log.exception("job %s failed", job.id)
            detail = f"something unexpected happened; the log has it under job {job.id}"
            await asyncio.to_thread(self.store.finish, job.id, error=detail)

    async def _patiently(self, job: Job) -> Result:
        """The result of a job, which waits where a request would be turned away."""
        while True:
            try:
                return await self.compute(job)
            except Problem as error:
                if error.kind != "overloaded":
                    raise
            await asyncio.sleep(BUSY_SECONDS)
