"""Receipts: the answer to the origin of a batch, given once all of its messages have an outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from salesmachine_async.errors import DeliveryError

__all__ = ["Receipt", "RejectedLine"]


class RejectedLine(NamedTuple):
    """A rejected message, to be kept for inspection."""

    line: bytes
    error: DeliveryError | None


class Receipt:
    """
    Counts a batch down until each of its messages has an outcome, then answers once.

    The parts of a batch share its receipt. A queue on disk or a relay makes one for each batch that it puts in.

    Args:
        count: Messages of the batch.
        on_settled: Called once, with the messages that were rejected; once more if a signal handler's exception
            interrupts it. It runs in the loop's thread, and must neither block nor raise.

    Attributes:
        pending: Number of messages without an outcome.
        rejected: The rejected messages so far.
    """

    __slots__ = ("_on_settled", "pending", "rejected")

    def __init__(self, count: int, on_settled: Callable[[Sequence[RejectedLine]], None]) -> None:
        self._on_settled = on_settled
        self.rejected: list[RejectedLine] = []
        self.pending = count

    def settle(self, count: int, rejected: Sequence[RejectedLine] = ()) -> None:
        """Record the outcome of *count* messages, of which those in *rejected* are to be kept."""
        self.rejected += rejected
        self.pending -= count
        if self.pending == 0:
            self.answer()

    def answer(self) -> None:
        """Report that all messages have an outcome."""
        self._on_settled(self.rejected)
