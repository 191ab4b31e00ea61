"""The embedded scheduler: one process that starts `forecast` commands as children when they are due."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from apscheduler.schedulers.background import BackgroundScheduler

from forecast.errors import SpecError
from pipelines import hooks, schedule_state, triggers
from pipelines.child import Child, Ended
from pipelines.recipe import Recipe
from pipelines.schedule_state import State
from pipelines.sections import AFTER_RETRAIN, MonitorSection, ScheduleSection

Say = Callable[[str], None]

HEARTBEAT_SECONDS = 15.0
"""How often the scheduler looks at the clock, which somebody may have set."""

STOP_SECONDS = 9.0
"""How long a stop waits for the children that it ends."""

SUCCESSES = ("promoted", "kept", "unchanged", "done", "retrain", "wait")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A command that is started by a schedule."""

    key: str
    """Names what is remembered of it."""
    recipe: Recipe
    command: tuple[str, ...]
    """Of `forecast`, without the program."""
    when: ScheduleSection


def tasks(recipes: Mapping[str, Recipe]) -> list[Task]:
    """What there is to do for recipes, given by the reference each was asked for with.

    Raises SpecError where two have the same name: they would share a model.
    """
    names = Counter(each.name for each in recipes.values())
    if twice := [name for name, count in names.items() if count > 1]:
        raise SpecError(f"two of the recipes are named {twice[0]!r}; rename one of them, or leave it out")
    return [task for reference, each in recipes.items() for task in _of_recipe(reference, each)]


def _of_recipe(reference: str, recipe: Recipe) -> list[Task]:
    """The recipe's own task, named as it is, and those that have times of their own beside it."""
    schedule = recipe.schedule
    command = ("monitor", reference, "--retrain") if schedule.trigger == "drift" else ("retrain", reference)
    own = Task(key=recipe.name, recipe=recipe, command=(*command, "--json"), when=schedule)
    found = [own]
    if recipe.forecast is not None and recipe.forecast.when != AFTER_RETRAIN:
        found.append(_beside(recipe, "forecast", ("store", reference, "--json"), recipe.forecast.when))
    if schedule.trigger == "both" or (recipe.monitor is not None and schedule.trigger == "schedule"):
        retrains = ("--retrain",) if schedule.trigger == "both" else ()
        looks = recipe.monitor or MonitorSection()
        found.append(_beside(recipe, "monitor", ("monitor", reference, *retrains, "--json"), looks.when))
    return found


def _beside(recipe: Recipe, name: str, command: tuple[str, ...], cron: str) -> Task:
    """A task by a cron line of its own; it waits for its time, and for the first champion."""
    when = {"cron": cron, "every": None, "at_start": False}
    return Task(
        key=f"{recipe.name}.{name}",
        recipe=recipe,
        command=command,
        when=recipe.schedule.model_copy(update=when),
    )


class Runner:
    """One task in this process: at most one child of it at a time, and what is known of it."""

    def __init__(self, task: Task, *, slots: threading.Semaphore, say: Say, stop: threading.Event) -> None:
        self.task = task
        self.running_since: float | None = None
        self.counts: Counter[str] = Counter()
        self.state = schedule_state.load(task.key)
        self._slots, self._tell, self._stop = slots, say, stop
        self._busy = threading.Lock()
        self._child: Child | None = None
        self._thread: threading.Thread | None = None

    def due(self) -> None:
        """A start is due: begin it, unless the one before is still going on."""
        if not self.begin("due"):
            self.counts["skipped"] += 1
            self.say("skipped a start: the run before is still going on")

    def begin(self, why: str) -> bool:
        """Start the task in a thread of its own; False where it is running already."""
        if self._stop.is_set() or not self._busy.acquire(blocking=False):
            return False
        self._thread = threading.Thread(target=self._work, args=(why,), daemon=True)
        self._thread.start()
        return True

    def begin_without_champion(self) -> None:
        """Start the task unless its model has a champion; where that cannot be told, start it too."""
        if self._busy.acquire(blocking=False):
            self._thread = threading.Thread(target=self._work_without_champion, daemon=True)
            self._thread.start()

    def end(self) -> None:
        """End the child, and wait for it."""
        if self._child is not None:
            self._child.stop()

    def join(self, seconds: float) -> None:
        """Wait for what is going on."""
        if self._thread is not None:
            self._thread.join(max(seconds, 0.0))

    def say(self, line: str) -> None:
        """One line, with the name of the task before."""
        self._tell(f"{self.task.key}: {line}")

    def _work(self, why: str) -> None:
        try:
            with self._slots:
                if not self._stop.is_set():
                    self._run(why)
        finally:
            self._busy.release()

    def _work_without_champion(self) -> None:
        try:
            with self._slots:
                if not self._stop.is_set() and not self._has_champion():
                    self._run("no champion yet")
        finally:
            self._busy.release()

    def _has_champion(self) -> bool:
        ended = self._wait(Child(["models", "--json"], say=lambda line: None), timeout_seconds=120.0)
        try:
            rows = json.loads(ended.out)["models"] if ended.code == 0 else []
        except (ValueError, KeyError):
            rows = []
        name = self.task.recipe.name
        return ended.stopped or any(row["name"] == name and "champion" in row["aliases"] for row in rows)

    def _wait(self, child: Child, *, timeout_seconds: float) -> Ended:
        self._child = child
        if self._stop.is_set():  # the stop came between the start and this line
            child.stop()
        try:
            return child.wait(timeout_seconds)
        finally:
            self._child = None

    def _run(self, why: str) -> None:
        """One child from its start to its hooks."""
        begun = self.running_since = time.time()
        try:
            child = Child(self.task.command, say=self.say, environment={hooks.BY_CALLER: "1"})
            self.say(f"started `forecast {' '.join(self.task.command)}` ({why}; process {child.pid})")
            ended = self._wait(child, timeout_seconds=self.task.when.timeout_seconds)
        finally:
            self.running_since = None
        verdict, reason, outcome = judged(ended, timeout_seconds=self.task.when.timeout_seconds)
        self.counts[verdict] += 1
        self._remember(begun, ended, verdict, reason, outcome)
        self.say(f"{verdict} after {ended.seconds:.0f} s{f': {reason}' if reason else ''}")
        if verdict != "stopped":
            self._call_hook(ended, verdict, reason, outcome)

    def _remember(
        self, begun: float, ended: Ended, verdict: str, reason: str, outcome: Mapping[str, Any]
    ) -> None:
        before, now = schedule_state.load(self.task.key), time.time()
        if verdict == "locked":  # somebody else does the work, and remembers it
            self.state = replace(before, handled=now, started=begun)
        else:
            self.state = State(
                handled=before.handled if verdict == "stopped" else now,
                started=before.started if verdict == "stopped" else begun,
                ended=now,
                succeeded=now if verdict in SUCCESSES else before.succeeded,
                duration_seconds=round(ended.seconds, 3),
                verdict=verdict,
                reason=reason,
                exit_code=ended.code,
                model_version=outcome.get("model_version") or before.model_version,
                run_id=outcome.get("run_id") or before.run_id,
            )
        try:
            schedule_state.save(self.task.key, self.state)
        except OSError as error:
            self.say(f"what happened cannot be kept on disk ({error}); it is known until this process ends")

    def _call_hook(self, ended: Ended, verdict: str, reason: str, outcome: Mapping[str, Any]) -> None:
        event = hooks.event_of(
            self.task.recipe.name,
            exit_code=ended.code,
            outcome=outcome,
            verdict=verdict,
            reason=reason,
            seconds=ended.seconds,
        )
        if event is not None:
            hooks.call(self.task.recipe.hooks, event, say=self._tell, stop=self._stop)


def judged(ended: Ended, *, timeout_seconds: float) -> tuple[str, str, dict[str, Any]]:
    """Verdict, reason and outcome of a child."""
    if ended.stopped:
        return "stopped", "the scheduler was stopped; the next one makes up for it", {}
    if ended.timed_out:
        return "timeout", f"it took longer than timeout_seconds = {timeout_seconds:g} and was ended", {}
    if ended.code == 75:
        return "locked", "another process runs this recipe", {}
    if ended.code < 0:
        hint = " (out of memory?)" if ended.code == -9 else ""
        return "killed", f"it was ended by signal {-ended.code}{hint}", {}
    if ended.code:
        return "failed", ended.last_line.removeprefix("error: ") or f"exit code {ended.code}", {}
    try:
        outcome: dict[str, Any] = json.loads(ended.out)
    except ValueError:
        return "failed", "the command ended well and printed no outcome", {}
    outcome = outcome.get("retrained") or outcome  # of a look that found a reason to retrain
    return str(outcome.get("verdict", "done")), str(outcome.get("reason", "")), outcome


class Scheduler:
    """All tasks of this process, from start to stop."""

    def __init__(self, todo: Sequence[Task], *, parallel: int, say: Say) -> None:
        self.stopping = threading.Event()
        self.beat = time.monotonic()
        slots = threading.Semaphore(parallel)
        self.runners = [Runner(each, slots=slots, say=say, stop=self.stopping) for each in todo]
        self._clock = BackgroundScheduler(timezone="UTC", daemon=True)

    def start(self) -> None:
        """Plan every task; make up for what was missed, and train what has no champion."""
        for runner in self.runners:
            self._plan(runner)
        self._clock.add_job(self._heartbeat, "interval", seconds=HEARTBEAT_SECONDS, id="/heartbeat")
        self._clock.start()
        for runner in self.runners:
            self._begin(runner)

    def next_start(self, runner: Runner) -> datetime | None:
        """When a task is due next."""
        job = self._clock.get_job(runner.task.key)
        found: datetime | None = getattr(job, "next_run_time", None)
        return found

    def is_alive(self) -> bool:
        """Whether the scheduler still looks at the clock."""
        return time.monotonic() - self.beat < 8 * HEARTBEAT_SECONDS

    def stop(self) -> None:
        """Start nothing more, end the children, and return within ten seconds."""
        self.stopping.set()
        self._clock.shutdown(wait=False)
        until = time.monotonic() + STOP_SECONDS
        enders = [threading.Thread(target=runner.end, daemon=True) for runner in self.runners]
        for thread in enders:
            thread.start()
        for thread in enders:
            thread.join(max(until - time.monotonic(), 0.0))
        for runner in self.runners:
            runner.join(until - time.monotonic())

    def _plan(self, runner: Runner) -> None:
        trigger = triggers.trigger(runner.task.when, started=runner.state.started, now=time.time())
        self._clock.add_job(
            runner.due,
            trigger,
            id=runner.task.key,
            coalesce=True,  # a clock that was set forward makes one run due, not many
            misfire_grace_time=None,
            max_instances=1,
        )

    def _begin(self, runner: Runner) -> None:
        when, state = runner.task.when, runner.state
        if when.catch_up and triggers.missed(
            when, handled=state.handled, started=state.started, now=time.time()
        ):
            runner.begin("a start was missed")
        elif when.catch_up and state.verdict == "stopped":
            runner.begin("the run before was stopped")
        elif when.at_start:
            runner.begin_without_champion()

    def _heartbeat(self) -> None:
        self.beat = time.monotonic()
