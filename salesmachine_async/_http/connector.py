"""
Everything that overrides or sets a part of aiohttp which its documentation does not name.

Checked with aiohttp 3.14.2 (the oldest that pyproject admits) and 3.14.5, with its C parser and with the one in Python
(``AIOHTTP_NO_EXTENSIONS=1``): `tests/_delivery` and `tests/_http` run whole with both ends. What is relied on:

* `ResponseHandler` (the protocol of a connection): `data_received`, `exception`, `set_exception` with an
  `HttpProcessingError`, `should_close`, `force_close`, `transport`, `_payload`, and `_tail` of its `_parser` if that is
  the one in Python. It is made by ``BaseConnector._factory``.
* `BaseConnector.connect` (documented) returns a `Connection` with the protocol that carries the request.
* `BaseConnector.__del__` closes what is left open.
"""

from __future__ import annotations

import asyncio
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

# Connectors of parent processes, kept for as long as this process lives.
INHERITED: Final[list[object]] = []


@dataclass(slots=True)
class Attempt:
    """
    A request under way.

    Attributes:
        reused: Whether its connection had carried a request before.
        reader: The head of its answer, as far as it has arrived; None before there is a connection.
    """

    reused: bool = False
    reader: HeadReader | None = None

    def answered(self) -> Head | None:
        """Return the head of the answer, whether aiohttp understood it or not; None before a final status line."""
        return None if self.reader is None else self.reader.read()

    def headers_of(self, response: aiohttp.ClientResponse) -> Mapping[str, str]:
        """Return the headers of an answer: read leniently, as those of an answer that aiohttp did not understand."""
        head = self.answered()
        return response.headers if head is None else head.headers


# The attempt of the current task. A trace of aiohttp would cost 20 µs a request, a tenth of it.
_attempt: Final[ContextVar[Attempt]] = ContextVar("salesmachine_attempt")


def begin_attempt() -> Attempt:
    """Return the attempt in which the connector notes the current task's next request."""
    attempt = Attempt()
    _attempt.set(attempt)
    return attempt


class AnswerProtocol(ResponseHandler):
    """
    Hands an answer's head to aiohttp as a whole, and what follows it separately.

    aiohttp closes a connection at the first bytes that it does not understand, and loses an answer that has not been
    read yet. The head is kept, so that its status line decides, however the network cut the answer into pieces.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.reader: HeadReader | None = None

    def begin(self, attempt: Attempt) -> None:
        """Note in *attempt* the answer that comes next."""
        attempt.reused = self.reader is not None
        attempt.reader = self.reader = HeadReader()

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
            # As aiohttp does when its parser fails.
            self.set_exception(HttpProcessingError())
            if self.transport is not None:
                self.transport.close()

    def _parse(self, data: bytes) -> None:
        super().data_received(data)
        # The parser in Python keeps bytes behind an answer without an error; such a connection must not be used again.
        if getattr(self._parser, "_tail", b"") and (self._payload is None or self._payload.is_eof()):
            self.force_close()


class Connector(aiohttp.TCPConnector):
    """
    A connector that keeps the head of each answer, and can be left open at its end.

    Attributes:
        orphaned: Whether its collection must not close it.
    """

    orphaned = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)  # pyright: ignore[reportUnknownMemberType]
        self._factory = partial(AnswerProtocol, loop=self._loop)  # type: ignore[assignment]

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        """Return a connection, but no kept one on which the server has sent something unasked (aiohttp issue 13656)."""
        while True:
            connection = await super().connect(*args, **kwargs)
            protocol = connection.protocol
            if not isinstance(protocol, AnswerProtocol):
                return connection
            if protocol.reader is None or not protocol.should_close:
                protocol.begin(_attempt.get())
                return connection
            connection.close()

    def __del__(self, *args: Any, **kwargs: Any) -> None:
        if not self.orphaned:
            super().__del__(*args, **kwargs)


def abandon(session: aiohttp.ClientSession) -> None:
    """Leave a session unclosed, because its loop is closed; its sockets close when they are collected."""
    if isinstance(session.connector, Connector):
        session.connector.orphaned = True
        session.detach()


def leave_to_parent(session: aiohttp.ClientSession) -> None:
    """
    Leave a session to the parent process, after a fork.

    It is neither closed nor collected here: that would unregister its sockets from the selector, which this process
    shares with the parent, and the parent would wait for its answers in vain.
    """
    INHERITED.append(session.connector)
    abandon(session)
