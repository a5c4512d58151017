"""Work of the spool's thread: commits, removals, recovery, and the resulting state."""

from __future__ import annotations

import errno
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

import orjson

from salesmachine_async._core.receipt import Receipt, RejectedLine
from salesmachine_async._log import RateLimitedLogger, monotonic
from salesmachine_async._spool.committer import QueueView
from salesmachine_async._spool.damage import Damage
from salesmachine_async._spool.files import Files
from salesmachine_async._spool.log import Chunk, Log, segment_bytes
from salesmachine_async._spool.pieces import LogPiece
from salesmachine_async._spool.recovery import Recovery
from salesmachine_async._spool.root import Root
from salesmachine_async.errors import ConfigError, SpoolFailed
from salesmachine_async.policy import Spool
from salesmachine_async.report import SpoolState, SpoolStats

__all__ = ["Recovered", "Worker"]

# Seconds until a disk that was full or failed is tried again.
RETRY_SECONDS: Final = 5.0
# Seconds between two syncs of the cursors.
CURSOR_SECONDS: Final = 1.0
# Seconds for which one directory takes the messages of an agent that does not deliver.
HAND_OVER_SECONDS: Final = 5.0
FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Recovered(NamedTuple):
    """Messages that an earlier process left; each of them must be settled by the receipt."""

    piece: LogPiece
    receipt: Receipt
    expired: bool
    """Whether they are older than `Spool.max_age`: they are to be lost as ``EXPIRED``."""


class Worker:
    """
    Works on the files of one agent's spool. Only one thread may call its methods, but for `stats` and receipts.

    Args:
        policy: The policy of the spool.
        destinations: The destination of the messages, then others whose messages are recovered as well.
        partitions: The number of partitions of the source.
        source: The queues.
        log: The log of warnings.
        clock: Monotonic seconds.
        now_ms: Milliseconds of the wall clock.
        files: The operating system.

    Attributes:
        durable: By partition, the number behind the last message that is on disk.
        settled: Queue of outcomes not processed yet: the recovery, the piece, the rejected messages.
        state: The state of the spool.
    """

    def __init__(
        self,
        policy: Spool,
        destinations: Sequence[int],
        partitions: int,
        source: QueueView,
        *,
        log: RateLimitedLogger,
        clock: Callable[[], float] = monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        files: Files,
    ) -> None:
        self._policy = policy
        self._destinations: Collection[int] = set(destinations)
        self._partitions = partitions
        self._source = source
        self._log = log
        self._clock = clock
        self._now_ms = now_ms
        self._files = files
        self._root = Root(files, policy.path, policy.max_bytes)
        self._damage = Damage(self._root, log)
        self._own = Log(
            files,
            self._root,
            destinations[0],
            partitions,
            size=segment_bytes(policy.max_bytes),
            sync=policy.sync,
            damage=self._damage,
            now_ms=now_ms,
        )
        self.durable = self._own.durable
        self.settled: deque[tuple[Recovery | None, LogPiece | None, Sequence[RejectedLine]]] = deque()
        self.state = SpoolState.OPEN
        # By partition, the number behind the last message that the previous commit has seen.
        self._seen = [0] * partitions
        self._recoveries: list[Recovery] = []
        self._retry_at = self._sync_cursors_at = self._hand_over_at = 0.0
        self._commits = self._write_errors = self._rejected_kept = self._searches = 0
        self._commit_seconds_max = 0.0
        self._oldest_ms: int | None = None

    def check(self) -> None:
        """Try the path; raises `ConfigError` if it is unusable, unless the policy says to run without it."""
        try:
            self._root.check()
        except ConfigError as exc:
            if self._policy.required:
                raise
            self.state = SpoolState.UNAVAILABLE
            self._log("spool", logging.ERROR, "running without a spool: %s", exc, loud=True)

    def abandon(self) -> None:
        """Close all files in the child of a fork, and unlock nothing."""
        self._files.abandon()

    @property
    def vanished(self) -> int:
        """How many times the directory was deleted."""
        return self._own.vanished

    def stats(self) -> SpoolStats:
        """Return a snapshot; any thread."""
        return SpoolStats(
            state=self.state,
            oldest_seconds=0.0 if self._oldest_ms is None else max(0.0, (self._now_ms() - self._oldest_ms) / 1000),
            commits=self._commits,
            commit_seconds_max=self._commit_seconds_max,
            write_errors=self._write_errors,
            damaged_bytes=self._damage.damaged_bytes,
            torn_bytes=self._damage.torn_bytes,
            rejected_kept=self._rejected_kept,
            searches=self._searches,
        )

    def read_back(self, partition: int, first: int, end: int, n_bytes: int) -> Chunk:
        """Read messages of this process again."""
        return self._own.read(partition, first, end, n_bytes)

    def tick(self) -> None:
        """Do the work that is due, twice per `Spool.commit` seconds: a call writes what the previous one has seen."""
        if self.state is SpoolState.CLOSED:
            return  # its thread is about to end
        now = self._clock()
        try:
            self._settle()
            self._look_around()
            if now >= self._retry_at:
                self._commit(self._seen)
        except OSError as exc:
            self._failed(exc)
        self._trim(sync=now >= self._sync_cursors_at)

    def _settle(self) -> None:
        for partition in range(self._partitions):
            self._own.waiting[partition] = waiting = self._source.waiting(partition)
            self._own.settled[partition] = min(numbers.start for numbers in waiting)
        while self.settled:
            recovery, piece, rejected = self.settled.popleft()
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

    def _commit(self, seen: Sequence[int] | None = None) -> None:
        """
        Write what is unwritten.

        Args:
            seen: Write only the messages that an earlier call has seen, up to these numbers: with a healthy server
                nearly all of them have an outcome by now, and are never written.
        """
        began = self._clock()
        pieces = [
            piece
            for partition in range(self._partitions)
            for piece in self._source.unwritten(partition, self._own.durable[partition])
        ]
        ends = list(self._own.durable)
        for piece in pieces:
            ends[piece.partition] = piece.first + piece.messages
        if seen is not None:
            pieces = [piece for piece in pieces if piece.first < seen[piece.partition]]
        self._seen = ends
        if self._own.commit(pieces):
            self._commits += 1
            self._commit_seconds_max = max(self._commit_seconds_max, self._clock() - began)
        if self.state is not SpoolState.OPEN:
            self._log("spool healed", logging.INFO, "the spool can be written again")
            self.state = SpoolState.OPEN
        if not self._policy.deliver:
            self._hand_over(self._clock())

    def _hand_over(self, now: float) -> None:
        """Leave the directory periodically, so that another process can deliver its messages."""
        if now >= self._hand_over_at:
            self._hand_over_at = now + HAND_OVER_SECONDS
            self._own.leave()

    def _trim(self, *, sync: bool) -> None:
        """Remove what is settled; a disk that refuses costs repeated messages, and no commit."""
        if sync:
            self._sync_cursors_at = self._clock() + CURSOR_SECONDS
        logs: list[Log | Recovery] = [self._own, *self._recoveries]
        for each in logs:
            try:
                each.trim()
                if sync:
                    each.sync_cursor()
            except OSError as exc:
                self._write_errors += 1
                self._log("spool cursor", logging.WARNING, "the spool's cursor was not written: %s", exc.strerror)
        for recovery in [recovery for recovery in self._recoveries if recovery.is_settled]:
            self._recoveries.remove(recovery)
            recovery.close()
        ages = [each.oldest_ms() for each in logs]
        self._oldest_ms = min((age for age in ages if age is not None), default=None)

    def _failed(self, exc: OSError) -> None:
        self._write_errors += 1
        self._retry_at = self._clock() + RETRY_SECONDS
        full = exc.errno in FULL
        self.state = SpoolState.FULL if full else SpoolState.FAILING
        text = "the spool is %s: %s; new messages are kept in memory only"
        self._log("spool failed", logging.ERROR, text, self.state.value, exc.strerror, loud=True)

    def sync(self) -> None:
        """Commit now, and wait for the disk whatever the policy says."""
        try:
            self._write_out()
        finally:
            self._trim(sync=False)

    def _write_out(self) -> None:
        if self.state is SpoolState.CLOSED:
            raise SpoolFailed("the spool is closed")
        try:
            self._settle()
            self._look_around()
            self._commit()
            self._own.sync()
        except OSError as exc:
            self._failed(exc)
            raise

    def recover(self, n_bytes: int) -> list[Recovered]:
        """Return the next messages of dead processes; none if there are none now."""
        while True:
            recovery = self._recoveries[-1] if self._recoveries else None
            if recovery is None or recovery.exhausted:
                recovery = self._adopt()
                if recovery is None:
                    self._searches += 1
                    return []
            pieces = recovery.read(n_bytes)
            if pieces:
                return [self._recovered(recovery, piece) for piece in pieces]

    def _adopt(self) -> Recovery | None:
        found = self._root.adopt(self._destinations)
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
                self._log(f"spool {reason}", logging.WARNING, text, self._root.path, count)

    def _recovered(self, recovery: Recovery, piece: LogPiece) -> Recovered:
        age = self._policy.max_age
        expired = age is not None and self._now_ms() - piece.written_ms > age * 1000
        receipt = Receipt(piece.messages, lambda rejected: self.settled.append((recovery, piece, tuple(rejected))))
        return Recovered(piece, receipt, expired)

    def close(self) -> None:
        """Commit a last time and give the directories back."""
        try:
            self._write_out()
        finally:
            self._own.leave()
            for recovery in self._recoveries:
                recovery.close()
            self._recoveries.clear()
            self.state = SpoolState.CLOSED


_SKIPPED: Final = {
    "foreign": "messages below %s are for another base URL, token or queue (directories: %d); drain them with --accept",
    "newer": "messages below %s were written by a newer version of salesmachine_async (directories: %d); left alone",
    "unreadable": "messages below %s are so damaged that it is unknown for whom they are (directories: %d); left alone",
}


def _for_people(rejected: RejectedLine, now_ms: int) -> bytes:
    error = rejected.error
    about = {
        "rejected_ms": now_ms,
        "status": error.status if error else None,
        "error": (error.server_message or str(error)) if error else None,
    }
    return orjson.dumps(about)[:-1] + b',"message":' + rejected.line + b"}\n"
