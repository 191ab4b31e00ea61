"""Forecast a folder of partitions file by file: memory stays that of one file, and a kill costs one file."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from forecast.errors import DataError, SpecError
from forecast.replacing import replacing
from pipelines import places

if TYPE_CHECKING:
    import pandas as pd

    from forecast.models.forecaster import Forecaster
    from forecast.series.panel import Panel

NOTE = "_forecast.json"
"""Lies beside the forecasts and says what made them."""

LINE_SECONDS = 10.0
"""Between two lines of progress where there is no terminal."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of every partition."""

    model: str
    version: str
    horizon: int
    levels: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "levels": list(self.levels)}


def is_partitioned(data: Path) -> bool:
    """Whether data is a folder or a pattern rather than one file."""
    return data.is_dir() or (not data.exists() and any(each in str(data) for each in "*?["))


def partitions(data: Path) -> tuple[Path, list[Path]]:
    """The folder that all partitions lie in, and the partitions, sorted; DataError where there is none."""
    if data.is_dir():
        suffixes = places.PARQUET_SUFFIXES + places.CSV_SUFFIXES
        found = sorted(path for path in data.rglob("*") if path.name.lower().endswith(suffixes))
        found = [path for path in found if path.is_file() and not path.name.startswith((".", "_"))]
        if not found:
            raise DataError(f"the folder {data} holds no CSV or Parquet file; check the path")
        return data, found
    found = places.files(str(data))
    return Path(os.path.commonpath([path.parent for path in found])), found


def predict(
    forecaster: "Forecaster",
    asked: Asked,
    data: Path,
    output: Path,
    *,
    read: Callable[[Path], "Panel"],
    say: Say,
) -> int:
    """Forecast every partition into a Parquet file of the same name in `output`; returns the rows written.

    A partition whose forecast is there, and newer than the partition, is left alone: the same call after a
    kill goes on. Raises DataError where a series comes in two partitions, since each would see half of it.
    """
    root, found = partitions(data)
    _claim(output, asked)
    seen: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
    num_rows = num_short = num_kept = 0
    for path in _progress(found, say):
        target = output / path.relative_to(root).parent / f"{path.name.split('.')[0]}.parquet"
        if target.exists() and target.stat().st_mtime >= path.stat().st_mtime:
            seen = _joined(seen, _ids(target), path)
            num_kept += 1
            continue
        panel = read(path)
        seen = _joined(seen, panel.unique_ids, path)
        enough = forecaster.can_predict(panel)
        num_short += int((~enough).sum())
        if not enough.any():
            continue
        forecast = forecaster.predict(panel.select(enough.nonzero()[0]), horizon=asked.horizon)
        num_rows += _write(forecast.to_frame(levels=asked.levels), target)
        del panel, forecast
    if num_kept:
        say(f"{num_kept:,} of {len(found):,} partitions were forecast before and left as they are")
    if num_short:
        say(f"{num_short:,} series are shorter than the model needs and were left out")
    return num_rows


def _claim(output: Path, asked: Asked) -> None:
    """Say in the folder what its forecasts are; SpecError where it holds others."""
    note = output / NOTE
    if note.exists():
        there = json.loads(note.read_text(encoding="utf-8"))
        if there != asked.to_dict():
            told = ", ".join(f"{key} {value}" for key, value in there.items())
            raise SpecError(f"{output} holds other forecasts ({told}); choose another folder, or remove it")
        return
    output.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(asked.to_dict()), encoding="utf-8")


def _write(frame: "pd.DataFrame", target: Path) -> int:
    import pyarrow as pa

    with replacing(target) as draft:
        frame.to_parquet(draft, index=False)
    pa.default_memory_pool().release_unused()
    return len(frame)


def _ids(target: Path) -> NDArray[Any]:
    import pyarrow.parquet as pq

    column = pq.read_table(target, columns=["unique_id"]).column(0)
    return np.asarray(column.unique().to_numpy(zero_copy_only=False))


def _joined(seen: NDArray[np.uint64], ids: NDArray[Any], path: Path) -> NDArray[np.uint64]:
    """Hashes of all series so far, eight bytes each; DataError where one comes again."""
    import pandas as pd

    own = pd.util.hash_array(np.asarray(ids, dtype=object))
    again = np.isin(own, seen, assume_unique=False)
    if again.any():
        name = str(ids[int(again.argmax())])[:80]
        raise DataError(
            f"the series {name!r} in {path} is in an earlier partition too; write each series into one "
            "partition, or give the files of one folder as a recipe's `path` and use `forecast store`"
        )
    return np.concatenate([seen, own])


def _progress(found: Sequence[Path], say: Say) -> Iterator[Path]:
    """The partitions, with a bar on a terminal and a line every few seconds elsewhere."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(found, unit="file", leave=False, file=sys.stderr)
        return
    told = time.monotonic()
    for number, path in enumerate(found, start=1):
        yield path
        if time.monotonic() - told >= LINE_SECONDS:
            told = time.monotonic()
            say(f"{number:,} of {len(found):,} partitions")
