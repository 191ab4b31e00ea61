"""Bulk requests and answers as Arrow IPC streams: columns instead of texts.

In, one row per series (`unique_id`, `start`, `y` as a list) or one per step (`unique_id`, `ds`, `y`); what
to forecast stands in the query. Out, one row per series and step, what belongs to the whole in the metadata.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from forecast.series.forecast import Forecast
from service.columns import Columns
from service.errors import Fault, pointer, problem
from service.schemas import MAX_ABS, MAX_SERIES
from service.stamps import Stamp

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
MAX_BATCHES = 100_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """The histories of an Arrow body."""

    unique_ids: NDArray[Any]
    ys: list[NDArray[np.float64]]
    starts: list[Stamp]
    ds: list[NDArray[Any]] | None
    """The stamps of every series where they were sent, datetime64[us] in UTC or int64."""


def is_arrow(content_type: str) -> bool:
    """Whether a Content-Type is that of an Arrow stream."""
    return content_type.split(";")[0].strip().lower() == MEDIA_TYPE


def accepts_arrow(accept: str) -> bool:
    """Whether an Accept header asks for an Arrow stream."""
    return any(is_arrow(part) for part in accept.split(","))


def read_table(body: bytes) -> Table:
    """The histories in a body; Problem 400 where it is no Arrow stream, 422 where it is another table."""
    import pyarrow as pa

    try:
        _refuse_compression(body)
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            _check_schema(reader.schema)
            is_long = "ds" in reader.schema.names
            batches: list[Any] = []
            num_rows = 0
            for batch in reader:
                batch.validate(full=True)
                num_rows += batch.num_rows
                if (not is_long and num_rows > MAX_SERIES) or len(batches) > MAX_BATCHES:
                    raise _wrong(f"at most {MAX_SERIES:,} series fit one request", "series")
                batches.append(batch)
            table = pa.Table.from_batches(batches, reader.schema).combine_chunks()
    except (pa.ArrowException, OSError, ValueError, struct.error, OverflowError, MemoryError):
        raise problem("not-arrow", "the body cannot be read as an Arrow IPC stream") from None
    if not table.num_rows:
        raise _wrong("there is no series; send at least one", "series")
    found = _long(table) if is_long else _wide(table)
    _check(found)
    return found


def _refuse_compression(body: bytes) -> None:
    """Compressed buffers say their size only to who unpacks them, so they are refused unread."""
    import pyarrow as pa

    reader = pa.ipc.MessageReader.open_stream(pa.py_buffer(body))
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        if _is_compressed(message.metadata.to_pybytes()):
            raise problem("unsupported-encoding", "send the Arrow stream without compression of its buffers")


def _is_compressed(message: bytes) -> bool:
    """Whether the RecordBatch of a message has the field `compression` (Arrow's Message.fbs)."""

    def field(table: int, number: int) -> int:
        vtable = table - struct.unpack_from("<i", message, table)[0]
        (size,) = struct.unpack_from("<H", message, vtable)
        place = 4 + 2 * number
        offset = struct.unpack_from("<H", message, vtable + place)[0] if place < size else 0
        return table + int(offset) if offset else 0

    def follow(place: int) -> int:
        return place + int(struct.unpack_from("<I", message, place)[0])

    root = follow(0)
    kind, header = field(root, 1), field(root, 2)
    if not kind or not header or message[kind] not in (2, 3):
        return False
    batch = follow(header)
    if message[kind] == 2:  # a dictionary: its values are a batch
        data = field(batch, 1)
        if not data:
            return False
        batch = follow(data)
    return bool(field(batch, 3))


def _check_schema(schema: Any) -> None:
    from pyarrow import types

    names = set(schema.names)
    if len(names) < len(schema.names) or names not in (
        {"unique_id", "start", "y"},
        {"unique_id", "ds", "y"},
    ):
        raise _wrong("the columns are unique_id, start and y (a list), or unique_id, ds and y", "")
    ids = schema.field("unique_id").type
    ids = ids.value_type if types.is_dictionary(ids) else ids
    if not (types.is_string(ids) or types.is_large_string(ids)):
        raise _wrong("unique_id has to be a column of texts", "unique_id")
    values = schema.field("y").type
    if "start" in names:
        if not (types.is_list(values) or types.is_large_list(values)):
            raise _wrong("y has to be a column of lists of numbers", "y")
        values = values.value_type
    if not (types.is_floating(values) or types.is_integer(values)):
        raise _wrong("y has to hold numbers", "y")
    name = "start" if "start" in names else "ds"
    stamps = schema.field(name).type
    if not (types.is_timestamp(stamps) or types.is_date(stamps) or types.is_integer(stamps)):
        raise _wrong(f"{name} has to be a column of timestamps, dates or integers", name)
    if types.is_timestamp(stamps) and stamps.tz is not None:
        _offset(stamps.tz)


def _offset(timezone: str) -> timedelta:
    """The distance from UTC of a zone that has always the same; a Problem for any other."""
    if timezone.upper() in ("UTC", "Z", "ETC/UTC", "GMT"):
        return timedelta(0)
    try:
        offset = datetime.fromisoformat(f"2000-01-01T00:00:00{timezone}").utcoffset()
    except ValueError:
        offset = None
    if offset is None:
        raise _wrong("the zone of the stamps has to be UTC or a fixed offset such as +02:00", "start")
    return offset


def _wide(table: Any) -> Table:
    """One row per series."""
    column = table.column("y").combine_chunks()
    column = column.chunk(0) if hasattr(column, "chunk") else column
    if column.null_count or table.column("start").null_count or table.column("unique_id").null_count:
        raise _wrong("a row lacks its unique_id, start or y", "series")
    ends = np.asarray(column.offsets)
    values = _floats(column.values)
    ys = [values[begin:end] for begin, end in pairwise(ends.tolist())]
    stamps, offset = _stamps(table.column("start"))
    return Table(
        unique_ids=_ids(table),
        ys=ys,
        starts=_starts(stamps, offset),
        ds=None,
    )


def _long(table: Any) -> Table:
    """One row per step, those of a series one after the other."""
    if table.column("ds").null_count or table.column("unique_id").null_count:
        raise _wrong("a row lacks its unique_id or ds", "ds")
    names = _ids(table)
    begins = np.concatenate([[0], np.flatnonzero(names[1:] != names[:-1]) + 1])
    if len(begins) > MAX_SERIES:
        raise _wrong(f"at most {MAX_SERIES:,} series fit one request", "series")
    stamps, offset = _stamps(table.column("ds"))
    values = _floats(table.column("y").combine_chunks())
    cuts = begins[1:]
    return Table(
        unique_ids=names[begins],
        ys=np.split(values, cuts),
        starts=_starts(stamps[begins], offset),
        ds=np.split(stamps, cuts),
    )


def _ids(table: Any) -> NDArray[Any]:
    import pyarrow as pa

    column = table.column("unique_id")
    column = column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
    names: NDArray[Any] = np.array(column.to_pylist(), dtype=object)
    return names


def _floats(values: Any) -> NDArray[np.float64]:
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
        values = values.chunk(0) if isinstance(values, pa.ChunkedArray) else values
    return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def _stamps(column: Any) -> tuple[NDArray[Any], timedelta | None]:
    """Stamps on the wall clock as datetime64[us], or integers, with their distance from UTC."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_integer(kind):
        return np.asarray(column.cast(pa.int64()).to_numpy()), None
    zone = kind.tz if pa.types.is_timestamp(kind) else None
    offset = None if zone is None else _offset(zone)
    try:
        microseconds = column.cast(pa.timestamp("us", tz=zone)).cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        raise _wrong("a stamp is finer than a microsecond, or too far away", "start") from None
    local = np.asarray(microseconds).astype("datetime64[us]")
    return (local if offset is None else local + np.timedelta64(offset)), offset


def _starts(stamps: NDArray[Any], offset: timedelta | None) -> list[Stamp]:
    if stamps.dtype.kind != "M":
        return [Stamp(int(value), is_integer=True) for value in stamps]
    return [Stamp(int(value), offset) for value in stamps.astype(np.int64)]


def _check(found: Table) -> None:
    for index, y in enumerate(found.ys):
        if not len(y):
            raise _wrong(f"series {index}: there are no values", "series", index, "y")
        with np.errstate(invalid="ignore"):
            large = np.abs(y) >= MAX_ABS
        if large.any():
            detail = "the number is too large: its size has to stay below 3.4e38"
            raise _wrong(f"series {index}: {detail}", "series", index, "y", int(large.argmax()))
    if len(set(found.unique_ids)) < len(found.unique_ids):
        raise _wrong("a unique_id stands in several places; send the rows of a series together", "unique_id")
    if any(not 0 < len(name) <= 512 for name in found.unique_ids):
        raise _wrong("a unique_id has 1 to 512 characters", "unique_id")
    if any(start.is_integer and abs(start.value) > 2**53 for start in found.starts):
        raise _wrong("an integer stamp is beyond 2**53", "start")


def _wrong(detail: str, *path: str | int) -> Exception:
    place = [Fault(pointer=pointer(*(part for part in path if part != "")), detail=detail)]
    return problem("invalid-request", detail, errors=place)


def write_table(
    head: dict[str, Any],
    forecasts: Sequence[Forecast],
    columns: Columns,
    ds: Sequence[NDArray[Any]],
    num_gaps: NDArray[np.int64] | None,
    timezone: str | None,
) -> bytes:
    """The answer as a stream of one batch; `ds` are the stamps (H,) of each series, in UTC or integers."""
    import pyarrow as pa

    names = np.concatenate([forecast.unique_ids for forecast in forecasts])
    stamps = np.concatenate([np.asarray(each) for each in ds])
    repeated = np.repeat(np.arange(len(names), dtype=np.int32), len(stamps) // len(names))
    found = [columns.arrays(forecast) for forecast in forecasts]
    notes = [list(note) for forecast in forecasts for note in columns.noted(forecast).notes]
    for index in np.flatnonzero(num_gaps if num_gaps is not None else []):
        notes[index].append("gaps_filled")
    parts = {
        "unique_id": pa.DictionaryArray.from_arrays(pa.array(repeated), pa.array(names, pa.string())),
        "ds": pa.array(stamps, pa.timestamp("us", tz=timezone) if stamps.dtype.kind == "M" else pa.int64()),
        **{name: pa.array(np.concatenate([each[name].ravel() for each in found])) for name in found[0]},
    }
    metadata = {"forecast": orjson.dumps({**head, "notes": notes})}
    table = pa.table(parts).replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content
