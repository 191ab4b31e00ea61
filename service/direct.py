"""The short way to the routes that are asked most: past everything that they do not need.

FastAPI describes these routes and would answer them too; its routing, dependencies and conversions cost more
than parsing such a request. Only endpoints that take the request and answer a `Response` may go this way.
"""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forecast.errors import ForecastError
from service.errors import Problem, from_forecast_error, respond

Endpoint = Callable[[Request], Awaitable[Response]]


class DirectRoutes:
    """Answers some (method, path) by their endpoints and hands everything else on."""

    def __init__(self, app: ASGIApp, endpoints: Mapping[tuple[str, str], Endpoint]) -> None:
        self.app = app
        self.endpoints = dict(endpoints)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = None
        if scope["type"] == "http" and not scope.get("root_path"):
            endpoint = self.endpoints.get((scope["method"], scope["path"]))
        if endpoint is None:
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await endpoint(request)
        except Problem as error:
            response = respond(request, error)
        except ForecastError as error:
            response = respond(request, from_forecast_error(error))
        await response(scope, receive, send)


class HeadMiddleware:
    """Answers HEAD as GET without its body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self.app({**scope, "method": "GET"}, receive, without_body)
