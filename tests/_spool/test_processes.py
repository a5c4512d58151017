"""Real processes on one path: killed, forked, many at once."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from salesmachine_async import Spool, SpoolState, _process
from salesmachine_async._spool.spooler import Spooler
from tests.support.spool import DESTINATION, MIB, Parts, Queue, disk_usage, numbers, recover, segments
from tests.support.spool_process import begin

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes as POSIX has them")]


@contextmanager
def process(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run one, and end it in any case."""
    it = begin(*arguments)
    try:
        yield it
    finally:
        it.kill()
        it.communicate()


def heard(it: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the next document that a process prints."""
    assert it.stdout is not None
    line = it.stdout.readline()
    assert line, "the process has ended"
    found: dict[str, Any] = json.loads(line)
    return found


def give(it: subprocess.Popen[str], word: str = "go\n") -> None:
    """Write to a process."""
    assert it.stdin is not None
    it.stdin.write(word)
    it.stdin.flush()


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_process_loses_only_its_last_moments(tmp_path: Path, seed: int, untraced: None) -> None:
    """The recovered messages are a prefix without a gap, and include every durable one."""
    with process("write", tmp_path) as it:
        said = [heard(it)]
        until = time.monotonic() + random.Random(seed).uniform(1.8, 2.6)
        while time.monotonic() < until:
            said.append(heard(it))
        it.kill()
        killed = time.monotonic()
        rest, _ = it.communicate()
        said += map(json.loads, rest.splitlines())
    pieces, reader = recover(tmp_path)
    for partition in (0, 1):
        got = numbers(pieces, partition)
        assert got == list(range(len(got)))
        assert said[-1]["durable"][partition] <= len(got)
        # Everything older than two commits (0.1 s) is there; a busy machine may need longer.
        old = [each["accepted"][partition] for each in said if each["at"] < killed - 1.5]
        assert 0 < old[-1] <= len(got)
    assert reader.damage.damaged_bytes == 0
    assert said[-1]["durable"][0] > 0


def test_four_processes_never_exceed_the_bound(tmp_path: Path, untraced: None) -> None:
    """The size that `du` reports never exceeds the bound, and no durable message is missing."""
    bound = 32 * MIB
    with process("flood", tmp_path, bound) as a, process("flood", tmp_path, bound) as b:
        with process("flood", tmp_path, bound) as c, process("flood", tmp_path, bound) as d:
            floods = (a, b, c, d)
            most = 0
            deadline = time.monotonic() + 50
            while any(disk_usage(tmp_path) > most or not _has_said(it) for it in floods):
                assert time.monotonic() < deadline
                most = max(most, disk_usage(tmp_path))
                assert most <= bound
                time.sleep(0.01)
            said = [heard(it) for it in floods]
    assert {each["state"] for each in said} == {SpoolState.FULL.value}
    assert most > bound - 8 * MIB
    pieces, _ = recover(tmp_path)
    assert sum(piece.messages for piece in pieces) >= sum(each["durable"] for each in said)


def _has_said(it: subprocess.Popen[str]) -> bool:
    assert it.stdout is not None
    return bool(select.select([it.stdout], [], [], 0)[0])


def test_eight_processes_adopt_five_orphans_once(tmp_path: Path) -> None:
    """Each message of an orphan is recovered by one process, in order."""
    for _ in range(5):
        parts = Parts(tmp_path, partitions=2)
        for _ in range(10):
            parts.queue.accept(3)
            parts.queue.accept(2, partition=1)
            parts.commit()
        parts.die()
    running = [begin("adopt", tmp_path) for _ in range(8)]
    try:
        for it in running:
            heard(it)
        for it in running:
            give(it)
        found = [record for it in running for record in heard(it)["found"]]
    finally:
        for it in running:
            it.kill()
            it.communicate()
    for partition, count in ((0, 30), (1, 20)):
        got = sorted(number for which, *some in found for number in some if which == partition)
        assert got == sorted(list(range(count)) * 5)
    assert segments(tmp_path) == []
    assert os.listdir(tmp_path) == ["quota.lock"]


def test_a_child_of_a_fork_begins_its_own_directory_and_releases_nothing(tmp_path: Path) -> None:
    """The parent's lock outlives its children, and ends with the parent even if a child lives."""
    with process("fork", tmp_path) as parent:
        said = heard(parent)
        try:
            assert said["durable"] == 10
            # The child that wrote has ended: its three messages are an orphan. The parent's are not.
            assert numbers(recover(tmp_path)[0]) == [0, 1, 2]
            parent.kill()
            parent.wait()
            os.kill(said["idle"], 0)  # it lives, and has the parent's files open no more
            assert numbers(recover(tmp_path)[0]) == list(range(10))
        finally:
            os.kill(said["idle"], signal.SIGKILL)


def test_a_fork_that_no_hook_has_seen_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork without hooks, as by uWSGI and C extensions, is noticed by the process id."""
    queue = Queue()
    spooler = Spooler(Spool(tmp_path), DESTINATION, 1, queue)
    queue.accept(2)
    spooler.sync().result(10)
    spooler._committer.stop()  # a fork takes no thread along
    thread = spooler._committer._thread
    assert thread is not None
    thread.join(10)
    monkeypatch.setattr(_process, "_pid", os.getpid() + 1)
    queue.accept(2)
    spooler.sync().result(10)
    assert len(list(tmp_path.glob("*/lock"))) == 2
    spooler.close().result(10)
