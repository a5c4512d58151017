"""Statistics of a relay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from salesmachine_async.errors import DeliveryError
from salesmachine_async.report import LossReason, State

__all__ = ["RelayStats"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RelayStats:
    """
    A snapshot of a relay.

    Attributes:
        state: `State.NEW`, ``OPEN``, ``PAUSED``, ``PARKED``, ``CLOSING`` or ``CLOSED``.
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

    state: State
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
