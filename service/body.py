"""The raw body of a request, counted while it arrives and while it is unpacked."""

import asyncio
import time
import zlib

from starlette.requests import ClientDisconnect, Request

from service.errors import Problem, problem

SMALL_BODY = 64 * 2**10
"""Bodies up to this size are parsed on the event loop: it takes less time than handing them to a thread."""
DRAIN_SECONDS = 5.0
"""How long the rest of a too large body is read and dropped, so that the client gets to read the answer."""


async def read_body(request: Request, *, max_bytes: int, seconds: float = 30.0) -> bytes:
    """The whole body, unpacked; Problem 413 above `max_bytes` before or after that, 408 after `seconds`."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "zstd"):
        raise problem("unsupported-encoding", "send the body as it is, or encoded once by gzip or zstd")
    try:
        async with asyncio.timeout(seconds):
            body = await _read(request, max_bytes)
    except TimeoutError:
        detail = f"the body did not arrive within {seconds:g} s"
        raise problem("request-timeout", detail, headers={"Connection": "close"}) from None
    if encoding in ("gzip", "zstd"):
        return await asyncio.to_thread(unpack, body, encoding, max_bytes=max_bytes)
    return body


def unpack(body: bytes, encoding: str, *, max_bytes: int) -> bytes:
    """The content of a gzip or zstd body; Problem 413 above `max_bytes`, 400 where it is damaged."""
    try:
        return _gunzip(body, max_bytes) if encoding == "gzip" else _unzstd(body, max_bytes)
    except (zlib.error, EOFError, ValueError):
        raise problem("bad-request", f"the body is no whole {encoding} stream") from None


def _gunzip(body: bytes, max_bytes: int) -> bytes:
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    content = unpacker.decompress(body, max_bytes + 1)
    if len(content) > max_bytes:
        raise too_large(max_bytes)
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("cut, or more than one member")
    return content


def _unzstd(body: bytes, max_bytes: int) -> bytes:
    import zstandard

    unpacker = zstandard.ZstdDecompressor(max_window_size=2**23).decompressobj()
    parts: list[bytes] = []
    size = 0
    try:
        # A little of the input at a time: one call unpacks all that it is given.
        for start in range(0, len(body), 256):
            parts.append(unpacker.decompress(body[start : start + 256]))
            size += len(parts[-1])
            if size > max_bytes:
                raise too_large(max_bytes)
            if unpacker.eof:
                if unpacker.unused_data or start + 256 < len(body):
                    raise ValueError("more than one frame")
                return b"".join(parts)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    raise ValueError("cut")


async def _read(request: Request, max_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "")
    is_over = declared.isascii() and declared.isdigit() and int(declared[:20]) > max_bytes
    if is_over and "100-continue" in request.headers.get("expect", "").lower():
        raise too_large(max_bytes)  # nothing was sent yet
    chunks: list[bytes] = []
    size = 0
    try:
        stream = request.stream()
        async for chunk in stream:
            size += len(chunk)
            if is_over or size > max_bytes:
                await _drain(stream)
                raise too_large(max_bytes)
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


def too_large(max_bytes: int) -> Problem:
    detail = f"the body is larger than {max_bytes:,} bytes; send fewer series at a time"
    return problem("body-too-large", detail, headers={"Connection": "close"})
