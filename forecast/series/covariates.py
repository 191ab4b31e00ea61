"""Past, known and static covariates: further rows of the same flat layout, aligned with a panel.

N series, C covariates of one kind, T flat values, B chosen series, W steps
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.errors import CovariateError
from forecast.series.batch import saturated
from forecast.series.encoding import encode, flat_indices


@dataclass(frozen=True, kw_only=True, eq=False)
class CovariateRows:
    """Numeric covariates over time; row i belongs to series i and starts at its start.

    Past rows are as long as their series; known ones as far as they were given, at least as long.
    """

    names: tuple[str, ...]
    values: NDArray[np.float32]
    """(C, T) relative: in units, `offsets + scales * values`; NaN where missing."""
    begins: NDArray[np.int64]
    """(N,)."""
    lengths: NDArray[np.int64]
    """(N,)."""
    offsets: NDArray[np.float64]
    """(C, N)."""
    scales: NDArray[np.float64]
    """(C, N)."""
    first_observed: NDArray[np.int64]
    """(C, N)."""

    @classmethod
    def none(cls, num_series: int) -> "CovariateRows":
        """No covariates for so many series."""
        return cls.from_columns(
            {}, np.zeros(num_series, dtype=np.int64), np.zeros(num_series, dtype=np.int64)
        )

    @classmethod
    def from_columns(
        cls,
        columns: Iterable[tuple[str, NDArray[np.float64]]],
        begins: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> "CovariateRows":
        """Rows from names and flat columns (T,) in units, taken one at a time.

        Series lie one after the other.
        """
        parts = {name: encode(column, begins, lengths) for name, column in columns}
        num_values = int(lengths.sum()) if parts else 0

        def stack(arrays: list[Any], width: int, dtype: Any) -> Any:
            return np.stack(arrays) if arrays else np.empty((0, width), dtype=dtype)

        return cls(
            names=tuple(parts),
            values=stack([part.values for part in parts.values()], num_values, np.float32),
            begins=begins,
            lengths=lengths,
            offsets=stack([part.offsets for part in parts.values()], len(begins), np.float64),
            scales=stack([part.scales for part in parts.values()], len(begins), np.float64),
            first_observed=stack([part.first_observed for part in parts.values()], len(begins), np.int64),
        )

    def __len__(self) -> int:
        return len(self.names)

    def row(self, name: str, series: int) -> NDArray[np.float64]:
        """One covariate of one series in units (n_i,); CovariateError for a name that is not there."""
        if name not in self.names:
            raise CovariateError(
                f"there is no covariate {name!r}; there are {', '.join(self.names) or 'none'}."
            )
        place = self.names.index(name)
        begin = self.begins[series]
        values = self.values[place, begin : begin + self.lengths[series]].astype(np.float64)
        return np.asarray(self.offsets[place, series] + self.scales[place, series] * values)

    def gather(self, series: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.float32]:
        """Values in units at the steps (B, W) of the series (B,): (B, C, W), NaN outside a row."""
        if not self.names:
            return np.empty((len(series), 0, steps.shape[1]), dtype=np.float32)
        lengths = self.lengths[series][:, None]
        inside = (steps >= 0) & (steps < lengths)
        flat = self.begins[series][:, None] + np.clip(steps, 0, np.maximum(lengths - 1, 0))
        taken = self.values[:, np.minimum(flat, max(self.values.shape[1] - 1, 0))].astype(
            np.float64
        )  # (C, B, W)
        units = self.offsets[:, series, None] + self.scales[:, series, None] * taken
        return saturated(np.where(inside, units, np.nan)).transpose(1, 0, 2)

    def select(self, series: NDArray[np.int64]) -> "CovariateRows":
        """The rows of some series; values are shared."""
        return replace(
            self,
            begins=self.begins[series],
            lengths=self.lengths[series],
            offsets=self.offsets[:, series],
            scales=self.scales[:, series],
            first_observed=self.first_observed[:, series],
        )

    def head(self, lengths: NDArray[np.int64]) -> "CovariateRows":
        """The first steps of every row; nothing of what is cut off stays visible."""
        if not self.names:
            return self
        unseen = lengths <= self.first_observed
        return replace(
            self,
            lengths=lengths,
            offsets=np.where(unseen, 0.0, self.offsets),
            scales=np.where(unseen, 1.0, self.scales),
            first_observed=np.minimum(self.first_observed, lengths),
        )

    def chosen(self, names: Sequence[str], *, kind: str) -> "CovariateRows":
        """The rows of these covariates in this order; CovariateError naming those that are missing."""
        if tuple(names) == self.names:
            return self
        require(names, self.names, kind=kind)
        places = [self.names.index(name) for name in names]
        return replace(
            self,
            names=tuple(names),
            values=self.values[places],
            offsets=self.offsets[places],
            scales=self.scales[places],
            first_observed=self.first_observed[places],
        )

    def compact(self) -> "CovariateRows":
        """The same rows with their values one after the other and nothing between."""
        begins = np.cumsum(self.lengths) - self.lengths
        return replace(self, values=self.values[:, flat_indices(self.begins, self.lengths)], begins=begins)


@dataclass(frozen=True, kw_only=True, eq=False)
class StaticCovariates:
    """What does not change over time: numbers, and categories as codes."""

    numeric_names: tuple[str, ...] = ()
    numeric: NDArray[np.float32]
    """(N, S), NaN where missing."""
    categorical_names: tuple[str, ...] = ()
    codes: NDArray[np.int64]
    """(N, C) places in `categories`; -1 where missing or unknown."""
    categories: tuple[tuple[str, ...], ...] = ()
    """Per categorical covariate its categories, sorted."""

    @classmethod
    def none(cls, num_series: int) -> "StaticCovariates":
        """No covariates for so many series."""
        return cls(
            numeric=np.empty((num_series, 0), dtype=np.float32),
            codes=np.empty((num_series, 0), dtype=np.int64),
        )

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[Any]], num_series: int) -> "StaticCovariates":
        """From one value per series and name.

        Numbers stay numbers, strings and booleans become categories.
        """
        numeric: dict[str, NDArray[np.float32]] = {}
        coded: dict[str, tuple[NDArray[np.int64], tuple[str, ...]]] = {}
        for name, column in columns.items():
            if all(
                (isinstance(v, int | float | np.number) and not isinstance(v, bool)) or v is None
                for v in column
            ):
                numeric[name] = _numbers(name, column)
            else:
                coded[name] = _codes(column)
        nothing = cls.none(num_series)
        return cls(
            numeric_names=tuple(numeric),
            numeric=np.stack(list(numeric.values()), axis=1) if numeric else nothing.numeric,
            categorical_names=tuple(coded),
            codes=np.stack([codes for codes, _ in coded.values()], axis=1) if coded else nothing.codes,
            categories=tuple(names for _, names in coded.values()),
        )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Numeric names, then categorical ones."""
        return (*self.numeric_names, *self.categorical_names)

    def select(self, series: NDArray[np.int64]) -> "StaticCovariates":
        """Those of some series."""
        return replace(self, numeric=self.numeric[series], codes=self.codes[series])

    def chosen(self, numeric: Sequence[str], categories: Mapping[str, Sequence[str]]) -> "StaticCovariates":
        """These numbers and categories in this order, coded as in `categories`.

        A category that is missing or none of them becomes -1; CovariateError names covariates that are
        missing.
        """
        require(numeric, self.numeric_names, kind="numeric static")
        empty = [
            name for place, name in enumerate(self.numeric_names) if np.isnan(self.numeric[:, place]).all()
        ]
        require(categories, (*self.categorical_names, *empty), kind="categorical static")
        coded = self.recoded(categories)
        columns = dict(zip(coded.categorical_names, coded.codes.T, strict=True))
        unknown = np.full(len(self.codes), -1, dtype=np.int64)
        return StaticCovariates(
            numeric_names=tuple(numeric),
            numeric=self.numeric[:, [self.numeric_names.index(name) for name in numeric]],
            categorical_names=tuple(categories),
            codes=np.stack([columns.get(name, unknown) for name in categories], axis=1)
            if categories
            else self.codes[:, :0],
            categories=tuple(tuple(names) for names in categories.values()),
        )

    def recoded(self, categories: Mapping[str, Sequence[str]]) -> "StaticCovariates":
        """With the codes of other categories (those of training), -1 where a category is none of them."""
        codes = self.codes.copy()
        tables = list(self.categories)
        for place, name in enumerate(self.categorical_names):
            wanted = {category: code for code, category in enumerate(categories.get(name, ()))}
            mapping = np.array([*(wanted.get(category, -1) for category in self.categories[place]), -1])
            codes[:, place] = mapping[self.codes[:, place]]
            tables[place] = tuple(categories.get(name, ()))
        return replace(self, codes=codes, categories=tuple(tables))


def require(names: Iterable[str], given: Collection[str], *, kind: str) -> None:
    """CovariateError naming the covariates that are not among those given."""
    missing = [name for name in names if name not in given]
    if missing:
        raise CovariateError(
            f"the model needs the {kind} covariates {', '.join(map(repr, missing))}, which are missing here"
            f" (there are {', '.join(map(repr, given)) or 'none'}); send them with every series."
        )


def _numbers(name: str, column: Sequence[Any]) -> NDArray[np.float32]:
    numbers = np.array([np.nan if value is None else value for value in column], dtype=np.float64)
    if np.isinf(numbers).any():
        raise CovariateError(
            f"the static covariate {name!r} holds an infinite value; leave it empty or correct it."
        )
    return saturated(numbers)


def _codes(column: Sequence[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    texts = [None if value is None or value != value else str(value) for value in column]
    categories = tuple(sorted({text for text in texts if text is not None}))
    places = {text: place for place, text in enumerate(categories)}
    return np.array([-1 if text is None else places[text] for text in texts], dtype=np.int64), categories
