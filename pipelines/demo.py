"""`forecast demo`: the main job on real data, through the same commands and the same HTTP that users have."""

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import typer

from forecast.errors import ForecastError
from forecast.home import home, is_embedded, tracking_uri
from pipelines.commands import METRICS

RECIPE = "air_passengers"
LEVELS = (80, 95)
SERVICE_START_SECONDS = 60.0

Json = Mapping[str, Any]


def demo() -> None:
    """Train on 144 months of real air passengers, promote the best model, serve it and ask it over HTTP."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the service is stopped with us
    _headline("1/3  train three networks, compare them with the baselines, promote the best")
    result = _retrain()
    _headline("2/3  serve the champion and ask it over HTTP")
    request = _write_request()
    with _running_service() as url:
        answer = _post(f"{url}/v1/forecasts", request.read_bytes())
    _headline("3/3  what came back")
    _print_comparison(result)
    _print_forecast(answer)
    _print_plot(answer)
    _print_next_steps(result, request)


def _headline(text: str) -> None:
    from rich.console import Console

    Console().rule(f"[bold]{text}", align="left")


def _command() -> list[str]:
    """This installation's `forecast`, found beside the running Python."""
    return [str(Path(sys.executable).with_name("forecast"))]


def _retrain() -> Json:
    """The JSON result of `forecast retrain`; its progress goes to our stderr as it comes."""
    finished = subprocess.run([*_command(), "retrain", RECIPE, "--json"], stdout=subprocess.PIPE, text=True)
    if finished.returncode:
        raise typer.Exit(finished.returncode)
    result: Json = json.loads(finished.stdout)
    print(f"{result['verdict']}: {result['reason']}")
    return result


def _write_request() -> Path:
    """The body of the forecast request, kept in a file so that it can be sent again."""
    from forecast.series.datasets import load

    frame = load(RECIPE)
    series = {
        "unique_id": str(frame["unique_id"].iloc[0]),
        "start": frame["ds"].iloc[0].date().isoformat(),
        "y": frame["y"].tolist(),
    }
    path = home() / "demo-request.json"
    path.write_text(json.dumps({"model": RECIPE, "horizon": 12, "levels": LEVELS, "series": [series]}))
    return path


@contextmanager
def _running_service() -> Iterator[str]:
    """The real service on a free port, ready to answer; stopped, with all its processes, at the end."""
    service = subprocess.Popen(
        [*_command(), "serve", "--port", "0", "--log-level", "warning"], stdout=subprocess.PIPE, text=True
    )
    try:
        url = _announced_address(service)
        _wait_until_ready(f"{url}/readyz", service)
        print(f"ready at {url}")
        yield url
    finally:
        service.terminate()
        try:
            service.wait(timeout=15)
        except subprocess.TimeoutExpired:
            service.kill()
            service.wait()


def _announced_address(service: subprocess.Popen[str]) -> str:
    assert service.stdout is not None
    for line in service.stdout:
        if "http://" in line:
            return line[line.index("http://") :].strip()
    raise ForecastError(
        f"the service ended with exit code {service.wait()} before it listened; see its message above"
    )


def _wait_until_ready(url: str, service: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + SERVICE_START_SECONDS
    while _status(url) != 200:
        if service.poll() is not None or time.monotonic() > deadline:
            raise ForecastError(f"the service was not ready within {SERVICE_START_SECONDS:.0f} s: {url}")
        time.sleep(0.1)


def _status(url: str) -> int:
    """The HTTP status of a GET, 0 where nobody answers."""
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=5) as response:
            return int(response.status)
    except HTTPError as error:
        return error.code
    except (URLError, OSError):
        return 0


def _post(url: str, body: bytes) -> Json:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    print(f"POST {url}")
    request = Request(url, data=body, headers={"content-type": "application/json"})
    try:
        with urlopen(request, timeout=60) as response:
            answer: Json = json.load(response)
            return answer
    except HTTPError as error:
        raise ForecastError(
            f"the service answered {error.code}: {error.read(2000).decode(errors='replace')}"
        ) from error


def _print_comparison(result: Json) -> None:
    from rich.console import Console
    from rich.table import Table

    metric = _gate_metric()
    title = f"All models on the same unseen months (best {metric} first)"
    table = Table(title=title, title_justify="left")
    table.add_column("model", no_wrap=True)
    for title in METRICS.values():
        table.add_column(title, justify="right")
    for candidate in sorted(result["candidates"], key=lambda each: _rank(each["metrics"].get(metric))):
        table.add_row(candidate["name"], *(_number(candidate["metrics"].get(metric)) for metric in METRICS))
    Console().print(table)
    print("wql: error of all quantiles as a share of the values; mase: error over that of last season;")
    print("in 80 %, in 95 %: share of months inside these intervals. naive and drift are baselines.")
    print("The champion is chosen on earlier months than these, so it need not stand first.")


def _gate_metric() -> str:
    """What the recipe compares models by."""
    from pipelines import recipe

    return recipe.load(RECIPE).gate.metric


def _rank(value: float | None) -> float:
    return math.inf if value is None else value


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _print_forecast(answer: Json) -> None:
    from rich.console import Console
    from rich.table import Table

    model, forecast = answer["model"], answer["forecasts"][0]
    title = f"Passengers (thousands), {model['name']} version {model['version']} ({model['alias']})"
    table = Table(title=title, title_justify="left")
    columns = ["median", *(f"{side}-{level}" for level in LEVELS for side in ("lo", "hi"))]
    for column in ["month", *columns]:
        table.add_column(column, justify="right")
    for step, stamp in enumerate(forecast["ds"]):
        table.add_row(stamp[:7], *(f"{forecast[column][step]:.1f}" for column in columns))
    Console().print(table)
    if forecast["notes"]:
        print("notes:", ", ".join(forecast["notes"]), "(see docs/http-api.md)")


def _print_plot(answer: Json) -> None:
    """The last four years and the forecast with its 80 % interval, drawn with characters."""
    import plotext

    from forecast.series.datasets import load

    history = load(RECIPE)["y"].tolist()[-48:]
    forecast = answer["forecasts"][0]
    future = range(len(history), len(history) + len(forecast["median"]))
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(100, 22)
    plotext.plot(range(len(history)), history, label="history", marker="braille")
    plotext.scatter(future, forecast["median"], label="median", marker="●")
    plotext.scatter(future, forecast["lo-80"], label="80 % interval", marker="▁")
    plotext.scatter(future, forecast["hi-80"], marker="▔")
    plotext.xticks(range(0, len(history) + 12, 12), ["1957", "1958", "1959", "1960", "1961"])
    print(plotext.uncolorize(plotext.build()))


def _print_next_steps(result: Json, request: Path) -> None:
    prefix = _environment("FORECAST_HOME")
    forecast = shlex.join(_relative(_command()))
    print("\nNext:")
    print("  compare the models in the MLflow UI")
    for line in _mlflow_ui(result):
        print(f"    {line}")
    print("  serve the champion, and ask it again from another terminal")
    print(f"    {prefix}{forecast} serve --port 8000")
    print(
        "    curl -s http://127.0.0.1:8000/v1/forecasts -H 'content-type: application/json' "
        f"-d @{shlex.quote(str(request))}"
    )
    print("  train on your own data: a CSV or Parquet file with a column of stamps and one of values")
    print(f"    {prefix}{forecast} recipe new sales --data sales.csv --horizon 14")
    print(f"    {prefix}{forecast} retrain sales")


def _mlflow_ui(result: Json) -> Sequence[str]:
    """The commands and the link that show this recipe's runs; the link opens the UI in its ML mode."""
    page = _page(result, metric=_gate_metric())
    if not is_embedded():
        return [f"open '{tracking_uri().rstrip('/')}/{page}'"]
    mlflow = shlex.join(_relative([str(Path(sys.executable).with_name("mlflow"))]))
    store = shlex.quote(tracking_uri())
    return [
        f"{mlflow} server --backend-store-uri {store} --workers 1 --port 5000",
        f"open 'http://127.0.0.1:5000/{page}'",
    ]


def _page(result: Json, *, metric: str) -> str:
    """The candidates of this retrain, the best by `metric` first."""
    asked = {
        "workflowType": "machine_learning",
        "searchFilter": f"tags.`mlflow.parentRunId` = '{result['run_id']}'",
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": "true",
    }
    return f"#/experiments/{_experiment_id(result)}/runs?{urlencode(asked, quote_via=quote)}"


def _experiment_id(result: Json) -> str:
    from pipelines.tracking import client

    return str(client().get_run(result["run_id"]).info.experiment_id)


def _environment(name: str) -> str:
    return f"{name}={shlex.quote(os.environ[name])} " if name in os.environ else ""


def _relative(command: list[str]) -> list[str]:
    """The program's path as short as it can be typed from here."""
    program = Path(command[0])
    here = Path.cwd()
    return [str(program.relative_to(here)) if program.is_relative_to(here) else str(program), *command[1:]]
