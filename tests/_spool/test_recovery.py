"""What a dead process left is read in order, whatever happened to its files."""

from __future__ import annotations

import os
import random
import shutil
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from salesmachine_async._spool import reader as module
from salesmachine_async._spool.files import Files
from salesmachine_async._spool.pieces import LogPiece
from salesmachine_async._spool.record import SEGMENT_HEAD_BYTES, encode_head
from salesmachine_async._spool.segment import Loaded, load, segment_name
from salesmachine_async._spool.survey import Survey
from tests.support.spool import (
    DESTINATION,
    FaultyFiles,
    Parts,
    failing_disk,
    full_disk,
    message,
    numbers,
    recover,
    segments,
)


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[Path]:
    """Give a path with a small orphan: records of two messages, of two partitions; three are settled."""
    if os.access("/dev/shm", os.W_OK):  # hundreds of copies, none of which has to reach a disk
        with TemporaryDirectory(dir="/dev/shm") as memory:
            yield small_orphan(Path(memory))
    else:
        yield small_orphan(tmp_path)


def small_orphan(tmp_path: Path) -> Path:
    """Write the small orphan."""
    parts = Parts(tmp_path / "spool", partitions=2)
    for _ in range(3):
        parts.queue.accept(2)
        parts.queue.accept(2, partition=1)
        parts.commit()
    parts.log.settled[:] = [2, 1]
    parts.log.trim()
    parts.log.sync()
    parts.die()
    [segment] = segments(tmp_path / "spool")
    used = len(segment.read_bytes().rstrip(b"\0"))
    with segment.open("r+b") as file:
        file.truncate(used + 4096)
    return tmp_path / "spool"


EXPECTED = ([2, 3, 4, 5], [1, 2, 3, 4, 5])


def copies(orphan: Path, file: str) -> Iterator[tuple[int, bytes, Path]]:
    """Yield, as often as the test wants, a fresh copy of the orphan, and its file to be damaged."""
    [original] = orphan.glob(f"*/{file}")
    data = original.read_bytes()
    at = 0
    while True:
        copy = orphan.parent / f"copy{at}"
        shutil.copytree(orphan, copy)
        yield at, data, copy / original.parent.name / file
        shutil.rmtree(copy)
        at += 1


def read(path: Path) -> tuple[tuple[list[int], list[int]], Parts]:
    """Return what is recovered of both partitions."""
    pieces, parts = recover(path)
    return (numbers(pieces), numbers(pieces, 1)), parts


def test_order_is_kept_and_nothing_is_left(orphan: Path) -> None:
    """Each partition is read in order, and the directory is removed when all is settled."""
    got, _ = read(orphan)
    assert got == EXPECTED
    assert [path.name for path in orphan.iterdir()] == ["quota.lock"]


def test_it_is_read_a_little_at_a_time(orphan: Path) -> None:
    """A read returns at least one record, and at most the given size."""
    parts = Parts(orphan)
    recovery = parts.adopt()
    assert recovery is not None
    sizes = []
    while pieces := recovery.read(1):
        sizes.append(len(pieces))
        assert not recovery.is_settled
        for piece in pieces:
            recovery.settle(piece)
    assert sizes == [1] * 5
    assert recovery.is_settled
    recovery.close()
    assert segments(orphan) == []


def test_what_is_not_settled_stays_for_the_next(orphan: Path) -> None:
    """Messages settled out of turn stay until all before them are settled."""
    parts = Parts(orphan)
    recovery = parts.adopt()
    assert recovery is not None
    pieces = recovery.read(1 << 20)
    firsts = [(piece.partition, piece.first) for piece in pieces]
    assert firsts == [(1, 1), (0, 2), (1, 2), (0, 4), (1, 4)]
    recovery.settle(pieces[1])
    recovery.settle(pieces[4])
    recovery.close()
    assert read(orphan)[0] == ([4, 5], [1, 2, 3, 4, 5])


@pytest.mark.slow
def test_cut_at_any_byte(orphan: Path) -> None:
    """A cut at any byte costs only the torn record, which is counted."""
    for cut, data, segment in copies(orphan, segment_name(1)):
        segment.write_bytes(data[:cut])
        got, parts = read(segment.parents[1])
        for partition in (0, 1):
            assert got[partition] == EXPECTED[partition][: len(got[partition])]
        if cut >= len(data.rstrip(b"\0")):
            assert got == EXPECTED
            break
        assert parts.damage.damaged_bytes == 0
        assert parts.damage.torn_bytes <= cut


@pytest.mark.slow
def test_a_bit_flipped_in_any_byte(orphan: Path) -> None:
    """A flipped bit costs at most its record, which is counted and kept; test_record.py flips every bit."""
    for byte, data, segment in copies(orphan, segment_name(1)):
        if byte == len(data.rstrip(b"\0")) + 20:
            break
        flipped = bytearray(data)
        flipped[byte] ^= 1 << byte % 8
        segment.write_bytes(flipped)
        got, parts = read(segment.parents[1])
        missing = [sorted(set(EXPECTED[partition]) - set(got[partition])) for partition in (0, 1)]
        assert all(got[partition] == sorted(set(got[partition])) for partition in (0, 1))
        assert min(map(len, missing)) == 0
        assert max(map(len, missing)) <= 2
        if any(missing):
            kept = list(segment.parent.glob("damaged/*"))
            assert parts.damage.damaged_bytes == sum(file.stat().st_size for file in kept) > 0
            assert parts.damage.torn_bytes == 0


def test_the_head_may_be_damaged(orphan: Path) -> None:
    """The cursor also holds the destination; a directory without both is left where it is."""
    [segment], [cursor] = segments(orphan), list(orphan.glob("*/cursor"))
    data = segment.read_bytes()
    segment.write_bytes(bytes(SEGMENT_HEAD_BYTES) + data[SEGMENT_HEAD_BYTES:])
    kept = cursor.read_bytes()
    cursor.unlink()
    got, parts = read(orphan)
    assert got == ([], [])
    assert list(parts.root.skipped.values()) == ["unreadable"]
    cursor.write_bytes(kept)
    assert read(orphan)[0] == EXPECTED


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 5000, 8191])
def test_a_cut_cursor_costs_at_most_repetition(orphan: Path, size: int) -> None:
    """A cut cursor may repeat messages, and loses none."""
    [cursor] = orphan.glob("*/cursor")
    cursor.write_bytes(cursor.read_bytes()[:size])
    got, _ = read(orphan)
    assert got in (EXPECTED, (list(range(6)), list(range(6))))


def test_a_lost_cursor_costs_repetition(orphan: Path) -> None:
    """Without a cursor the whole log is sent again."""
    [cursor] = orphan.glob("*/cursor")
    cursor.unlink()
    assert read(orphan)[0] == (list(range(6)), list(range(6)))


def test_a_cursor_of_an_older_generation_costs_repetition(tmp_path: Path) -> None:
    """The previous slot is used when the newest one is half written."""
    parts = Parts(tmp_path)
    parts.queue.accept(9)
    parts.commit()
    for done in (2, 5, 7):
        parts.log.settled[0] = done
        parts.log.trim()
    parts.die()
    [cursor] = tmp_path.glob("*/cursor")
    data = bytearray(cursor.read_bytes())
    newest = max((0, 4096), key=lambda at: data[at + 8])
    data[newest + 25] ^= 1
    cursor.write_bytes(data)
    assert numbers(recover(tmp_path)[0]) == [5, 6, 7, 8]


def test_a_missing_segment_is_taken_as_settled(tmp_path: Path) -> None:
    """A missing segment does not keep the others from being delivered."""
    parts = Parts(tmp_path, size=64 * 1024)
    parts.queue.size = 5000
    for _ in range(30):
        parts.queue.accept(1)
        parts.commit()
    parts.die()
    files = segments(tmp_path)
    assert len(files) == 3
    files[1].unlink()
    got = numbers(recover(tmp_path)[0])
    assert got == sorted(got)
    assert {0, 29} < set(got) < set(range(30))


def test_a_zeroed_page_costs_what_it_touches(tmp_path: Path) -> None:
    """A zeroed page in a large log costs only the records in it."""
    parts = Parts(tmp_path)
    parts.queue.size = 700
    for _ in range(40):
        parts.queue.accept(3)
        parts.commit()
    parts.die()
    [segment] = segments(tmp_path)
    with segment.open("r+b") as file:
        file.seek(4096 * 5)
        file.write(bytes(4096))
    pieces, reader = recover(tmp_path)
    missing = set(range(120)) - set(numbers(pieces))
    assert 0 < len(missing) <= 9
    assert 4096 <= reader.damage.damaged_bytes < 12_000


@pytest.mark.slow
def test_random_bits_of_a_large_log(tmp_path: Path) -> None:
    """A thousand flipped bits leave most messages readable, each of them whole and in order."""
    parts = Parts(tmp_path)
    parts.queue.size = 100
    for _ in range(500):
        parts.queue.accept(20)
        parts.commit()
    parts.die()
    chance = random.Random(13)
    for segment in segments(tmp_path):
        data = bytearray(segment.read_bytes())
        for bit in chance.sample(range(8 * SEGMENT_HEAD_BYTES, 8 * len(data.rstrip(b"\0"))), 1000):
            data[bit // 8] ^= 1 << bit % 8
        segment.write_bytes(data)
    pieces, reader = recover(tmp_path)
    got = numbers(pieces)
    assert got == sorted(set(got))
    assert 100 < len(got) < 10_000
    assert reader.damage.damaged_bytes > 0


def test_a_newer_version_is_left_alone(orphan: Path) -> None:
    """A directory of a newer version is left unchanged."""
    [segment] = segments(orphan)
    data = encode_head(DESTINATION, 5, version=2) + b"an unknown format"
    segment.write_bytes(data)
    got, parts = read(orphan)
    assert got == ([], [])
    assert list(parts.root.skipped.values()) == ["newer"]
    assert segment.read_bytes() == data


def test_a_newer_segment_among_older_ones_is_left_alone(tmp_path: Path) -> None:
    """A newer segment keeps its directory, and the other segments are delivered."""
    parts = Parts(tmp_path)
    parts.queue.accept(3)
    parts.commit()
    parts.die()
    newer = segments(tmp_path)[0].with_name(segment_name(2))
    newer.write_bytes(encode_head(DESTINATION, 5, version=2))
    recovery = Parts(tmp_path).adopt()
    assert recovery is not None
    for piece in recovery.read(1 << 20):
        recovery.settle(piece)
    assert recovery.read(1) == []
    recovery.close()
    assert segments(tmp_path) == [newer]


def test_messages_for_another_account_are_left_alone(tmp_path: Path) -> None:
    """Messages for another account are not read without its key."""
    parts = Parts(tmp_path, destination=DESTINATION + 1)
    parts.queue.accept(3)
    parts.commit()
    parts.die()
    pieces, reader = recover(tmp_path)
    assert pieces == []
    assert list(reader.root.skipped.values()) == ["foreign"]
    [segment] = segments(tmp_path)
    assert message(0, 2) in segment.read_bytes()


def test_a_segment_that_cannot_be_read_is_left_where_it_is(orphan: Path) -> None:
    """A directory with an unreadable segment, as by a bad sector, is not removed."""
    files = FaultyFiles()
    parts = Parts(orphan, files=files)
    recovery = parts.adopt()
    assert recovery is not None
    files.faults["read"] = failing_disk()
    assert recovery.read(1) == []
    recovery.close()
    files.faults.clear()
    assert read(orphan)[0] == EXPECTED


def test_a_first_segment_that_the_disk_does_not_give_costs_itself(tmp_path: Path) -> None:
    """The following ones say for whom they are, and are delivered; the unreadable one is left where it is."""
    parts = Parts(tmp_path, size=64 * 1024)
    for _ in range(3):
        parts.queue.accept(100)
        parts.queue.size = 500
        parts.commit()
    parts.die()
    first, *others = segments(tmp_path)
    assert others
    first.unlink()
    first.mkdir()
    recovery = Parts(tmp_path).adopt()
    assert recovery is not None
    pieces = recovery.read(1 << 30)
    assert numbers(pieces)[-1] == 299
    for piece in pieces:
        recovery.settle(piece)
    assert recovery.read(1) == []
    recovery.close()
    assert [each.name for each in tmp_path.glob("*/*.seg")] == [first.name]


def test_a_full_disk_does_not_keep_anything_from_being_delivered(orphan: Path) -> None:
    """Segments are removed even if a full disk has no room for a new cursor."""
    [cursor] = orphan.glob("*/cursor")
    cursor.unlink()
    files = FaultyFiles()
    files.faults["allocate"] = full_disk()
    parts = Parts(orphan, files=files)
    recovery = parts.adopt()
    assert recovery is not None
    for piece in recovery.read(1 << 20):
        recovery.settle(piece)
    assert recovery.read(1) == []
    recovery.close()
    assert segments(orphan) == []


def test_damaged_spans_and_rejected_messages_stay(orphan: Path) -> None:
    """Damaged spans and rejected messages stay, and do not make the directory an orphan again."""
    [segment] = segments(orphan)
    data = bytearray(segment.read_bytes())
    data[data.index(b'"n":3') + 4] ^= 1
    segment.write_bytes(data)
    assert read(orphan)[0] == ([4, 5], EXPECTED[1])
    assert sorted(path.name for path in segment.parent.iterdir()) == ["damaged", "lock", "owner.json"]
    assert Parts(orphan).adopt() is None
    assert len(list(segment.parent.glob("damaged/*"))) == 1


@pytest.mark.slow
def test_a_large_backlog_is_begun_at_once(tmp_path: Path, untraced: None) -> None:
    """The first of two million messages are returned before the rest is read, one segment in memory at most."""
    parts = Parts(tmp_path, max_bytes=2**30, sync=False)
    lines = b"\n".join([b'{"p":0,"x":"%s"}' % (b"y" * 100)] * 1000)
    for first in range(0, 2_000_000, 1000):
        parts.log.commit([LogPiece(0, first, 1000, lines)])
    parts.die()
    reader = Parts(tmp_path)
    began = time.thread_time()
    recovery = reader.adopt()
    assert recovery is not None
    pieces = recovery.read(2 * 2**20)
    assert pieces
    assert time.thread_time() - began < 0.5
    tracemalloc.start()
    following = 0
    while pieces:
        for piece in pieces:
            assert piece.first == following
            following += piece.messages
            recovery.settle(piece)
        recovery.trim()
        pieces = recovery.read(2 * 2**20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert following == 2_000_000
    assert peak < 40 * 2**20
    recovery.close()
    assert segments(tmp_path) == []


@pytest.mark.parametrize("name", ["00000001.seg", "cursor", "lock", "owner.json", "rejected.ndjson"])
def test_a_pipe_in_the_place_of_a_file_does_not_block(orphan: Path, name: str) -> None:
    """A pipe in place of a file does not block the process that holds the lock of the path."""
    [directory] = [each for each in orphan.iterdir() if each.is_dir()]
    (directory / name).unlink(missing_ok=True)
    os.mkfifo(directory / name)
    recovery = Parts(orphan).adopt()
    if recovery is not None:
        recovery.read(1 << 30)
        recovery.close()
    survey = Survey(orphan)
    for found in survey.directories():
        list(survey.read(found))
        list(survey.rejected(found))


def test_a_file_of_any_size_is_not_read_whole(orphan: Path) -> None:
    """A segment of an impossible size is left where it is, and never read into memory."""
    [segment] = segments(orphan)
    os.truncate(segment, 2**40)
    recovery = Parts(orphan).adopt()
    assert recovery is not None
    assert recovery.read(1) == []
    recovery.close()
    assert segment.exists()


def test_a_number_beyond_any_cursor_is_damage(tmp_path: Path) -> None:
    """A record with a valid checksum and an impossible number is damage, and the recovery continues."""
    parts = Parts(tmp_path)
    parts.log.commit([LogPiece(0, 2**64 - 1, 1, b"{}")])
    parts.queue.accept(2)
    parts.die()
    recovery = Parts(tmp_path).adopt()
    assert recovery is not None
    assert recovery.read(1) == []
    recovery.trim()
    recovery.close()


def test_a_reader_without_memory_removes_nothing_that_it_has_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the memory for a segment is missing, its messages and those behind it stay for a later search."""
    parts = Parts(tmp_path, size=200)
    for _ in range(5):
        parts.queue.accept(3)
        parts.commit()
    parts.die()
    loaded: list[int] = []

    def load_some(files: Files, directory: int, number: int) -> Loaded | None:
        loaded.append(number)
        if len(loaded) == 3:
            raise MemoryError
        return load(files, directory, number)

    monkeypatch.setattr(module, "load", load_some)
    found = Parts(tmp_path)
    recovery = found.adopt()
    assert recovery is not None
    got: list[int] = []

    def read_all() -> None:
        while pieces := recovery.read(1):
            for piece in pieces:
                recovery.settle(piece)
            got.extend(numbers(pieces))

    with pytest.raises(MemoryError):
        read_all()
    read_all()
    assert got == [*range(len(got))]
    assert len(got) < 15
    recovery.close()
    assert numbers(recover(tmp_path)[0]) == [*range(len(got), 15)]
