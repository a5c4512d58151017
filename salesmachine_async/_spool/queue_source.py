"""View of an agent's queues for the thread that writes them."""

from __future__ import annotations

import sys

from salesmachine_async._core.accumulator import Accumulator
from salesmachine_async._core.snapshot import unwritten, waiting
from salesmachine_async._spool.pieces import ALIAS, BATCH, LogPiece

__all__ = ["QueueSource"]


class QueueSource:
    """
    The `QueueView` of an accumulator.

    Args:
        accumulator: The queues; replaced by those of the child after a fork.
        deliver: Whether the agent delivers. If not, another process settles what this one writes.
    """

    __slots__ = ("_deliver", "accumulator")

    def __init__(self, accumulator: Accumulator, *, deliver: bool) -> None:
        self.accumulator = accumulator
        self._deliver = deliver

    def waiting(self, partition: int) -> list[range]:
        """Return the numbers of the messages that are not settled by this process."""
        return waiting(self.accumulator.partitions[partition]) if self._deliver else [range(sys.maxsize)]

    def unwritten(self, partition: int, written: int) -> list[LogPiece]:
        """Return what is in memory and has a number of at least *written*."""
        return [
            LogPiece(partition, run.first, run.messages, run.lines, ALIAS if run.alias else BATCH)
            for run in unwritten(self.accumulator.partitions[partition], written)
        ]
