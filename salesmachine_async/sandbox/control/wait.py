"""Waiting for messages."""

from __future__ import annotations

import asyncio
from heapq import nlargest
from typing import TYPE_CHECKING, Any

from salesmachine_async.sandbox.control.matching import MISSING, Difference, Pattern
from salesmachine_async.sandbox.pacing import Pace

if TYPE_CHECKING:
    from salesmachine_async.sandbox.storage.message_log import MessageLog
    from salesmachine_async.sandbox.views import NearMiss, WaitResult

NEAREST = 3
MAX_COUNT = 10_000
MAX_SECONDS = 600
# Limits of a pattern, because each of its values is compared with each message.
MAX_VALUES = 1000
MAX_PATH = 1000


async def wait(
    message_log: MessageLog, workspace: str | None, match: dict[str, Any], *, count: int, timeout: float, after: int
) -> WaitResult:
    """
    Wait until *count* messages that match have arrived, at most *timeout* seconds.

    Args:
        message_log: The log to search; earlier messages count as far as they are kept.
        workspace: The public name; None means all workspaces.
        match: A partial message, see `Pattern`.
        count: Number of messages to wait for.
        timeout: Seconds; 0 checks once.
        after: Only messages with a greater number count.

    Raises:
        ValueError: An argument is invalid.
    """
    _check(count, timeout, after)
    try:
        pattern = Pattern(match, most_values=MAX_VALUES, most_characters=MAX_PATH)
    except ValueError as error:
        raise ValueError(f"match must have {error}") from None
    search = _MessageSearch(message_log, workspace, pattern, after)
    deadline = asyncio.get_running_loop().time() + timeout
    with message_log.listening() as news:
        while True:
            await search.advance(count)
            left = deadline - asyncio.get_running_loop().time()
            if len(search.found) >= count or left <= 0 or message_log.closed:
                break
            await news.wait(left)
    done = len(search.found) >= count
    return {
        "ok": done,
        "wanted": count,
        "found": len(search.found),
        "items": search.found,
        "next": search.place,
        "nearest": [] if done else await search.nearest(after),
    }


def _check(count: Any, timeout: Any, after: Any) -> None:
    if type(count) is not int or not 1 <= count <= MAX_COUNT:
        raise ValueError(f"count must be a whole number from 1 to {MAX_COUNT}")
    if type(timeout) not in (int, float) or not 0 <= timeout <= MAX_SECONDS:
        raise ValueError(f"timeout must be a number of seconds from 0 to {MAX_SECONDS}")
    if type(after) is not int or after < 0:
        raise ValueError("after must be 0, or the next of an earlier result")


class _MessageSearch:
    """An incremental search; *place* is the number of the last message examined."""

    def __init__(self, message_log: MessageLog, workspace: str | None, pattern: Pattern, after: int) -> None:
        self._message_log = message_log
        self._workspace = workspace
        self._pattern = pattern
        self.place = after
        self.found: list[dict[str, Any]] = []

    async def advance(self, count: int) -> None:
        """Examine new messages until *count* match."""
        pace = Pace()
        for item in self._message_log.after(self.place, self._workspace):
            if len(self.found) >= count:
                return
            self.place = item["number"]
            if not await self._differences(item, pace, most=1):
                self.found.append(item)
            await pace.turn()

    async def nearest(self, after: int) -> list[NearMiss]:
        """Return the messages with the fewest differences, best and latest first."""
        misses: list[tuple[int, int, NearMiss]] = []
        pace = Pace()
        for item in self._message_log.after(after, self._workspace):
            differences = await self._differences(item, pace, most=self._pattern.size)
            if 0 < len(differences) < self._pattern.size:
                miss: NearMiss = {"item": item, "differences": [_shown(each) for each in differences]}
                misses = nlargest(
                    NEAREST, [*misses, (-len(differences), item["number"], miss)], key=lambda each: each[:2]
                )
            await pace.turn()
        return [miss for _, _, miss in misses]

    async def _differences(self, item: dict[str, Any], pace: Pace, *, most: int) -> list[Difference]:
        """Return the first differences, with turns for other tasks: a value is sought in the whole message."""
        found: list[Difference] = []
        for difference in self._pattern.compare(item):
            if difference is not None:
                found.append(difference)
                if len(found) >= most:
                    break
            await pace.turn()
        return found


def _shown(difference: Difference) -> dict[str, Any]:
    shown: dict[str, Any] = {"path": difference.path, "wanted": difference.wanted}
    return shown if difference.found is MISSING else {**shown, "found": difference.found}
