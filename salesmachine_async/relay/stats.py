"""Statistics of a relay, and its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from salesmachine_async.errors import DeliveryError
from salesmachine_async.report import LossReason

__all__ = ["RelayState", "RelayStats"]


class RelayState(Enum):
    """The state of a relay: its lifecycle, and whether it can read and send."""

    NEW = "new"
    """It does not run yet."""
    OPEN = "open"
    """Delivering, or ready to deliver."""
    DISCONNECTED = "disconnected"
    """Its engine is not reached, not yet or not any more, so that nothing is read; it tries again."""
    PAUSED = "paused"
    """Waiting after a 429 or 503, like all relays of the queue."""
    PARKED = "parked"
    """Probing the server, because it rejects requests for a reason outside the messages. They stay in the engine."""
    CLOSING = "closing"
    """Finishing the requests under way, and giving the partitions back."""
    CLOSED = "closed"
    """At its end."""

    @property
    def ready(self) -> bool:
        """Whether the relay does its work, or will after a pause."""
        return self in (RelayState.OPEN, RelayState.PAUSED)


@dataclass(frozen=True, kw_only=True, slots=True)
class RelayStats:
    """
    A snapshot of a relay.

    Attributes:
        state: What it does.
        partitions: The partitions that it owns.
        relays: Number of living relays, this one included, at the last heartbeat.
        read: Messages read since the start; after a lease was lost, some may be read again.
        in_hand: Messages read and not settled.
        delivered: Messages that the server answered with 2xx.
        dead: Messages stored as dead letters, by reason.
        requests: Requests begun.
        retries: Requests with messages that had been sent before by this relay.
        bytes_sent: The size of the bodies of all requests.
        leases_lost: How many partitions were lost because their lease could not be renewed in time.
        last_error: The failure of the latest request to the server or the engine; None if it succeeded.
    """

    state: RelayState
    partitions: tuple[int, ...]
    relays: int
    read: int
    in_hand: int
    delivered: int
    dead: Mapping[LossReason, int]
    requests: int
    retries: int
    bytes_sent: int
    leases_lost: int
    last_error: DeliveryError | None
