"""Promote, roll back, look back and compare: by hand, at once, and with a trace."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from forecast import home
from forecast.errors import ArtifactError, LockedError
from pipelines import lock, operators, recipe, registry, retrain, tracking
from tests.pipelines.conftest import Command, Trained, write_recipe


def aliases() -> dict[str, tuple[str, ...]]:
    return {each.version: each.aliases for each in registry.versions("shop")}


@pytest.fixture(scope="session")
def twice_once(trained_once: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Made once: a second version, a refresh, on the first one's database."""
    folder = tmp_path_factory.mktemp("twice")
    path = write_recipe(folder / "data", num_days=127)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORECAST_HOME", str(folder / "home"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        (folder / "home").mkdir()
        shutil.copy(trained_once.home / "mlflow.db", home.database_file())
        outcome = retrain.retrain(recipe.load(str(path)), say=lambda line: None)
    return Trained(folder / "home", path, outcome.to_dict())


@pytest.fixture
def twice(twice_once: Trained, tmp_path: Path) -> Trained:
    """A home folder with two versions, of which the second serves."""
    home.home().mkdir(parents=True, exist_ok=True)
    shutil.copy(twice_once.home / "mlflow.db", home.database_file())
    assert aliases() == {"1": ("previous",), "2": ("champion",)}
    return Trained(home.home(), write_recipe(tmp_path / "data", num_days=127), twice_once.outcome)


def test_a_rollback_and_a_promotion_move_the_alias_and_leave_a_trace(
    twice: Trained, forecast: Command
) -> None:
    ended = forecast("rollback", "shop", "--reason", "too many returns")
    assert (ended.code, ended.out) == (0, "champion of shop: version 1 (was 2)\n")
    assert aliases() == {"1": ("champion",), "2": ("previous",)}
    moved = json.loads(forecast("promote", "shop", "2", "--json").out)
    assert moved == {"name": "shop", "from": "1", "to": "2", "moved": True}
    assert aliases() == {"1": ("previous",), "2": ("champion",)}

    found = json.loads(forecast("history", "shop", "--json").out)
    assert (found["champion"], found["moved_elsewhere"]) == ("2", False)
    moves = [(each["action"], each["from"], each["to"]) for each in found["promotions"]]
    assert moves == [
        ("promote", "1", "2"),
        ("rollback", "2", "1"),
        ("promote", "1", "2"),
        ("promote", "none", "1"),
    ]
    assert found["promotions"][1]["reason"] == "too many returns"
    assert all(each["by"] and each["at"] and each["figures"] for each in found["promotions"][2:])
    tags = registry.find("shop/1").tags
    assert (tags["forecast.verdict"], tags["forecast.champion_before"]) == ("rolled back to", "2")


def test_the_history_is_a_table_that_marks_the_champion(twice: Trained, forecast: Command) -> None:
    lines = forecast("history", "shop").out.splitlines()
    marked = [line for line in lines if "→" in line]
    assert len(marked) == 1
    assert marked[0].split()[1:3] == ["2", "champion"]
    assert not any("moved by something else" in line for line in lines)
    tracking.client().set_registered_model_alias("shop", "champion", "1")
    assert "last moved by something else" in forecast("history", "shop").out


def test_two_versions_are_compared_on_the_windows_that_both_have_forecast(
    twice: Trained, forecast: Command
) -> None:
    found = json.loads(forecast("compare", "shop", "previous", "2", "--json").out)
    assert found["versions"] == ["1", "2"]
    assert (
        found["num_windows"] == 2
    )  # the judge cutoffs of the second, a week later, share one with the first
    assert found["reason"].startswith("wql ")
    table = forecast("compare", "shop", "1", "2").out
    assert "version 1" in table
    assert "on 2 shared windows: wql" in table


def test_versions_without_a_shared_window_are_shown_and_not_judged(
    trained_copy: Trained, forecast: Command
) -> None:
    write_recipe(trained_copy.recipe.parent, num_days=150)
    retrain.retrain(recipe.load(str(trained_copy.recipe)), say=lambda line: None)
    assert "share no window" in forecast("compare", "shop", "1", "2").out


def test_the_champion_need_not_be_promoted_and_the_first_has_nothing_to_go_back_to(
    trained: Trained, forecast: Command
) -> None:
    assert "is the champion already" in forecast("promote", "shop", "1").out
    ended = forecast("rollback", "shop")
    assert (ended.code, ended.out) == (2, "")
    assert "has no alias 'previous'" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [("promote", "shpo", "1"), ("promote", "shop", "9"), ("history", "shpo"), ("compare", "shop", "1", "9")],
)
def test_what_is_not_there_is_named(trained: Trained, forecast: Command, arguments: tuple[str, ...]) -> None:
    ended = forecast(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "error: the" in ended.err


def test_a_version_that_does_not_load_is_not_promoted(
    twice: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(version: registry.Version) -> None:
        raise ArtifactError("damaged")

    monkeypatch.setattr(registry, "load", broken)
    with pytest.raises(ArtifactError):
        operators.promote("shop", "1", reason="")
    with pytest.raises(ArtifactError):
        registry.rollback("shop", reason="")
    assert aliases() == {"1": ("previous",), "2": ("champion",)}


def test_an_alias_moved_by_hand_during_a_retrain_is_left_where_it_is(
    twice: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    register = registry.register

    def meanwhile(*arguments: object, **named: object) -> registry.Version:
        tracking.client().set_registered_model_alias("shop", "champion", "1")
        return register(*arguments, **named)  # type: ignore[arg-type]

    write_recipe(twice.recipe.parent, num_days=134)
    asked = recipe.load(str(twice.recipe))
    with monkeypatch.context() as patch:
        patch.setattr(registry, "register", meanwhile)
        outcome = retrain.retrain(asked, say=lambda line: None)
    assert (outcome.verdict, outcome.model_version) == ("kept", "3")
    assert "another version became champion" in outcome.reason
    assert "**Decision.** challenger: another version became champion" in registry.find("shop/3").description
    champions = [version for version, names in aliases().items() if "champion" in names]
    assert champions == ["1"]
    assert retrain.retrain(asked, say=lambda line: None).verdict == "promoted"


def test_promotions_at_once_leave_one_champion_and_the_one_before(twice: Trained) -> None:
    versions = [registry.find(f"shop/{number}") for number in (1, 2, 1, 2, 1)]
    threads = [
        threading.Thread(target=registry.promote, args=(each,), kwargs={"reason": "at once"})
        for each in versions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for names in aliases().values() for name in names) == ["champion", "previous"]
    moves = registry.promotions("shop")
    assert len(moves) == 2 + len(versions)
    champion = registry.champion("shop")
    assert champion is not None
    assert moves[0]["to"] == champion.version


def test_a_promotion_waits_for_another_and_then_gives_up(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "PROMOTION_SECONDS", 0.1)
    with lock.promotion_lock("shop"), pytest.raises(LockedError, match="another promotion of 'shop'"):
        registry.promote(registry.find("shop"), reason="")
