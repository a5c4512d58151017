"""Agents whose disk fails later: one loud line, memory only, delivery as before, and the disk again once it works."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from salesmachine_async import Agent, Batching, ConfigError, Retry, Spool, SpoolFailed, SpoolState, SpoolStats
from salesmachine_async._spool import worker
from salesmachine_async._spool.spooler import Spooler
from salesmachine_async.sandbox import Fault, Sandbox
from salesmachine_async.testing import Workspace, serve
from tests.support.small_disk import fill, mounted, remount
from tests.support.spool import FaultyFiles, segments
from tests.support.waiting import until

QUICK = Batching(linger=0.01)
HASTY = Retry(wait_initial=0.01, wait_max=0.02)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with serve() as running:
        yield running


@pytest.fixture
def workspace(sandbox: Sandbox) -> Workspace:
    return Workspace(sandbox)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 4 MiB."""
    with mounted(tmp_path / "disk") as place:
        yield place


class WatchedFiles(FaultyFiles):
    """Files that fail as a test says, and never sync again what a sync has refused."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[int] = set()

    def sync(self, fd: int) -> None:
        assert fd not in self.refused, "a second sync, which would succeed and prove nothing"
        try:
            super().sync(fd)
        except OSError:
            self.refused.add(fd)
            raise

    def close(self, fd: int) -> None:
        self.refused.discard(fd)
        super().close(fd)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test make the files of agents fail; a failed disk is tried again soon."""
    monkeypatch.setattr(worker, "RETRY_SECONDS", 0.02)
    monkeypatch.setitem(Spooler.__init__.__kwdefaults__ or {}, "files", WatchedFiles)


def files_of(agent: Agent) -> WatchedFiles:
    """Return the files of an agent."""
    assert agent._spooler is not None
    files = agent._spooler._worker._files
    assert isinstance(files, WatchedFiles)
    return files


def spool_of(agent: Agent) -> SpoolStats:
    """Return the state of an agent's spool."""
    spool = agent.stats().spool
    assert spool is not None
    return spool


def agent_of(workspace: Workspace, path: Path) -> Agent:
    return workspace.agent(spool=Spool(path, commit=0.01, max_bytes=16 * 2**20), batching=QUICK, retry=HASTY)


def away(workspace: Workspace) -> None:
    """Let the server answer nothing but errors."""
    workspace.faults(Fault(status=503, times=None))


def numbered(agent: Agent, *which: int) -> None:
    for number in which:
        assert agent.track("u", "e", {"n": number})


def delivered(workspace: Workspace) -> list[int]:
    return [event["params"]["n"] for event in workspace.events()]


def loud_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged about a spool that cannot be written."""
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    return [line for line in lines if line.startswith("the spool is")]


async def check_next(workspace: Workspace, path: Path, *expected: int) -> None:
    """Let another agent deliver what is on disk; check what the server has then, in order."""
    async with agent_of(workspace, path) as after:
        await until(lambda: len(delivered(workspace)) >= len(expected))
        await until(lambda: not after._flusher._senders[0].held)
    assert delivered(workspace) == [*expected]
    # A request that was under way at the close may have arrived, too: its messages have the same ids.
    assert os.listdir(path) == ["quota.lock"]


FAULTS = [
    # The call that fails, why, whether something was written before.
    ("sync", errno.EIO, True),
    ("sync", errno.EIO, False),
    ("write", errno.ENOSPC, True),
    ("write", errno.EROFS, True),
    ("write", errno.EFBIG, False),
    ("allocate", errno.EDQUOT, False),
    ("lock", errno.ENOLCK, False),
    ("make_directory", errno.EROFS, False),
    ("sync_directory", errno.EIO, False),
]


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize(("call", "number", "later"), FAULTS)
async def test_a_disk_that_fails_later(
    tmp_path: Path, workspace: Workspace, caplog: pytest.LogCaptureFixture, call: str, number: int, later: bool
) -> None:
    """What is accepted meanwhile is delivered; `sync` raises; one line is logged; nothing is synced a second time."""
    path = tmp_path / "spool"
    away(workspace)
    async with agent_of(workspace, path) as agent:
        numbered(agent, 0, 1, 2)
        if later:
            await agent.sync()
        files = files_of(agent)
        files.faults[call] = OSError(number, os.strerror(number))
        numbered(agent, 3, 4, 5)
        with pytest.raises(SpoolFailed, match=os.strerror(number)):
            await agent.sync()
        full = number in worker.FULL
        assert spool_of(agent).state is (SpoolState.FULL if full else SpoolState.FAILING)
        await until(lambda: spool_of(agent).write_errors > 3)
        assert len(loud_lines(caplog)) == 1
        workspace.faults()
        assert (await agent.flush()).ok
        assert delivered(workspace) == [*range(6)]
        # It has healed by delivering: there is nothing to write. The next message needs the disk.
        await until(lambda: spool_of(agent).state is SpoolState.OPEN)
        files.faults.clear()
        away(workspace)
        numbered(agent, 6)
        await agent.sync()
        assert spool_of(agent).state is SpoolState.OPEN
        assert (await agent.aclose(0)).kept == 1
    await until(lambda: spool_of(agent).state is SpoolState.CLOSED)
    workspace.faults()
    await check_next(workspace, path, *range(7))
    assert "AssertionError" not in caplog.text


@pytest.mark.usefixtures("faulty")
async def test_a_write_that_is_cut_in_the_middle(tmp_path: Path, workspace: Workspace) -> None:
    """Half a record hides nothing: what is confirmed before and behind it is there for the next process, once."""
    away(workspace)
    async with agent_of(workspace, tmp_path) as agent:
        numbered(agent, 0, 1)
        await agent.sync()
        for room in (1, 20, 37, 60):
            files_of(agent).room = room
            numbered(agent, agent.stats().accepted)
            with pytest.raises(SpoolFailed, match="No space left"):
                await agent.sync()
        files_of(agent).room = None
        await agent.sync()
        assert (await agent.aclose(0)).kept == 6
    await until(lambda: spool_of(agent).state is SpoolState.CLOSED)
    assert spool_of(agent).damaged_bytes == 0
    workspace.faults()
    await check_next(workspace, tmp_path, *range(6))


def test_a_path_without_locks_is_an_error_at_construction(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without `flock` is found when the agent is made, and the error quotes the system."""

    class WithoutLocks(FaultyFiles):
        def lock(self, fd: int) -> bool:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setitem(Spooler.__init__.__kwdefaults__ or {}, "files", WithoutLocks)
    with pytest.raises(ConfigError, match="No locks available"):
        agent_of(workspace, tmp_path)


async def test_a_real_disk_that_others_fill(
    small_disk: Path, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    """A real full disk costs no message that the server could have got, and delivering makes room again."""
    path = small_disk / "spool"
    away(workspace)
    async with agent_of(workspace, path) as agent:
        numbered(agent, 0)
        await agent.sync()
        fill(small_disk / "other")
        for number in range(1, 3000):
            assert agent.track("u", "e", {"n": number, "filler": "x" * 1000})
        with pytest.raises(SpoolFailed, match="No space left on device"):
            await agent.sync()
        assert spool_of(agent).state is SpoolState.FULL
        assert len(loud_lines(caplog)) == 1
        workspace.faults()
        assert (await agent.flush()).ok
        assert delivered(workspace) == [*range(3000)]
        await agent.sync()
        assert spool_of(agent).state is SpoolState.OPEN
    (small_disk / "other").unlink()
    assert segments(path) == []


async def test_a_real_disk_that_becomes_read_only(
    small_disk: Path, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that is read-only costs no message, and is written to when it allows that again."""
    path = small_disk / "spool"
    away(workspace)
    async with agent_of(workspace, path) as agent:
        await until(lambda: spool_of(agent).searches)  # it has no file open
        remount(small_disk, "ro")
        numbered(agent, 0, 1)
        with pytest.raises(SpoolFailed, match="Read-only file system"):
            await agent.sync()
        assert spool_of(agent).state is SpoolState.FAILING
        assert len(loud_lines(caplog)) == 1
        workspace.faults()
        assert (await agent.flush()).ok
        away(workspace)
        remount(small_disk, "rw")
        numbered(agent, 2)
        await agent.sync()
        assert spool_of(agent).state is SpoolState.OPEN
        assert (await agent.aclose(0)).kept == 1
    await until(lambda: spool_of(agent).state is SpoolState.CLOSED)
    workspace.faults()
    await check_next(workspace, path, 0, 1, 2)


async def test_a_path_that_is_deleted_again_and_again(tmp_path: Path, workspace: Workspace) -> None:
    """What is in memory is written anew each time, also where nothing was on disk only, and arrives once."""
    path = tmp_path / "spool"
    away(workspace)
    async with agent_of(workspace, path) as agent:
        for number in range(5):
            numbered(agent, number)
            await agent.sync()
            path.rename(tmp_path / f"moved-{number}")
            await agent.sync()
            assert segments(path)
        assert (await agent.aclose(0)).kept == 5
    await until(lambda: spool_of(agent).state is SpoolState.CLOSED)
    workspace.faults()
    await check_next(workspace, path, *range(5))
