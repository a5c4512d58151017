"""
A partition's messages at one moment, for a thread that takes nothing off the queue: the one that writes the spool.

It copies what is loose in one step, and what is sealed by reference. The thread of the loop may move messages at any
time; it makes `Partition.changes` odd before and another number after each move, and a copy during which that number
has changed is made again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby, islice
from typing import Final, NamedTuple

from salesmachine_async._core.batch import AliasLine, Batch
from salesmachine_async._core.partition import Partition
from salesmachine_async.report import Endpoint

__all__ = ["Run", "messages_below", "unwritten", "waiting"]

# Loose lines in one run: about as many as in a batch.
RUN_LINES: Final = 128
# Copies that are tried. A move that ran out of memory in its middle leaves the number odd until the next one.
TRIES: Final = 1000


class Run(NamedTuple):
    """
    Consecutive messages of a partition.

    Attributes:
        first: The number of the first one within the partition.
        messages: The number of messages.
        lines: The messages as encoded, joined by newlines.
        alias: Whether it is one alias.
    """

    first: int
    messages: int
    lines: bytes
    alias: bool


class _Snapshot(NamedTuple):
    """
    Content of a partition at one moment.

    Attributes:
        numbered: The number of the first loose message.
        loose: The messages that are not sealed, oldest first.
        sealed: Batches; ascending, but for the first one.
        in_flight: The batch that the sender works on.
    """

    numbered: int
    loose: list[bytes]
    sealed: list[Batch]
    in_flight: Batch | None


def unwritten(partition: Partition, written: int) -> list[Run]:
    """Return what has no outcome and a number of at least *written*, oldest first; a first run may begin before it."""
    now = _copy(partition)
    found = {batch.first: batch for batch in _newer(now, written) if batch.first + batch.count > written}
    runs = [_run_of(found[first]) for first in sorted(found)]
    runs = [run for run in runs if run.lines]  # without what is on disk only
    skipped = max(0, written - now.numbered)
    runs += _runs_of(now.loose[skipped:], now.numbered + skipped)
    return runs


def waiting(partition: Partition) -> list[range]:
    """
    Return the numbers of the messages without an outcome, in no order; the last range has no end.

    What is in flight may be followed by messages that were lost, to make room for others.
    """
    now = _copy(partition)
    ahead = now.sealed[:1] if now.in_flight is None else [now.in_flight, *now.sealed[:1]]
    rest = now.sealed[1].first if len(now.sealed) > 1 else now.numbered
    return [*(range(batch.first, batch.first + batch.count) for batch in ahead), range(rest, sys.maxsize)]


def messages_below(partition: Partition, end: int) -> int:
    """Return how many messages without an outcome have a number below *end*."""
    now = _copy(partition)
    batches = {batch.first: batch for batch in (*now.sealed, *([now.in_flight] if now.in_flight else []))}
    sealed = sum(max(0, min(batch.count, end - batch.first)) for batch in batches.values())
    return sealed + max(0, min(len(now.loose), end - now.numbered))


def _copy(partition: Partition) -> _Snapshot:
    for _ in range(TRIES):
        changes = partition.changes
        now = _copy_once(partition)
        if partition.changes == changes and not changes & 1:
            return now
    return _copy_once(partition)


def _copy_once(partition: Partition) -> _Snapshot:
    numbered, in_flight = partition.numbered, partition.in_flight
    lines, pending, sealed = partition.lines.copy(), partition.pending.copy(), partition.sealed.copy()
    return _Snapshot(numbered, [*lines, *pending], [*sealed], in_flight)


def _newer(now: _Snapshot, written: int) -> Iterator[Batch]:
    """Yield the batches that may hold numbers of at least *written*."""
    if now.in_flight is not None:
        yield now.in_flight
    yield from now.sealed[:1]
    for batch in reversed(now.sealed):
        if batch.first + batch.count <= written:
            return
        yield batch


def _run_of(batch: Batch) -> Run:
    return Run(batch.first, batch.count, b"\n".join(batch.lines()), batch.endpoint is Endpoint.ALIAS)


def _runs_of(lines: list[bytes], first: int) -> Iterator[Run]:
    """Yield loose lines in runs; each alias alone."""
    for alias, group in groupby(lines, lambda line: type(line) is AliasLine):
        while some := [*islice(group, 1 if alias else RUN_LINES)]:
            yield Run(first, len(some), b"\n".join(some), alias)
            first += len(some)
