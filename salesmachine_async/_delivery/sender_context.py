"""State that the senders of one agent share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from salesmachine_async._core.accumulator import Accumulator
from salesmachine_async._core.batch import Batch
from salesmachine_async._delivery.hooks import Hooks
from salesmachine_async._delivery.throttle import Throttle
from salesmachine_async._delivery.transport import Transport
from salesmachine_async._log import RateLimitedLogger
from salesmachine_async.errors import DeliveryError
from salesmachine_async.policy import Retry
from salesmachine_async.report import Endpoint

__all__ = ["SenderContext", "Traffic"]


@dataclass(slots=True)
class Traffic:
    """
    Counters of requests, with the names of `Stats`.

    Attributes:
        delivered_at: When each endpoint last accepted messages, on the event loop's clock.
    """

    requests: int = 0
    retries: int = 0
    bytes_sent: int = 0
    last_error: DeliveryError | None = None
    delivered_at: dict[Endpoint, float] = field(default_factory=dict[Endpoint, float])


def _keep_nothing(batch: Batch, error: DeliveryError | None) -> None:
    """Keep no rejected message: the receipt of its batch has it, or there is no spool."""


@dataclass(frozen=True, slots=True)
class SenderContext:
    """
    State that all senders of an agent share.

    Attributes:
        accumulator: The queue.
        transport: The transport of the batches.
        throttle: The pause shared by all senders.
        retry: The policy.
        hooks: Called with outcomes.
        traffic: Counts of what went over the wire.
        log: For failures.
        clock: The event loop's time in seconds.
        linger: Seconds that an open batch waits for more messages.
        on_progress: Called when a batch is settled or what a sender waits for changes.
        on_displaced: Called when messages were displaced.
        on_rejected: Called with a lost message without a receipt that the server has rejected, and why.
    """

    accumulator: Accumulator
    transport: Transport
    throttle: Throttle
    retry: Retry
    hooks: Hooks
    traffic: Traffic
    log: RateLimitedLogger
    clock: Callable[[], float]
    linger: float
    on_progress: Callable[[], None]
    on_displaced: Callable[[], None]
    on_rejected: Callable[[Batch, DeliveryError | None], None] = _keep_nothing
