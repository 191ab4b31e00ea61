"""A cache folder filled without MLflow, tiny models for it, and clients of the real application."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI

from forecast import home
from forecast.models import artifact
from forecast.models.baselines import baseline_backend
from forecast.models.calibration import Calibration
from forecast.models.forecaster import Forecaster, ForecasterInfo
from forecast.models.identity import Identity
from forecast.models.spec import ModelSpec
from forecast.series.panel import Panel
from service.app import create_app
from service.manifest import Cache, CachedVersion, Manifest, digest_of
from service.settings import Settings

MONTHS = 48
"""Steps that the monthly model was trained on."""


def monthly_values(num_steps: int = MONTHS) -> list[float]:
    """A trend with a yearly season."""
    steps = np.arange(num_steps)
    return [round(float(v), 3) for v in 100 + steps + 10 * np.sin(2 * np.pi * steps / 12)]


def panel(freq: str | int = "MS", *, start: Any = "2020-01-01", num_steps: int = MONTHS) -> Panel:
    """One series named AP."""
    values = np.array(monthly_values(num_steps))
    return Panel.from_arrays(["AP"], [values], starts=[start], freq=freq)


def baseline(
    backbone: str = "seasonal_naive",
    *,
    freq: str | int = "MS",
    start: Any = "2020-01-01",
    horizon: int = 6,
    **spec: Any,
) -> Forecaster:
    """A baseline with made-up calibrated widths: it needs no training."""
    trained_on = panel(freq, start=start)
    asked = ModelSpec(backbone=backbone, horizon=horizon, context_length=36, **spec)
    info = ForecasterInfo.of(trained_on, asked)
    widths = np.outer(np.sqrt(np.arange(1, horizon + 1)), np.array(info.quantile_levels) - 0.5)
    calibration = Calibration(
        quantile_levels=info.quantile_levels, corrections=widths.astype(np.float32), num_windows=200
    )
    backend = baseline_backend(info)
    return Forecaster(info=info, backend=backend, calibration=calibration, identity=Identity.of(trained_on))


def network(trained_on: Panel, **spec: Any) -> Forecaster:
    """A tiny network with random weights, as training would hand it over."""
    import torch

    from forecast.models.network import ForecastNetwork
    from forecast.models.torch_backend import TorchBackend
    from forecast.training.defaults import resolve

    asked = {"horizon": 6, "context_length": 24, "hidden_size": 8, "members": 1, **spec}
    resolved, _ = resolve(ModelSpec(**asked), trained_on)
    torch.manual_seed(0)
    module = ForecastNetwork(resolved)
    with torch.no_grad():
        for weights in module.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    covariates = {"known": list(resolved.known or ())}
    info = ForecasterInfo.of(trained_on, resolved, covariates=covariates)
    calibration = Calibration.none(resolved.horizon, resolved.quantile_levels)
    return Forecaster(info=info, backend=TorchBackend(module), calibration=calibration)


class Registry:
    """Writes what the watcher would write."""

    def __init__(self, models: tuple[str, ...] = ()) -> None:
        self.cache = Cache.of(models)
        self.manifest = Manifest()

    def add(self, name: str, version: str, forecaster: Forecaster, *aliases: str, onnx: bool = True) -> Path:
        """Copy a version and point aliases at it; returns its folder."""
        draft = self.cache.artifacts / f"draft-{name}-{version}"
        artifact.save(forecaster, draft, onnx=onnx)
        digest = digest_of(draft)
        folder = self.cache.artifacts / digest
        if folder.exists():
            draft.replace(folder / ".." / f"again-{name}-{version}")
        else:
            draft.replace(folder)
        copy = CachedVersion(
            name=name, version=version, run_id=f"run-{name}-{version}", digest=digest, created=1
        )
        own = {**self.manifest.aliases.get(name, {}), **dict.fromkeys(aliases, version)}
        self.write(aliases={**self.manifest.aliases, name: own}, versions=(*self.manifest.versions, copy))
        return folder

    def write(self, **changes: Any) -> None:
        """Replace parts of the manifest."""
        self.manifest = replace(self.manifest, **changes)
        self.cache.write(self.manifest)


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """An asynchronous client of an application that has started."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


class Client:
    """The same for tests that ask one thing after the other."""

    def __init__(self, portal: BlockingPortal, app: FastAPI, client: httpx.AsyncClient) -> None:
        self.portal = portal
        self.app = app
        self.asynchronous = client

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send one request."""
        return self.portal.call(lambda: self.asynchronous.request(method, path, **more))

    def get(self, path: str, **more: Any) -> httpx.Response:
        """GET."""
        return self.request("GET", path, **more)

    def post(self, body: Any, **more: Any) -> httpx.Response:
        """POST /v1/forecasts with a body of JSON, or of bytes as they are."""
        sent = {"content": body} if isinstance(body, bytes) else {"json": body}
        return self.request("POST", "/v1/forecasts", **sent, **more)


@contextmanager
def serving(settings: Settings | None = None) -> Iterator[Client]:
    """A client of an application over this test's cache."""
    app = create_app(settings or Settings())
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(running(app)) as client:
        yield Client(portal, app, client)


def request_body(**changes: Any) -> dict[str, Any]:
    """A good request for `air`; a change to None takes the field away."""
    series = {"unique_id": "AP", "start": "2020-01-01", "y": monthly_values()}
    body = {"model": "air", "horizon": 3, "series": [series], **changes}
    return {key: value for key, value in body.items() if value is not None}


def with_series(**changes: Any) -> dict[str, Any]:
    """A good request whose only series is changed; a change to None takes the field away."""
    body = request_body()
    series = {**body["series"][0], **changes}
    return {**body, "series": [{key: value for key, value in series.items() if value is not None}]}


class Registered:
    """A real MLflow registry that versions are written to, laid out as the pipelines lay them out."""

    def __init__(self, *, location: str | None = "local") -> None:
        """location: local files, or None for where the server keeps them."""
        from mlflow import MlflowClient

        self.location = home.artifact_root().as_uri() if location == "local" else location

        uri = home.tracking_uri()
        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def version(self, name: str, forecaster: Forecaster, *aliases: str) -> str:
        """Register the next version and point aliases at it; returns the id of its run."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = artifact.save(forecaster, Path(scratch) / "forecaster")
            return self._register(name, folder, *aliases)

    def empty_version(self, name: str, *aliases: str) -> str:
        """A version whose files are not those of a forecaster."""
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / "README").write_text("nothing")
            return self._register(name, Path(scratch), *aliases)

    def _register(self, name: str, folder: Path, *aliases: str) -> str:
        found = self.client.get_experiment_by_name("tests")
        experiment = found.experiment_id if found else self.client.create_experiment("tests", self.location)
        run = self.client.create_run(experiment)
        self.client.log_artifacts(run.info.run_id, str(folder), "model/artifacts/forecaster")
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name)
        source = f"{run.info.artifact_uri}/model"
        made = self.client.create_model_version(name, source, run_id=run.info.run_id)
        for alias in aliases:
            self.client.set_registered_model_alias(name, alias, str(made.version))
        return str(run.info.run_id)
