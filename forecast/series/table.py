"""One view on pandas frames, Arrow tables and Parquet files: columns by name, one at a time."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from forecast.errors import ColumnsError, DataError

MAX_SHOWN = 20
"""Columns that are named to who asked for one there is not."""


class Table(ABC):
    """A table of which columns are read one at a time, each as the plain array it becomes."""

    names: tuple[str, ...]
    num_rows: int

    @abstractmethod
    def column(self, name: str) -> Any:
        """A column as pandas or Arrow keeps it."""

    @abstractmethod
    def is_numeric(self, name: str) -> bool:
        """Whether a column holds numbers (booleans count)."""

    @abstractmethod
    def is_text(self, name: str) -> bool:
        """Whether a column holds text or categories."""

    def floats(self, name: str) -> NDArray[np.float64]:
        """A column as float64 (R,), NaN where missing; ColumnsError where it holds no numbers."""
        if not self.is_numeric(name):
            raise ColumnsError(
                f"the column {name!r} does not hold numbers; correct it or choose another column for y."
            )
        return as_floats(self.column(name))

    def codes(self, name: str, *, optional: bool = False) -> tuple[NDArray[Any], NDArray[Any]]:
        """A column as codes (R,) and the distinct texts (N,) they stand for.

        DataError where one is missing, unless it is `optional`: then its code is -1.
        """
        return as_codes(self.column(name), name, optional=optional)


class PandasTable(Table):
    """A pandas frame; stamps and ids in its index count as columns."""

    def __init__(self, frame: pd.DataFrame) -> None:
        named = [name for name in frame.index.names if name is not None]
        if named:
            frame = frame.reset_index(named)
        elif isinstance(frame.index, pd.DatetimeIndex):
            frame = frame.rename_axis("ds").reset_index()
        self.frame = frame
        self.names = tuple(map(str, frame.columns))
        self.num_rows = len(frame)

    def column(self, name: str) -> pd.Series:
        column: pd.Series = self.frame.iloc[:, self.names.index(name)]
        return column

    def is_numeric(self, name: str) -> bool:
        column = self.column(name)
        if column.dtype == object:
            return pd.api.types.infer_dtype(column, skipna=True) in (
                "integer", "floating", "decimal", "mixed-integer-float", "boolean", "empty",
            )  # fmt: skip
        dtype = column.dtype
        return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype)

    def is_text(self, name: str) -> bool:
        column = self.column(name)
        if isinstance(column.dtype, pd.CategoricalDtype):
            return True
        return bool(pd.api.types.infer_dtype(column, skipna=True) == "string")


class ArrowTable(Table):
    """An Arrow table."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.schema = table.schema
        self.names = tuple(table.schema.names)
        self.num_rows = table.num_rows

    def column(self, name: str) -> pa.ChunkedArray:
        if name not in self.names:
            known = ", ".join(map(repr, self.names[:MAX_SHOWN]))
            raise ColumnsError(f"there is no column {name!r}; the table has {known}.")
        return self.table.column(self.names.index(name))

    def is_numeric(self, name: str) -> bool:
        kind = _value_type(self.schema.field(self.names.index(name)).type)
        numeric = (
            pa.types.is_integer,
            pa.types.is_floating,
            pa.types.is_decimal,
            pa.types.is_boolean,
            pa.types.is_null,
        )
        return any(check(kind) for check in numeric)

    def is_text(self, name: str) -> bool:
        kind = self.schema.field(self.names.index(name)).type
        checks = (pa.types.is_dictionary, pa.types.is_string, pa.types.is_large_string)
        return any(check(kind) for check in checks)


class ParquetTable(ArrowTable):
    """A Parquet file (or a folder of them), read column by column and row group by row group."""

    def __init__(self, path: Path) -> None:
        try:
            self.data = pq.ParquetFile(path, pre_buffer=False) if path.is_file() else None
            whole = None if self.data else pq.read_table(path)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise DataError(
                f"{path} cannot be read as Parquet ({error}); write it anew or send CSV."
            ) from error
        if self.data is None:
            super().__init__(whole)
            return
        self.schema = self.data.schema_arrow
        self.names = tuple(self.schema.names)
        self.num_rows = self.data.metadata.num_rows
        self.path = path

    def column(self, name: str) -> Any:
        if self.data is None:
            return super().column(name)
        kind = self.schema.field(name).type
        if pa.types.is_timestamp(kind) and kind.tz is None:
            return self._stamps(name)
        return self.data.read(columns=[name], use_threads=False).column(0)

    def _stamps(self, name: str) -> Any:
        """Naive stamps in one array, so that no second copy of them is ever held."""
        stamps = np.empty(self.num_rows, dtype="datetime64[us]")
        end = 0
        for batch in self._batches(name):
            stamps[end : end + len(batch)] = batch.column(0).to_numpy(zero_copy_only=False)
            end += len(batch)
        return stamps

    def _batches(self, name: str) -> Iterator[Any]:
        data: Any = self.data
        yield from data.iter_batches(1 << 18, columns=[name], use_threads=False)
        pa.default_memory_pool().release_unused()

    def floats(self, name: str) -> NDArray[np.float64]:
        if self.data is None or not self.is_numeric(name):
            return super().floats(name)
        values = np.empty(self.num_rows)
        end = 0
        for batch in self._batches(name):
            part = as_floats(batch.column(0))
            values[end : end + len(part)] = part
            end += len(part)
        return values

    def codes(self, name: str, *, optional: bool = False) -> tuple[NDArray[Any], NDArray[Any]]:
        if self.data is None:
            return super().codes(name, optional=optional)
        kind = self.schema.field(name).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            return super().codes(name, optional=optional)
        return _checked_codes(*self._text_codes(name), name, optional=optional)

    def _text_codes(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """Codes in one array, so that the texts of all rows are never held."""
        file: Any = pq.ParquetFile(self.path, read_dictionary=[name], pre_buffer=False)
        codes, places, end = np.empty(self.num_rows, dtype=np.int32), _Places(), 0
        for batch in file.iter_batches(1 << 18, columns=[name], use_threads=False):
            part = batch.column(0)
            local = pc.fill_null(part.indices, -1).to_numpy(zero_copy_only=False)
            codes[end : end + len(part)] = places.of(part.dictionary)[local]
            end += len(part)
        pa.default_memory_pool().release_unused()
        return codes, list(places.numbers)


class _Places:
    """Numbers for texts, in the order in which dictionaries bring them."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.known: tuple[Any, NDArray[np.int32]] | None = None

    def of(self, dictionary: Any) -> NDArray[np.int32]:
        """The number of each text of an Arrow dictionary, and -1 behind them for a missing one."""
        if self.known is None or not self.known[0].equals(dictionary):
            numbers = self.numbers
            places = [numbers.setdefault(text, len(numbers)) for text in dictionary.to_pylist()]
            self.known = dictionary, np.array([*places, -1], dtype=np.int32)
        return self.known[1]


def as_table(data: Any) -> Table:
    """A view on a pandas frame, an Arrow table or record batch, or anything that speaks Arrow (polars)."""
    if isinstance(data, pd.Series):
        data = data.to_frame(data.name if data.name is not None else "y")
    if isinstance(data, pd.DataFrame):
        return PandasTable(data)
    if isinstance(data, pa.RecordBatch):
        data = pa.Table.from_batches([data])
    if isinstance(data, pa.Table):
        return ArrowTable(data)
    if hasattr(data, "__arrow_c_stream__"):
        return ArrowTable(pa.table(data))
    raise ColumnsError(
        f"data of type {type(data).__name__} cannot be read; send a pandas frame, an Arrow table or a file."
    )


def _value_type(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def as_floats(column: Any) -> NDArray[np.float64]:
    """A pandas or Arrow column of numbers as float64, NaN where missing."""
    if isinstance(column, pd.Series):
        if isinstance(column.dtype, pd.ArrowDtype):
            return as_floats(pa.chunked_array([pa.array(column)]))
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    column = column.cast(pa.float64()) if column.type != pa.float64() else column
    if isinstance(column, pa.ChunkedArray):
        parts = [part.to_numpy(zero_copy_only=False) for part in column.chunks]
        return np.asarray(parts[0] if len(parts) == 1 else np.concatenate([np.empty(0), *parts]))
    return np.asarray(column.to_numpy(zero_copy_only=False))


def as_codes(column: Any, name: str, *, optional: bool = False) -> tuple[NDArray[Any], NDArray[Any]]:
    """A pandas or Arrow column as codes and distinct texts; see `Table.codes`."""
    codes, distinct = _pandas_codes(column) if isinstance(column, pd.Series) else _arrow_codes(column)
    return _checked_codes(codes, distinct, name, optional=optional)


def _checked_codes(
    codes: NDArray[Any], distinct: Sequence[Any], name: str, *, optional: bool
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Codes of texts that are all used and all different; DataError for a missing one unless `optional`."""
    if not optional and len(codes) and codes.min() < 0:
        row = int((codes < 0).argmax())
        raise DataError(
            f"the column {name!r} is empty in {(codes < 0).sum():,} rows, first in row {row + 1}; give every"
            " row its series."
        )
    used = np.zeros(len(distinct), dtype=bool)
    used[codes[codes >= 0] if optional else codes] = True
    texts = np.array([_text(value) for value in distinct], dtype=object)
    if used.all() and len(set(texts)) == len(texts):
        return codes, texts
    kept, places = _merge(texts[used])
    renumbered = np.full(len(distinct) + 1, -1, dtype=np.int64)  # the last one is that of code -1
    renumbered[:-1][used] = places
    return renumbered[codes], kept


def _merge(texts: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Distinct texts and the place of each among them."""
    places, distinct = pd.factorize(texts)
    return np.asarray(distinct, dtype=object), places.astype(np.int64)


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _pandas_codes(column: pd.Series) -> tuple[NDArray[Any], Sequence[Any]]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(), column.cat.categories.tolist()
    codes, distinct = pd.factorize(column)
    return codes, list(distinct)


def _arrow_codes(column: Any) -> tuple[NDArray[Any], Sequence[Any]]:
    chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    if not pa.types.is_dictionary(chunked.type):
        chunked = chunked.dictionary_encode()
    chunked = chunked.unify_dictionaries()
    if not chunked.num_chunks:
        return np.empty(0, dtype=np.int32), []
    parts = [
        pc.fill_null(chunk.indices, -1) if chunk.null_count else chunk.indices for chunk in chunked.chunks
    ]
    codes = [part.to_numpy(zero_copy_only=False) for part in parts]
    distinct = chunked.chunk(0).dictionary.to_pylist()
    return (codes[0] if len(codes) == 1 else np.concatenate(codes)), distinct
