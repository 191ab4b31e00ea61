"""Where data comes from: patterns, folders, the web and databases; which rows count; and what is refused."""

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from forecast import home
from forecast.errors import ColumnsError, DataError, DuplicateStampsError, EmptyDataError, SourceError
from forecast.series.panel import Panel
from pipelines import recipe as recipes
from pipelines import selection, sources
from tests import servers
from tests.pipelines.conftest import Command, sales
from tests.pipelines.web import Web, web

COLUMNS = 'columns = {unique_id = "shop", ds = "day", y = "units"}\n'


def read(data: str, *, top: str = 'freq = "D"\n') -> Panel:
    """The series of a recipe with these lines under [data]."""
    return sources.panel(recipes.parse(f'name = "shop"\nhorizon = 7\n{top}[data]\n{data}', origin="here"))


@pytest.fixture
def expected() -> Panel:
    return read_frame(sales())


def read_frame(frame: pd.DataFrame) -> Panel:
    from forecast.series.read import from_frame

    return from_frame(frame, freq="D", unique_id="shop", ds="day", y="units")


@pytest.fixture
def served() -> Iterator[Web]:
    with web() as running:
        yield running


def by_month(frame: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    for month, part in frame.groupby(frame["day"].dt.month):
        yield int(str(month)), part


def test_a_pattern_reads_all_its_files_whatever_their_kind(tmp_path: Path, expected: Panel) -> None:
    (tmp_path / "csv").mkdir()
    for month, part in by_month(sales()):
        part.to_csv(tmp_path / "csv" / f"2026-{month:02}.csv", index=False)
        part.to_parquet(tmp_path / f"2026-{month:02}.parquet")
    for pattern in ("csv/2026-*.csv", "*.parquet"):
        panel = read(f'path = "{tmp_path}/{pattern}"\n{COLUMNS}')
        assert panel.fingerprint() == expected.fingerprint()


def test_a_partitioned_folder_is_read_with_the_columns_that_its_folders_name(
    tmp_path: Path, expected: Panel
) -> None:
    table = pa.Table.from_pandas(sales(), preserve_index=False)
    pq.write_to_dataset(table, tmp_path / "sales", partition_cols=["shop"])
    assert read(f'path = "{tmp_path}/sales"\n{COLUMNS}').fingerprint() == expected.fingerprint()


def test_a_day_that_was_delivered_twice_is_named(tmp_path: Path) -> None:
    sales().to_parquet(tmp_path / "a.parquet")
    sales().tail(1).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(DuplicateStampsError, match="2026-04-30"):
        read(f'path = "{tmp_path}/*.parquet"\n{COLUMNS}')
    panel = read(f'path = "{tmp_path}/*.parquet"\nduplicates = "last"\n{COLUMNS}')
    assert panel.lengths.tolist() == [120, 120]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (lambda frame: frame.rename(columns={"units": "sold"}), "no column 'units'.*the schema has changed"),
        (lambda frame: frame.assign(units="many"), "other types than the ones before"),
    ],
)
def test_a_file_of_another_schema_is_refused(tmp_path: Path, second: Any, message: str) -> None:
    sales().to_parquet(tmp_path / "a.parquet")
    second(sales()).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=message):
        read(f'path = "{tmp_path}"\n{COLUMNS}')


def test_csv_files_of_other_columns_are_refused(tmp_path: Path) -> None:
    sales().to_csv(tmp_path / "a.csv", index=False)
    sales().rename(columns={"units": "sold"}).to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(ColumnsError, match=r"b\.csv has the columns 'shop', 'day', 'sold'"):
        read(f'path = "{tmp_path}/*.csv"\n{COLUMNS}')


def test_a_half_written_file_is_refused_and_named(tmp_path: Path) -> None:
    sales().to_parquet(tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"b\.parquet.*half written"):
        read(f'path = "{tmp_path}"\n{COLUMNS}')
    with pytest.raises(DataError, match=r"b\.parquet"):
        read(f'path = "{tmp_path}/b.parquet"\n{COLUMNS}')


@pytest.mark.parametrize("place", ["*.parquet", "folder"])
def test_a_place_without_files_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"no file meets the pattern|holds no Parquet file"):
        read(f'path = "{tmp_path}/{place}"\n{COLUMNS}')


def test_a_file_on_the_web_is_kept_and_asked_for_again_only_when_it_is_new(
    served: Web, expected: Panel
) -> None:
    served.files["/sales.csv"] = sales().to_csv(index=False).encode()
    for _ in range(2):
        panel = read(f'url = "{served.url}/sales.csv?token=abc"\n{COLUMNS}')
        assert panel.fingerprint() == expected.fingerprint()
    assert [status for _, status in served.asked] == [200, 304]
    served.files["/sales.csv"] = sales(121).to_csv(index=False).encode()
    assert read(f'url = "{served.url}/sales.csv?token=abc"\n{COLUMNS}').lengths.tolist() == [121, 121]


def test_a_file_with_a_checksum_is_asked_for_once_and_no_other_is_taken(served: Web) -> None:
    body = sales().to_csv(index=False).encode()
    served.files["/sales.csv"] = body
    data = f'url = "{served.url}/sales.csv"\nsha256 = "{hashlib.sha256(body).hexdigest()}"\n{COLUMNS}'
    assert len(read(data)) == len(read(data)) == 2
    assert len(served.asked) == 1
    wrong = data.replace(hashlib.sha256(body).hexdigest(), "0" * 64)
    with pytest.raises(DataError, match=r"has the sha256 .* and the recipe names 0000"):
        read(wrong)


def test_an_answer_that_breaks_off_leaves_the_copy_as_it_was(served: Web) -> None:
    served.files["/sales.csv"] = sales().to_csv(index=False).encode()
    data = f'url = "{served.url}/sales.csv"\n{COLUMNS}'
    read(data)
    served.files["/sales.csv"] = sales(130).to_csv(index=False).encode()
    served.cut = 1000
    with pytest.raises(SourceError, match="broke off after"):
        read(data)
    served.cut = 0
    assert read(data).lengths.tolist() == [130, 130]


@pytest.mark.parametrize(("status", "error"), [(404, DataError), (403, DataError), (503, SourceError)])
def test_a_server_that_says_no_is_told_of(served: Web, status: int, error: type[Exception]) -> None:
    served.files["/sales.csv"] = b"x"
    served.status = status
    with pytest.raises(error, match=f"HTTP status {status}"):
        read(f'url = "{served.url}/sales.csv"\n{COLUMNS}')


def test_a_server_that_is_not_there_is_told_of_without_the_secret() -> None:
    with pytest.raises(SourceError, match="cannot be reached") as caught:
        read('url = "http://anna:s3cret@127.0.0.1:9/sales.csv?key=s3cret"\n' + COLUMNS)
    assert "s3cret" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_a_query_reads_what_the_file_held(tmp_path: Path, expected: Panel) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        sales().to_sql("sales", connection, index=False)
    connection.close()
    query = "select shop, day, units from sales where units > -1 and shop like '%'"
    data = f'database = "sqlite:///{tmp_path}/shop.db"\nquery = "{query}"\n{COLUMNS}'
    assert read(data).fingerprint() == expected.fingerprint()
    with pytest.raises(EmptyDataError, match="found no rows"):
        read(data.replace("units > -1", "units > 1e9"))
    with pytest.raises(DataError, match=r"refuses the query .no such table"):
        read(data.replace("from sales", "from sale"))


@pytest.mark.postgres
@pytest.mark.slow
def test_a_query_on_postgresql_reads_numerics_and_zones_and_tells_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: Panel
) -> None:
    with servers.postgres() as running:
        address = running.create("shop")
        running.execute(
            "create table sales as select s.shop, d::date as day, (i % 7)::numeric(12,3) as units from"
            " (values ('north'), ('south')) s(shop), generate_series(timestamp '2026-01-01',"
            " timestamp '2026-06-30', interval '1 day') with ordinality g(d, i)",
            database="shop",
        )
        monkeypatch.setenv("SHOP_DB", address)
        data = f'database = "${{SHOP_DB}}"\nquery = "select shop, day, units from sales"\n{COLUMNS}'
        panel = read(data)
        assert panel.lengths.tolist() == [181, 181]
        np.testing.assert_allclose(panel.y(0)[:8], [1, 2, 3, 4, 5, 6, 0, 1])
        with pytest.raises(DataError, match="refuses the query"):
            read(data.replace("units from", "unit from"))
        monkeypatch.setenv("SHOP_DB", running.url("shop", password="wrong-password"))
        with pytest.raises(SourceError) as caught:
            read(data)
        assert "wrong-password" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_filters_say_which_rows_count(tmp_path: Path, suffix: str) -> None:
    frame = sales().assign(store=np.tile([1, 2, 3], 80), kind="sale")
    path = tmp_path / f"sales.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    filters = (
        '[[data.filters]]\ncolumn = "shop"\none_of = ["north"]\n'
        '[[data.filters]]\ncolumn = "store"\nnone_of = [2]\n'
        '[[data.filters]]\ncolumn = "units"\nat_least = 100\n'
    )
    panel = read(f'path = "{path}"\nsince = "2026-01-05"\nuntil = "2026-04-20"\n{COLUMNS}{filters}')
    kept = frame[(frame["shop"] == "north") & (frame["store"] != 2) & (frame["units"] >= 100)]
    kept = kept[(kept["day"] >= "2026-01-05") & (kept["day"] <= "2026-04-20")]
    assert panel.fingerprint() == read_frame(kept[["shop", "day", "units"]]).fingerprint()
    with pytest.raises(ColumnsError, match="no column 'colour' to filter by"):
        read(f'path = "{path}"\n{COLUMNS}[[data.filters]]\ncolumn = "colour"\none_of = ["red"]')
    with pytest.raises(EmptyDataError, match="no row meets the filters"):
        read(f'path = "{path}"\n{COLUMNS}since = "2031-01-01"')


@pytest.mark.parametrize(("aggregate", "way"), [("sum", "sum"), ("max", "max"), ("median", "median")])
def test_rows_become_longer_steps_and_an_open_one_waits_for_its_end(
    tmp_path: Path, aggregate: str, way: str
) -> None:
    sales().to_csv(tmp_path / "sales.csv", index=False)
    data = f'path = "{tmp_path}/sales.csv"\nresample = "MS"\naggregate = "{aggregate}"\n{COLUMNS}'
    panel = read(data, top="")
    months = sales().set_index("day").groupby("shop")["units"].resample("MS").agg(way)
    assert str(panel.freq) == "MS"
    np.testing.assert_allclose(panel.y(0), months["north"], rtol=1e-6)
    open_month = selection.complete(panel, 0.0, now=datetime(2026, 4, 30, 12, tzinfo=UTC))
    assert open_month.lengths.tolist() == [3, 3]
    assert "are not over yet" in open_month.report.findings[-1].message
    assert selection.complete(panel, 0.0, now=datetime(2026, 5, 1, tzinfo=UTC)) is panel
    late = selection.complete(panel, 86_400.0, now=datetime(2026, 5, 1, 12, tzinfo=UTC))
    assert late.lengths.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("freq", "now", "length"),
    [
        ("D", "2026-04-30T23:59", 119),
        ("D", "2026-05-01T00:00", 120),
        ("W-SUN", "2026-05-03T23:00", 17),
        ("W-SUN", "2026-05-04T00:00", 18),
    ],
)
def test_a_step_counts_once_it_is_over(tmp_path: Path, freq: str, now: str, length: int) -> None:
    sales().to_parquet(tmp_path / "sales.parquet")
    panel = read(f'path = "{tmp_path}/sales.parquet"\nresample = "{freq}"\n{COLUMNS}', top="")
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert selection.complete(panel, 0.0, now=moment).lengths.tolist() == [length, length]


def test_no_secret_of_a_recipe_is_printed_or_kept(
    tracked: Path, forecast: Command, tmp_path: Path, served: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALES_KEY", "k3y-of-the-environment")
    served.files["/sales.parquet"] = b""
    sales().to_parquet(tmp_path / "sales.parquet")
    served.files["/sales.parquet"] = (tmp_path / "sales.parquet").read_bytes()
    host = served.url.removeprefix("http://")
    text = (
        'name = "shop"\nfreq = "D"\nhorizon = 7\ncandidates = ["seasonal_naive"]\n'
        f'[data]\nurl = "http://anna:written-passw0rd@{host}/sales.parquet?key=${{SALES_KEY}}&old=qu3ry-value"\n'
        f'headers = {{x-token = "header-s3cret"}}\n{COLUMNS}[backtest]\nnum_windows = 2\n'
        '[hooks.on_failure]\nurl = "https://hooks.example/h00k-path"\n'
    )
    (tmp_path / "shop.toml").write_text(text)
    ended = forecast("retrain", tmp_path / "shop.toml", "--json")
    assert ended.code == 0, ended.err
    assert served.headers[0]["x-token"] == "header-s3cret"
    assert served.headers[0]["authorization"].startswith("Basic ")
    assert "key=k3y-of-the-environment" in served.asked[0][0]
    kept = b"".join(path.read_bytes() for path in home.home().rglob("*") if path.is_file())
    said = (ended.out + ended.err).encode()
    assert b"anna:***@" in kept
    secrets = ("k3y-of-the-environment", "written-passw0rd", "qu3ry-value", "header-s3cret", "h00k-path")
    for secret in secrets:
        assert secret.encode() not in kept + said, secret


def test_a_variable_that_is_not_set_is_named_and_one_with_a_default_is_not_needed(
    forecast: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sales().to_parquet(tmp_path / "sales.parquet")
    text = (
        f'name = "${{TENANT:-shop}}"\nfreq = "D"\nhorizon = 7\n[data]\npath = "${{SALES}}.parquet"\n{COLUMNS}'
    )
    (tmp_path / "shop.toml").write_text(text)
    ended = forecast("recipe", "check", tmp_path / "shop.toml")
    assert ended.code == 2
    assert "the environment variable SALES is not set, and the recipe uses it as ${SALES}" in ended.err
    monkeypatch.setenv("SALES", "sales")
    ended = forecast("recipe", "check", tmp_path / "shop.toml")
    assert ended.code == 0, ended.err
    assert "2 series, daily (D), until 2026-04-30" in ended.out
    (tmp_path / "shop.toml").write_text(text + '[hooks.on_failure]\nurl = "${HOOK_ADDRESS}"\n')
    ended = forecast("recipe", "check", tmp_path / "shop.toml")
    assert (ended.code, "HOOK_ADDRESS is not set" in ended.err) == (2, True)
    os.remove(tmp_path / "sales.parquet")
    assert forecast("recipe", "check", tmp_path / "shop.toml").code == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('since = "2026-01-01"\ndelimiter = "|"', "there is no column 'ds'"),
        ('[[data.filters]]\ncolumn = "nope"\nat_least = 1', "there is no column 'nope'"),
    ],
)
def test_a_row_cannot_be_chosen_by_a_column_that_is_not_there(
    tmp_path: Path, lines: str, message: str
) -> None:
    (tmp_path / "a.csv").write_text("unique_id,ds,y\na,2026-01-01,1\na,2026-01-02,2\n")
    text = f'name = "a"\nhorizon = 1\n[data]\npath = "{tmp_path}/a.csv"\n{lines}'
    with pytest.raises(DataError, match=message):
        sources.panel(recipes.parse(text, origin="here"))


def test_the_name_of_a_series_may_be_a_static_covariate_when_rows_become_longer_steps(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("unique_id,ds,y\na,2026-01-01 00:00,1\na,2026-01-02 00:00,2\n")
    text = (
        f'name = "a"\nhorizon = 1\n[data]\npath = "{tmp_path}/a.csv"\nresample = "D"\nstatic = ["unique_id"]'
    )
    assert len(sources.panel(recipes.parse(text, origin="here"))) == 1
