"""Each package imports only what its extra installs."""

import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.contract.test_imports import ROOT, imported_names, modules_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"forecast", "pipelines", "service"}
COME_WITH = {
    "click": "typer",
    "starlette": "fastapi",
    "requests": "mlflow",
    "sqlalchemy": "mlflow",
    "pydantic_core": "pydantic",
}
"""Modules of a package's own requirements that its users are meant to import."""
OPTIONAL = {"matplotlib", "onnx", "onnxruntime", "sqlalchemy", "statsforecast"}
"""What the library uses where it is there, and names in an error where it is needed and missing."""


def requirements(*extras: str) -> list[Requirement]:
    """The base requirements and those of some extras, and of the extras that these name."""
    lines = [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    own = [Requirement(line) for line in [*PROJECT["dependencies"], *lines]]
    return [*own, *(each for one in own if one.name == "forecast" for each in requirements(*one.extras))]


def declared(*extras: str) -> set[str]:
    """The top-level modules of the base requirements and of some extras."""
    names = {each.name.lower().replace("_", "-") for each in requirements(*extras)}
    modules = importlib.metadata.packages_distributions()
    return {
        module
        for module, distributions in modules.items()
        if names & {each.lower().replace("_", "-") for each in distributions}
    }


def third_party(package: str) -> dict[str, Path]:
    """The modules that a package imports from elsewhere, each with a file that does."""
    found = {name.split(".")[0]: module for module in modules_of(package) for name in imported_names(module)}
    return {name: module for name, module in found.items() if name not in sys.stdlib_module_names | OURS}


@pytest.mark.parametrize(
    ("package", "extras"), [("forecast", ()), ("pipelines", ("pipelines",)), ("service", ("service",))]
)
def test_imports_are_declared(package: str, extras: tuple[str, ...]) -> None:
    allowed = declared(*extras) | (OPTIONAL if package == "forecast" else set())
    imported = third_party(package)
    assert imported
    for name, module in imported.items():
        assert {name, COME_WITH.get(name, name)} & allowed, f"{module.relative_to(ROOT)} imports {name}"


def test_constraints_name_no_host_and_no_torch() -> None:
    lines = (ROOT / "constraints.txt").read_text().split()
    assert len(lines) > 50
    for line in lines:
        requirement = Requirement(line)
        assert str(requirement.specifier).startswith("==")
        assert not requirement.url
        assert requirement.name != "torch"
