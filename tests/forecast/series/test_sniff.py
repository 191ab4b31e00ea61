"""CSV files as people write them: delimiters, decimal marks, date orders, headers."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyarrow import csv

import forecast as fc
from forecast.errors import ColumnsError, DataError, EmptyDataError, ForecastError, FrequencyError
from forecast.series.sniff import sniff
from tests.builders import shared_data

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(text: str, *, name: str = "data.csv", encoding: str = "utf-8") -> Path:
        (tmp_path / name).write_bytes(text.encode(encoding))
        return tmp_path / name

    return make


def lines(header: str, row: str, *, periods: int = 40, freq: str = "D", start: str = "2024-01-01") -> str:
    stamps = pd.date_range(start, periods=periods, freq=freq)
    rows = [eval(f"f{row!r}", {}, {"t": t, "i": i}) for i, t in enumerate(stamps)]
    return "\n".join([header, *rows]) + "\n"


LONG = lines("unique_id,ds,y", "a,{t:%Y-%m-%d},{i}.5")

READ: list[tuple[str, str, dict[str, str], Any, float, list[str]]] = [
    ("plain", LONG, {"unique_id": "unique_id", "ds": "ds", "y": "y"}, "D", 0.5, ["comma", "ISO 8601"]),
    (
        "german",
        lines("Tag;Wert", "{t:%d.%m.%Y};1.{i:03d},5"),
        {"ds": "Tag", "y": "Wert"},
        "D",
        1000.5,
        ["semicolon", "decimal comma", "day-first", "single series"],
    ),
    (
        "american",
        lines("date,close", "{t:%m/%d/%Y},{i}.5"),
        {"ds": "date", "y": "close"},
        "D",
        0.5,
        ["month-first"],
    ),
    (
        "british",
        lines("date,close", "{t:%d/%m/%y},{i}.5"),
        {"ds": "date", "y": "close"},
        "D",
        0.5,
        ["day-first"],
    ),
    (
        "tabs",
        lines("item_id\ttimestamp\ttarget", "x\t{t:%Y-%m-%d %H:%M}\t{i}", freq="15min"),
        {"unique_id": "item_id", "ds": "timestamp", "y": "target"},
        "15min",
        0.0,
        ["tab", "15-minute"],
    ),
    (
        "bars",
        lines("sku|day|units", "x|{t:%Y%m%d}|{i}"),
        {"unique_id": "sku", "ds": "day", "y": "units"},
        "D",
        0.0,
        ["bar"],
    ),
    (
        "airline",
        lines("Month,#Passengers", "{t:%Y-%m},{i}", freq="MS"),
        {"ds": "Month", "y": "#Passengers"},
        "MS",
        0.0,
        [],
    ),
    (
        "months",
        lines("period,value", "{t:%b-%y},{i}", freq="MS"),
        {"ds": "period", "y": "value"},
        "MS",
        0.0,
        ["month's name"],
    ),
    (
        "month first",
        lines("period,value", "{t:%m/%Y},{i}", freq="MS"),
        {"ds": "period", "y": "value"},
        "MS",
        0.0,
        ["06/2026"],
    ),
    (
        "years",
        lines("year,value", "{t:%Y},{i}", freq="YS"),
        {"ds": "year", "y": "value"},
        "YS-JAN",
        0.0,
        ["years"],
    ),
    (
        "steps",
        lines("id,step,value", "007,{i},{i}"),
        {"unique_id": "id", "ds": "step", "y": "value"},
        1,
        0.0,
        ["integer-time"],
    ),
    (
        "slashes",
        lines("date,value", "{t:%Y/%m/%d},{i}"),
        {"ds": "date", "y": "value"},
        "D",
        0.0,
        ["year first"],
    ),
    (
        "am and pm",
        lines("time,value", "{t:%m/%d/%Y %I:%M %p},{i}", freq="h", periods=400),
        {"ds": "time", "y": "value"},
        "h",
        0.0,
        ["month-first"],
    ),
    ("thousands", lines("ds,y", '{t:%Y-%m-%d},"1,{i:03d}.5"'), {"ds": "ds", "y": "y"}, "D", 1000.5, []),
    ("missing", lines("ds,y", "{t:%Y-%m-%d},NA") + "2024-02-10,4\n", {"ds": "ds", "y": "y"}, "D", np.nan, []),
    ("byte order mark", "\ufeff" + LONG, {"unique_id": "unique_id", "ds": "ds", "y": "y"}, "D", 0.5, []),
    (
        "zone",
        lines("ds,y", "{t:%Y-%m-%dT%H:%M:%S}+02:00,{i}", freq="h"),
        {"ds": "ds", "y": "y"},
        "h",
        0.0,
        ["+02:00"],
    ),
]


@pytest.mark.parametrize(
    ("text", "columns", "freq", "first", "words"), [case[1:] for case in READ], ids=[case[0] for case in READ]
)
def test_files_are_read_as_people_write_them(
    write: Write, text: str, columns: dict[str, str], freq: Any, first: float, words: list[str]
) -> None:
    path = write(text)
    found = sniff(path)
    assert (found.columns, found.freq, found.wide) == (columns, freq, False)
    for word in words:
        assert word in "; ".join(found.decisions)
    options: dict[str, Any] = {**found.columns, "freq": found.freq}
    panel = fc.read_csv(path, **options)
    assert panel.freq.alias == freq
    np.testing.assert_array_equal(panel.y(0)[0], first)
    assert panel.lengths[0] >= 40
    assert panel.num_gaps.sum() == 0


def test_ids_keep_their_leading_zeros(write: Write) -> None:
    panel = fc.read_csv(write(lines("id,date,value", "007,{t:%Y-%m-%d},{i}")))
    assert panel.unique_ids.tolist() == ["007"]


def test_wide_tables_are_recognised(write: Write) -> None:
    path = write(lines("ds,north,south", "{t:%Y-%m-%d},{i},{i}.5"))
    found = sniff(path)
    assert found.wide
    assert found.columns == {"ds": "ds"}
    assert fc.read_csv(path, wide=True).unique_ids.tolist() == ["north", "south"]


def test_prices_with_holidays_are_trading_days(write: Write) -> None:
    text = lines("Date,Open,Close", "{t:%Y-%m-%d},1,{i}", freq="B")
    rows = text.splitlines()
    found = sniff(write("\n".join([*rows[:9], *rows[10:]])))
    assert (found.freq, found.columns["y"]) == ("trading", "Close")
    assert "taken for holidays" in found.decisions[-1]


REFUSED: list[tuple[str, str, type[ForecastError], str]] = [
    ("empty", "", EmptyDataError, "is empty"),
    ("blank", "\n\n", EmptyDataError, "is empty"),
    ("only a header", "unique_id,ds,y\n", EmptyDataError, "no rows"),
    ("no header", "\n".join(LONG.splitlines()[1:]), ColumnsError, "no header"),
    ("no header, integers", "\n".join(f"a,{i},{i}" for i in range(9)), ColumnsError, "no header"),
    (
        "ambiguous",
        lines("ds,y", "{t:%m/%d/%Y},{i}", periods=12),
        DataError,
        "--day-first or --month-first.*dayfirst=",
    ),
    ("changing order", "ds,y\n31/01/2024,1\n02/28/2024,2\n", DataError, "change their order"),
    ("comma of what", lines("ds;y", "{t:%Y-%m-%d};1,{i:03d}"), DataError, "decimal='.'"),
    ("both marks", "ds;y\n2024-01-01;1,5\n2024-01-02;1.25\n", DataError, "decimal point and others"),
    ("ragged", LONG + "a,2024-03-01\n", DataError, "another number of columns"),
    ("text among numbers", LONG + "a,2024-02-10,oops\n", ColumnsError, "'oops' in row 42"),
    ("no dates", "name,y\nx,1\nz,2\n", ColumnsError, "ds"),
    ("binary", "ds,y\n\x00\x01", DataError, "no text file"),
]


@pytest.mark.parametrize(
    ("text", "error", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_files_that_cannot_be_read_are_refused(
    write: Write, text: str, error: type[ForecastError], message: str
) -> None:
    with pytest.raises(error, match=message):
        fc.read_csv(write(text))


@pytest.mark.parametrize("encoding", [None, "utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_no_part_of_the_header(write: Write, encoding: str | None) -> None:
    path = write("\ufeff" + LONG)
    assert fc.read_csv(path, encoding=encoding).unique_ids.tolist() == ["a"]


def test_a_file_in_order_is_read_without_calling_python_from_threads(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = []
    read = csv.read_csv

    def spy(*args: Any, parse_options: Any, **more: Any) -> Any:
        handlers.append(parse_options.invalid_row_handler)
        return read(*args, parse_options=parse_options, **more)

    monkeypatch.setattr(csv, "read_csv", spy)
    fc.read_csv(write(LONG))
    assert handlers == [None]


@pytest.mark.parametrize(("dayfirst", "alias"), [(True, "MS"), (False, "D")])
def test_an_ambiguous_order_is_settled_by_declaring_it(write: Write, dayfirst: bool, alias: str) -> None:
    path = write(lines("ds,y", "01/{t:%m}/{t:%Y},{i}", freq="MS", periods=12))
    found = sniff(path, dayfirst=dayfirst)
    assert (found.freq, found.dayfirst) == (alias, dayfirst)
    assert fc.read_csv(path, dayfirst=dayfirst).freq.alias == alias


def test_a_declared_order_that_the_dates_contradict_is_refused(write: Write) -> None:
    path = write(lines("ds,y", "{t:%d/%m/%Y},{i}"))
    with pytest.raises(DataError, match=r"hold 31 where the month would be.*--day-first"):
        fc.read_csv(path, dayfirst=False)


def test_an_ambiguous_comma_is_settled_by_declaring_it(write: Write) -> None:
    path = write(lines("ds;y", "{t:%Y-%m-%d};1,{i:03d}"))
    assert fc.read_csv(path, decimal=",").y(0)[1] == pytest.approx(1.001, rel=1e-6)
    assert fc.read_csv(path, decimal=".").y(0)[1] == 1001


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            lines("ds,north,south,shop", "{t:%Y-%m-%d},{i},{i}.5,x"),
            "several columns hold numbers: 'north', 'south'",
        ),
        (lines("ds,price", "{t:%Y-%m-%d},${i}.50"), "no column holds numbers.*without units such as"),
        (lines("ds,shop,city,y", "{t:%Y-%m-%d},a,b,{i}"), "unique_id"),
        (lines("begin,end,y", "{t:%Y-%m-%d},{t:%Y-%m-%d},{i}"), "several columns hold dates"),
    ],
)
def test_columns_that_could_be_several_things_have_to_be_declared(
    write: Write, text: str, message: str
) -> None:
    with pytest.raises(ColumnsError, match=message):
        sniff(write(text))


def test_declared_columns_are_kept(write: Write) -> None:
    path = write(lines("ds,shop,city,y", "{t:%Y-%m-%d},a,b,{i}"))
    assert sniff(path, unique_id="city").columns == {"unique_id": "city", "ds": "ds", "y": "y"}
    with pytest.raises(ColumnsError, match="no column 'town'"):
        sniff(path, unique_id="town")


def test_jittering_stamps_need_a_declared_frequency(write: Write) -> None:
    text = "ds,y\n" + "".join(f"2024-01-01T{i:02d}:{(i * 37) % 60:02d}:00,{i}\n" for i in range(20))
    with pytest.raises(FrequencyError, match="--freq"):
        sniff(write(text))
    assert sniff(write(text), freq="h").freq == "h"


def test_repeated_stamps_are_pointed_out(write: Write) -> None:
    found = sniff(write(LONG + "a,2024-01-03,7\n"))
    assert any("repeats 1 stamps" in decision for decision in found.decisions)


def test_compressed_and_old_encodings_are_read(write: Write, tmp_path: Path) -> None:
    (tmp_path / "data.csv.gz").write_bytes(gzip.compress(LONG.encode()))
    assert fc.read_csv(tmp_path / "data.csv.gz").lengths.tolist() == [40]
    for encoding in ("cp1252", "utf-16"):
        path = write(LONG.replace("a,", "é,"), encoding=encoding)
        assert fc.read_csv(path).unique_ids.tolist() == ["é"]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    for read in (fc.read_csv, sniff):
        with pytest.raises(DataError, match="there is no file"):
            read(tmp_path / "none.csv")


def test_a_written_panel_is_read_back(write: Write, tmp_path: Path) -> None:
    panel = fc.read_csv(write(LONG))
    panel.to_frame().to_csv(tmp_path / "back.csv", index=False)
    assert fc.read_csv(tmp_path / "back.csv").fingerprint() == panel.fingerprint()


@pytest.mark.parametrize(
    ("name", "freq", "wide"),
    [
        ("gafa_stock_close", "trading", False),
        ("etth1_wide", "h", True),
        ("m4_hourly_train", 1, False),
        ("co2_weekly", "W-SAT", False),
        ("sp500_index_ohlcv_2000_2020", "trading", False),
    ],
)
def test_real_files_are_recognised(name: str, freq: Any, wide: bool) -> None:
    found = sniff(shared_data(f"{name}.parquet"))
    assert (found.format, found.freq, found.wide) == ("parquet", freq, wide)


def test_the_airline_file_is_the_built_in_series() -> None:
    panel = fc.read_csv(shared_data("air_passengers.csv"))
    built_in = fc.from_frame(fc.read_csv(shared_data("air_passengers.csv")).to_frame())
    assert panel.fingerprint() == built_in.fingerprint()
