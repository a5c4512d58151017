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


class _Shares:
    """
    Passes the outcome of a batch on to the receipts of the records that it was made of.

    Args:
        shares: The receipts, and how many messages of the batch belong to each.
    """

    def __init__(self, shares: list[tuple[Receipt, int]]) -> None:
        self._all = self._left = shares

    def settle(self, rejected: Sequence[RejectedLine]) -> None:
        """Settle each share once, also when a signal handler's exception interrupts it and it is called again."""
        while self._left:
            receipt, count = self._left[0]
            kept = rejected if self._left is self._all else ()  # all of them are kept at one place
            # From here on nothing is called: a share that is interrupted was settled or was not.
            receipt.rejected += kept
            receipt.pending -= count
            self._left = self._left[1:]
        for receipt, _ in self._all:
            if receipt.pending == 0:
                receipt.answer()


class _Group:
    """Lines for one batch, and how many of them belong to which receipt."""

    def __init__(self, *, expired: bool) -> None:
        self.written_ms = 0
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
        batch.receipt = Receipt(len(self.lines), _Shares(self.shares).settle)
        return batch


def batches_of(found: Sequence[Recovered], batching: Batching, partition: int) -> Iterator[tuple[Batch, int, bool]]:
    """
    Yield batches of recovered messages, in order; with the time of writing of the newest, and whether they expired.

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
                group = _Group(expired=each.expired)
            group.written_ms = max(group.written_ms, each.piece.written_ms)
            group.add(AliasLine(line) if alias else line, each.receipt)
            if alias:
                yield group.batch(partition), group.written_ms, group.expired
                group = None
    if group is not None:
        yield group.batch(partition), group.written_ms, group.expired
