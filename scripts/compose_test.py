"""Proves the box on a container engine: `make compose-test`. Needs docker with compose, no package.

Brings a stack of its own up from nothing (own project, ports, volumes and secrets), has `air_passengers`
trained inside the scheduler, compares the service's forecast with the library's, kills and restarts each
container in turn, promotes a version, takes the stack down and up again, and removes it. Ends with 1 at the
first thing that is not as it should be. KEEP=1 leaves the stack; SERVICE_TORCH, COMPOSE_PROFILES, MLFLOW_AUTH
and what else .env.example names are taken from the environment.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
MODEL = "air_passengers"
POLL_SECONDS = 2.0
SLACK_SECONDS = 1.0
"""What copying, loading and looking may take beside the poll interval."""
STARTED = time.monotonic()

LIBRARY = """
import json
from forecast.series import datasets
import forecast as fc
from pipelines import registry
forecaster = registry.load(registry.find("air_passengers@champion"))
panel = fc.from_frame(datasets.load("air_passengers"), freq="MS")
frame = forecaster.predict(panel).to_frame(levels=[80, 95])
rows = datasets.load("air_passengers")
print(json.dumps({
    "history": {"start": str(rows["ds"].iloc[0].date()), "y": [float(y) for y in rows["y"]]},
    "forecast": {name: [float(x) for x in frame[name]] for name in ("median", "lo-80", "hi-80", "hi-95")},
}))
"""
"""The library's forecast by the registered champion, and the history it was made from."""

SECOND_RECIPE = """
from pathlib import Path
folder = Path("/tmp/second")
folder.mkdir(exist_ok=True)
(folder / "air_passengers.toml").write_text('''
name = "air_passengers"
freq = "MS"
horizon = 12
season_length = 12
levels = [80, 95]
candidates = ["ridge"]
[data]
dataset = "air_passengers"
[backtest]
num_windows = 4
stride = 12
''')
"""
"""Another recipe of the same model, quickly trained: it gives the model a second version."""


KILL_MAIN = """
import os, pathlib, signal
for each in pathlib.Path("/proc").glob("[0-9]*"):
    parent = (each / "stat").read_text().rsplit(")", 1)[1].split()[1]
    if parent == "1" and "serve" in (each / "cmdline").read_text():
        os.kill(int(each.name), signal.SIGKILL)
"""
"""Kills the program below the container's init, as a crash or the lack of memory would."""


class Failure(Exception):
    """Something is not as it should be."""


class Box:
    """One stack with names of its own, so that it meets no other on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in ("FORECAST_PORT", "MLFLOW_PORT")}
        self.environment = {
            **os.environ,
            **{name: str(port) for name, port in self.ports.items()},
            "COMPOSE_PROJECT_NAME": "forecast-compose-test",
            "COMPOSE_ENV_FILES": "/dev/null",
            "COMPOSE_PROFILES": os.environ.get("COMPOSE_PROFILES", ""),
            "SECRETS_FOLDER": str(folder / "secrets"),
            "RECIPES_FOLDER": str(folder / "recipes"),
            "FORECAST_RECIPES": MODEL,
            "FORECAST_POLL_SECONDS": str(POLL_SECONDS),
            "MLFLOW_AUTH": os.environ.get("MLFLOW_AUTH", "true"),
        }

    def compose(self, *arguments: str, check: bool = True, seconds: float = 1800) -> str:
        """stdout of a `docker compose` command."""
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and done.returncode:
            raise Failure(
                f"`docker compose {' '.join(arguments)[:80]}` ended with {done.returncode}: "
                f"{done.stderr[-3000:]}"
            )
        return done.stdout

    def script(self, name: str, *arguments: str) -> None:
        """Run a script of scripts/ on this stack."""
        done = subprocess.run(
            ["sh", str(ROOT / "scripts" / name), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        require(done.returncode == 0, f"{name} failed: {done.stderr[-3000:]}")

    def python(self, service: str, code: str) -> Any:
        """What a program prints as JSON in a container."""
        out = self.compose("exec", "-T", service, "entrypoint", "python", "-c", code)
        return json.loads(out.splitlines()[-1]) if out.strip() else None

    def up(self) -> None:
        """Start everything and wait until it is healthy."""
        self.compose("up", "-d", "--build", "--wait", "--wait-timeout", "600")

    def call(self, path: str, body: Any = None) -> Any:
        """An answer of the service, with the key that the setup has made."""
        key = (self.folder / "secrets/api_key").read_text()
        return fetch(
            f"http://127.0.0.1:{self.ports['FORECAST_PORT']}{path}", body, {"authorization": f"Bearer {key}"}
        )

    def mlflow(self, path: str, body: Any = None) -> Any:
        """An answer of MLflow's API, as the user who may do all."""
        import base64

        password = (self.folder / "secrets/mlflow-trainer/password").read_text()
        token = base64.b64encode(f"trainer:{password}".encode()).decode()
        url = f"http://127.0.0.1:{self.ports['MLFLOW_PORT']}/api/2.0/mlflow/{path}"
        return fetch(url, body, {"authorization": f"Basic {token}"})

    def kept(self) -> dict[str, Any]:
        """What may never be lost: the runs, and the versions with their aliases."""
        experiments = self.mlflow("experiments/search", {"max_results": 100})["experiments"]
        ids = [each["experiment_id"] for each in experiments]
        runs = self.mlflow("runs/search", {"experiment_ids": ids, "max_results": 1000}).get("runs", [])
        versions = self.mlflow("model-versions/search").get("model_versions", [])
        return {
            "runs": sorted(each["info"]["run_id"] for each in runs),
            "versions": sorted((each["name"], str(each["version"])) for each in versions),
        }

    def forecast(self, history: dict[str, Any]) -> dict[str, Any]:
        """The champion's forecast over HTTP."""
        series = {"unique_id": "AP", "start": history["start"], "y": history["y"]}
        answer: dict[str, Any] = self.call(
            "/v1/forecasts", {"model": MODEL, "horizon": 12, "levels": [80, 95], "series": [series]}
        )
        return answer


def fetch(url: str, body: Any, headers: dict[str, str]) -> Any:
    """The JSON that a URL answers with; GET where there is no body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def say(line: str) -> None:
    """One line with the seconds since the start."""
    print(f"{time.monotonic() - STARTED:7.1f} s  {line}", flush=True)


def wait_for(what: str, attempt: Callable[[], Any], *, seconds: float) -> Any:
    """What `attempt` returns once it is true; Failure after some seconds, with its last error."""
    until, last = time.monotonic() + seconds, "nothing"
    while time.monotonic() < until:
        try:
            if found := attempt():
                return found
        except (OSError, ValueError, KeyError) as error:
            last = f"{type(error).__name__}: {error}"
        time.sleep(0.1)
    raise Failure(f"{what}: not within {seconds:.0f} s; last: {last}")


def require_engine() -> None:
    """End with a message where no containers can be run."""
    for command in (["docker", "version"], ["docker", "compose", "version"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            refuse(f"{command[0]} cannot be run: {error}")
        if done.returncode:
            refuse(f"`{' '.join(command)}` says: {(done.stderr or done.stdout).strip()}")


def refuse(reason: str) -> NoReturn:
    """End before anything is done."""
    print(
        f"error: make compose-test needs a container engine with compose, and there is none here. {reason}\n"
        "       Start one, or let DOCKER_HOST name it; `make compose-check` needs none.",
        file=sys.stderr,
    )
    sys.exit(3)


def require(holds: bool, what: str) -> None:
    """Failure unless it holds."""
    if not holds:
        raise Failure(what)


def same_forecast(answer: dict[str, Any], wanted: dict[str, list[float]]) -> None:
    """Failure unless a forecast over HTTP has the library's numbers."""
    got = answer["forecasts"][0]
    for name, values in wanted.items():
        for mine, theirs in zip(got[name], values, strict=True):
            require(
                abs(mine - theirs) <= 1e-4 * abs(theirs),
                f"{name}: the service says {mine}, the library {theirs}",
            )


def start_from_nothing(box: Box) -> tuple[dict[str, Any], dict[str, Any]]:
    """The stack up, the scheduler's first champion served, with the library's numbers."""
    secret = box.folder / "secrets/recipes.env"
    secret.parent.mkdir()
    secret.write_text("BOX_TOKEN=of-a-recipe\n", encoding="utf-8")
    box.up()
    say("up from nothing: every container is healthy")
    token = box.compose("exec", "-T", "scheduler", "printenv", "BOX_TOKEN")
    require(token.strip() == "of-a-recipe", "the scheduler has not got secrets/recipes.env")
    wait_for("a champion trained by the scheduler", lambda: served_version(box), seconds=900)
    say(f"the scheduler has trained {MODEL}; the service serves version {served_version(box)}")
    library = box.python("scheduler", LIBRARY)
    answer = box.forecast(library["history"])
    same_forecast(answer, library["forecast"])
    first = [round(x, 1) for x in answer["forecasts"][0]["median"][:3]]
    say(f"the service's forecast is the library's: {first}...")
    return library, answer


def served_version(box: Box) -> str | None:
    """The version that answers now."""
    models = box.call("/v1/models")["models"]
    return next((str(each["version"]) for each in models if each["name"] == MODEL), None)


def kill_each(box: Box, library: dict[str, Any]) -> None:
    """Kill and restart every container: the champion goes on serving, and nothing is lost."""
    before = wait_quiet(box)
    for name in ("postgres", "mlflow", "scheduler", "service"):
        box.compose("kill", "-s", "KILL", name)
        if name != "service":
            same_forecast(box.forecast(library["history"]), library["forecast"])
            say(f"{name} is killed: the champion goes on serving")
        box.compose("start", name)
        box.compose("up", "-d", "--wait", "--wait-timeout", "300", "--no-recreate")
        wait_for("the champion's forecast", lambda: box.forecast(library["history"]), seconds=60)
        same_forecast(box.forecast(library["history"]), library["forecast"])
        nothing_lost(before, wait_for("MLflow", box.kept, seconds=60), f"after {name} was killed")
        counts = f"{len(before['runs'])} runs, {len(before['versions'])} versions"
        say(f"{name} is back: same forecast, {counts}, none lost")


def crash(box: Box) -> None:
    """A process that dies is started again by the engine, without anybody's help."""
    container = box.compose("ps", "-q", "service").strip()
    count = restarts(container)
    box.compose("exec", "-T", "service", "python", "-c", KILL_MAIN, check=False)
    wait_for("the engine's restart", lambda: restarts(container) > count, seconds=60)
    wait_for("the service after its crash", lambda: served_version(box), seconds=60)
    say("a crashed service was restarted by the engine and serves")


def restarts(container: str) -> int:
    """How often the engine has restarted a container."""
    command = ["docker", "inspect", "--format", "{{.RestartCount}}", container]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def wait_quiet(box: Box) -> dict[str, Any]:
    """What is kept, once no retrain runs."""

    def settled() -> dict[str, Any] | None:
        first = box.kept()
        time.sleep(3)
        return first if first == box.kept() else None

    found: dict[str, Any] = wait_for("an end of the retraining", settled, seconds=300)
    return found


def nothing_lost(before: dict[str, Any], after: dict[str, Any], when: str) -> None:
    """Failure where a run or a version is missing."""
    for kind in ("runs", "versions"):
        lost = [each for each in before[kind] if each not in after[kind]]
        require(not lost, f"{kind} lost {when}: {lost}")


def promote(box: Box) -> str:
    """A second version is made and promoted; the service answers with it within its poll interval."""
    box.python("scheduler", SECOND_RECIPE)
    box.compose("exec", "-T", "scheduler", "forecast", "retrain", "/tmp/second/air_passengers.toml", "--json")
    versions = [version for name, version in box.kept()["versions"] if name == MODEL]
    newest = max(versions, key=int)
    require(newest != "1" and len(versions) > 1, f"no second version was made: {versions}")
    if served_version(box) == newest:  # it won; the point is a promotion that we can time
        newest = "1"
    seconds = seconds_to_serve(box, newest)
    allowed = POLL_SECONDS + SLACK_SECONDS
    require(
        seconds <= allowed,
        f"the promotion took {seconds:.1f} s to serve, and more than {allowed} s is too long",
    )
    say(f"version {newest} served {seconds:.1f} s after its promotion (poll interval {POLL_SECONDS:.0f} s)")
    return newest


def seconds_to_serve(box: Box, version: str) -> float:
    """Promote a version; the time from the move of the alias in MLflow to the first answer by it."""
    command = ["docker", "compose", "exec", "-T", "scheduler", "forecast", "promote", MODEL, version]
    with subprocess.Popen(
        [*command, "--reason", "compose-test"], cwd=ROOT, env=box.environment, stdout=subprocess.DEVNULL
    ) as promotion:
        alias = f"registered-models/alias?name={MODEL}&alias=champion"
        wait_for(
            "the move of the alias",
            lambda: str(box.mlflow(alias)["model_version"]["version"]) == version,
            seconds=120,
        )
        moved = time.monotonic()
        wait_for(f"version {version} in the service", lambda: served_version(box) == version, seconds=60)
        seconds = time.monotonic() - moved
        require(promotion.wait(timeout=120) == 0, "forecast promote failed")
    return seconds


def stop_gracefully(box: Box) -> None:
    """Every container ends by itself within ten seconds."""
    for name in ("service", "scheduler", "mlflow", "postgres"):
        container = box.compose("ps", "-q", name).strip()
        begun = time.monotonic()
        box.compose("stop", name)
        seconds = time.monotonic() - begun
        command = ["docker", "inspect", "--format", "{{.State.ExitCode}}", container]
        code = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        require(code == "0" and seconds < 11, f"{name} ended with {code} after {seconds:.1f} s")
        say(f"{name} stopped by itself in {seconds:.1f} s with exit code 0")


def down_and_up(box: Box, version: str, history: dict[str, Any]) -> None:
    """Containers are made anew from the volumes: everything is as it was."""
    before, answer = wait_quiet(box), box.forecast(history)
    stop_gracefully(box)
    box.compose("down")
    box.up()
    wait_for("the champion after down and up", lambda: served_version(box) == version, seconds=60)
    require(
        box.forecast(history)["forecasts"] == answer["forecasts"], "the forecast changed with down and up"
    )
    nothing_lost(before, box.kept(), "with down and up")
    say("down and up: same champion, same forecast, every run and version")


def lose_and_restore(box: Box, version: str, history: dict[str, Any]) -> None:
    """Everything is lost but a backup, and comes back from it."""
    before, answer = box.kept(), box.forecast(history)
    backup = str(box.folder / "backup")
    box.compose(
        "exec", "-T", "service", "sh", "-c", "mkdir -p /answers/lost && echo kept > /answers/lost/note"
    )
    box.script("backup.sh", backup)
    box.compose("down", "--volumes")
    say("a backup was made, and everything else was thrown away")
    box.compose("up", "-d", "--wait", "--wait-timeout", "600", "postgres", "mlflow", "service")
    box.script("restore.sh", backup)
    wait_for("the champion after the restore", lambda: served_version(box) == version, seconds=120)
    require(
        box.forecast(history)["forecasts"] == answer["forecasts"], "the forecast changed with the restore"
    )
    nothing_lost(before, box.kept(), "with the restore")
    note = box.compose("exec", "-T", "scheduler", "cat", "/answers/lost/note")
    require(note.strip() == "kept", "the recorded answers were lost with the restore")
    say("restored: same champion, same forecast, every run and version")


def images(box: Box) -> None:
    """The sizes of what was built, and that nothing runs as root."""
    for name in ("service", "scheduler", "mlflow"):
        user = box.compose("exec", "-T", name, "id", "-u").strip()
        require(user == "10001", f"{name} runs as user {user}")
    torch = box.compose(
        "exec", "-T", "service", "python", "-c", "import importlib.util as u; print(u.find_spec('torch'))"
    )
    require(torch.strip() == "None", "the service's image holds torch")
    say("nothing of ours runs as root, and the service serves without torch")


def main() -> None:
    """All of it, on a stack that is removed at the end."""
    require_engine()
    folder = Path(tempfile.mkdtemp(prefix="forecast-compose-"))
    box = Box(folder)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))
    try:
        box.compose("down", "--volumes", "--remove-orphans")
        library, _ = start_from_nothing(box)
        images(box)
        kill_each(box, library)
        crash(box)
        version = promote(box)
        down_and_up(box, version, library["history"])
        lose_and_restore(box, version, library["history"])
        say("compose-test passed")
    except Failure as failure:
        print(box.compose("ps", "-a", check=False), file=sys.stderr)
        print(box.compose("logs", "--no-color", "--tail", "40", check=False), file=sys.stderr)
        print(f"error: {failure}", file=sys.stderr)
        sys.exit(1)
    finally:
        if not os.environ.get("KEEP"):
            box.compose("down", "--volumes", "--remove-orphans", check=False)
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    except (urllib.error.URLError, subprocess.SubprocessError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
