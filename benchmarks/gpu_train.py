"""Training on one GPU: every variant of the step against eager and against the bound, and seconds to a loss.

    python benchmarks/gpu_train.py --peer neuralforecast --peer-python /path/to/its/venv/bin/python

The bound is the same network's step as one CUDA graph over synthetic tensors that never leave the device: no
windows, no checks. Prints one JSON line per case and nothing else (case, ours, peer, ratio): windows per
second, and the seconds until the held-out loss is below `--target`. neuralforecast is compared by its rate of
training alone. Without a GPU the figures are null and stderr says why.
"""

import argparse
import json
import statistics
import sys
import time
from typing import Any

import train_throughput as shared  # type: ignore[import-not-found]

VARIANTS: dict[str, dict[str, Any]] = {
    "eager": {"precision": "float32", "cuda_graphs": False},
    "bf16": {"precision": "bf16", "cuda_graphs": False},
    "bf16 compiled": {"precision": "bf16", "cuda_graphs": False, "compile": True},
    "graph": {"precision": "float32", "cuda_graphs": True},
    "bf16 graph": {"precision": "bf16", "cuda_graphs": True},
}


def main() -> None:
    """Measure every variant of every case."""
    options = parsed()
    import torch

    if not torch.cuda.is_available():
        print("torch finds no GPU here", file=sys.stderr)
        for case in options.cases:
            print(json.dumps(shared.line(case, None, None)))
        return
    values = shared.series(options.data)
    for case in options.cases:
        bound = statistics.median(bound_rate(case, options) for _ in range(options.repeats))
        for name, changes in VARIANTS.items():
            ours = statistics.median(rate(case, values, options, changes)[0] for _ in range(options.repeats))
            print(json.dumps(shared.line(f"{case} {name}", ours, bound)), flush=True)
        beside_peer(case, values, options)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", default="torch", choices=["torch", "neuralforecast"])
    parser.add_argument("--peer-python", default="python")
    parser.add_argument("--data", help="wide Parquet or CSV, stamps first; without it a synthetic series")
    parser.add_argument("--cases", nargs="+", default=list(shared.CASES), choices=shared.CASES)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--target", type=float, default=0.35, help="loss in scales of the window")
    return parser.parse_args()


def rate(
    case: str, values: Any, options: argparse.Namespace, changes: dict[str, Any], validation: int = 0
) -> tuple[float, Any]:
    """Windows per second of `fit` after its first checks, and (seconds, validation loss) of every check."""
    from forecast.series.panel import Panel
    from forecast.training.config import TrainConfig
    from forecast.training.events import EpochEvent
    from forecast.training.fit import fit

    names = [str(each) for each in range(len(values))]
    panel = Panel.from_arrays(names, list(values), freq="h", starts=["2016-07-01"] * len(values))
    checks: list[tuple[int, float, float | None]] = []

    def listen(event: EpochEvent) -> None:
        checks.append((event.step, time.perf_counter(), event.validation_loss))

    began = time.perf_counter()
    config = TrainConfig(
        max_steps=options.steps, batch_size=shared.BATCH, device="cuda", progress="quiet", **changes
    )
    fit(panel, shared.our_spec(case), config, on_epoch=listen, validation=validation)
    first, last = checks[len(checks) // 4], checks[-1]
    speed = (last[0] - first[0]) * shared.BATCH / (last[1] - first[1])
    return speed, [(at - began, loss) for _, at, loss in checks]


def bound_rate(case: str, options: argparse.Namespace) -> float:
    """Windows per second of forward, backward and AdamW as one CUDA graph over one synthetic batch."""
    import torch

    from forecast.models.network import ForecastNetwork
    from forecast.training.config import TrainConfig
    from forecast.training.step import GraphedStep, Step
    from forecast.windows.sampler import Batch

    device = torch.device("cuda")
    torch.manual_seed(0)
    network = ForecastNetwork(shared.our_spec(case)).to(device).train()
    step = GraphedStep(Step(network, 0, TrainConfig(precision="bf16"), weight_decay=0.01, device=device))
    batch = Batch(
        context=torch.randn(shared.BATCH, shared.CONTEXT, device=device),
        level=torch.zeros(shared.BATCH, device=device),
        target=torch.randn(shared.BATCH, shared.HORIZON, device=device),
        weight=torch.ones(shared.BATCH, device=device),
        usual_size=torch.zeros(shared.BATCH, device=device),
        upright=torch.ones(shared.BATCH, device=device),
    )
    for number in range(2 * GraphedStep.WARM_UP):
        step(batch, learning_rate=1e-3, number=number)
    assert step.graph is not None
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(options.steps):
        step.graph.replay()
    torch.cuda.synchronize()
    return float(options.steps * shared.BATCH / (time.perf_counter() - began))


def beside_peer(case: str, values: Any, options: argparse.Namespace) -> None:
    """Seconds until our loss on held-out windows is below the target, and our rate beside the peer's."""
    speed, losses = rate(case, values, options, VARIANTS["bf16 graph"], validation=864)
    reached = [seconds for seconds, loss in losses if loss is not None and loss < options.target]
    seconds = round(reached[0], 2) if reached else None
    print(json.dumps({**shared.line(f"{case} seconds to {options.target}", None, None), "ours": seconds}))
    if options.peer == "neuralforecast":
        child = argparse.Namespace(**{**vars(options), "device": "cuda", "clock": "wall"})
        theirs = shared.NeuralForecast(child).rate(case)
        print(json.dumps(shared.line(f"{case} beside neuralforecast", speed, theirs)), flush=True)


if __name__ == "__main__":
    main()
