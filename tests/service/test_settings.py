"""Settings come from flags, then the environment, then defaults, and are refused when they make no sense."""

import os
from pathlib import Path

import pytest

from forecast.errors import SpecError
from service.settings import Settings, markdown


def test_flags_win_over_the_environment_and_that_over_defaults() -> None:
    settings = Settings.from_environment(
        {"FORECAST_PORT": "1234", "FORECAST_HOST": "0.0.0.0"}, port=99, host=None
    )
    assert (settings.port, settings.host, settings.poll_seconds) == (99, "0.0.0.0", 2.0)


def test_names_of_models_are_separated_by_commas() -> None:
    assert Settings.from_environment({"FORECAST_MODELS": "a, b,"}).models == ("a", "b")


@pytest.mark.parametrize(
    ("text", "size"),
    [("100", 100), ("64MiB", 64 * 2**20), ("64 mb", 64 * 2**20), ("2k", 2048), ("1G", 2**30)],
)
def test_sizes_may_carry_a_unit(text: str, size: int) -> None:
    assert Settings.from_environment({"FORECAST_MAX_BODY": text}).max_body == size


@pytest.mark.parametrize(
    "environment",
    [
        {"FORECAST_PORT": "abc"},
        {"FORECAST_PORT": "70000"},
        {"FORECAST_MAX_BODY": "lots"},
        {"FORECAST_MAX_BODY": "0"},
        {"FORECAST_POLL_SECONDS": "nan"},
        {"FORECAST_POLL_SECONDS": "-1"},
        {"FORECAST_THREADS": "1.5"},
        {"FORECAST_LOG_LEVEL": "loud"},
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(environment: dict[str, str]) -> None:
    (variable,) = environment
    with pytest.raises(SpecError, match=variable):
        Settings.from_environment(environment)


def test_settings_travel_to_workers_through_the_environment() -> None:
    settings = Settings(models=("a", "b"), insecure=True, queue_rows=7, hold_seconds=0.5, log_format="json")
    assert Settings.from_environment(settings.to_environment()) == settings


def test_no_number_of_workers_means_one_for_each_core() -> None:
    assert Settings(workers=0).num_workers == len(os.sched_getaffinity(0))


def test_an_empty_variable_counts_as_none() -> None:
    assert Settings.from_environment({"FORECAST_PORT": ""}) == Settings()


def test_the_table_of_the_docs_is_the_one_that_the_code_prints() -> None:
    docs = (Path(__file__).resolve().parents[2] / "docs" / "http-api.md").read_text()
    assert markdown() in docs, "docs/http-api.md: paste what `python -m service.settings` prints"
