"""Looks at everything that `docker compose up` reads without starting anything: `make compose-check`.

Always: the Compose Specification's schema, and this project's own rules. Where the tools are: `docker compose
config`, hadolint, promtool. Ends with 1 and a line per finding, or with 0.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator

ROOT = Path(__file__).resolve().parents[1]
VARIABLE = re.compile(r"\$\{(\w+)")
ONE_SHOTS = ("setup", "migrate")


def interpolated(text: str, values: dict[str, str]) -> str:
    """The text as compose reads it: `${NAME:-default}`, `${NAME:+other}` and `${NAME}`."""

    def value(match: re.Match[str]) -> str:
        name, sign, other = match[1], match[2], match[3] or ""
        given = values.get(name, "")
        return (other if given else "") if sign == ":+" else given or other

    return re.sub(r"\$\{(\w+)(?:(:[-+])([^}]*))?\}", value, text)


def schema_findings(content: dict[str, Any], name: str) -> Iterator[str]:
    """What the Compose Specification does not allow."""
    schema = json.loads((ROOT / "deploy/compose-spec.json").read_text())
    for error in Draft7Validator(schema).iter_errors(content):
        yield f"{name}: {'.'.join(map(str, error.absolute_path)) or 'file'}: {error.message[:200]}"


def rule_findings(services: dict[str, dict[str, Any]], volumes: dict[str, Any]) -> Iterator[str]:
    """What this project asks of every container."""
    for name, service in services.items():
        missing = [key for key in ("mem_limit", "pids_limit", "restart", "logging") if key not in service]
        if missing:
            yield f"{name}: lacks {', '.join(missing)}"
        if not (service.get("read_only") and service.get("cap_drop") == ["ALL"] and service.get("init")):
            yield f"{name}: has to have init, read_only and cap_drop ALL"
        if name not in ONE_SHOTS and "healthcheck" not in service:
            yield f"{name}: has no healthcheck"
        if service.get("pull_policy") == "always" or "@sha256" in service.get("image", ""):
            yield f"{name}: some engines have no registry: no pull_policy: always and no digest"
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                yield f"{name}: the port {port} is not bound to 127.0.0.1 by default"
        for other, condition in (service.get("depends_on") or {}).items():
            wanted = "service_completed_successfully" if other in ONE_SHOTS else "service_healthy"
            if other not in services or condition["condition"] != wanted:
                yield f"{name}: depends on {other}, which has to be {wanted}"
        for volume in service.get("volumes", []):
            source = str(volume).split(":")[0]
            if source.startswith("./"):
                own = source.startswith(("./secrets", "./recipes"))
                if not own and not (ROOT / source).exists():
                    yield f"{name}: mounts {source}, which is not there"
            elif source not in volumes:
                yield f"{name}: mounts the volume {source}, which is not declared"
        for key, value in (service.get("environment") or {}).items():
            if re.search(r"PASSWORD|SECRET|_KEY$", key) and not key.endswith("_FILE") and "__FILE" not in key:
                yield f"{name}: {key} holds a secret; name a file of it in {key}_FILE ({value!r:.20})"


def variable_findings(texts: dict[str, str], example: str) -> Iterator[str]:
    """Settings that are used and not documented, or documented and not used, or with another default."""
    documented = dict(re.findall(r"^#? ?([A-Z0-9_]+)=(.*)$", example, re.MULTILINE))
    used = {name: file for file, text in texts.items() for name in VARIABLE.findall(text)}
    for name in sorted(used.keys() - documented.keys()):
        yield f"{used[name]}: {name} is not in .env.example"
    for name in sorted(documented.keys() - used.keys() - {"COMPOSE_PROFILES", "COMPOSE_FILE"}):
        yield f".env.example: {name} is used nowhere"
    for file, text in texts.items():
        for name, default in re.findall(r"\$\{(\w+):-([^}]*)\}", text):
            if documented.get(name, default) != default:
                yield f"{file}: {name} is {default!r} by default, and {documented[name]!r} in .env.example"


def dockerfile_findings(text: str) -> Iterator[str]:
    """What some engines cannot build."""
    if re.search(r"^\s*#\s*syntax\s*=", text, re.MULTILINE):
        yield "Dockerfile: a `# syntax=` line asks for an image of its own; remove it"
    if "@sha256:" in text:
        yield "Dockerfile: no digests: some engines have no registry"
    for target in ("service", "pipelines", "mlflow"):
        part = re.search(rf"^FROM runtime AS {target}$(.*?)(?=^FROM |\Z)", text, re.MULTILINE | re.DOTALL)
        if part is None or not re.search(r"^USER 10001$", part[1], re.MULTILINE):
            yield f"Dockerfile: the target {target} has to be there and to run as `USER 10001`"


def data_findings() -> Iterator[str]:
    """Files of Prometheus and Grafana that cannot be read."""
    for path in sorted((ROOT / "deploy").rglob("*.y*ml")):
        try:
            yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            yield f"{path.relative_to(ROOT)}: {error}"
    for path in sorted((ROOT / "deploy").rglob("*.json")):
        try:
            json.loads(path.read_text())
        except ValueError as error:
            yield f"{path.relative_to(ROOT)}: {error}"


def tool_findings() -> Iterator[str]:
    """What the programs say that are installed; says on stdout which are not."""
    for name, command in commands():
        if command is None:
            print(f"   {name}: not here, left out")
            continue
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        print(f"   {name}: {'ok' if done.returncode == 0 else 'failed'}")
        if done.returncode:
            yield f"{name}: {(done.stdout + done.stderr).strip()}"


def commands() -> Iterator[tuple[str, list[str] | None]]:
    """The name of each check by a program, and its command where the program is."""
    compose = (
        shutil.which("docker")
        and not subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    )
    profiles = ["--profile", "*", "config", "--quiet"]
    yield "docker compose config", ["docker", "compose", *profiles] if compose else None
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    hadolint = shutil.which("hadolint", path=path)
    yield "hadolint", [hadolint, "--config", "deploy/hadolint.yaml", "Dockerfile"] if hadolint else None
    promtool = shutil.which("promtool")
    prometheus = ROOT / "deploy/prometheus"
    for kind, file in (("config", "prometheus.yml"), ("rules", "alerts.yml")):
        if (prometheus / file).exists():
            check = [str(promtool), "check", kind, *(["--syntax-only"] if kind == "config" else [])]
            yield f"promtool check {kind}", [*check, str(prometheus / file)] if promtool else None
    if (prometheus / "alerts_test.yml").exists():
        test = [str(promtool), "test", "rules", str(prometheus / "alerts_test.yml")]
        yield "promtool test rules", test if promtool else None


def findings(root: Path = ROOT) -> Iterator[str]:
    """Everything that is wrong, one line each."""
    text = (root / "docker-compose.yml").read_text()
    overrides = {f"deploy/{path.name}": path.read_text() for path in sorted((root / "deploy").glob("*.yml"))}
    content = yaml.safe_load(interpolated(text, {}))
    yield from schema_findings(content, "docker-compose.yml")
    for name, other in overrides.items():
        yield from schema_findings(yaml.safe_load(interpolated(other, {})), name)
    yield from rule_findings(content.get("services", {}), content.get("volumes", {}))
    example = (root / ".env.example").read_text()
    yield from variable_findings({"docker-compose.yml": text, **overrides}, example)
    yield from dockerfile_findings((root / "Dockerfile").read_text())
    yield from data_findings()


def main() -> None:
    """Print what is found."""
    print("== docker-compose.yml, deploy/, Dockerfile, .env.example")
    found = [*findings(), *tool_findings()]
    for line in found:
        print(f"error: {line}", file=sys.stderr)
    if found:
        sys.exit(1)
    print("== all is well")


if __name__ == "__main__":
    main()
