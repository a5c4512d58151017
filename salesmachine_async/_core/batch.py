"""Batches: the content of one request."""

from __future__ import annotations

from typing import Any, Final

import orjson

from salesmachine_async._core.receipt import Receipt
from salesmachine_async.report import Endpoint

__all__ = ["AliasLine", "Batch"]

# Between two items of a body. A newline never occurs inside an item, so the items can be separated without parsing.
SEPARATOR: Final = b",\n"


class AliasLine(bytes):
    """An encoded alias. The type marks the place in the queue at which a request of its own begins."""

    __slots__ = ()


class Batch:
    """
    The messages of one request. No message is added after the batch was sealed.

    Attributes:
        endpoint: The path of the request. Only `Endpoint.BATCH` carries more than one message.
        count: Number of messages.
        partition: Index of the partition it belongs to.
        number: Position among all batches sealed by the agent, from 1. The parts of a batch keep its number.
        first: Number of its first message among all messages of the partition, from 0.
        receipt: Settled with the outcome of each of its messages; None: nothing waits for that. The parts of a batch
            share its receipt.
        stored: The body; empty while the messages are on disk only.
        body_size: Length of the body in bytes, also while it is on disk only.
        spilled: Whether the messages have left the memory, because they are on disk.
        attempts: Number of requests that have carried it, alone or in a larger batch.
        failing_since: Time of the first failed attempt, on the sender's clock; None before.
        searching: Whether it is part of a rejected batch in which the rejected message is being searched.
        suspected: Whether the rejected message must be in it, because its older half was delivered.
        partner: The newer half, which is no longer suspected once a message of this half was rejected.
        lasting: Whether it fails in spite of full waits, or is part of a batch that was halved for its failures.
        lone_failures: Times of those failures of a single message that count against it.
    """

    __slots__ = (
        "attempts",
        "body_size",
        "count",
        "endpoint",
        "failing_since",
        "first",
        "lasting",
        "lone_failures",
        "number",
        "partition",
        "partner",
        "receipt",
        "searching",
        "spilled",
        "stored",
        "suspected",
    )

    def __init__(
        self, body: bytes, count: int, *, endpoint: Endpoint = Endpoint.BATCH, partition: int = 0, number: int = 0
    ) -> None:
        self.stored = body
        self.body_size = len(body)
        self.spilled: bool = False
        self.endpoint: Endpoint = endpoint
        self.count: int = count
        self.partition: int = partition
        self.number: int = number
        self.first: int = 0
        self.receipt: Receipt | None = None
        self.attempts: int = 0
        self.failing_since: float | None = None
        self.searching: bool = False
        self.suspected: bool = False
        self.partner: Batch | None = None
        self.lasting: bool = False
        self.lone_failures: tuple[float, ...] = ()

    def __repr__(self) -> str:
        """Show the endpoint and the size, never a message."""
        return f"<Batch {self.endpoint.value} | {self.count} messages, {self.body_size} bytes>"

    @classmethod
    def of_lines(cls, lines: list[bytes], *, partition: int = 0, number: int = 0) -> Batch:
        """Make a batch of encoded messages, or of one alias."""
        if type(lines[0]) is AliasLine:
            return cls(bytes(lines[0]), 1, endpoint=Endpoint.ALIAS, partition=partition, number=number)
        parts = [*lines]  # with the brackets in its first and last part, the body is copied once
        parts[0] = b"[" + parts[0]
        parts[-1] += b"]"
        return cls(SEPARATOR.join(parts), len(lines), partition=partition, number=number)

    @classmethod
    def ping(cls) -> Batch:
        """Make the request that checks the API key. It carries no message."""
        return cls(b"", 0, endpoint=Endpoint.PING)

    @property
    def size(self) -> int:
        """Bytes that count against the bounds: those of the messages. The parts of a batch have the same sum."""
        return self.body_size - 2 * self.count if self.endpoint is Endpoint.BATCH else self.body_size

    def body(self) -> bytes:
        """
        Return the request's body as UTF-8.

        A JSON array for `Endpoint.BATCH`, one JSON object for `Endpoint.ALIAS`, nothing for `Endpoint.PING`.
        """
        return self.stored

    def messages(self) -> list[dict[str, Any]]:
        """Decode the messages, oldest first."""
        return [orjson.loads(line) for line in self.lines()]

    def lines(self) -> list[bytes]:
        """Return the encoded messages, oldest first; none while they are on disk only."""
        body = self.stored
        if not body:
            return []
        return body[1:-1].split(SEPARATOR) if self.endpoint is Endpoint.BATCH else [body]

    def missing(self, at: int, count: int) -> Batch:
        """Return *count* of its messages, from this index on, as a spilled batch that cannot be read back."""
        part = Batch(b"", count, endpoint=self.endpoint, partition=self.partition, number=self.number)
        part.first, part.receipt = self.first + at, self.receipt
        part.body_size = 2 * count if self.endpoint is Endpoint.BATCH else 0  # so that its size is 0
        part.spilled = True
        return part

    def part(self, at: int, lines: list[bytes]) -> Batch:
        """Return the messages from this index on, whose lines are given, as a batch."""
        return self._part([AliasLine(line) for line in lines] if self.endpoint is Endpoint.ALIAS else lines, at)

    def uids(self) -> list[set[str]]:
        """Return the uids that each message concerns, oldest first."""
        names = ("contact_uid", "account_uid", "alias")
        return [{message[name] for name in names if name in message} for message in self.messages()]

    def split(self, at: int) -> tuple[Batch, Batch]:
        """Return the oldest *at* messages and the others as two batches; *at* is 1 to ``count - 1``."""
        lines = self.lines()
        return self._part(lines[:at], 0), self._part(lines[at:], at)

    def cut_out(self, at: int) -> tuple[list[Batch], list[Batch], list[Batch]]:
        """Return what is older than the message at this index, that message, and what is newer; each in one or none."""
        if self.count == 1:
            return [], [self], []
        lines = self.lines()
        older, newer = lines[:at], lines[at + 1 :]
        return (
            [self._part(older, 0)] if older else [],
            [self._part([lines[at]], at)],
            [self._part(newer, at + 1)] if newer else [],
        )

    def halves(self) -> tuple[Batch, Batch]:
        """Split in two, the older half first and, of an odd number, smaller."""
        return self.split(self.count // 2)

    def search_halves(self) -> tuple[Batch, Batch]:
        """
        Split in two to find the message that the server rejects.

        Once the older half was delivered, the newer one must hold that message, and is split without being sent. With
        the smaller half first, the search for one message takes at most 2·log2(n) requests.
        """
        older, newer = self.halves()
        older.searching = newer.searching = newer.suspected = True
        older.partner, newer.partner = newer, self.partner
        return older, newer

    def found_guilty(self) -> None:
        """Clear the newer halves of suspicion, because this message explains why their whole was rejected."""
        partner = self.partner
        while partner is not None:
            partner.suspected = False
            partner = partner.partner

    def _part(self, lines: list[bytes], at: int) -> Batch:
        part = Batch.of_lines(lines, partition=self.partition, number=self.number)
        part.first, part.receipt = self.first + at, self.receipt
        part.attempts, part.failing_since, part.lasting = self.attempts, self.failing_since, self.lasting
        return part
