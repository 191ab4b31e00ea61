"""The shapes in tensor signatures are checked while networks run, so that they cannot drift."""

import subprocess
import sys

import pytest

CODE = """
from jaxtyping import install_import_hook
CHECKED = [
    "forecast.windows", "forecast.models.network", "forecast.models.tokens", "forecast.models.heads",
    "forecast.models.backbones", "forecast.training.losses", "forecast.training.step",
]
with install_import_hook(CHECKED, "beartype.beartype"):
    import numpy as np
    import forecast as fc
    from forecast.models.catalog import BACKBONES
    from forecast.series.panel import Panel
    from forecast.training.fit import fit
    from forecast.models.heads import QuantileHead
    import torch

steps = np.arange(60.0)
data = Panel.from_arrays(
    ["a", "b"], [steps + 5, steps + 9], freq="D", starts=["2001-01-01"] * 2,
    past=[{"p": steps}] * 2, known=[{"k": np.arange(64.0)}] * 2, static=[{"n": 1.0, "c": "x"}] * 2,
)
variants = [("direct", "mean_std", "log"), ("parallel", "robust", "asinh"), ("parallel", "none", "relative")]
for backbone in BACKBONES:
    for decoder, scaling, transform in variants[: 3 if backbone == "gru" else 1]:
        spec = fc.ModelSpec(
            backbone=backbone, horizon=4, context_length=14, patch_length=4, hidden_size=8, num_heads=2,
            decoder=decoder, scaling=scaling, transform=transform, calendar=True, residual="season",
            linear=True, pooling="attention", loss="mae",
        )
        fit(data, spec, fc.TrainConfig(max_steps=2), validation=6).predict(data)
try:
    QuantileHead(hidden_size=3, num_steps=1, quantile_levels=(0.1, 0.5, 0.9))(torch.zeros(2, 3))
except Exception as error:
    print(type(error).__name__)
"""


@pytest.mark.slow
def test_signatures_hold_for_every_backbone_and_a_wrong_shape_is_caught() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("TypeCheckError")
