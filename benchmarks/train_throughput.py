"""Windows trained per second, beside a peer at equal architecture, windows and batch.

    python benchmarks/train_throughput.py --peer torch
    python benchmarks/train_throughput.py --peer neuralforecast --peer-python /path/to/its/venv/bin/python

Prints one JSON line per case and nothing else: case, ours, peer (both in windows per second, medians of
interleaved repeats), ratio; peer and ratio are null where the peer cannot be run, and stderr says why.
`torch` is a bare loop over our own network. neuralforecast runs in an environment of its own, as a child
process; make it with `pip install torch==2.13.0` and then `pip install neuralforecast==3.3`.

Both sides train two layers of width 64 on 96 steps for 24, batches of 256 windows, MAE, float32. The RNNs
read step by step; the transformers have 4 heads, feed-forward layers of width 128 with GELU and patches of
8 without overlap. What cannot be made equal: our RNNs also read a mask and decode from the last state by
one linear map, where the peer's decode 24 states by two; our transformer has 12 tokens, rotary positions
and a head on the last token, the peer's has 13 (it repeats the last value to the end of one more), learned
positions and a head on all tokens. Ours alone hides parts of contexts, clips gradients and averages
weights.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CONTEXT, HORIZON, HIDDEN, BATCH = 96, 24, 64, 256
CASES = ("lstm", "gru", "transformer")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
WARM_UP = 5
"""Steps that are run and not counted."""
LEAST_STEPS = 20


def main() -> None:
    """Measure every case and print it."""
    options = parsed()
    if options.work:
        work(options)
        return
    if options.device == "cuda" and not has_gpu():
        print("torch finds no GPU here", file=sys.stderr)
        for case in options.cases:
            print(json.dumps(line(case, None, None)))
        return
    values = series(options.data)
    peer = NeuralForecast(options) if options.peer == "neuralforecast" else BareLoop(options, values)
    for case in options.cases:
        print(json.dumps(measured(case, values, peer, options)), flush=True)


def has_gpu() -> bool:
    """Whether torch can train on a GPU."""
    import torch

    return torch.cuda.is_available()


def measured(
    case: str, values: Any, peer: "BareLoop | NeuralForecast", options: argparse.Namespace
) -> dict[str, Any]:
    """The line of one case: interleaved repeats, as many as fit into its share of the seconds."""
    began, share = time.perf_counter(), options.seconds / len(options.cases)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(options.repeats):
        ours.append(our_rate(case, values, options))
        if (rate := peer.rate(case)) is not None:
            theirs.append(rate)
        if time.perf_counter() - began > share:
            break
    return line(case, statistics.median(ours), statistics.median(theirs) if theirs else None)


def line(case: str, ours: float | None, peer: float | None) -> dict[str, Any]:
    """What is printed of a case."""
    ratio = round(ours / peer, 3) if ours and peer else None
    return {
        "case": case,
        "ours": None if ours is None else round(ours),
        "peer": None if peer is None else round(peer),
        "ratio": ratio,
    }


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--peer", default="torch", choices=["torch", "neuralforecast"])
    parser.add_argument("--peer-python", default=sys.executable, help="the interpreter that has the peer")
    parser.add_argument(
        "--data", help="wide Parquet or CSV, stamps first; without it a synthetic series of 7 columns"
    )
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=180, help="no further repeat is begun after so many")
    parser.add_argument(
        "--clock",
        default="wall",
        choices=CLOCKS,
        help="cpu: seconds of the process, for a machine that others use",
    )
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps < LEAST_STEPS:
        parser.error(f"--steps is at least {LEAST_STEPS}: the first {WARM_UP} are not counted")
    if options.data and not Path(options.data).is_file():
        parser.error(f"there is no file {options.data}")
    return options


def series(path: str | None) -> Any:
    """(C, T) float64: the columns of a wide file, or noisy seasons of the shape of ETTh1's training part."""
    import numpy as np

    if path is None:
        steps = np.arange(8640)
        generator = np.random.default_rng(0)
        seasons = [
            np.sin(2 * np.pi * (steps / 24 + phase)) + np.sin(2 * np.pi * steps / 168) for phase in range(7)
        ]
        return np.stack(seasons) + 0.3 * generator.normal(size=(7, 8640))
    import pandas as pd

    frame = pd.read_parquet(path) if path.endswith(".parquet") else pd.read_csv(path)
    stamped = isinstance(frame.index, pd.DatetimeIndex)
    return frame.iloc[:8640, 0 if stamped else 1 :].to_numpy(dtype=float).T


def our_spec(case: str) -> Any:
    """The network of a case, sized as the peer's: steps as tokens for RNNs, patches for the transformer."""
    from forecast.models.spec import ModelSpec

    recurrent = case != "transformer"
    return ModelSpec(
        backbone=case,
        horizon=HORIZON,
        context_length=CONTEXT,
        patch_length=1 if recurrent else 8,
        hidden_size=HIDDEN,
        num_layers=2,
        num_heads=4,
        dropout=0.0,
        decoder="direct",
        scaling="mean_std",
        transform="none",
        residual="last",
        season_length=24,
        min_context=24,
        linear=False,
        calendar=False,
        loss="mae",
        quantile_levels=(0.5,),
    )


def our_rate(case: str, values: Any, options: argparse.Namespace) -> float:
    """Windows per second of `fit`, from the second check to the last, so that building is not counted."""
    from forecast.series.panel import Panel
    from forecast.training.config import TrainConfig
    from forecast.training.events import EpochEvent
    from forecast.training.fit import fit

    panel = Panel.from_arrays(
        [str(each) for each in range(len(values))],
        list(values),
        freq="h",
        starts=["2016-07-01"] * len(values),
    )
    checks: list[tuple[int, float]] = []

    def listen(event: EpochEvent) -> None:
        checks.append((event.step, CLOCKS[options.clock]()))

    config = TrainConfig(
        max_steps=options.steps,
        batch_size=BATCH,
        device=options.device,
        progress="quiet",
        precision="float32",
    )
    fit(panel, our_spec(case), config, on_epoch=listen, validation=0)
    counted = [(step, at) for step, at in checks if step >= WARM_UP]
    (first, began), (last, ended) = counted[0], counted[-1]
    return (last - first) * BATCH / (ended - began)


class BareLoop:
    """A plain torch loop over our network: windows gathered from one tensor, AdamW, nothing else."""

    def __init__(self, options: argparse.Namespace, values: Any) -> None:
        import torch

        self.options = options
        self.device = torch.device(options.device)
        self.values = torch.tensor(values, dtype=torch.float32, device=self.device).reshape(-1)
        starts = torch.arange(values.shape[1] - CONTEXT - HORIZON)
        self.starts = (
            (torch.arange(len(values))[:, None] * values.shape[1] + starts).reshape(-1).to(self.device)
        )
        self.span = torch.arange(CONTEXT + HORIZON, device=self.device)

    def rate(self, case: str) -> float:
        """Windows per second."""
        import torch

        from forecast.models.network import Covariates, ForecastNetwork

        torch.manual_seed(0)
        network = ForecastNetwork(our_spec(case)).to(self.device).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
        began = 0.0
        for step in range(self.options.steps):
            if step == WARM_UP:
                self._wait()
                began = CLOCKS[self.options.clock]()
            chosen = self.starts[torch.randint(len(self.starts), (BATCH,), device=self.device)]
            window = self.values[chosen[:, None] + self.span]
            level = window[:, CONTEXT - 1]
            window = window - level[:, None]
            with torch.no_grad():
                read = network.read(window[:, :CONTEXT], level)
                target = network.target(read, window[:, CONTEXT:])
            scores = network.scores(read, 0, Covariates())
            loss = (scores[..., 0] - target).abs().mean()
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
        self._wait()
        return float((self.options.steps - WARM_UP) * BATCH / (CLOCKS[self.options.clock]() - began))

    def _wait(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize()


class NeuralForecast:
    """The peer in a child process that waits for the name of a case and answers with its rate."""

    def __init__(self, options: argparse.Namespace) -> None:
        command = [
            options.peer_python,
            __file__,
            "--work",
            "--device",
            options.device,
            "--steps",
            str(options.steps),
            "--clock",
            options.clock,
        ]
        if options.data:
            command += ["--data", options.data]
        self.complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115  (lives as long as the child)
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.complaints, text=True
        )

    def rate(self, case: str) -> float | None:
        """Windows per second; None, and on stderr the reason, where the peer does not run."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        try:
            self.child.stdin.write(case + "\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            return None
        for said in self.child.stdout:
            if said.startswith("rate "):
                return float(said.split()[1])
        print(f"no figure of neuralforecast: {self._last_words()}", file=sys.stderr)
        return None

    def _last_words(self) -> str:
        self.complaints.seek(0)
        said = self.complaints.read().strip().splitlines()
        return said[-1] if said else "it ended without a word"


def work(options: argparse.Namespace) -> None:
    """Answer every case named on stdin with neuralforecast's windows per second."""
    frame = long_frame(series(options.data))
    for case in sys.stdin:
        print(f"rate {peer_rate(case.strip(), frame, options)}", flush=True)


def long_frame(values: Any) -> Any:
    """`unique_id, ds, y` of columns (C, T)."""
    import pandas as pd

    stamps = pd.date_range("2016-07-01", periods=values.shape[1], freq="h")
    columns = [pd.DataFrame({"unique_id": str(name), "ds": stamps, "y": y}) for name, y in enumerate(values)]
    return pd.concat(columns)


def peer_rate(case: str, frame: Any, options: argparse.Namespace) -> float:
    """neuralforecast's rate from the end of its fifth step to the end of its last."""
    from neuralforecast import NeuralForecast as Peer  # type: ignore[import-not-found]
    from pytorch_lightning.callbacks import Callback  # type: ignore[import-not-found]

    times: list[float] = []

    class Watch(Callback):  # type: ignore[misc]
        def on_train_batch_end(self, *_: Any, **__: Any) -> None:
            times.append(CLOCKS[options.clock]())

    Peer(models=[peer_model(case, options, Watch())], freq="h").fit(frame)
    return (len(times) - WARM_UP) * BATCH / (times[-1] - times[WARM_UP - 1])


def peer_model(case: str, options: argparse.Namespace, callback: Any) -> Any:
    """The peer's network of a case, sized as `our_spec`."""
    from neuralforecast.losses.pytorch import MAE  # type: ignore[import-not-found]
    from neuralforecast.models import GRU, LSTM, PatchTST  # type: ignore[import-not-found]

    common = {
        "h": HORIZON,
        "input_size": CONTEXT,
        "max_steps": options.steps,
        "windows_batch_size": BATCH,
        "batch_size": 32,
        "loss": MAE(),
        "scaler_type": "identity",
        "accelerator": "gpu" if options.device == "cuda" else "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [callback],
    }
    if case == "transformer":
        sizes = {"hidden_size": HIDDEN, "n_heads": 4, "encoder_layers": 2, "linear_hidden_size": 2 * HIDDEN}
        patches = {"patch_len": 8, "stride": 8, "res_attention": False}
        return PatchTST(revin=True, dropout=0.0, fc_dropout=0.0, **patches, **sizes, **common)
    network = LSTM if case == "lstm" else GRU
    sizes = {
        "encoder_hidden_size": HIDDEN,
        "encoder_n_layers": 2,
        "decoder_hidden_size": HIDDEN,
        "decoder_layers": 2,
    }
    return network(**sizes, **common)


if __name__ == "__main__":
    main()
