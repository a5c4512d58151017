"""Packs small entries into full batches: hundreds of processes publish a few messages each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from salesmachine_async._core.batch import SEPARATOR, Batch
from salesmachine_async.policy import Batching
from salesmachine_async.relay.engine import Entry
from salesmachine_async.report import Endpoint

__all__ = ["Coalescer", "batch_of"]


class Coalescer:
    """
    Groups entries, in order, so that each group fits into one request.

    An entry is never divided. One that is larger than the limits, an alias and a damaged one make a group of their own.

    Args:
        batching: The limits of a request.
    """

    def __init__(self, batching: Batching) -> None:
        self._batching = batching
        self._open: list[Entry] = []
        self._messages = self._bytes = 0

    def __len__(self) -> int:
        """Return the number of messages in the open group."""
        return self._messages

    def add(self, entry: Entry) -> Iterator[tuple[Entry, ...]]:
        """Add an entry to the open group; yields the groups that are complete by that."""
        if not self._fits(entry):
            yield from self.close()
        self._open.append(entry)
        self._messages += entry.count
        self._bytes += len(entry.body)
        if not _joins(entry) or self._messages >= self._batching.max_messages:
            yield from self.close()

    def close(self) -> Iterator[tuple[Entry, ...]]:
        """Yield the open group, if there is one, and begin another."""
        if self._open:
            group = tuple(self._open)
            self._open.clear()
            self._messages = self._bytes = 0
            yield group

    def _fits(self, entry: Entry) -> bool:
        limits = self._batching
        messages, size = self._messages + entry.count, self._bytes + len(entry.body)
        return _joins(entry) and messages <= limits.max_messages and size <= limits.max_bytes


def batch_of(entries: Sequence[Entry]) -> Batch:
    """Return the batch that carries a group of entries."""
    count = sum(entry.count for entry in entries)
    if len(entries) == 1:
        return Batch(entries[0].body, count, endpoint=entries[0].endpoint)
    return Batch(b"[" + SEPARATOR.join(entry.body[1:-1] for entry in entries) + b"]", count)


def _joins(entry: Entry) -> bool:
    """Return whether an entry can share a request with others."""
    return entry.endpoint is Endpoint.BATCH and entry.count > 0
