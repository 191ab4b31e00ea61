"""Is the service fast? Ours beside `mlflow models serve` and beside a bare FastAPI route, on one core.

One JSON line per case: `case, ours, peer, ratio`. The model is always the same: an LSTM of about 55 k
parameters, context 96, horizon 24, with random weights. All servers stand on one core and take turns; the
generators (wrk, and an open-loop one below) have the other cores. Figures are medians over several bursts.

    python benchmarks/serve.py [--bursts 5] [--seconds 3] [--without-mlflow]
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

CONTEXT, HORIZON, HIDDEN = 96, 24, 76
CONCURRENCY = 16
NUM_BODIES = 64
ARROW = "application/vnd.apache.arrow.stream"

BARE = """
import sys
import orjson, uvicorn
from fastapi import FastAPI, Request, Response

app = FastAPI()
answer = orjson.loads(open(sys.argv[2], "rb").read())

@app.post("/v1/forecasts")
async def forecasts(request: Request) -> Response:
    orjson.loads(await request.body())
    return Response(orjson.dumps(answer), media_type="application/json")

@app.post("/typed")
async def typed(body: dict) -> dict:
    return answer

uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="error", http="httptools", loop="uvloop")
"""

LUA = """
local bodies = {}
for line in io.lines("%s") do bodies[#bodies + 1] = line end
local turn = 0
request = function()
  turn = turn + 1
  return wrk.format("POST", "%s", {["Content-Type"] = "application/json"}, bodies[1 + turn %% #bodies])
end
"""


@dataclass(frozen=True)
class Burst:
    """What wrk measured in one burst; latencies in ms."""

    requests_per_second: float
    p50: float
    p99: float
    num_errors: int


def main() -> None:
    """Start the servers one beside the other and let them take turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bursts", type=int, default=5, help="bursts per server")
    parser.add_argument("--seconds", type=float, default=3, help="length of a burst")
    parser.add_argument("--core", type=int, default=0, help="the core that all servers share")
    parser.add_argument("--without-mlflow", action="store_true", help="leave the slow peer out")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        parser.exit(1, "wrk is missing: apt-get install wrk\n")
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = Path(scratch)
        os.environ |= {"FORECAST_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
        os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "FORECAST_QUEUE_ROWS": "512"}
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        uri = register()
        bench = Bench(folder, options)
        stack.enter_context(bench.generators_elsewhere())
        ours = stack.enter_context(bench.service())
        run(bench, stack, ours, uri, with_mlflow=not options.without_mlflow)


def run(bench: "Bench", stack: contextlib.ExitStack, ours: "Server", uri: str, *, with_mlflow: bool) -> None:
    """All cases."""
    report("ready_seconds_warm_cache", ours.ready_seconds, 2.0)
    lines = write_lines(bench.folder / "ours.jsonl", [single_body(i) for i in range(NUM_BODIES)])
    answer = bench.folder / "answer.json"
    answer.write_bytes(post(ours.url + "/v1/forecasts", lines.read_bytes().splitlines()[0]))
    bare = stack.enter_context(bench.bare(answer))
    servers = {"ours": (ours, "/v1/forecasts", lines), "bare": (bare, "/v1/forecasts", lines)}
    servers["typed"] = (bare, "/typed", lines)
    if with_mlflow:
        peer = stack.enter_context(bench.mlflow(uri))
        invocations = write_lines(bench.folder / "mlflow.jsonl", [mlflow_body(i) for i in range(NUM_BODIES)])
        servers["mlflow"] = (peer, "/invocations", invocations)
    found = take_turns(bench, servers)
    rate = {name: middle(bursts, "requests_per_second") for name, bursts in found.items()}
    report("single_requests_per_second_vs_bare_fastapi", rate["ours"], rate["bare"])
    report("single_requests_per_second_vs_typed_fastapi", rate["ours"], rate["typed"])
    if "mlflow" in rate:
        report("single_requests_per_second_vs_mlflow", rate["ours"], rate["mlflow"])
        for name in ("p50", "p99"):
            report(f"single_{name}_ms_vs_mlflow", middle(found["ours"], name), middle(found["mlflow"], name))
        report("memory_mb_vs_mlflow", ours.memory_mb(), servers["mlflow"][0].memory_mb())
    report("memory_mb_of_a_worker", ours.memory_mb(), 200)
    for share in (0.5, 0.8, 1.2):
        open_loop_case(bench, ours, lines, share, rate["ours"])
    bulk_cases(ours)


def take_turns(bench: "Bench", servers: dict[str, Any]) -> dict[str, list[Burst]]:
    """Bursts of all servers, in turns, so that what else the machine does hits all alike."""
    found: dict[str, list[Burst]] = {name: [] for name in servers}
    for turn in range(bench.options.bursts + 1):
        for name, (server, path, lines) in servers.items():
            burst = wrk(server.url, path, lines, seconds=bench.options.seconds)
            if turn:  # the first one warms up
                found[name].append(burst)
            if burst.num_errors:
                print(f"{name}: {burst.num_errors} errors", file=sys.stderr)
    return found


def report(case: str, ours: float, peer: float, **more: Any) -> None:
    """One line for one case."""
    line = {"case": case, "ours": round(ours, 3), "peer": round(peer, 3), "ratio": round(ours / peer, 3)}
    print(json.dumps(line | more), flush=True)


def middle(bursts: list[Burst], name: str) -> float:
    """The median of one figure."""
    return float(statistics.median(getattr(burst, name) for burst in bursts))


# What is asked


def history(seed: int, length: int = CONTEXT) -> list[float]:
    """An hourly series with a daily season."""
    noise = random.Random(seed)
    steps = range(length)
    return [round(100 + seed + 10 * math.sin(2 * math.pi * t / 24) + noise.gauss(0, 1), 3) for t in steps]


def single_body(seed: int) -> dict[str, Any]:
    """One series; starts differ as they do between callers."""
    start = f"2024-01-{1 + seed % 28:02d}T00:00:00"
    series = {"unique_id": f"s{seed}", "start": start, "y": history(seed)}
    return {"model": "bench", "horizon": HORIZON, "levels": [80, 95], "series": [series]}


def mlflow_body(seed: int) -> dict[str, Any]:
    """The same question as a frame."""
    first = np.datetime64(f"2024-01-{1 + seed % 28:02d}T00:00:00")
    stamps = [str(first + np.timedelta64(step, "h")) for step in range(CONTEXT)]
    rows = [[f"s{seed}", ds, y] for ds, y in zip(stamps, history(seed), strict=True)]
    frame = {"columns": ["unique_id", "ds", "y"], "data": rows}
    return {"dataframe_split": frame, "params": {"horizon": HORIZON, "levels": [80.0, 95.0]}}


def write_lines(path: Path, bodies: list[dict[str, Any]]) -> Path:
    """One body per line, for wrk's script."""
    path.write_text("\n".join(json.dumps(body, separators=(",", ":")) for body in bodies))
    return path


def post(url: str, body: bytes, **headers: str) -> bytes:
    """One request."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **names})
    with urllib.request.urlopen(request, timeout=120) as response:
        content: bytes = response.read()
    return content


# Who answers


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    url: str
    pid: int
    ready_seconds: float

    def memory_mb(self) -> float:
        """Resident memory of the process, or of its largest descendant."""
        pids = [self.pid]
        found: float = 0.0
        while pids:
            pid = pids.pop()
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                resident = re.search(r"VmRSS:\s+(\d+)", status)
                command = Path(f"/proc/{pid}/cmdline").read_text()
                if resident and "service.watcher" not in command:
                    found = max(found, float(resident[1]) / 1024)
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                pids += [int(child) for child in children.split()]
        return found


class Bench:
    """Starts what is compared, all on one core."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.options = options

    @contextlib.contextmanager
    def generators_elsewhere(self) -> Iterator[None]:
        """Keep this process and its generators off the servers' core, where there is another."""
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, (before - {self.options.core}) or before)
        yield
        os.sched_setaffinity(0, before)

    @contextlib.contextmanager
    def service(self) -> Iterator[Server]:
        """`forecast serve`, started twice: the second time the cache is warm."""
        forecast = str(Path(sys.executable).with_name("forecast"))
        for is_warm in (False, True):
            port = free_port()
            command = [forecast, "serve", "--port", str(port), "--log-level", "warning"]
            with self._server(command, port, "/readyz") as server:
                if is_warm:
                    yield server

    @contextlib.contextmanager
    def bare(self, answer: Path) -> Iterator[Server]:
        """The route that parses and answers, and does nothing."""
        port = free_port()
        command = [sys.executable, "-c", BARE, str(port), str(answer)]
        with self._server(command, port, "/openapi.json") as server:
            yield server

    @contextlib.contextmanager
    def mlflow(self, uri: str) -> Iterator[Server]:
        """`mlflow models serve` of the same version."""
        port = free_port()
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "-p", str(port)]
        with self._server([*command, "--env-manager", "local"], port, "/ping") as server:
            yield server

    @contextlib.contextmanager
    def _server(self, command: list[str], port: int, path: str) -> Iterator[Server]:
        started = time.monotonic()
        pinned = ["taskset", "-c", str(self.options.core), *command]
        with (self.folder / "servers.log").open("ab") as log:
            process = subprocess.Popen(pinned, stdout=log, stderr=log, start_new_session=True)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(url + path, process, self.folder / "servers.log")
            yield Server(url, process.pid, time.monotonic() - started)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        port: int = made.getsockname()[1]
    return port


def wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until a server answers 200."""
    for _ in range(1200):
        if process.poll() is not None:
            raise SystemExit(f"{process.args!r} ended with {process.returncode}\n{log.read_text()[-3000:]}")
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.05)
    raise SystemExit(f"{url} did not answer within a minute")


def register(seed: int = 0) -> str:
    """The model as the next version of `bench`, version 1 its champion, logged as the pipelines log it."""
    import mlflow
    import torch

    from forecast import home
    from forecast.models import artifact
    from forecast.models.calibration import Calibration
    from forecast.models.forecaster import Forecaster, ForecasterInfo
    from forecast.models.network import ForecastNetwork
    from forecast.models.spec import ModelSpec
    from forecast.models.torch_backend import TorchBackend
    from forecast.series.panel import Panel
    from forecast.training.defaults import resolve
    from pipelines import model_code

    panel = Panel.from_arrays(["s"], [history(0, 2000)], starts=["2020-01-01T00:00:00"], freq="h")
    asked = ModelSpec(
        backbone="lstm",
        horizon=HORIZON,
        context_length=CONTEXT,
        hidden_size=HIDDEN,
        num_layers=1,
        members=1,
    )
    spec, _ = resolve(asked, panel)
    torch.manual_seed(seed)
    module = ForecastNetwork(spec)
    with torch.no_grad():
        for weights in module.parameters():
            weights.add_(0.05 * torch.randn_like(weights))
    size = sum(weights.numel() for weights in module.parameters())
    print(f"LSTM of {size:,} parameters", file=sys.stderr)
    levels = tuple(spec.quantile_levels)
    widths = np.outer(np.sqrt(np.arange(1, HORIZON + 1)), np.array(levels) - 0.5).astype(np.float32)
    forecaster = Forecaster(
        info=ForecasterInfo.of(panel, spec),
        backend=TorchBackend(module),
        calibration=Calibration(quantile_levels=levels, corrections=widths, num_windows=200),
    )
    home.home().mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(home.tracking_uri())
    os.environ["MLFLOW_TRACKING_URI"] = home.tracking_uri()
    if mlflow.get_experiment_by_name("bench") is None:
        mlflow.create_experiment("bench", home.artifact_root().as_uri())
    mlflow.set_experiment("bench")
    with tempfile.TemporaryDirectory() as scratch, mlflow.start_run():
        folder = artifact.save(forecaster, Path(scratch) / "forecaster")
        info = mlflow.pyfunc.log_model(
            name="forecaster",
            python_model=str(model_code.__file__),
            artifacts={"forecaster": str(folder)},
            signature=_signature(),
            pip_requirements=["forecast"],
            registered_model_name="bench",
        )
    mlflow.MlflowClient().set_registered_model_alias("bench", "champion", "1")
    return str(info.model_uri)


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    columns = [ColSpec("string", "unique_id"), ColSpec("string", "ds"), ColSpec("double", "y")]
    params = [ParamSpec("horizon", "long", HORIZON), ParamSpec("levels", "double", [80.0, 95.0], shape=(-1,))]
    return ModelSignature(inputs=Schema([*columns]), params=ParamSchema(params))


# Who asks


def wrk(url: str, path: str, lines: Path, *, seconds: float) -> Burst:
    """One closed-loop burst of 16 connections."""
    script = lines.with_suffix(".lua")
    script.write_text(LUA % (lines, path))
    command = ["wrk", "-t1", f"-c{CONCURRENCY}", f"-d{max(1, round(seconds))}s", "--latency"]
    ended = subprocess.run(
        [*command, "--timeout", "10s", "-s", str(script), url], capture_output=True, text=True, check=True
    )
    text = ended.stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    late = re.search(r"timeout (\d+)", text)
    return Burst(
        requests_per_second=float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]),  # type: ignore[index]
        p50=_milliseconds(text, "50%"),
        p99=_milliseconds(text, "99%"),
        num_errors=(int(bad[1]) if bad else 0) + (int(late[1]) if late else 0),
    )


def _milliseconds(text: str, share: str) -> float:
    found = re.search(rf"{share}\s+([\d.]+)(us|ms|s|m)\b", text)
    if found is None:
        raise SystemExit(f"wrk said nothing of {share}:\n{text}")
    return float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}[found[2]]


def open_loop_case(bench: Bench, ours: Server, lines: Path, share: float, capacity: float) -> None:
    """The p99 of what was answered when requests come at a fixed rate, whether answers come or not."""
    rate = share * capacity
    import uvloop

    runs = [
        uvloop.run(open_loop(ours.url, lines, rate=rate, seconds=bench.options.seconds))
        for _ in range(max(1, bench.options.bursts // 2))
    ]
    found = {name: statistics.median(getattr(run, name) for run in runs) for name in vars(runs[0])}
    p99 = found.pop("p99")
    more = {"arrivals_per_second": round(rate, 1), **{name: _rounded(each) for name, each in found.items()}}
    report(f"open_loop_{round(100 * share)}_percent_p99_ms", p99, 1000 * CONCURRENCY / capacity, **more)


@dataclass(frozen=True)
class OpenLoop:
    """What came of requests at a fixed rate; ms since each was due, so that a late generator counts too."""

    p50: float
    p99: float
    refused_p99: float
    """How long it took to refuse."""
    lag_p99: float
    """How late the generator was, which is in the figures above."""
    answered: float
    """Shares of all."""
    refused: float
    answered_per_second: float


def _rounded(figure: float) -> float | None:
    """For JSON, which knows no NaN."""
    return None if math.isnan(figure) else round(figure, 4)


async def open_loop(url: str, lines: Path, *, rate: float, seconds: float) -> OpenLoop:
    """Ask at a fixed rate, whether answers come or not.

    Arrivals are a Poisson process; each takes a connection from a pool that grows as it has to.
    """
    host, port = url.removeprefix("http://").split(":")
    bodies = [_raw_request(line) for line in lines.read_bytes().splitlines()]
    loop = asyncio.get_running_loop()
    idle: list[Asking] = []
    latencies: list[float] = []
    refused: list[float] = []
    lags: list[float] = []

    def done(asking: "Asking", status: bytes) -> None:
        (latencies if status == b"200" else refused).append(time.perf_counter() - asking.due)
        lags.append(asking.sent - asking.due)
        idle.append(asking)

    async def connected(body: bytes, due: float) -> None:
        _, asking = await loop.create_connection(lambda: Asking(done), host, int(port))
        asking.ask(body, due)

    noise = random.Random(0)
    begun = due = time.perf_counter()
    opening: list[asyncio.Task[None]] = []
    total = 0
    while due < begun + seconds:
        due += noise.expovariate(rate)
        if (pause := due - time.perf_counter()) > 0:
            await asyncio.sleep(pause)
        body = bodies[total % len(bodies)]
        total += 1
        if idle:
            idle.pop().ask(body, due)
        else:
            opening.append(asyncio.create_task(connected(body, due)))
    limit = time.perf_counter() + 30
    while len(latencies) + len(refused) < total and time.perf_counter() < limit:
        await asyncio.sleep(0.02)
    for asking in idle:
        asking.transport.close()
    return OpenLoop(
        p50=_percentile(latencies, 0.5),
        p99=_percentile(latencies, 0.99),
        refused_p99=_percentile(refused, 0.99),
        lag_p99=_percentile(lags, 0.99),
        answered=len(latencies) / total,
        refused=len(refused) / total,
        answered_per_second=len(latencies) / seconds,
    )


def _percentile(seconds: list[float], share: float) -> float:
    return float(np.quantile(seconds, share)) * 1e3 if seconds else math.nan


class Asking(asyncio.Protocol):
    """One connection that asks one thing at a time."""

    transport: asyncio.Transport

    def __init__(self, done: Callable[["Asking", bytes], None]) -> None:
        self.done = done
        self.due = self.sent = 0.0
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def ask(self, body: bytes, due: float) -> None:
        """Send one request."""
        self.due = due
        self._got = b""
        self.sent = time.perf_counter()
        self.transport.write(body)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, found, rest = self._got.partition(b"\r\n\r\n")
        if found and len(rest) >= int(_LENGTH.search(head)[1]):  # type: ignore[index]
            self.done(self, head[9:12])


_LENGTH = re.compile(rb"content-length: *(\d+)", re.I)


def _raw_request(body: bytes) -> bytes:
    head = f"POST /v1/forecasts HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def bulk_cases(ours: Server, num_series: int = 1000, length: int = 512) -> None:
    """Series per second of 1,000 histories of 512 points as JSON and as Arrow; the peer of Arrow is JSON."""
    import pyarrow as pa

    ys = [history(seed, length) for seed in range(num_series)]
    ids = [f"s{index}" for index in range(num_series)]
    series = [
        {"unique_id": name, "start": "2024-01-01T00:00:00", "y": y} for name, y in zip(ids, ys, strict=True)
    ]
    asked = {"model": "bench", "horizon": HORIZON, "levels": [80, 95], "series": series}
    table = pa.table(
        {
            "unique_id": ids,
            "start": pa.array([np.datetime64("2024-01-01T00:00:00", "us")] * num_series),
            "y": pa.array(ys, pa.list_(pa.float64())),
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    as_json, as_arrow = json.dumps(asked).encode(), sink.getvalue().to_pybytes()
    target = f"{ours.url}/v1/forecasts?model=bench&horizon={HORIZON}&levels=80,95"
    seconds: dict[str, list[float]] = {"json": [], "arrow": []}
    for _ in range(5):
        started = time.perf_counter()
        post(ours.url + "/v1/forecasts", as_json)
        seconds["json"].append(time.perf_counter() - started)
        started = time.perf_counter()
        post(target, as_arrow, Content_Type=ARROW, Accept=ARROW)
        seconds["arrow"].append(time.perf_counter() - started)
    per_second = {name: num_series / statistics.median(taken) for name, taken in seconds.items()}
    report("bulk_series_per_second_arrow_vs_json", per_second["arrow"], per_second["json"])


if __name__ == "__main__":
    main()
