"""
Follows every row from its reading to its answer.

What the agent tells has no row numbers in it, and needs none: a partition answers its messages in the order in which it
got them, so a count is enough to know which rows an answer is for. Rows are settled (counted, and noted when rejected)
strictly in the order of the input, so that one number, the end of the last settled row, says all that is done. What is
beyond is held until then: the reader has to wait while that is too much.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import orjson

from salesmachine_async import Batch
from salesmachine_async.cli.importing.rows import InputRow

_OPEN, _DELIVERED, _REJECTED, _SKIPPED = range(4)
CHAIN_BYTES = 16


class Disagreement(Exception):
    """The agent answered for rows it was never given, or for others: a bug, after which no count can be trusted."""


@dataclass(slots=True)
class Settled:
    """
    The part of an input that is answered for: all rows up to `end`.

    Attributes:
        end: Where it ends: bytes of the unzipped input.
        line: The line its last row began in; 0 before the first.
        delivered: Rows the server has taken.
        rejected: Rows that will never arrive: no messages, or refused by the server.
        chain: A digest of its rows.
        skipped: Rows that are nothing the tracking API has.
    """

    end: int = 0
    line: int = 0
    delivered: int = 0
    rejected: int = 0
    chain: str = ""
    skipped: int = 0

    @property
    def rows(self) -> int:
        """How many rows."""
        return self.delivered + self.rejected + self.skipped


class Block:
    """
    Rows that were read together, and what is known of each.

    Attributes:
        rows: They.
        states: A byte for each.
        reasons: Why some are rejected, by their index.
        settled: How many of them are, from the first on.
    """

    __slots__ = ("reasons", "rows", "settled", "states")

    def __init__(self, rows: Sequence[InputRow]) -> None:
        self.rows = rows
        self.states = bytearray(len(rows))
        self.reasons: dict[int, str] = {}
        self.settled = 0


class _Run:
    """Rows of one block that one partition got, in that order: their indexes and ids, and how many are answered."""

    __slots__ = ("answered", "block", "ids", "indexes")

    def __init__(self, block: Block) -> None:
        self.block = block
        self.indexes: list[int] = []
        self.ids: list[str | None] = []
        self.answered = 0


class Ledger:
    """
    The rows of one input that are under way.

    Args:
        concurrency: As of the agent.
        on_rejected: Told of each rejected row and why, in the order of the input.

    Attributes:
        settled: What is answered for.
        answered: Rows that have an answer, settled or not, those of an earlier run included.
        rejected: Those of them that are rejected.
        skipped: Those of them that are skipped.
        pending: Rows the agent has accepted and not answered for.
        held: Rows that are not settled.
        held_bytes: Their text.
    """

    def __init__(self, concurrency: int, on_rejected: Callable[[InputRow, str], None]) -> None:
        self._partitions: tuple[deque[_Run], ...] = tuple(deque[_Run]() for _ in range(concurrency))
        self._blocks: deque[Block] = deque()
        self._on_rejected = on_rejected
        self._chain = hashlib.blake2b(digest_size=CHAIN_BYTES)
        self.settled = Settled()
        self.answered = self.rejected = self.skipped = self.pending = self.held = self.held_bytes = 0

    def skip(self, rows: Sequence[InputRow]) -> None:
        """Pass over rows that an earlier import has settled."""
        self._chain.update(b"".join([row.digest for row in rows]))
        self.settled.end, self.settled.line = rows[-1].end, rows[-1].line

    def resume(self, settled: Settled) -> bool:
        """Take over what came of the rows passed over; False when they are not the ones that were settled."""
        if (self.settled.end, self._chain.hexdigest()) != (settled.end, settled.chain):
            return False
        self.settled = settled
        self.answered, self.rejected, self.skipped = settled.rows, settled.rejected, settled.skipped
        return True

    def open(self, rows: Sequence[InputRow]) -> Block:
        """Begin to follow rows that were read; each is to be sent, rejected or left out."""
        block = Block(rows)
        self._blocks.append(block)
        self.held += len(rows)
        self.held_bytes += sum(len(row.text) for row in rows)
        return block

    def note_sent(self, block: Block, index: int, uid: str, message_id: str | None) -> None:
        """Note that the agent has accepted a row."""
        partition = self._partitions[partition_of(uid, len(self._partitions))]
        if not partition or partition[-1].block is not block:
            partition.append(_Run(block))
        run = partition[-1]
        run.indexes.append(index)
        run.ids.append(message_id)
        self.pending += 1

    def reject(self, block: Block, index: int, reason: str) -> None:
        """Note that a row is no message."""
        block.states[index] = _REJECTED
        block.reasons[index] = reason
        self.answered += 1
        self.rejected += 1

    def leave_out(self, block: Block, index: int) -> None:
        """Note that a row is nothing the tracking API has."""
        block.states[index] = _SKIPPED
        self.answered += 1
        self.skipped += 1

    def answer(self, batch: EncodedMessages, reason: str | None = None) -> None:
        """
        Note what became of a batch: delivered, or, with a *reason*, lost for good.

        Raises:
            Disagreement: Its messages are not the next ones of their partition.
        """
        partition, left = self._partitions[batch.partition], batch.count
        last: str | None = None
        while left:
            if not partition:
                raise Disagreement("the agent answered for more rows than it was given")
            run = partition[0]
            first, end = run.answered, min(run.answered + left, len(run.indexes))
            for index in run.indexes[first:end]:
                run.block.states[index] = _DELIVERED if reason is None else _REJECTED
                if reason is not None:
                    run.block.reasons[index] = reason
            left -= end - first
            run.answered, last = end, run.ids[end - 1]
            if end == len(run.indexes):
                partition.popleft()
        self.answered += batch.count
        self.pending -= batch.count
        self.rejected += 0 if reason is None else batch.count
        # One of them is enough: if counts were ever out of step, they would be so from there on.
        if last is not None and orjson.loads(batch.lines()[-1]).get("messageId") != last:
            raise Disagreement("the agent answered for another row than the one it was given")

    def settle(self) -> None:
        """Settle what can be: rows that have an answer, and none without one before them."""
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
            settled.skipped += block.states.count(_SKIPPED, begin, end)
            settled.end, settled.line = rows[-1].end, rows[-1].line
            self.held -= len(rows)
            self.held_bytes -= sum(len(row.text) for row in rows)
            block.settled = end
            if end < len(block.rows):
                return
            blocks.popleft()

    def snapshot(self) -> Settled:
        """Copy what is settled, its digest made up."""
        return replace(self.settled, chain=self._chain.hexdigest())
