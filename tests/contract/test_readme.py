"""What the README shows is run as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def test_the_python_example_runs(tmp_path: Path) -> None:
    (example,) = blocks("python")
    finished = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "unique_id" in finished.stdout
    assert "hi-95" in finished.stdout
    assert (tmp_path / "air-model" / "weights.safetensors").exists()


def test_every_file_the_readme_points_to_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def write_sales(path: Path) -> None:
    """Two shops, 400 days with a weekly pattern: what the README's examples suppose."""
    import pandas as pd

    days = pd.date_range("2025-01-01", periods=400, freq="D")
    shops = [
        pd.DataFrame({"shop": shop, "day": days, "units": level + days.dayofweek * 2 + days.day % 3})
        for shop, level in (("north", 20), ("south", 55))
    ]
    pd.concat(shops).to_csv(path, index=False)


def commands(block: str) -> list[str]:
    """The lines of a shell block, without comments and without what CI runs itself."""
    lines = [line.split("#")[0].strip() for line in block.splitlines()]
    return [line for line in lines if line.startswith("forecast ")]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_service_commands_run_in_order(tmp_path: Path) -> None:
    write_sales(tmp_path / "sales.csv")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    shown = commands(blocks("sh")[1])
    served = shown.pop()
    for command in shown:
        finished = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert finished.returncode == 0, f"{command}\n{finished.stderr}"
    assert (tmp_path / "forecast.csv").read_text().startswith("unique_id,ds,median,lo-80,hi-80")
    assert_curl_answers(served, blocks("sh")[2], tmp_path, environment)


def assert_curl_answers(serve: str, curl: str, folder: Path, environment: dict[str, str]) -> None:
    """Start the shown service on a free port and send the shown request to it."""
    import json
    import urllib.request

    body = curl.split("-d '")[1].rsplit("'", 1)[0]
    command = serve.replace("--port 8000", "--port 0")
    with subprocess.Popen(
        f"exec {command}", shell=True, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as service:
        assert service.stdout is not None
        try:
            url = next(line for line in service.stdout if "http://" in line).split()[-1]
            wait_until_ready(url)
            request = urllib.request.Request(
                f"{url}/v1/forecasts", body.encode(), {"content-type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as response:
                answer = json.load(response)
        finally:
            service.terminate()
    assert len(answer["forecasts"][0]["median"]) == 3
    assert answer["forecasts"][0]["lo-80"] < answer["forecasts"][0]["hi-80"]


def wait_until_ready(url: str, seconds: float = 60.0) -> None:
    import time
    import urllib.error
    import urllib.request

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"{url} was not ready within {seconds:.0f} s")
