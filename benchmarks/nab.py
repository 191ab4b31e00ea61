"""Anomalies in NAB's real series with known causes, against their labels and beside a seasonal z-score.

    python benchmarks/nab.py --data nab_known_cause.parquet --labels nab_known_cause_labels.json

The seven series are put on an hourly grid. One model is trained and calibrated on the first 15 % of each, as
NAB's protocol allows, and served; the nixtla client asks for the rest: `detect_anomalies`, which judges one
step ahead, and `detect_anomalies_online` with h=24. The z-score knows mean and deviation of the same 15 % by
hour of the day. Nothing is chosen by labels: they are read when everything was judged, and all detectors get
the same levels.

Prints one JSON line per level and detector over all series. Flagged values next to each other are one alarm,
a false one where none of them lies in a labelled window. Recall is the share of windows in which something
was flagged, precision that of the windows found among these and the false alarms, f1 their harmonic mean.
`value_precision` is the share of flagged values within a window, `flagged` that of all values. Windows that
begin in the first 15 % are left out.

Labels: Lavin & Ahmad, "Evaluating real-time anomaly detection algorithms: the Numenta anomaly benchmark",
2015.
"""

import argparse
import json
import logging
import os
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import uvicorn
from nixtla import NixtlaClient
from numpy.typing import NDArray

import forecast as fc
from forecast.evaluation.blocks import Blocks
from forecast.evaluation.candidates import evaluate, refit_full
from forecast.models.forecaster import Forecaster
from service.app import create_app
from service.models import Served, Snapshot
from service.settings import Settings

PROBATION = 0.15
"""The share of each series that is for learning, in NAB's protocol."""
HORIZON = 24
"""Steps that the model is trained to forecast: a day."""
MODEL = "nab"


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """One hourly series with its labelled windows."""

    frame: pd.DataFrame
    """unique_id, ds, y."""
    num_learnt: int
    """Rows at its beginning that are for learning."""
    windows: list[tuple[pd.Timestamp, pd.Timestamp]]


@dataclass(frozen=True, kw_only=True)
class Score:
    """How flags compare with labels; counts, so that series add up."""

    num_values: int = 0
    num_flagged: int = 0
    num_right: int = 0
    """Flagged values within a window."""
    num_false: int = 0
    """Alarms outside of all windows."""
    num_windows: int = 0
    num_found: int = 0
    """Windows with a flagged value."""

    def __add__(self, other: "Score") -> "Score":
        return Score(
            **{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__}
        )

    @property
    def precision(self) -> float:
        """Windows found, of these and all false alarms."""
        called = self.num_found + self.num_false
        return self.num_found / called if called else 0.0

    @property
    def recall(self) -> float:
        """Of windows."""
        return self.num_found / self.num_windows if self.num_windows else 0.0

    @property
    def f1(self) -> float:
        """Of both."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    def to_dict(self) -> dict[str, float]:
        """What is printed."""
        return {
            "precision": round(self.precision, 3),
            "recall": round(self.recall, 3),
            "f1": round(self.f1, 3),
            "false_alarms": self.num_false,
            "windows": self.num_windows,
            "value_precision": round(self.num_right / max(self.num_flagged, 1), 3),
            "flagged": round(self.num_flagged / max(self.num_values, 1), 4),
        }


def load(data: Path, labels: Path) -> list[Labelled]:
    """The series by hour: the values of one become their mean, pauses are missing."""
    found = json.loads(labels.read_text())
    series = []
    for name, own in pd.read_parquet(data).groupby("unique_id", observed=True):
        panel = fc.from_frame(own.assign(unique_id=str(name)), freq="h", grid="h", duplicates="mean")
        windows = [(pd.Timestamp(first), pd.Timestamp(last)) for first, last in found[str(name)]["windows"]]
        frame = panel.to_frame()
        series.append(Labelled(frame=frame, num_learnt=int(PROBATION * len(frame)), windows=windows))
    return series


def train(series: list[Labelled], *, backbone: str, seconds: float) -> Forecaster:
    """One model for all series, calibrated within their parts for learning, then trained on all of those."""
    learnt = fc.from_frame(pd.concat([one.frame.head(one.num_learnt) for one in series]), freq="h")
    spec = fc.ModelSpec(backbone=backbone, horizon=HORIZON)
    config = fc.TrainConfig(seed=0, max_seconds=seconds, progress="quiet", device="cpu")
    blocks = Blocks.cut(learnt, horizon=HORIZON, num_windows=4)
    return refit_full(evaluate(spec, learnt, blocks, config), learnt, config)


@contextmanager
def served(model: Forecaster) -> Iterator[NixtlaClient]:
    """A client of the service that has this one model."""
    app = create_app(Settings(request_seconds=3600))
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    only = Served(name=MODEL, version="1", run_id=None, digest="", forecaster=model)
    app.state.store.snapshot = Snapshot(champions={MODEL: only})
    try:
        yield NixtlaClient(
            api_key="none", base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=600
        )
    finally:
        server.should_exit = True
        thread.join(20)


def detect(client: NixtlaClient, series: list[Labelled], level: float) -> dict[str, list[NDArray[np.bool_]]]:
    """For each detector the flags of every series, one per row."""
    found: dict[str, list[NDArray[np.bool_]]] = {"one_step": [], "h24": [], "seasonal_z": []}
    for one in series:
        asked: dict[str, Any] = {"freq": "h", "level": level, "model": MODEL}
        judged = client.detect_anomalies(one.frame, **asked)
        found["one_step"].append(_laid_out(judged, one))
        size = len(one.frame) - one.num_learnt
        judged = client.detect_anomalies_online(one.frame, h=HORIZON, detection_size=size, **asked)
        found["h24"].append(_laid_out(judged, one))
        found["seasonal_z"].append(np.abs(z_scores(one)) > NormalDist().inv_cdf(0.5 + level / 200))
    return found


def _laid_out(judged: pd.DataFrame, one: Labelled) -> NDArray[np.bool_]:
    flagged = set(judged.loc[judged["anomaly"], "ds"])
    return one.frame["ds"].isin(flagged).to_numpy()


def z_scores(one: Labelled) -> NDArray[np.float64]:
    """Deviations of each value from the mean of its hour of the day in the part for learning."""
    learnt = one.frame.head(one.num_learnt)
    by_hour = learnt.groupby(learnt["ds"].dt.hour)["y"].agg(["mean", "std"])
    hours = one.frame["ds"].dt.hour
    mean = hours.map(by_hour["mean"]).fillna(learnt["y"].mean())
    deviation = hours.map(by_hour["std"]).fillna(learnt["y"].std()).clip(lower=1e-9)
    return np.asarray((one.frame["y"] - mean) / deviation, dtype=np.float64)


def compare(one: Labelled, flags: NDArray[np.bool_]) -> Score:
    """Flags of one series against its labels, after the part for learning."""
    ds, begin = one.frame["ds"], one.frame["ds"].iloc[one.num_learnt]
    counted = (ds >= begin).to_numpy() & one.frame["y"].notna().to_numpy()
    for first, last in one.windows:
        if first < begin:
            counted &= (ds > last).to_numpy()
    flags = flags & counted
    inside = [ds.between(first, last).to_numpy() for first, last in one.windows if first >= begin]
    within = np.any(inside, axis=0) if inside else np.zeros(len(flags), dtype=bool)
    begins = flags & ~np.concatenate([[False], flags[:-1]])
    alarms = np.cumsum(begins) * flags  # each flagged value has the number of its alarm
    return Score(
        num_values=int(counted.sum()),
        num_flagged=int(flags.sum()),
        num_right=int((flags & within).sum()),
        num_false=int(begins.sum()) - len(set(alarms[flags & within].tolist())),
        num_windows=len(inside),
        num_found=sum(bool((flags & each).any()) for each in inside),
    )


def scores(client: NixtlaClient, series: list[Labelled], level: float) -> dict[str, Score]:
    """The score of each detector over all series."""
    return {
        detector: sum(map(compare, series, flags), start=Score())
        for detector, flags in detect(client, series, level).items()
    }


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--backbone", default="ridge")
    parser.add_argument("--levels", type=float, nargs="+", default=[95, 99, 99.5, 99.9])
    parser.add_argument("--seconds", type=float, default=60.0, help="of training")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    series = load(given.data, given.labels)
    model = train(series, backbone=given.backbone, seconds=given.seconds)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FORECAST_HOME"] = folder
        with served(model) as client:
            for level in given.levels:
                for detector, score in scores(client, series, level).items():
                    line = {"model": given.backbone, "level": level, "detector": detector, **score.to_dict()}
                    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
