"""How a fault spoils an answer, down to the bytes and the socket."""

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
    The end of a connection.

    Attributes:
        sent: the bytes sent before; none means a reset.
        status: the status they hold, if any.
    """

    sent: bytes = b""
    status: int | None = None


# On a response that is not to be sent as it is.
DISCONNECT = web.ResponseKey("DISCONNECT", Disconnect)
# On a response whose body is to take so many seconds.
SLOW = web.ResponseKey("SLOW", float)
# In how many pieces it trickles.
PIECES = 20

# Linger zero makes close() send a reset at once. Windows takes two shorts.
LINGER_ZERO = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


def inject(fault: Fault, response: web.StreamResponse) -> web.StreamResponse:
    """Make of *response* what *fault* wants sent."""
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
    """Send the head of *whole* at once, and its body slowly, until the server stops."""
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
    Send *sent*, then end the connection; reset it when there is nothing to send.

    aiohttp then finds it closing, and writes no answer.
    """
    transport = request.transport
    if transport is None:
        return
    if sent:
        # Not a reset, which could overtake what was sent.
        transport.write(sent)
        transport.close()
        return
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    transport.abort()


def _scripted(fault: Fault, status: int) -> web.Response:
    if fault.body is None:
        return error(ApiError(status, f"{responses.get(status, 'an error')}, by the script of faults"))
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
    """Write the head of *response* and half of the body it announces."""
    body = response.body if isinstance(response, web.Response) else None
    content = body if isinstance(body, bytes) else b""
    headers = {**response.headers, "Content-Length": str(len(content))}
    lines = [f"HTTP/1.1 {response.status} {response.reason}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + content[: len(content) // 2]
