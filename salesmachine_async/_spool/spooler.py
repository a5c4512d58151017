"""The spool as an agent uses it: no method of it waits for a disk but `close` and `wait` of what it returns."""

from __future__ import annotations

import errno
import logging
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from functools import partial
from hashlib import blake2b
from typing import Final, NamedTuple, TypeVar

import orjson

from salesmachine_async._core.receipt import Receipt, RejectedLine
from salesmachine_async._log import RateLimitedLogger
from salesmachine_async._spool.committer import Committer, Source
from salesmachine_async._spool.damage import Damage
from salesmachine_async._spool.files import Files
from salesmachine_async._spool.log import Chunk, Log, segment_bytes
from salesmachine_async._spool.recovery import Recovery
from salesmachine_async._spool.root import Root
from salesmachine_async._spool.segment import Piece
from salesmachine_async.errors import ConfigError, SpoolFailed
from salesmachine_async.policy import Spool
from salesmachine_async.report import SpoolState, SpoolStats

__all__ = ["Recovered", "Spooler", "destination_of"]

T = TypeVar("T")

# Seconds until a disk that was full or failed is tried again.
RETRY_SECONDS: Final = 5.0
# Seconds between two syncs of the cursors.
CURSOR_SECONDS: Final = 1.0
# Seconds for which one directory takes the messages of an agent that does not deliver.
HAND_OVER_SECONDS: Final = 5.0
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Recovered(NamedTuple):
    """Messages that an earlier process left; each of them must be settled by the receipt."""

    piece: Piece
    receipt: Receipt
    expired: bool
    """Whether they are older than `Spool.max_age`: they are to be lost as ``EXPIRED``."""


def destination_of(base_url: str, token: str) -> int:
    """Return what tells the messages of one account from those of another, and tells neither of the arguments."""
    return int.from_bytes(blake2b(f"{base_url.rstrip('/')}\0{token}".encode(), digest_size=8).digest(), "little")


class Spooler:
    """
    The spool of one agent in one process.

    Args:
        policy: What the user decided.
        destination: Whose messages they are: `destination_of`.
        partitions: How many partitions the source has.
        source: The queues.
        log: For what people should know; None: one of its own.
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
        source: Source,
        *,
        log: RateLimitedLogger | None = None,
        accept: Collection[int] = (),
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        files: Callable[[], Files] = Files,
    ) -> None:
        self._policy = policy
        self._destination = destination
        self._accepted = {destination, *accept}
        self._partitions = partitions
        self._source = source
        self._log = log or RateLimitedLogger()
        self._clock = clock
        self._now_ms = now_ms
        self._new_files = files
        self._begin()
        self._check()
        _spoolers.add(self)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._files = self._new_files()
        self._root = Root(self._files, self._policy.path, self._policy.max_bytes)
        self._damage = Damage(self._root, self._log)
        self._own = Log(
            self._files,
            self._root,
            self._destination,
            self._partitions,
            size=segment_bytes(self._policy.max_bytes),
            sync=self._policy.sync,
            damage=self._damage,
            now_ms=self._now_ms,
        )
        self._committer = Committer(self._tick, self._policy.commit, self._log)
        self._recoveries: list[Recovery] = []
        # What was settled and the thread has not looked at yet.
        self._settled: deque[tuple[Recovery | None, Piece | None, Sequence[RejectedLine]]] = deque()
        self._state = SpoolState.OPEN
        self._retry_at = self._sync_cursors_at = self._hand_over_at = 0.0
        self._commits = self._write_errors = self._rejected_kept = 0
        self._commit_seconds_max = 0.0
        self._oldest_ms: int | None = None

    def _check(self) -> None:
        try:
            self._root.check()
        except ConfigError as exc:
            if self._policy.required:
                raise
            self._state = SpoolState.UNAVAILABLE
            self._log("spool", logging.ERROR, "running without a spool: %s", exc, loud=True)

    def after_fork(self) -> None:
        """Begin anew in the child of a fork: the directory, its lock and all messages stay with the parent."""
        unavailable = self._state is SpoolState.UNAVAILABLE
        self._files.abandon()
        self._begin()
        if unavailable:
            self._state = SpoolState.UNAVAILABLE

    # What an agent calls, from any thread.

    def start(self) -> None:
        """Begin to commit."""
        if self._is_usable():
            self._committer.start()

    def sync(self) -> Future[None]:
        """
        Bring everything accepted before to stable storage, unless it has an outcome by then.

        The future's exception is `SpoolFailed` if the disk refuses.
        """
        return self._submit(self._sync_now)

    def durable(self, partition: int) -> int:
        """Return the number behind the last message of a partition that is on disk and may leave the memory."""
        return self._own.durable[partition]

    def read_back(self, partition: int, first: int, end: int, n_bytes: int) -> Future[Chunk]:
        """
        Read messages again that have left the memory.

        Args:
            partition: Which.
            first: The number of the first one.
            end: The number behind the last one; at most `durable`.
            n_bytes: About how much; at least one record is read.
        """
        return self._submit(partial(self._own.read, partition, first, end, n_bytes))

    def recover(self, n_bytes: int) -> Future[list[Recovered]]:
        """
        Read the next messages of dead processes, about *n_bytes* of them; an empty list if there are none now.

        Directories are taken oldest first. Order is kept within each.
        """
        return self._submit(partial(self._recover_now, n_bytes))

    def reject(self, rejected: Sequence[RejectedLine]) -> None:
        """Keep messages for people that the server rejected; those of recovered batches come by their receipts."""
        if rejected and self._is_usable():
            self._settled.append((None, None, tuple(rejected)))

    def stats(self) -> SpoolStats:
        """Return a snapshot."""
        return SpoolStats(
            state=self._state,
            oldest_seconds=0.0 if self._oldest_ms is None else max(0.0, (self._now_ms() - self._oldest_ms) / 1000),
            commits=self._commits,
            commit_seconds_max=self._commit_seconds_max,
            write_errors=self._write_errors,
            damaged_bytes=self._damage.damaged_bytes,
            torn_bytes=self._damage.torn_bytes,
            rejected_kept=self._rejected_kept,
        )

    def close(self) -> Future[None]:
        """
        Commit a last time and give the directories back.

        When the future is done, what is without an outcome and below `durable` is kept: another process delivers it.
        The future's exception is `SpoolFailed` if the last commit failed. `wait` for it only from outside a loop.
        """
        future = self._submit(self._close_now)
        self._committer.stop()
        return future

    def _is_usable(self) -> bool:
        if os.getpid() != self._pid:  # a fork that no hook of Python's has seen
            self.after_fork()
        return self._state is not SpoolState.UNAVAILABLE

    def _submit(self, function: Callable[[], T]) -> Future[T]:
        if self._is_usable():
            return self._committer.submit(function)
        future: Future[T] = Future()
        future.set_exception(SpoolFailed("the spool's path was unusable when the agent was made"))
        return future

    # What the spool's thread does.

    def _tick(self) -> None:
        now = self._clock()
        try:
            self._settle()
            self._look_around()
            if now >= self._retry_at:
                self._commit()
            self._trim()
            if now >= self._sync_cursors_at:
                self._sync_cursors_at = now + CURSOR_SECONDS
                self._sync_cursors()
        except OSError as exc:
            self._failed(exc)

    def _settle(self) -> None:
        for partition in range(self._partitions):
            self._own.settled[partition] = self._source.settled(partition)
        while self._settled:
            recovery, piece, rejected = self._settled.popleft()
            if rejected:
                self._keep(rejected)
            if recovery is not None and piece is not None:
                recovery.settle(piece)

    def _keep(self, rejected: Sequence[RejectedLine]) -> None:
        try:
            lines = [_for_people(each, self._now_ms()) for each in rejected]
            kept = self._own.reject(lines, self._policy.keep_rejected)
        except OSError as exc:
            self._write_errors += 1
            self._log("spool rejected", logging.WARNING, "rejected messages were not kept: %s", exc.strerror)
            return
        self._rejected_kept += kept
        if not kept and self._policy.keep_rejected:
            text = "rejected messages are no longer kept: Spool.keep_rejected is reached; purge them"
            self._log("spool rejected full", logging.WARNING, text)

    def _look_around(self) -> None:
        if self._own.has_vanished():
            text = "the spool's directory below %s was deleted; a new one is written from memory"
            self._log("spool vanished", logging.WARNING, text, self._root.path, loud=True)

    def _commit(self) -> None:
        began = self._clock()
        pieces = (
            piece
            for partition in range(self._partitions)
            for piece in self._source.unwritten(partition, self._own.durable[partition])
        )
        if self._own.commit(pieces):
            self._commits += 1
            self._commit_seconds_max = max(self._commit_seconds_max, self._clock() - began)
        if self._state is not SpoolState.OPEN:
            self._log("spool healed", logging.INFO, "the spool can be written again")
            self._state = SpoolState.OPEN
        self._oldest_ms = self._own.oldest_ms()
        if not self._policy.deliver:
            self._hand_over(self._clock())

    def _hand_over(self, now: float) -> None:
        """Leave the directory from time to time, so that another process can deliver what is in it."""
        if now >= self._hand_over_at:
            self._hand_over_at = now + HAND_OVER_SECONDS
            self._own.leave()

    def _trim(self) -> None:
        self._own.trim()
        for recovery in list(self._recoveries):
            recovery.trim()
            if recovery.is_settled:
                self._recoveries.remove(recovery)
                recovery.close()

    def _sync_cursors(self) -> None:
        self._own.sync_cursor()
        for recovery in self._recoveries:
            recovery.sync_cursor()

    def _failed(self, exc: OSError) -> None:
        self._write_errors += 1
        self._retry_at = self._clock() + RETRY_SECONDS
        full = exc.errno in _FULL
        self._state = SpoolState.FULL if full else SpoolState.FAILING
        text = "the spool is %s: %s; new messages are kept in memory only"
        self._log("spool failed", logging.ERROR, text, self._state.value, exc.strerror, loud=True)

    def _sync_now(self) -> None:
        try:
            self._settle()
            self._look_around()
            self._commit()
            self._own.sync()
        except OSError as exc:
            self._failed(exc)
            raise

    def _recover_now(self, n_bytes: int) -> list[Recovered]:
        while True:
            recovery = self._recoveries[-1] if self._recoveries else None
            if recovery is None or recovery.exhausted:
                recovery = self._adopt()
                if recovery is None:
                    return []
            pieces = recovery.read(n_bytes)
            if pieces:
                return [self._recovered(recovery, piece) for piece in pieces]

    def _adopt(self) -> Recovery | None:
        found = self._root.adopt(self._accepted)
        self._warn_of_skipped()
        if found is None:
            return None
        recovery = Recovery(self._files, self._root, *found, damage=self._damage, log=self._log)
        self._recoveries.append(recovery)
        return recovery

    def _warn_of_skipped(self) -> None:
        for reason, text in _SKIPPED.items():
            count = sum(each == reason for each in self._root.skipped.values())
            if count:
                self._log(f"spool {reason}", logging.WARNING, text, count, self._root.path)

    def _recovered(self, recovery: Recovery, piece: Piece) -> Recovered:
        age = self._policy.max_age
        expired = age is not None and self._now_ms() - piece.written_ms > age * 1000
        receipt = Receipt(piece.messages, lambda rejected: self._settled.append((recovery, piece, tuple(rejected))))
        return Recovered(piece, receipt, expired)

    def _close_now(self) -> None:
        self._settle()
        try:
            self._look_around()
            self._commit()
        except OSError as exc:
            self._failed(exc)
            raise
        finally:
            self._own.leave()
            for recovery in self._recoveries:
                recovery.close()
            self._recoveries.clear()
            self._state = SpoolState.CLOSED


_SKIPPED: Final = {
    "foreign": "%d directories below %s hold messages for another base URL or token; drain them with --accept",
    "newer": "%d directories below %s were written by a newer version of salesmachine_async; they are left alone",
    "unreadable": "%d directories below %s are damaged so that their destination is unknown; they are left alone",
}


def _for_people(rejected: RejectedLine, now_ms: int) -> bytes:
    error = rejected.error
    about = {
        "rejected_ms": now_ms,
        "status": error.status if error else None,
        "error": (error.server_message or str(error)) if error else None,
    }
    return orjson.dumps(about)[:-1] + b',"message":' + rejected.line + b"}\n"


_spoolers: weakref.WeakSet[Spooler] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for spooler in list(_spoolers):
        spooler.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
