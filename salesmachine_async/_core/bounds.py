"""
The bounds of the queue.

They need no look at each call. While there is room for one more batch in every partition, each partition may add a
batch unseen; nearer to a bound `Partition.append` declines, and every call counts (`Accumulator.add`). So does a call
with a long line: if all lines are shorter, the bound on messages is reached before that on bytes.
"""

from __future__ import annotations

from typing import Final

from salesmachine_async._core.partition import LOOKING, Partition
from salesmachine_async.errors import AgentClosed, MessageTooLarge
from salesmachine_async.policy import Batching, Overflow, QueueLimits

__all__ = ["FRAMING_BYTES", "Bounds", "closed_error", "decline"]

# A body has two brackets, and a separator of two bytes after each message but the last: two bytes a message.
FRAMING_BYTES: Final = 2


class Bounds:
    """
    Says what fits in a batch and in the queue, and routes calls past or through a look at it.

    Args:
        batching: When a batch is full.
        limits: The bounds, over all messages in memory without an outcome.
        partitions: The queues.

    Attributes:
        limits: The bounds.
        batch_messages: Number of messages that fill a batch.
        batch_bytes: Bytes that fill a batch.
        long: Lines above this many bytes are long.
        step: Number of lines, none of them long, that fill a batch at the earliest.
        spare_bytes: Bytes that long lines may still take before a call has to look at the bounds.
        closed: Whether no call is accepted any more.
    """

    def __init__(self, batching: Batching, limits: QueueLimits, partitions: tuple[Partition, ...]) -> None:
        self.limits = limits
        self._partitions = partitions
        self.batch_messages = min(batching.max_messages, limits.max_messages)
        self.batch_bytes = min(batching.max_bytes, limits.max_bytes)
        self.long = min(limits.max_bytes // limits.max_messages, self.batch_bytes - FRAMING_BYTES)
        self.step = max(1, min(self.batch_messages, self.batch_bytes // (self.long + FRAMING_BYTES)))
        self.spare_bytes = 0
        self.closed = False
        self.watch(anew=True)

    def room(self, *, exactly: bool = False) -> tuple[int, int]:
        """
        Return how many messages and bytes still fit; negative beyond the bounds.

        Read along the way of a line, so that one that moves in between is counted twice and never missed. Until they
        are sealed, lines that are not long are taken for as long as such lines can be, unless *exactly* is set: to add
        them up takes time in proportion to their number, which is that of a batch once the agent has started.
        """
        messages, size = self.limits.max_messages, self.limits.max_bytes
        for partition in self._partitions:
            loose = len(partition.pending) + len(partition.lines)
            messages -= loose + partition.unsettled - partition.spilled
            size -= partition.loose_bytes() if exactly else partition.large_bytes + loose * self.long
            size -= partition.unsettled_bytes - partition.spilled_bytes
        return messages, size

    def fill(self) -> float:
        """Return how full the queue is, from 0 to 1, by whichever bound is nearer."""
        messages, size = self.room()
        return 1 - min(messages / self.limits.max_messages, size / self.limits.max_bytes)

    def have_room(self, size: int) -> bool:
        """Return whether a line of *size* bytes may be appended; raises as `Accumulator.add` does."""
        if self.closed:
            raise closed_error()
        if size + FRAMING_BYTES > self.batch_bytes:
            limit = self.batch_bytes - FRAMING_BYTES
            raise MessageTooLarge("message", f"is {size} bytes, but a batch holds at most {limit}")
        messages, room = self.room()
        return messages >= 1 and (room >= size or self.room(exactly=True)[1] >= size)

    def may_be_exceeded(self, size: int) -> bool:
        """
        Return whether the queue may exceed its bounds until the loop displaces: by a batch for each partition.

        Not for a message that would not fit beside what is in flight.
        """
        if self.limits.overflow is not Overflow.DROP_OLDEST:
            return False
        flying = [batch for partition in self._partitions if (batch := partition.in_flight) is not None]
        messages, room = self.room()
        partitions = len(self._partitions)
        return (
            messages + partitions * self.batch_messages >= 1
            and room + partitions * self.batch_bytes >= size
            and sum(batch.count for batch in flying) < self.limits.max_messages
            and sum(batch.size for batch in flying) + size <= self.limits.max_bytes
        )

    def watch(self, *, anew: bool = False) -> None:
        """
        Route every call through a look if a bound is near: if not every partition can add a batch of short lines.

        Else update `spare_bytes`: lines that are not long may have been appended unseen. Only *anew* it may rise.
        """
        spare = self.spare_bytes
        messages, size = self.room()
        lines = len(self._partitions) * self.step
        left = size - lines * self.long
        if messages < lines or left < 0 or self.closed:
            self.guard()
        elif anew or left < spare:
            self.spare_bytes += left - spare  # a difference, because calls have subtracted from it since

    def guard(self) -> None:
        """Route every call of all partitions through a look at the bounds."""
        self.spare_bytes = 0
        for partition in self._partitions:
            partition.append = decline

    def stop_guarding(self) -> None:
        """Let calls append unseen again, if there is room for two batches of short lines in each partition."""
        messages, size = self.room()
        lines = 2 * len(self._partitions) * self.step
        if messages >= lines and size >= lines * self.long and not self.closed:
            for partition in self._partitions:
                # First, so that each call looks at the bounds: other threads may have used up the room by now.
                partition.notice = LOOKING
                partition.append = partition.pending.append


def decline(line: bytes) -> bool:  # noqa: ARG001 (the signature of `deque.append`)
    """Append nothing: the call has to use `Accumulator.add`."""
    return False


def closed_error() -> AgentClosed:
    """Return the error of a call after the close."""
    return AgentClosed("the agent is closed: it accepts no more messages")
