"""The latest messages in memory, and notification of new ones."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from salesmachine_async.sandbox.messages import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterator, Sequence

    from salesmachine_async.sandbox.messages import ParsedMessage
    from salesmachine_async.sandbox.plan.results import PlanResults


# A message without the parsed params: kind, contact_uid, account_uid, name, text, at, message_id. The garbage collector
# does not track plain tuples of atomic values; thousands of dicts would slow every request by a tenth.
StoredMessage = tuple[str, str, str, str, str, int | None, str | None]


class Arrival(NamedTuple):
    """The messages of one request: *first* is the number of the first, *received* is epoch milliseconds."""

    first: int
    workspace: str
    received: int
    messages: Sequence[StoredMessage]

    @property
    def last(self) -> int:
        """The number of the last message."""
        return self.first + len(self.messages) - 1


class Listener:
    """
    A waiter for new messages, on any event loop.

    Nothing is queued for a listener: it is only woken and reads the log when it runs. A slow listener therefore costs
    no memory and delays no other.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Wake the listener; thread-safe."""
        # A closed loop has no waiters.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._news.set)

    async def wait(self, seconds: float) -> bool:
        """Wait at most *seconds* for news since the last call; return whether there is any."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        news = self._news.is_set()
        self._news.clear()
        return news


class MessageLog:
    """
    The messages received since the server started, numbered from 1 across all workspaces.

    Args:
        bound: Minimum number of messages kept; each request is kept as a whole.
        plan_results: The verdicts to add to the messages.

    Attributes:
        last: The number of the latest message.
        closed: Whether the server is stopping.
    """

    def __init__(self, bound: int, plan_results: PlanResults | None = None) -> None:
        self._plan_results = plan_results
        self._bound = bound
        self._kept: deque[Arrival] = deque()
        self._listeners: set[Listener] = set()
        self._boot = secrets.token_hex(4)
        self._resets = 0
        self.last: int = 0
        self.closed: bool = False

    @property
    def era(self) -> str:
        """The scope of message numbers; it changes when the server starts and at each reset."""
        return f"{self._boot}-{self._resets}"

    def add(self, workspace: str, received: int, messages: Sequence[ParsedMessage]) -> None:
        """Append the applied messages of one request."""
        if not messages:
            return
        kept = self._kept
        texts = [message[:4] + message[5:] for message in messages]
        kept.append(Arrival(self.last + 1, workspace, received, texts))
        self.last += len(messages)
        while kept[0].last <= self.last - self._bound:
            kept.popleft()

    def after(
        self, number: int, workspace: str | None, decode: Callable[[str], Any] = orjson.loads
    ) -> Iterator[dict[str, Any]]:
        """Yield the kept messages after *number*, oldest first, of all workspaces if *workspace* is None."""
        for arrival in self._since(number):
            if workspace in {None, arrival.workspace}:
                for place, message in enumerate(arrival.messages, arrival.first):
                    if place > number:
                        yield self._item(place, arrival, message, decode)

    def changes(
        self, workspace: str, contact_uids: Collection[str], account_uid: str | None
    ) -> Iterator[dict[str, Any]]:
        """Yield the messages except events that affected one of these contacts, or this account, latest first."""
        for arrival in reversed(tuple(self._kept)):
            if arrival.workspace != workspace:
                continue
            for place in range(arrival.last, arrival.first - 1, -1):
                message = arrival.messages[place - arrival.first]
                kind, contact, account, name, *_ = message
                touched = contact in contact_uids or (kind == "alias" and name in contact_uids)
                if kind != "event" and (touched or account == account_uid):
                    yield self._item(place, arrival, message)

    def latest(self, number: int, workspace: str | None, most: int) -> tuple[list[dict[str, Any]], int]:
        """Return the latest *most* messages after *number*, oldest first, and the number of skipped ones."""
        arrivals = [each for each in self._since(number) if workspace in {None, each.workspace}]
        total = sum(each.last - max(each.first - 1, number) for each in arrivals)
        items: list[dict[str, Any]] = []
        for arrival in reversed(arrivals):
            for place in range(arrival.last, max(arrival.first - 1, number), -1):
                if len(items) == most:
                    break
                items.append(self._item(place, arrival, arrival.messages[place - arrival.first], orjson.Fragment))
        return items[::-1], total - len(items)

    def forget(self, workspace: str) -> None:
        """Delete the messages of *workspace*."""
        kept = [each for each in list(self._kept) if each.workspace != workspace]
        self._kept.clear()
        self._kept.extend(kept)
        self._resets += 1
        self.notify()

    def notify(self) -> None:
        """Wake all listeners."""
        for listener in tuple(self._listeners):
            listener.wake()

    def close(self) -> None:
        """Wake all listeners for the last time."""
        self.closed = True
        self.notify()

    @contextmanager
    def listening(self) -> Generator[Listener]:
        """Register a listener for the block."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def _since(self, number: int) -> list[Arrival]:
        """Return the arrivals with messages after *number*, walking back only as far as needed."""
        found: list[Arrival] = []
        for arrival in reversed(tuple(self._kept)):
            if arrival.last <= number:
                break
            found.append(arrival)
        return found[::-1]

    def _item(
        self, number: int, arrival: Arrival, message: StoredMessage, decode: Callable[[str], Any] = orjson.loads
    ) -> dict[str, Any]:
        """Return a message with the field names of the control endpoints."""
        kind, contact_uid, account_uid, name, text, at, message_id = message
        item: dict[str, Any] = {"number": number, "workspace": arrival.workspace, "method": kind}
        if kind == "account":
            item["account_uid"] = account_uid
        else:
            item["contact_uid"] = contact_uid
        if kind == "alias":
            item["alias"] = name
        else:
            item["params"] = decode(text)
        if kind == "event":
            item["event_uid"] = name
        results = self._plan_results
        if results is not None and results.plan is not None:
            item["problems"] = results.problems(number)
        item["message_id"] = message_id
        item["created_at"] = iso(arrival.received if at is None else at)
        item["received_at"] = iso(arrival.received)
        return item
