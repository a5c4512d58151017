"""The spool as an agent uses it: its thread, its answers, its state, its end."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from salesmachine_async import ConfigError, Spool, SpoolFailed, SpoolState, _log
from salesmachine_async._core.receipt import RejectedLine
from salesmachine_async._log import RateLimitedLogger
from salesmachine_async._spool import worker as module
from salesmachine_async._spool.files import Files
from salesmachine_async._spool.spooler import Spooler, destination_of
from salesmachine_async._spool.worker import Recovered
from salesmachine_async.errors import Rejected
from tests.support.spool import (
    DESTINATION,
    MIB,
    FaultyFiles,
    Queue,
    failing_disk,
    full_disk,
    numbers,
    recover,
    segments,
)

Make = Callable[..., Spooler]


@pytest.fixture
def queue() -> Queue:
    """Return a queue of one partition."""
    return Queue()


@pytest.fixture
def make(tmp_path: Path, queue: Queue) -> Iterator[Make]:
    """Make spoolers of one path, and close them."""
    made: list[Spooler] = []

    def make(*, source: Queue | None = None, files: FaultyFiles | None = None, **policy: Any) -> Spooler:
        where = policy.pop("path", tmp_path / "spool")
        log = RateLimitedLogger(interval=policy.pop("interval", 0))
        new = (lambda: files) if files else Files
        source = source or queue
        partitions = len(source.lines)
        made.append(
            Spooler(
                Spool(where, **policy),
                DESTINATION,
                partitions,
                source,
                files=new,
                log=log,
            )
        )
        return made[-1]

    yield make
    for each in made:
        if each.stats().state is not SpoolState.CLOSED:
            try:
                each.close().result(10)
            except SpoolFailed:
                continue


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def all_recovered(spooler: Spooler, *, settle: bool = True) -> list[Recovered]:
    """Read all that dead processes left."""
    found = []
    while some := spooler.recover(1 << 20).result(10):
        found += some
        for each in some if settle else []:
            each.receipt.settle(each.piece.messages)
    return found


def kill(spooler: Spooler) -> None:
    """End a spooler as SIGKILL ends its process: nothing more is written."""
    spooler._committer.stop()
    thread = spooler._committer._thread
    if thread is not None:
        thread.join()
    spooler._worker.abandon()
    spooler._worker.state = SpoolState.CLOSED


def test_what_is_accepted_is_written_within_a_commit(make: Make, queue: Queue, tmp_path: Path) -> None:
    """Accepted messages are written by the next commit, without a call of `sync`."""
    spooler = make(commit=0.01)
    spooler.start()
    queue.accept(5)
    until(lambda: spooler.durable(0) == 5)
    assert spooler.stats().commits >= 1
    assert spooler.stats().commit_seconds_max > 0
    kill(spooler)
    assert numbers(recover(tmp_path / "spool")[0]) == [0, 1, 2, 3, 4]


async def test_sync_covers_everything_accepted_before(make: Make, queue: Queue) -> None:
    """`sync` returns once all accepted messages are durable, long before the next commit of its own accord."""
    spooler = make(commit=60.0)
    queue.accept(5)
    await asyncio.wrap_future(spooler.sync())
    assert spooler.durable(0) == 5


def test_nothing_is_written_where_nothing_waits(make: Make, tmp_path: Path) -> None:
    """A process without waiting messages creates no file."""
    spooler = make()
    spooler.sync().result(10)
    spooler.close().result(10)
    assert os.listdir(tmp_path / "spool") == ["quota.lock"]


def test_what_is_without_an_outcome_at_the_end_is_kept(make: Make, queue: Queue) -> None:
    """Messages without an outcome at the end are the first that the next process reads."""
    spooler = make()
    queue.accept(5)
    queue.done[0] = 2
    spooler.close().result(10)
    assert spooler.durable(0) == 5
    assert spooler.stats().state is SpoolState.CLOSED
    following = make(source=Queue())
    assert numbers([each.piece for each in all_recovered(following)]) == [2, 3, 4]


def test_after_the_end_everything_fails(make: Make) -> None:
    """Calls after the end raise an error with its reason; a sync has the outcome of the end."""
    spooler = make()
    closing = spooler.close()
    assert spooler.sync() is spooler.close() is closing
    closing.result(10)
    with pytest.raises(SpoolFailed, match="the spool is closed"):
        spooler.recover(1).result(10)


def test_a_directory_goes_when_its_receipts_are_settled(make: Make, queue: Queue, tmp_path: Path) -> None:
    """A directory is removed once its messages are settled, and not before."""
    first = make()
    queue.accept(5)
    first.close().result(10)
    reader = make(source=Queue(), commit=0.01)
    found = all_recovered(reader, settle=False)
    assert len(segments(tmp_path / "spool")) == 1
    for each in found:
        each.receipt.settle(each.piece.messages)
    until(lambda: not segments(tmp_path / "spool"))


def test_messages_older_than_max_age_are_marked(make: Make, queue: Queue) -> None:
    """Messages older than `max_age` are returned with a mark, so that they are lost as EXPIRED by on_lost."""
    first = make()
    queue.accept(2)
    first.close().result(10)
    reader = make(source=Queue(), max_age=0.001)
    time.sleep(0.01)
    assert [each.expired for each in all_recovered(reader)] == [True]


def test_rejected_messages_are_kept(make: Make, queue: Queue, tmp_path: Path) -> None:
    """New and recovered messages are kept with the status and the words of the server."""
    first = make()
    queue.accept(1)
    first.close().result(10)
    spooler = make(source=Queue())
    [found] = spooler.recover(1 << 20).result(10)
    error = Rejected("the server rejected the request", status=422, server_message="no such plan")
    found.receipt.settle(1, [RejectedLine(bytes(found.piece.lines), error)])
    spooler.reject([RejectedLine(b'{"n":"mine"}', None)])
    spooler.close().result(10)
    assert spooler.stats().rejected_kept == 2
    [file] = (tmp_path / "spool").glob("*/rejected.ndjson")
    theirs, mine = map(json.loads, file.read_text().splitlines())
    assert (theirs["status"], theirs["error"], theirs["message"]["n"]) == (422, "no such plan", 0)
    assert (mine["status"], mine["error"], mine["message"]) == (None, None, {"n": "mine"})


def test_no_more_rejected_messages_are_kept_than_the_policy_says(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Rejected messages beyond the limit are not kept, and the limit is logged."""
    spooler = make(keep_rejected=150)
    for _ in range(5):
        spooler.reject([RejectedLine(b'{"n":1}', None)])
    spooler.close().result(10)
    assert spooler.stats().rejected_kept == 2
    assert "no longer kept: Spool.keep_rejected is reached" in caplog.text


def test_keep_rejected_zero_creates_no_file(make: Make, tmp_path: Path) -> None:
    """With `keep_rejected=0` the file is never created."""
    spooler = make(keep_rejected=0)
    spooler.reject([RejectedLine(b'{"n":1}', None)])
    spooler.close().result(10)
    assert list((tmp_path / "spool").glob("*/rejected.ndjson")) == []


def test_a_full_disk_is_logged_once_and_heals(
    make: Make, queue: Queue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is logged once and raised by `sync`; the thread retries by itself."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.02)
    files = FaultyFiles()
    spooler = make(files=files, commit=0.01, interval=60)
    files.faults["allocate"] = full_disk()
    queue.accept(3)
    with pytest.raises(SpoolFailed, match="No space left on device") as caught:
        spooler.sync().result(10)
    assert isinstance(caught.value.__cause__, OSError)
    assert spooler.stats().state == "full"
    until(lambda: spooler.stats().write_errors > 3)
    [line] = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert line.getMessage() == "the spool is full: No space left on device; new messages are kept in memory only"
    files.faults.clear()
    until(lambda: spooler.durable(0) == 3)
    assert spooler.stats().state is SpoolState.OPEN


def test_the_bound_of_the_path_differs_from_a_full_disk(make: Make, queue: Queue) -> None:
    """The bound of the path has the state of a full disk, and a message of its own."""
    spooler = make(max_bytes=MIB)
    queue.size = 1000
    queue.accept(2000)
    with pytest.raises(SpoolFailed, match="max_bytes is reached"):
        spooler.sync().result(10)
    assert spooler.stats().state is SpoolState.FULL
    queue.done[0] = 2000
    spooler.sync().result(10)
    assert spooler.stats().state is SpoolState.OPEN


@pytest.mark.parametrize("call", ["allocate", "write", "sync", "make_directory"])
def test_a_failing_disk_is_a_state_not_an_end(make: Make, queue: Queue, call: str) -> None:
    """A failure of any system call is a state, and the thread continues."""
    files = FaultyFiles()
    spooler = make(files=files)
    queue.accept(1)
    files.faults[call] = failing_disk()
    with pytest.raises(SpoolFailed, match="Input/output error"):
        spooler.sync().result(10)
    assert spooler.stats().state is SpoolState.FAILING
    files.faults.clear()
    spooler.sync().result(10)
    assert spooler.durable(0) == 1


def test_an_error_of_the_source_does_not_end_the_thread(
    make: Make, queue: Queue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the source is logged with its type and place, and the thread continues."""
    spooler = make(commit=0.01)
    with monkeypatch.context() as patch:
        patch.setattr(queue, "waiting", lambda partition: 1 // 0)
        spooler.start()
        until(lambda: "ZeroDivisionError (test_spooler.py:" in caplog.text)
        with pytest.raises(ZeroDivisionError):
            spooler.sync().result(10)
    queue.accept(1)
    until(lambda: spooler.durable(0) == 1)


def test_a_deleted_path_is_made_again(
    make: Make, queue: Queue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A deleted path is created again with the messages in memory, and a warning."""
    spooler = make()
    queue.accept(3)
    spooler.sync().result(10)
    shutil.rmtree(tmp_path / "spool")
    spooler.sync().result(10)
    assert "was deleted; a new one is written from memory" in caplog.text
    kill(spooler)
    assert numbers(recover(tmp_path / "spool")[0]) == [0, 1, 2]


def test_a_path_that_turns_bad_later_is_a_state(make: Make, queue: Queue, tmp_path: Path) -> None:
    """A symbolic link that replaces the path is not followed, and is a state."""
    spooler = make()
    (tmp_path / "spool").rename(tmp_path / "moved")
    (tmp_path / "spool").symlink_to(tmp_path / "moved")
    queue.accept(1)
    with pytest.raises(SpoolFailed, match="is a symbolic link"):
        spooler.sync().result(10)
    assert spooler.stats().state is SpoolState.FAILING


def test_a_line_is_left_out_while_another_thread_holds_its_handler(
    make: Make, queue: Queue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler may wait for the disk where it has interrupted a logging handler."""
    monkeypatch.setattr(_log, "HANDLER_SECONDS", 0.01)
    files = FaultyFiles()
    files.faults["sync"] = failing_disk()
    spooler = make(files=files)
    queue.accept(1)
    caplog.handler.acquire()
    try:
        with pytest.raises(SpoolFailed):
            spooler.sync().result(10)
    finally:
        caplog.handler.release()
    assert caplog.records == []
    with pytest.raises(SpoolFailed):
        spooler.sync().result(10)
    assert "the spool is failing" in caplog.text


def test_a_logging_handler_that_waits_for_the_spool(make: Make, queue: Queue) -> None:
    """A handler that waits, in the thread of the spool, for that thread gets an error."""
    files = FaultyFiles()
    files.faults["sync"] = failing_disk()
    spooler = make(files=files)
    errors: list[BaseException | None] = []

    class Waiting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors.append(spooler.sync().exception(10))

    handler = Waiting()
    logging.getLogger("salesmachine_async").addHandler(handler)
    try:
        queue.accept(1)
        with pytest.raises(SpoolFailed):
            spooler.sync().result(10)
    finally:
        logging.getLogger("salesmachine_async").removeHandler(handler)
    assert [str(error) for error in errors] == ["the thread of the spool cannot wait for itself"]


def test_an_unusable_path_is_an_error_or_a_line(make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An unusable path raises, or logs one line if the policy makes the spool optional."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is not a directory"):
        make(path=tmp_path / "file")
    spooler = make(path=tmp_path / "file", required=False)
    assert "running without a spool" in caplog.text
    spooler.start()
    assert spooler.stats().state is SpoolState.UNAVAILABLE
    with pytest.raises(SpoolFailed, match="unusable"):
        spooler.sync().result(10)


def test_memory_can_be_read_back(make: Make, queue: Queue) -> None:
    """Messages are read back by the number of the first one."""
    spooler = make()
    queue.accept(10)
    spooler.sync().result(10)
    chunk = spooler.read_back(0, 4, 9, 1 << 20).result(10)
    assert numbers(chunk.pieces) == [4, 5, 6, 7, 8]
    assert (chunk.end, chunk.missing) == (9, 0)


def test_an_agent_that_does_not_deliver_hands_its_directories_over(
    make: Make, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process delivers the directories while the agent still writes."""
    monkeypatch.setattr(module, "HAND_OVER_SECONDS", 0.0)
    writer = make(deliver=False, commit=0.01)
    writer.start()
    reader = make(source=Queue(), commit=0.01)
    got: list[int] = []
    for _ in range(5):
        queue.accept(4)
        expected = len(queue.lines[0])
        until(lambda expected=expected: writer.durable(0) == expected)  # type: ignore[misc]
        queue.forgotten[0] = expected
        writer.sync().result(10)
        got += numbers([each.piece for each in all_recovered(reader)])
    assert got == list(range(20))


def test_the_oldest_age_is_of_what_waits(make: Make, queue: Queue) -> None:
    """The oldest age is that of the waiting messages, and 0 without any."""
    spooler = make()
    queue.accept(1)
    spooler.sync().result(10)
    time.sleep(0.03)
    assert spooler.stats().oldest_seconds >= 0.03
    queue.done[0] = 1
    spooler.sync().result(10)
    assert spooler.stats().oldest_seconds == 0


def test_messages_that_must_not_be_delivered_are_named_once(
    make: Make, queue: Queue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Messages of another key are logged once, with what to do."""
    other = Spooler(Spool(tmp_path / "spool"), DESTINATION + 1, 1, queue)
    queue.accept(2)
    other.close().result(10)
    reader = make(source=Queue())
    assert all_recovered(reader) == []
    assert "for another base URL, token or queue (directories: 1)" in caplog.text
    assert "drain them with --accept" in caplog.text
    accepting = Spooler(Spool(tmp_path / "spool"), DESTINATION, 1, Queue(), accept=[DESTINATION + 1])
    assert numbers([each.piece for each in all_recovered(accepting)]) == [0, 1]
    accepting.close().result(10)


def test_without_a_thread_it_works_in_the_calling_one(
    make: Make, queue: Queue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The calling thread does the work when the interpreter can start no other."""
    spooler = make()
    queue.accept(3)

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        spooler.start()
        spooler.sync().result(0)
        spooler.close().result(0)
    assert numbers(recover(tmp_path / "spool")[0]) == [0, 1, 2]


def test_a_flood_of_reads_does_not_keep_commits_from_happening(make: Make, queue: Queue) -> None:
    """Reads and commits take turns."""
    spooler = make(commit=0.02)
    queue.accept(1)
    spooler.sync().result(10)
    queue.accept(1)
    deadline = time.monotonic() + 10
    while spooler.durable(0) < 2:
        assert time.monotonic() < deadline
        futures = [spooler.read_back(0, 0, 1, 100) for _ in range(200)]
        futures[-1].result(10)


def test_calls_of_the_loop_never_wait_for_the_disk(make: Make, queue: Queue) -> None:
    """Calls of the loop return while a sync blocks."""
    release = threading.Event()

    class SlowFiles(FaultyFiles):
        def sync(self, fd: int) -> None:
            release.wait(30)
            super().sync(fd)

    spooler = make(files=SlowFiles())
    queue.accept(1)
    future = spooler.sync()
    for _ in range(100):
        spooler.reject([RejectedLine(b"{}", None)])
        spooler.stats()
        spooler.durable(0)
        spooler.read_back(0, 0, 1, 1)
        spooler.recover(1)
    assert not future.done()  # none of the calls has waited for it
    release.set()
    future.result(10)


def test_the_destination_tells_accounts_apart_and_nothing_else() -> None:
    """Destinations differ by account, and not by a trailing slash of the URL."""
    assert destination_of("https://a.example/", "token") == destination_of("https://a.example", "token")
    others = {destination_of(url, token) for url in ("https://a", "https://b") for token in ("x", "y")}
    assert len(others) == 4
    assert all(0 <= each < 2**64 for each in others)


def test_no_file_holds_the_token(tmp_path: Path, queue: Queue) -> None:
    """No file holds the token, nor its hexadecimal digest."""
    token, secret = "tok-5f2a9c", "sec-77b1"
    spooler = Spooler(Spool(tmp_path / "spool"), destination_of("https://api.example", token), 1, queue)
    queue.accept(3)
    spooler.reject([RejectedLine(b"{}", Rejected("refused", status=400))])
    spooler.close().result(10)
    files = [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    assert len(files) >= 5
    for path in files:
        assert token.encode() not in path.read_bytes()
        assert secret.encode() not in path.read_bytes()


def test_the_states_of_a_full_disk_are_known() -> None:
    """A quota, the file size limit and a full disk are one state."""
    assert {errno.ENOSPC, errno.EDQUOT, errno.EFBIG} == module.FULL


def test_a_cursor_that_cannot_be_written_does_not_keep_commits_from_happening(make: Make, queue: Queue) -> None:
    """A failed write of the cursor costs repeated messages after a crash, and no commit."""
    files = FaultyFiles()
    spooler = make(files=files)
    queue.accept(2)
    spooler.sync().result(10)
    write = files.write

    def no_cursor(fd: int, parts: Any, position: int) -> int:
        if bytes(parts[0]).startswith(b"SMCU"):
            raise failing_disk()
        return write(fd, parts, position)

    files.write = no_cursor  # type: ignore[method-assign]
    queue.done[0] = 1
    for expected in (4, 6):
        queue.accept(2)
        spooler.sync().result(10)
        assert spooler.durable(0) == expected
    assert spooler.stats().write_errors >= 2
    assert spooler.stats().state is SpoolState.OPEN


def test_what_a_late_sync_refuses_is_written_anew(make: Make, queue: Queue, tmp_path: Path) -> None:
    """A failed late sync writes again all messages that are still in memory."""
    files = FaultyFiles()
    spooler = make(files=files, sync=False)
    queue.accept(2)
    spooler.sync().result(10)
    queue.accept(2)
    files.faults["sync"] = failing_disk()
    with pytest.raises(SpoolFailed, match="Input/output"):
        spooler.sync().result(10)
    assert spooler.durable(0) == 2
    files.faults.clear()
    spooler.sync().result(10)
    assert spooler.durable(0) == 4
    assert len(segments(tmp_path / "spool")) == 2
    kill(spooler)
    assert numbers(recover(tmp_path / "spool")[0]) == [0, 1, 2, 3]


def test_many_threads_start_one(make: Make, queue: Queue) -> None:
    """Concurrent callers start one thread, which does the work of each."""
    started: list[threading.Thread] = []
    for _ in range(20):
        spooler = make()
        barrier = threading.Barrier(8)
        futures: list[Any] = []

        def sync(
            spooler: Spooler = spooler, barrier: threading.Barrier = barrier, futures: list[Any] = futures
        ) -> None:
            barrier.wait(10)
            futures.append(spooler.sync())

        threads = [threading.Thread(target=sync) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for future in futures:
            future.result(10)
        (thread,) = (each for each in threading.enumerate() if each is spooler._committer._thread)
        started.append(thread)
        spooler.close().result(10)
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()


def test_the_path_is_that_of_the_start(
    make: Make, queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is resolved at the start, and holds in the child of a fork."""
    monkeypatch.chdir(tmp_path)
    spooler = make(path="relative")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    spooler.after_fork()
    queue.accept(1)
    spooler.sync().result(10)
    assert len(segments(tmp_path / "relative")) == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_was_recovered_and_waits_has_an_age(make: Make, queue: Queue) -> None:
    """Recovered messages that wait count for the oldest age."""
    first = make()
    queue.accept(1)
    first.close().result(10)
    reader = make(source=Queue())
    [found] = all_recovered(reader, settle=False)
    time.sleep(0.02)
    reader.sync().result(10)
    assert reader.stats().oldest_seconds >= 0.02
    found.receipt.settle(1)
    reader.sync().result(10)
    assert reader.stats().oldest_seconds == 0
