"""Forecasts that were stored: a row per model version, cutoff, series and step, in a folder or an SQL table.

Who writes them and who reads them are different processes, so the format is the library's.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecast import home, placeholders
from forecast.errors import NotFoundError, SourceError, SpecError
from forecast.replacing import replacing

if TYPE_CHECKING:
    import pandas as pd
    import sqlalchemy

KEYS = ("model", "version", "cutoff", "unique_id", "step")
"""What a row is recognised by: the same is never stored twice."""

ROWS_PER_GROUP = 50_000
"""Of a Parquet file, which is sorted by series: one of them is found without reading the others."""

TABLE = "forecasts"


class Store(ABC):
    """Where forecasts of one model are kept."""

    @abstractmethod
    def known(self, version: str) -> "pd.DataFrame":
        """The series and cutoffs (`unique_id`, `cutoff`) that a version's forecasts are stored of."""

    @abstractmethod
    def write(self, frame: "pd.DataFrame") -> None:
        """Keep rows with the columns of `KEYS`, `ds`, `stored_at`, `median` and those of the levels."""

    @abstractmethod
    def latest(self, unique_id: str) -> "pd.DataFrame | None":
        """The rows of the newest forecast of a series; None where there is none."""

    @abstractmethod
    def everything(self, *, since: str | None = None) -> "Iterator[pd.DataFrame]":
        """All rows of the model part by part, or those that were stored since a moment (ISO, in UTC)."""


@dataclass(frozen=True)
class Folder(Store):
    """A folder for each moment, in it one for each version, in it Parquet files, whole or not there."""

    path: Path

    def known(self, version: str) -> "pd.DataFrame":
        import pandas as pd

        files = [file for file in self._files() if file.parent.name == f"v{version}"]
        parts = [pd.read_parquet(file, columns=["unique_id", "cutoff"]).drop_duplicates() for file in files]
        return pd.concat(parts) if parts else pd.DataFrame({"unique_id": [], "cutoff": []})

    def write(self, frame: "pd.DataFrame") -> None:
        moment, version = str(frame["stored_at"].iloc[0]), str(frame["version"].iloc[0])
        folder = self.path / _fit_for_a_file(moment) / f"v{version}"
        once = frame[["unique_id", "cutoff"]].drop_duplicates().astype(str)
        told = "\n".join(once["unique_id"] + "\t" + once["cutoff"]).encode()
        name = f"part-{hashlib.sha256(told).hexdigest()[:16]}.parquet"
        rows = frame.sort_values(["unique_id", "step"], kind="stable")
        with replacing(folder / name) as draft:
            rows.to_parquet(draft, index=False, row_group_size=ROWS_PER_GROUP)

    def latest(self, unique_id: str) -> "pd.DataFrame | None":
        import pandas as pd

        for moment in sorted({file.parents[1] for file in self._files()}, reverse=True):
            for file in sorted(moment.glob("v*/part-*.parquet")):
                found = pd.read_parquet(file, filters=[("unique_id", "==", unique_id)])
                if len(found):
                    return _newest(found)
        return None

    def everything(self, *, since: str | None = None) -> "Iterator[pd.DataFrame]":
        import pandas as pd

        for file in self._files():
            if since is None or file.parents[1].name >= _fit_for_a_file(since):
                yield pd.read_parquet(file)

    def _files(self) -> Iterator[Path]:
        yield from sorted(self.path.glob("*/v*/part-*.parquet"))


class Table(Store):
    """A table of an SQL database; one table may hold several models."""

    def __init__(self, url: str, *, model: str, table: str = TABLE) -> None:
        import sqlalchemy

        self.model, self.name = model, table
        self.shown = placeholders.masked_url(url)
        address = placeholders.expand(url)
        try:
            self._secret = str(sqlalchemy.make_url(address).password or "")
            self.engine = sqlalchemy.create_engine(address, poolclass=sqlalchemy.NullPool)
        except (sqlalchemy.exc.ArgumentError, ModuleNotFoundError) as error:
            raise SpecError(
                f"the output {self.shown} is no address of a database ({type(error).__name__}); write it as "
                "postgresql+psycopg://user:password@host/name"
            ) from None

    def known(self, version: str) -> "pd.DataFrame":
        import pandas as pd
        import sqlalchemy

        with self._connected() as connection:
            if not self._exists(connection):
                return pd.DataFrame({"unique_id": [], "cutoff": []})
            table = self._table(connection)
            query = sqlalchemy.select(table.c.unique_id, table.c.cutoff).distinct()
            query = query.where(table.c.model == self.model, table.c.version == version)
            rows = connection.execute(query).fetchall()
        return pd.DataFrame(rows, columns=["unique_id", "cutoff"])

    def write(self, frame: "pd.DataFrame") -> None:
        import sqlalchemy
        from sqlalchemy.dialects import postgresql, sqlite

        rows: list[Any] = frame.rename(columns=_sql_name).to_dict("records")
        with self._connected() as connection:
            self._prepare(connection, [name for name in frame.columns if name not in _TYPES])
            table = self._table(connection)
            name = connection.dialect.name
            insert: Any = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}.get(name)
            if insert is None:
                connection.execute(sqlalchemy.insert(table), rows)
            else:
                connection.execute(insert(table).on_conflict_do_nothing(), rows)
            connection.commit()

    def latest(self, unique_id: str) -> "pd.DataFrame | None":
        import pandas as pd
        import sqlalchemy

        with self._connected() as connection:
            if not self._exists(connection):
                return None
            table = self._table(connection)
            mine = (table.c.model == self.model, table.c.unique_id == unique_id)
            last = sqlalchemy.select(sqlalchemy.func.max(table.c.stored_at)).where(*mine).scalar_subquery()
            query = sqlalchemy.select(table).where(*mine, table.c.stored_at == last)
            found = connection.execute(query).mappings().all()
        if not found:
            return None
        frame = pd.DataFrame([dict(row) for row in found]).dropna(axis="columns", how="all")
        return _newest(frame.rename(columns=_own_name))

    def everything(self, *, since: str | None = None) -> "Iterator[pd.DataFrame]":
        import pandas as pd
        import sqlalchemy

        with self._connected() as connection:
            if not self._exists(connection):
                return
            table = self._table(connection)
            query = sqlalchemy.select(table).where(table.c.model == self.model)
            if since is not None:
                query = query.where(table.c.stored_at >= since)
            result = connection.execution_options(stream_results=True).execute(query)
            while rows := result.mappings().fetchmany(ROWS_PER_GROUP):
                yield pd.DataFrame([dict(row) for row in rows]).rename(columns=_own_name)

    def _connected(self) -> "_Connected":
        return _Connected(self)

    def _exists(self, connection: "sqlalchemy.Connection") -> bool:
        import sqlalchemy

        return sqlalchemy.inspect(connection).has_table(self.name)

    def _table(self, connection: "sqlalchemy.Connection") -> "sqlalchemy.Table":
        import sqlalchemy

        return sqlalchemy.Table(self.name, sqlalchemy.MetaData(), autoload_with=connection)

    def _prepare(self, connection: "sqlalchemy.Connection", levels: list[str]) -> None:
        """Create the table, or add the columns of levels that it does not have yet."""
        import sqlalchemy

        kinds: dict[str, Any] = {
            "text": sqlalchemy.String(255),
            "whole": sqlalchemy.Integer(),
            "number": sqlalchemy.Float(53),
        }
        columns = {**_TYPES, **{_sql_name(name): "number" for name in levels}}
        if not self._exists(connection):
            made = sqlalchemy.Table(
                self.name,
                sqlalchemy.MetaData(),
                *(sqlalchemy.Column(n, kinds[k], primary_key=n in KEYS) for n, k in columns.items()),
            )
            made.create(connection, checkfirst=True)
            return
        there = {each["name"] for each in sqlalchemy.inspect(connection).get_columns(self.name)}
        quoted = connection.dialect.identifier_preparer.quote
        for name in columns:
            if name not in there:
                kind = kinds[columns[name]].compile(connection.dialect)
                statement = f"alter table {quoted(self.name)} add column {quoted(name)} {kind}"
                connection.exec_driver_sql(statement)


_TYPES = {
    "model": "text",
    "version": "text",
    "cutoff": "text",
    "unique_id": "text",
    "step": "whole",
    "ds": "text",
    "stored_at": "text",
    "median": "number",
}


class _Connected:
    """A connection whose errors are ours, without the password that drivers repeat."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def __enter__(self) -> "sqlalchemy.Connection":
        import sqlalchemy

        try:
            self.connection = self.table.engine.connect()
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise self._told(error) from None
        return self.connection

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        import sqlalchemy

        self.connection.close()
        if isinstance(error, sqlalchemy.exc.SQLAlchemyError):
            raise self._told(error) from None

    def _told(self, error: Exception) -> SourceError:
        line = str(getattr(error, "orig", None) or error).strip().splitlines()[0][:200]
        line = placeholders.without(line, self.table._secret)
        return SourceError(
            f"the database {self.table.shown} cannot be used for forecasts ({line}); start it, or correct "
            "`output` under [forecast]"
        )


def open_store(output: str, *, model: str, table: str = TABLE) -> Store:
    """A folder by its path, or a table by the address of its database."""
    if "://" in placeholders.expand(output):
        return Table(output, model=model, table=table)
    return Folder(Path(placeholders.expand(output)).expanduser())


def announce(model: str, *, output: str, table: str = TABLE) -> None:
    """Keep where a model's forecasts are stored, for who is asked for them; secrets stay placeholders."""
    with replacing(_note(model)) as draft:
        draft.write_text(json.dumps({"output": output, "table": table}), encoding="utf-8")


def announced(model: str) -> Store:
    """The store of a model. Raises NotFoundError where none was announced in this home folder."""
    try:
        note = json.loads(_note(model).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NotFoundError(
            f"no forecasts of {model!r} are stored; write `[forecast]` into its recipe, and run `forecast "
            f"retrain` or `forecast store`"
        ) from error
    return open_store(note["output"], model=model, table=note["table"])


def default_folder(model: str) -> Path:
    """Where forecasts lie when a recipe does not say."""
    return home.home() / "forecasts" / model


def age_seconds(stored_at: str) -> float:
    """Since a forecast was stored."""
    return max((datetime.now(UTC) - datetime.fromisoformat(stored_at)).total_seconds(), 0.0)


def _note(model: str) -> Path:
    return home.home() / "forecasts" / f"{_fit_for_a_file(model)}.json"


def _newest(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The forecast that was stored last, from the latest cutoff."""
    last = rows[rows["stored_at"] == rows["stored_at"].max()]
    last = last[last["cutoff"] == last["cutoff"].max()]
    newest: pd.DataFrame = last.sort_values("step").reset_index(drop=True)
    return newest


def _fit_for_a_file(text: str) -> str:
    return "".join(each if each.isalnum() or each in "-._" else "" for each in text)


def _sql_name(name: str) -> str:
    """`lo-80` as databases like it."""
    return str(name).replace("-", "_").replace(".", "p")


def _own_name(name: str) -> str:
    if name.startswith(("lo_", "hi_")):
        return name.replace("_", "-", 1).replace("p", ".")
    return name
