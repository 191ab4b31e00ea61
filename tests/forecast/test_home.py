"""What other programs' errors say is repeated in one line, and never with a password."""

import pytest

from forecast import home


def test_the_first_line_of_a_message_is_told_without_the_servers_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://trainer:hush@mlflow.example:5000")
    error = OSError("no answer from trainer:hush@mlflow.example\nTraceback ...")
    assert home.first_line(error) == "no answer from trainer:***@mlflow.example"


@pytest.mark.parametrize("message", ["", "  \n "])
def test_an_error_without_a_message_is_told_by_its_kind(message: str) -> None:
    assert home.first_line(TimeoutError(message)) == "TimeoutError"


def test_of_a_databases_error_the_driver_speaks() -> None:
    class DatabaseError(Exception):
        orig = ConnectionError("connection refused")

    assert (
        home.first_line(DatabaseError("(driver) connection refused [SQL: select 1]")) == "connection refused"
    )


def test_a_long_message_is_cut() -> None:
    assert len(home.first_line(ValueError("x" * 10_000))) == home.MOST_TOLD
