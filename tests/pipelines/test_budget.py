"""A budget that is used up ends the work, also where the first word of it is lost."""

import signal
import time
from contextlib import suppress

import pytest

from forecast.errors import BudgetError
from pipelines import budget
from pipelines.sections import BudgetSection


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(budget, "AGAIN_SECONDS", 0.1)


def overspend() -> None:
    """Work that takes too long, for the first time where exceptions are dropped, as in a finalizer."""
    with budget.within(BudgetSection(seconds=0.1)):
        with suppress(BudgetError):
            time.sleep(10)
        time.sleep(10)


def test_an_interruption_that_was_dropped_comes_again() -> None:
    with pytest.raises(BudgetError, match=r"took longer than its budget, \[budget\] seconds = 0.1"):
        overspend()


def test_work_within_its_budget_ends_as_without_one() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with budget.within(BudgetSection(seconds=60, memory_mib=1e9)):
        time.sleep(0.1)
    assert signal.getsignal(signal.SIGALRM) is before
    time.sleep(0.2)
