"""The watcher against a real MLflow registry on SQLite: what it copies, keeps, and does when things break."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from forecast import home
from forecast.models import artifact
from service import watcher as watching
from service.manifest import Cache, Manifest, Question, Reference, digest_of
from service.settings import Settings
from service.watcher import Watcher, database_file
from tests.service.builders import Registered, baseline, request_body, serving


@pytest.fixture
def cache() -> Cache:
    """The cache of this test's registry."""
    cache = Cache.of()
    cache.wanted.mkdir(parents=True)
    return cache


def test_versions_with_an_alias_are_copied_and_listed(registered: Registered, cache: Cache) -> None:
    registered.version("air", baseline("naive"), "previous")
    run_id = registered.version("air", baseline(), "champion")
    registered.version("air", baseline("drift"))
    Watcher(cache).poll()
    manifest = cache.read()
    assert manifest.aliases == {"air": {"champion": "2", "previous": "1"}}
    assert sorted(copy.version for copy in manifest.versions) == ["1", "2"]
    champion = manifest.find("air", "2")
    assert champion is not None
    assert champion.run_id == run_id
    assert digest_of(cache.folder(champion)) == champion.digest
    assert artifact.load(cache.folder(champion)).info.model["backbone"] == "seasonal_naive"


def test_a_poll_without_news_leaves_the_manifest_alone(registered: Registered, cache: Cache) -> None:
    registered.version("air", baseline(), "champion")
    watcher = Watcher(cache)
    watcher.poll()
    stamp = cache.stamp()
    watcher.poll()
    assert cache.stamp() == stamp


def test_live_figures_of_a_champion_are_followed_without_loading_it_again(
    registered: Registered, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LIVE_SECONDS", 0.0)
    registered.version("air", baseline(), "champion")
    watcher = Watcher(cache)
    watcher.poll()
    with serving() as client:
        assert client.get("/v1/models/air").json()["live_accuracy"] == {}
        told = '{"coverage_80": 0.5, "mase": null, "num_values": 7}'
        registered.client.set_model_version_tag("air", "1", "forecast.live", told)
        watcher.poll()
        client.portal.call(client.app.state.store.refresh)
        found = client.get("/v1/models/air").json()["live_accuracy"]
        text = client.get("/metrics").text
    assert found == {"coverage_80": 0.5, "mase": None, "num_values": 7}
    assert 'forecast_model_accuracy{metric="live_coverage_80",model="air",version="1"} 0.5' in text
    assert "forecast_model_loads_total 1.0" in text


def test_a_version_without_an_alias_is_no_trouble_before_the_first_copy(
    registered: Registered, cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    registered.version("air", baseline())
    Watcher(cache).poll()
    assert cache.read().aliases == {"air": {}}
    assert "cannot be used" not in caplog.text


def test_a_home_that_cannot_be_written_ends_the_watcher_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    watcher = subprocess.Popen(
        [sys.executable, "-m", "service.watcher"],
        stdin=subprocess.PIPE,  # open for as long as the service lives
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "FORECAST_HOME": str(tmp_path / "file")},
    )
    assert watcher.stderr is not None
    with watcher:
        assert watcher.wait(timeout=60) == 1
        said = watcher.stderr.read()
    assert said.count("\n") == 1
    assert "set FORECAST_HOME" in said


def test_an_empty_home_is_not_given_a_database(cache: Cache) -> None:
    watcher = Watcher(cache)
    question = cache.ask(Reference("air"))
    watcher.poll(cache.questions())
    assert question.is_answered()
    assert not home.database_file().exists()
    assert cache.read() == Manifest()


def test_an_empty_file_is_left_empty(cache: Cache) -> None:
    home.database_file().touch()
    Watcher(cache).poll()
    assert home.database_file().stat().st_size == 0


def test_a_moved_alias_is_followed_and_the_champion_before_is_kept(
    registered: Registered, cache: Cache
) -> None:
    registered.version("air", baseline("naive"), "champion")
    watcher = Watcher(cache)
    watcher.poll()
    registered.version("air", baseline(), "champion")
    watcher.poll()
    manifest = cache.read()
    assert manifest.aliases["air"]["champion"] == "2"
    assert manifest.previous == {"air": "1"}
    assert manifest.find("air", "1") is not None


def test_a_version_is_copied_when_a_request_asks_for_it(registered: Registered, cache: Cache) -> None:
    registered.version("air", baseline("naive"))
    registered.version("air", baseline(), "champion")
    watcher = Watcher(cache)
    watcher.poll()
    assert cache.read().find("air", "1") is None
    question = cache.ask(Reference("air", None, "1"))
    watcher.poll(cache.questions())
    assert question.is_answered()
    assert cache.read().find("air", "1") is not None
    assert cache.questions() == []


@pytest.mark.parametrize("version", ["9", "01", "x", "²", "99999999999", "1 or 1=1"])
def test_a_version_there_is_not_is_answered_too(registered: Registered, cache: Cache, version: str) -> None:
    registered.version("air", baseline(), "champion")
    question = cache.ask(Reference("air", None, version))
    Watcher(cache).poll(cache.questions())
    assert question.is_answered()
    assert len(cache.read().versions) == 1


def test_who_asks_for_a_version_there_is_not_is_told_all_there_are(
    registered: Registered, cache: Cache
) -> None:
    for _ in range(3):
        registered.version("air", baseline("naive"))
    registered.version("air", baseline(), "champion")
    cache.ask(Reference("air", None, "9"))
    Watcher(cache).poll(cache.questions())
    assert cache.read().known == {"air": ["4", "3", "2", "1"]}
    with serving() as client:
        detail = client.post(request_body(model="air/9")).json()["detail"]
    assert detail.endswith("champion (version 4); versions: 4, 3, 2, 1")


def test_a_list_that_leaves_out_a_model_takes_nothing_away(
    registered: Registered, cache: Cache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As an answer does that was cut off before its body."""
    registered.version("air", baseline(), "champion")
    watcher = Watcher(cache)
    watcher.poll()
    before = cache.read()
    with monkeypatch.context() as patch:
        patch.setattr(Watcher, "_registered", lambda self: iter(()))
        watcher.poll()
    assert cache.read() == before
    assert "lacks 'air'" in caplog.text
    registered.client.delete_registered_model("air")
    watcher.poll()
    assert cache.read().aliases == {}


def test_a_question_that_cannot_be_read_is_answered(registered: Registered, cache: Cache) -> None:
    question = Question(cache.wanted / "odd.json")
    question.path.write_text('{"name": 3')
    Watcher(cache).poll(cache.questions())
    assert question.is_answered()


def test_a_version_without_an_artifact_is_a_problem_and_the_others_serve(
    registered: Registered, cache: Cache
) -> None:
    registered.version("air", baseline(), "champion")
    registered.empty_version("broken", "champion")
    Watcher(cache).poll()
    manifest = cache.read()
    assert manifest.find("air", "1") is not None
    assert "spec.json" in manifest.problems["broken"]


def test_a_registry_that_breaks_leaves_the_last_manifest(
    registered: Registered, cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    registered.version("air", baseline(), "champion")
    watcher = Watcher(cache)
    watcher.poll()
    before = cache.read()
    home.database_file().rename(home.database_file().with_suffix(".away"))
    watcher.poll()
    watcher.poll()
    assert cache.read() == before
    assert not home.database_file().exists()
    assert sum("cannot be used" in line for line in caplog.messages) == 1


def test_a_database_that_is_no_database_is_survived(cache: Cache) -> None:
    home.database_file().write_bytes(b"no database at all" * 100)
    Watcher(cache).poll()
    assert cache.read() == Manifest()


def test_a_replaced_database_ends_the_watcher_so_that_a_new_one_starts(
    registered: Registered, cache: Cache
) -> None:
    registered.version("air", baseline(), "champion")
    watcher = Watcher(cache)
    watcher.poll()
    copy = home.database_file().with_suffix(".copy")
    shutil.copy(home.database_file(), copy)
    copy.replace(home.database_file())
    with pytest.raises(SystemExit):
        watcher.poll()


def test_only_the_models_that_are_named_are_copied(registered: Registered) -> None:
    registered.version("air", baseline(), "champion")
    registered.version("water", baseline(), "champion")
    cache = Cache.of(["water"])
    cache.wanted.mkdir(parents=True)
    Watcher(cache, models=("water",)).poll()
    assert list(cache.read().aliases) == ["water"]
    with serving(Settings(models=("water",))) as client:
        assert [model["name"] for model in client.get("/v1/models").json()["models"]] == ["water"]
        assert client.post(request_body(model="air")).status_code == 404


def test_old_copies_that_nothing_mentions_are_removed(
    registered: Registered, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered.version("air", baseline("naive"), "champion")
    watcher = Watcher(cache)
    watcher.poll()
    registered.version("air", baseline("drift"), "champion")
    watcher.poll()
    registered.version("air", baseline(), "champion")
    monkeypatch.setattr("service.watcher.KEEP_SECONDS", -1.0)
    watcher.poll()
    kept = {copy.digest for copy in cache.read().versions}
    assert {folder.name for folder in cache.artifacts.iterdir()} == kept
    assert sorted(copy.version for copy in cache.read().versions) == ["2", "3"]


def test_a_damaged_copy_is_made_again(registered: Registered, cache: Cache) -> None:
    registered.version("air", baseline(), "champion")
    Watcher(cache).poll()
    copy = cache.read().find("air", "1")
    assert copy is not None
    (cache.folder(copy) / "weights.safetensors").write_bytes(b"rubbish")
    Watcher(cache).poll()
    assert digest_of(cache.folder(copy)) == copy.digest


def test_a_name_that_was_deleted_and_made_again_is_copied_again(registered: Registered, cache: Cache) -> None:
    registered.version("air", baseline("naive"), "champion")
    watcher = Watcher(cache)
    watcher.poll()
    first = cache.read().find("air", "1")
    registered.client.delete_registered_model("air")
    registered.version("air", baseline("drift"), "champion")
    watcher.poll()
    second = cache.read().find("air", "1")
    assert first is not None
    assert second is not None
    assert first.digest != second.digest


def test_the_service_never_writes_to_the_registry(registered: Registered, cache: Cache) -> None:
    registered.version("air", baseline(), "champion")
    with sqlite3.connect(home.database_file()) as database:
        before = "\n".join(database.iterdump())
    Watcher(cache).poll()
    with sqlite3.connect(home.database_file()) as database:
        assert "\n".join(database.iterdump()) == before


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:////a/b.db", Path("/a/b.db")),
        ("sqlite:////a%20b/c.db", Path("/a b/c.db")),
        ("http://localhost:5000", None),
        ("postgresql+psycopg://u:p@h/db", None),
    ],
)
def test_the_file_of_a_sqlite_address_is_found(uri: str, file: Path | None) -> None:
    assert database_file(uri) == file
