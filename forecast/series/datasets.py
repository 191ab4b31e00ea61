"""Built-in real series, by name."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from forecast.errors import NotFoundError


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What a built-in data set is and where it comes from."""

    name: str
    title: str
    source: str
    freq: str
    season_length: int
    num_series: int
    num_rows: int


_AIR_PASSENGERS = (
    (112, 118, 132, 129, 121, 135, 148, 148, 136, 119, 104, 118),  # 1949
    (115, 126, 141, 135, 125, 149, 170, 170, 158, 133, 114, 140),
    (145, 150, 178, 163, 172, 178, 199, 199, 184, 162, 146, 166),
    (171, 180, 193, 181, 183, 218, 230, 242, 209, 191, 172, 194),
    (196, 196, 236, 235, 229, 243, 264, 272, 237, 211, 180, 201),
    (204, 188, 235, 227, 234, 264, 302, 293, 259, 229, 203, 229),
    (242, 233, 267, 269, 270, 315, 364, 347, 312, 274, 237, 278),
    (284, 277, 317, 313, 318, 374, 413, 405, 355, 306, 271, 306),
    (315, 301, 356, 348, 355, 422, 465, 467, 404, 347, 305, 336),
    (340, 318, 362, 348, 363, 435, 491, 505, 404, 359, 310, 337),
    (360, 342, 406, 396, 420, 472, 548, 559, 463, 407, 362, 405),
    (417, 391, 419, 461, 472, 535, 622, 606, 508, 461, 390, 432),  # 1960
)

_DATASETS = {
    "air_passengers": Dataset(
        name="air_passengers",
        title="International airline passengers, monthly totals in thousands, January 1949 to December 1960",
        source="G. E. P. Box, G. M. Jenkins and G. C. Reinsel, Time Series Analysis, series G",
        freq="MS",
        season_length=12,
        num_series=1,
        num_rows=144,
    )
}


def names() -> tuple[str, ...]:
    """The built-in data sets, sorted."""
    return tuple(sorted(_DATASETS))


def describe(name: str) -> Dataset:
    """What a data set is and its source; NotFoundError for a name that is not built in."""
    if name not in _DATASETS:
        raise NotFoundError(f"there is no built-in data set {name!r}; built in: {', '.join(names())}.")
    return _DATASETS[name]


def load(name: str) -> pd.DataFrame:
    """A data set as a long frame `unique_id, ds, y`, ready for `forecast.from_frame`."""
    describe(name)
    y = np.array(_AIR_PASSENGERS, dtype=np.float64).ravel()
    ds = np.arange("1949-01", "1961-01", dtype="datetime64[M]").astype("datetime64[us]")
    return pd.DataFrame({"unique_id": ["AP"] * len(y), "ds": ds, "y": y})
