"""The lock of a recipe."""

import os
import signal
import subprocess
import sys

import pytest

from forecast.errors import LockedError, TrackingError
from pipelines.lock import database_lock, recipe_lock

HOLDER = """
import os, subprocess, sys, time
from pipelines.lock import database_lock, recipe_lock
with recipe_lock("shop"):
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], close_fds=False)
    if os.fork() == 0:
        print(program.pid, os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    time.sleep(60)
"""


def test_a_second_run_of_a_recipe_is_turned_away() -> None:
    with recipe_lock("shop"):
        result = subprocess.run(
            [sys.executable, "-c", "from pipelines.lock import recipe_lock\nwith recipe_lock('shop'): pass"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert "LockedError: another run of the recipe 'shop' holds its lock" in result.stderr
    assert LockedError.exit_code == 75


def test_other_recipes_are_free_and_the_lock_ends_with_its_block() -> None:
    with recipe_lock("shop"), recipe_lock("depot"):
        pass
    with recipe_lock("shop"):
        pass


def test_killing_the_holder_frees_the_lock_while_its_children_live() -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    children = [int(pid) for pid in holder.stdout.readline().split()]
    try:
        with pytest.raises(LockedError), recipe_lock("shop"):
            pass
        holder.kill()
        holder.wait()
        for pid in children:
            os.kill(pid, 0)  # still alive
        with recipe_lock("shop"):
            pass
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        holder.stdout.close()


def test_a_database_that_cannot_be_locked_is_named_by_its_own_variable() -> None:
    with (
        pytest.raises(TrackingError, match=r"or correct MLFLOW_TRACKING_URI$") as raised,
        database_lock("postgresql+psycopg://anna:secret@127.0.0.1:9/x"),
    ):
        pass
    assert "secret" not in str(raised.value)
