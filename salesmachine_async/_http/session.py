"""
HTTP sessions on aiohttp, as the tracking transport and the Access API client both need them.

Opens a session, reads as much of an answer as is useful, and translates aiohttp's exceptions into outcomes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler

from salesmachine_async._core.response import Outcome, Verdict
from salesmachine_async._http.resolver import DaemonResolver
from salesmachine_async._version import __version__
from salesmachine_async.errors import CertificateRejected, ConnectionFailed, RequestTimeout
from salesmachine_async.policy import Timeouts

__all__ = ["INHERITED", "Attempt", "Connector", "begin_attempt", "failure", "open_session", "read_some"]

# Idle connections are dropped before usual servers do it (aiohttp's own server after 75 s, nginx 75, uvicorn 5, many
# load balancers 60): the less often a request meets a connection that is closing, the fewer are repeated.
KEEPALIVE_SECONDS: Final = 10.0
# Of an answer's body: enough for any error message; a server that sends more is cut off.
MAX_ANSWER_BYTES: Final = 64 * 1024
# The status line has decided already; a body that dawdles costs only the connection.
BODY_SECONDS: Final = 0.25


def open_session(
    headers: Mapping[str, str],
    *,
    timeouts: Timeouts,
    ssl_context: ssl.SSLContext | bool,
    traces: Iterable[aiohttp.TraceConfig] = (),
) -> aiohttp.ClientSession:
    """
    Open a session as all requests of this library are made with; in the event loop it is for.

    `begin_attempt` before each request tells afterwards, for `failure`, whether its connection had served another.
    """
    return aiohttp.ClientSession(
        connector=Connector(
            limit=0,  # the senders are the limit
            ssl=ssl_context,
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
        trace_configs=[*traces],
    )


@dataclass(slots=True)
class Attempt:
    """
    What is known of a request under way.

    Attributes:
        reused: Whether its connection had served a request before.
    """

    reused: bool = False


# Of the current task. aiohttp's own way to tell, its tracing, costs 20 µs a request, a tenth of it.
_attempt: Final[ContextVar[Attempt]] = ContextVar("salesmachine_attempt")


def begin_attempt() -> Attempt:
    """Return what the session's connector will note of the current task's next request."""
    attempt = Attempt()
    _attempt.set(attempt)
    return attempt


class _Protocol(ResponseHandler):
    """
    Reads answers, the head by itself.

    aiohttp's parser forgets an answer when something wrong comes behind its head in the same bytes; it must not
    depend on how the network cut them. A status line that was seen decides.
    """

    def data_received(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n") + 4
        if 4 <= end < len(data):
            super().data_received(data[:end])
            data = data[end:]
        super().data_received(data)


# Connectors of parent processes, kept for as long as this process lives.
INHERITED: Final[list[object]] = []


class Connector(aiohttp.TCPConnector):
    """A connector that can be left alone by its end."""

    orphaned = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # pyright: ignore[reportUnknownMemberType]
        self._factory = partial(_Protocol, loop=self._loop)  # type: ignore[assignment]

    async def _get(self, *args: Any, **kwargs: Any) -> Any:
        """Take a kept connection, but none on which the server has said something unasked (aiohttp issue 13656)."""
        while (connection := await super()._get(*args, **kwargs)) is not None:
            if connection.protocol is None or not connection.protocol.should_close:
                break
            connection.close()
        _attempt.get().reused = connection is not None
        return connection

    def __del__(self, *args: Any, **kwargs: Any) -> None:
        if not self.orphaned:
            super().__del__(*args, **kwargs)


async def read_some(response: aiohttp.ClientResponse) -> bytes:
    """
    Read the answer's body as far as it is worth, and return it.

    Read to its end, the connection can be used again. Whatever is wrong with the body is not wrong with the answer.
    """
    told = bytearray()
    with suppress(Exception):
        if response.content.is_eof() and response.content.total_bytes <= MAX_ANSWER_BYTES:
            # It has come whole, as short answers do: without a timer that saves 8 µs.
            return response.content.read_nowait()
        async with asyncio.timeout(BODY_SECONDS):
            while chunk := await response.content.readany():
                told += chunk
                if len(told) > MAX_ANSWER_BYTES:
                    break
            else:
                return bytes(told)
    response.close()
    return bytes(told[:MAX_ANSWER_BYTES])


def failure(exc: Exception, *, reused: bool) -> Outcome:
    """
    Translate what aiohttp raised; *reused* says whether the connection had served a request before.

    Only names and system messages are taken over: some of aiohttp's errors hold the request's headers.
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
        # aiohttp raises it, with status 400, for an answer that is not HTTP.
        return "the answer was not HTTP"
    if isinstance(exc, aiohttp.ServerDisconnectedError):
        return "the connection was closed before an answer came"
    if isinstance(exc, OSError) and exc.strerror:
        return f"the connection failed ({exc.strerror})"
    return f"the connection failed ({type(exc).__name__})"
