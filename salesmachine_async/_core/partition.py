"""One ordered queue, and the choice of the queue that a uid belongs to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final
from zlib import crc32

from salesmachine_async._core.barrier import Tally
from salesmachine_async._core.batch import Batch

__all__ = ["LOOKING", "Notice", "Partition", "partition_of"]


def partition_of(uid: str, partitions: int) -> int:
    """Return the index of the queue that keeps the order of this uid, below *partitions*; the same in every process."""
    return crc32(uid.encode()) % partitions


class Notice:
    """
    Says when a call has to notify the loop.

    The loop replaces it before it looks at the pending lines, so that what a call stores in an outdated notice has no
    effect.

    Attributes:
        at: The number of pending lines from which on a call must notify the loop.
        sent: Whether the loop was notified since it looked last.
    """

    __slots__ = ("at", "sent")

    def __init__(self) -> None:
        self.at = 0
        self.sent = False


# The notice while the loop looks: every call notifies the loop. A call must store nothing in it, because the lines that
# it would count are being taken off.
LOOKING: Final = Notice()


class Partition:
    """
    One ordered queue. Calls append to `pending`; only the loop's thread changes the rest (see `accumulator`).

    Attributes:
        index: The position among the partitions.
        pending: Lines that calls have appended and the loop has not collected yet.
        append: Appends a line to `pending` and returns None; or, near a bound and when closed, declines by returning
            False.
        notice: The number of pending lines from which on a call notifies the loop.
        lines: The open batch: lines that were collected and are not sealed yet.
        large_bytes: Bytes of the long ones among the pending and the open lines; `Accumulator` says which are long.
        due: Whether the open batch has waited long enough, so that the sender may take it before it is full.
        sealed: Batches to send, oldest first, but for one that `Accumulator.defer` may have brought to the front.
        in_flight: The batch that the sender works on, if any.
        unsettled: Number of messages in `sealed` and `in_flight`.
        unsettled_bytes: The bytes of the unsettled messages.
        numbered: Number of messages that were ever sealed, and so the number of the first one that is not.
        changes: Odd while messages move between these containers, and another number afterwards; see `snapshot`.
        recovered: Number of messages put in as batches (`Accumulator.put`).
        spilled: Number of messages in `sealed` that are on disk only.
        spilled_bytes: The bytes of the spilled messages.
        tally: Numbers of the messages that have an outcome.
    """

    __slots__ = (
        "append",
        "changes",
        "due",
        "in_flight",
        "index",
        "large_bytes",
        "lines",
        "notice",
        "numbered",
        "pending",
        "recovered",
        "sealed",
        "spilled",
        "spilled_bytes",
        "tally",
        "unsettled",
        "unsettled_bytes",
    )

    def __init__(self, index: int) -> None:
        self.index = index
        self.pending: deque[bytes] = deque()
        self.append: Callable[[bytes], object] = self.pending.append
        self.notice = Notice()
        self.lines: list[bytes] = []
        self.large_bytes = 0
        self.due = False
        self.sealed: deque[Batch] = deque()
        self.in_flight: Batch | None = None
        self.unsettled = self.unsettled_bytes = 0
        self.numbered = self.changes = 0
        self.spilled = self.spilled_bytes = 0
        self.recovered = 0
        self.tally = Tally()

    def loose_bytes(self) -> int:
        """Return the bytes of the lines that are not sealed."""
        return sum(map(len, self.pending.copy())) + sum(map(len, self.lines.copy()))

    def in_flight_size(self) -> tuple[int, int]:
        """Return the number of messages in flight, and their bytes; none for a message alone (`Accumulator.defer`)."""
        batch = self.in_flight
        return (batch.count, batch.size) if batch is not None and batch.count > 1 else (0, 0)
