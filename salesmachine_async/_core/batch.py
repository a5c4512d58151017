"""What one request carries."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

import orjson

__all__ = ["Batch", "Endpoint"]

OPEN: Final = b"["
_CLOSE: Final = ord("]")
_NEWLINE: Final = ord("\n")


class Endpoint(Enum):
    """Where a request goes: the path below the base URL."""

    BATCH = "/v1/batch"
    ALIAS = "/v1/alias"
    PING = "/v1/ping"


class Batch:
    """
    One request's worth of messages, sealed: nothing is added to it any more.

    It holds a JSON array with newlines in place of the commas between its items. A newline never occurs inside an
    item, so the messages can be told apart without parsing them.

    Attributes:
        endpoint: Where it goes. Only `Endpoint.BATCH` carries more than one message.
        count: How many messages.
        partition: The index of the partition it belongs to.
        epoch: Which `Barrier` it falls under: all those with an epoch at least as high.
        order: When its first message was accepted, relative to other batches.
        attempts: How often it was sent so far.
        failing_since: When its first attempt failed, on the partition's clock; None before.
        searching: Whether it is part of a refused batch in which the guilty message is sought.
        suspected: Whether the guilty message must be in it, as its older half was delivered whole.
        start: Where its messages begin: behind those that were displaced.
        partner: The newer half that is cleared of suspicion when a guilty message is found in this one.
    """

    __slots__ = (
        "_lines",
        "attempts",
        "count",
        "endpoint",
        "epoch",
        "failing_since",
        "order",
        "partition",
        "partner",
        "searching",
        "start",
        "suspected",
    )

    def __init__(
        self,
        lines: bytes,
        count: int,
        *,
        endpoint: Endpoint = Endpoint.BATCH,
        partition: int = 0,
        epoch: int = 0,
        order: int = 0,
    ) -> None:
        self._lines = lines
        # 1 is behind the bracket.
        self.start: int = 1
        self.endpoint: Endpoint = endpoint
        self.count: int = count
        self.partition: int = partition
        self.epoch: int = epoch
        self.order: int = order
        self.attempts: int = 0
        self.failing_since: float | None = None
        self.searching: bool = False
        self.suspected: bool = False
        self.partner: Batch | None = None

    def __repr__(self) -> str:
        """Show what it is, never what it holds."""
        return f"<Batch {self.endpoint.value} | {self.count} messages, {self.body_size} bytes>"

    @classmethod
    def of_lines(cls, lines: list[bytes], **where: Any) -> Batch:
        """Make a batch of *lines*, each without its newline."""
        return cls(OPEN + b"\n".join(lines) + b"]", len(lines), **where)

    @classmethod
    def ping(cls) -> Batch:
        """Make the request that asks whether the API key is accepted: it carries no message."""
        return cls(b"[]", 0, endpoint=Endpoint.PING)

    @property
    def size(self) -> int:
        """What counts against the bounds, in bytes: each message and one separator. Splitting keeps the sum."""
        return len(self._lines) - self.start

    @property
    def body_size(self) -> int:
        """The length of `body` in bytes: a batch has one bracket more than separators, other bodies have none."""
        return self.size + 1 if self.endpoint is Endpoint.BATCH else self.size - 1

    def body(self) -> bytes:
        """
        Return the request's body.

        A JSON array for `Endpoint.BATCH`, one JSON object for `Endpoint.ALIAS`, nothing for `Endpoint.PING`.
        UTF-8. Made anew at every call, so that a waiting batch is held once.
        """
        if self.endpoint is not Endpoint.BATCH:
            return self._lines[1:-1]
        if self.start == 1:
            return self._lines.replace(b"\n", b",")
        return OPEN + self._lines[self.start :].replace(b"\n", b",")

    def messages(self) -> list[dict[str, Any]]:
        """Decode the messages, oldest first."""
        return [orjson.loads(line) for line in self.lines()]

    def lines(self) -> list[bytes]:
        """Return the messages as encoded, oldest first, without their newlines."""
        return self._lines[self.start : -1].split(b"\n") if self.count else []

    def oldest(self) -> Batch:
        """Return the oldest message as a batch of its own; it stays in this one."""
        start = self.start
        # Of the last one -1, where the bracket stands.
        return self._like([self._lines[start : self._lines.find(b"\n", start)]])

    def halves(self) -> tuple[Batch, Batch]:
        """Split in two, the older half first and, of an odd number, smaller."""
        lines = self.lines()
        middle = len(lines) // 2
        return self._like(lines[:middle]), self._like(lines[middle:])

    def search_halves(self) -> tuple[Batch, Batch]:
        """
        Split in two to find the message that the server refuses.

        Once the older half is delivered whole, the newer one must hold it and need not be sent to know. That, and
        the smaller half first, keep the search for one message within 2·log2(n) requests.
        """
        older, newer = self.halves()
        older.searching = newer.searching = newer.suspected = True
        older.partner, newer.partner = newer, self.partner
        return older, newer

    def found_guilty(self) -> None:
        """Clear the newer halves of suspicion: this message explains why what they were part of was refused."""
        partner = self.partner
        while partner is not None:
            partner.suspected = False
            partner = partner.partner

    def _like(self, lines: list[bytes]) -> Batch:
        part = Batch.of_lines(
            lines, endpoint=self.endpoint, partition=self.partition, epoch=self.epoch, order=self.order
        )
        part.attempts, part.failing_since = self.attempts, self.failing_since
        return part


def seal(buffer: bytearray) -> bytes:
    """Copy a bracket and lines; in the copy the last newline is the other bracket."""
    # One copy, of exactly its size: the buffer has grown by eighths and holds up to 12 % of air. No call here, so no
    # signal handler finds the buffer closed. (`bytes(buffer)` is a call.)
    try:
        buffer[-1] = _CLOSE
        lines = b"" + buffer
    finally:
        # Also when there is no memory for the copy: more lines may follow.
        buffer[-1] = _NEWLINE
    return lines
