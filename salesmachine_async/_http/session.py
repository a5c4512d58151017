"""
HTTP sessions on aiohttp, for the tracking transport and for the client of the Access API.

This module opens a session, reads a limited part of an answer, and converts aiohttp's exceptions to outcomes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

import aiohttp

from salesmachine_async._core.head import MAX_HEAD_BYTES
from salesmachine_async._core.response import Outcome, Verdict
from salesmachine_async._http.connector import (
    INHERITED,
    Attempt,
    Connector,
    abandon,
    begin_attempt,
    leave_to_parent,
)
from salesmachine_async._http.resolver import DaemonResolver
from salesmachine_async._version import __version__
from salesmachine_async.errors import CertificateRejected, ConnectionFailed, RequestTimeout
from salesmachine_async.policy import Timeouts

__all__ = [
    "INHERITED",
    "Attempt",
    "Connector",
    "abandon",
    "begin_attempt",
    "failure",
    "leave_to_parent",
    "open_session",
    "read_some",
]

# Idle connections are closed before common servers close them (aiohttp's own server after 75 s, nginx 75, many load
# balancers 60), because a request on a closing connection has to be repeated.
KEEPALIVE_SECONDS: Final = 10.0
# More headers than any proxy adds.
MAX_HEADERS: Final = 1000
# Enough for any error message in a body; a connection with more is closed.
MAX_ANSWER_BYTES: Final = 64 * 1024
# The status line has decided already, so a slow body costs only the connection.
BODY_SECONDS: Final = 0.25


def open_session(
    headers: Mapping[str, str],
    *,
    timeouts: Timeouts,
    ssl_context: ssl.SSLContext | bool,
    traces: Iterable[aiohttp.TraceConfig] = (),
) -> aiohttp.ClientSession:
    """
    Open a session in the running event loop.

    `begin_attempt` must be called before each request; it returns the record of that request.
    """
    return aiohttp.ClientSession(
        connector=Connector(
            limit=0,  # the callers limit the number of requests
            ssl_context=ssl_context,
            keepalive_timeout=KEEPALIVE_SECONDS,
            resolver=DaemonResolver(),
        ),
        headers={
            **headers,
            "Accept-Encoding": "identity",
            "User-Agent": f"salesmachine-async/{__version__}",
        },
        timeout=aiohttp.ClientTimeout(
            total=timeouts.request,
            connect=timeouts.connect,
            # aiohttp rounds timeouts above this up to whole seconds.
            ceil_threshold=float("inf"),
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        raise_for_status=False,
        # A large head must not end the connection.
        max_line_size=MAX_HEAD_BYTES,
        max_field_size=MAX_HEAD_BYTES,
        max_headers=MAX_HEADERS,
        trace_configs=[*traces],
    )


async def read_some(response: aiohttp.ClientResponse) -> bytes:
    """
    Return the beginning of the answer's body, at most `MAX_ANSWER_BYTES`.

    A body that was read to its end leaves the connection usable. Errors in the body are ignored, because the status
    line has decided.
    """
    body = bytearray()
    with suppress(Exception):
        if response.content.is_eof() and response.content.total_bytes <= MAX_ANSWER_BYTES:
            # A short answer has arrived completely, and reading it without a timer saves 8 µs.
            return response.content.read_nowait()
        async with asyncio.timeout(BODY_SECONDS):
            while chunk := await response.content.readany():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    break
            else:
                return bytes(body)
    response.close()
    return bytes(body[:MAX_ANSWER_BYTES])


def failure(exc: Exception, *, reused: bool) -> Outcome:
    """
    Return the outcome of a request that ended without a status line.

    Only names and messages of the system are used, because some of aiohttp's errors hold the request's headers.

    Args:
        exc: The exception that aiohttp raised.
        reused: Whether the connection had carried a request before.
    """
    if isinstance(exc, TimeoutError):
        what = "no connection" if isinstance(exc, aiohttp.ConnectionTimeoutError) else "no answer"
        return Outcome.failed(RequestTimeout(f"{what} in time"))
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        return Outcome.failed(
            CertificateRejected(
                "the server's TLS certificate was not accepted: check the base URL, or pass ssl_context"
            ),
            Verdict.PARKED,
        )
    if isinstance(exc, aiohttp.ClientHttpProxyError) and exc.status in (401, 403, 407):
        return Outcome.failed(
            ConnectionFailed(f"the proxy answered {exc.status}: check its credentials"), Verdict.PARKED
        )
    if reused and isinstance(exc, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
        return Outcome.failed(ConnectionFailed("a kept-alive connection was closed"), Verdict.STALE)
    return Outcome.failed(ConnectionFailed(_description(exc)))


def _description(exc: Exception) -> str:
    if isinstance(exc, aiohttp.ClientConnectorDNSError):
        return f"the host name {exc.host} could not be resolved"
    if isinstance(exc, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {exc.status}"
    if isinstance(exc, aiohttp.ClientResponseError):
        # aiohttp reports an answer that is not HTTP like this, with a status of 400.
        return "the answer was not HTTP"
    if isinstance(exc, aiohttp.ServerDisconnectedError):
        return "the connection was closed before an answer came"
    if isinstance(exc, OSError) and exc.strerror:
        return f"the connection failed ({exc.strerror})"
    return f"the connection failed ({type(exc).__name__})"
