"""
All use of undocumented parts of aiohttp: a connector and a protocol that keep the head of each answer.

Checked with aiohttp 3.14.2 (the oldest that pyproject admits) and 3.14.5, with its C parser and its Python parser
(``AIOHTTP_NO_EXTENSIONS=1``): all of `tests/_delivery` and `tests/_http` pass with each. This module relies on:

* `ResponseHandler` (the protocol of a connection): `data_received`, `exception`, `set_exception` with an
  `HttpProcessingError`, `should_close`, `force_close`, `transport`, `_payload`, and `_tail` of its `_parser` if that is
  the Python parser. ``BaseConnector._factory`` creates it.
* `BaseConnector.connect` (documented) returns a `Connection` with the protocol that carries the request.
* `BaseConnector.__del__` closes the connections that are left open.
* `TCPConnector._get_ssl_context` chooses the SSL context of a connection.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError

from salesmachine_async._core.head import Head, HeadReader

__all__ = ["INHERITED", "Attempt", "Connector", "abandon", "begin_attempt", "leave_to_parent"]

# Connectors of parent processes, kept until this process ends so that they are never closed here.
INHERITED: Final[list[object]] = []


@dataclass(slots=True)
class Attempt:
    """
    A request under way.

    Attributes:
        reused: Whether its connection had carried a request before.
        reads_body: Whether the body of a success is needed, also if bytes that cannot be parsed follow it.
        reader: The reader of the answer's head; None before the request has a connection.
    """

    reads_body: bool = False
    reused: bool = False
    reader: HeadReader | None = None

    def answered(self) -> Head | None:
        """Return the head of the answer, also of one that aiohttp cannot parse; None before a final status line."""
        return None if self.reader is None else self.reader.read()

    def headers_of(self, response: aiohttp.ClientResponse) -> Mapping[str, str]:
        """Return the headers of an answer, read as leniently as those of an answer that aiohttp cannot parse."""
        head = self.answered()
        return response.headers if head is None else head.headers


# The attempt of the current task. A trace of aiohttp would cost 20 µs for each request, a tenth of its time.
_attempt: Final[ContextVar[Attempt]] = ContextVar("salesmachine_attempt")


def begin_attempt(*, reads_body: bool = False) -> Attempt:
    """Return a new attempt, in which the connector records the next request of the current task."""
    attempt = Attempt(reads_body)
    _attempt.set(attempt)
    return attempt


class AnswerProtocol(ResponseHandler):
    """
    A protocol that passes the head of an answer to aiohttp in one piece, separately from the bytes that follow.

    aiohttp closes a connection at the first bytes that it cannot parse, and discards an answer that has not been read
    yet. The head is kept, so that its status line decides, in whatever pieces the answer arrives.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.reader: HeadReader | None = None

    def begin(self, attempt: Attempt) -> None:
        """Record the next answer in *attempt*."""
        attempt.reused = self.reader is not None
        attempt.reader = self.reader = HeadReader(divides=attempt.reads_body)

    def data_received(self, data: bytes) -> None:
        """Receive bytes of an answer."""
        reader = self.reader
        if reader is None or reader.whole:
            self._parse(data)
            return
        parts = reader.feed(data)
        if parts is not None:
            head, rest = parts
            self._parse(head)
            # A parser that has failed would read the rest as another answer.
            if rest and self.exception() is None:
                self._parse(rest)
        elif reader.failed:
            # The same steps as in aiohttp when its parser fails.
            self.set_exception(HttpProcessingError())
            if self.transport is not None:
                self.transport.close()

    def _parse(self, data: bytes) -> None:
        super().data_received(data)
        # The Python parser keeps bytes after an answer without an error; such a connection must not be reused.
        if getattr(self._parser, "_tail", b"") and (self._payload is None or self._payload.is_eof()):
            self.force_close()


class Connector(aiohttp.TCPConnector):
    """
    A connector that keeps the head of each answer, and that can be collected without being closed.

    Args:
        ssl_context: The SSL context of all connections; True: aiohttp's default one.
        kwargs: Those of `aiohttp.TCPConnector`.

    Attributes:
        orphaned: Whether the garbage collection leaves the connections open.
    """

    orphaned = False

    def __init__(self, *, ssl_context: ssl.SSLContext | bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # pyright: ignore[reportUnknownMemberType]
        self._context = ssl_context
        self._factory = partial(AnswerProtocol, loop=self._loop)  # type: ignore[assignment]

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        """Return a connection; a kept one on which the server has sent unrequested bytes is closed (aiohttp #13656)."""
        while True:
            connection = await super().connect(*args, **kwargs)
            protocol = connection.protocol
            if not isinstance(protocol, AnswerProtocol):
                return connection
            if protocol.reader is None or not protocol.should_close:
                protocol.begin(_attempt.get())
                return connection
            connection.close()

    def _get_ssl_context(self, req: aiohttp.ClientRequest) -> ssl.SSLContext | None:
        """
        Return the SSL context of a connection.

        aiohttp takes a context that is not of the class `ssl.SSLContext` for the wish to verify nothing. A context is
        of another class where truststore, or a test, has replaced that class after the context was made.
        """
        if isinstance(self._context, bool) or not req.is_ssl():
            return super()._get_ssl_context(req)
        return self._context

    def __del__(self, *args: Any, **kwargs: Any) -> None:
        if not self.orphaned:
            super().__del__(*args, **kwargs)


def abandon(session: aiohttp.ClientSession) -> None:
    """Discard a session whose loop is closed without closing it; its sockets close when they are collected."""
    if isinstance(session.connector, Connector):
        session.connector.orphaned = True
        session.detach()


def leave_to_parent(session: aiohttp.ClientSession) -> None:
    """
    Discard a session of the parent process after a fork.

    It is neither closed nor collected here, because that would unregister its sockets from the selector that this
    process shares with the parent, and the parent would never receive its answers.
    """
    INHERITED.append(session.connector)
    abandon(session)
