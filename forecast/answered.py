"""The forecast log: what a service has answered, in Parquet files, one row per series and answer.

answers/<model>/<time>-<process>-<number>.parquet     as they were written
answers/<model>/<time>-<process>-merged.parquet       many small ones made into one

Who writes them and who reads them are different processes, so the format is the library's.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from forecast import home
from forecast.errors import DataError
from forecast.replacing import replacing

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FOLDER_VARIABLE = "FORECAST_RECORD_FOLDER"

TAIL = 8
"""Last values of a history that are kept with its forecast."""

MERGED = "merged"
MERGE_AT = 64
"""So many small files of one process become one."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Answered:
    """The forecasts of one answer: N series, H steps, Q quantile levels."""

    model: str
    version: str
    freq: str | int
    recorded_at: float
    """Seconds since 1970."""
    unique_ids: Sequence[Any] | NDArray[Any]
    """(N,) names; None for a series that was sent without one."""
    cutoffs: NDArray[Any]
    """(N,) the last stamp of each history, in microseconds since 1970 (UTC), or a step."""
    ds: Sequence[Any] | NDArray[Any]
    """(N,) of (H,) stamps, datetime64[us] in UTC, or steps."""
    tails: NDArray[np.float64]
    """(N, T) the last values of each history, NaN where missing: which series it was, and of which data."""
    quantile_levels: NDArray[np.float64]
    """(Q,)."""
    values: NDArray[np.floating[Any]]
    """(N, H, Q) in units."""

    @property
    def size(self) -> int:
        """Numbers held."""
        return int(self.values.size)


def folder() -> Path:
    """Where answers are recorded: `FORECAST_RECORD_FOLDER`, else a folder in FORECAST_HOME."""
    configured = os.environ.get(FOLDER_VARIABLE, "").strip()
    return Path(configured).expanduser() if configured else home.home() / "answers"


def of_model(model: str, root: Path | None = None) -> Path:
    """The folder of one model's answers."""
    return (root or folder()) / quote(model, safe=" @")


def write(answers: Sequence[Answered], root: Path, *, name: str) -> list[Path]:
    """Write answers as one file for each model, whole or not at all; returns the files."""
    files = []
    for model in sorted({each.model for each in answers}):
        place = of_model(model, root)
        own = [each for each in answers if each.model == model]
        files.append(place / f"{name}.parquet")
        _replace(files[-1], _table(own))
    return files


def merge(place: Path, *, owner: str) -> bool:
    """Make one file of a process's small ones, once they are many; whether it was done.

    A kill in between leaves rows twice, which a reader takes once.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    small = sorted(file for file in place.glob(f"*-{owner}-*.parquet") if not file.stem.endswith(MERGED))
    if len(small) < MERGE_AT:
        return False
    tables = [pq.read_table(file) for file in small]
    stem = small[-1].stem.rpartition("-")[0]
    _replace(place / f"{stem}-{MERGED}.parquet", pa.concat_tables(tables))
    for file in small:
        file.unlink(missing_ok=True)
    return True


def limit(root: Path, *, max_bytes: int) -> int:
    """Delete the oldest files until the folder holds at most `max_bytes`; returns how many went."""
    found = []
    for file in root.glob("*/*.parquet"):
        with contextlib.suppress(OSError):
            found.append((file.name, file.stat().st_size, file))
    kept, gone = sum(size for _, size, _ in found), 0
    for _, size, file in sorted(found, key=lambda each: each[0]):
        if kept <= max_bytes:
            break
        with contextlib.suppress(OSError):
            file.unlink()
        kept, gone = kept - size, gone + 1
    return gone


def file_name(owner: str, number: int) -> str:
    """A name that sorts by time."""
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    return f"{moment}-{owner}-{number:06d}"


def read(model: str, root: Path | None = None) -> "Iterator[pd.DataFrame]":
    """The recorded answers of a model file by file, oldest first, one row per series and answer.

    Columns: model, version, unique_id, freq, recorded_at, cutoff, ds, tail, levels, values (H times Q, step
    by step). A file that went meanwhile is left out; DataError for one that cannot be read.
    """
    import pandas as pd
    import pyarrow as pa

    for file in sorted(of_model(model, root).glob("*.parquet")):
        try:
            yield pd.read_parquet(file)
        except FileNotFoundError:
            continue
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"the recorded answers in {file} cannot be read ({error}); delete it") from error


def _table(answers: Sequence[Answered]) -> "pa.Table":
    import pyarrow as pa

    counts = [len(each.unique_ids) for each in answers]
    ds = [_numbers(row) for each in answers for row in each.ds]
    values = [each.values[row].ravel() for each in answers for row in range(len(each.unique_ids))]
    levels = [each.quantile_levels for each in answers for _ in each.unique_ids]

    def repeated(name: str) -> list[Any]:
        own = [str(getattr(each, name)) for each in answers]
        return [text for text, count in zip(own, counts, strict=True) for _ in range(count)]

    moments = np.repeat([int(each.recorded_at * 1e6) for each in answers], counts)
    return pa.table(
        {
            "model": pa.array(repeated("model")).dictionary_encode(),
            "version": pa.array(repeated("version")).dictionary_encode(),
            "unique_id": pa.array(
                [None if name is None else str(name) for each in answers for name in each.unique_ids],
                pa.string(),
            ),
            "freq": pa.array(repeated("freq")).dictionary_encode(),
            "recorded_at": pa.array(moments.astype("datetime64[us]"), pa.timestamp("us", "UTC")),
            "cutoff": pa.array(np.concatenate([_numbers(each.cutoffs) for each in answers])),
            "ds": _lists(ds, pa.int64()),
            "tail": _lists([row for each in answers for row in each.tails], pa.float64()),
            "levels": _lists(levels, pa.float64()),
            "values": _lists(values, pa.float64()),
        }
    )


def _lists(rows: Sequence[NDArray[Any]], kind: "pa.DataType") -> "pa.ListArray":
    import pyarrow as pa

    ends = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int32)
    flat = np.concatenate(rows).astype(kind.to_pandas_dtype(), copy=False)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(flat, kind))


def _numbers(stamps: Any) -> NDArray[np.int64]:
    """Microseconds since 1970, or steps as they are."""
    found = np.asarray(stamps)
    if found.dtype.kind == "M":
        return found.astype("datetime64[us]").astype(np.int64)
    return found.astype(np.int64)


def _replace(file: Path, table: "pa.Table") -> None:
    import pyarrow.parquet as pq

    with replacing(file) as draft:
        pq.write_table(table, draft, compression="zstd")
