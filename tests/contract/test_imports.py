"""Imports point one way, and the serving path stays light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ["errors", "series", "windows", "models", "training", "evaluation"]
FORBIDDEN = {
    "forecast": {
        "pipelines",
        "service",
        "mlflow",
        "fastapi",
        "starlette",
        "uvicorn",
        "optuna",
        "apscheduler",
    },
    "pipelines": {"service", "fastapi", "starlette", "uvicorn"},
    "service": {"pipelines"},
}
SERVING_PATH = [
    "forecast",
    "forecast.errors",
    "forecast.home",
    "forecast.cli",
    "forecast.series.panel",
    "forecast.series.read",
    "forecast.series.forecast",
    "forecast.series.datasets",
    "forecast.series.batch",
    "forecast.models.spec",
    "forecast.models.forecaster",
    "forecast.models.artifact",
    "forecast.models.baselines",
    "forecast.models.onnx_runtime",
    "service.app",
    "service.commands",
    "pipelines.commands",
]


PRINT_HELP = """
import contextlib, io, sys
import forecast.cli
sys.argv = ["forecast", "--help"]
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
    forecast.cli.main()
assert "retrain" in out.getvalue()
"""


def modules_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported_names(module: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file the import stands."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively; write the whole name"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(name: str) -> int | None:
    """The position of `forecast.LAYER...` in the order of layers; None for what stands beside them."""
    parts = name.split(".")
    if parts[0] == "forecast" and len(parts) > 1 and parts[1] in LAYERS:
        return LAYERS.index(parts[1])
    return None


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_packages_import_one_way(package: str) -> None:
    assert modules_of(package)
    for module in modules_of(package):
        for name in imported_names(module):
            assert name.split(".")[0] not in FORBIDDEN[package], f"{module.relative_to(ROOT)} imports {name}"


def test_layers_of_the_library_import_only_what_is_before_them() -> None:
    for module in modules_of("forecast"):
        own = layer_of(".".join(module.relative_to(ROOT).with_suffix("").parts))
        if own is None:
            continue
        for name in imported_names(module):
            used = layer_of(name)
            assert used is None or used <= own, f"{module.relative_to(ROOT)} imports {name}"


def loaded_after(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after running `code`."""
    report = "import sys; print(' '.join(sorted({name.split('.')[0] for name in sys.modules})))"
    finished = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(finished.stdout.split())


def test_the_serving_path_loads_neither_torch_nor_mlflow() -> None:
    loaded = loaded_after("\n".join(f"import {name}" for name in SERVING_PATH))
    assert "forecast" in loaded
    assert not loaded & {"torch", "mlflow", "sklearn", "statsforecast", "utilsforecast"}


def test_help_loads_no_heavy_package() -> None:
    loaded = loaded_after(PRINT_HELP)
    assert "typer" in loaded
    assert not loaded & {"torch", "pandas", "mlflow", "numpy", "fastapi"}


def test_public_names_resolve_and_are_sorted() -> None:
    import forecast

    assert forecast.__all__ == sorted(forecast.__all__)
    for name in forecast.__all__:
        assert getattr(forecast, name) is not None
