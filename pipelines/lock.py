"""One retrain of a recipe at a time: a lock that ends with the process that holds it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forecast import home
from forecast.errors import LockedError


@contextmanager
def recipe_lock(name: str) -> Iterator[Path]:
    """Hold the lock of the recipe `name`; LockedError at once when another process holds it.

    The lock belongs to this process alone: programs it starts do not inherit the open file, and a forked
    child closes its copy, so that killing this process frees the lock whatever its children do.
    """
    from filelock import FileLock, Timeout

    path = home.home() / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=0):
            yield path
    except Timeout as error:
        raise LockedError(
            f"another run of the recipe {name!r} holds its lock ({path}); wait for it to end and try again"
        ) from error
