"""The files of the spool, and of other queues on disk: appending, and reading what a dead process left."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from benchmarks._measure import require, resident_bytes

# A full batch: 65 messages of 310 bytes.
BATCH_MESSAGES: Final = 65
MESSAGE_BYTES: Final = 310
MAX_BYTES: Final = 2**32
# Whose messages a backlog holds.
URL: Final = "http://127.0.0.1:9"
TOKEN: Final = "token"
# Where the disk is; /tmp may be memory.
FOLDER: Final = os.environ.get("SALESMACHINE_BENCH_FOLDER")


@contextmanager
def folder() -> Iterator[str]:
    """Yield an empty folder on the disk that is measured."""
    with tempfile.TemporaryDirectory(prefix="spool-bench-", dir=FOLDER) as found:
        yield found


def lines(first: int, count: int) -> bytes:
    """Return messages joined by newlines; each says its number."""
    filler = "x" * (MESSAGE_BYTES - 116)
    return b"\n".join(
        b'{"method":"event","contact_uid":"1","event_uid":"e","params":{"n":%012d,"x":"%s"},"messageId":"id-%012d"}'
        % (number, filler.encode(), number)
        for number in range(first, first + count)
    )


class _Log:
    """The log of one process, without its thread."""

    def __init__(self, path: str, destination: int = 1) -> None:
        from salesmachine_async._log import RateLimitedLogger
        from salesmachine_async._spool.damage import Damage
        from salesmachine_async._spool.files import Files
        from salesmachine_async._spool.log import Log, segment_bytes
        from salesmachine_async._spool.root import Root

        self.files = Files()
        self.root = Root(self.files, path, MAX_BYTES)
        self.root.check()
        self.log = Log(
            self.files,
            self.root,
            destination,
            1,
            size=segment_bytes(MAX_BYTES),
            sync=True,
            damage=Damage(self.root, RateLimitedLogger()),
            now_ms=lambda: time.time_ns() // 1_000_000,
        )

    def append(self, batches: list[tuple[int, bytes]]) -> None:
        """Commit batches, each with the number of its first message: one write, one fdatasync."""
        from salesmachine_async._spool.pieces import LogPiece

        self.log.commit([LogPiece(0, first, BATCH_MESSAGES, data) for first, data in batches])

    def close(self) -> None:
        """Leave it to another process."""
        self.files.abandon()


class _Sqlite:
    """A table of batches, as durable as the log."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(os.path.join(path, "queue.db"), isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("CREATE TABLE queue (id INTEGER PRIMARY KEY, data BLOB)")

    def append(self, batches: list[tuple[int, bytes]]) -> None:
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT INTO queue (data) VALUES (?)", [(data,) for _, data in batches])
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()


class _PersistQueue:
    """persist-queue's queue in SQLite: WAL, and SQLite's default of synchronous=FULL."""

    def __init__(self, path: str) -> None:
        from persistqueue import SQLiteQueue  # type: ignore[import-not-found,unused-ignore]

        self._queue: Any = SQLiteQueue(path, auto_commit=False)

    def append(self, batches: list[tuple[int, bytes]]) -> None:
        for _, data in batches:
            self._queue.put(data)
        self._queue.task_done()

    def close(self) -> None:
        self._queue.close()


QUEUES: Final[dict[str, Callable[[str], Any]]] = {"spool": _Log, "sqlite": _Sqlite, "persist-queue": _PersistQueue}


def append_rate(queue: str, batches: int, per_commit: int) -> float:
    """Return how many batches of 20 KB a second one process appends durably, so many with each commit."""
    data = [(first * BATCH_MESSAGES, lines(first * BATCH_MESSAGES, BATCH_MESSAGES)) for first in range(batches)]
    with folder() as path:
        target = QUEUES[queue](path)
        started = time.perf_counter()
        for at in range(0, batches, per_commit):
            target.append(data[at : at + per_commit])
        seconds = time.perf_counter() - started
        target.close()
    return batches / seconds


def write_backlog(path: str, messages: int) -> int:
    """Write what a dead process leaves for `URL` and `TOKEN`; returns its bytes."""
    from salesmachine_async._spool.spooler import destination_of

    log = _Log(path, destination_of(URL, TOKEN))
    written = 0
    for first in range(0, messages, 50 * BATCH_MESSAGES):
        batches = [(at, lines(at, BATCH_MESSAGES)) for at in range(first, first + 50 * BATCH_MESSAGES, BATCH_MESSAGES)]
        written += sum(len(data) for _, data in batches)
        log.append(batches)
    log.close()
    return written


def scan_rate(messages: int) -> dict[str, float]:
    """Return megabytes a second of reading a log: alone, and as an agent recovers it."""
    from salesmachine_async import Spool
    from salesmachine_async._spool.spooler import Spooler, destination_of
    from salesmachine_async._spool.survey import Survey

    with folder() as path:
        size = write_backlog(path, messages)
        survey = Survey(path)
        [found] = survey.directories()
        started, cpu = time.perf_counter(), time.process_time()
        for _ in survey.read(found):
            pass
        scanned, scanned_cpu = time.perf_counter() - started, time.process_time() - cpu
        expected = -(-messages // (50 * BATCH_MESSAGES)) * 50 * BATCH_MESSAGES
        require("scan", "messages", expected, found.messages)
        before = resident_bytes() or 0
        most = recovered = turns = 0
        spooler = Spooler(Spool(path, max_bytes=MAX_BYTES), destination_of(URL, TOKEN), 1, _Nothing())
        started = time.perf_counter()
        while some := spooler.recover(2**21).result():
            recovered += sum(each.piece.messages for each in some)
            for each in some:
                each.receipt.settle(each.piece.messages)
            turns += 1
            if turns % 32 == 0:
                most = max(most, resident_bytes() or 0)
        seconds = time.perf_counter() - started
        require("recovery", "messages", expected, recovered)
        spooler.close().result()
    return {
        "scan": size / scanned / 1e6,
        "scan_cpu": size / scanned_cpu / 1e6,
        "recover": size / seconds / 1e6,
        "grown": (most - before) / 1e6,
    }


class _Nothing:
    """A queue without messages."""

    def waiting(self, partition: int) -> list[range]:
        del partition
        return [range(sys.maxsize)]

    def unwritten(self, partition: int, written: int) -> list[Any]:
        del partition, written
        return []
