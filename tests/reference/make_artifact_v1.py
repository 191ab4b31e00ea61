"""Writes `artifact_v1` and `expected.json`: run once, before the first release, and never again after it.

python -m tests.reference.make_artifact_v1
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from forecast.models.artifact import save
from forecast.models.calibration import Calibration
from forecast.models.spec import ModelSpec
from forecast.series.panel import Panel
from forecast.training.config import TrainConfig
from forecast.training.fit import fit

FOLDER = Path(__file__).parent
LEVELS = (0.025, 0.1, 0.5, 0.9, 0.975)


def wave(length: int, level: float) -> list[float]:
    """A yearly wave on a trend, with a little noise."""
    steps = np.arange(length)
    noise = np.random.default_rng(int(level)).normal(size=length)
    return [round(float(y), 3) for y in level + 0.5 * steps + 10 * np.sin(2 * np.pi * steps / 12) + noise]


def main() -> None:
    training = Panel.from_arrays(["a"], [wave(72, 100)], freq="MS", starts=["2014-01-01"])
    spec = ModelSpec(
        backbone="lstm", horizon=4, context_length=24, hidden_size=8, quantile_levels=LEVELS, max_horizon=8
    )
    fitted = fit(training, spec, TrainConfig(max_steps=60, progress="quiet"))
    corrections = np.outer(np.sqrt(np.arange(1, 5)), [-0.4, -0.2, 0, 0.2, 0.4]).astype(np.float32)
    table = Calibration(quantile_levels=LEVELS, corrections=corrections, num_windows=40, growth=0.5)
    forecaster = replace(fitted, calibration=table)
    shutil.rmtree(FOLDER / "artifact_v1", ignore_errors=True)
    save(forecaster, FOLDER / "artifact_v1")

    sent = {
        "unique_ids": ["a", "new"],
        "freq": "MS",
        "starts": ["2014-01-01", "2016-03-01"],
        "y": [wave(60, 100), wave(30, 500)],
        "horizon": 6,
    }
    history = Panel.from_arrays(sent["unique_ids"], sent["y"], freq="MS", starts=sent["starts"])  # type: ignore[arg-type]
    answer = forecaster.predict(history, 6)
    expected = {
        **sent,
        "values": np.round(answer.values, 5).tolist(),
        "notes": [list(notes) for notes in answer.notes],
        "ds": [str(stamp) for stamp in answer.ds[0]],
    }
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
