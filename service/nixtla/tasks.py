"""What the nixtla client can have done: each task reads a body and answers it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from service.batching import IsGone
from service.inference import Parts
from service.nixtla.anomalies import anomalies, online_anomalies
from service.nixtla.answers import Answer
from service.nixtla.cross_validations import cross_validation, fitted
from service.nixtla.forecasts import forecast
from service.nixtla.payload import (
    AnomaliesAsked,
    Asked,
    CrossValidationAsked,
    FittedAsked,
    ForecastAsked,
    OnlineAnomaliesAsked,
    parse,
)

Work = Callable[[Parts, IsGone | None], Awaitable[Answer]]


@dataclass(frozen=True)
class Task:
    """One task: the form of its body, and what answers it."""

    kind: type[Asked]
    answer: Callable[..., Awaitable[Answer]]

    def read(self, content: dict[str, Any]) -> Work:
        """What a body asks for, checked and ready to be computed; Problem 422 where it does not fit."""
        return partial(self.answer, parse(content, self.kind))


TASKS: Mapping[str, Task] = {
    "forecast": Task(ForecastAsked, forecast),
    "cross_validation": Task(CrossValidationAsked, cross_validation),
    "historic_forecast": Task(FittedAsked, fitted),
    "anomaly_detection": Task(AnomaliesAsked, anomalies),
    "online_anomaly_detection": Task(OnlineAnomaliesAsked, online_anomalies),
}


def task_of(name: str, content: dict[str, Any]) -> Task:
    """The task that a body means: the client's jobs post online detection under the other's name."""
    is_online = name == "anomaly_detection" and "detection_size" in content
    return TASKS["online_anomaly_detection" if is_online else name]
