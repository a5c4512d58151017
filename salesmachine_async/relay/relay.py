"""The relay: acquires its share of the partitions, and delivers them."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from salesmachine_async._delivery.transport import Transport
from salesmachine_async._log import RateLimitedLogger, describe_exception
from salesmachine_async.errors import ConfigError, DeliveryError
from salesmachine_async.policy import Batching, Retry, Timeouts, check_seconds, check_whole
from salesmachine_async.relay.context import RelayContext, SharedThrottle
from salesmachine_async.relay.engine import Engine, FleetStatus, RelayStatus
from salesmachine_async.relay.rebalance import fair_share, surplus, wanted
from salesmachine_async.relay.stats import RelayState, RelayStats
from salesmachine_async.relay.worker import PartitionWorker, time_to_send
from salesmachine_async.report import Delivery, Loss

__all__ = ["Relay"]

HEARTBEAT_SECONDS: Final = 1.0


class Relay:
    """
    Delivers to Salesmachine what agents have published to an engine.

    It owns an equal share of the partitions beside other relays of the same queue, and takes over those of a relay that
    dies once their leases have ended. All of them share one pause (after a 429 or 503) and one rate. Messages that the
    server refuses for good become dead letters.

    Delivery is at least once, with the same ``messageId``. The messages of a contact, and of an account, are first
    delivered in the order in which they were published.

    Args:
        engine: Where the agents publish. The relay starts it, and closes it at its end.
        transport: Carries the batches to the server: an `HttpTransport`. The relay closes it at its end.
        batching: The limits of a request, and how long entries wait for others to share it.
        retry: How failed requests are repeated.
        timeouts: Those of the transport: a request is sent only if the lease outlasts it.
        rate: Requests a second of all relays of the queue together, at most; each relay must have the same. None: no
            limit.
        concurrency: Number of requests of this relay at once, 1 to 256; of each partition at most one. The partitions
            take turns. To a server that answers late, a larger number delivers more, and so do more relays.
        on_delivered: Called with each delivered request, on the event loop.
        on_lost: Called with messages that become dead letters, on the event loop.

    Raises:
        ConfigError: An argument is unusable, or a lease is shorter than a request may take.
    """

    def __init__(
        self,
        engine: Engine[Any],
        transport: Transport,
        *,
        batching: Batching = Batching(linger=0.25),  # noqa: B008 (frozen)
        retry: Retry = Retry(),  # noqa: B008
        timeouts: Timeouts = Timeouts(),  # noqa: B008
        rate: float | None = None,
        concurrency: int = 4,
        on_delivered: Callable[[Delivery], None] | None = None,
        on_lost: Callable[[Loss], None] | None = None,
    ) -> None:
        if rate is not None:
            check_seconds("rate", rate, above_zero=True)
        check_whole("concurrency", concurrency, at_least=1, at_most=256)
        if engine.lease_seconds <= time_to_send(timeouts.request):
            raise ConfigError(
                f"a lease of {engine.lease_seconds:g} s does not outlast a request of {timeouts.request:g} s: choose a"
                " longer lease or a shorter Timeouts.request"
            )
        self._engine = engine
        self._transport = transport
        self._batching = batching
        self._retry = retry
        self._timeouts = timeouts
        self._rate = rate
        self._concurrency = concurrency
        self._on_delivered = on_delivered
        self._on_lost = on_lost
        self._log = RateLimitedLogger()
        self._state = RelayState.NEW
        self._context: RelayContext | None = None
        self._workers: dict[PartitionWorker, asyncio.Task[None]] = {}
        self._relays = 0
        self._stopping = asyncio.Event()
        # Relays that start together begin to acquire at different partitions.
        self._first = random.randrange(2**16)  # noqa: S311 (not for security)

    def __repr__(self) -> str:
        """Show the live state: ``<Relay [open | 4 partitions, 120 in hand]>``."""
        stats = self.stats()
        return f"<Relay [{stats.state.value} | {len(stats.partitions)} partitions, {stats.in_hand} in hand]>"

    async def run(self) -> None:
        """
        Deliver until `stop` is called, or the task is cancelled; call it once.

        At its end it finishes the requests under way, settles what was delivered and gives its leases back, so that
        other relays can acquire them at once.

        Raises:
            ConfigError: The engine cannot be used as it is configured.
            RuntimeError: It was called before.
        """
        if self._state is not RelayState.NEW:
            raise RuntimeError("a Relay runs once")
        self._state = RelayState.DISCONNECTED
        loop = asyncio.get_running_loop()
        self._context = RelayContext(
            engine=self._engine,
            transport=self._transport,
            throttle=SharedThrottle(loop.time, self._engine, self._log),
            batching=self._batching,
            retry=self._retry,
            rate=self._rate,
            places=asyncio.Semaphore(self._concurrency),
            request_timeout=self._timeouts.request,
            log=self._log,
            on_delivered=self._on_delivered,
            on_lost=self._on_lost,
        )
        try:
            while not self._stopping.is_set() and not await self._try(self._engine.start()):
                await self._pause_between_beats()
            self._state = RelayState.OPEN
            while not self._stopping.is_set():
                await self._try(self._beat(self._context))
                await self._pause_between_beats()
        finally:
            await self._end(self._context)

    def stop(self) -> None:
        """End `run`. Call it in the event loop's thread; from another one, by ``loop.call_soon_threadsafe``."""
        self._stopping.set()

    def stats(self) -> RelayStats:
        """Return a snapshot of this relay."""
        context, workers = self._context, [*self._workers]
        traffic = None if context is None else context.traffic
        return RelayStats(
            state=self._shown_state(),
            partitions=tuple(sorted(worker.partition for worker in workers)),
            relays=self._relays,
            read=0 if context is None else context.read,
            in_hand=sum(worker.in_hand for worker in workers),
            delivered=0 if context is None else context.delivered,
            dead={} if context is None else context.dead.copy(),
            requests=0 if traffic is None else traffic.requests,
            retries=0 if traffic is None else traffic.retries,
            bytes_sent=0 if traffic is None else traffic.bytes_sent,
            leases_lost=0 if context is None else context.leases_lost,
            last_error=None if context is None or traffic is None else context.engine_error or traffic.last_error,
        )

    async def status(self) -> FleetStatus:
        """Return the state of the queue and of its relays; raises `DeliveryError` if the engine cannot be reached."""
        return await self._engine.lag()

    def _shown_state(self) -> RelayState:
        if self._state is RelayState.OPEN:
            if self._context is not None and self._context.engine_error is not None:
                return RelayState.DISCONNECTED
            if any(worker.parked for worker in self._workers):
                return RelayState.PARKED
            if self._context is not None and self._context.throttle.left > 0:
                return RelayState.PAUSED
        return self._state

    async def _try(self, call: Coroutine[None, None, None]) -> bool:
        """Await a call of the engine; returns whether it succeeded."""
        context = self._context
        assert context is not None
        try:
            await call
        except DeliveryError as exc:
            context.engine_error = exc
            self._log("engine", logging.WARNING, "%s; trying again", exc, loud=True)
            return False
        context.engine_error = None
        return True

    async def _pause_between_beats(self) -> None:
        seconds = min(HEARTBEAT_SECONDS, self._engine.lease_seconds / 10)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _beat(self, context: RelayContext) -> None:
        """Send the heartbeat, and acquire or release partitions until this relay owns its share."""
        stats = self.stats()
        relays = await self._engine.members(
            RelayStatus(
                relay=self._engine.relay,
                state=stats.state.value,
                partitions=stats.partitions,
                delivered=stats.delivered,
                last_error="" if stats.last_error is None else str(stats.last_error),
            )
        )
        self._relays = len(relays)
        share = fair_share(self._engine.partitions, self._relays)
        owned = {worker.partition: worker for worker in self._workers if not worker.ending}
        for partition in surplus(owned, share, self._engine.partitions):
            owned.pop(partition).end()
        for partition in wanted(owned, share, self._engine.partitions, first=self._first):
            if len(owned) >= share:
                break
            lease = await self._engine.acquire(partition)
            if lease is not None:
                owned[partition] = self._begin(PartitionWorker(lease, context))

    def _begin(self, worker: PartitionWorker) -> PartitionWorker:
        task = asyncio.get_running_loop().create_task(worker.run())
        self._workers[worker] = task
        task.add_done_callback(lambda _: self._ended(worker, task))
        return worker

    def _ended(self, worker: PartitionWorker, task: asyncio.Task[None]) -> None:
        del self._workers[worker]
        exc = None if task.cancelled() else task.exception()
        if exc is not None:
            self._log("worker", logging.ERROR, "the worker of a partition failed: %s", describe_exception(exc))

    async def _end(self, context: RelayContext) -> None:
        self._state = RelayState.CLOSING
        tasks = [*self._workers.values()]
        for worker in self._workers:
            worker.end()
        if tasks:
            await asyncio.wait(tasks)
        try:
            async with asyncio.timeout(self._engine.lease_seconds / 3):
                await context.throttle.shared()
                await self._engine.leave()
        except (DeliveryError, TimeoutError) as exc:
            self._log("engine", logging.WARNING, "the relay was not removed from the list of relays: %s", exc)
        await self._transport.aclose()
        await self._engine.aclose()
        self._state = RelayState.CLOSED
