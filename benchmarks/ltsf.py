"""Accuracy by the standard long-horizon protocol, with the rule of defaults and nothing tuned.

    python benchmarks/ltsf.py --data etth1.parquet --split 8640,2880,2880 --horizons 96 --models gru

The file's first column holds the stamps, every other column is a channel. Channels are scaled by the mean
and deviation of the training part and forecast one by one by a single network. Errors are means over all
channels and all windows of the test part at stride 1, the last ones too; contexts may reach back before
it. Weights are chosen on the validation part, which no step learns from. `--split` takes rows, or shares
of the rows: training is then int(train * n), test int(test * n), and validation what lies between.

Prints one JSON line per model and horizon and nothing else: model, horizon, mse, mae, mse_sd (over seeds;
null for one), val_mse, seconds (of one training), parameters, seeds. The naive forecasts have lines of
their own.

Protocol: Zeng et al., "Are transformers effective for time series forecasting?", 2023, without their dropped
last batch.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import forecast as fc

CHUNK = 512
"""Windows that are forecast at once."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Scaled channels (C, T) and where the training and the validation part end."""

    values: NDArray[np.float64]
    stamps: NDArray[Any]
    freq: str | int
    season_length: int
    names: tuple[str, ...]
    train_end: int
    validation_end: int
    test_end: int


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Mean errors over all windows of a part."""

    mse: float
    mae: float


def main() -> None:
    """Print the naive forecasts and every model for every horizon."""
    options = parsed()
    data = read(options.data, options.split, freq=options.freq)
    for horizon in options.horizons:
        for name in ("naive", "seasonal_naive"):
            print(json.dumps(naive_line(name, data, horizon)), flush=True)
        for model in options.models:
            print(json.dumps(model_line(model, data, horizon, options)), flush=True)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="wide Parquet or CSV, stamps first")
    parser.add_argument("--split", required=True, help="TRAIN,VAL,TEST in rows, or in shares up to 1")
    parser.add_argument("--horizons", nargs="+", type=int, default=[96, 192, 336, 720])
    parser.add_argument("--models", nargs="+", default=["lstm", "gru", "transformer"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--freq", help="frequency of the rows; inferred from the stamps without it")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def read(path: str, split: str, *, freq: str | None) -> Data:
    """The channels of a wide file, scaled by their training part."""
    frame = pd.read_parquet(path) if Path(path).suffix == ".parquet" else pd.read_csv(path)
    raw = frame.iloc[:, 1:].to_numpy(dtype=np.float64).T
    train_end, validation_end, test_end = ends(split, raw.shape[1])
    trained = raw[:, :train_end]
    center = np.nanmean(trained, axis=1, keepdims=True)
    size = np.nanstd(trained, axis=1, keepdims=True)
    size = np.where(size > 0, size, 1.0)
    stamps = frame.iloc[:, 0]
    stamps = stamps if pd.api.types.is_integer_dtype(stamps) else pd.to_datetime(stamps)
    inferred = freq or pd.infer_freq(stamps.iloc[:100]) if stamps.dtype.kind == "M" else 1
    if inferred is None:
        sys.exit("the stamps have no regular frequency; name one by --freq")
    panel = fc.from_frame(
        pd.DataFrame({"unique_id": "0", "ds": stamps[:100], "y": raw[0, :100]}), freq=inferred
    )
    return Data(
        values=(raw - center) / size,
        stamps=stamps.to_numpy(),
        freq=inferred,
        season_length=panel.season_length,
        names=tuple(str(name) for name in frame.columns[1:]),
        train_end=train_end,
        validation_end=validation_end,
        test_end=test_end,
    )


def ends(split: str, num_rows: int) -> tuple[int, int, int]:
    """Where the three parts end; shares where no number of `split` is above 1."""
    numbers = [float(part) for part in split.split(",")]
    if len(numbers) != 3 or min(numbers) <= 0:
        sys.exit(f"--split takes three numbers above zero, TRAIN,VAL,TEST; got {split!r}")
    if max(numbers) <= 1:
        train, test = int(numbers[0] * num_rows), int(numbers[2] * num_rows)
        return train, num_rows - test, num_rows
    train, validation, test = (int(number) for number in numbers)
    if train + validation + test > num_rows:
        sys.exit(f"--split asks for {train + validation + test} rows and the file has {num_rows}")
    return train, train + validation, train + validation + test


def naive_line(name: str, data: Data, horizon: int) -> dict[str, Any]:
    """The errors of repeating the last value or the last season."""
    season = 1 if name == "naive" else data.season_length

    def repeat(contexts: NDArray[np.float64]) -> NDArray[np.float64]:
        return contexts[:, np.arange(horizon) % season - season]

    test, validation = both_parts(repeat, data, context_length=season, horizon=horizon)
    return as_line(name, horizon, test=[test], validation=[validation], seconds=[0.0], parameters=0, seeds=1)


def model_line(model: str, data: Data, horizon: int, options: argparse.Namespace) -> dict[str, Any]:
    """The errors of one network, trained once per seed."""
    tests, validations, seconds, parameters = [], [], [], 0
    for seed in range(options.seeds):
        began = time.perf_counter()
        forecaster = trained(model, data, horizon, seed=seed, device=options.device)
        seconds.append(time.perf_counter() - began)
        middle = forecaster.quantile_levels.index(0.5)

        def median(
            contexts: NDArray[np.float64], fitted: Any = forecaster, place: int = middle
        ) -> NDArray[np.float64]:
            answer: NDArray[np.float64] = fitted.predict_windows(contexts)[..., place].astype(np.float64)
            return answer

        length = forecaster.context_length
        test, validation = both_parts(median, data, context_length=length, horizon=horizon)
        tests.append(test)
        validations.append(validation)
        parameters = num_parameters(forecaster)
    return as_line(
        model,
        horizon,
        test=tests,
        validation=validations,
        seconds=seconds,
        parameters=parameters,
        seeds=options.seeds,
    )


def num_parameters(forecaster: Any) -> int:
    """Numbers that the network and its season map learned."""
    weights = forecaster.backend.tensors()
    return sum(each.size for name, each in weights.items() if name.startswith(("members.", "season_map.")))


def trained(model: str, data: Data, horizon: int, *, seed: int, device: str) -> Any:
    """A forecaster by the rule of defaults, its weights chosen on the validation part."""
    config = fc.TrainConfig(seed=seed, device=device)
    spec = fc.ModelSpec(backbone=model, horizon=horizon)
    return fc.fit(learned(data), spec, config, validation=data.validation_end - data.train_end)


def learned(data: Data, first: int = 0) -> fc.Panel:
    """The rows from `first` to the end of the validation part as a panel."""
    rows = slice(first, data.validation_end)
    return fc.Panel.from_arrays(
        list(data.names),
        [channel[rows] for channel in data.values],
        freq=data.freq,
        ds=[data.stamps[rows]] * len(data.names),
    )


def both_parts(predict: Any, data: Data, *, context_length: int, horizon: int) -> tuple[Errors, Errors]:
    """Errors on the test part and on the validation part."""
    parts = ((data.validation_end, data.test_end), (data.train_end, data.validation_end))
    test, validation = (
        errors(predict, data.values, first=first, end=end, context_length=context_length, horizon=horizon)
        for first, end in parts
    )
    return test, validation


def errors(
    predict: Any,
    values: NDArray[np.float64],
    *,
    first: int,
    end: int,
    context_length: int,
    horizon: int,
) -> Errors:
    """Mean errors over every origin from `first` whose targets end by `end`, all channels."""
    squared, absolute, count = 0.0, 0.0, 0
    padded = np.pad(values, ((0, 0), (context_length, 0)), constant_values=np.nan)
    for channel in range(len(values)):
        contexts = np.lib.stride_tricks.sliding_window_view(padded[channel], context_length)
        targets = np.lib.stride_tricks.sliding_window_view(values[channel], horizon)
        for start in range(first, end - horizon + 1, CHUNK):
            stop = min(start + CHUNK, end - horizon + 1)
            apart = predict(contexts[start:stop]) - targets[start:stop]
            squared += float(np.nansum(apart**2))
            absolute += float(np.nansum(np.abs(apart)))
            count += int(np.isfinite(apart).sum())
    return Errors(mse=squared / max(count, 1), mae=absolute / max(count, 1))


def as_line(
    model: str,
    horizon: int,
    *,
    test: list[Errors],
    validation: list[Errors],
    seconds: list[float],
    parameters: int,
    seeds: int,
) -> dict[str, Any]:
    """What is printed: means over seeds."""
    mses = [each.mse for each in test]
    return {
        "model": model,
        "horizon": horizon,
        "mse": round(statistics.mean(mses), 4),
        "mae": round(statistics.mean(each.mae for each in test), 4),
        "mse_sd": round(statistics.stdev(mses), 4) if len(mses) > 1 else None,
        "val_mse": round(statistics.mean(each.mse for each in validation), 4),
        "seconds": round(statistics.mean(seconds), 1),
        "parameters": parameters,
        "seeds": seeds,
    }


if __name__ == "__main__":
    main()
