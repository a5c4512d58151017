"""The path that processes share: what is refused, what is adopted, and how much is in it at most."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from salesmachine_async._spool.files import Files
from salesmachine_async._spool.root import MARGIN_BYTES, Root
from salesmachine_async.errors import ConfigError
from tests.support.spool import DESTINATION, MIB, FaultyFiles, Parts, disk_usage, full_disk, numbers, recover, segments

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def check(path: Path, files: Files | None = None) -> None:
    """Check a path as an agent does when it is made."""
    Root(files or Files(), path, MIB).check()


def test_a_missing_path_is_made_for_its_owner_only(tmp_path: Path) -> None:
    """Missing directories, parents included, are created for their owner only."""
    check(tmp_path / "a" / "b")
    assert [oct(path.stat().st_mode & 0o777) for path in (tmp_path / "a", tmp_path / "a" / "b")] == ["0o700"] * 2


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702])
def test_a_path_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """A path that other users may write to is an error, because they could add messages."""
    tmp_path.chmod(mode)
    with pytest.raises(ConfigError, match="writable for other users; chmod it to 0700"):
        check(tmp_path)


def test_a_sticky_path_may_be_shared(tmp_path: Path) -> None:
    """A sticky path, as /tmp is, is accepted."""
    tmp_path.chmod(0o1777)
    check(tmp_path)
    tmp_path.chmod(0o755)
    check(tmp_path)


def test_a_link_is_refused(tmp_path: Path) -> None:
    """A symbolic link is an error, even to a usable directory."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError, match="is a symbolic link"):
        check(tmp_path / "link")


def test_links_within_are_not_followed(tmp_path: Path) -> None:
    """A symbolic link in place of the lock or of a process's directory is not followed."""
    (tmp_path / "spool").mkdir(mode=0o700)
    victim = tmp_path / "victim"
    victim.mkdir()
    (tmp_path / "spool" / ("ab" * 8)).symlink_to(victim)
    root = Root(Files(), tmp_path / "spool", MIB)
    assert root.adopt({DESTINATION}) is None
    assert list(victim.iterdir()) == []
    (tmp_path / "spool" / "quota.lock").unlink()
    (tmp_path / "spool" / "quota.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot be used"):
        check(tmp_path / "spool")
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_is_refused(tmp_path: Path) -> None:
    """A file, and a path below one, is an error."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is not a directory"):
        check(tmp_path / "file")
    with pytest.raises(ConfigError, match="cannot be used: Not a directory"):
        check(tmp_path / "file" / "below")


@ROOT_ONLY
def test_another_owner_is_refused(tmp_path: Path) -> None:
    """A path of another user is an error, because two users would lock each other out."""
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(ConfigError, match="belongs to user 12345, but this process runs as user 0"):
        check(tmp_path)


@ROOT_ONLY
def test_another_users_directory_is_not_adopted(tmp_path: Path) -> None:
    """A directory of another user below a sticky path is not adopted, as its messages may be forged."""
    tmp_path.chmod(0o1777)
    parts = Parts(tmp_path)
    parts.queue.accept(2)
    parts.commit()
    parts.die()
    folder = segments(tmp_path)[0].parent
    os.chown(folder, 12345, 12345)
    assert recover(tmp_path)[0] == []
    os.chown(folder, 0, 0)
    assert numbers(recover(tmp_path)[0]) == [0, 1]


def test_a_file_system_without_locks_is_refused(tmp_path: Path) -> None:
    """A file system without locks, as some network file systems, is an error."""
    files = FaultyFiles()
    files.faults["lock"] = OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    with pytest.raises(ConfigError, match="cannot be used: No locks available"):
        check(tmp_path, files)


def test_a_read_only_file_system_is_refused(tmp_path: Path) -> None:
    """A read-only file system is an error at construction."""
    files = FaultyFiles()
    files.faults["make_directory"] = OSError(errno.EROFS, os.strerror(errno.EROFS))
    with pytest.raises(ConfigError, match="cannot be used: Read-only file system"):
        check(tmp_path / "new", files)


def test_a_full_disk_is_no_reason_to_refuse_the_start(tmp_path: Path) -> None:
    """A full disk is no error at the start: the agent works from memory until there is room."""
    files = FaultyFiles()
    files.faults["make_directory"] = full_disk()
    check(tmp_path / "new", files)


def test_a_directory_whose_lock_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """A directory whose lock cannot be opened is counted and named, and not delivered."""
    parts = Parts(tmp_path)
    parts.queue.accept(1)
    parts.commit()
    parts.die()
    [lock] = tmp_path.glob("*/lock")
    lock.unlink()
    lock.symlink_to("/etc/hostname")
    other = Parts(tmp_path)
    assert other.adopt() is None
    assert other.root.skipped == {lock.parent.name: "unreadable"}


def test_a_living_directory_is_not_adopted(tmp_path: Path) -> None:
    """A directory in use by another process, or by another agent of this one, is not adopted."""
    living = Parts(tmp_path)
    living.queue.accept(2)
    living.commit()
    assert recover(tmp_path)[0] == []
    living.die()
    assert numbers(recover(tmp_path)[0]) == [0, 1]


def test_the_oldest_is_adopted_first(tmp_path: Path) -> None:
    """Orphans are adopted in the order of their creation."""
    for age, count in ((300, 3), (100, 1), (200, 2)):
        parts = Parts(tmp_path, now_ms=lambda age=age: age)  # type: ignore[misc]
        parts.queue.accept(count)
        parts.commit()
        parts.die()
    assert numbers(recover(tmp_path)[0]) == [0, 0, 1, 0, 1, 2]


def test_a_directory_that_its_process_never_used_is_removed(tmp_path: Path) -> None:
    """An empty directory that a crash left is removed."""
    (tmp_path / ("0" * 16)).mkdir(mode=0o700)
    (tmp_path / "not ours").mkdir()
    assert recover(tmp_path)[0] == []
    assert sorted(os.listdir(tmp_path)) == ["not ours", "quota.lock"]


@pytest.mark.slow
def test_the_bound_is_kept_by_all_together(tmp_path: Path) -> None:
    """The bound counts the files of all processes, and the directories."""
    logs = [Parts(tmp_path, max_bytes=2 * MIB) for _ in range(3)]
    for parts in logs:
        parts.queue.size = 2000
    full = 0
    while full < len(logs):
        full = 0
        for parts in logs:
            parts.queue.accept(10)
            try:
                parts.commit()
            except OSError as exc:
                assert exc.errno == errno.ENOSPC  # noqa: PT017
                full += 1
            assert disk_usage(tmp_path) <= 2 * MIB
    assert disk_usage(tmp_path) > 2 * MIB - 3 * MARGIN_BYTES - 128 * 1024
    assert len(segments(tmp_path)) > 8


def test_a_lock_that_another_process_never_releases_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock held by a stopped process is an error after a time, not an endless wait."""
    monkeypatch.setattr("salesmachine_async._spool.root._LOCK_SECONDS", 0.05)
    root, other = Root(Files(), tmp_path, MIB), Root(Files(), tmp_path, MIB)
    with root.locked():
        with pytest.raises(OSError, match="held by another process"):
            with other.locked():
                pass
        with pytest.raises(ConfigError, match="held by another process"):
            other.check()
    other.check()
