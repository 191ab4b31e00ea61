"""The raw body of a request, counted while it arrives."""

import asyncio
import time

from starlette.requests import ClientDisconnect, Request

from service.errors import Problem, problem

DRAIN_SECONDS = 5.0
"""How long the rest of a too large body is read and dropped, so that the client gets to read the answer."""


async def read_body(request: Request, *, max_bytes: int) -> bytes:
    """The whole body; Problem 413 above `max_bytes`, whatever Content-Length claims."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise problem("unsupported-encoding", "send the body without content-encoding")
    declared = request.headers.get("content-length", "")
    is_over = declared.isascii() and declared.isdigit() and int(declared[:20]) > max_bytes
    if is_over and "100-continue" in request.headers.get("expect", "").lower():
        raise _too_large(max_bytes)  # nothing was sent yet
    chunks: list[bytes] = []
    size = 0
    try:
        stream = request.stream()
        async for chunk in stream:
            size += len(chunk)
            if is_over or size > max_bytes:
                await _drain(stream)
                raise _too_large(max_bytes)
            chunks.append(chunk)
    except ClientDisconnect:
        raise problem("bad-request", "the connection ended before the body did") from None
    return b"".join(chunks)


async def _drain(stream: object) -> None:
    """Drop what still comes for a few seconds: a close with unread data would reset the connection."""
    deadline = time.monotonic() + DRAIN_SECONDS
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in stream:  # type: ignore[attr-defined]
                if time.monotonic() > deadline:
                    break
    except (TimeoutError, ClientDisconnect):
        return


def _too_large(max_bytes: int) -> Problem:
    detail = f"the body is larger than {max_bytes:,} bytes; send fewer series at a time"
    return problem("body-too-large", detail, headers={"Connection": "close"})
