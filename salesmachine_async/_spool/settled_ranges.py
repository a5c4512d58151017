"""Settlement per partition: one position, and the ranges settled ahead of it. Pure."""

from __future__ import annotations

__all__ = ["SettledRanges"]


class SettledRanges:
    """
    Turns settled ranges into one number per partition: everything before it is settled.

    Messages settle in order but for those that a full queue displaces behind a request in flight.
    """

    __slots__ = ("_ahead", "_settled")

    def __init__(self, settled: tuple[int, ...] = ()) -> None:
        self._settled = dict(enumerate(settled))
        # By partition and first number: where a range ends that begins behind the number.
        self._ahead: dict[int, dict[int, int]] = {}

    def settled(self, partition: int) -> int:
        """Return the number of the oldest message that has no outcome yet."""
        return self._settled.get(partition, 0)

    def settle(self, partition: int, first: int, count: int) -> None:
        """Record the outcome of *count* messages from number *first* on."""
        end = first + count
        settled = self.settled(partition)
        if end <= settled:
            return
        ahead = self._ahead.setdefault(partition, {})
        if first > settled:
            ahead[first] = max(end, ahead.get(first, 0))
            return
        settled = end
        for start in sorted(ahead):
            if start > settled:
                break
            settled = max(settled, ahead.pop(start))
        self._settled[partition] = settled

    def numbers(self) -> tuple[int, ...]:
        """Return the number of each partition, from 0 to the highest one that has any."""
        return tuple(self.settled(partition) for partition in range(max(self._settled, default=-1) + 1))
