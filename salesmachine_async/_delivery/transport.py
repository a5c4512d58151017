"""The border to the network: batches go out, outcomes come back, foreign errors end here."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final, Protocol

import aiohttp

from salesmachine_async._core.batch import Batch
from salesmachine_async._core.response import Outcome, outcome
from salesmachine_async._http.config import (
    check_base_url,
    check_credentials,
    check_proxy,
    check_ssl_context,
    from_environment,
)
from salesmachine_async._http.session import INHERITED, Connector, begin_attempt, failure, open_session, read_some
from salesmachine_async.policy import Timeouts
from salesmachine_async.report import Endpoint

__all__ = ["HttpTransport", "Transport"]

# aiohttp warns (ResourceWarning) of larger bodies given as bytes; they go out in slices.
SLICE_BYTES: Final = 2**20


class Transport(Protocol):
    """
    Carries batches. The agent calls it from one event loop, from each sender one call at a time.

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
                # Delivered is delivered: the sender learns it, and then obeys the cancellation.
                if not 200 <= response.status <= 299:
                    raise
                told = b""
            finally:
                # Not `async with`: it waits for the rest of the request to be taken, and can be cancelled there.
                # A connection whose answer was read to its end has gone back to the pool already.
                response.close()
            return outcome(response.status, response.headers, now=datetime.now(UTC), body=told)
        except Exception as exc:  # noqa: BLE001 (whatever a connection can raise, the sender must live)
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
        if session is not None and isinstance(session.connector, Connector):
            session.connector.orphaned = True
            session.detach()

    def after_fork_in_child(self) -> None:
        """
        Drop the session of the parent process.

        It must never be closed here, nor collected: that would unregister its sockets from the selector, which
        the child shares with the parent, and the parent would wait for its answers in vain.
        """
        if self._session is not None:
            INHERITED.append(self._session.connector)
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


async def _slices(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), SLICE_BYTES):
        yield body[start : start + SLICE_BYTES]
