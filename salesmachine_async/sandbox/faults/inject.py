"""Injection of faults into a response, down to the bytes and the socket."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from contextlib import suppress
from http.client import responses
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from salesmachine_async.sandbox.http.responses import ApiError, answer, error

if TYPE_CHECKING:
    from salesmachine_async.sandbox.faults.script import Fault


class Disconnect(NamedTuple):
    """
    A connection that ends without a complete response.

    Attributes:
        sent: The bytes to send first; empty means a reset.
        status: The status in these bytes, if any.
    """

    sent: bytes = b""
    status: int | None = None


# Set on a response that is replaced by the end of the connection.
DISCONNECT = web.ResponseKey("DISCONNECT", Disconnect)
# Set on a response whose body is sent over this many seconds.
SLOW = web.ResponseKey("SLOW", float)
# Number of pieces of a slow body.
PIECES = 20

# A linger of zero makes close() send a reset. The structure on Windows has two shorts.
LINGER_ZERO = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


def inject(fault: Fault, response: web.StreamResponse) -> web.StreamResponse:
    """Change *response* as *fault* says."""
    if fault.status is not None:
        response = _scripted(fault, fault.status)
    if fault.retry_after is not None:
        response.headers["Retry-After"] = _seconds(fault.retry_after)
    response.headers.update(fault.headers or {})
    if fault.raw is not None:
        response[DISCONNECT] = Disconnect(fault.raw.encode())
    elif fault.drop == "during":
        response[DISCONNECT] = Disconnect(_half(response), response.status)
    elif fault.drop is not None:
        response[DISCONNECT] = Disconnect()
    elif fault.slow:
        response[SLOW] = fault.slow
    return response


async def trickle(request: web.Request, whole: web.StreamResponse, closing: asyncio.Event) -> web.StreamResponse:
    """Send the head of *whole* at once, and its body slowly unless the server stops."""
    body = whole.body if isinstance(whole, web.Response) else None
    content = body if isinstance(body, bytes) else b""
    response = web.StreamResponse(status=whole.status, headers=whole.headers)
    response.content_length = len(content)
    await response.prepare(request)
    step = max(1, -(-len(content) // PIECES))
    for start in range(0, len(content), step):
        with suppress(TimeoutError):
            await asyncio.wait_for(closing.wait(), whole[SLOW] / PIECES)
        await response.write(content[start : start + step])
    return response


def disconnect(request: web.Request, sent: bytes) -> None:
    """
    Send *sent*, then close the connection; reset it if *sent* is empty.

    aiohttp then finds the transport closing and writes no response.
    """
    transport = request.transport
    if transport is None:
        return
    if sent:
        # No reset, because it could overtake these bytes.
        transport.write(sent)
        transport.close()
        return
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    transport.abort()


def _scripted(fault: Fault, status: int) -> web.Response:
    if fault.body is None:
        return error(ApiError(status, f"{responses.get(status, 'error')} (scripted fault)"))
    if isinstance(fault.body, str):
        response = answer(None, status)
        response.body = fault.body.encode()
        return response
    return answer(fault.body, status)


def _seconds(retry_after: float | str) -> str:
    if isinstance(retry_after, float) and retry_after.is_integer():
        retry_after = int(retry_after)
    return str(retry_after)


def _half(response: web.StreamResponse) -> bytes:
    """Return the head of *response* and half of its body."""
    body = response.body if isinstance(response, web.Response) else None
    content = body if isinstance(body, bytes) else b""
    headers = {**response.headers, "Content-Length": str(len(content))}
    lines = [f"HTTP/1.1 {response.status} {response.reason}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + content[: len(content) // 2]
