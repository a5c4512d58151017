"""What the agent tells: counts at a moment, the fate of messages, what a hook is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from salesmachine_async._core.batch import Batch, Endpoint
    from salesmachine_async.errors import DeliveryError

__all__ = ["Delivery", "Loss", "LossReason", "Report", "Stats"]


class LossReason(Enum):
    """Why an accepted message was not delivered."""

    QUEUE_FULL = "queue_full"
    """It was the oldest in a full queue, under `Overflow.DROP_OLDEST`."""
    TOO_LARGE = "too_large"
    """The server answered 413 to it alone."""
    REJECTED = "rejected"
    """The server refused it alone, and accepts the API key."""
    EXPIRED = "expired"
    """Its batch failed for `Retry.timeout` seconds."""
    CLOSED = "closed"
    """The agent was closed before it could be delivered."""

    # Enum's own is a Python function, in the middle of which a signal handler may run: see `_core.accumulator`.
    __hash__ = object.__hash__


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """
    A snapshot of the agent.

    At every instant ``accepted == delivered + sum(lost.values()) + queued + in_flight``.

    Attributes:
        accepted: Messages taken by a call that returned True, since the agent was made.
        delivered: Messages the server answered with 2xx.
        queued: Messages waiting.
        queued_bytes: Their size as encoded for the wire.
        in_flight: Messages taken out of the queue for a request that has not succeeded yet.
        lost: Messages given up, by reason; reasons that never happened are absent, and read as 0.
        refused: Calls that returned False or raised `QueueFull`: queue full, dropped by ``before_send``, or under
            `Invalid.REPORT` unusable, too large or after the end.
        invalid_values: Arguments and values that could not be sent, under `Invalid.REPORT`.
        requests: HTTP requests begun.
        retries: Those of them that carried messages which had been sent before, alone or in a larger batch.
        bytes_sent: The sum of their bodies.
        paused: Whether sending is held back: by a 429 or 503, or because a sender is parked.
        last_error: The latest failure of a request; None when the latest request succeeded.
    """

    accepted: int
    delivered: int
    queued: int
    queued_bytes: int
    in_flight: int
    lost: Mapping[LossReason, int]
    refused: int
    invalid_values: int
    requests: int
    retries: int
    bytes_sent: int
    paused: bool
    last_error: DeliveryError | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """
    What became of the messages accepted before a `flush()` or `aclose()` was called, since the agent was made.

    Attributes:
        delivered: Messages the server answered with 2xx.
        lost: Messages given up, by reason; reasons that never happened are absent, and read as 0.
        pending: Messages without an outcome yet.
    """

    delivered: int
    lost: Mapping[LossReason, int]
    pending: int

    @property
    def ok(self) -> bool:
        """Whether every message was delivered."""
        return not any(self.lost.values()) and not self.pending


class _OfBatches:
    """Counts messages at once, decodes them only when asked."""

    __slots__ = ()
    batches: tuple[Batch, ...]

    @property
    def count(self) -> int:
        """How many messages."""
        return sum(batch.count for batch in self.batches)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages as they were (to be) sent, oldest first; decoded anew at every access."""
        return [message for batch in self.batches for message in batch.messages()]


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss(_OfBatches):
    """
    Messages given up, as `on_lost` is told.

    Attributes:
        reason: Why.
        error: The failure that decided it; None when no request was to blame.
        batches: What holds the messages, still encoded.
    """

    reason: LossReason
    error: DeliveryError | None
    batches: tuple[Batch, ...] = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery(_OfBatches):
    """
    One delivered request, as `on_delivered` is told.

    Attributes:
        endpoint: What kind of request it was: a batch or an alias.
        status: The server's 2xx status.
        attempts: How many requests it took; 1 is the first.
        seconds: How long the last of them took.
        batches: What holds the messages, still encoded.
    """

    endpoint: Endpoint
    status: int | None
    attempts: int
    seconds: float
    batches: tuple[Batch, ...] = field(repr=False)
