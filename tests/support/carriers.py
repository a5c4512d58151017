"""Transports without a network, for tests of everything around it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from salesmachine_async import Batch, ConnectionFailed, Endpoint, Outcome, Verdict
from salesmachine_async._core.response import outcome as outcome_of

OK = Outcome(verdict=Verdict.DELIVERED, status=201)
BROKEN = Outcome.failed(ConnectionFailed("broken on purpose"))
STALE = Outcome.failed(ConnectionFailed("closed on purpose"), Verdict.STALE)


def answer(status: int, body: bytes = b"", **headers: str) -> Outcome:
    """Return the outcome of a status; ``Retry_After="3"`` is a header."""
    return outcome_of(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, now=datetime.now(UTC), body=body
    )


class Carrier:
    """
    Answers by a script, then with success; remembers what it carried.

    Args:
        script: Outcomes in order; an exception is raised instead.
        decide: Called for each batch after the end of the script; None means success.
        takes: Seconds each request takes.
    """

    def __init__(
        self,
        script: Iterable[Outcome | BaseException] = (),
        *,
        decide: Callable[[Batch], Outcome | None] | None = None,
        takes: float = 0.0,
    ) -> None:
        self.script = deque(script)
        self.decide = decide
        self.takes = takes
        self.attempts: list[tuple[float, Endpoint, list[dict[str, Any]]]] = []
        self.delivered: list[dict[str, Any]] = []
        self.underway = 0
        self.most_underway = 0
        self.closed = 0

    async def send(self, batch: Batch) -> Outcome:
        messages = [] if batch.endpoint is Endpoint.PING else batch.messages()
        self.attempts.append((asyncio.get_running_loop().time(), batch.endpoint, messages))
        self.underway += 1
        self.most_underway = max(self.most_underway, self.underway)
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.underway -= 1
        result = self._next(batch)
        if isinstance(result, BaseException):
            raise result
        if result.verdict is Verdict.DELIVERED:
            self.delivered.extend(messages)
        return result

    async def aclose(self) -> None:
        self.closed += 1

    @property
    def times(self) -> list[float]:
        return [time for time, _, _ in self.attempts]

    def events(self) -> list[Any]:
        """The ``event_uid`` of each delivered message, in order."""
        return [message.get("event_uid") for message in self.delivered]

    def _next(self, batch: Batch) -> Outcome | BaseException:
        if self.script:
            return self.script.popleft()
        return (self.decide(batch) if self.decide is not None else None) or OK


class Hanging(Carrier):
    """A transport that never answers."""

    async def send(self, batch: Batch) -> Outcome:
        self.attempts.append((asyncio.get_running_loop().time(), batch.endpoint, batch.messages()))
        await asyncio.Event().wait()
        raise AssertionError
