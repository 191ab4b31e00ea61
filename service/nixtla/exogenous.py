"""Which rows of X are which covariates of the model: rows have no names here, so that their order says it.

The client sends the features whose future is known first, then the historic ones; numbers before categories.
Numbers are read as the model's known, past and numeric static covariates, categories as its static ones, each
in the order in which `GET /v1/models/{name}` lists them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.errors import CovariateError
from forecast.models.forecaster import Forecaster
from service.nixtla.payload import Asked, Row

KINDS = ("known", "past", "static", "categorical")
_WORDS = {
    "known": "features with a known future (X_df)",
    "past": "historic features (hist_exog_list)",
    "static": "numeric features that never change",
    "categorical": "categorical features (categorical_exog_list)",
}


@dataclass(frozen=True)
class Exogenous:
    """The rows of X by kind and name."""

    rows: Mapping[str, Mapping[str, int]]
    """For each kind the place of each covariate in X."""
    num_rows: int

    @property
    def is_ignored(self) -> bool:
        """Whether features came of which the model reads none."""
        return self.num_rows > 0 and not any(self.rows.values())

    @property
    def has_ignored(self) -> bool:
        """Whether some of the features were not read."""
        return self.num_rows > sum(map(len, self.rows.values()))


def names_of(forecaster: Forecaster) -> dict[str, list[str]]:
    """The model's covariates by kind, in its order."""
    info = forecaster.info
    return {
        "known": list(info.covariates.get("known", ())),
        "past": list(info.covariates.get("past", ())),
        "static": list(info.model.get("static_numeric") or ()),
        "categorical": list(info.model.get("static_categories") or ()),
    }


def assign(asked: Asked, forecaster: Forecaster) -> Exogenous:
    """Which row is which covariate; CovariateError where there are more or fewer than the model uses.

    Features of a kind that the model does not use at all are let pass and noted: date features can be asked
    for of any model.
    """
    series = asked.series
    num_rows = len(series.X or ())
    categorical = sorted(series.categorical_exog or ())
    numbers = [place for place in range(num_rows) if place not in set(categorical)]
    needed = names_of(forecaster)
    found = {**_numeric(asked, numbers, needed), "categorical": categorical}
    if not any(needed.values()):
        return Exogenous({kind: {} for kind in KINDS}, num_rows)
    rows = {}
    for kind in KINDS:
        if needed[kind] and len(found[kind]) != len(needed[kind]):
            raise _wrong_number(kind, needed[kind], len(found[kind]))
        rows[kind] = dict(zip(needed[kind], found[kind], strict=True)) if needed[kind] else {}
    return Exogenous(rows, num_rows)


def _numeric(asked: Asked, numbers: list[int], needed: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """The rows of numbers by kind: as the client marked them, or by the model's order where it did not."""
    if asked.series.X_future is not None:
        known = [place for place in numbers if place < len(asked.series.X_future)]
    elif asked.hist_exog is not None:
        known = [place for place in numbers if place not in asked.hist_exog]
    else:
        known = numbers[: len(needed["known"])]
    others = [place for place in numbers if place not in set(known)]
    split = len(others) - len(needed["static"])
    if not needed["static"]:
        return {"known": known, "past": others, "static": []}
    return {"known": known, "past": others[: max(split, 0)], "static": others[max(split, 0) :]}


def _wrong_number(kind: str, names: Sequence[str], got: int) -> CovariateError:
    return CovariateError(
        f"the model uses {len(names)} {_WORDS[kind]}: {', '.join(names)}, and got {got}; send these in this "
        "order and no others of the kind (names do not travel; date_features counts as features)"
    )


def covariates(asked: Asked, found: Exogenous, bounds: NDArray[np.int64]) -> dict[str, Any]:
    """What `Panel.from_arrays` takes: past, known and static as one mapping per series."""
    parts: dict[str, Any] = {}
    rows = asked.series.X or ()
    for kind in ("past", "known"):
        if found.rows[kind]:
            future = (asked.series.X_future or ()) if kind == "known" else ()
            parts[kind] = [
                {
                    name: _values(rows[place], index, bounds, future, place)
                    for name, place in found.rows[kind].items()
                }
                for index in range(len(asked.series))
            ]
    constant = {**found.rows["static"], **found.rows["categorical"]}
    if constant:
        parts["static"] = [
            {name: _only(name, rows[place][begin:end]) for name, place in constant.items()}
            for begin, end in pairwise(bounds)
        ]
    return parts


def _values(
    row: Row, index: int, bounds: NDArray[np.int64], future: Sequence[Row], place: int
) -> NDArray[np.float64]:
    """A covariate of one series: its history, and what is known of its future."""
    own = _numbers(row)[bounds[index] : bounds[index + 1]]
    if place >= len(future):
        return own
    ahead = _numbers(future[place])
    steps = len(ahead) // (len(bounds) - 1)
    return np.concatenate([own, ahead[index * steps : (index + 1) * steps]])


def _numbers(row: Row) -> NDArray[np.float64]:
    if isinstance(row, list):
        raise CovariateError(
            "a feature holds texts or true and false where the model reads numbers; convert it, or name it "
            "in categorical_exog_list"
        )
    return row


def _only(name: str, values: Row) -> Any:
    """The one value of a static covariate; None where it is missing."""
    found = {value for value in values if value is not None and value == value}
    if len(found) > 1:
        raise CovariateError(
            f"the model's covariate {name!r} is one value per series and changes within one; send it constant"
        )
    value = next(iter(found), None)
    return (
        value
        if value is None or isinstance(value, str)
        else float(value)
        if _is_number(value)
        else str(value)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
