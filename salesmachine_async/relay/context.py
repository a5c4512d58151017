"""State shared by the workers of one relay."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from salesmachine_async._delivery.sender_context import Traffic
from salesmachine_async._delivery.throttle import Throttle
from salesmachine_async._delivery.transport import Transport
from salesmachine_async._log import RateLimitedLogger
from salesmachine_async.errors import DeliveryError
from salesmachine_async.policy import Batching, Retry
from salesmachine_async.relay.engine import Engine
from salesmachine_async.report import Delivery, Loss, LossReason

__all__ = ["RelayContext", "SharedThrottle"]


class SharedThrottle(Throttle):
    """
    The pause of one relay, which it shares with the others by the engine.

    Args:
        clock: The event loop's time in seconds.
        engine: Where the pauses are kept.
        log: For failures.
    """

    __slots__ = ("_engine", "_log", "_tasks")

    def __init__(self, clock: Callable[[], float], engine: Engine[Any], log: RateLimitedLogger) -> None:
        super().__init__(clock)
        self._engine = engine
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()

    def pause(self, seconds: float, *, required: float) -> None:
        """Hold back the senders of all relays from now on; see `Throttle.pause`."""
        super().pause(seconds, required=required)
        task = asyncio.get_running_loop().create_task(self._share())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def learn(self, seconds: float) -> None:
        """Hold back the senders of this relay, because another has begun a pause."""
        super().pause(seconds, required=seconds)

    async def shared(self) -> None:
        """Wait until the pause was sent to the engine, so that the other relays keep it."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _share(self) -> None:
        """Send the pause to the engine, with retries for as long as the pause lasts."""
        while self.left > 0:
            try:
                await self._engine.pause(self.left)
            except DeliveryError as exc:
                self._log("engine", logging.WARNING, "a pause could not be shared with other relays: %s", exc)
                await asyncio.sleep(min(1.0, self.left))
            else:
                break


@dataclass(slots=True, kw_only=True)
class RelayContext:
    """
    State shared by the workers of one relay.

    Attributes:
        engine: Where the entries are.
        transport: Carries the batches to the server.
        throttle: The pause of all.
        batching: The limits of a request, and how long entries wait for others.
        retry: How failed requests are repeated.
        rate: Requests a second of all relays together; None: no limit.
        places: One for each request that may be under way at a time; the partitions wait in a row for them.
        request_timeout: How long a request takes at most, in seconds.
        log: For failures.
        on_delivered: Called with each delivered request.
        on_lost: Called with the messages that became dead letters.
        traffic: Counts of what went over the wire.
        read: Number of messages read.
        delivered: Number of messages delivered.
        dead: Number of dead letters, by reason.
        leases_lost: Number of leases lost.
        engine_error: The failure of the latest call of the engine; None if it succeeded.
    """

    engine: Engine[Any]
    transport: Transport
    throttle: SharedThrottle
    batching: Batching
    retry: Retry
    rate: float | None
    places: asyncio.Semaphore
    request_timeout: float
    log: RateLimitedLogger
    on_delivered: Callable[[Delivery], None] | None
    on_lost: Callable[[Loss], None] | None
    traffic: Traffic = field(default_factory=Traffic)
    read: int = 0
    delivered: int = 0
    dead: Counter[LossReason] = field(default_factory=Counter[LossReason])
    leases_lost: int = 0
    engine_error: DeliveryError | None = None
