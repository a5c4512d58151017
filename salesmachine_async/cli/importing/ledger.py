"""
The state of every row from its reading to its answer.

The agent's outcomes have no row numbers. A partition answers its messages in the order in which it got them, so that a
count identifies the rows. Rows are settled (counted, and noted if rejected) strictly in the order of the input, so that
the end of the last settled row describes all that is done. Later rows are held until then; the reader waits when they
are too many.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import orjson

from salesmachine_async._core.partition import partition_of
from salesmachine_async.cli.importing.rows import InputRow
from salesmachine_async.report import EncodedMessages

_OPEN, _DELIVERED, _REJECTED, _SKIPPED, _HEADER = range(5)
CHAIN_BYTES = 16


class Disagreement(Exception):
    """An outcome of the agent for other rows than it was given: a bug, after which no count is right."""


@dataclass(slots=True)
class Settled:
    """
    The settled part of an input: all rows up to `end`.

    Attributes:
        end: The offset of its end in the uncompressed input.
        line: The first line of its last row; 0 before the first row.
        delivered: Rows that were delivered.
        rejected: Rows that are not messages, or were rejected by the server.
        chain: A digest of its rows.
        skipped: Rows that the tracking API cannot create, and repeated headers.
        headers: The repeated headers among them.
    """

    end: int = 0
    line: int = 0
    delivered: int = 0
    rejected: int = 0
    chain: str = ""
    skipped: int = 0
    headers: int = 0

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.delivered + self.rejected + self.skipped


class Block:
    """
    Rows that were read together, and the state of each.

    Attributes:
        rows: The rows of this block.
        states: The state of each row, in a byte.
        reasons: The reasons of rejections, by the index of the row.
        messages: The messages without an answer, by the index of a row with several.
        settled: The number of settled rows, from the first on.
    """

    __slots__ = ("messages", "reasons", "rows", "settled", "states")

    def __init__(self, rows: Sequence[InputRow]) -> None:
        self.rows = rows
        self.states = bytearray(len(rows))
        self.reasons: dict[int, str] = {}
        self.messages: dict[int, int] = {}
        self.settled = 0

    def answer(self, indexes: Sequence[int], reason: str | None) -> tuple[int, int]:
        """Note an answer for a message of each row; return how many rows are complete, and how many rejected."""
        if reason is None and not self.messages and not self.reasons:
            for index in indexes:
                self.states[index] = _DELIVERED
            return len(indexes), 0
        complete = rejected = 0
        for index in indexes:
            if reason is not None:
                self.reasons[index] = reason
            if self.messages.get(index, 1) > 1:
                self.messages[index] -= 1
                continue
            complete += 1
            rejected += index in self.reasons
            self.states[index] = _REJECTED if index in self.reasons else _DELIVERED
        return complete, rejected


class _Run:
    """Messages of one block in one partition: the indexes of their rows, their ids, and the number of answers."""

    __slots__ = ("answered", "block", "ids", "indexes")

    def __init__(self, block: Block) -> None:
        self.block = block
        self.indexes: list[int] = []
        self.ids: list[str | None] = []
        self.answered = 0


class Ledger:
    """
    The rows of one input.

    Args:
        concurrency: The number of partitions of the agent.
        on_rejected: Called with each rejected row and the reason, in the order of the input.

    Attributes:
        settled: The settled part.
        answered: Rows with an answer, settled or not, including those of an earlier run.
        rejected: The rejected rows among them.
        skipped: The skipped rows among them.
        pending: Messages without an answer.
        held: Rows that are not settled.
        held_bytes: The size of their text.
    """

    def __init__(self, concurrency: int, on_rejected: Callable[[InputRow, str], None]) -> None:
        self._partitions: tuple[deque[_Run], ...] = tuple(deque[_Run]() for _ in range(concurrency))
        self._blocks: deque[Block] = deque()
        self._on_rejected = on_rejected
        self._chain = hashlib.blake2b(digest_size=CHAIN_BYTES)
        self.settled = Settled()
        self.answered = self.rejected = self.skipped = self.pending = self.held = self.held_bytes = 0

    def skip(self, rows: Sequence[InputRow]) -> None:
        """Add rows to the digest that an earlier run has settled."""
        self._chain.update(b"".join([row.digest for row in rows]))
        self.settled.end, self.settled.line = rows[-1].end, rows[-1].line

    def resume(self, settled: Settled) -> bool:
        """Take over the counts of an earlier run; return False if the skipped rows are others than it settled."""
        if (self.settled.end, self._chain.hexdigest()) != (settled.end, settled.chain):
            return False
        self.settled = settled
        self.answered, self.rejected, self.skipped = settled.rows, settled.rejected, settled.skipped
        return True

    def open(self, rows: Sequence[InputRow]) -> Block:
        """Add rows that were read; each has to be sent, rejected or skipped."""
        block = Block(rows)
        self._blocks.append(block)
        self.held += len(rows)
        self.held_bytes += sum(len(row.text) for row in rows)
        return block

    def expect(self, block: Block, index: int, messages: int) -> None:
        """Note that a row has several messages."""
        block.messages[index] = messages

    def note_sent(self, block: Block, index: int, uid: str, message_id: str | None) -> None:
        """Note that the agent has accepted a message of a row."""
        partitions = self._partitions
        partition = partitions[partition_of(uid, len(partitions)) if len(partitions) > 1 else 0]
        if not partition or partition[-1].block is not block:
            partition.append(_Run(block))
        run = partition[-1]
        run.indexes.append(index)
        run.ids.append(message_id)
        self.pending += 1

    def reject(self, block: Block, index: int, reason: str, *, unsent: int = 1) -> None:
        """Note that a row is not a message, or that *unsent* of its messages cannot be sent."""
        block.reasons[index] = reason
        pending = block.messages.get(index, 1) - unsent
        if pending:
            block.messages[index] = pending
            return
        block.states[index] = _REJECTED
        self.answered += 1
        self.rejected += 1

    def leave_out(self, block: Block, index: int, *, header: bool) -> None:
        """Note that a row is skipped."""
        block.states[index] = _HEADER if header else _SKIPPED
        self.answered += 1
        self.skipped += 1

    def answer(self, batch: EncodedMessages, reason: str | None = None) -> None:
        """
        Note that a batch was delivered, or, with a *reason*, rejected.

        Raises:
            Disagreement: If its messages are not the next ones of their partition.
        """
        partition, left = self._partitions[batch.partition], batch.count
        last: str | None = None
        while left:
            if not partition:
                raise Disagreement("the agent answered for more rows than it was given")
            run = partition[0]
            first, end = run.answered, min(run.answered + left, len(run.indexes))
            rows, rejected = run.block.answer(run.indexes[first:end], reason)
            self.answered += rows
            self.rejected += rejected
            left -= end - first
            run.answered, last = end, run.ids[end - 1]
            if end == len(run.indexes):
                partition.popleft()
        self.pending -= batch.count
        # Comparing one message is enough, because counts that disagree once disagree from then on.
        if last is not None and orjson.loads(batch.lines()[-1]).get("messageId") != last:
            raise Disagreement("the agent answered for another row than the one it was given")

    def settle(self) -> None:
        """Settle all rows before the first one without an answer."""
        blocks, settled = self._blocks, self.settled
        while blocks:
            block = blocks[0]
            begin = block.settled
            end = block.states.find(_OPEN, begin)
            end = len(block.rows) if end < 0 else end
            if end == begin:
                return
            rows = block.rows[begin:end]
            for index in sorted(index for index in block.reasons if begin <= index < end):
                self._on_rejected(block.rows[index], block.reasons[index])
            self._chain.update(b"".join([row.digest for row in rows]))
            settled.delivered += block.states.count(_DELIVERED, begin, end)
            settled.rejected += block.states.count(_REJECTED, begin, end)
            headers = block.states.count(_HEADER, begin, end)
            settled.skipped += block.states.count(_SKIPPED, begin, end) + headers
            settled.headers += headers
            settled.end, settled.line = rows[-1].end, rows[-1].line
            self.held -= len(rows)
            self.held_bytes -= sum(len(row.text) for row in rows)
            block.settled = end
            if end < len(block.rows):
                return
            blocks.popleft()

    def snapshot(self) -> Settled:
        """Return a copy of the settled part, with its digest."""
        return replace(self.settled, chain=self._chain.hexdigest())
