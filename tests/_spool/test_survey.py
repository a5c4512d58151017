"""Inspection of a spool from outside, while processes write and after they have died."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from salesmachine_async._spool.survey import Found, Survey
from salesmachine_async.errors import ConfigError
from tests.support.spool import DESTINATION, Parts, numbers, segments


def one(path: Path) -> Found:
    """Return the only directory of a path, read."""
    survey = Survey(path)
    [found] = survey.directories()
    list(survey.read(found))
    return found


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """Return a living process with ten messages, three of which are settled."""
    parts = Parts(tmp_path, now_ms=lambda: 5000)
    for _ in range(5):
        parts.queue.accept(2)
        parts.commit()
    parts.log.settled[0] = parts.queue.done[0] = 3
    parts.log.trim()
    return parts


def test_a_living_directory_is_read_and_not_touched(tmp_path: Path, parts: Parts) -> None:
    """A directory in use is read without a change, and its process continues."""
    found = one(tmp_path)
    assert found.live
    assert (found.messages, found.oldest_ms, found.destination) == (7, 5000, DESTINATION)
    assert found.bytes == 7 * len(b'{"p":0,"n":0,"x":""}') + 3
    assert found.owner["pid"] == os.getpid()
    assert (found.damaged_bytes, found.torn_bytes, found.unreadable) == (0, 0, [])
    parts.queue.accept(1)
    parts.commit()
    assert one(tmp_path).messages == 8


def test_an_orphan_shows_its_messages_and_stays_one(tmp_path: Path, parts: Parts) -> None:
    """A survey of an orphan does not adopt it."""
    parts.die()
    survey = Survey(tmp_path)
    [found] = survey.directories()
    assert not found.live
    read: list[int] = []
    assert numbers(list(survey.read(found, read.append))) == [3, 4, 5, 6, 7, 8, 9]
    assert sum(read) >= 4 * 2**20
    assert one(tmp_path).messages == 7


def test_damage_is_counted_and_not_moved(tmp_path: Path, parts: Parts) -> None:
    """Damage of an orphan is counted and left in place; the unfinished end of a live segment is no damage."""
    [segment] = segments(tmp_path)
    data = segment.read_bytes()
    used = len(data.rstrip(b"\0"))
    segment.write_bytes(data[: used - 4] + bytes(4) + data[used:])
    assert one(tmp_path).torn_bytes == 0
    parts.die()
    found = one(tmp_path)
    assert (found.messages, found.damaged_bytes) == (5, 0)
    assert found.torn_bytes > 40
    assert found.kept_bytes == 0


def test_kept_messages_are_shown_and_purged(tmp_path: Path, parts: Parts) -> None:
    """Kept messages are shown and purged, except those of a living process."""
    parts.log.reject([b'{"message":1}\n'], 1000)
    survey = Survey(tmp_path)
    [name] = [found.name for found in survey.directories()]
    assert one(tmp_path).rejected_bytes == 14
    assert survey.purge([name]) == []
    parts.die()
    assert survey.purge([name], rejected_only=True) == [name]
    found = one(tmp_path)
    assert (found.rejected_bytes, found.messages) == (0, 7)
    (tmp_path / name / "damaged").mkdir()
    (tmp_path / name / "damaged" / "00000001-5.bin").write_bytes(b"xyz")
    assert one(tmp_path).kept_bytes == 3
    assert survey.purge([name]) == [name]
    assert os.listdir(tmp_path) == ["quota.lock"]


@pytest.mark.parametrize("owner", [b"", b"[]", b"{", None])
def test_the_owner_is_only_displayed(tmp_path: Path, parts: Parts, owner: bytes | None) -> None:
    """The file that names the owner is only displayed."""
    [file] = tmp_path.glob("*/owner.json")
    file.unlink() if owner is None else file.write_bytes(owner)
    assert one(tmp_path).owner == {}


def test_a_missing_path_is_not_made(tmp_path: Path) -> None:
    """A survey does not create a missing path."""
    with pytest.raises(ConfigError, match="No such file"):
        Survey(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
