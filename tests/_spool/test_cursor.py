"""The cursor's file: two slots, of which one is always whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from salesmachine_async._spool.cursor import CursorFile, read_cursor
from tests.support.spool import FaultyFiles, failing_disk


@pytest.fixture
def files() -> FaultyFiles:
    """Return files that can fail."""
    return FaultyFiles()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """Give an open directory."""
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def saved(files: FaultyFiles, folder: int) -> tuple[int, ...] | None:
    """Return what another process would read."""
    cursor = read_cursor(files, folder)
    return cursor.settled if cursor else None


def test_the_newest_numbers_are_read(files: FaultyFiles, folder: int, tmp_path: Path) -> None:
    """The newest slot is read, and the file never grows."""
    cursor = CursorFile(files, folder, 7)
    assert saved(files, folder) is None
    for number in range(5):
        cursor.save((number, 9))
        assert saved(files, folder) == (number, 9)
        assert (tmp_path / "cursor").stat().st_size == 8192
    cursor.close()
    again = CursorFile(files, folder, 7)
    assert again.saved == (4, 9)
    again.save((5, 9))
    assert saved(files, folder) == (5, 9)


def test_half_a_slot_leaves_the_other(files: FaultyFiles, folder: int) -> None:
    """A slot that a crash left half written is passed over for the other."""
    cursor = CursorFile(files, folder, 7)
    cursor.save((1,))
    files.room = 11
    with pytest.raises(OSError, match="No space"):
        cursor.save((2,))
    assert saved(files, folder) == (1,)


def test_many_partitions_have_larger_slots(files: FaultyFiles, folder: int, tmp_path: Path) -> None:
    """A file with smaller slots holds the partitions that fit; messages of the others are repeated."""
    CursorFile(files, folder, 7, partitions=2000).save(range(2000))
    assert saved(files, folder) == tuple(range(2000))
    (tmp_path / "cursor").unlink()
    CursorFile(files, folder, 7).save(range(2000))
    assert saved(files, folder) == tuple(range(508))


def test_it_is_synced_only_when_it_has_changed_and_never_after_a_failure(files: FaultyFiles, folder: int) -> None:
    """A failed sync is never repeated, because its result would mean nothing; the file is then only written."""
    cursor = CursorFile(files, folder, 7)
    cursor.sync()
    cursor.save((1,))
    cursor.sync()
    cursor.sync()
    assert len(files.synced) == 1
    files.faults["sync"] = failing_disk()
    cursor.save((2,))
    with pytest.raises(OSError, match="Input/output"):
        cursor.sync()
    files.faults.clear()
    cursor.save((3,))
    cursor.sync()
    assert len(files.synced) == 2
    assert saved(files, folder) == (3,)
