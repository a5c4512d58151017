"""The log of this process: commits, rolls, drops what is settled, reads back, and writes anew what failed."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from salesmachine_async._spool import log, segment
from salesmachine_async._spool.files import Files
from salesmachine_async._spool.record import RECORD_HEAD_BYTES, SEGMENT_HEAD_BYTES
from salesmachine_async._spool.segment import Loaded
from tests.support.spool import (
    DESTINATION,
    FaultyFiles,
    Parts,
    failing_disk,
    full_disk,
    numbers,
    recover,
    segments,
)


def test_what_is_committed_is_recovered(tmp_path: Path) -> None:
    """Committed messages of an ended process are recovered once, in order."""
    parts = Parts(tmp_path, partitions=2)
    for _ in range(5):
        parts.queue.accept(7)
        parts.queue.accept(4, partition=1)
        assert parts.commit()
    assert not parts.commit()
    parts.die()
    pieces, reader = recover(tmp_path)
    assert numbers(pieces) == list(range(35))
    assert numbers(pieces, 1) == list(range(20))
    assert (reader.damage.damaged_bytes, reader.damage.torn_bytes) == (0, 0)
    assert os.listdir(tmp_path) == ["quota.lock"]


def test_what_is_settled_before_its_commit_is_never_written(tmp_path: Path) -> None:
    """Messages settled before a commit are not written, and the gap in the numbers is no damage."""
    parts = Parts(tmp_path)
    parts.queue.accept(10)
    parts.queue.done[0] = 10
    assert not parts.commit()
    assert segments(tmp_path) == []
    parts.queue.accept(10)
    parts.commit()
    parts.die()
    assert numbers(recover(tmp_path)[0]) == list(range(10, 20))


def test_one_commit_is_one_write_and_one_sync(tmp_path: Path) -> None:
    """A commit is one write and one sync, however many partitions and batches it has."""
    files = FaultyFiles()
    parts = Parts(tmp_path, partitions=4, files=files)
    parts.queue.accept(1)
    parts.commit()
    files.synced.clear()
    for partition in range(4):
        parts.queue.accept(100, partition)
    parts.commit()
    assert len(files.synced) == 1
    assert parts.log.durable == [101, 100, 100, 100]


def test_without_sync_nothing_waits_for_the_disk(tmp_path: Path) -> None:
    """Without sync only the end of a segment is synced, so that `sync` has one file to wait for."""
    files = FaultyFiles()
    parts = Parts(tmp_path, files=files, sync=False)
    parts.queue.accept(1)
    parts.commit()
    files.synced.clear()
    parts.queue.accept(1)
    parts.commit()
    assert files.synced == []
    parts.log.sync()
    assert parts.log.durable == [2]


def test_segments_roll_and_go_when_they_are_settled(tmp_path: Path) -> None:
    """A full segment is cut to its contents, and removed when all its messages are settled."""
    parts = Parts(tmp_path, size=64 * 1024)
    parts.queue.size = 1000
    for _ in range(40):
        parts.queue.accept(5)
        parts.commit()
    files = segments(tmp_path)
    assert len(files) == 4
    assert all(60_000 < file.stat().st_size < 64 * 1024 for file in files[:-1])
    assert files[-1].stat().st_size == 64 * 1024
    for done, left in ((10, 4), (70, 3), (200, 1)):
        parts.log.settled[0] = done
        parts.log.trim()
        assert len(segments(tmp_path)) == left
    parts.die()
    assert recover(tmp_path)[0] == []


def test_the_cursor_spares_what_is_settled(tmp_path: Path) -> None:
    """Messages below the cursor are not recovered, even in the middle of a record."""
    parts = Parts(tmp_path)
    parts.queue.accept(10)
    parts.commit()
    parts.log.settled[0] = 4
    parts.log.trim()
    parts.die()
    assert numbers(recover(tmp_path)[0]) == [4, 5, 6, 7, 8, 9]


def test_a_message_larger_than_a_segment_has_one_of_its_own(tmp_path: Path) -> None:
    """A batch larger than a segment, which `Batching.max_bytes` allows, has a segment of its own."""
    parts = Parts(tmp_path, size=64 * 1024)
    parts.queue.accept(1)
    parts.queue.size = 300_000
    parts.queue.accept(2)
    parts.queue.size = 0
    parts.queue.accept(1)
    parts.commit()
    parts.die()
    assert numbers(recover(tmp_path)[0]) == [0, 1, 2, 3]


def test_files_are_for_their_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    """Directories have the mode 0700 and files 0600 under any umask."""
    before = os.umask(0)
    try:
        parts = Parts(tmp_path / "deep" / "spool")
        parts.queue.accept(1)
        parts.commit()
        parts.log.reject([b"{}\n"], 1000)
    finally:
        os.umask(before)
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep").rglob("*") if path.is_file()}
    assert found == dict.fromkeys(
        ("quota.lock", "lock", "owner.json", "cursor", "00000001.seg", "rejected.ndjson"), 0o600
    )
    folders = [tmp_path / "deep", *(path for path in (tmp_path / "deep").rglob("*") if path.is_dir())]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}


def test_what_left_the_memory_is_read_back(tmp_path: Path) -> None:
    """Displaced messages are read back in parts, in order, across segments and partitions."""
    parts = Parts(tmp_path, partitions=2, size=64 * 1024)
    parts.queue.size = 500
    for _ in range(100):
        parts.queue.accept(5)
        parts.queue.accept(2, partition=1)
        parts.commit()
    got = []
    first = 13
    while first < 487:
        chunk = parts.log.read(0, first, 487, 20_000)
        assert not chunk.missing
        assert sum(len(piece.lines) for piece in chunk.pieces) <= 20_000
        got += numbers(chunk.pieces)
        first = chunk.end
    assert got == list(range(13, 487))
    assert numbers(parts.log.read(1, 0, 200, 1 << 30).pieces, 1) == list(range(200))


def test_a_segment_is_loaded_once_for_many_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read loads what it needs only; the segment that is being written is loaded again for what is new in it."""
    loads: list[int] = []
    load = segment.load

    def counted(files: Files, directory: int, number: int, end: int | None = None) -> Loaded | None:
        loads.append(number)
        return load(files, directory, number, end)

    monkeypatch.setattr(log, "load", counted)
    parts = Parts(tmp_path, size=64 * 1024)
    parts.queue.size = 1000
    for _ in range(40):
        parts.queue.accept(5)
        parts.commit()
    first, *others, last = [int(path.stem) for path in segments(tmp_path)]
    for number in range(0, 200, 10):
        assert numbers(parts.log.read(0, number, number + 10, 1 << 20).pieces) == [*range(number, number + 10)]
    assert loads == [first, *others, last]
    parts.queue.accept(5)
    parts.commit()
    assert numbers(parts.log.read(0, 190, 200, 1 << 20).pieces) == [*range(190, 200)]
    assert loads == [first, *others, last]
    assert numbers(parts.log.read(0, 190, 205, 1 << 20).pieces) == [*range(190, 205)]
    assert loads == [first, *others, last, last]


def test_what_cannot_be_read_back_is_counted(tmp_path: Path) -> None:
    """A record that was damaged after it was written is counted when it is read back."""
    parts = Parts(tmp_path)
    for _ in range(3):
        parts.queue.accept(5)
        parts.commit()
    [segment] = segments(tmp_path)
    with segment.open("r+b") as file:
        data = file.read()
        file.seek(data.index(b'"n":7') + 4)
        file.write(b"8")
    chunk = parts.log.read(0, 0, 15, 1 << 20)
    assert [piece.first for piece in chunk.pieces] == [0, 10]
    assert chunk.missing == 5
    assert parts.damage.damaged_bytes > RECORD_HEAD_BYTES
    parts.log.read(0, 0, 15, 1 << 20)
    [kept] = tmp_path.glob("*/damaged/*")
    assert parts.damage.damaged_bytes == kept.stat().st_size
    assert b'"n":8' in kept.read_bytes()


def test_a_full_disk_keeps_nothing_from_being_written_later(tmp_path: Path) -> None:
    """A roll that meets a full disk leaves no file behind, and the messages are written later."""
    files = FaultyFiles()
    parts = Parts(tmp_path, files=files)
    parts.queue.accept(3)
    files.faults["allocate"] = full_disk()
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            parts.commit()
    assert parts.log.durable == [0]
    assert segments(tmp_path) == []
    files.faults.clear()
    assert parts.commit()
    parts.die()
    assert numbers(recover(tmp_path)[0]) == [0, 1, 2]


def test_a_disk_that_is_full_in_the_middle_of_a_write_loses_nothing(tmp_path: Path) -> None:
    """A half-written record is cut off where a file system cannot reserve room."""
    files = FaultyFiles()
    parts = Parts(tmp_path, files=files)
    parts.queue.accept(3)
    parts.commit()
    parts.queue.accept(3)
    for room in range(1, 120, 7):
        files.room = room
        with pytest.raises(OSError, match="No space"):
            parts.commit()
    files.room = None
    parts.commit()
    parts.die()
    pieces, reader = recover(tmp_path)
    assert numbers(pieces) == list(range(6))
    assert (reader.damage.damaged_bytes, reader.damage.torn_bytes) == (0, 0)


def test_what_a_sync_refused_is_written_anew_and_never_synced_again(tmp_path: Path) -> None:
    """A file whose sync failed is not synced again, because Linux drops the pages and reports success."""
    files = FaultyFiles()
    parts = Parts(tmp_path, files=files)
    parts.queue.accept(3)
    parts.commit()
    parts.queue.accept(3)
    files.faults["sync"] = failing_disk()
    with pytest.raises(OSError, match="Input/output"):
        parts.commit()
    assert parts.log.durable == [3]
    failed = files.synced[-1]
    files.faults.clear()
    with segments(tmp_path)[0].open("rb") as file:
        inode = os.fstat(file.fileno()).st_ino
    files.synced.clear()
    parts.queue.accept(3)
    parts.commit()
    parts.log.sync()
    assert failed not in files.synced or os.fstat(failed).st_ino != inode
    assert len(segments(tmp_path)) == 2
    assert segments(tmp_path)[0].stat().st_size > SEGMENT_HEAD_BYTES
    parts.die()
    assert numbers(recover(tmp_path)[0]) == list(range(9))


def test_a_failing_disk_that_cannot_even_be_cut_repeats_nothing_and_hides_nothing(tmp_path: Path) -> None:
    """Records still visible in a failed segment and repeated in the next are read once."""
    files = FaultyFiles()
    parts = Parts(tmp_path, files=files)
    parts.queue.accept(3)
    parts.commit()
    for _ in range(3):
        parts.queue.accept(3)
        files.faults.update(sync=failing_disk(), truncate=failing_disk())
        with pytest.raises(OSError, match="Input/output"):
            parts.commit()
        del files.faults["sync"]
        files.faults["write"] = failing_disk()
        with pytest.raises(OSError, match="Input/output"):
            parts.commit()
        files.faults.clear()
    parts.commit()
    assert numbers(parts.log.read(0, 0, 12, 1 << 20).pieces) == list(range(12))
    parts.die()
    assert numbers(recover(tmp_path)[0]) == list(range(12))


def adopt_once(parts: Parts) -> None:
    """Adopt an orphan if there is one, read it and leave it."""
    recovery = parts.adopt()
    if recovery is not None:
        recovery.read(1 << 20)
        recovery.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "call", ["allocate", "write", "sync", "truncate", "read", "lock", "unlink", "make_directory", "sync_directory"]
)
def test_no_failure_leaves_a_file_open(tmp_path: Path, call: str) -> None:
    """Repeated failures of a full disk leak no file descriptor."""
    files = FaultyFiles()
    parts = Parts(tmp_path, files=files)
    (tmp_path / ("0" * 16)).mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        parts.queue.accept(3)
        files.faults[call] = full_disk()
        for step in (
            parts.commit,
            lambda: parts.log.reject([b"{}\n"], 1000),
            lambda: adopt_once(parts),
            parts.log.leave,
        ):
            with suppress(OSError):
                step()
        files.faults.clear()
        parts.commit()
        parts.log.leave()
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(files._open) == 0


def test_settling_frees_a_full_disk(tmp_path: Path) -> None:
    """Settling messages frees a full disk, because the cursor and the removal of segments need no room."""
    files = FaultyFiles()
    parts = Parts(tmp_path, files=files, max_bytes=2**20)
    parts.queue.size = 1000

    def flood() -> None:
        while True:
            parts.queue.accept(50)
            parts.commit()

    with pytest.raises(OSError, match="max_bytes is reached"):
        flood()
    reached = parts.log.durable[0]
    assert reached > 400
    files.room = 200  # enough for a cursor, and for nothing else
    parts.log.settled[0] = parts.queue.done[0] = reached // 2
    parts.log.trim()
    files.room = None
    assert parts.commit()
    assert parts.log.durable[0] > reached
    parts.die()
    assert numbers(recover(tmp_path)[0]) == list(range(reached // 2, len(parts.queue.lines[0])))


def test_a_message_in_flight_keeps_its_segment_only(tmp_path: Path) -> None:
    """Segments behind the oldest message go, if all that is in them was lost; what waits is recovered."""
    parts = Parts(tmp_path, max_bytes=2**20)
    parts.queue.size = 1000
    for _ in range(10):
        parts.queue.accept(50)
        parts.commit()
    before = len(segments(tmp_path))
    parts.log.waiting[0] = [range(1), range(400, sys.maxsize)]
    parts.log.trim()
    after = segments(tmp_path)
    assert after[0].name == "00000001.seg"
    assert 1 < len(after) < before - 3
    parts.die()
    found = numbers(recover(tmp_path)[0])
    assert found[0] == 0
    assert found[-100:] == list(range(400, 500))
    assert found == sorted(found)


@pytest.mark.parametrize("sync", [True, False])
def test_what_fitted_before_the_bound_is_durable(tmp_path: Path, sync: bool) -> None:
    """One commit fills the path: what is in full segments is durable, and exactly that is recovered."""
    parts = Parts(tmp_path, max_bytes=2**20, sync=sync)
    parts.queue.size = 1000
    parts.queue.accept(3000)
    for _ in range(2):  # the second one finds no room at all
        with pytest.raises(OSError, match="max_bytes is reached"):
            parts.commit()
    reached = parts.log.durable[0]
    assert reached > 400
    parts.die()
    assert numbers(recover(tmp_path)[0]) == list(range(reached))


def test_a_deleted_directory_is_written_anew_from_memory(tmp_path: Path) -> None:
    """Messages in memory are written again after the directory or its path was deleted or moved."""
    parts = Parts(tmp_path / "spool")
    parts.queue.accept(4)
    parts.commit()
    assert not parts.log.has_vanished()
    for remove in (
        lambda: shutil.rmtree(segments(tmp_path / "spool")[0].parent),
        lambda: shutil.rmtree(tmp_path / "spool"),
        lambda: (tmp_path / "spool").rename(tmp_path / "moved"),
    ):
        remove()
        assert parts.log.has_vanished()
        assert not parts.log.has_vanished()
        parts.queue.accept(1)
        parts.queue.done[0] += 1
        parts.commit()
    parts.die()
    assert numbers(recover(tmp_path / "spool")[0]) == [3, 4, 5, 6]


def test_leaving_with_nothing_waiting_removes_the_directory(tmp_path: Path) -> None:
    """Leaving removes an empty directory, and cuts one with messages to the room that it needs."""
    parts = Parts(tmp_path)
    parts.queue.accept(4)
    parts.commit()
    parts.log.settled[0] = 4
    parts.log.leave()
    assert os.listdir(tmp_path) == ["quota.lock"]
    parts.queue.done[0] = 4
    parts.queue.accept(1)
    parts.commit()
    parts.log.leave()
    assert segments(tmp_path)[0].stat().st_size < 200
    assert numbers(recover(tmp_path)[0]) == [4]


def test_rejected_messages_are_kept_within_their_bound(tmp_path: Path) -> None:
    """The bound counts rejected messages of all directories, which outlive the delivered ones."""
    parts, others = Parts(tmp_path), Parts(tmp_path)
    line = b'{"message":1}\n'
    assert parts.log.reject([line] * 3, 5 * len(line)) == 3
    assert others.log.reject([line] * 3, 5 * len(line)) == 0
    assert others.log.reject([line] * 2, 5 * len(line)) == 2
    assert parts.log.reject([line], 0) == 0
    parts.log.leave()
    others.log.leave()
    assert sorted(path.read_bytes() for path in tmp_path.glob("*/rejected.ndjson")) == [line * 2, line * 3]
    assert recover(tmp_path)[0] == []
    assert len(list(tmp_path.glob("*/rejected.ndjson"))) == 2


def test_half_a_rejected_line_is_taken_back(tmp_path: Path) -> None:
    """A half-written line is cut off, so that every line of the file is whole."""
    files = FaultyFiles()
    parts = Parts(tmp_path, files=files)
    parts.log.reject([b'{"a":1}\n'], 1000)
    files.room = 3
    with pytest.raises(OSError, match="No space"):
        parts.log.reject([b'{"b":1}\n'], 1000)
    [file] = tmp_path.glob("*/rejected.ndjson")
    assert file.read_bytes() == b'{"a":1}\n'


def test_no_file_names_the_account(tmp_path: Path) -> None:
    """No file names the account: the destination is a number that leads to no token."""
    parts = Parts(tmp_path)
    parts.queue.accept(1)
    parts.commit()
    head = segments(tmp_path)[0].read_bytes()[:SEGMENT_HEAD_BYTES]
    assert DESTINATION.to_bytes(8, "little") in head
