"""The files of the box: valid, as this project wants them, and pinned as everything else is."""

import copy
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from service.settings import Settings
from tests.contract.test_imports import ROOT


def script(name: str) -> ModuleType:
    """A file of scripts/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


CHECK = script("compose_check")
TEXT = (ROOT / "docker-compose.yml").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()


@pytest.fixture
def content() -> dict[str, Any]:
    """docker-compose.yml with the defaults of its settings."""
    return copy.deepcopy(yaml.safe_load(CHECK.interpolated(TEXT, {})))


def test_nothing_is_wrong_with_the_box() -> None:
    assert list(CHECK.findings()) == []


def test_a_key_that_compose_does_not_know_is_found(content: dict[str, Any]) -> None:
    content["services"]["service"]["health"] = "yes"
    content["services"]["mlflow"]["ports"] = "5000"
    found = "\n".join(CHECK.schema_findings(content, "docker-compose.yml"))
    assert "services.service: 'health' does not match" in found
    assert "services.mlflow.ports" in found


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"mem_limit": None}, "lacks mem_limit"),
        ({"read_only": False}, "read_only"),
        ({"healthcheck": None}, "no healthcheck"),
        ({"pull_policy": "always"}, "pull_policy"),
        ({"image": "postgres@sha256:" + "0" * 64}, "digest"),
        ({"ports": ["8000:8000"]}, "not bound to 127.0.0.1"),
        ({"depends_on": {"migrate": {"condition": "service_started"}}}, "service_completed_successfully"),
        ({"depends_on": {"postgres": {"condition": "service_started"}}}, "service_healthy"),
        ({"volumes": ["./deploy/nothing:/x"]}, "is not there"),
        ({"volumes": ["elsewhere:/x"]}, "not declared"),
        ({"environment": {"MLFLOW_TRACKING_PASSWORD": "secret"}}, "holds a secret"),
    ],
)
def test_every_rule_of_the_box_finds_what_breaks_it(
    content: dict[str, Any], change: dict[str, Any], wanted: str
) -> None:
    service = content["services"]["service"]
    service.update(change)
    for key, value in change.items():
        if value is None:
            del service[key]
    found = list(CHECK.rule_findings(content["services"], content["volumes"]))
    assert len(found) == 1, found
    assert wanted in found[0]
    assert found[0].startswith("service: ")


def test_settings_and_their_example_agree() -> None:
    found = list(
        CHECK.variable_findings({"a.yml": "${NEW:-1} ${FORECAST_PORT:-9}"}, "FORECAST_PORT=8\nOLD=1\n")
    )
    assert found == [
        "a.yml: NEW is not in .env.example",
        ".env.example: OLD is used nowhere",
        "a.yml: FORECAST_PORT is '9' by default, and '8' in .env.example",
    ]


def test_interpolation_is_that_of_compose() -> None:
    text = "${A:-x} ${B:-x} ${C} ${B:+,}${B:-}"
    assert CHECK.interpolated(text, {"B": "b"}) == "x b  ,b"


def test_every_setting_of_the_example_is_explained() -> None:
    for line, before in zip(EXAMPLE.splitlines()[1:], EXAMPLE.splitlines(), strict=False):
        if "=" in line and not line.startswith("#"):
            assert before.strip(), f"{line} stands alone in .env.example; say above it what it means"


def test_every_setting_of_the_service_can_be_made_in_the_box() -> None:
    of_the_box = {
        *(
            "FORECAST_HOST",
            "FORECAST_INSECURE",
        ),  # what is published is BIND_ADDRESS, and there is always a key
        *("FORECAST_STOP_SECONDS", "FORECAST_DRAIN_SECONDS"),  # together below the engine's ten seconds
        *("FORECAST_LOG_FORMAT", "FORECAST_RECORD_FOLDER"),
        "FORECAST_OTEL",  # its packages are not in the image
    }
    example = {line.partition("=")[0] for line in EXAMPLE.splitlines()}
    assert {variable for variable, _, _ in Settings.table()} - example == of_the_box


@pytest.mark.parametrize("line", ["# syntax=docker/dockerfile:1", "FROM x@sha256:0"])
def test_what_some_engines_cannot_build_is_found(line: str) -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert list(CHECK.dockerfile_findings(text)) == []
    assert len(list(CHECK.dockerfile_findings(f"{line}\n{text}"))) == 1


def test_images_run_as_nobody_special() -> None:
    text = (ROOT / "Dockerfile").read_text().replace("USER 10001", "")
    assert len(list(CHECK.dockerfile_findings(text))) == 3


@pytest.mark.parametrize("image", ["service", "pipelines", "mlflow"])
def test_images_are_pinned_as_everything_else_is(image: str) -> None:
    pins = script("pin_images")
    kept = pins.file_of(image).read_text()
    assert kept == pins.pins(pins.IMAGES[image]), "run python scripts/pin_images.py"
    assert "torch==" not in kept


def test_the_service_is_built_without_all_of_mlflow() -> None:
    names = {line.split("==")[0] for line in (ROOT / "deploy/constraints-service.txt").read_text().split()}
    assert "mlflow-skinny" in names
    assert not names & {"mlflow", "torch", "scikit-learn", "flask", "psycopg"}


def test_what_mlflow_logs_in_its_image_is_json() -> None:
    code = "import logging, warnings; logging.getLogger('mlflow.store').error('gone'); warnings.warn('old')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "deploy/image"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["logger"] for each in lines] == ["mlflow.store", "py.warnings"]
    assert lines[0]["message"] == "gone"
    assert done.stderr == ""


def test_compose_test_stops_where_no_engine_is(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/compose_test.py"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "needs a container engine with compose, and there is none here" in done.stderr
