"""The queue of one partition: its open batch, its sealed batches, what is in flight, and what they amount to."""

from __future__ import annotations

from collections import deque

from salesmachine_async._core.batch import OPEN, Batch


class Partition:
    """
    The queue of one partition. Only the `Accumulator` changes it; and `Agent.track`, which adds to it within the grant.

    Attributes:
        index: Which partition.
        open: The open batch: a bracket, then lines.
        count: Messages in the open batch.
        count_limit: The grant: how many messages the open batch may reach in the short way of a call.
        room: What is left of the grant in bytes.
        granted_full: Whether the grant reaches to the batch's last message, which is added the long way.
        order: When the open batch was opened, relative to others.
        sealed: Batches to send, oldest first; their messages and bytes beside it.
        in_flight: Messages taken by the partition and not settled yet; their bytes beside it.
        flying: The batch they are in; None when there is none.
    """

    __slots__ = (
        "count",
        "count_limit",
        "flying",
        "granted_full",
        "in_flight",
        "in_flight_bytes",
        "index",
        "open",
        "order",
        "room",
        "sealed",
        "sealed_bytes",
        "sealed_messages",
    )

    def __init__(self, index: int) -> None:
        self.index = index
        self.open = bytearray(OPEN)
        self.count = self.count_limit = self.room = self.order = 0
        self.granted_full = False
        self.sealed: deque[Batch] = deque()
        self.sealed_messages = self.sealed_bytes = 0
        self.in_flight = self.in_flight_bytes = 0
        self.flying: Batch | None = None

    @property
    def queued(self) -> int:
        """Messages that wait, in sealed batches and in the open one."""
        return self.sealed_messages + self.count

    @property
    def queued_bytes(self) -> int:
        """Their bytes, less the open batch's bracket."""
        return self.sealed_bytes + len(self.open) - len(OPEN)

    def take(self) -> Batch | None:
        """Move the oldest sealed batch in flight, if there is one; all at once, whatever a signal handler raises."""
        while self.sealed:
            batch = self.sealed[0]
            count, size = batch.count, batch.size
            # Else a call in the middle has displaced it, or its oldest message.
            if self.sealed and self.sealed[0] is batch and batch.count == count:
                self.sealed_messages -= count
                self.sealed_bytes -= size
                self.in_flight += count
                self.in_flight_bytes += size
                self.flying = batch
                del self.sealed[0]
                return batch
        return None

    def replace(self, batch: Batch, *parts: Batch) -> None:
        """Queue in the place of a batch in flight what it was made of, oldest first; at the front, and all at once."""
        count, size = batch.count, batch.size
        parts = parts[::-1]
        queue = self.sealed.extendleft
        self.in_flight -= count
        self.in_flight_bytes -= size
        self.flying = None
        self.sealed_messages += count
        self.sealed_bytes += size
        queue(parts)

    @property
    def promised(self) -> int:
        """How many more messages the grant allows."""
        return max(0, self.count_limit - self.count) + self.granted_full

    def revoke(self) -> None:
        """End the grant: the next call goes the long way."""
        self.count_limit = self.room = 0
        self.granted_full = False
