"""The loop's side of a spool: takes in what dead processes left, moves the queue to disk and back, ends it."""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, Final

from salesmachine_async._core.accumulator import Accumulator
from salesmachine_async._core.batch import Batch
from salesmachine_async._core.partition import Partition
from salesmachine_async._delivery.recovered import batches_of
from salesmachine_async._log import RateLimitedLogger, describe_exception
from salesmachine_async._spool.log import Chunk
from salesmachine_async._spool.spooler import Recovered, Spooler
from salesmachine_async.errors import SpoolFailed
from salesmachine_async.policy import Batching, QueueLimits, Spool
from salesmachine_async.report import LossReason

__all__ = ["SpoolFeed"]

# Bytes that are read ahead of the messages of ended processes, and read back at once.
RECOVER_BYTES: Final = 2 * 2**20
READ_BACK_BYTES: Final = 2**20
# Seconds between two looks for messages of dead processes, with a jitter; after the first look.
RECOVER_SECONDS: Final = 30.0
# Seconds between two looks at the queue, and until a disk that could not be read is tried again.
UPKEEP_SECONDS: Final = 0.05
RETRY_SECONDS: Final = 1.0
# A task that ended by itself is restarted after so many seconds, as a sender is.
RESTART_SECONDS: Final = 0.05
# How full the memory may be before messages leave it; the part that stays for the requests to come.
SPILL_ABOVE: Final = 0.5
HEAD: Final = 1 / 8


class SpoolFeed:
    """
    Connects an agent's queues with its spool, on the event loop of the senders.

    Args:
        accumulator: The queues; the last partition is for what is recovered.
        spooler: The spool.
        policy: The policy of the spool.
        batching: The size of a batch.
        limits: The bounds of the memory.
        log: For failures.
        on_displaced: Called when messages were lost.
        on_progress: Called when messages were left to another process.
        on_released: Called when new messages need not wait any longer for those of dead processes.
    """

    def __init__(
        self,
        accumulator: Accumulator,
        spooler: Spooler,
        policy: Spool,
        *,
        batching: Batching,
        limits: QueueLimits,
        log: RateLimitedLogger,
        on_displaced: Callable[[], None],
        on_progress: Callable[[], None],
        on_released: Callable[[], None],
    ) -> None:
        self.delivers = policy.deliver
        self.recovers = policy.deliver and spooler.is_usable()
        self._accumulator = accumulator
        self._spooler = spooler
        self._policy = policy
        self._batching = batching
        self._log = log
        self._on_displaced = on_displaced
        self._on_progress = on_progress
        self._on_released = on_released
        *self._ordinary, self._extra = accumulator.partitions
        self._head_messages = max(1, int(limits.max_messages * HEAD / len(self._ordinary)))
        self._head_bytes = max(1, int(limits.max_bytes * HEAD / len(self._ordinary)))
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._patience: asyncio.TimerHandle | None = None
        # Identifies the tasks that may work: an interrupted start may have left others.
        self._run = object()
        # Set when a batch was settled.
        self._progress = asyncio.Event()
        # What was read of dead processes and is not queued yet, before and after batches were made of it. It waits
        # here, so that a task that is cancelled or interrupted leaves it to the next one.
        self._found: deque[list[Recovered]] = deque()
        self._batches: deque[tuple[Batch, int, bool]] = deque()
        # How many times the spool's directory was deleted, as far as that was noticed.
        self._vanished = 0
        # With `max_age`: up to which batch everything has expired, and was sealed by when; and when each recovered
        # batch expires.
        self._expired = 0
        self._sealed_by: deque[tuple[float, int]] = deque()
        self._expiries: deque[tuple[float, int]] = deque()

    def start(self) -> None:
        """Begin, on the running event loop; what ran on another one was ended by it."""
        loop = asyncio.get_running_loop()
        self._spooler.start()
        self._progress = asyncio.Event()
        run = self._run = object()
        loops: list[Coroutine[Any, Any, None]] = [self._upkeep(run)]
        if self.recovers:
            loops.append(self._recover(run))
            self._patience = loop.call_later(self._policy.recover_first, self._on_released)
        # In a context of its own, or a task started within a request would keep that request's context.
        self._tasks = tuple(Context().run(loop.create_task, each) for each in loops)
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def is_running(self) -> bool:
        """Return whether its tasks run."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def settled(self) -> None:
        """Note that a batch was settled."""
        self._progress.set()

    def stop(self) -> None:
        """End the tasks."""
        self._run = object()
        for task in self._tasks:
            task.cancel()
        self._tasks = ()
        if self._patience is not None:
            self._patience.cancel()

    async def close(self, seconds: float) -> None:
        """
        Commit a last time, and leave to another process what is on disk; wait for the disk at most so many seconds.

        What is not on disk stays queued.
        """
        self.stop()
        closing = asyncio.wrap_future(self._spooler.close())
        with suppress(asyncio.CancelledError):
            await asyncio.wait({closing}, timeout=seconds)
        if closing.done() and not closing.cancelled():
            closing.exception()  # the spool has logged it
        self._lose_vanished()
        for partition in self._ordinary:
            self._accumulator.seal(partition)
            self._accumulator.keep(partition, self._spooler.durable(partition.index))
        self._accumulator.keep(self._extra, sys.maxsize)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Begin again when a task was cancelled from outside, or a signal handler raised in it."""
        if task in self._tasks:
            if not task.cancelled():
                task.exception()  # it was raised in the event loop too
            task.get_loop().call_later(RESTART_SECONDS, self._restart)

    def _restart(self) -> None:
        if self._tasks and not self.is_running():
            self.stop()
            self.start()

    # Messages of processes that have ended.

    async def _recover(self, run: object) -> None:
        waits = True
        while self._run is run:
            try:
                await self._recover_all()
                while waits and self._extra.unsettled:
                    await self._settlement()
            except Exception as exc:  # noqa: BLE001 (a disk that fails now may be read later)
                self._log("spool recovery", logging.WARNING, "messages were not recovered: %s", describe_exception(exc))
            waits = False
            self._on_released()
            await asyncio.sleep(RECOVER_SECONDS * random.uniform(0.75, 1.25))  # noqa: S311

    async def _recover_all(self) -> None:
        """Queue what dead processes left, never much more than the next requests need."""
        while await self._find():
            self._queue_found()
            while self._extra.unsettled_bytes > RECOVER_BYTES // 2:
                await self._settlement()

    async def _find(self) -> bool:
        """Read on, unless something that was read waits to be queued; returns whether there is anything."""
        if not self._batches and not self._found:
            await asyncio.wrap_future(self._spooler.recover(RECOVER_BYTES, self._found))
        return bool(self._batches or self._found)

    async def _settlement(self) -> None:
        self._progress.clear()
        await self._progress.wait()

    def _queue_found(self) -> None:
        """Queue what was read; if this is interrupted, the next call goes on with it."""
        while self._batches or self._found:
            if not self._batches:
                batches = deque(batches_of(self._found[0], self._batching, self._extra.index))
                # From here on nothing is called: they are in one of the two.
                self._batches = batches
                del self._found[0]
            while self._batches:
                self._queue(*self._batches[0])
                del self._batches[0]
        if self._accumulator.displaced:
            self._on_displaced()

    def _queue(self, batch: Batch, written_ms: int, expired: bool) -> None:
        """Queue a batch, unless an interrupted call has: only this puts batches into the last partition."""
        extra = self._extra
        if not batch.number or batch.first >= extra.numbered:
            self._accumulator.put(batch)
        if expired:
            if batch in extra.sealed:  # else an interrupted call has lost it, or it is being sent
                self._accumulator.lose(batch, LossReason.EXPIRED)
        elif self._policy.max_age is not None:
            left = self._policy.max_age - max(0.0, time.time() - written_ms / 1000)
            self._expiries.append((asyncio.get_running_loop().time() + left, batch.number))

    # The queue.

    async def _upkeep(self, run: object) -> None:
        while self._run is run:
            again = False
            wait = UPKEEP_SECONDS
            try:
                again = await self._keep_up()
            except Exception as exc:  # noqa: BLE001 (a disk that fails now may be read later)
                wait = RETRY_SECONDS
                self._log("spool", logging.WARNING, "the spool cannot be read: %s", describe_exception(exc), loud=True)
            if not again:
                self._progress.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        # Without messages on disk only, nothing is urgent.
                        await (self._progress.wait() if self._spilled() else asyncio.sleep(wait))

    async def _keep_up(self) -> bool:
        """Do what is due; returns whether there is more to do at once."""
        await self._expire()
        if not self.delivers:
            self._leave()
            return False
        vanished = self._spooler.vanished
        durable = [self._spooler.durable(partition.index) for partition in self._ordinary]
        self._lose_vanished()
        if vanished != self._vanished:
            return True  # these numbers may be those of the deleted directory
        if self._accumulator.fill() > SPILL_ABOVE:
            for partition in self._ordinary:
                self._accumulator.spill(partition, durable[partition.index], self._head_messages, self._head_bytes)
        if self._accumulator.fill() > SPILL_ABOVE:
            for partition in self._ordinary:
                self._close_open(partition, durable[partition.index])
        again = False
        for partition in self._ordinary:
            if partition.spilled and (wanted := self._wanted(partition)):
                again = True
                await self._read_back(partition, wanted)
        return again

    def _close_open(self, partition: Partition, durable: int) -> None:
        """Close an open batch that is on disk, so that it can leave the memory, unless it takes little of it."""
        if durable >= partition.numbered + len(partition.lines) and (
            len(partition.lines) >= self._head_messages or partition.loose_bytes() >= self._head_bytes
        ):
            self._accumulator.wake(partition)  # first, so that it is sent, even if this is interrupted
            self._accumulator.seal(partition)

    def _lose_vanished(self) -> None:
        """Lose what was on disk only, in a directory that was deleted."""
        vanished = self._spooler.vanished
        if vanished == self._vanished:
            return
        for partition in self._ordinary:
            for batch in [batch for batch in partition.sealed if batch.spilled]:
                self._accumulator.lose(batch, LossReason.DAMAGED)
            self._accumulator.wake(partition)
        self._vanished = vanished
        if self._accumulator.displaced:
            self._on_displaced()

    def _spilled(self) -> bool:
        return any(partition.spilled for partition in self._ordinary)

    def _leave(self) -> None:
        """Leave what is on disk to the process that delivers."""
        for partition in self._ordinary:
            if partition.sealed:
                self._accumulator.keep(partition, self._spooler.durable(partition.index))
        self._on_progress()

    def _wanted(self, partition: Partition) -> list[Batch]:
        """
        Return the next batches to read back; none while enough of those before them are in memory.

        They follow each other, and together have at most `READ_BACK_BYTES`, unless there is only one: one read gets all
        of them, wherever the records on disk end.
        """
        messages, size = partition.in_flight_size()
        wanted: list[Batch] = []
        to_read = 0
        for batch in partition.sealed:
            if batch.spilled:
                to_read += batch.body_size
                # As `spill` counts: what is read back stays.
                if messages >= self._head_messages or size >= self._head_bytes:
                    break
                # A message that was brought forward is elsewhere on disk.
                if wanted and (to_read > READ_BACK_BYTES or batch.first != wanted[-1].first + wanted[-1].count):
                    break
                wanted.append(batch)
            messages += batch.count
            size += batch.size
            enough = messages > self._head_messages // 2 or size > self._head_bytes // 2
            if not batch.spilled and (wanted or enough):
                break
        return wanted

    async def _read_back(self, partition: Partition, wanted: list[Batch]) -> None:
        first, last = wanted[0], wanted[-1]
        end = last.first + last.count
        # The body of the first one has more bytes than its lines and the newlines between them.
        n_bytes = max(READ_BACK_BYTES, first.body_size)
        chunk = await asyncio.wrap_future(self._spooler.read_back(partition.index, first.first, end, n_bytes))
        lines = _by_number(chunk)
        self._accumulator.wake(partition)  # first, so that what is restored is sent, even if this is interrupted
        for batch in wanted:
            if batch.first + batch.count > chunk.end:
                break
            if batch.spilled and batch in partition.sealed:  # else it has expired in the meantime
                self._accumulator.restore(batch, [lines.get(batch.first + at) for at in range(batch.count)])
        if self._accumulator.displaced:
            self._log("spool damaged", logging.ERROR, "messages could not be read back from the spool", loud=True)
            self._on_displaced()

    # Age.

    async def _expire(self) -> None:
        max_age = self._policy.max_age
        if max_age is None:
            return
        now = asyncio.get_running_loop().time()
        if not self._sealed_by or now - self._sealed_by[-1][0] >= max_age / 100:
            for partition in self._ordinary:
                if self.delivers and partition.lines and self._sealed_by:
                    self._accumulator.wake(partition)  # first, so that it is sent, even if this is interrupted
                    self._accumulator.seal(partition)
            self._sealed_by.append((now, self._accumulator.sealed_batches))
        while self._sealed_by and now - self._sealed_by[0][0] >= max_age:
            self._expired = self._sealed_by[0][1]
            del self._sealed_by[0]
        for partition in self._ordinary:
            await self._lose_expired(partition)
        while self._expiries and (self._expiries[0][0] <= now or not self._extra.unsettled):
            self._accumulator.expire(self._extra, self._expiries[0][1])
            del self._expiries[0]
        if self._accumulator.displaced:
            self._on_displaced()

    async def _lose_expired(self, partition: Partition) -> None:
        """Lose what has expired; for `on_lost`, what is on disk only is read back before, a little at a time."""
        tried: Batch | None = None
        while partition.sealed and (batch := partition.sealed[0]).number <= self._expired:
            if not batch.spilled or batch is tried:
                self._accumulator.lose(batch, LossReason.EXPIRED)
                continue
            self._on_displaced()  # first, so that no more than what is read at once waits for the hook
            tried = batch
            with suppress(SpoolFailed):  # then they are lost without their lines
                await self._read_back(partition, self._wanted(partition) or [batch])


def _by_number(chunk: Chunk) -> dict[int, bytes]:
    return {
        number: line
        for piece in chunk.pieces
        for number, line in enumerate(bytes(piece.lines).split(b"\n"), piece.first)
    }
