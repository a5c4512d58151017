"""Make a call: once, or again as the retry policy says."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Final

import aiohttp

from salesmachine_async._core.response import Outcome, Verdict, outcome
from salesmachine_async._core.retry import Decision, Deliver, Pause, RetryNow, RetryState, Wait, decide
from salesmachine_async._http.backoff import Backoff
from salesmachine_async._http.config import Network
from salesmachine_async._http.session import (
    Attempt,
    begin_attempt,
    failure,
    leave_to_parent,
    open_session,
    read_some,
)
from salesmachine_async.access.wire import Answer, Call, parsed
from salesmachine_async.errors import (
    AgentClosed,
    ConnectionFailed,
    DeliveryError,
    RateLimited,
    Rejected,
    Unauthorized,
    WrongLoop,
)
from salesmachine_async.policy import Retry, Timeouts

__all__ = ["Caller", "Settings"]

# A page of a hundred contacts with large fields has some megabytes; what is larger is no answer of the API.
MAX_ANSWER_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """
    The settings of a `Caller`.

    Attributes:
        retry: The policy for repetitions.
        timeouts: The limits of each attempt.
        max_connections: The number of calls under way at once; further ones wait for their turn, without a time limit.
        network: The way to the API.
    """

    retry: Retry
    timeouts: Timeouts
    max_connections: int
    network: Network


@dataclass(slots=True)
class _Try:
    """
    One attempt at a call.

    Attributes:
        outcome: Its outcome.
        sent: The number of times that aiohttp has sent it.
        headers: The headers of the answer, if there was one.
        body: The body of the answer.
    """

    outcome: Outcome
    sent: int
    # A server may quote the token in both.
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: bytes = field(default=b"", repr=False)


class Caller:
    """
    Makes calls over one session, which belongs to the event loop of the first call.

    Args:
        settings: How.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Opened by the first call, so that the constructor needs no loop. It belongs to this process.
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns: asyncio.Semaphore | None = None
        self._pid = os.getpid()
        self.closed: bool = False

    async def make(self, call: Call, *, gone_is_done: bool = False) -> Answer:
        """
        Make a call and return its answer.

        Args:
            call: What to ask.
            gone_is_done: Whether a 404 to a repetition is a success: then the attempt before it has deleted what
                this one looks for.

        Raises:
            DeliveryError: There was no good answer; `status` and `server_message` tell more.
            AgentClosed: The client was closed.
            WrongLoop: The client is in use in another event loop.
        """
        loop, backoff = asyncio.get_running_loop(), Backoff(self._settings.retry)
        failing_since: float | None = None
        sent = at_once = 0
        while True:
            tried = await self._attempt(call)
            sent += tried.sent
            if gone_is_done and sent > 1 and tried.outcome.status == 404:
                return Answer(status=404, headers=tried.headers, data=None)
            if failing_since is None:
                failing_since = loop.time()
            situation = RetryState(
                count=1,
                failing_for=loop.time() - failing_since,
                key_accepted=True,
                repeated_at_once=at_once,
                connections=self._settings.max_connections,
            )
            decision = decide(tried.outcome, situation, self._settings.retry)
            if isinstance(decision, Deliver):
                data = parsed(tried.outcome.status or 0, tried.body)
                return Answer(status=tried.outcome.status or 0, headers=tried.headers, data=data)
            wait = _wait(decision, call, tried.outcome, backoff)
            at_once = at_once + 1 if isinstance(decision, RetryNow) else 0
            await asyncio.sleep(wait)

    async def aclose(self) -> None:
        """Close all connections; further calls raise `AgentClosed`."""
        self.closed = True
        self._notice_fork()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _attempt(self, call: Call) -> _Try:
        session, turns = self._open()
        attempt, trace = begin_attempt(), SimpleNamespace(sent=0)
        try:
            async with (
                turns,
                session.request(
                    call.method,
                    call.auth.on(call.url),
                    data=call.body,
                    headers={**call.auth.headers, **call.headers},
                    allow_redirects=False,
                    proxy=self._settings.network.proxy,
                    trace_request_ctx=trace,
                ) as response,
            ):
                body = await (_read(response) if 200 <= response.status <= 299 else read_some(response))
                result = _outcome(call, response.status, attempt.headers_of(response), body)
                return _Try(result, trace.sent, response.headers, body)
        except _TooLarge as exc:
            error = ConnectionFailed("the answer was too large", status=exc.status)
            return _Try(Outcome.failed(error, Verdict.PARKED), trace.sent)
        except Exception as exc:  # noqa: BLE001 (every exception of a connection becomes a DeliveryError)
            return _Try(_failure(call, attempt, exc), trace.sent)

    def _open(self) -> tuple[aiohttp.ClientSession, asyncio.Semaphore]:
        if self.closed:
            raise AgentClosed("the client was closed")
        loop = asyncio.get_running_loop()
        self._notice_fork()
        if self._session is None or self._turns is None:
            self._loop = loop
            self._turns = asyncio.Semaphore(self._settings.max_connections)
            self._session = open_session(
                {"Accept": "application/json"},
                timeouts=self._settings.timeouts,
                ssl_context=self._settings.network.ssl,
                traces=[_counting()],
            )
        elif self._loop is not loop:
            raise WrongLoop("the client is in use in another event loop: make one for each loop")
        return self._session, self._turns

    def _notice_fork(self) -> None:
        """Drop the session of the parent process, which must not be closed here."""
        if os.getpid() != self._pid:
            self._pid = os.getpid()
            session, self._session = self._session, None
            if session is not None:
                leave_to_parent(session)


class _TooLarge(Exception):
    """The body of an answer is larger than `MAX_ANSWER_BYTES`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def _outcome(call: Call, status: int, headers: Mapping[str, str], body: bytes = b"") -> Outcome:
    return outcome(status, headers, now=datetime.now(UTC), body=body, redact=call.auth.redact)


def _failure(call: Call, attempt: Attempt, exc: Exception) -> Outcome:
    """Return the outcome of an attempt whose answer is incomplete; of a 2xx the body is needed, too."""
    head = attempt.answered()
    if head is not None and not 200 <= head.status <= 299:
        return _outcome(call, head.status, head.headers)
    result = failure(exc, reused=attempt.reused)
    assert result.error is not None
    result.error.status = None if head is None else head.status
    return result


def _counting() -> aiohttp.TraceConfig:
    """Count how often a request is sent, because aiohttp repeats idempotent ones once on a kept connection."""

    async def note(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
        context.trace_request_ctx.sent += 1

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(note)
    return trace


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            response.close()
            raise _TooLarge(response.status)
    return bytes(body)


def _wait(decision: Decision, call: Call, result: Outcome, backoff: Backoff) -> float:
    """Return how long to wait before the next attempt; raises if there is none."""
    error = result.error
    assert error is not None
    # Whether a call that failed was carried out is not known; only a 429 says that it was not.
    if call.repeatable or isinstance(error, RateLimited):
        if isinstance(decision, RetryNow):
            return 0.0
        if isinstance(decision, Wait | Pause):
            return backoff.seconds(decision)
    raise _explained(error, call)


def _explained(error: DeliveryError, call: Call) -> DeliveryError:
    """Return the error with advice that is right for this API."""
    if call.auth.scheme is None:
        return error
    if isinstance(error, Unauthorized):
        text = f"the server answered {error.status}: check the token of the Access API (v2), and how it travels (auth=)"
    elif isinstance(error, Rejected) and error.status == 404:
        text = "the server answered 404: there is no such thing, or its path is another (see Paths)"
    else:
        return error
    return type(error)(text, status=error.status, retry_after=error.retry_after, server_message=error.server_message)
