"""The interface to the network: a transport sends batches and returns outcomes, and raises no error of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, Protocol

import aiohttp

from salesmachine_async._core.batch import Batch
from salesmachine_async._core.response import Outcome, Verdict, outcome
from salesmachine_async._delivery.hooks import raised_by_callback
from salesmachine_async._http.config import check_credentials, from_environment, network
from salesmachine_async._http.redaction import Redactor
from salesmachine_async._http.session import (
    Attempt,
    abandon,
    begin_attempt,
    failure,
    leave_to_parent,
    open_session,
    read_some,
)
from salesmachine_async._log import RateLimitedLogger, describe_exception
from salesmachine_async._spool.destination import destination_of
from salesmachine_async.errors import ConnectionFailed
from salesmachine_async.policy import Timeouts
from salesmachine_async.report import Endpoint

__all__ = ["HttpTransport", "Transport", "obey_cancellation", "send_guarded"]

# aiohttp warns (ResourceWarning) of larger bodies given as bytes, so they are sent in slices.
SLICE_BYTES: Final = 2**20


class Transport(Protocol):
    """
    Carries batches. The agent calls it from one event loop, from each sender one call at a time.

    A transport may have an attribute ``partitions``, the number of its own ordered queues, 1 to 256. The agent then has
    as many, and `Batch.partition` is the index of the queue: ``crc32(uid) % partitions``.

    An exception from `send` counts as a broken connection: the batch is sent again.

    It may have an attribute ``destination``, a str (or an int) that says where messages go, without a secret in it: a
    spool gives its messages only to agents of the same one.
    """

    async def send(self, batch: Batch) -> Outcome:
        """Send one batch and return its outcome."""
        ...

    async def aclose(self) -> None:
        """Release all resources. The agent calls it once, at its end."""
        ...


class HttpTransport:
    """
    Sends batches to the Salesmachine tracking API with aiohttp.

    Redirects are never followed, cookies never kept, certificates always verified. Of the environment only variables
    that begin with ``SALESMACHINE_`` are read.

    Args:
        token: The API token; default: ``SALESMACHINE_API_TOKEN``.
        secret: The API secret; default: ``SALESMACHINE_API_SECRET``, else empty.
        base_url: The URL of the API; default: ``SALESMACHINE_API_URL``, else ``https://api.salesmachine.io``.
        timeouts: Limits for a connection and for an answer.
        allow_http: Allow ``http://`` to hosts other than this machine, which sends the token readable; default:
            ``SALESMACHINE_ALLOW_HTTP`` (1 or 0), else not.
        proxy: URL of an HTTP proxy; default: ``SALESMACHINE_PROXY``, else none.
        ca_file: A PEM file of the certificate authorities to trust instead of the system's; default:
            ``SALESMACHINE_CA_FILE``, else none.
        ssl_context: A context to use instead of the default one, e.g. with a client certificate.

    Attributes:
        destination: Identifies the base URL and the token; neither can be derived from it.

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
        allow_http: bool | None = None,
        proxy: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        token, secret, base_url = from_environment(token, secret, base_url)
        check_credentials(token, secret)
        try:
            self._network = network(
                base_url, allow_http=allow_http, proxy=proxy, ca_file=ca_file, ssl_context=ssl_context
            )
        finally:
            del base_url, proxy  # error trackers record local variables, and both may hold a password
        self._urls = {endpoint: self._network.base / endpoint.value.removeprefix("/") for endpoint in Endpoint}
        self._authorization = aiohttp.encode_basic_auth(token, secret)
        self._redact = Redactor(token, secret)
        self.destination: int = destination_of(str(self._network.base), token)
        self._timeouts = timeouts or Timeouts()
        # Opened in the running loop by the first request; it belongs to that loop and to this process.
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # Closes the session when the loop ends.
        self._lifetime: AsyncGenerator[None] | None = None
        self._pid = os.getpid()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled: both would use, and close, the same connections."""
        raise TypeError("an HttpTransport cannot be copied or pickled")

    def __repr__(self) -> str:
        """Show the base URL, never the credentials."""
        return f"<HttpTransport {self._network.base}>"

    async def send(self, batch: Batch) -> Outcome:
        """
        Send one batch and return its outcome.

        Raises only the cancellation of its task, and not even that once the server has answered 2xx.
        """
        attempt = begin_attempt()
        try:
            return await self._send(batch, attempt)
        except asyncio.CancelledError:
            # The caller learns that the batch is delivered, and then obeys the cancellation.
            head = attempt.answered()
            if head is None or not 200 <= head.status <= 299:
                raise
            return self._outcome(head.status, head.headers)
        except Exception as exc:  # noqa: BLE001 (no exception of a connection may end the sender)
            return self._failure(exc, attempt)

    async def _send(self, batch: Batch, attempt: Attempt) -> Outcome:
        body = batch.body()
        response = await (await self._open()).post(
            self._urls[batch.endpoint],
            data=body if len(body) <= SLICE_BYTES else _slices(body),
            headers={"Content-Length": str(len(body))} if len(body) > SLICE_BYTES else None,
            allow_redirects=False,
            proxy=self._network.proxy,
        )
        try:
            answer = await read_some(response)
        finally:
            # Not `async with`: it waits until the rest of the request is sent, and can be cancelled there.
            # A connection whose answer was read to its end is in the pool again already.
            response.close()
        if 200 <= response.status <= 299:
            return Outcome(verdict=Verdict.DELIVERED, status=response.status)
        return self._outcome(response.status, attempt.headers_of(response), answer)

    def _outcome(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> Outcome:
        return outcome(status, headers, now=datetime.now(UTC), body=body, redact=self._redact)

    def _failure(self, exc: Exception, attempt: Attempt) -> Outcome:
        head = attempt.answered()
        if head is not None:
            return self._outcome(head.status, head.headers)
        return failure(exc, reused=attempt.reused)

    async def aclose(self) -> None:
        """Close all connections."""
        self._notice_fork()
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        self._end_lifetime()

    async def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        self._notice_fork()
        session = self._session
        if session is None or self._loop is not loop:
            self.forget()
            session = self._session = self._new_session()
            self._loop = loop
            self._lifetime = _close_with_loop(session)
            await anext(self._lifetime)  # does not wait: other senders open no second one
        return session

    def forget(self) -> None:
        """Drop the session without closing it, because its loop is closed."""
        self._notice_fork()
        session, self._session = self._session, None
        if session is not None:
            abandon(session)
        self._end_lifetime()

    def after_fork_in_child(self) -> None:
        """Drop the session of the parent process, which must not be closed here."""
        self._pid = os.getpid()
        session, self._session = self._session, None
        if session is not None:
            leave_to_parent(session)
        self._end_lifetime()

    def _end_lifetime(self) -> None:
        """End the generator of a closed session at once; collected unfinished, it would be a task of its loop."""
        lifetime, self._lifetime = self._lifetime, None
        if lifetime is not None:
            with suppress(StopIteration, RuntimeError):  # RuntimeError: the loop is ending it
                lifetime.aclose().send(None)

    def _notice_fork(self) -> None:
        """Notice a fork that ran no hooks of Python: uWSGI's, or that of a C extension."""
        if os.getpid() != self._pid:
            self.after_fork_in_child()

    def _new_session(self) -> aiohttp.ClientSession:
        return open_session(
            {
                "Authorization": self._authorization,
                "Content-Type": "application/json",
                "Accept": "application/json",
            },
            timeouts=self._timeouts,
            ssl_context=self._network.ssl,
        )


async def _close_with_loop(session: aiohttp.ClientSession) -> AsyncGenerator[None]:
    """
    Close a session that is open when its loop ends, where an `asyncio.run` for each call of a function ends it.

    A loop ends the asynchronous generators that it has begun, and offers no other call at its end.
    """
    try:
        yield
    finally:
        if not session.closed:
            await session.close()


async def _slices(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), SLICE_BYTES):
        yield body[start : start + SLICE_BYTES]


async def send_guarded(transport: Transport, batch: Batch, log: RateLimitedLogger) -> Outcome:
    """Send by a carrier that may be the user's; anything it raises or returns but an `Outcome` is a failure."""
    try:
        outcome: Any = await transport.send(batch)
    except asyncio.CancelledError:
        obey_cancellation()
        # This task was not cancelled, so it was a task of the carrier's own.
        log("transport", logging.ERROR, "the transport raised CancelledError")
        return Outcome.failed(ConnectionFailed("the transport raised CancelledError"))
    except BaseException as exc:
        if isinstance(exc, GeneratorExit) or not raised_by_callback(exc):  # GeneratorExit: this coroutine is closed
            raise
        log("transport", logging.ERROR, "the transport raised %s", describe_exception(exc))
        return Outcome.failed(ConnectionFailed(f"the transport raised {type(exc).__name__}"))
    if not isinstance(outcome, Outcome):
        log("transport", logging.ERROR, "the transport returned %s, not an Outcome", type(outcome).__name__)
        return Outcome.failed(ConnectionFailed(f"the transport returned {type(outcome).__name__}"))
    return outcome


def obey_cancellation() -> None:
    """Raise the cancellation that a transport held back to report that the server had answered."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
