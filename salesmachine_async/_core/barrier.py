"""Barriers, up to which a flush waits and reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from salesmachine_async.report import LossReason, Report

__all__ = ["Barrier", "Tally"]


class Tally(NamedTuple):
    """
    Numbers of messages by outcome. It is replaced as a whole, never changed.

    Attributes:
        delivered: Number of messages delivered.
        lost: Number of messages lost, by reason.
        kept: Number of messages left on disk.
    """

    delivered: int = 0
    lost: Mapping[LossReason, int] = MappingProxyType({})
    kept: int = 0

    def plus(self, other: Tally) -> Tally:
        """Return the sum of the two."""
        lost = self.lost
        if other.lost:
            lost = {**lost, **{reason: lost.get(reason, 0) + count for reason, count in other.lost.items()}}
        return Tally(self.delivered + other.delivered, lost, self.kept + other.kept)

    def total(self) -> int:
        """Return the number of messages that have an outcome."""
        return self.delivered + sum(self.lost.values()) + self.kept


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
        pending = self.accepted - tally.total()
        return Report(delivered=tally.delivered, lost=Counter(tally.lost), pending=pending, kept=tally.kept)
