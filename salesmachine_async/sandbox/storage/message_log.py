"""The latest messages in memory, and those who wait for the next."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from salesmachine_async.sandbox.messages import iso

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Sequence

    from salesmachine_async.sandbox.messages import ParsedMessage


# A message without its params, which are in its text: kind, contact_uid, account_uid, name, text, at, message_id. Plain
# tuples of plain values are none of the garbage collector's business; dicts by the thousand would slow every request by
# a tenth.
StoredMessage = tuple[str, str, str, str, str, int | None, str | None]


class Arrival(NamedTuple):
    """The messages of one request: *first* is the number of the first, *received* is in epoch milliseconds."""

    first: int
    workspace: str
    received: int
    messages: Sequence[StoredMessage]

    @property
    def last(self) -> int:
        """The number of the last of them."""
        return self.first + len(self.messages) - 1


class Listener:
    """
    Somebody who waits for news, on any event loop.

    Nothing is queued for it: it is only woken, and reads what there is when it gets to it. So the slowest of them costs
    no memory, and holds up nobody.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Tell that there is news; from any thread."""
        # A loop that is closed has nobody waiting any more.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._news.set)

    async def wait(self, seconds: float) -> bool:
        """Wait for news since the last call; tells whether there is any within *seconds*."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        news = self._news.is_set()
        self._news.clear()
        return news


class MessageLog:
    """
    What has arrived since the server started, counted through from 1 over all workspaces.

    Args:
        bound: how many messages are kept, at least; the requests they came in are kept whole.

    Attributes:
        last: the number of the latest message.
        closed: whether the server stops.
    """

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._kept: deque[Arrival] = deque()
        self._listeners: set[Listener] = set()
        self._boot = secrets.token_hex(4)
        self._resets = 0
        self.last: int = 0
        self.closed: bool = False

    @property
    def era(self) -> str:
        """What numbers of messages belong to: it changes when the server is started, or something is reset."""
        return f"{self._boot}-{self._resets}"

    def add(self, workspace: str, received: int, messages: Sequence[ParsedMessage]) -> None:
        """Add what was accepted of one request."""
        if not messages:
            return
        kept = self._kept
        texts = [message[:4] + message[5:] for message in messages]
        kept.append(Arrival(self.last + 1, workspace, received, texts))
        self.last += len(messages)
        while kept[0].last <= self.last - self._bound:
            kept.popleft()

    def after(self, number: int, workspace: str | None) -> Iterator[dict[str, Any]]:
        """List what arrived after *number* and is kept still, oldest first; of all workspaces when None."""
        for arrival in self._since(number):
            if workspace in {None, arrival.workspace}:
                for place, message in enumerate(arrival.messages, arrival.first):
                    if place > number:
                        yield _item(place, arrival, message)

    def changes(
        self, workspace: str, contact_uids: Collection[str], account_uid: str | None
    ) -> Iterator[dict[str, Any]]:
        """List what is no event and touched one of these contacts, or this account; the latest first."""
        for arrival in reversed(tuple(self._kept)):
            if arrival.workspace != workspace:
                continue
            for place in range(arrival.last, arrival.first - 1, -1):
                message = arrival.messages[place - arrival.first]
                kind, contact, account, name, *_ = message
                touched = contact in contact_uids or (kind == "alias" and name in contact_uids)
                if kind != "event" and (touched or account == account_uid):
                    yield _item(place, arrival, message)

    def latest(self, number: int, workspace: str | None, most: int) -> tuple[list[dict[str, Any]], int]:
        """List as `after` does, but only the latest *most*; also tell how many were left out."""
        arrivals = [each for each in self._since(number) if workspace in {None, each.workspace}]
        total = sum(each.last - max(each.first - 1, number) for each in arrivals)
        items: list[dict[str, Any]] = []
        for arrival in reversed(arrivals):
            for place in range(arrival.last, max(arrival.first - 1, number), -1):
                if len(items) == most:
                    break
                items.append(_item(place, arrival, arrival.messages[place - arrival.first]))
        return items[::-1], total - len(items)

    def forget(self, workspace: str) -> None:
        """Drop what arrived for *workspace*."""
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
        """End all waiting."""
        self.closed = True
        self.notify()

    @contextmanager
    def listening(self) -> Generator[Listener]:
        """Listen within the block."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def _since(self, number: int) -> list[Arrival]:
        """Find the arrivals that hold a message after *number*, walking back only as far as needed."""
        found: list[Arrival] = []
        for arrival in reversed(tuple(self._kept)):
            if arrival.last <= number:
                break
            found.append(arrival)
        return found[::-1]


def _item(number: int, arrival: Arrival, message: StoredMessage) -> dict[str, Any]:
    """Show a message: what was sent, by the names of the control endpoints."""
    kind, contact_uid, account_uid, name, text, at, message_id = message
    item: dict[str, Any] = {"number": number, "workspace": arrival.workspace, "method": kind}
    if kind == "account":
        item["account_uid"] = account_uid
    else:
        item["contact_uid"] = contact_uid
    if kind == "alias":
        item["alias"] = name
    else:
        item["params"] = orjson.loads(text)
    if kind == "event":
        item["event_uid"] = name
    item["message_id"] = message_id
    item["created_at"] = iso(arrival.received if at is None else at)
    item["received_at"] = iso(arrival.received)
    return item
