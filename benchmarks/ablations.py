"""What each choice of the rule of defaults is worth, and how much network the data carries.

    python benchmarks/ablations.py --data etth1.parquet --split 8640,2880,2880 --horizon 96 --seeds 2

Reads the file as `ltsf.py` does and never looks at its test part: a variant changes one thing of what the
rule decides, is trained on the training part for the same number of steps, and is scored on every
`--stride`-th window of the validation part, on which its weights were chosen too. `--capacity` varies width
against the share of the training part that is learned from, in place of the variants; `--only` takes the
variants whose names hold one of some words.

Prints one JSON line per variant: variant, mse, mse_sd (over seeds), mae, best_step, parameters, seconds,
seeds. The first line is the rule itself.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import forecast as fc
from benchmarks.ltsf import Data, learned, num_parameters, read
from forecast.models.network import Covariates
from forecast.training.events import EpochEvent
from forecast.training.step import Step
from forecast.windows.sampler import Batch
from forecast.windows.transforms import last_observed


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One change of what the rule decides."""

    name: str
    spec: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    share: float = 1.0
    """Of the training part, its newest end."""
    all_origins: bool = False
    """Whether tokens within a window are origins too, as in `origins_loss`."""


CHANGES = (
    Variant(name="the rule"),
    *(Variant(name=f"{size} steps per token", spec={"patch_length": size}) for size in (12, 24, 96)),
    *(Variant(name=f"context {length}", spec={"context_length": length}) for length in (96, 192, 336)),
    *(Variant(name=f"scaling {name}", spec={"scaling": name}) for name in ("last", "robust", "none")),
    Variant(name="transform asinh", spec={"transform": "asinh"}),
    Variant(name="added to the last season", spec={"residual": "season"}),
    *(Variant(name=f"loss {name}", spec={"loss": name}) for name in ("pinball", "mse", "huber")),
    Variant(name="direct decoder", spec={"decoder": "direct"}),
    Variant(name="direct decoder, attention", spec={"decoder": "direct", "pooling": "attention"}),
    Variant(name="with a linear map", spec={"linear": True}),
    *(Variant(name=f"dropout {share}", spec={"dropout": share}) for share in (0.0, 0.3)),
    Variant(name="two layers", spec={"num_layers": 2}),
    *(Variant(name=f"width {width}", spec={"hidden_size": width}) for width in (32, 64, 256)),
    *(Variant(name=f"rate {rate}", config={"learning_rate": rate}) for rate in (5e-4, 1e-3, 4e-3)),
    Variant(name="no averaged weights", config={"averaging": 0.0}),
    Variant(name="contexts never truncated", config={"truncate_share": 0.0}),
    Variant(name="no spans dropped", config={"drop_share": 0.0}),
    Variant(name="nothing upside down", config={"flip_share": 0.0}),
    Variant(name="two members", spec={"members": 2}),
    Variant(name="no season map", spec={"season_map": 0.0}),
    Variant(name="the season map alone", spec={"season_map": 1.0}),
    Variant(name="loss over all origins", spec={"season_map": 0.0}, all_origins=True),
)
WIDTHS, SHARES = (16, 32, 64, 128, 256), (0.1, 0.3, 1.0)


def main() -> None:
    """Print a line for every variant."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="wide Parquet or CSV, stamps first")
    parser.add_argument("--split", required=True, help="TRAIN,VAL,TEST in rows, or in shares up to 1")
    parser.add_argument("--freq", help="frequency of the rows; inferred from the stamps without it")
    parser.add_argument("--horizon", type=int, default=96)
    parser.add_argument("--model", default="gru")
    parser.add_argument("--steps", type=int, default=250, help="of each training")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--stride", type=int, default=4, help="between windows that are scored")
    parser.add_argument("--capacity", action="store_true", help="width against data, no variants")
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="parts of names of variants")
    options = parser.parse_args()
    data = read(options.data, options.split, freq=options.freq)
    for variant in capacities() if options.capacity else CHANGES:
        if any(word in variant.name for word in options.only):
            print(json.dumps(line(variant, data, options)), flush=True)


def capacities() -> Iterator[Variant]:
    """Every width with every share of the data."""
    for share in SHARES:
        for width in WIDTHS:
            yield Variant(
                name=f"{share:.0%} of the data, width {width}", spec={"hidden_size": width}, share=share
            )


def line(variant: Variant, data: Data, options: argparse.Namespace) -> dict[str, Any]:
    """The errors of a variant, means over seeds."""
    began = time.perf_counter()
    found = [score(variant, data, options, seed=seed) for seed in range(options.seeds)]
    mses = [each["mse"] for each in found]
    return {
        "variant": variant.name,
        "mse": round(statistics.mean(mses), 4),
        "mse_sd": round(statistics.stdev(mses), 4) if len(mses) > 1 else None,
        "mae": round(statistics.mean(each["mae"] for each in found), 4),
        "best_step": [each["best_step"] for each in found],
        "parameters": found[0]["parameters"],
        "seconds": round((time.perf_counter() - began) / len(found), 1),
        "seeds": options.seeds,
    }


def score(variant: Variant, data: Data, options: argparse.Namespace, *, seed: int) -> dict[str, Any]:
    """Train one variant and forecast the validation part."""
    first = data.train_end - int(variant.share * data.train_end)
    spec = fc.ModelSpec(backbone=options.model, horizon=options.horizon)
    whole = fc.TrainConfig(seed=seed, max_steps=options.steps, progress="quiet")
    checks: list[EpochEvent] = []
    with all_origins() if variant.all_origins else nullcontext():
        forecaster = fc.fit(
            learned(data, first),
            spec.with_(**variant.spec),
            replace(whole, **variant.config),
            validation=data.validation_end - data.train_end,
            on_epoch=checks.append,
        )
    errors = apart(forecaster, data, options)
    best = min(checks, key=lambda event: event.validation_loss or 0.0)
    return {
        "mse": float((errors**2).mean()),
        "mae": float(np.abs(errors).mean()),
        "best_step": best.step,
        "parameters": num_parameters(forecaster),
    }


@contextmanager
def all_origins() -> Iterator[None]:
    """Train GRUs by `origins_loss` as long as this lasts; held-out windows are scored as ever."""
    usual = Step.loss

    def loss(step: Step, batch: Batch, scores: Any) -> Tensor:
        here = usual(step, batch, scores)
        return here if scores is step.averaged else (here + origins_loss(step, batch)) / 2

    with patch.object(Step, "loss", loss):
        yield


def origins_loss(step: Step, batch: Batch, most: int = 4) -> Tensor:
    """The loss of forecasts from the ends of `most` random tokens in the newer half of every window.

    What follows such an end is the rest of the context, then the target; what lies beyond counts as missing.
    For GRUs around the last value.
    """
    member: Any = step.module
    window, target = step.seen(batch)
    tokens = member.tokens(member._channels(window.scores, window.observed, None, Covariates()))
    states = member.backbone(tokens)
    length, horizon, size = window.scores.shape[1], step.network.spec.horizon, member.patch_length
    context = torch.where(window.observed, window.scores, torch.nan)
    known = torch.cat([context, target + last_observed(window.scores, window.observed)], dim=1)
    known = torch.nn.functional.pad(known, (0, horizon), value=torch.nan)
    queries = member.positions.expand(len(tokens), -1, -1)
    total = target.new_zeros(())
    for place in torch.randperm(tokens.shape[1] // 2)[:most].tolist():
        end = length - (place + 1) * size
        last = last_observed(window.scores[:, :end], window.observed[:, :end])
        start = states[None, :, tokens.shape[1] - 2 - place].repeat_interleave(queries.shape[1], dim=1)
        decoded = member.backbone.run(queries.reshape(-1, 1, queries.shape[2]), start)[0]
        decoded = decoded.reshape(len(tokens), queries.shape[1], -1)
        quantiles = member.head(member.dropout(decoded), detach_widths=True)[:, :horizon]
        total = total + step.measured(quantiles, known[:, end : end + horizon] - last, window, batch)
    mean: Tensor = total / min(most, tokens.shape[1] // 2)
    return mean


def apart(forecaster: Any, data: Data, options: argparse.Namespace) -> NDArray[np.float64]:
    """Median minus truth, (windows, horizon), over every channel of the validation part."""
    length, horizon = forecaster.context_length, options.horizon
    middle = forecaster.quantile_levels.index(0.5)
    found = []
    for channel in data.values:
        padded = np.pad(channel, (length, 0), constant_values=np.nan)
        starts = np.arange(data.train_end, data.validation_end - horizon + 1, options.stride)
        contexts = np.lib.stride_tricks.sliding_window_view(padded, length)[starts]
        targets = np.lib.stride_tricks.sliding_window_view(channel, horizon)[starts]
        found.append(forecaster.predict_windows(contexts)[..., middle] - targets)
    return np.concatenate(found).astype(np.float64)


if __name__ == "__main__":
    main()
