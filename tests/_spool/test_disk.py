"""Real disks: full, limited, read-only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from salesmachine_async import ConfigError, Spool, SpoolFailed, SpoolState
from salesmachine_async._spool.spooler import Spooler
from tests.support.small_disk import fill, mounted, remount
from tests.support.spool import DESTINATION, MIB, Queue, numbers, recover
from tests.support.spool_process import begin


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 4 MiB."""
    with mounted(tmp_path / "disk") as place:
        yield place


def test_a_disk_that_others_have_filled_heals(small_disk: Path) -> None:
    """A full disk loses no message, and is written to as soon as there is room."""
    queue = Queue(size=1000)
    spooler = Spooler(Spool(small_disk / "spool", max_bytes=16 * MIB), DESTINATION, 1, queue)
    queue.accept(10)
    spooler.sync().result(10)
    fill(small_disk / "other")
    queue.accept(3000)
    with pytest.raises(SpoolFailed, match="No space left on device"):
        spooler.sync().result(10)
    assert spooler.stats().state is SpoolState.FULL
    assert 10 < spooler.durable(0) < 3010  # what fits in the segment at hand is written
    # Delivering needs no room: neither the cursor nor the removal of the segment.
    queue.done[0] = 3000
    spooler.sync().result(10)
    assert spooler.durable(0) == 3010
    spooler._worker.abandon()
    assert numbers(recover(small_disk / "spool")[0]) == list(range(3000, 3010))
    spooler._committer.stop()


def test_a_disk_that_is_full_from_the_start_does_not_stop_the_agent(small_disk: Path) -> None:
    """An agent on a full disk starts, works from memory, and writes when there is room."""
    fill(small_disk / "other")
    queue = Queue()
    spooler = Spooler(Spool(small_disk / "spool", max_bytes=16 * MIB), DESTINATION, 1, queue)
    queue.accept(1)
    with pytest.raises(SpoolFailed, match="No space left on device"):
        spooler.sync().result(10)
    assert spooler.stats().state is SpoolState.FULL
    (small_disk / "other").unlink()
    spooler.sync().result(10)
    assert spooler.stats().state is SpoolState.OPEN
    spooler.close().result(10)


def test_a_read_only_disk_is_an_error_at_the_start_and_a_state_later(small_disk: Path) -> None:
    """A read-only disk is an error at construction, even if the lock file exists, and a state later."""
    queue = Queue()
    policy = Spool(small_disk / "spool", max_bytes=16 * MIB)
    spooler = Spooler(policy, DESTINATION, 1, queue)
    remount(small_disk, "ro")
    with pytest.raises(ConfigError, match="Read-only file system"):
        Spooler(policy, DESTINATION, 1, queue)
    queue.accept(1)
    with pytest.raises(SpoolFailed, match="Read-only file system"):
        spooler.sync().result(10)
    assert spooler.stats().state is SpoolState.FAILING
    remount(small_disk, "rw")
    spooler.sync().result(10)
    assert spooler.durable(0) == 1
    spooler.close().result(10)


@pytest.mark.slow
def test_a_limit_of_the_size_of_files_is_a_full_disk(tmp_path: Path) -> None:
    """The file size limit of the process is handled as a full disk, and no signal ends the process."""
    it = begin("limited", tmp_path / "spool", MIB)
    out, _ = it.communicate(timeout=50)
    assert it.returncode == 0
    assert '"error": "the spool cannot be written or read: File too large"' in out
    assert '"state": "full"' in out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_path_without_permission_is_an_error_at_the_start(tmp_path: Path) -> None:
    """A path without permission is an error at construction that quotes the system's reason."""
    (tmp_path / "spool").mkdir(mode=0o500)
    with pytest.raises(ConfigError, match="cannot be used"):
        Spooler(Spool(tmp_path / "spool"), DESTINATION, 1, Queue())
