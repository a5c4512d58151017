"""Barriers, up to which a flush waits and reports."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from salesmachine_async.report import LossReason, Report

__all__ = ["Barrier", "Tally"]


@dataclass(frozen=True, slots=True)
class Tally:
    """
    Outcomes so far of the messages before a barrier.

    Attributes:
        delivered: Number of messages delivered.
        lost: Number of messages lost, by reason.
        kept: Number of messages left on disk.
    """

    delivered: int = 0
    lost: Counter[LossReason] = field(default_factory=Counter[LossReason])
    kept: int = 0

    def plus(self, count: int, reason: LossReason | None) -> Tally:
        """Return the tally after *count* more messages were delivered, or lost for *reason*."""
        if reason is None:
            return Tally(self.delivered + count, self.lost, self.kept)
        return Tally(self.delivered, self.lost + Counter({reason: count}), self.kept)

    def plus_kept(self, count: int) -> Tally:
        """Return the tally after *count* more messages were left on disk."""
        return Tally(self.delivered, self.lost, self.kept + count)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Barrier:
    """
    A line drawn behind everything accepted before one moment.

    Attributes:
        number: Batches with this number and lower ones lie before it.
        accepted: Number of messages in them, those included that were put in.
    """

    number: int
    accepted: int

    def report(self, tally: Tally) -> Report:
        """Return what became of the messages before the barrier; what has no outcome yet is pending."""
        pending = self.accepted - tally.delivered - tally.lost.total() - tally.kept
        return Report(delivered=tally.delivered, lost=tally.lost, pending=pending, kept=tally.kept)
