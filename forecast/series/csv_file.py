"""A CSV file as a table: delimiter, decimal mark and encoding are found in its first lines."""

import csv
import gzip
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
from numpy.typing import NDArray

from forecast.errors import ColumnsError, DataError, EmptyDataError
from forecast.series.columns import is_year, listed
from forecast.series.table import ArrowTable, as_codes

DELIMITERS = (",", ";", "\t", "|")
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_MISSING = ["", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None", "none", "-", "?", "."]
_POINT = re.compile(r"[+-]?((\d+|\d{1,3}(,\d{3})+)(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.I)
_COMMA = re.compile(r"[+-]?((\d+|\d{1,3}(\.\d{3})+)(,\d*)?|,\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.I)
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})([T ,].*)?|\d{1,2}/\d{4}"
    r"|(\d{1,2}[. -]+)?(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[ ,-]+(\d{1,2}[,"
    r" ]+)?(\d{4}|\d{2})"
    r"|\d{4}[ -](jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*",
    re.I,
)
_SAMPLE_BYTES = 1 << 17


@dataclass(frozen=True, kw_only=True)
class CsvFormat:
    """How a CSV file is written, and the sentences that say why."""

    delimiter: str
    decimal: str
    encoding: str
    names: tuple[str, ...]
    kinds: dict[str, str]
    """Per column number, date, text or empty, from the first lines."""
    decisions: tuple[str, ...]


def find_format(
    path: Path, *, delimiter: str | None = None, decimal: str | None = None, encoding: str | None = None
) -> CsvFormat:
    """Look at the first lines of a file.

    DataError where it is missing, empty, without header or ambiguous.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}; check the path.")
    text, encoding = _decoded(_first_bytes(path), encoding, path)
    lines = text.splitlines()
    if not any(line.strip() for line in lines):
        raise EmptyDataError(f"the file {path} is empty; send a header and at least one row.")
    if decimal not in (None, ".", ","):
        raise DataError(f"decimal={decimal!r} is no decimal mark; use '.' or ','.")
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '\r\n"' or not delimiter.isascii()):
        raise DataError(f"delimiter={delimiter!r} is no single character such as ';' or a tab; correct it.")
    found = delimiter or _delimiter(lines)
    rows = list(islice(csv.reader(lines, delimiter=found, skipinitialspace=True), 1000))
    header, sample = [cell.strip() for cell in rows[0]], [row for row in rows[1:] if row]
    columns = [[row[i].strip() for row in sample if i < len(row)] for i in range(len(header))]
    kinds = [_kind(cells) for cells in columns]
    _check_header(header, kinds, path)
    numbers = [cells for cells, kind in zip(columns, kinds, strict=True) if kind == "number"]
    mark = decimal or _decimal(numbers, found)
    decisions = [f"columns are separated by {_NAMES.get(found, repr(found))}"]
    if mark == ",":
        decisions.append("numbers have a decimal comma")
    if encoding not in ("utf-8", "utf-8-sig"):
        decisions.append(f"the text is encoded in {encoding}")
    return CsvFormat(
        delimiter=found,
        decimal=mark,
        encoding=encoding,
        names=tuple(header),
        kinds=dict(zip(header, kinds, strict=True)),
        decisions=tuple(decisions),
    )


def _first_bytes(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(_SAMPLE_BYTES)
    except OSError as error:
        raise DataError(f"the file {path} cannot be read: {error}.") from error
    # half a line at the end would look like a row with too few columns
    return head if len(head) < _SAMPLE_BYTES else head[: head.rfind(b"\n") + 1] or head


def _decoded(head: bytes, encoding: str | None, path: Path) -> tuple[str, str]:
    if encoding is None and head.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    if b"\x00" in head and encoding is None:
        raise DataError(f"{path} is no text file; send CSV, or Parquet under a name that ends in .parquet.")
    for candidate in [encoding] if encoding else ["utf-8-sig", "cp1252", "latin-1"]:
        try:
            text = head.decode(candidate)
        except (UnicodeError, LookupError):
            continue
        return text.removeprefix("\ufeff"), "utf-8" if candidate == "utf-8-sig" else candidate
    raise DataError(f"{path} cannot be read as {encoding}; declare its encoding.")


def _delimiter(lines: Sequence[str]) -> str:
    """The mark that cuts header and rows into the same number of columns, most of them if several do."""
    best, most = ",", 0
    for mark in DELIMITERS:
        widths = [len(row) for row in islice(csv.reader(lines, delimiter=mark), 200) if row]
        usual, count = Counter(widths).most_common(1)[0]
        if usual > 1 and widths[0] == usual and count >= 0.9 * len(widths) and usual > most:
            best, most = mark, usual
    return best


def _kind(cells: Sequence[str]) -> str:
    present = [cell for cell in cells if cell not in _MISSING]
    if not present:
        return "empty"
    if all(_POINT.fullmatch(cell) or _COMMA.fullmatch(cell) for cell in present):
        return "number"
    return "date" if all(_DATE.fullmatch(cell) for cell in present) else "text"


def _check_header(header: Sequence[str], kinds: Sequence[str], path: Path) -> None:
    def is_value(cell: str) -> bool:
        return bool(_POINT.fullmatch(cell) or _COMMA.fullmatch(cell) or _DATE.fullmatch(cell))

    over_dates = any(
        _DATE.fullmatch(cell) for cell, kind in zip(header, kinds, strict=True) if kind == "date"
    )
    named = [cell for cell, kind in zip(header, kinds, strict=True) if kind != "text" and not is_value(cell)]
    if over_dates or (not named and any(is_value(cell) for cell in header)):
        shown = ", ".join(repr(cell[:20]) for cell in header[:5])
        raise ColumnsError(
            f"the file {path} has no header: its first line is {shown}; put the names of the columns on the"
            " first line, for example unique_id,ds,y."
        )


def _decimal(columns: Sequence[Sequence[str]], delimiter: str) -> str:
    """The decimal mark of all numbers; DataError where columns differ or the comma could part thousands."""
    point = comma = thousands = False
    for cell in (cell for cells in columns for cell in cells if cell not in _MISSING):
        with_point, with_comma = bool(_POINT.fullmatch(cell)), bool(_COMMA.fullmatch(cell))
        point |= with_point and not with_comma
        comma |= with_comma and not with_point
        if with_point and with_comma and "," in cell:
            leading_zero = cell.lstrip("+-").startswith("0")
            comma |= leading_zero
            thousands |= not leading_zero
    if point and comma:
        raise DataError(
            "some numbers have a decimal point and others a decimal comma; write all of them alike, or"
            " declare decimal='.' or ',' (--decimal)."
        )
    if thousands and not point and not comma:
        raise DataError(
            "the commas in numbers such as 1,234 can part thousands or decimals; say which with decimal='.' "
            "(thousands) or decimal=',' (decimals) (--decimal)."
        )
    return "," if comma else "."


class CsvTable(ArrowTable):
    """A CSV file in memory as text; a column becomes numbers when it is asked for them."""

    def __init__(self, path: Path, found: CsvFormat) -> None:
        super().__init__(_read(path, found))
        self.found = found

    @classmethod
    def joined(cls, tables: "Sequence[CsvTable]", paths: Sequence[Path]) -> "CsvTable":
        """Several files one below the other; ColumnsError where their columns or their decimals differ."""
        first = tables[0]
        for table, path in zip(tables, paths, strict=True):
            if set(table.names) != set(first.names) or table.found.decimal != first.found.decimal:
                raise ColumnsError(
                    f"{path} has the columns {listed(table.names)} and decimal {table.found.decimal!r}, and"
                    f" {paths[0]} {listed(first.names)} and {first.found.decimal!r}; all files need the same."
                )
        made = cls.__new__(cls)
        ArrowTable.__init__(made, pa.concat_tables(each.table.select(first.names) for each in tables))
        kinds = {name: _common_kind([each.found.kinds[name] for each in tables]) for name in first.names}
        made.found = replace(first.found, kinds=kinds)
        return made

    def kept(self, rows: Any) -> "CsvTable":
        """The rows at which a mask holds."""
        made = copy(self)
        ArrowTable.__init__(made, self.table.filter(rows))
        return made

    def is_numeric(self, name: str) -> bool:
        return self.found.kinds[name] in ("number", "empty")

    def is_text(self, name: str) -> bool:
        return self.found.kinds[name] == "text"

    def floats(self, name: str) -> NDArray[np.float64]:
        texts = pc.utf8_trim_whitespace(self.text(name))
        if self.found.decimal == ",":
            texts = pc.replace_substring(pc.replace_substring(texts, ".", ""), ",", ".")
        try:
            numbers = texts.cast(pa.float64())
        except pa.ArrowInvalid:
            plain = pc.replace_substring(texts, ",", "") if self.found.decimal == "." else texts
            numbers = self._cast(plain, name)
        return np.asarray(numbers.to_numpy())

    def _cast(self, texts: Any, name: str) -> Any:
        pattern = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?)$"
        wrong = pc.fill_null(pc.invert(pc.match_substring_regex(texts, pattern)), False)
        if pc.any(wrong).as_py():
            row = int(np.flatnonzero(wrong.to_numpy())[0])
            raise ColumnsError(
                f"the column {name!r} holds {str(self.text(name)[row])[:40]!r} in row {row + 2}, which is no"
                f" number with decimal {self.found.decimal!r}; correct it, or choose another column for y."
            )
        return pc.replace_substring_regex(texts, r"^\+", "").cast(pa.float64())

    def codes(self, name: str, *, optional: bool = False) -> tuple[NDArray[Any], NDArray[Any]]:
        return as_codes(self.text(name), name, optional=optional)

    def text(self, name: str) -> Any:
        """A column as it is written."""
        return super().column(name)

    def column(self, name: str) -> Any:
        return self._as_integers(name) if self.holds_integers(name) else self.text(name)

    def holds_integers(self, name: str) -> bool:
        """Whether a column holds whole numbers that are steps, not dates such as 20260630 or years."""
        texts = self.text(name)
        if self.found.kinds[name] != "number" or texts.null_count:
            return False
        if is_year(name) or pc.all(pc.match_substring_regex(texts, r"^(19|20)\d{6}$")).as_py():
            return False
        return bool(pc.all(pc.match_substring_regex(texts, r"^[+-]?\d{1,18}$")).as_py())

    def _as_integers(self, name: str) -> Any:
        return self.text(name).cast(pa.int64())


def _common_kind(kinds: Sequence[str]) -> str:
    found = {kind for kind in kinds if kind != "empty"}
    return found.pop() if len(found) == 1 else "text" if found else "empty"


def _read(path: Path, found: CsvFormat) -> pa.Table:
    try:
        return pcsv.read_csv(path, **_options(found))
    except pa.ArrowInvalid as error:
        _refuse_bad_rows(path, found)
        raise DataError(f"the file {path} cannot be read as CSV: {str(error)[:200]}") from error
    except (pa.ArrowKeyError, UnicodeError) as error:
        raise DataError(f"the file {path} cannot be read as CSV: {str(error)[:200]}") from error


def _options(found: CsvFormat, note: Callable[[Any], str] | None = None) -> dict[str, Any]:
    """Every column as text; `note` is called for each row with another number of columns.

    Only one thread calls it: a thread that lets go of a Python function while the process ends aborts it.
    """
    return {
        "read_options": pcsv.ReadOptions(
            encoding=found.encoding,
            column_names=list(found.names),
            skip_rows=1,
            use_threads=note is None,
        ),
        "parse_options": pcsv.ParseOptions(delimiter=found.delimiter, invalid_row_handler=note),
        "convert_options": pcsv.ConvertOptions(
            column_types={name: pa.string() for name in found.names},
            strings_can_be_null=True,
            null_values=_MISSING,
        ),
    }


def _refuse_bad_rows(path: Path, found: CsvFormat) -> None:
    """Raise DataError where rows have another number of columns than the header."""
    bad_rows: list[Any] = []

    def note(row: Any) -> str:
        bad_rows.append(row)
        return "skip"

    with suppress(pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError):
        pcsv.read_csv(path, **_options(found, note))
    if bad_rows:
        first = bad_rows[0]
        raise DataError(
            f"{len(bad_rows):,} rows of {path} have another number of columns than the header:"
            f" {first.actual_columns} in place of {first.expected_columns}; correct them, or declare the"
            " delimiter."
        )
