"""What docs/schedule.md shows to other schedulers is there: commands, flags, keys and figures."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from pipelines import health, recipe, schedule
from pipelines.sections import HooksSection, ScheduleSection

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "schedule.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", DOCS, flags=re.DOTALL | re.MULTILINE)


def shown_commands() -> list[list[str]]:
    """Every call of `forecast` in the examples, as words without the program."""
    (crontab,), (unit,), (manifest,), (dag,) = (blocks(each) for each in ("crontab", "ini", "yaml", "python"))
    cron = crontab.splitlines()[1].split(None, 5)[5].split(" >>")[0]
    systemd = re.findall(r"ExecStart=\S+/(forecast .+)", unit)[0]
    airflow = re.findall(r'bash_command="\S+/(forecast [^"]+)"', dag)[0]
    container = yaml.safe_load(manifest)["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    shell = [line.split("#")[0] for line in blocks("sh")[0].splitlines()]
    words = [shlex.split(line)[1:] for line in (cron, systemd, airflow, *shell)]
    return [*words, container["args"]]


@pytest.mark.parametrize("words", shown_commands(), ids=" ".join)
def test_a_command_that_is_shown_takes_the_flags_that_are_shown(words: list[str]) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "forecast", words[0], "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "200", "PATH": "/usr/bin"},
    ).stdout
    for word in words[1:]:
        if word.startswith("--"):
            assert word in told
        elif not word.endswith(".toml") and not word.isdecimal():
            assert word in recipe.builtin_names()


def test_the_tables_that_are_shown_are_read() -> None:
    of_schedule, of_hooks = (tomllib.loads(each) for each in blocks("toml"))
    ScheduleSection.model_validate(of_schedule["schedule"])
    assert set(of_schedule["schedule"]) | {"every"} == set(ScheduleSection.model_fields)
    HooksSection.model_validate(of_hooks["hooks"])
    assert set(of_hooks["hooks"]) == set(HooksSection.model_fields)


def test_every_figure_is_told_of() -> None:
    empty = schedule.Scheduler([], parallel=1, say=print)
    for family in health.Figures(empty).collect():
        assert family.name in DOCS


def test_the_airflow_example_is_python_that_calls_no_code_of_ours() -> None:
    tree = ast.parse(blocks("python")[0])
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert all(module == "datetime" or str(module).startswith("airflow") for module in modules)


@pytest.mark.slow
def test_the_cron_line_runs_in_an_empty_environment(tmp_path: Path) -> None:
    line = blocks("crontab")[0].splitlines()[1].split(None, 5)[5].split(" >>")[0]
    program = line.replace("forecast", str(Path(sys.executable).with_name("forecast")), 1)
    ended = subprocess.run(
        [*shlex.split(program), "--dry-run"],
        capture_output=True,
        text=True,
        env={
            "FORECAST_HOME": str(tmp_path),
            "HOME": str(tmp_path),
            "PATH": "/usr/bin:/bin",
            "OMP_NUM_THREADS": "1",
        },
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
