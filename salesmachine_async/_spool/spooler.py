"""Spool of an agent: no method waits for the disk; those that take time return a future."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TypeVar

from salesmachine_async._core.receipt import RejectedLine
from salesmachine_async._log import RateLimitedLogger, monotonic
from salesmachine_async._process import check_fork, watch
from salesmachine_async._spool.committer import Committer, QueueView
from salesmachine_async._spool.destination import destination_of
from salesmachine_async._spool.files import Files
from salesmachine_async._spool.log import Chunk
from salesmachine_async._spool.worker import Recovered, Worker
from salesmachine_async.errors import SpoolFailed
from salesmachine_async.policy import Spool
from salesmachine_async.report import SpoolState, SpoolStats

__all__ = ["Recovered", "Spooler", "destination_of"]

T = TypeVar("T")


class Spooler:
    """
    The spool of one agent in one process.

    Args:
        policy: The policy of the spool.
        destination: The destination of the messages: `destination_of`.
        partitions: The number of partitions of the source.
        source: The queues.
        log: The log of warnings; None makes one.
        accept: Other destinations whose messages are recovered as well.
        clock: Monotonic seconds.
        now_ms: Milliseconds of the wall clock.
        files: The operating system.

    Raises:
        ConfigError: The path cannot be used, and the policy requires it.
    """

    def __init__(
        self,
        policy: Spool,
        destination: int,
        partitions: int,
        source: QueueView,
        *,
        log: RateLimitedLogger | None = None,
        accept: Collection[int] = (),
        clock: Callable[[], float] = monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        files: Callable[[], Files] = Files,
    ) -> None:
        self._log = log or RateLimitedLogger()
        # A child of a fork may have another working directory.
        policy = replace(policy, path=os.path.abspath(policy.path))

        def make() -> Worker:
            return Worker(
                policy,
                [destination, *accept],
                partitions,
                source,
                log=self._log,
                clock=clock,
                now_ms=now_ms,
                files=files(),
            )

        self._make = make
        self._commit_seconds = policy.commit
        self._begin()
        self._worker.check()
        watch(self, Spooler.after_fork)

    def _begin(self) -> None:
        self._worker = self._make()
        self._committer = Committer(self._worker.tick, self._commit_seconds / 2, self._log)
        self._closing: Future[None] | None = None

    def after_fork(self) -> None:
        """Drop the directory in the child of a fork: it, its lock and all messages stay with the parent."""
        before = self._worker
        before.abandon()
        self._begin()
        if before.state is SpoolState.UNAVAILABLE:
            self._worker.state = before.state

    # Called by the agent, from any thread.

    def start(self) -> None:
        """Start the thread that commits."""
        if self.is_usable():
            self._committer.start()

    def sync(self) -> Future[None]:
        """
        Bring everything accepted before to stable storage, unless it has an outcome by then.

        The future's exception is `SpoolFailed` if the disk refuses. After `close` it is the future of that.
        """
        return self._closing or self._submit(Worker.sync)

    @property
    def vanished(self) -> int:
        """How many times the directory of this process was deleted, with what was on disk only."""
        return self._worker.vanished

    def durable(self, partition: int) -> int:
        """Return the number behind the last message of a partition that is on disk and may leave the memory."""
        return self._worker.durable[partition]

    def read_back(self, partition: int, first: int, end: int, n_bytes: int) -> Future[Chunk]:
        """
        Read messages again that have left the memory.

        Args:
            partition: Which.
            first: The number of the first one.
            end: The number behind the last one; at most `durable`.
            n_bytes: About how much; at least one record is read.
        """
        return self._submit(lambda worker: worker.read_back(partition, first, end, n_bytes))

    def recover(self, n_bytes: int, found: deque[list[Recovered]] | None = None) -> Future[list[Recovered]]:
        """
        Read the next messages of dead processes, about *n_bytes* of them; an empty list if there are none now.

        Directories are taken oldest first. Order is kept within each.

        Args:
            n_bytes: About how much; at least one record is read.
            found: The list is appended to it, if it is not empty: it is there even if nobody waits for the future any
                more.
        """

        def read(worker: Worker) -> list[Recovered]:
            some = worker.recover(n_bytes)
            if some and found is not None:
                found.append(some)
            return some

        return self._submit(read)

    def reject(self, rejected: Sequence[RejectedLine]) -> None:
        """Keep rejected messages for an operator; those of recovered batches are kept through their receipts."""
        if rejected and self.is_usable():
            self._worker.settled.append((None, None, tuple(rejected)))

    def stats(self) -> SpoolStats:
        """Return a snapshot."""
        return self._worker.stats()

    def close(self) -> Future[None]:
        """
        Commit a last time and give the directories back.

        When the future is done, what is without an outcome and below `durable` is kept: another process delivers it.
        The future's exception is `SpoolFailed` if the last commit failed.
        """
        if self._closing is None:
            self._closing = self._submit(Worker.close)
            self._committer.stop()
        return self._closing

    def is_usable(self) -> bool:
        """Return whether there is a spool: its path was usable when the agent was made."""
        check_fork()
        return self._worker.state is not SpoolState.UNAVAILABLE

    def _submit(self, function: Callable[[Worker], T]) -> Future[T]:
        if self.is_usable():
            return self._committer.submit(partial(function, self._worker))
        future: Future[T] = Future()
        future.set_exception(SpoolFailed("the spool's path was unusable when the agent was made"))
        return future
