"""The line that a `flush()` draws through the partition of messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from salesmachine_async.report import LossReason, Report


class Barrier:
    """
    Follows what was accepted before one moment until each message of it has an outcome.

    Args:
        epoch: Batches of this epoch and earlier ones were accepted before the moment.
        accepted: Messages accepted by then.
        delivered: Messages delivered by then.
        lost: Messages lost by then.
        pending: Messages without an outcome then, per partition.
    """

    __slots__ = ("accepted", "delivered", "epoch", "lost", "pending")

    def __init__(
        self, epoch: int, *, accepted: int, delivered: int, lost: Counter[LossReason], pending: list[int]
    ) -> None:
        self.epoch = epoch
        self.accepted = accepted
        self.delivered = delivered
        self.lost = Counter(dict.fromkeys(LossReason, 0) | lost)
        self.pending = pending

    def settled(self, but_for_partitions: Collection[int] = ()) -> bool:
        """Whether nothing is pending, except perhaps in those partitions."""
        return not any(count and partition not in but_for_partitions for partition, count in enumerate(self.pending))

    def report(self) -> Report:
        """Return the counts as they are now."""
        return Report(delivered=self.delivered, lost=+self.lost, pending=sum(self.pending))
