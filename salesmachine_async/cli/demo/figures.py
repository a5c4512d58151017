"""Latency figures: collection and percentiles."""

import dataclasses
import math
from array import array
from collections.abc import Iterable, Sequence


def percentile(ordered: Sequence[int], share: float) -> int:
    """
    Return the value that *share* of the values do not exceed, by nearest rank.

    Args:
        ordered: The values, ascending; at least one.
        share: Between 0 and 1.
    """
    rank = math.ceil(share * len(ordered))
    return ordered[max(rank, 1) - 1]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """A summary of request latencies, in milliseconds."""

    requests: int
    p50: float
    p99: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """
    The range over rounds of one kind, in milliseconds: the noise of the machine.

    A smaller difference between two kinds of rounds means nothing.
    """

    p50: float
    p99: float


class Samples:
    """The latencies of one side of the comparison, by round."""

    def __init__(self) -> None:
        self._rounds: list[array[int]] = []

    def open_round(self) -> None:
        """Begin a round."""
        self._rounds.append(array("L"))

    def add(self, microseconds: Iterable[int]) -> None:
        """Add latencies to the last round."""
        self._rounds[-1].extend(microseconds)

    def last_round(self) -> Latency:
        """Return the figures of the last round."""
        return _latency(self._rounds[-1])

    def total(self) -> Latency:
        """Return the figures of all rounds."""
        return _latency([sample for one in self._rounds for sample in one])

    def spread(self) -> Spread:
        """Return the range of the figures over the rounds."""
        rounds = [_latency(one) for one in self._rounds if one]
        return Spread(p50=_range([one.p50 for one in rounds]), p99=_range([one.p99 for one in rounds]))


def _range(values: Sequence[float]) -> float:
    return max(values) - min(values) if values else 0.0


def _latency(microseconds: Sequence[int]) -> Latency:
    if not microseconds:
        return Latency(requests=0, p50=0.0, p99=0.0)
    ordered = sorted(microseconds)
    return Latency(requests=len(ordered), p50=percentile(ordered, 0.50) / 1000, p99=percentile(ordered, 0.99) / 1000)
