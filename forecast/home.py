"""Where things live on this machine: the embedded database, artifacts, recipes and caches."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

MOST_TOLD = 300
"""Characters of another program's message that are repeated."""


def home() -> Path:
    """The absolute folder of everything that is kept: `FORECAST_HOME`, else the user's data folder."""
    if configured := os.environ.get("FORECAST_HOME"):
        return Path(configured).expanduser().resolve()
    import platformdirs

    return Path(platformdirs.user_data_dir("forecast", appauthor=False)).resolve()


def database_file() -> Path:
    """The embedded MLflow database."""
    return home() / "mlflow.db"


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI` where set, else the embedded SQLite database by its absolute path."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database_file()}"


def first_line(error: BaseException) -> str:
    """What an error of another program says first, without the tracking server's password.

    Of a database's error the driver's own message; the error's kind where there is none.
    """
    text = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    password = urlsplit(tracking_uri()).password
    line = text.splitlines()[0]
    return (line.replace(password, "***") if password else line)[:MOST_TOLD]


def is_embedded() -> bool:
    """Whether runs and models are kept in the embedded database rather than on a server."""
    return tracking_uri() == f"sqlite:///{database_file()}"


def artifact_root() -> Path:
    """Where the embedded database keeps the files of runs and models."""
    return home() / "artifacts"


def recipes_folder() -> Path:
    """Where `forecast recipe new` writes, and where a recipe's name is looked up."""
    return home() / "recipes"


def cache_folder() -> Path:
    """Copies of registered models that the service answers with."""
    return home() / "cache"


@contextmanager
def database_lock(timeout_seconds: float = 120.0) -> Iterator[None]:
    """Hold the embedded database's creation lock: one process creates the tables, the others wait.

    MLflow's own first use of an empty database fails when several processes try at once.
    """
    from filelock import FileLock

    home().mkdir(parents=True, exist_ok=True)
    with FileLock(home() / "mlflow.db.lock", timeout=timeout_seconds):
        yield
