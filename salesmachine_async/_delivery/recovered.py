"""Batches of what dead processes left: full ones, although each commit of theirs wrote only a few messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from salesmachine_async._core.batch import AliasLine, Batch
from salesmachine_async._core.receipt import Receipt, RejectedLine
from salesmachine_async._spool.pieces import ALIAS
from salesmachine_async._spool.spooler import Recovered
from salesmachine_async.policy import Batching

__all__ = ["batches_of"]

# Bytes that framing adds to a message in a body.
FRAMING_BYTES = 2


class _Group:
    """Lines for one batch, and how many of them belong to which receipt."""

    def __init__(self, written_ms: int, *, expired: bool) -> None:
        self.written_ms = written_ms
        self.expired = expired
        self.lines: list[bytes] = []
        self.size = 0
        self.shares: list[tuple[Receipt, int]] = []

    def add(self, line: bytes, receipt: Receipt) -> None:
        self.lines.append(line)
        self.size += len(line) + FRAMING_BYTES
        if self.shares and self.shares[-1][0] is receipt:
            self.shares[-1] = (receipt, self.shares[-1][1] + 1)
        else:
            self.shares.append((receipt, 1))

    def batch(self, partition: int) -> Batch:
        batch = Batch.of_lines(self.lines, partition=partition)
        shares = self.shares

        def settle(rejected: Sequence[RejectedLine]) -> None:
            for receipt, count in shares:
                receipt.settle(count, rejected)
                rejected = ()  # all of them are kept at one place

        batch.receipt = Receipt(len(self.lines), settle)
        return batch


def batches_of(found: Sequence[Recovered], batching: Batching, partition: int) -> Iterator[tuple[Batch, int, bool]]:
    """
    Yield batches of recovered messages, in order; with the time of writing of the first one, and whether they expired.

    Args:
        found: The messages.
        batching: The size of a batch. A message that is larger is a batch of its own: the server decides.
        partition: The partition that gets the batches.
    """
    group: _Group | None = None
    for each in found:
        alias = each.piece.kind == ALIAS
        for line in bytes(each.piece.lines).split(b"\n"):
            if group is not None and (
                alias
                or group.expired != each.expired
                or len(group.lines) >= batching.max_messages
                or group.size + len(line) + FRAMING_BYTES > batching.max_bytes
            ):
                yield group.batch(partition), group.written_ms, group.expired
                group = None
            if group is None:
                group = _Group(each.piece.written_ms, expired=each.expired)
            group.add(AliasLine(line) if alias else line, each.receipt)
            if alias:
                yield group.batch(partition), group.written_ms, group.expired
                group = None
    if group is not None:
        yield group.batch(partition), group.written_ms, group.expired
