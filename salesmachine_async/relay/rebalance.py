"""Distribution of the partitions: an equal share for each relay."""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ["fair_share", "surplus", "wanted"]


def fair_share(partitions: int, relays: int) -> int:
    """Return the maximum number of partitions of one relay among those that are alive."""
    return -(-partitions // max(1, relays))


def surplus(owned: Collection[int], share: int, partitions: int) -> Sequence[int]:
    """
    Return the partitions to give back: those with the highest indices.

    Args:
        owned: Those that the relay owns.
        share: How many it may own.
        partitions: How many there are. The relay owns others, if the queue was made anew with fewer.
    """
    existing = [partition for partition in sorted(owned) if partition < partitions]
    return [*existing[share:], *(partition for partition in sorted(owned) if partition >= partitions)]


def wanted(owned: Collection[int], share: int, partitions: int, *, first: int) -> Sequence[int]:
    """
    Return the partitions to try to acquire, in this order, until the share is reached.

    Args:
        owned: Those that the relay owns.
        share: How many it may own.
        partitions: How many there are.
        first: Where to begin, so that relays which start together do not all try the same ones.
    """
    if len(owned) >= share:
        return ()
    order = ((first + i) % partitions for i in range(partitions))
    return [partition for partition in order if partition not in owned]
