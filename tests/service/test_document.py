"""The OpenAPI document against the running service: schemathesis asks what it allows, and what not."""

import os
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.settings import Settings
from tests.service.builders import Registry, baseline
from tests.service.live import listening

OPERATIONS = (
    *("POST /v1/forecasts", "POST /v1/backtests", "POST /v1/anomalies"),
    *(
        "GET /v1/forecasts/{model}/{unique_id}",
        "GET /v1/models",
        "GET /v1/models/{name}",
        "GET /livez",
        "GET /readyz",
        "GET /startupz",
    ),
)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
NUM_EXAMPLES = int(os.environ.get("FORECAST_TESTS_EXAMPLES", "30"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("operation", "mode"),
    [
        *((operation, GenerationMode.POSITIVE) for operation in OPERATIONS),
        *((operation, GenerationMode.NEGATIVE) for operation in OPERATIONS if operation.startswith("POST")),
    ],
)
def test_every_answer_is_one_that_the_document_names(
    registry: Registry, operation: str, mode: GenerationMode
) -> None:
    registry.add("air_passengers", "1", baseline(), "champion")
    with listening(Settings()) as (host, port):
        schema = schemathesis.openapi.from_url(f"http://{host}:{port}/openapi.json")
        method, path = operation.split(" ")
        described = schema[path][method]

        @settings(
            max_examples=NUM_EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(data=st.data())
        def ask(data: Any) -> None:
            case = data.draw(described.as_strategy(generation_mode=mode))
            case.call_and_validate(checks=CHECKS, timeout=30)

        ask()


def test_every_route_that_is_described_is_asked(registry: Registry) -> None:
    registry.add("air", "1", baseline(), "champion")
    with listening(Settings()) as (host, port):
        schema = schemathesis.openapi.from_url(f"http://{host}:{port}/openapi.json")
        found = {f"{method.upper()} {path}" for path in schema for method in schema[path]}
    assert found == set(OPERATIONS)
