"""A training that is killed outright goes on exactly where its last checkpoint stood."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import forecast as fc
from forecast.series.panel import Panel
from forecast.training.checkpoint import FILE

CODE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_kill import config, panel, spec
import forecast as fc
fc.fit(panel(), spec(), config(Path(sys.argv[2])))
"""


def panel() -> Panel:
    values = np.random.default_rng(0).normal(size=200).cumsum() + 100
    return Panel.from_arrays(["a"], [values], freq="D", starts=["2001-01-01"])


def spec() -> fc.ModelSpec:
    return fc.ModelSpec(horizon=4, context_length=16, hidden_size=8, dropout=0.2)


def config(folder: Path | None) -> fc.TrainConfig:
    return fc.TrainConfig(max_steps=150, checkpoint=folder, checkpoint_seconds=0.05)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_training_ends_with_the_tensors_of_an_uninterrupted_one(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    child = subprocess.Popen([sys.executable, "-c", CODE, here, str(tmp_path)], env={**os.environ})
    deadline = time.monotonic() + 120
    while not (tmp_path / FILE).exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert (tmp_path / FILE).exists()
    resumed = fc.fit(panel(), spec(), config(None), resume_from=tmp_path).backend.tensors()
    whole = fc.fit(panel(), spec(), config(None)).backend.tensors()
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)
