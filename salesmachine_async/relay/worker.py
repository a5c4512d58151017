"""One owned partition: reads entries, lets a sender deliver them, settles them, until the lease ends."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from salesmachine_async._core.accumulator import Accumulator
from salesmachine_async._core.batch import Batch
from salesmachine_async._core.receipt import Receipt
from salesmachine_async._core.response import Outcome, Verdict
from salesmachine_async._delivery.hooks import Hooks
from salesmachine_async._delivery.sender import Sender
from salesmachine_async._delivery.sender_context import SenderContext
from salesmachine_async._log import describe_exception
from salesmachine_async.errors import DeliveryError
from salesmachine_async.policy import QueueLimits
from salesmachine_async.relay.coalesce import Coalescer, batch_of
from salesmachine_async.relay.context import RelayContext
from salesmachine_async.relay.engine import DeadLetter, Entry, Lease, LeaseLost
from salesmachine_async.report import Loss, LossReason

__all__ = ["PartitionWorker", "time_to_send"]

# How many full requests are read ahead; once there is room for half of them, one call of the engine reads it.
AHEAD: Final = 8
# The longest wait for entries in one call of the engine, in seconds.
WAIT_SECONDS: Final = 1.0
# Seconds between two calls of an engine that fails.
RETRY_SECONDS: Final = 0.2
# Seconds that a request may take beyond its time limit, until its end is noticed.
GRACE_SECONDS: Final = 1.0

T = TypeVar("T")


def time_to_send(request_timeout: float) -> float:
    """Return for how long a lease must last when a request begins, in seconds."""
    return request_timeout + min(GRACE_SECONDS, request_timeout / 10)


class _Settlement(Receipt):
    """
    Entries that are sent together: the receipt of their batch.

    Attributes:
        entries: In the order of the partition.
        dead: The dead letters among their messages.
        complete: Whether all messages have an outcome.
    """

    __slots__ = ("complete", "dead", "entries")

    def __init__(self, entries: Sequence[Entry], on_complete: Callable[[_Settlement], None]) -> None:
        super().__init__(sum(entry.count for entry in entries), lambda _: on_complete(self))
        self.entries = entries
        self.dead: list[DeadLetter] = []
        self.complete = False


class PartitionWorker:
    """
    Delivers the entries of one partition for as long as its lease lasts.

    Args:
        lease: Of the partition.
        context: What all workers of the relay share.

    Attributes:
        partition: The index of the partition.
        in_hand: Number of messages that were read and are not settled.
        lost: Whether the lease was lost.
        ending: Whether it reads and sends nothing more.
    """

    def __init__(self, lease: Lease, context: RelayContext) -> None:
        self.partition = lease.partition
        self.in_hand = 0
        self.lost = False
        self._lease = lease
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._coalescer = Coalescer(context.batching)
        # When the open group was begun, on the loop's clock.
        self._opened = 0.0
        # Groups that are complete.
        self._settlements: deque[_Settlement] = deque()
        self._to_settle = asyncio.Event()
        self._progress = asyncio.Event()
        self._ending = asyncio.Event()
        self._sending = False
        # It holds only what was read ahead, so its own bounds are never reached.
        self._accumulator = Accumulator(context.batching, QueueLimits())
        self._sender = Sender(
            self._accumulator.partitions[0],
            SenderContext(
                accumulator=self._accumulator,
                transport=_OwnersTransport(self.send),
                throttle=context.throttle,
                retry=context.retry,
                hooks=_WorkerHooks(self._keep_dead, context),
                traffic=context.traffic,
                log=context.log,
                clock=self._loop.time,
                linger=0.0,
                on_progress=self._progress.set,
                on_displaced=_nothing_displaced,
            ),
        )
        self._accumulator.wake = lambda _: _soon(self._loop, self._sender.look)

    @property
    def parked(self) -> bool:
        """Whether sending is parked: the server refuses requests for a reason other than their messages."""
        return self._sender.parked

    @property
    def ending(self) -> bool:
        """Whether the worker has stopped reading and sending."""
        return self._ending.is_set()

    def end(self) -> None:
        """Stop reading and sending, after the request that is under way."""
        self._ending.set()

    async def run(self) -> None:
        """Deliver until the lease is lost or `end` is called; then give the lease back."""
        create, name = self._loop.create_task, f"salesmachine-relay-{self.partition}"
        working = (
            create(self._sender.run(), name=f"{name}-sending"),
            create(self._read(), name=f"{name}-reading"),
            create(self._settle(), name=f"{name}-settling"),
        )
        ending = create(self._ending.wait())
        try:
            await asyncio.wait((*working, ending), return_when=asyncio.FIRST_COMPLETED)
            for each in working:
                if each.done():
                    self._explain(each)
            self.end()
            if not self.lost:
                await self._finish()
        finally:
            for task in (*working, ending):
                task.cancel()
            await asyncio.wait((*working, ending))
            self._sender.stop()
            self._context.leases_lost += self.lost
        if not self.lost:
            await self._give_back()

    async def _finish(self) -> None:
        """Wait for the answer to the request that is under way."""
        await self._wait_until(lambda: not self._sending, self._context.request_timeout + GRACE_SECONDS)

    async def _give_back(self) -> None:
        """Settle what was delivered, and release the lease, if the engine can be reached while it lasts."""
        try:
            async with asyncio.timeout(max(0.0, self._lease.left)):
                while self._settlements:
                    await self._settle_next()
                await self._context.engine.release(self._lease)
        except (DeliveryError, LeaseLost, TimeoutError) as exc:
            self._context.log(
                "engine", logging.WARNING, "partition %d could not be given back: %s", self.partition, exc
            )

    def _explain(self, task: asyncio.Task[None]) -> None:
        exc = None if task.cancelled() else task.exception()
        if not self.lost and not self.ending:
            why = "was cancelled from outside" if exc is None else f"failed: {describe_exception(exc)}"
            self._context.log("worker", logging.ERROR, "a task of a relay %s; its partition is read anew", why)

    # The engine.

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """Call the engine; returns None if the lease is lost, or after a failure and a delay."""
        try:
            result = await call()
        except LeaseLost:
            self._lose()
            return None
        except DeliveryError as exc:
            self._context.engine_error = exc
            self._context.log("engine", logging.WARNING, "%s; trying again", exc)
            if self._lease.left <= 0:
                self._lose()
            else:
                await asyncio.sleep(RETRY_SECONDS)
            return None
        self._context.engine_error = None
        return result

    def _lose(self) -> None:
        """Stop at once, because another relay may own the partition now."""
        if not self.lost:
            self.lost = True
            self._context.log("lease", logging.WARNING, "the lease of partition %d is lost", self.partition)
        self.end()

    # Reading.

    async def _read(self) -> None:
        while not self.ending:
            for entry in await self._call(self._next_entries) or ():
                self._add(entry)
            if self._is_due():
                self._put(*self._coalescer.close())

    async def _next_entries(self) -> Sequence[Entry]:
        """Read as many messages as there is room for. Without room, wait for some, and renew the lease periodically."""
        engine, limits = self._context.engine, self._context.batching
        longest = min(WAIT_SECONDS, engine.lease_seconds / 4)
        if not self._has_room():
            if not await self._wait_until(lambda: self._has_room() or self._is_due(), longest):
                await engine.fetch(self._lease, messages=0, size=0)
            return ()
        wait = longest
        if self._is_open():
            wait = min(longest, self._linger_left())
            if wait <= 0:  # its time is over, but others are sent before
                await self._wait_until(self._is_due, longest)
        room = AHEAD * limits.max_messages - self.in_hand
        return await engine.fetch(self._lease, messages=room, size=AHEAD * limits.max_bytes, wait=wait)

    async def _wait_until(self, true: Callable[[], bool], seconds: float) -> bool:
        """Wait until something is true that depends on outcomes and settlements; returns whether it is so in time."""
        try:
            async with asyncio.timeout(seconds):
                while not true():
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            return False
        return True

    def _has_room(self) -> bool:
        """Return whether so much can be read that it is worth a call of the engine."""
        return self.in_hand <= AHEAD * self._context.batching.max_messages // 2

    def _add(self, entry: Entry) -> None:
        self._context.read += entry.count
        self.in_hand += max(1, entry.count)
        if not self._is_open():
            self._opened = self._loop.time()
        self._put(*self._coalescer.add(entry))

    def _is_open(self) -> bool:
        return len(self._coalescer) > 0

    def _linger_left(self) -> float:
        return self._opened + self._context.batching.linger - self._loop.time()

    def _is_due(self) -> bool:
        """Return whether the open group has waited long enough, and would be sent next."""
        return self._is_open() and self._linger_left() <= 0 and not self._accumulator.partitions[0].sealed

    def _put(self, *groups: Sequence[Entry]) -> None:
        """Hand these entries to the sender."""
        for group in groups:
            settlement = _Settlement(group, self._complete)
            if settlement.pending:
                batch = batch_of(group)
                batch.receipt = settlement
                self._accumulator.put(batch)
            else:
                self._keep_damaged(settlement)
                settlement.answer()

    # Sending.

    async def send(self, batch: Batch) -> Outcome:
        """Send a batch once it is permitted, if the lease lasts for as long as the answer may take."""
        context = self._context
        while not self.ending:
            async with context.places:
                try:
                    permitted = await self._is_permitted()
                except DeliveryError as exc:
                    context.engine_error = exc
                    return Outcome.failed(exc, Verdict.UNREACHABLE)
                if permitted:
                    return await self._request(batch)
            # A pause must not hold a place.
            await asyncio.sleep(context.throttle.left)
        # The worker cancels this task, and what is unsettled is read by the next owner.
        never: asyncio.Future[Outcome] = self._loop.create_future()
        return await never

    async def _is_permitted(self) -> bool:
        """Return whether a request may begin now. If not, the lease is lost or ages, or there is a pause."""
        throttle = self._context.throttle
        try:
            pause = await self._settling(self._permit)
        except LeaseLost:
            self._lose()
            return False
        if pause > 0:
            throttle.learn(pause)
        # Another sender of this relay may have begun a pause since.
        if throttle.left > 0 or self.ending:
            return False
        return self._lease.left >= time_to_send(self._context.request_timeout)

    async def _permit(self, entries: Sequence[Entry], dead: Sequence[DeadLetter]) -> float:
        return await self._context.engine.permit(self._lease, entries, dead, rate=self._context.rate)

    async def _request(self, batch: Batch) -> Outcome:
        self._sending = True
        try:
            return await self._context.transport.send(batch)
        finally:
            self._sending = False
            self._progress.set()

    # Settling.

    def _keep_dead(self, loss: Loss) -> None:
        """Keep the messages of a loss for the settlement of their entries."""
        error = loss.error
        for batch in loss.batches:
            assert isinstance(batch, Batch)
            assert isinstance(batch.receipt, _Settlement)
            batch.receipt.dead += (
                DeadLetter(
                    partition=self.partition,
                    reason=loss.reason.value,
                    status=None if error is None else error.status,
                    error="" if error is None else str(error),
                    server_message="" if error is None else error.server_message or "",
                    endpoint=batch.endpoint,
                    line=line,
                )
                for line in batch.lines()
            )

    def _keep_damaged(self, settlement: _Settlement) -> None:
        """Keep an entry that no agent has written for its settlement."""
        reason, (entry,) = LossReason.DAMAGED, settlement.entries
        self._context.dead[reason] += 1
        settlement.dead.append(DeadLetter(partition=self.partition, reason=reason.value, line=entry.body))
        line = "an entry of partition %d cannot be read and becomes a dead letter"
        self._context.log("dead-damaged", logging.ERROR, line, self.partition, loud=True)

    def _complete(self, settlement: _Settlement) -> None:
        # The hook that keeps the dead letters is called after this, but before another task runs.
        if not settlement.complete:  # else an exception has interrupted the first answer
            settlement.complete = True
            self._settlements.append(settlement)
            self._to_settle.set()

    async def _settle(self) -> None:
        while True:
            await self._to_settle.wait()
            self._to_settle.clear()
            while self._settlements and not self.lost:
                await self._call(self._settle_next)

    async def _settle_next(self) -> None:
        await self._settling(partial(self._context.engine.settle, self._lease))

    async def _settling(self, call: Callable[[Sequence[Entry], Sequence[DeadLetter]], Awaitable[T]]) -> T:
        """Await a call of the engine that removes the entries that have waited the longest for their settlement."""
        settlement = self._settlements.popleft() if self._settlements else None
        if settlement is None:
            return await call((), ())
        try:
            result = await call(settlement.entries, settlement.dead)
        except BaseException:
            self._settlements.appendleft(settlement)
            self._to_settle.set()
            raise
        self.in_hand -= sum(max(1, entry.count) for entry in settlement.entries)
        self._progress.set()
        return result


class _OwnersTransport:
    """The transport of a sender that may send only as an owner."""

    def __init__(self, send: Callable[[Batch], Awaitable[Outcome]]) -> None:
        self._send = send

    async def send(self, batch: Batch) -> Outcome:
        return await self._send(batch)

    async def aclose(self) -> None:
        """Do nothing: the relay closes its transport."""


class _WorkerHooks(Hooks):
    """Counts outcomes for the relay, keeps dead letters, and calls the relay's hooks."""

    __slots__ = ("_context", "_keep_dead")

    def __init__(self, keep_dead: Callable[[Loss], None], context: RelayContext) -> None:
        super().__init__(context.on_delivered, context.on_lost, None, context.log)
        self._keep_dead = keep_dead
        self._context = context

    def delivered(self, batch: Batch, *, status: int | None, seconds: float) -> None:
        self._context.delivered += batch.count
        super().delivered(batch, status=status, seconds=seconds)

    def lost(self, reason: LossReason, error: DeliveryError | None, batches: list[Batch]) -> None:
        loss = Loss(reason=reason, error=error, batches=tuple(batches))
        self._keep_dead(loss)
        self._context.dead[reason] += loss.count
        super().lost(reason, error, batches)

    def _log_loss(self, loss: Loss, because: str) -> None:
        line = "%d messages become dead letters (%s)%s"
        reason = loss.reason.value
        self._log(f"dead-{reason}", logging.ERROR, line, loss.count, reason, because, loud=True)


def _soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    loop.call_soon(callback)


def _nothing_displaced() -> None:
    """Do nothing: the queue of a worker does not overflow."""
