"""Checks of the data before a training: what stops it, what is only said, and what is kept for next time."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forecast.errors import CheckError, SpecError
from forecast.series.panel import Panel
from forecast.series.read import from_frame
from pipelines import checks, registry, tracking
from pipelines import recipe as recipes
from pipelines.check_sections import ChecksSection
from pipelines.checks import Problem
from pipelines.retrain import retrain
from tests.pipelines.conftest import RECIPE, Command, Trained, sales, write_recipe

Change = Callable[[pd.DataFrame], pd.DataFrame]


def panel(frame: pd.DataFrame) -> Panel:
    return from_frame(frame, freq="D", unique_id="shop", ds="day", y="units")


def found(change: Change, section: ChecksSection | None = None) -> list[Problem]:
    """What is found in 130 changed days after 120 unchanged ones."""
    then, now = panel(sales()), panel(change(sales(130)))
    return checks.compared(now, checks.profile(now), checks.profile(then), section or ChecksSection())


def cents_since_may(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(units=frame["units"].where(frame["day"] < "2026-05-01", frame["units"] * 100))


def holes(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[np.random.default_rng(0).random(len(frame)) > 0.4]


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (lambda frame: frame[frame["day"] < "2026-04-20"], "backwards", "ends at 2026-04-19.*at 2026-04-30"),
        (
            lambda frame: frame[(frame["shop"] == "north") | (frame["day"] < "2026-04-29")],
            "backwards",
            "1 of 2 series end before they ended last time .'south' at 2026-04-28, then at 2026-04-30",
        ),
        (lambda frame: frame[frame["day"] > "2026-03-20"], "rows", "102 values against 240 of last time"),
        (lambda frame: frame[frame["shop"] == "north"], "vanished", "1 of 2 series.*'south'"),
        (
            lambda frame: (
                pd.concat([frame, *(frame.assign(shop=f"{i}") for i in range(1))])
                .drop_duplicates(["shop", "day"])
                .pipe(lambda all_: pd.concat([all_, all_[all_["shop"] == "0"].assign(shop="1")]))
            ),
            "new",
            "2 series are new beside 2 of last time",
        ),
        (holes, "missing", r"of the steps are missing against 0%"),
        (
            cents_since_may,
            "shift",
            "2 of 2 series have another level.*'north': about 1.2.*e.04 after about 1",
        ),
        (lambda frame: frame.assign(units=frame["units"] / 1000), "shift", "2 of 2 series"),
        (lambda frame: frame.assign(units=frame["units"] * 20), "shift", "2 of 2 series"),
    ],
)
def test_what_differs_from_last_time_is_found_and_named(change: Change, check: str, words: str) -> None:
    problems = {each.check: each for each in found(change)}
    assert check in problems, problems
    assert pd.Series([problems[check].message]).str.contains(words, regex=True).all(), problems[check]


def test_ten_more_days_of_the_same_are_no_finding() -> None:
    assert found(lambda frame: frame) == []
    grown = ChecksSection.model_validate({"rows": {"max_share": 1.05}})
    assert [each.check for each in found(lambda frame: frame, grown)] == ["rows"]


def test_a_check_is_off_or_warns_or_fails_as_the_recipe_says() -> None:
    def gone(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame["shop"] == "north"]

    assert found(gone, ChecksSection.model_validate({"vanished": "off"})) == []
    warned = found(gone, ChecksSection.model_validate({"vanished": "warn"}))
    assert [each.action for each in warned] == ["warn"]
    assert found(gone, ChecksSection.model_validate({"vanished": {"max_share": 0.5}})) == []
    with pytest.raises(CheckError, match=r"\[vanished\] 1 of 2 series.*--skip-checks"):
        checks.raise_failed(found(gone))
    checks.raise_failed(warned)


def test_freshness_is_measured_by_the_clock() -> None:
    section = ChecksSection.model_validate({"freshness": {"max_age": "2d"}})
    data = panel(sales())
    assert checks.fresh(data, section, now=datetime(2026, 5, 1, 12, tzinfo=UTC)) == []
    (problem,) = checks.fresh(data, section, now=datetime(2026, 5, 3, tzinfo=UTC))
    assert problem.message == "the newest stamp 2026-04-30 is 3.0 days old, and max_age is 2d"
    assert problem.action == "fail"
    assert checks.fresh(data, ChecksSection()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('rows = "never"', "checks.rows.action: input should be 'off', 'warn' or 'fail', and got 'never'"),
        ('freshness = {max_age = "old"}', "checks.freshness.max_age: a duration is a number"),
        ("shift = {max_shift = 0}", "checks.shift.max_shift: input should be greater than 0"),
        ("row = {}", r"unknown key 'checks.row' \(did you mean 'rows'\?\)"),
    ],
)
def test_checks_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        recipes.parse(f"{RECIPE}[checks]\n{text}", origin="here")


def test_bad_data_never_reaches_the_champion_and_the_same_command_works_once_it_is_good(
    trained_copy: Trained, forecast: Command
) -> None:
    folder = trained_copy.recipe.parent
    cents_since_may(sales(130)).to_parquet(folder / "sales.parquet")
    ended = forecast("retrain", trained_copy.recipe, "--json")
    assert (ended.code, ended.out) == (2, "")
    assert "error: the data is not fit to train on: [shift] 2 of 2 series" in ended.err
    assert [each.version for each in registry.versions("shop")] == ["1"]
    assert len(tracking.retrains("shop")) == 1
    write_recipe(folder, num_days=130)
    assert forecast("retrain", trained_copy.recipe).code == 0
    assert registry.find("shop").version == "2"


def test_a_warning_is_said_kept_and_stops_nothing(trained_copy: Trained) -> None:
    frame = sales(130)
    frame[frame["shop"] == "north"].to_parquet(trained_copy.recipe.parent / "sales.parquet")
    trained_copy.recipe.write_text(RECIPE + '[checks]\nvanished = "warn"\n')
    lines: list[str] = []
    outcome = retrain(recipes.load(str(trained_copy.recipe)), say=lines.append)
    assert outcome.verdict in ("promoted", "kept")
    assert outcome.warnings[0].startswith("1 of 2 series of last time are gone")
    assert any(line.startswith("  warning: [vanished] 1 of 2 series") for line in lines)


def test_whoever_knows_better_skips_the_checks(trained_copy: Trained, forecast: Command) -> None:
    cents_since_may(sales(130)).to_parquet(trained_copy.recipe.parent / "sales.parquet")
    assert forecast("retrain", trained_copy.recipe, "--skip-checks").code == 0
    assert len(registry.versions("shop")) == 2


def test_stale_data_fails_although_nothing_has_changed(
    tracked: Path, tmp_path: Path, forecast: Command
) -> None:
    path = write_recipe(tmp_path)
    assert forecast("retrain", path).code == 0
    path.write_text(RECIPE + '[checks.freshness]\nmax_age = "12h"\n')
    ended = forecast("retrain", path)
    assert ended.code == 2
    assert "[freshness] the newest stamp 2026-04-30 is" in ended.err
    path.write_text(RECIPE + '[checks.freshness]\nmax_age = "12h"\naction = "warn"\n')
    ended = forecast("retrain", path, "--json")
    assert (ended.code, '"unchanged"' in ended.out) == (0, True)
    assert "warning: [freshness]" in ended.err
