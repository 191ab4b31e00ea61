"""What runs in production: PostgreSQL, an MLflow server before it, logins, an S3 store, several hosts."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import servers
from tests.pipelines.conftest import write_recipe
from tests.servers import ADMIN, READER, Login, Mlflow, Postgres

pytestmark = [pytest.mark.slow, pytest.mark.postgres]

PROGRAM = str(Path(sys.executable).with_name("forecast"))


@dataclass(frozen=True)
class Host:
    """A machine with its own home folder that is pointed at one server."""

    home: Path
    environment: Mapping[str, str]

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """A command of `forecast` that runs beside this test."""
        return subprocess.Popen(
            [PROGRAM, *map(str, arguments)],
            env={**os.environ, **self.environment, "FORECAST_HOME": str(self.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: object, code: int = 0) -> tuple[str, str]:
        """stdout and stderr of a command that ends with this code."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=240)
        assert process.returncode == code, (out, err)
        return out, err

    def json(self, *arguments: object) -> dict[str, Any]:
        """The object that a command prints with --json."""
        answer: dict[str, Any] = json.loads(self.run(*arguments, "--json")[0])
        return answer


@contextmanager
def serving(host: Host) -> Iterator[httpx.Client]:
    """`forecast serve` on a free port."""
    process = host.start("serve", "--port", "0", "--poll-seconds", "0.5")
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith("serving on "), process.stderr.read()
        with httpx.Client(base_url=line.split()[-1], timeout=120) as client:
            yield client
    finally:
        process.terminate()
        process.communicate(timeout=60)


def answering_version(client: httpx.Client, *, wanted: str) -> dict[str, Any]:
    """The answer of the version `wanted` of the model `shop`, once the service has it."""
    body = {
        "model": "shop",
        "horizon": 7,
        "levels": [80],
        "series": [{"unique_id": "north", "start": "2026-01-01", "y": [float(i % 7) for i in range(28)]}],
    }
    until = time.monotonic() + 120
    while time.monotonic() < until:
        response = client.post("/v1/forecasts", json=body)
        if response.status_code == 200 and str(response.json()["model"]["version"]) == wanted:
            answer: dict[str, Any] = response.json()
            return answer
        time.sleep(0.3)
    raise AssertionError(response.text)


def retrain_promote_serve(trainer: Host, service: Host, data: Path) -> None:
    """The life of a model, by commands only, with the service as another host."""
    recipe = write_recipe(data)
    first = trainer.json("retrain", recipe)
    assert (first["verdict"], first["model_version"]) == ("promoted", "1")
    with serving(service) as client:
        assert answering_version(client, wanted="1")["forecasts"]
        write_recipe(data, num_days=130)
        assert trainer.json("retrain", recipe)["model_version"] == "2"
        answering_version(client, wanted="2")
        trainer.run("rollback", "shop", "--reason", "to be sure")
        answering_version(client, wanted="1")
        trainer.run("promote", "shop", "2", "--reason", "it was fine")
        answering_version(client, wanted="2")
    history = trainer.json("history", "shop")
    assert history["champion"] == "2"
    moves = [(move["action"], move["from"], move["to"]) for move in reversed(history["promotions"])]
    assert moves == [
        ("promote", "none", "1"),
        ("promote", "1", "2"),
        ("rollback", "2", "1"),
        ("promote", "1", "2"),
    ]


@pytest.fixture
def on_postgres(postgres: Postgres, tmp_path: Path) -> Iterator[Mlflow]:
    """An MLflow server on an empty database."""
    backend = postgres.create(f"mlflow_{tmp_path.name}")
    with servers.mlflow_server(tmp_path / "server", backend=backend) as server:
        yield server


def test_a_model_is_trained_promoted_and_served_through_a_server_on_postgresql(
    on_postgres: Mlflow, postgres: Postgres, tmp_path: Path
) -> None:
    locks = postgres.create(f"locks_{tmp_path.name}")
    trainer = Host(tmp_path / "trainer", {"MLFLOW_TRACKING_URI": on_postgres.url, "FORECAST_LOCK_URL": locks})
    service = Host(tmp_path / "service", {"MLFLOW_TRACKING_URI": on_postgres.url})
    retrain_promote_serve(trainer, service, tmp_path / "data")
    assert any((tmp_path / "server" / "store").rglob("spec.json"))
    assert not (tmp_path / "trainer" / "mlflow.db").exists()


def test_a_service_that_may_only_read_serves_and_cannot_promote(postgres: Postgres, tmp_path: Path) -> None:
    environment = servers.basic_auth(tmp_path / "server", database=postgres.create(f"users_{tmp_path.name}"))
    backend = postgres.create(f"mlflow_{tmp_path.name}")
    options = ["--app-name", "basic-auth"]
    with servers.mlflow_server(
        tmp_path / "server", backend=backend, options=options, environment=environment
    ) as server:
        servers.add_reader(server)

        def host(name: str, login: Login) -> Host:
            return Host(tmp_path / name, {"MLFLOW_TRACKING_URI": server.url, **login.environment})

        trainer, service = host("trainer", ADMIN), host("service", READER)
        retrain_promote_serve(trainer, service, tmp_path / "data")
        _, said = service.run("promote", "shop", "1", "--reason", "I may not", code=1)
        assert "Permission denied" in said
        assert READER.password not in said
        assert trainer.json("history", "shop")["champion"] == "2"
        stranger = host("stranger", Login("trainer", "wrong-guess"))
        begun = time.monotonic()
        out, said = stranger.run("retrain", tmp_path / "data" / "shop.toml", "--json", code=1)
        assert time.monotonic() - begun < 30
        assert "authenticated" in said
        assert "wrong-guess" not in out + said


def test_an_address_with_a_password_is_never_printed(
    on_postgres: Mlflow, postgres: Postgres, tmp_path: Path
) -> None:
    secret = "in-the-address"
    address = on_postgres.url.replace("http://", f"http://anna:{secret}@")
    locks = postgres.create(f"locks_{tmp_path.name}")
    host = Host(tmp_path / "host", {"MLFLOW_TRACKING_URI": address, "FORECAST_LOCK_URL": locks})
    recipe = write_recipe(tmp_path / "data")
    out, err = host.run("retrain", recipe, "--json")
    assert "anna:***@" in out
    more = [*host.run("history", "shop"), *host.run("models", "--json"), *host.run("promote", "shop", "1")]
    on_postgres.stop()
    more += host.run("retrain", recipe, "--json", code=1)
    wrong = Host(host.home, {**host.environment, "FORECAST_LOCK_URL": postgres.url("nowhere")})
    more += wrong.run("retrain", recipe, code=1)
    for text in (out, err, *more):
        assert secret not in text
        assert postgres.password not in text
        assert postgres.url("x").split(":")[2].split("@")[0] not in text


def test_two_retrains_on_two_hosts_leave_one_champion(
    on_postgres: Mlflow, postgres: Postgres, tmp_path: Path
) -> None:
    locks = postgres.create(f"locks_{tmp_path.name}")
    shared = {"MLFLOW_TRACKING_URI": on_postgres.url, "FORECAST_LOCK_URL": locks}
    hosts = [Host(tmp_path / name, shared) for name in ("one", "two", "three")]
    recipe = write_recipe(tmp_path / "data")
    running = [host.start("retrain", recipe, "--json") for host in hosts]
    ended = [process.communicate(timeout=240) for process in running]
    codes = sorted(process.returncode for process in running)
    assert codes[0] == 0, ended
    assert set(codes) <= {0, 75}, ended
    verdicts = [json.loads(out)["verdict"] for out, _ in ended if out]
    assert verdicts.count("promoted") == 1
    models = hosts[0].json("models", "--all")["models"]
    assert [(each["version"], each["aliases"]) for each in models] == [("1", ["champion"])]


HOLDER = """
import time
from pipelines.lock import recipe_lock
with recipe_lock("shop"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_of_another_host_turns_a_retrain_away_and_ends_with_its_process(
    on_postgres: Mlflow, postgres: Postgres, tmp_path: Path
) -> None:
    locks = postgres.create(f"locks_{tmp_path.name}")
    host = Host(tmp_path / "here", {"MLFLOW_TRACKING_URI": on_postgres.url, "FORECAST_LOCK_URL": locks})
    recipe = write_recipe(tmp_path / "data")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        env={**os.environ, "FORECAST_LOCK_URL": locks, "FORECAST_HOME": str(tmp_path / "there")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        _, said = host.run("retrain", recipe, code=75)
        assert "another run of the recipe 'shop' holds its lock (FORECAST_LOCK_URL" in said
    finally:
        holder.kill()
        holder.communicate()
    assert host.json("retrain", recipe)["verdict"] == "promoted"


def test_without_a_lock_url_one_is_warned_that_only_one_host_may_retrain(
    on_postgres: Mlflow, tmp_path: Path
) -> None:
    host = Host(tmp_path / "host", {"MLFLOW_TRACKING_URI": on_postgres.url})
    _, said = host.run("retrain", write_recipe(tmp_path / "data"))
    assert "without FORECAST_LOCK_URL the locks are files of this host; let only this one retrain" in said


def test_several_hosts_may_upgrade_an_empty_postgresql_at_once(postgres: Postgres, tmp_path: Path) -> None:
    backend = postgres.create(f"mlflow_{tmp_path.name}")
    hosts = [Host(tmp_path / str(number), {"MLFLOW_TRACKING_URI": backend}) for number in range(3)]
    running = [host.start("db", "upgrade") for host in hosts]
    ended = [process.communicate(timeout=240) for process in running]
    assert [process.returncode for process in running] == [0] * 3, ended
    hosts[0].run("db", "analyze")
    assert hosts[0].json("retrain", write_recipe(tmp_path / "data"))["verdict"] == "promoted"


def test_several_hosts_may_use_an_empty_postgresql_first_at_once(postgres: Postgres, tmp_path: Path) -> None:
    backend = postgres.create(f"mlflow_{tmp_path.name}")
    hosts = [Host(tmp_path / str(number), {"MLFLOW_TRACKING_URI": backend}) for number in range(3)]
    running = [host.start("models") for host in hosts]
    ended = [process.communicate(timeout=240) for process in running]
    assert [process.returncode for process in running] == [0] * 3, ended


def test_artifacts_may_lie_in_an_s3_store_behind_the_server(postgres: Postgres, tmp_path: Path) -> None:
    with servers.s3(tmp_path / "s3") as store:
        bucket = store.create("models")
        backend = postgres.create(f"mlflow_{tmp_path.name}")
        with servers.mlflow_server(
            tmp_path / "server", backend=backend, artifacts=bucket, environment=store.environment
        ) as server:
            trainer, service = (
                Host(tmp_path / name, {"MLFLOW_TRACKING_URI": server.url}) for name in ("trainer", "service")
            )
            retrain_promote_serve(trainer, service, tmp_path / "data")
        keys = store.objects("models")
    assert sum(key.endswith("spec.json") for key in keys) == 2
    assert not any(key.endswith((".pkl", ".pickle")) for key in keys)
