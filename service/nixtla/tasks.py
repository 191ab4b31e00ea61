"""What the nixtla client can have done: each task reads a body and answers it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from service.batching import IsGone
from service.inference import Parts
from service.nixtla.answers import Answer
from service.nixtla.forecasts import forecast
from service.nixtla.payload import Asked, ForecastAsked, parse

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
}
