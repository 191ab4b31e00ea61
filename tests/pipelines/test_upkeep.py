"""Upkeep: tables upgraded once, statistics renewed, and old versions let go without harm."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import sqlalchemy

from forecast import home
from pipelines import recipe, registry, retrain, tracking, upkeep
from tests.pipelines.conftest import RECIPE, Command, Trained, write_recipe

RETENTION = "[retention]\nkeep_versions = 1\nkeep_runs = 1\n"


def test_an_empty_database_gets_its_tables_and_the_next_upgrade_changes_nothing(forecast: Command) -> None:
    assert forecast("db", "upgrade").out.startswith("upgraded from none (revision ")
    assert forecast("db", "upgrade").out.startswith("the database is up to date (revision ")
    assert tracking.client().search_experiments()


def test_statistics_are_renewed(tracked: Path, forecast: Command) -> None:
    assert forecast("db", "analyze").out.startswith("statistics renewed in ")
    engine = sqlalchemy.create_engine(home.tracking_uri())
    assert sqlalchemy.inspect(engine).has_table("sqlite_stat1")
    engine.dispose()


def test_a_server_s_database_is_not_reached_through_the_server(
    forecast: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:secret@127.0.0.1:9")
    ended = forecast("db", "upgrade")
    assert ended.code == 2
    assert "is an MLflow server, and a database is upgraded where it is" in ended.err
    assert "secret" not in ended.err


def test_nothing_is_pruned_while_the_policy_keeps_it(trained: Trained) -> None:
    found = upkeep.prune(recipe.load(str(trained.recipe)))
    assert (found.versions, found.kept, found.num_runs) == ((), ("1",), 0)


def test_the_policy_decides_nothing_about_the_model() -> None:
    plain = recipe.parse(RECIPE, origin="here")
    assert recipe.parse(RECIPE + RETENTION, origin="here").digest() == plain.digest()


@pytest.fixture
def many(trained_copy: Trained) -> Path:
    """A recipe with three versions: the last has served, the first was promoted again, one has no alias."""
    for num_days in (127, 134):
        path = write_recipe(trained_copy.recipe.parent, text=RECIPE + RETENTION, num_days=num_days)
        retrain.retrain(recipe.load(str(path)), say=lambda line: None)
    registry.promote(registry.find("shop/1"), reason="the old one, again")
    return path


def files_of(version: registry.Version) -> Path:
    """Where the files of a version's logged model lie."""
    model = tracking.client().get_logged_model(version.source.rpartition("/")[2])
    return Path(urlsplit(model.artifact_location).path)


@pytest.mark.slow
def test_prune_keeps_every_alias_and_after_gc_the_champion_still_loads(many: Path, forecast: Command) -> None:
    models = {each.version: files_of(each) for each in registry.versions("shop")}
    young = recipe.parse(RECIPE + RETENTION + "keep_days = 1\n", origin="here")
    assert upkeep.prune(young).versions == ()
    told = json.loads(forecast("prune", many, "--dry-run", "--json").out)
    assert (told["versions"], told["kept"], told["num_runs"]) == (["2"], ["1", "3"], 1)
    assert len(registry.versions("shop")) == 3
    ended = forecast("prune", many)
    assert (ended.code, ended.out) == (
        0,
        "shop: 1 version (2) and 1 retrain deleted; 2 versions (1, 3) kept\n",
    )
    assert [(each.version, each.aliases) for each in registry.versions("shop")] == [
        ("1", ("champion",)),
        ("3", ("previous",)),
    ]
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", home.tracking_uri()]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": home.tracking_uri()}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    assert {version: folder.exists() for version, folder in models.items()} == {
        "1": True,
        "2": False,
        "3": True,
    }
    for alias in ("champion", "previous"):
        assert registry.load(registry.find(f"shop@{alias}")).horizon == 7
    assert json.loads(forecast("compare", "shop", "1", "3", "--json").out)["versions"] == ["1", "3"]
    assert len(registry.promotions("shop")) == 4
    assert forecast("prune", many).out.startswith("shop: 0 versions and 0 retrains deleted; 2 versions")


def test_an_alias_set_at_the_last_moment_saves_its_version(trained: Trained) -> None:
    champion = registry.find("shop")
    assert registry.delete(champion) is False
    assert registry.find("shop/1").aliases == ("champion",)


@pytest.mark.slow
def test_several_may_upgrade_an_empty_database_at_once() -> None:
    shutil.rmtree(home.home(), ignore_errors=True)
    code = "from pipelines import upkeep; upkeep.upgrade()"
    started = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(3)]
    ended = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0] * 3, ended
