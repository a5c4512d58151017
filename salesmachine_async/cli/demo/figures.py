"""The latency figures: how they are gathered and summed up. Pure numbers, no clock."""

import dataclasses
import math
from array import array
from collections.abc import Iterable, Sequence


def percentile(ordered: Sequence[int], share: float) -> int:
    """
    Give the value that *share* of the values do not exceed, by nearest rank: always one that was measured.

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
    How far rounds of the same kind lie apart, in milliseconds: what the machine does by itself.

    A difference between two kinds of rounds that is smaller than this means nothing.
    """

    p50: float
    p99: float


class Samples:
    """The latencies of one side of the comparison, a machine word a request, kept by round."""

    def __init__(self) -> None:
        self._rounds: list[array[int]] = []

    def open_round(self) -> None:
        """Count what is added from now on as a round of its own."""
        self._rounds.append(array("L"))

    def add(self, microseconds: Iterable[int]) -> None:
        """Add latencies to the round that was opened last."""
        self._rounds[-1].extend(microseconds)

    def last_round(self) -> Latency:
        """Sum up the round that was opened last."""
        return _latency(self._rounds[-1])

    def total(self) -> Latency:
        """Sum up all rounds."""
        return _latency([sample for one in self._rounds for sample in one])

    def spread(self) -> Spread:
        """Compare the rounds with each other."""
        rounds = [_latency(one) for one in self._rounds if one]
        return Spread(p50=_range([one.p50 for one in rounds]), p99=_range([one.p99 for one in rounds]))


def _range(values: Sequence[float]) -> float:
    return max(values) - min(values) if values else 0.0


def _latency(microseconds: Sequence[int]) -> Latency:
    if not microseconds:
        return Latency(requests=0, p50=0.0, p99=0.0)
    ordered = sorted(microseconds)
    return Latency(requests=len(ordered), p50=percentile(ordered, 0.50) / 1000, p99=percentile(ordered, 0.99) / 1000)
