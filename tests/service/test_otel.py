"""OpenTelemetry when it is asked for: real spans by OTLP to a real receiver, and nothing otherwise."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from forecast.errors import SpecError
from service.app import create_app
from service.settings import Settings

ASK = """
import httpx
from service.settings import Settings
from tests.service.builders import Registry, baseline, request_body
from tests.service.live import listening
Registry().add("air", "1", baseline(), "champion")
with listening(Settings.from_environment()) as (host, port):
    url, headers = f"http://{host}:{port}", {"traceparent": "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"}
    assert httpx.post(url + "/v1/forecasts", json=request_body(), headers=headers).status_code == 200
    assert httpx.get(url + "/livez").status_code == 200
"""


@pytest.mark.parametrize("is_asked_for", [True, False])
def test_spans_are_sent_when_asked_for(tmp_path: Path, is_asked_for: bool) -> None:
    received: list[tuple[str, bytes]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            received.append((self.path, content))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        **os.environ,
        "FORECAST_HOME": str(tmp_path),
        "FORECAST_OTEL": str(is_asked_for),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_SERVICE_NAME": "forecast-tests",
    }
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", ASK], cwd=root, env=environment, capture_output=True, text=True
    )
    server.shutdown()
    server.server_close()
    assert done.returncode == 0, done.stderr
    spans = b"".join(content for path, content in received if path == "/v1/traces")
    assert (b"/v1/forecasts" in spans) == is_asked_for
    assert (bytes.fromhex("ab" * 16) in spans) == is_asked_for
    assert b"/livez" not in spans


def test_without_the_packages_the_setting_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r"forecast\[otel\]"):
        create_app(Settings(otel=True))
