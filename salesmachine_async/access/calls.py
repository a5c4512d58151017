"""Requests to the Access API, with retries by the policy."""

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
from salesmachine_async.access.http_request import Answer, ApiRequest, parsed
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

__all__ = ["Caller", "ClientSettings"]

# A page of a hundred contacts with large fields has a few megabytes; a larger body does not come from the API.
MAX_ANSWER_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientSettings:
    """
    The settings of a `Caller`.

    Attributes:
        retry: The retry policy.
        timeouts: The time limits of each attempt.
        max_connections: The number of concurrent requests; further ones wait without a time limit.
        network: The base URL, the proxy and the TLS settings.
    """

    retry: Retry
    timeouts: Timeouts
    max_connections: int
    network: Network


@dataclass(slots=True)
class _Try:
    """
    An attempt at a request.

    Attributes:
        outcome: The outcome of the attempt.
        sent: The number of times aiohttp has sent the request.
        headers: The headers of the answer; empty without one.
        body: The body of the answer; empty without one.
    """

    outcome: Outcome
    sent: int
    # Not in the repr, because a server may quote the token in either.
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: bytes = field(default=b"", repr=False)


class Caller:
    """
    Makes requests over one session, which belongs to the event loop of the first request.

    Args:
        settings: The settings of the client.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        # Opened by the first request, so that the constructor needs no loop. It belongs to this process.
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns: asyncio.Semaphore | None = None
        self._pid = os.getpid()
        self.closed: bool = False

    async def make(self, request: ApiRequest, *, gone_is_done: bool = False) -> Answer:
        """
        Make a request and return its answer.

        Args:
            request: The request.
            gone_is_done: Whether a 404 to a repetition is a success, because an earlier attempt has deleted the object.

        Raises:
            DeliveryError: The request failed; see its `status` and `server_message`.
            AgentClosed: The client is closed.
            WrongLoop: The client is in use in another event loop.
        """
        loop, backoff = asyncio.get_running_loop(), Backoff(self._settings.retry)
        failing_since: float | None = None
        sent = at_once = 0
        while True:
            tried = await self._attempt(request)
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
            wait = _wait(decision, request, tried.outcome, backoff)
            at_once = at_once + 1 if isinstance(decision, RetryNow) else 0
            await asyncio.sleep(wait)

    async def aclose(self) -> None:
        """Close all connections; further requests raise `AgentClosed`."""
        self.closed = True
        self._notice_fork()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _attempt(self, request: ApiRequest) -> _Try:
        session, turns = self._open()
        attempt, trace = begin_attempt(reads_body=True), SimpleNamespace(sent=0)
        try:
            async with (
                turns,
                session.request(
                    request.method,
                    request.auth.on(request.url),
                    data=request.body,
                    headers={**request.auth.headers, **request.headers},
                    allow_redirects=False,
                    proxy=self._settings.network.proxy,
                    trace_request_ctx=trace,
                ) as response,
            ):
                body = await (_read(response) if 200 <= response.status <= 299 else read_some(response))
                result = _outcome(request, response.status, attempt.headers_of(response), body)
                return _Try(result, trace.sent, response.headers, body)
        except _TooLarge as exc:
            error = ConnectionFailed("the answer was too large", status=exc.status)
            return _Try(Outcome.failed(error, Verdict.PARKED), trace.sent)
        except Exception as exc:  # noqa: BLE001 (every exception of a connection becomes a DeliveryError)
            return _Try(_failure(request, attempt, exc), trace.sent)

    def _open(self) -> tuple[aiohttp.ClientSession, asyncio.Semaphore]:
        if self.closed:
            raise AgentClosed("the client is closed")
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
            raise WrongLoop("the client is in use in another event loop: create one client for each loop")
        return self._session, self._turns

    def _notice_fork(self) -> None:
        """Leave the session of a parent process open, because the parent still uses its connections."""
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


def _outcome(request: ApiRequest, status: int, headers: Mapping[str, str], body: bytes = b"") -> Outcome:
    return outcome(status, headers, now=datetime.now(UTC), body=body, redact=request.auth.redact)


def _failure(request: ApiRequest, attempt: Attempt, exc: Exception) -> Outcome:
    """Return the outcome of an attempt whose answer is incomplete: a 2xx without its whole body is a failure."""
    head = attempt.answered()
    if head is not None and not 200 <= head.status <= 299:
        return _outcome(request, head.status, head.headers)
    result = failure(exc, reused=attempt.reused)
    assert result.error is not None
    result.error.status = None if head is None else head.status
    return result


def _counting() -> aiohttp.TraceConfig:
    """Return a trace that counts sent requests: aiohttp itself repeats an idempotent one once on a kept connection."""

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


def _wait(decision: Decision, request: ApiRequest, result: Outcome, backoff: Backoff) -> float:
    """
    Return the seconds to wait before the next attempt.

    Raises:
        DeliveryError: If there is no further attempt.
    """
    error = result.error
    assert error is not None
    # A request that failed may have been carried out; only a 429 rules that out.
    if request.repeatable or isinstance(error, RateLimited):
        if isinstance(decision, RetryNow):
            return 0.0
        if isinstance(decision, Wait | Pause):
            return backoff.seconds(decision)
    raise _explained(error, request)


def _explained(error: DeliveryError, request: ApiRequest) -> DeliveryError:
    """Return the error with the advice for this API."""
    if request.auth.scheme is None:
        return error
    if isinstance(error, Unauthorized):
        text = f"the server answered {error.status}: check the token of the Access API (v2) and its scheme (auth=)"
    elif isinstance(error, Rejected) and error.status == 404:
        text = "the server answered 404: the object does not exist, or its path differs (see Paths)"
    else:
        return error
    return type(error)(text, status=error.status, retry_after=error.retry_after, server_message=error.server_message)
