"""What is served."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse

from service.answers import ModelDetail, ModelsResponse
from service.models import ModelStore, Served, Snapshot

router = APIRouter(tags=["models"])


@router.get("/v1/models", response_model=ModelsResponse, summary="The models that answer by name")
async def list_models(request: Request) -> JSONResponse:
    """Every champion with what a caller needs to know, by name."""
    store: ModelStore = request.app.state.store
    snapshot = await store.settled()
    served = [snapshot.champions[name] for name in sorted(snapshot.champions)]
    return JSONResponse({"models": [described(each, snapshot) for each in served]})


@router.get("/v1/models/{name}", response_model=ModelDetail, summary="One model in full")
async def show_model(
    name: Annotated[str, Path(description="`name` or `name@alias`.", max_length=512)],
    request: Request,
    version: Annotated[str | None, Query(description="A version instead of an alias.", max_length=20)] = None,
) -> JSONResponse:
    """A model by `name`, `name@alias`, or its version by `?version=`."""
    store: ModelStore = request.app.state.store
    served, _ = await store.resolve(name if version is None else f"{name}/{version}")
    snapshot = store.snapshot
    info = served.forecaster.info
    return JSONResponse(
        {
            **described(served, snapshot),
            "quantile_levels": list(info.quantile_levels),
            "covariates": info.covariates,
            "num_series": info.num_series,
            "live_accuracy": served.live,
            "runtime": {
                "name": runtime_of(served),
                "parity": served.measured.get("parity"),
                "milliseconds": served.measured.get("milliseconds"),
            },
        }
    )


def runtime_of(served: Served) -> str:
    """What runs a model: numpy for a baseline, else onnx or torch."""
    if served.forecaster.info.kind == "baseline":
        return "numpy"
    return "onnx" if type(served.forecaster.backend).__name__ == "OnnxBackend" else "torch"


def described(served: Served, snapshot: Snapshot) -> dict[str, Any]:
    """One model as JSON."""
    info, calibration = served.forecaster.info, served.forecaster.calibration
    found = zip(calibration.quantile_levels, calibration.parametric, strict=True)
    copies = [copy.version for copy in snapshot.manifest.versions if copy.name == served.name]
    return {
        "name": served.name,
        "version": served.version,
        "aliases": snapshot.aliases_of(served),
        "run_id": served.run_id,
        "kind": info.kind,
        "freq": info.freq,
        "season_length": info.season_length,
        "horizon": info.horizon,
        "max_horizon": info.max_horizon,
        "min_context": info.min_context,
        "context_length": info.context_length,
        "trained_until": info.trained_until,
        "accuracy": served.metrics,
        "calibration": {
            "num_windows": calibration.num_windows,
            "parametric_quantiles": [quantile for quantile, is_parametric in found if is_parametric],
        },
        "all_aliases": snapshot.manifest.aliases.get(served.name, {}),
        "versions": sorted(copies, key=int),
    }
