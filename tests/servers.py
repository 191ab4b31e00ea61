"""Real servers for tests: a private PostgreSQL, an MLflow server, an S3 store; each ends with its block."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

START_SECONDS = 120.0
"""How long a server may take to answer on a busy machine."""


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Process:
    """A server that can be stopped, killed and started again."""

    command: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its output goes to the log."""
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def stop(self, *, signal_number: int = 15) -> None:
        """End it with all processes that it has started."""
        if self.running is None:
            return
        import signal

        if self.running.poll() is None:
            os.killpg(self.running.pid, signal_number)
            try:
                self.running.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(self.running.pid, signal.SIGKILL)
                self.running.wait(timeout=20)
        self.running = None

    def wait_for(self, url: str) -> None:
        """Return when `url` answers well; AssertionError with the log where the process ends before."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            assert self.running is not None
            assert self.running.poll() is None, self.log.read_text()
            try:
                if requests.get(url, timeout=2).ok:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL of this test session."""

    port: int
    folder: Path
    programs: Path
    password: str = "s3cret/with@signs"

    def url(self, database: str, *, user: str = "postgres", password: str | None = None) -> str:
        """The address of a database, as SQLAlchemy and MLflow take it."""
        secret = quote(password or self.password, safe="")
        return f"postgresql+psycopg://{user}:{secret}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """A new empty database; returns its address."""
        self.execute(f'create database "{database}"')
        return self.url(database)

    def execute(self, statement: str, *, database: str = "postgres") -> None:
        """Run one statement as the superuser."""
        import psycopg

        dsn = self.url(database).replace("postgresql+psycopg", "postgresql")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A private PostgreSQL that listens on 127.0.0.1 and asks for a password.

    Skips where its programs are missing. They refuse to run as root, so root hands them to another user.
    """
    programs = postgres_programs()
    user = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # the path of a socket may not be long
    made = Postgres(free_port(), folder, programs)
    try:
        (folder / "password").write_text(made.password)
        if user:
            for path in (folder, folder / "password"):
                shutil.chown(path, user)
        initdb = ["initdb", "--no-sync", "--auth=scram-sha-256", "--username=postgres", "--locale=C"]
        _run(made, user, *initdb, "--encoding=UTF8", f"--pwfile={folder}/password", f"{folder}/data")
        options = f"-F -h 127.0.0.1 -p {made.port} -k {folder} -c max_connections=60"
        _run(
            made, user, "pg_ctl", "start", "-w", "-D", f"{folder}/data", "-l", f"{folder}/log", "-o", options
        )
        try:
            yield made
        finally:
            _run(made, user, "pg_ctl", "stop", "-D", f"{folder}/data", "-m", "immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(server: Postgres, user: str | None, program: str, *arguments: str) -> None:
    done = subprocess.run(
        [str(server.programs / program), *arguments],
        user=user,
        cwd="/tmp",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
        stderr=subprocess.STDOUT if program == "initdb" else subprocess.DEVNULL,
        text=True,
        check=False,
    )
    log = server.folder / "log"
    assert done.returncode == 0, f"{program}: {done.stdout} {log.read_text() if log.exists() else ''}"


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A new folder that the user who runs PostgreSQL can reach: pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="stack-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def postgres_programs() -> Path:
    """The folder of PostgreSQL's programs; skips where there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda each: int(each.parts[4]))
    on_path = shutil.which("initdb")
    if not found and not on_path:
        pytest.skip("needs PostgreSQL's server programs (Debian package postgresql)")
    return found[-1].parent if found else Path(str(on_path)).resolve().parent


def _unprivileged() -> str | None:
    """The user to run PostgreSQL as; None for the one who runs the tests."""
    if os.geteuid() != 0:
        return None
    import pwd

    names = {each.pw_name for each in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@dataclass
class Mlflow:
    """A running MLflow server."""

    url: str
    process: Process

    def start(self) -> None:
        """Start it, again on the same port where it ran before, and wait until it answers."""
        self.process.start()
        self.process.wait_for(f"{self.url}/health")

    def stop(self) -> None:
        """End it in order."""
        self.process.stop()

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.stop(signal_number=9)


@contextmanager
def mlflow_server(
    folder: Path,
    *,
    backend: str,
    artifacts: str | None = None,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Mlflow]:
    """An MLflow server with one worker, no jobs, and artifacts that go through it into `artifacts`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    store = ["--backend-store-uri", backend, "--artifacts-destination", artifacts or str(folder / "store")]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = Process(
        [*command, *store, *options], folder / "server.log", {**settings, **(environment or {})}
    )
    server = Mlflow(f"http://127.0.0.1:{port}", process)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@dataclass(frozen=True)
class Login:
    """A user of an MLflow server that asks for a password."""

    name: str
    password: str

    @property
    def environment(self) -> dict[str, str]:
        """What makes MLflow's client send it."""
        return {"MLFLOW_TRACKING_USERNAME": self.name, "MLFLOW_TRACKING_PASSWORD": self.password}


ADMIN = Login("trainer", "trainers-long-secret")
READER = Login("service", "services-long-secret")


def basic_auth(folder: Path, *, database: str) -> dict[str, str]:
    """The environment of a server with `--app-name basic-auth`; everybody else may READ."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = {
        "default_permission": "READ",
        "database_uri": database.replace("%", "%%"),
        "admin_username": ADMIN.name,
        "admin_password": ADMIN.password,
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        "auth_cache_ttl_seconds": "60",
    }
    text = "[mlflow]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())
    (folder / "basic_auth.ini").write_text(text)
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "basic_auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "for tests only",
    }


def add_reader(server: Mlflow) -> None:
    """Make the user whom the service is: it may read everything and write nothing."""
    answer = requests.post(
        f"{server.url}/api/2.0/mlflow/users/create",
        json={"username": READER.name, "password": READER.password},
        auth=(ADMIN.name, ADMIN.password),
        timeout=30,
    )
    assert answer.ok, answer.text


@dataclass(frozen=True)
class S3:
    """A running S3 store; real HTTP, objects in memory."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """What makes MLflow and boto3 use it."""
        return {
            "MLFLOW_S3_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test-key",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def objects(self, bucket: str) -> list[str]:
        """The keys in a bucket."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [each["Key"] for page in pages for each in page.get("Contents", [])]

    def create(self, bucket: str) -> str:
        """A new bucket; returns its address."""
        self.client().create_bucket(Bucket=bucket)
        return f"s3://{bucket}"

    def client(self) -> Any:
        """A client of it."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id="test-key",
            aws_secret_access_key="test-secret",
            region_name="us-east-1",
        )


@contextmanager
def s3(folder: Path) -> Iterator[S3]:
    """An S3 store: moto's server."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    process = Process([sys.executable, "-c", code], folder / "s3.log", {})
    try:
        process.start()
        process.wait_for(f"http://127.0.0.1:{port}/moto-api/")
        yield S3(f"http://127.0.0.1:{port}")
    finally:
        process.stop()
