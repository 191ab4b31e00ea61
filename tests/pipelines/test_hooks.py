"""Hooks: who is told of a failure and of a promotion, how often it is tried, and what is not said."""

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipelines import hooks
from pipelines.sections import Hook, HooksSection
from tests.pipelines.conftest import RECIPE, Command, write_recipe

EVENT = hooks.Event(event="failure", recipe="shop", verdict="failed", reason="no data", exit_code=2)


class Receiver:
    """A web server that keeps what it is sent, and answers with the given codes one after the other."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.got: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append({"headers": dict(self.headers), "body": json.loads(body)})
                self.send_response(receiver.codes.pop(0) if receiver.codes else 200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/secret-path"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def flaky() -> Iterator[Receiver]:
    """Answers 503 twice, then well."""
    receiver = Receiver(503, 503)
    yield receiver
    receiver.close()


def test_a_webhook_is_tried_again_until_it_takes_the_event(
    flaky: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", "t0ken")
    headers = {"authorization": "Bearer ${HOOK_TOKEN}"}
    section = HooksSection(on_failure=Hook(url=flaky.url, headers=headers))
    lines: list[str] = []
    assert hooks.call(section, EVENT, say=lines.append)
    assert len(flaky.got) == 3
    assert flaky.got[2]["body"]["reason"] == "no data"
    assert flaky.got[2]["body"]["event"] == "failure"
    assert {key.lower(): value for key, value in flaky.got[2]["headers"].items()}[
        "authorization"
    ] == "Bearer t0ken"
    assert lines[0] == "shop: the hook on failure failed (HTTP status 503); trying again in 0.01 s"
    assert not any("secret-path" in line or "t0ken" in line for line in lines)


def test_a_webhook_that_says_no_is_not_asked_again() -> None:
    receiver = Receiver(404, 200)
    lines: list[str] = []
    assert not hooks.call(HooksSection(on_failure=Hook(url=receiver.url)), EVENT, say=lines.append)
    receiver.close()
    assert len(receiver.got) == 1
    assert lines == ["shop: the hook on failure failed (HTTP status 404); given up"]


def test_nobody_listening_is_told_of_and_raises_nothing() -> None:
    receiver = Receiver()
    receiver.close()
    lines: list[str] = []
    assert not hooks.call(HooksSection(on_failure=Hook(url=receiver.url)), EVENT, say=lines.append)
    assert len(lines) == 3
    assert lines[2].endswith("given up")
    assert "secret-path" not in "".join(lines)


def test_a_command_gets_the_event_on_stdin_and_in_its_environment(tmp_path: Path) -> None:
    code = (
        "import json, os, sys; from pathlib import Path; event = json.load(sys.stdin); "
        f"Path({str(tmp_path / 'told')!r}).write_text(event['recipe'] + ' ' + os.environ['FORECAST_REASON'])"
    )
    section = HooksSection(on_failure=Hook(command=(sys.executable, "-c", code)))
    assert hooks.call(section, EVENT, say=print)
    assert (tmp_path / "told").read_text() == "shop no data"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("no-such-program", "it cannot be started"),
        ((sys.executable, "-c", "import sys; sys.exit('wrong room')"), "exit code 1: wrong room"),
        ((sys.executable, "-c", "import time; time.sleep(60)"), "no end after 0.5 s"),
        ("notify ${NOT_SET_ANYWHERE}", "NOT_SET_ANYWHERE is not set"),
    ],
)
def test_a_command_that_fails_is_told_of(command: str | tuple[str, ...], told: str) -> None:
    lines: list[str] = []
    section = HooksSection(on_failure=Hook(command=command), attempts=1, timeout_seconds=0.5)
    assert not hooks.call(section, EVENT, say=lines.append)
    assert told in lines[0]


@pytest.mark.parametrize(
    ("code", "verdict", "event"),
    [
        (0, "promoted", "promotion"),
        (0, "kept", None),
        (0, "unchanged", None),
        (75, "", None),
        (2, "", "failure"),
        (-9, "", "failure"),
    ],
)
def test_what_is_worth_a_call(code: int, verdict: str, event: str | None) -> None:
    found = hooks.event_of("shop", exit_code=code, outcome={"verdict": verdict} if verdict else None)
    assert (found.event if found else None) == event


def test_a_retrain_by_hand_calls_the_hooks_once_and_leaves_them_to_the_scheduler_where_it_has_one(
    tracked: Path, forecast: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = Receiver()
    hook = f'[hooks]\non_failure = {{url = "{receiver.url}"}}\non_promotion = {{url = "{receiver.url}"}}\n'
    path = write_recipe(tmp_path, text=RECIPE + hook)
    assert forecast("retrain", path, "--dry-run").code == 0
    assert receiver.got == []
    assert forecast("retrain", path).code == 0
    assert forecast("retrain", path).code == 0  # unchanged
    bodies = [each["body"] for each in receiver.got]
    assert [(each["event"], each["model_version"]) for each in bodies] == [("promotion", "1")]
    (tmp_path / "sales.parquet").unlink()
    assert forecast("retrain", path).code == 2
    assert receiver.got[-1]["body"]["event"] == "failure"
    assert "there is no file" in receiver.got[-1]["body"]["reason"]
    monkeypatch.setenv(hooks.BY_CALLER, "1")
    assert forecast("retrain", path).code == 2
    receiver.close()
    assert len(receiver.got) == 2
