"""The embedded scheduler, as a process of its own with real retrains, clocks, signals and HTTP."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines import registry, schedule_state
from pipelines.child import Child
from pipelines.lock import recipe_lock
from pipelines.schedule import judged
from pipelines.schedule_state import State
from tests.pipelines.conftest import RECIPE, Command, Trained, write_recipe

PROGRAM = str(Path(sys.executable).with_name("forecast"))
DAILY = '[schedule]\ncron = "0 3 * * *"\n'


class Running:
    """A scheduler that a test has started."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process, self.log = process, log
        self.url = re.findall(r"(http://\S+)/livez", self.wait_for("health and metrics at"))[0]

    def wait_for(self, words: str, seconds: float = 90.0, count: int = 1) -> str:
        """The log once it holds `words` so many times."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            text = self.log.read_text()
            if text.count(words) >= count:
                return text
            assert self.process.poll() is None, text
            time.sleep(0.1)
        raise AssertionError(f"no {words!r} in:\n{self.log.read_text()}")

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return str(answer.read().decode())


@contextmanager
def scheduler(folder: Path, *recipes: object, options: tuple[str, ...] = ()) -> Iterator[Running]:
    log = folder / f"scheduler-{time.monotonic_ns()}.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [PROGRAM, "schedule", *map(str, recipes), "--port", "0", *options],
            stderr=stream,
            stdout=subprocess.DEVNULL,
            text=True,
        )
    try:
        yield Running(process, log)
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_recipe_without_a_champion_is_trained_at_once_and_everything_is_told_over_http(
    tracked: Path, tmp_path: Path
) -> None:
    path = write_recipe(tmp_path / "data", text=RECIPE + DAILY)
    with scheduler(tmp_path, path) as running:
        running.wait_for("shop: promoted after")
        (row,) = json.loads(running.get("/readyz"))["recipes"]
        figures = running.get("/metrics")
        assert json.loads(running.get("/livez")) == {"status": "ok"}
        with pytest.raises(urllib.error.HTTPError, match="404"):
            running.get("/nothing")
        begun = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(timeout=10) == 0
        assert time.monotonic() - begun < 10
    assert (row["last_verdict"], row["model_version"], row["running_since"]) == ("promoted", "1", None)
    assert "T03:00:00" in row["next_run"]
    success = re.findall(r'last_success_timestamp_seconds{recipe="shop"} (\S+)', figures)
    assert abs(float(success[0]) - time.time()) < 120
    assert 'forecast_schedule_last_verdict{recipe="shop",verdict="promoted"} 1.0' in figures
    assert 'forecast_schedule_last_duration_seconds{recipe="shop"}' in figures
    assert 'forecast_schedule_period_seconds{recipe="shop"} 86400.0' in figures
    assert 'forecast_schedule_runs_total{recipe="shop",verdict="promoted"} 1.0' in figures
    assert registry.find("shop").version == "1"


@pytest.mark.slow
def test_two_schedulers_of_one_recipe_make_one_version_and_no_failure(tracked: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "data", text=RECIPE + '[schedule]\nevery = "12s"\n')
    with scheduler(tmp_path, path) as first, scheduler(tmp_path, path) as second:
        done = re.compile(r"shop: (promoted|unchanged|locked|failed|killed|timeout) after")
        for running in (first, second):
            running.wait_for(" after ", count=2)
        verdicts = done.findall(first.log.read_text() + second.log.read_text())
    assert verdicts.count("promoted") == 1
    assert set(verdicts) <= {"promoted", "unchanged", "locked"}
    assert len(registry.versions("shop")) == 1


@pytest.mark.slow
def test_a_start_that_was_missed_is_made_up_for_once_and_a_champion_is_not_trained_again(
    trained_copy: Trained, tmp_path: Path
) -> None:
    (trained_copy.recipe).write_text(RECIPE + DAILY)
    two_days_ago = time.time() - 2 * 86_400
    schedule_state.save("shop", State(handled=two_days_ago, started=two_days_ago, verdict="kept"))
    with scheduler(tmp_path, trained_copy.recipe) as running:
        assert "(a start was missed; process" in running.wait_for(" after ")
        time.sleep(2)
        assert running.log.read_text().count("started `forecast retrain") == 1
    with scheduler(tmp_path, trained_copy.recipe) as running:
        time.sleep(8)
        assert "started" not in running.log.read_text()


ENDLESS = (
    RECIPE.replace('["seasonal_naive"]', '["gru"]')
    + "[training]\nmax_steps = 1_000_000\npatience = 1_000_000\n"
)


@pytest.mark.slow
def test_a_run_that_takes_too_long_is_ended_and_its_hook_is_called(tracked: Path, tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    hook = f'[hooks]\non_failure = {{command = ["sh", "-c", "cat > {told}"]}}\n'
    text = ENDLESS + '[schedule]\nevery = "1d"\ntimeout_seconds = 12\n' + hook
    with scheduler(tmp_path, write_recipe(tmp_path / "data", text=text)) as running:
        log = running.wait_for("shop: timeout after")
        while not told.exists() or not told.read_text():
            time.sleep(0.1)
        (pid,) = re.findall(r"process (\d+)\)", log)
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
    event = json.loads(told.read_text())
    assert (event["event"], event["recipe"], event["verdict"]) == ("failure", "shop", "timeout")
    assert "timeout_seconds = 12" in event["reason"]


@pytest.mark.slow
def test_a_stop_in_the_middle_of_a_run_ends_it_in_ten_seconds_and_the_next_start_makes_up_for_it(
    tracked: Path, tmp_path: Path
) -> None:
    path = write_recipe(tmp_path / "data", text=ENDLESS + DAILY)
    with scheduler(tmp_path, path) as running:
        running.wait_for("gru: ")
        begun = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(timeout=15) == 0
        assert time.monotonic() - begun < 10
        (pid,) = re.findall(r"process (\d+)\)", running.log.read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    assert schedule_state.load("shop").verdict == "stopped"
    path.write_text(RECIPE + DAILY)
    with scheduler(tmp_path, path) as running:
        running.wait_for("(the run before was stopped; process")
        running.wait_for("shop: promoted after")


def test_the_list_tells_next_and_last_runs_and_starts_nothing(forecast: Command, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, text=RECIPE + '[schedule]\ncron = "0 3 * * 1"\ntimezone = "Asia/Tokyo"\n')
    ended = forecast("schedule", path, "--list")
    assert ended.code == 0
    assert "0 3 * * 1 Asia/Tokyo" in ended.out
    assert "never" in ended.out
    moment = 1_700_000_000.0
    schedule_state.save("shop", State(started=moment, succeeded=moment + 60, verdict="kept", reason="good"))
    (row,) = json.loads(forecast("schedule", path, "--list", "--json").out)["recipes"]
    assert row["last_run"] == "2023-11-14T22:13:20+00:00"
    assert row["last_success"] == "2023-11-14T22:14:20+00:00"
    assert (row["last_verdict"], row["last_reason"]) == ("kept", "good")
    assert row["next_run"].endswith("T18:00:00+00:00"), "3 o'clock in Tokyo"


def test_what_cannot_be_scheduled_is_refused_at_the_start(forecast: Command, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, text=RECIPE + '[schedule]\ncron = "0 3 * *"\n')
    ended = forecast("schedule", path)
    assert ended.code == 2
    assert "schedule: a cron line has five fields" in ended.err
    good = write_recipe(tmp_path / "one"), write_recipe(tmp_path / "two")
    ended = forecast("schedule", *good)
    assert ended.code == 2
    assert "two of the recipes are named 'shop'" in ended.err
    assert forecast("schedule", "nothing_like_it").code == 2


def test_a_damaged_memory_is_no_memory() -> None:
    schedule_state.save("shop", State(started=1.0))
    assert schedule_state.load("shop").started == 1.0
    from forecast import home

    (home.home() / "schedule" / "shop.json").write_text('{"started": 1')
    assert schedule_state.load("shop") == State()


def test_a_child_that_is_locked_out_is_no_failure(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    with recipe_lock("shop"):
        ended = Child(["retrain", str(path), "--json"], say=lambda line: None).wait(60.0)
    assert ended.code == 75
    assert judged(ended, timeout_seconds=60.0)[0] == "locked"


def test_a_child_that_fails_says_why_in_its_last_line() -> None:
    lines: list[str] = []
    ended = Child(["retrain", "stoks", "--json"], say=lines.append).wait(60.0)
    verdict, reason, _ = judged(ended, timeout_seconds=60.0)
    assert verdict == "failed"
    assert reason.startswith("there is no recipe 'stoks'")
    assert lines == [f"error: {reason}"]


def test_lines_are_json_where_machines_read_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines import schedule_command

    schedule_command._say("shop: promoted")
    monkeypatch.setenv("FORECAST_LOG_FORMAT", "json")
    schedule_command._say('shop: "promoted"')
    plain, line = capsys.readouterr().err.splitlines()
    assert plain.endswith("Z shop: promoted")
    assert json.loads(line)["message"] == 'shop: "promoted"'
