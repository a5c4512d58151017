"""Reports of the agent: its state and counts, the outcomes of messages, the arguments of hooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from salesmachine_async.errors import DeliveryError

__all__ = [
    "Delivery",
    "DropReason",
    "Endpoint",
    "Loss",
    "LossReason",
    "Report",
    "SpoolState",
    "SpoolStats",
    "State",
    "Stats",
]


class Endpoint(Enum):
    """The path of a request below the base URL."""

    BATCH = "/v1/batch"
    ALIAS = "/v1/alias"
    PING = "/v1/ping"


class State(Enum):
    """The state of an agent: its lifecycle, and whether it can send."""

    NEW = "new"
    """Not started. Calls are queued."""
    OPEN = "open"
    """Started, and delivering or ready to deliver."""
    PAUSED = "paused"
    """Waiting after a 429 or 503, for all partitions."""
    PARKED = "parked"
    """Keeping all messages and probing the server, because it rejects requests for a reason outside the messages."""
    CLOSING = "closing"
    """Delivering the queued messages before the end. Calls are dropped."""
    CLOSED = "closed"
    """Closed. Calls are dropped."""


class LossReason(Enum):
    """Why an accepted message was not delivered."""

    QUEUE_FULL = "queue_full"
    """The message was the oldest in a full queue, under `Overflow.DROP_OLDEST`."""
    TOO_LARGE = "too_large"
    """The server answered 413 to the message alone."""
    REJECTED = "rejected"
    """The server rejected the message alone and accepts the API key, or always fails at it while others pass."""
    EXPIRED = "expired"
    """The batch of the message failed for `Retry.timeout` seconds, or it was older than `Spool.max_age`."""
    CLOSED = "closed"
    """The agent was closed before the message could be delivered, and it was not on disk."""
    DAMAGED = "damaged"
    """The message had left the memory for the spool, and could not be read back."""


class DropReason(Enum):
    """Why a call was not accepted."""

    QUEUE_FULL = "queue_full"
    """The queue was full, under `Overflow.DROP_NEWEST` or `Overflow.RAISE`."""
    BEFORE_SEND = "before_send"
    """The ``before_send`` hook returned None or failed."""
    INVALID = "invalid"
    """An argument cannot be sent or the message is too large, under `Invalid.REPORT`."""
    CLOSED = "closed"
    """The agent was closed, under `Invalid.REPORT`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """
    A snapshot of the agent.

    At every instant ``accepted + recovered == delivered + sum(lost.values()) + kept + queued + in_flight``.

    Attributes:
        state: The state of the agent.
        accepted: Messages of calls that returned True, since the agent was created.
        delivered: Messages the server answered with 2xx.
        queued: Messages in the queue.
        queued_bytes: Bytes in the queue, as encoded for the wire.
        in_flight: Messages taken out of the queue for a request that has not succeeded yet.
        lost: Lost messages by reason; a reason that never occurred is absent and reads as 0.
        dropped: Calls that were not accepted, by reason; a reason that never occurred is absent and reads as 0.
            Without a GIL, simultaneous calls of several threads may be counted as one.
        invalid_values: Arguments and values that could not be sent, under `Invalid.REPORT`.
        requests: HTTP requests started.
        retries: Requests with messages that had been sent before, alone or in a larger batch.
        bytes_sent: The total size of the bodies of all requests.
        last_error: The error of the latest request; None if it succeeded.
        recovered: Messages taken over from the spools of processes that have ended, or put in by a relay.
        kept: Messages left on disk at the end, or under ``Spool(deliver=False)``: another process sends them.
        spooled: The part of `queued` that is on disk only.
        spooled_bytes: The bytes of the spooled messages.
        spool: The condition of the spool; None without one.
    """

    state: State
    accepted: int
    delivered: int
    queued: int
    queued_bytes: int
    in_flight: int
    lost: Mapping[LossReason, int]
    dropped: Mapping[DropReason, int]
    invalid_values: int
    requests: int
    retries: int
    bytes_sent: int
    last_error: DeliveryError | None
    recovered: int = 0
    kept: int = 0
    spooled: int = 0
    spooled_bytes: int = 0
    spool: SpoolStats | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """
    The outcomes of the messages accepted before a `flush()` or `aclose()`, since the agent was created.

    Messages recovered from a spool are in it too.

    Attributes:
        delivered: Messages the server answered with 2xx.
        lost: Lost messages by reason; a reason that never occurred is absent and reads as 0.
        pending: Messages without an outcome yet.
        kept: Messages left in the spool, for another process to send. They are not lost, and not delivered either.
    """

    delivered: int
    lost: Mapping[LossReason, int]
    pending: int
    kept: int = 0

    @property
    def ok(self) -> bool:
        """Whether every message was delivered."""
        return not any(self.lost.values()) and not self.pending and not self.kept


class SpoolState(StrEnum):
    """The condition of the spool of an agent."""

    OPEN = "open"
    """It writes, or has nothing to write."""
    FULL = "full"
    """There is no room, on the disk or below ``Spool.max_bytes``: what is new stays in memory only."""
    FAILING = "failing"
    """The disk refuses: what is new stays in memory only. It is tried again every few seconds."""
    UNAVAILABLE = "unavailable"
    """The path was unusable at the start, under ``Spool(required=False)``."""
    CLOSED = "closed"
    """The agent was closed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpoolStats:
    """
    A snapshot of an agent's spool.

    Attributes:
        state: The state of the spool.
        oldest_seconds: Age of the oldest message on disk that has no outcome yet; 0 when there is none.
        commits: Commits that wrote something.
        commit_seconds_max: The longest of them.
        write_errors: Times that the file system refused to write, sync or make room.
        damaged_bytes: Bytes read that were not what was written; they are kept in ``damaged/``.
        torn_bytes: Bytes of records that a crash cut off; no `sync` had confirmed them.
        rejected_kept: Messages written to ``rejected.ndjson``.
        searches: Times that all messages of dead processes had been read, and no more were found.
    """

    state: SpoolState = SpoolState.OPEN
    oldest_seconds: float = 0.0
    commits: int = 0
    commit_seconds_max: float = 0.0
    write_errors: int = 0
    damaged_bytes: int = 0
    torn_bytes: int = 0
    rejected_kept: int = 0
    searches: int = 0


class EncodedMessages(Protocol):
    """Messages encoded for the wire: a `Batch`."""

    count: int
    partition: int

    def lines(self) -> list[bytes]:
        """Return the encoded messages, oldest first."""
        ...

    def messages(self) -> list[dict[str, Any]]:
        """Decode the messages, oldest first."""
        ...


class _OfBatches:
    """Messages in batches: counted without decoding, and decoded on access."""

    __slots__ = ()
    batches: tuple[EncodedMessages, ...]

    @property
    def count(self) -> int:
        """Number of messages."""
        return sum(batch.count for batch in self.batches)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages in their form on the wire, oldest first; decoded at every access."""
        return [message for batch in self.batches for message in batch.messages()]


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss(_OfBatches):
    """
    Lost messages; the argument of ``on_lost``.

    Attributes:
        reason: The reason of the loss.
        error: The error of the request that caused the loss; None if no request failed.
        batches: The messages, still encoded. They have lines for fewer than `count` where a spool could not read them
            back: those that are `LossReason.DAMAGED`, and what expires while the disk refuses.
    """

    reason: LossReason
    error: DeliveryError | None
    batches: tuple[EncodedMessages, ...] = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery(_OfBatches):
    """
    One delivered request; the argument of ``on_delivered``.

    Attributes:
        endpoint: The kind of request: a batch or an alias.
        status: The server's 2xx status.
        attempts: Number of requests until success; 1 if the first succeeded.
        seconds: Duration of the last request.
        batches: The messages, still encoded.
    """

    endpoint: Endpoint
    status: int | None
    attempts: int
    seconds: float
    batches: tuple[EncodedMessages, ...] = field(repr=False)
