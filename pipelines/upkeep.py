"""What keeps a long-running installation small and quick: schema, statistics, and old versions let go."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from forecast import home
from forecast.errors import SpecError
from pipelines import registry, tracking
from pipelines.lock import database_lock, promotion_lock, recipe_lock
from pipelines.recipe import Recipe

if TYPE_CHECKING:
    import sqlalchemy
    from mlflow.entities import Run

SECONDS_OF_A_DAY = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What a policy let go, or would have."""

    recipe: str
    versions: tuple[str, ...]
    """Without an alias, and older than the policy keeps."""
    kept: tuple[str, ...]
    num_runs: int
    """Retrains deleted, with their candidates' runs."""
    dry_run: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def upgrade() -> tuple[str, str]:
    """Bring the database's tables to what the installed MLflow needs; returns its revision before and after.

    One process does it, others wait; an empty database gets its tables. Raises SpecError for an address that
    is a server's and not a database's.
    """
    uri = _database_uri("upgraded")
    with _single_flight(uri), tracking.answering(), _engine(uri) as engine:
        utils: Any = import_module("mlflow.store.db.utils")  # publishes no types
        before = _revision(engine)
        if utils._all_tables_exist(engine):
            utils._upgrade_db(engine)
        else:
            utils._initialize_tables(engine)
        return before, _revision(engine)


def analyze() -> float:
    """Let the database count its rows, so that runs are sorted by metrics quickly; returns the seconds."""
    import sqlalchemy

    uri = _database_uri("analysed")
    begun = time.monotonic()
    with tracking.answering(), _engine(uri) as engine, engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(sqlalchemy.text("ANALYZE"))
    return time.monotonic() - begun


def prune(recipe: Recipe, *, dry_run: bool = False) -> Pruned:
    """Delete the versions and retrains of a recipe that its `[retention]` does not keep.

    A version with an alias, its logged model and the runs of the retrain that made it are never touched, and
    the runs that tell of promotions stay. Files go with the next `mlflow gc`. Raises LockedError while the
    recipe is trained.
    """
    with recipe_lock(recipe.name), promotion_lock(recipe.name), tracking.answering():
        versions = registry.versions(recipe.name)
        going = _expendable(versions, recipe)
        kept = [each for each in versions if each not in going]
        retrains = _old_retrains(recipe, kept)
        if not dry_run:
            going = [each for each in going if registry.delete(each)]
            for run in retrains:
                tracking.delete_with_children(run)
        return Pruned(
            recipe=recipe.name,
            versions=tuple(each.version for each in going),
            kept=tuple(each.version for each in kept),
            num_runs=len(retrains),
            dry_run=dry_run,
        )


def _expendable(versions: Sequence[registry.Version], recipe: Recipe) -> list[registry.Version]:
    """Versions without an alias that are neither among the newest nor young enough to be kept."""
    policy = recipe.retention
    older = sorted(versions, key=lambda each: -int(each.version))[policy.keep_versions :]
    return [each for each in older if not each.aliases and _age_days(each.created_at) >= policy.keep_days]


def _old_retrains(recipe: Recipe, kept: Sequence[registry.Version]) -> "list[Run]":
    """Retrains beyond the newest that made no version that is kept."""
    policy = recipe.retention
    needed = {each.tags.get("forecast.parent_run") for each in kept} | {
        tracking.parent_of(each.run_id) for each in kept
    }
    older = tracking.retrains(recipe.name)[policy.keep_runs :]
    return [
        run
        for run in older
        if run.info.run_id not in needed and _age_days(run.info.start_time / 1000) >= policy.keep_days
    ]


def _age_days(seconds: float) -> float:
    return (time.time() - seconds) / SECONDS_OF_A_DAY


def _database_uri(done: str) -> str:
    uri = home.tracking_uri()
    if uri.startswith(("http://", "https://")):
        raise SpecError(
            f"{tracking.masked(uri)} is an MLflow server, and a database is {done} where it is: set "
            "MLFLOW_TRACKING_URI to the server's own database, such as postgresql+psycopg://user@host/name"
        )
    if home.is_embedded():
        home.home().mkdir(parents=True, exist_ok=True)
    return uri


@contextmanager
def _single_flight(uri: str) -> Iterator[None]:
    with home.database_lock(), nullcontext() if home.is_embedded() else database_lock(uri):
        yield


@contextmanager
def _engine(uri: str) -> "Iterator[sqlalchemy.Engine]":
    import sqlalchemy

    tracking.prepare(uri)
    engine = sqlalchemy.create_engine(uri)
    try:
        yield engine
    finally:
        engine.dispose()


def _revision(engine: "sqlalchemy.Engine") -> str:
    """The revision of the tables; "none" for an empty database."""
    import sqlalchemy

    if not sqlalchemy.inspect(engine).has_table("alembic_version"):
        return "none"
    with engine.connect() as connection:
        return str(connection.execute(sqlalchemy.text("select version_num from alembic_version")).scalar())
