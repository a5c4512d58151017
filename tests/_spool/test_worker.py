"""The work of the spool's thread, step by step."""

from __future__ import annotations

from pathlib import Path

import pytest

from salesmachine_async import Spool, SpoolFailed, SpoolState
from salesmachine_async._spool.files import Files
from salesmachine_async._spool.worker import Worker
from tests.support.spool import DESTINATION, QUIET, FaultyFiles, Queue, failing_disk, segments


@pytest.fixture
def queue() -> Queue:
    """Give a queue with two partitions."""
    return Queue(2)


def worker_of(path: Path, queue: Queue, files: Files | None = None) -> Worker:
    """Return a worker without a thread."""
    return Worker(Spool(path), [DESTINATION], 2, queue, log=QUIET, files=files or Files())


def test_messages_settled_between_commits_are_never_written(tmp_path: Path, queue: Queue) -> None:
    """Messages settled between two commits are not written, so a healthy server costs no disk access."""
    worker = worker_of(tmp_path, queue)
    for _ in range(5):
        queue.accept(30)
        worker.tick()
        queue.done[0] = len(queue.lines[0])
    assert segments(tmp_path) == []
    assert worker.stats().commits == 0


def test_waiting_messages_are_written_at_the_second_commit(tmp_path: Path, queue: Queue) -> None:
    """Messages still waiting at the second commit are written, in every partition."""
    worker = worker_of(tmp_path, queue)
    queue.accept(3)
    worker.tick()
    assert worker.durable == [0, 0]
    queue.accept(6)
    queue.accept(3, partition=1)
    worker.tick()
    assert worker.durable == [3, 0]
    worker.tick()
    assert worker.durable == [9, 3]
    queue.done[0] = 9
    queue.accept(3)
    worker.tick()
    worker.tick()
    assert worker.durable == [12, 3]


def test_a_sync_and_the_end_write_everything_at_once(tmp_path: Path, queue: Queue) -> None:
    """A sync and the end write all messages without waiting for another commit."""
    worker = worker_of(tmp_path, queue)
    queue.accept(3)
    worker.sync()
    assert worker.durable[0] == 3
    queue.accept(3)
    worker.close()
    assert worker.durable[0] == 6


def test_after_an_error_everything_seen_is_written(
    tmp_path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit after a failure writes all messages, also those of the commit that could not sync."""
    monkeypatch.setattr("salesmachine_async._spool.worker.RETRY_SECONDS", 0.0)
    files = FaultyFiles()
    worker = worker_of(tmp_path, queue, files)
    queue.accept(3)
    worker.tick()
    files.faults["sync"] = failing_disk()
    worker.tick()
    assert worker.durable[0] == 0
    queue.accept(3)
    files.faults.clear()
    worker.tick()
    worker.tick()
    assert worker.durable[0] == 6


def test_a_search_that_finds_nothing_more_is_counted(tmp_path: Path, queue: Queue) -> None:
    """The count of empty searches lets `salesmachine spool drain` end when all was read."""
    dead = worker_of(tmp_path, queue)
    queue.accept(3)
    dead.sync()
    dead.abandon()
    worker = worker_of(tmp_path, Queue(2))
    found = worker.recover(1 << 20)
    assert worker.stats().searches == 0
    for each in found:
        each.receipt.settle(each.piece.messages)
    assert worker.recover(1 << 20) == []
    assert worker.stats().searches == 1


def test_nothing_is_done_after_the_end(tmp_path: Path, queue: Queue) -> None:
    """A commit that is due when the end is over makes no new directory, which nobody would release."""
    worker = worker_of(tmp_path, queue)
    queue.accept(3)
    worker.close()
    queue.accept(3)
    worker.tick()
    worker.tick()
    with pytest.raises(SpoolFailed, match="closed"):
        worker.sync()
    assert worker.state is SpoolState.CLOSED
    assert worker.durable[0] == 3
    assert len(segments(tmp_path)) == 1
    assert Worker(Spool(tmp_path), [DESTINATION], 2, Queue(2), log=QUIET, files=Files()).recover(1 << 20)
