"""The box on a container engine: everything that `make compose-test` proves. Takes a quarter of an hour."""

import shutil
import subprocess
import sys

import pytest

from tests.contract.test_imports import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.docker]


def engine_answers() -> bool:
    """Whether containers can be run here."""
    return (
        bool(shutil.which("docker"))
        and not subprocess.run(["docker", "compose", "ls"], capture_output=True, check=False).returncode
    )


@pytest.mark.timeout(3600)
def test_the_box_starts_survives_and_keeps_everything() -> None:
    if not engine_answers():
        pytest.skip("needs a container engine with compose")
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/compose_test.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "compose-test passed" in done.stdout
