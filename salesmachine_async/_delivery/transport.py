"""The border to the network: batches go out, outcomes come back, foreign errors end here."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler

from salesmachine_async._core.batch import Batch, Endpoint
from salesmachine_async._core.wire import Outcome, Verdict, outcome
from salesmachine_async._delivery.resolver import DaemonResolver
from salesmachine_async._delivery.settings import (
    check_base_url,
    check_credentials,
    check_proxy,
    check_ssl_context,
    from_environment,
)
from salesmachine_async._version import __version__
from salesmachine_async.errors import CertificateRejected, ConnectionFailed, RequestTimeout
from salesmachine_async.policy import Timeouts

__all__ = ["HttpTransport", "Transport"]

# Idle connections are dropped before usual servers do it (aiohttp's own server after 75 s, nginx 75, uvicorn 5, many
# load balancers 60): the less often a request meets a connection that is closing, the fewer are repeated.
KEEPALIVE_SECONDS: Final = 10.0
# Of an answer's body: enough for any error message; a server that sends more is cut off.
MAX_ANSWER_BYTES: Final = 64 * 1024
# The status line has decided already; a body that dawdles costs only the connection.
BODY_SECONDS: Final = 0.25
# aiohttp warns (ResourceWarning) of larger bodies given as bytes; they go out in slices.
SLICE_BYTES: Final = 2**20


class Transport(Protocol):
    """
    Carries batches. The agent calls it from one event loop, from each lane one call at a time.

    A carrier that raises is treated like a broken connection: the batch is sent again.
    """

    async def send(self, batch: Batch) -> Outcome:
        """Send one batch and tell what came of it."""
        ...

    async def aclose(self) -> None:
        """Give back all resources. The agent calls it once, at its end."""
        ...


class HttpTransport:
    """
    Sends batches to the Salesmachine tracking API with aiohttp.

    Redirects are never followed, cookies never kept, proxies of the environment never used, certificates
    always verified.

    Args:
        token: The API token; default: ``SALESMACHINE_API_TOKEN``.
        secret: The API secret; default: ``SALESMACHINE_API_SECRET``, else empty.
        base_url: Where the API is; default: ``SALESMACHINE_API_URL``, else ``https://api.salesmachine.io``.
        timeouts: How long to wait for a connection and for an answer.
        allow_http: Allow ``http://`` to hosts other than this machine. The token then travels readable.
        proxy: URL of an HTTP proxy.
        ssl_context: Instead of the default one, e.g. for a private certificate authority.

    Raises:
        ConfigError: An argument, or the environment variable in its place, is unusable.
    """

    def __init__(
        self,
        token: str | None = None,
        secret: str | None = None,
        *,
        base_url: str | None = None,
        timeouts: Timeouts | None = None,
        allow_http: bool = False,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        token, secret, base_url = from_environment(token, secret, base_url)
        check_credentials(token, secret)
        self._base = check_base_url(base_url, allow_http=allow_http)
        self._urls = {endpoint: self._base / endpoint.value.removeprefix("/") for endpoint in Endpoint}
        self._authorization = aiohttp.encode_basic_auth(token, secret)
        self._timeouts = timeouts or Timeouts()
        self._proxy = None if proxy is None else check_proxy(proxy)
        self._ssl = check_ssl_context(ssl_context)
        # Made in the running loop at the first request; it belongs to that loop.
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        """Show where to, never with which credentials."""
        return f"<HttpTransport {self._base}>"

    async def send(self, batch: Batch) -> Outcome:
        """
        Send one batch and tell what came of it.

        Raises only the cancellation of its task, and not even that once the server has answered 2xx.
        """
        body = batch.body()
        attempt = begin_attempt()
        try:
            response = await self._open().post(
                self._urls[batch.endpoint],
                data=body if len(body) <= SLICE_BYTES else _slices(body),
                headers={"Content-Length": str(len(body))} if len(body) > SLICE_BYTES else None,
                allow_redirects=False,
                proxy=self._proxy,
            )
            try:
                told = await read_some(response)
            except asyncio.CancelledError:
                # Delivered is delivered: the lane learns it, and then obeys the cancellation.
                if not 200 <= response.status <= 299:
                    raise
                told = b""
            finally:
                # Not `async with`: it waits for the rest of the request to be taken, and can be cancelled there.
                # A connection whose answer was read to its end has gone back to the pool already.
                response.close()
            return outcome(response.status, response.headers, now=datetime.now(UTC), body=told)
        except Exception as exc:  # noqa: BLE001 (whatever a connection can raise, the lane must live)
            return failure(exc, reused=attempt.reused)

    async def aclose(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            self.forget()
            self._session, self._loop = self._new_session(), loop
        return self._session

    def forget(self) -> None:
        """Drop the session without closing it: its loop is closed. The sockets close when they are collected."""
        session, self._session = self._session, None
        if session is not None and isinstance(session.connector, _Connector):
            session.connector.orphaned = True
            session.detach()

    def after_fork_in_child(self) -> None:
        """
        Drop the session of the parent process.

        It must never be closed here, nor collected: that would unregister its sockets from the selector, which
        the child shares with the parent, and the parent would wait for its answers in vain.
        """
        if self._session is not None:
            _INHERITED.append(self._session.connector)
        self.forget()

    def _new_session(self) -> aiohttp.ClientSession:
        return open_session(
            {
                "Authorization": self._authorization,
                "Content-Type": "application/json",
                "Accept": "application/json",
            },
            timeouts=self._timeouts,
            ssl_context=self._ssl,
        )


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
        connector=_Connector(
            limit=0,  # the lanes are the limit
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
_INHERITED: Final[list[object]] = []


class _Connector(aiohttp.TCPConnector):
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


async def _slices(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), SLICE_BYTES):
        yield body[start : start + SLICE_BYTES]


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
