"""Where data lies, and how it becomes one table: files, patterns, folders, the web and databases."""

import base64
import glob
import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from forecast import home, placeholders
from forecast.errors import ColumnsError, DataError, EmptyDataError, SourceError
from pipelines.sections import DataSection

if TYPE_CHECKING:
    import pyarrow as pa

    from forecast.series.dates import DateOrder
    from forecast.series.table import Table

CSV_SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")

WEB_SECONDS = 60.0
"""How long a web server may be silent."""

ROWS_PER_FETCH = 100_000


def kind(path: Path) -> str:
    """ "csv", "parquet" or "folder"; DataError for others and where there is no such file."""
    if path.is_dir():
        return "folder"
    name = path.name.lower()
    found = "csv" if name.endswith(CSV_SUFFIXES) else "parquet" if name.endswith(PARQUET_SUFFIXES) else ""
    if not found:
        known = ", ".join(CSV_SUFFIXES + PARQUET_SUFFIXES)
        raise DataError(f"{path} is of an unknown kind; give a file that ends in {known}")
    if not path.exists():
        raise DataError(f"there is no file {path}; check the path")
    return found


def files(path: str) -> list[Path]:
    """The files of a path or a pattern, sorted; DataError where a pattern meets none, or several kinds."""
    if Path(path).exists() or not glob.has_magic(path):
        return [Path(path)]
    found = sorted(Path(each) for each in glob.glob(path, recursive=True) if Path(each).is_file())
    if not found:
        raise DataError(f"no file meets the pattern {path}; check it, and that the data has arrived")
    if len({kind(each) for each in found}) > 1:
        raise DataError(f"the pattern {path} meets CSV and Parquet files; narrow it to one kind")
    return found


def unfinished(found: Sequence[Path]) -> list[Path]:
    """CSV files whose last line has no end; of packed files nothing is said."""
    open_ends = []
    for file in found:
        if kind(file) == "csv" and file.suffix.lower() in (".csv", ".tsv", ".txt"):
            with file.open("rb") as stream:
                stream.seek(0, os.SEEK_END)
                stream.seek(max(stream.tell() - 1, 0))
                if stream.read(1) not in (b"\n", b"\r", b"\x00", b""):
                    open_ends.append(file)
    return open_ends


def table(found: Sequence[Path], data: DataSection) -> "tuple[Table, DateOrder | None]":
    """Files of one kind, or a folder of Parquet files, as one table, and how a CSV writes its stamps."""
    if kind(found[0]) == "csv":
        from forecast.series.sniff import open_csv

        return open_csv(
            found,
            delimiter=data.delimiter,
            decimal=data.decimal,
            dayfirst=data.day_first,
            encoding=data.encoding,
            ds=data.columns.get("ds"),
            date_format=data.date_format,
        )
    from forecast.series.table import ArrowTable

    return ArrowTable(_parquet(found, data)), None


def fetched(data: DataSection) -> Path:
    """The file at `url`, from our copy where that is still what the server has.

    Raises SourceError where the server cannot be reached or breaks off, DataError where the file is not the
    one whose `sha256` the recipe names.
    """
    url = placeholders.expand(str(data.url))
    folder = home.cache_folder() / "sources" / hashlib.sha256(url.encode()).hexdigest()[:32]
    copy = folder / Path(urlsplit(url).path).name
    if not copy.name.lower().endswith(CSV_SUFFIXES + PARQUET_SUFFIXES):
        known = ", ".join(CSV_SUFFIXES + PARQUET_SUFFIXES)
        raise DataError(f"`url` {placeholders.masked_url(str(data.url))} does not end in one of {known}")
    if data.sha256 and copy.exists() and _sha256(copy) == data.sha256:
        return copy
    folder.mkdir(parents=True, exist_ok=True)
    _fetch(url, copy, data)
    if data.sha256 and (got := _sha256(copy)) != data.sha256:
        copy.unlink()
        raise DataError(
            f"the file at {placeholders.masked_url(str(data.url))} has the sha256 {got}, and the recipe "
            f"names {data.sha256}; if the new file is meant, write its sum into the recipe"
        )
    return copy


def queried(data: DataSection) -> "Table":
    """The rows of `query`. Raises SourceError where the database cannot be reached."""
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    from forecast.series.table import ArrowTable

    address = placeholders.expand(str(data.database))
    shown = placeholders.masked_url(str(data.database))
    try:
        url = sqlalchemy.make_url(address)
        secret = str(url.password or "")
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise DataError(
            f"`database` {shown} cannot be used ({type(error).__name__}); write it as "
            "postgresql+psycopg://user:password@host/name, and install its driver"
        ) from None
    is_connected = False
    try:
        with engine.connect() as connection:
            is_connected = True
            parts = list(_rows(connection, str(data.query)))
    except SQLAlchemyError as error:
        told = placeholders.without(home.first_line(error), secret)
        if not is_connected or getattr(error, "connection_invalidated", False):
            raise SourceError(
                f"the database {shown} cannot be used ({told}); start it, or correct `database`, and run the "
                "same command again"
            ) from None
        raise DataError(f"the database {shown} refuses the query ({told}); correct `query`") from None
    if not parts:
        raise EmptyDataError(f"the query on {shown} found no rows; check it, and that the data has arrived")
    return ArrowTable(_joined(parts))


def _rows(connection: Any, query: str) -> "Iterator[pa.Table]":
    """The rows in portions, as the server sends them."""
    import pyarrow as pa

    result = connection.execution_options(stream_results=True).exec_driver_sql(query)
    names = list(result.keys())
    for part in result.partitions(ROWS_PER_FETCH):
        columns = [_array(values) for values in zip(*part, strict=True)]
        yield pa.Table.from_arrays(columns, names=names)


def _array(values: Sequence[Any]) -> "pa.Array":
    """A column; decimals as numbers, since each portion would have a precision of its own."""
    import decimal

    import pyarrow as pa

    if any(isinstance(value, decimal.Decimal) for value in values):
        values = [None if value is None else float(value) for value in values]
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"a column of the query holds values of several types ({error}); cast it") from error


def _joined(parts: "Sequence[pa.Table]") -> "pa.Table":
    import pyarrow as pa

    try:
        return pa.concat_tables(parts, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"a column changes its type from row to row ({error}); cast it") from error


def _parquet(found: Sequence[Path], data: DataSection) -> "pa.Table":
    """Parquet files, with the columns that their folders name (`region=north/`), one below the other."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    source: Any = str(found[0]) if found[0].is_dir() else [str(each) for each in found]
    try:
        opened: Any = ds.dataset(source, format="parquet", partitioning="hive")
        if not opened.files:
            raise EmptyDataError(f"the folder {found[0]} holds no Parquet file; check that the data arrived")
        schemas = [(each.path, each.physical_schema) for each in opened.get_fragments()]
        _check_same_columns(schemas, data)
        whole = pa.unify_schemas(
            [opened.schema, *(each for _, each in schemas)], promote_options="permissive"
        )
        return opened.replace_schema(whole).to_table(columns=_needed(data, whole.names))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OSError) as error:
        raise DataError(
            f"{found[0]} cannot be read as Parquet ({str(error)[:300]}); a file may be half written, or have "
            "other types than the ones before: write it anew"
        ) from error


def _check_same_columns(schemas: Sequence[tuple[str, "pa.Schema"]], data: DataSection) -> None:
    """A file without a column of the others would silently bring missing values."""
    first_path, first = schemas[0]
    for path, schema in schemas[1:]:
        wanted = _needed(data, first.names) or first.names
        if gone := [name for name in wanted if name in first.names and name not in schema.names]:
            raise ColumnsError(
                f"{path} has no column {gone[0]!r}, which {first_path} has: the schema has changed; write "
                "the file anew, or read the older ones apart"
            )


def _needed(data: DataSection, names: Sequence[str]) -> list[str] | None:
    """The columns that a recipe asks for, where it names them all; else None, for every one."""
    if set(data.columns) != {"unique_id", "ds", "y"} or data.wide:
        return None
    asked = [*data.columns.values(), *data.past, *data.known, *data.static]
    asked += [each.column for each in data.filters]
    return [name for name in dict.fromkeys(asked) if name in names]


def _fetch(url: str, copy: Path, data: DataSection) -> None:
    """Bring the copy up to date; a transfer that breaks off leaves the old one as it was."""
    notes = copy.with_name("meta.json")
    shown = placeholders.masked_url(str(data.url))
    request = _request(url, {key: placeholders.expand(value) for key, value in data.headers.items()})
    if copy.exists() and notes.exists() and not data.sha256:
        known = json.loads(notes.read_text(encoding="utf-8"))
        for name, header in (("etag", "If-None-Match"), ("last-modified", "If-Modified-Since")):
            if known.get(name):
                request.add_header(header, known[name])
    draft = copy.with_name(f".{copy.name}.{os.getpid()}")
    try:
        with urllib.request.urlopen(request, timeout=WEB_SECONDS) as answer, draft.open("wb") as file:
            while portion := answer.read(1 << 20):
                file.write(portion)
            size, length = file.tell(), answer.headers.get("content-length")
            told = {name: answer.headers.get(name) for name in ("etag", "last-modified")}
        if length is not None and int(length) != size:
            raise SourceError(
                f"{shown} broke off after {size:,} of {int(length):,} bytes; run the same command again"
            )
        notes.unlink(missing_ok=True)
        draft.replace(copy)
        notes.write_text(json.dumps(told), encoding="utf-8")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 304:
            return
        problem = DataError if error.code in (400, 401, 403, 404, 410) else SourceError
        raise problem(f"{shown} answers with HTTP status {error.code}; check `url` and `headers`") from None
    except (urllib.error.URLError, TimeoutError, ConnectionError, ValueError) as error:
        told_reason = placeholders.without(str(getattr(error, "reason", error)), url)
        raise SourceError(
            f"{shown} cannot be reached ({told_reason}); check the address and the network, and run the same "
            "command again"
        ) from None
    finally:
        draft.unlink(missing_ok=True)


def _request(url: str, headers: dict[str, str]) -> urllib.request.Request:
    """A request in which user and password of the address are a header, as HTTP wants them."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if at:
        token = base64.b64encode(unquote(user).encode()).decode()
        headers = {"authorization": f"Basic {token}", **headers}
        url = urlunsplit(parts._replace(netloc=host))
    return urllib.request.Request(url, headers={"user-agent": "forecast", **headers})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
