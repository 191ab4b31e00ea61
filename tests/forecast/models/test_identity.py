"""Known series are recognised by id or by value, from hashes alone."""

from dataclasses import dataclass

import numpy as np
import pytest

from forecast.models import identity
from forecast.models.identity import Identity


@dataclass
class Series:
    """Named series as identity reads them."""

    named: dict[str, np.ndarray]

    @property
    def unique_ids(self) -> np.ndarray:
        return np.array(list(self.named), dtype=object)

    def y(self, index: int) -> np.ndarray:
        return list(self.named.values())[index]


def walk(seed: int, length: int = 200) -> np.ndarray:
    return 100 + np.cumsum(np.random.default_rng(seed).normal(size=length))


TRAINED = Series({"a": walk(1), "b": walk(2)})


def test_a_known_id_is_known_whatever_its_values() -> None:
    assert Identity.of(TRAINED).knows(Series({"b": walk(9), "c": walk(9)})).tolist() == [True, False]


@pytest.mark.parametrize("part", [slice(0, 100), slice(77, 140), slice(150, 200)])
def test_any_part_of_a_renamed_series_is_known(part: slice) -> None:
    assert Identity.of(TRAINED).knows(Series({"renamed": walk(2)[part]})).all()


def test_rounding_in_storage_does_not_hide_a_series() -> None:
    stored = walk(1).astype(np.float32).astype(np.float64)
    assert Identity.of(TRAINED).knows(Series({"renamed": stored})).all()


def test_gaps_elsewhere_do_not_hide_a_series() -> None:
    gappy = walk(1)
    gappy[:50] = np.nan
    assert Identity.of(TRAINED).knows(Series({"renamed": gappy})).all()


def test_constant_and_short_histories_are_unknown() -> None:
    trained = Identity.of(Series({"flat": np.ones(50), "a": walk(1)}))
    assert not trained.knows(Series({"other": np.ones(50), "short": walk(1)[:5]})).any()


def test_many_series_fit_into_the_limit_and_are_still_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "MAX_FINGERPRINTS", 500)
    monkeypatch.setattr(identity, "CHUNK", 3)
    trained = Identity.of(Series({f"s{seed}": walk(seed) for seed in range(20)}))
    assert len(trained.fingerprints) <= 500
    assert trained.thinning >= 3
    assert trained.knows(Series({"renamed": walk(13)})).all()
    assert not trained.knows(Series({"new": walk(99)})).any()


def test_tensors_come_back_and_hold_no_value() -> None:
    trained = Identity.of(TRAINED)
    again = Identity.from_tensors(trained.tensors())
    assert again.knows(Series({"renamed": walk(2)})).all()
    assert not np.isin(walk(1).view(np.int64), trained.tensors()["fingerprints"]).any()
    assert not Identity.from_tensors({}).knows(TRAINED).any()
