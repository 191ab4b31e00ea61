"""The box without containers, for development: `make stack`.

Starts a private PostgreSQL from the local programs, MLflow, the scheduler and the service on free ports of
this machine, prints where they are, and stops them all on Ctrl-C or SIGTERM. What they keep lies in one
folder and is there again at the next start. Ends with 1 as soon as one of them ends by itself.
"""

import argparse
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]
FORECAST = str(Path(sys.executable).with_name("forecast"))
START_SECONDS = 180.0
STOP_SECONDS = 20.0


class Trouble(Exception):
    """Something could not be started; the message says what to do."""


@dataclass
class Stack:
    """The processes, in the order of their start, and where they answer."""

    folder: Path
    recipes: list[str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    is_stopping: bool = False

    @property
    def urls(self) -> dict[str, str]:
        """Where each part answers; the database with its password, which only this user can read here."""
        http = {name: f"http://127.0.0.1:{self.ports[name]}" for name in ("service", "mlflow", "scheduler")}
        return {**http, "database": f"{self.database('mlflow')}", "folder": str(self.folder)}

    @property
    def environment(self) -> dict[str, str]:
        """What every process of ours gets."""
        return {
            "PGPASSWORD": self.password,
            "FORECAST_HOME": str(self.folder / "home"),
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.ports['mlflow']}",
            "FORECAST_LOCK_URL": self.database("forecast"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    @property
    def password(self) -> str:
        """The database's password, made once."""
        path = self.folder / "password"
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(18))
        return path.read_text()

    def database(self, name: str) -> str:
        """The address of a database; the password comes with PGPASSWORD."""
        return f"postgresql+psycopg://forecast@127.0.0.1:{self.ports['database']}/{name}"

    def start(self) -> None:
        """Everything, each part when the one that it needs answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ports = {name: free_port() for name in ("database", "mlflow", "scheduler", "service")}
        start_postgres(self)
        self.run_once("db", "upgrade", MLFLOW_TRACKING_URI=self.database("mlflow"))
        server = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", self.port("mlflow")]
        artifacts = ["--artifacts-destination", str(self.folder / "artifacts")]
        self.launch("mlflow", [*server, "--backend-store-uri", self.database("mlflow"), *artifacts])
        self.wait_for("mlflow", answers(f"http://127.0.0.1:{self.ports['mlflow']}/health"))
        self.launch("scheduler", [FORECAST, "schedule", *self.recipes, "--port", self.port("scheduler")])
        self.launch("service", [FORECAST, "serve", "--port", self.port("service")])
        for name in ("scheduler", "service"):
            self.wait_for(name, answers(f"http://127.0.0.1:{self.ports[name]}/livez"))

    def port(self, name: str) -> str:
        """The port of a part, for a command line."""
        return str(self.ports[name])

    def launch(self, name: str, command: list[str], *, user: str | None = None) -> None:
        """Start a process; what it prints goes to a file of the folder."""
        self.running[name] = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self.log(name).open("ab"),
            stderr=subprocess.STDOUT,
            env={**os.environ, **self.environment},
            cwd="/" if user else ROOT,
            user=user,
            start_new_session=True,
        )

    def run_once(self, *arguments: str, **changed: str) -> None:
        """A command of `forecast` that has to end well."""
        done = subprocess.run(
            [FORECAST, *arguments],
            env={**os.environ, **self.environment, **changed},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Trouble(f"`forecast {' '.join(arguments)}` failed: {done.stderr.strip()}")

    def log(self, name: str) -> Path:
        """Where a process writes."""
        return self.folder / f"{name}.log"

    def wait_for(self, name: str, is_up: Callable[[], bool]) -> None:
        """Return when a part answers; Trouble with the end of its log where it does not."""
        until = time.monotonic() + START_SECONDS
        while not is_up():
            if self.is_stopping:
                raise KeyboardInterrupt
            if self.running[name].poll() is not None or time.monotonic() > until:
                raise Trouble(
                    f"{name} did not start; its log, {self.log(name)}, ends with:\n{self.tail(name)}"
                )
            time.sleep(0.1)

    def tail(self, name: str) -> str:
        """The last lines of a log."""
        return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-15:])

    def ended(self) -> str | None:
        """The name of a part that has ended by itself."""
        return next((name for name, process in self.running.items() if process.poll() is not None), None)

    def stop(self) -> None:
        """End everything in the reverse order of its start, each in its own orderly way."""
        for name, process in reversed(self.running.items()):
            if process.poll() is None:
                process.send_signal(signal.SIGINT if name == "database" else signal.SIGTERM)
                try:
                    process.wait(timeout=STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        self.running.clear()


def start_postgres(stack: Stack) -> None:
    """A server of this stack alone, made at the first start; it refuses root, who hands it over."""
    programs, user = postgres_programs(), unprivileged()
    data = stack.folder / "postgres"
    if not (data / "PG_VERSION").exists():
        make_cluster(programs, user, data, stack.password)
    options = ["-h", "127.0.0.1", "-p", stack.port("database"), "-c", "unix_socket_directories="]
    stack.launch("database", [str(programs / "postgres"), "-D", str(data), *options], user=user)
    stack.wait_for("database", lambda: postgres_answers(programs, stack.port("database")))
    make_databases(stack, ("mlflow", "forecast"))


def make_cluster(programs: Path, user: str | None, data: Path, password: str) -> None:
    """An empty server's folder."""
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(mode=0o700, parents=True)
    secret = data.with_name("postgres-password")
    with os.fdopen(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(password)
    try:
        if user:
            for path in (data, secret):
                shutil.chown(path, user)
        command = [str(programs / "initdb"), "--auth=scram-sha-256", "--username=forecast", "--encoding=UTF8"]
        command += ["--locale=C", f"--pwfile={secret}", str(data)]
        done = subprocess.run(command, user=user, cwd="/", capture_output=True, text=True, check=False)
    finally:
        secret.unlink(missing_ok=True)
    if done.returncode:
        shutil.rmtree(data, ignore_errors=True)
        hint = f"; the user {user} has to reach that folder: choose another with --folder" if user else ""
        raise Trouble(f"PostgreSQL cannot keep its data in {data}: {done.stderr.strip()}{hint}")


def make_databases(stack: Stack, names: tuple[str, ...]) -> None:
    """The databases that are missing."""
    import psycopg

    address = stack.database("postgres").replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(address, password=stack.password, autocommit=True) as connection:
        there = {row[0] for row in connection.execute("select datname from pg_database").fetchall()}
        for name in names:
            if name not in there:
                connection.execute(f'create database "{name}"'.encode())


def postgres_answers(programs: Path, port: str) -> bool:
    """Whether the server takes connections."""
    command = [str(programs / "pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={port}"]
    return subprocess.run(command, check=False).returncode == 0


def postgres_programs() -> Path:
    """The folder of the newest PostgreSQL's programs; Trouble where there is none."""
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    found = sorted(
        (each for each in folders if (each / "initdb").exists()), key=lambda each: int(each.parent.name)
    )
    on_path = shutil.which("initdb")
    if not found and not on_path:
        raise Trouble(
            "PostgreSQL's server programs are not here; install them (Debian: apt install postgresql), or "
            "use the containers: make up"
        )
    return found[-1] if found else Path(str(on_path)).resolve().parent


def unprivileged() -> str | None:
    """The user to run PostgreSQL as; None for the one who runs this."""
    if os.geteuid() != 0:
        return None
    names = {each.pw_name for each in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answers(url: str) -> Callable[[], bool]:
    """Whether a URL answers well, asked anew at each call."""

    def ask() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return ask


def show(urls: Mapping[str, str], *, as_json: bool) -> None:
    """Where everything is."""
    if as_json:
        print(json.dumps(urls), flush=True)
        return
    print(f"service    {urls['service']}/docs")
    print(f"MLflow     {urls['mlflow']}/?workflowType=machine_learning")
    print(f"scheduler  {urls['scheduler']}/status")
    print(f"database   {urls['database']}   (password: {urls['folder']}/password)")
    print(
        f"logs, data {urls['folder']}\nCtrl-C stops everything; a new stack trains its first champion now",
        flush=True,
    )


def main() -> None:
    """Start, wait for a signal, stop."""
    parser = argparse.ArgumentParser(prog="make stack", description=__doc__)
    parser.add_argument("recipes", nargs="*", default=["air_passengers"], help="what the scheduler retrains")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/stack", help="where everything is kept")
    parser.add_argument("--json", action="store_true", help="print one JSON object with all addresses")
    arguments = parser.parse_args()
    stack = Stack(arguments.folder.resolve(), arguments.recipes)

    def stop(number: int, frame: FrameType | None) -> None:
        stack.is_stopping = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        stack.start()
        show(stack.urls, as_json=arguments.json)
        while not stack.is_stopping:
            if name := stack.ended():
                raise Trouble(
                    f"{name} ended by itself; its log, {stack.log(name)}, ends with:\n{stack.tail(name)}"
                )
            time.sleep(0.2)
    except (Trouble, OSError) as trouble:
        print(f"error: {trouble}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        pass
    finally:
        stack.stop()


if __name__ == "__main__":
    main()
