"""Agents with a spool in real processes: killed, forked, many at once, and ended without a close."""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from salesmachine_async import Retry, Spool, SpoolState
from salesmachine_async.sandbox import Fault, Sandbox
from salesmachine_async.testing import Workspace, serve
from tests.support.spool import disk_usage
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
CONTACTS = 5
# Between the first numbers of two processes.
STEP = 1_000_000
# An address at which nothing listens.
NOWHERE = "http://127.0.0.1:9"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes as POSIX has them")]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with serve() as running:
        yield running


@pytest.fixture
def workspace(sandbox: Sandbox) -> Workspace:
    return Workspace(sandbox)


class Program:
    """A process that runs one of `tests.support.spool_agents`."""

    def __init__(self, workspace: Workspace, what: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "tests.support.spool_agents", what, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, **workspace.environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def heard(self) -> dict[str, Any]:
        """Return the next document that it prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        found: dict[str, Any] = json.loads(line)
        return found

    def has_said(self) -> bool:
        """Return whether it has printed something that was not heard."""
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def go(self) -> None:
        """Give the word."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def kill(self) -> list[dict[str, Any]]:
        """End it by SIGKILL; returns what it has printed since."""
        self.process.kill()
        return self.rest()[0]

    def rest(self) -> tuple[list[dict[str, Any]], str]:
        """Wait for its end; returns what it has printed since, and stderr."""
        out, err = self.process.communicate(timeout=50)
        return [json.loads(line) for line in out.splitlines(keepends=True) if line.endswith("\n")], err


@contextmanager
def program(workspace: Workspace, what: str, *arguments: object) -> Iterator[Program]:
    """Run one, and end it in any case."""
    it = Program(workspace, what, *arguments)
    try:
        yield it
    finally:
        if it.process.poll() is None:
            it.process.kill()
            it.process.communicate()


def delivered(workspace: Workspace) -> list[int]:
    """Return the numbers that have arrived, in the order of arrival."""
    return [event["params"]["n"] for event in workspace.events()]


def drained(workspace: Workspace, path: Path) -> int:
    """Deliver what is left below a path; returns how many messages that were."""

    async def main() -> int:
        async with workspace.agent(spool=Spool(path, commit=0.02), retry=Retry(wait_initial=0.02)) as agent:
            await until(lambda: not agent._flusher._senders[0].held)
            assert (await agent.aclose()).ok
            return agent.stats().recovered

    return asyncio.run(main())


def check_order(numbers: list[int]) -> None:
    """Check that what arrived first of each contact arrived in order."""
    first = list(dict.fromkeys(numbers))
    for contact in range(CONTACTS):
        mine = [number for number in first if number % CONTACTS == contact]
        assert mine == sorted(mine)


def away(workspace: Workspace) -> None:
    """Let the API answer nothing but errors."""
    workspace.faults(Fault(status=503, times=None))


def killed_at_random(workspace: Workspace, path: Path, lives: list[float]) -> list[tuple[int, int]]:
    """
    Run one flood after the other, and kill each after so many seconds; the next one starts in the meantime.

    Returns the first number of each, and the number behind the last one that `sync` has confirmed.
    """
    ends: list[tuple[int, int]] = []
    floods = deque([Program(workspace, "flood", path, 0)])
    try:
        for turn, seconds in enumerate(lives):
            if turn + 1 < len(lives):
                floods.append(Program(workspace, "flood", path, (turn + 1) * STEP))
            it = floods[0]
            said = [it.heard()]
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                said.append(it.heard())
            said += it.kill()
            floods.popleft()
            ends.append((turn * STEP, said[-1]["synced"]))
    finally:
        for each in floods:
            each.kill()
    return ends


@pytest.mark.one_python
@pytest.mark.timeout(180)
def test_a_killed_process_loses_nothing_confirmed(tmp_path: Path, workspace: Workspace, untraced: None) -> None:
    """Twenty kills at random moments of an outage leave a prefix without a gap, in order, each message once."""
    choice = random.Random(7)
    away(workspace)
    ends = killed_at_random(workspace, tmp_path, [choice.uniform(0, 0.2) for _ in range(20)])
    workspace.faults()
    drained(workspace, tmp_path)
    arrived = delivered(workspace)
    assert workspace.summary()["duplicates"] == 0
    for first, synced in ends:
        numbers = [number for number in arrived if first <= number < first + STEP]
        assert {*range(first, synced)} <= {*numbers}
        check_order(numbers)
        for contact in range(CONTACTS):
            mine = [number for number in numbers if number % CONTACTS == contact]
            assert mine == [*range(first + contact, mine[-1] + 1, CONTACTS)], "a gap"
    assert [each.name for each in tmp_path.iterdir()] == ["quota.lock"]


@pytest.mark.one_python
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(3))
def test_a_process_killed_while_it_delivers_through_faults(
    tmp_path: Path, workspace: Workspace, seed: int, untraced: None
) -> None:
    """Confirmed messages arrive, and a message that arrives twice has the same id."""
    faults = [
        Fault(status=503, probability=0.2, seed=seed, times=None),
        Fault(drop="after", probability=0.1, seed=seed + 1, times=None),
        Fault(status=429, retry_after=0.05, probability=0.1, seed=seed + 2, times=None),
    ]
    workspace.faults(faults)
    ((_, synced),) = killed_at_random(workspace, tmp_path, [0.5 + 0.3 * seed])
    workspace.faults()
    drained(workspace, tmp_path)
    numbers = delivered(workspace)
    assert {*range(synced)} <= {*numbers}
    check_order(numbers)
    for event in workspace.events():
        assert event["message_id"] == f"m{event['params']['n']}"


@pytest.mark.one_python
@pytest.mark.timeout(120)
def test_eight_processes_adopt_five_orphans(tmp_path: Path, workspace: Workspace, untraced: None) -> None:
    """Eight processes that share five orphans deliver each message once."""
    away(workspace)
    floods = [Program(workspace, "flood", tmp_path, turn * 100_000) for turn in range(5)]
    synced = [each.heard()["synced"] for each in floods]
    for each in floods:
        each.kill()
    workspace.faults()
    programs = [Program(workspace, "drain", tmp_path) for _ in range(8)]
    try:
        for each in programs:
            each.heard()
        for each in programs:
            each.go()
        found = [each.rest()[0][-1] for each in programs]
    finally:
        for each in programs:
            if each.process.poll() is None:
                each.process.kill()
                each.process.communicate()
    numbers = delivered(workspace)
    for turn, end in enumerate(synced):
        assert {*range(turn * 100_000, end)} <= {*numbers}
    assert workspace.summary()["duplicates"] == 0
    assert sum(each["recovered"] for each in found) == len(numbers)


def test_an_old_contact_does_not_overwrite_a_newer_one(tmp_path: Path, workspace: Workspace) -> None:
    """A contact updated before a crash and after the restart ends with the newer value."""
    away(workspace)
    with program(workspace, "plan", tmp_path, "free") as it:
        it.heard()
        it.kill()
    workspace.faults()
    with program(workspace, "plan", tmp_path, "pro") as it:
        it.heard()
        it.rest()
    assert workspace.contact("c")["params"]["plan"] == "pro"
    assert workspace.summary()["accepted"] == 2


@pytest.mark.parametrize(("what", "words"), [("unclosed", "7 messages wait in"), ("forgotten", "wait in")])
def test_an_end_without_a_close_writes_and_logs_what_waits(
    tmp_path: Path, workspace: Workspace, what: str, words: str
) -> None:
    """An exit without a close writes and logs all that waits; the next process delivers it."""
    with program(workspace, what, tmp_path) as it:
        _, err = it.rest()
    assert words in err
    assert drained(workspace, tmp_path) == 7
    assert delivered(workspace) == [*range(7)]


def test_the_exit_closes_a_threaded_agent(tmp_path: Path, workspace: Workspace) -> None:
    """The exit of a threaded agent delivers what it can, keeps the rest, and logs how much it kept."""
    with program(workspace, "threaded", tmp_path) as it:
        _, err = it.rest()
    assert delivered(workspace) == [*range(7)]
    assert "wait" not in err
    workspace.reset()
    away(workspace)
    with program(workspace, "threaded", tmp_path) as it:
        _, err = it.rest()
    assert "7 messages wait" in err
    workspace.faults()
    assert drained(workspace, tmp_path) == 7


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="forks are not to be relied on there")
def test_workers_forked_from_a_loaded_application(tmp_path: Path, workspace: Workspace, untraced: None) -> None:
    """Forked workers, two of them killed and two ended, deliver everything once."""
    away(workspace)
    with program(workspace, "prefork", tmp_path) as it:
        said = [it.heard() for _ in range(5)]
        assert {each.get("worker") for each in said} == {0, 1, 2, 3, None}
        assert len([*tmp_path.glob("*/lock")]) == 5
        it.go()
        found, err = it.rest()
        assert found[-1]["closed"] == 100, err
    workspace.faults()
    drained(workspace, tmp_path)
    numbers = delivered(workspace)
    expected = [worker * 1000 + number for worker in range(4) for number in range(200)]
    assert sorted(numbers) == [*expected, *range(4000, 4100)]
    assert workspace.summary()["duplicates"] == 0


@pytest.mark.one_python
@pytest.mark.timeout(180)
def test_a_large_backlog_is_read_as_it_is_delivered(tmp_path: Path, workspace: Workspace, untraced: None) -> None:
    """A large backlog is read in bounded memory, and in order."""
    count = 150_000
    away(workspace)
    with program(workspace, "backlog", tmp_path, count) as it:
        assert it.heard()["kept"] == count
        it.rest()
    with program(workspace, "start", tmp_path) as it:
        found = it.heard()
        it.rest()
    assert found["delivered"] == count
    assert found["peak_mb"] < 150


@pytest.mark.one_python
@pytest.mark.timeout(180)
def test_four_agents_never_exceed_the_bound(tmp_path: Path, workspace: Workspace, untraced: None) -> None:
    """The size that `du` reports never exceeds the bound while four agents fill it, and what is kept arrives once."""
    bound = 32 * 2**20
    away(workspace)
    hoards = [Program(workspace, "hoard", tmp_path, bound) for _ in range(4)]
    try:
        most = 0
        while not all(each.has_said() for each in hoards):
            most = max(most, disk_usage(tmp_path))
            assert most <= bound
            time.sleep(0.01)
        assert {each.heard()["state"] for each in hoards} == {SpoolState.FULL.value}
        assert most > bound - 8 * 2**20
        for each in hoards:
            each.go()
        kept = sum(each.rest()[0][-1]["kept"] for each in hoards)
        assert disk_usage(tmp_path) <= bound
    finally:
        for each in hoards:
            if each.process.poll() is None:
                each.kill()
    assert kept > 4000
    workspace.faults()
    assert drained(workspace, tmp_path) >= kept
    assert workspace.summary()["duplicates"] == 0


def test_a_limit_of_the_size_of_files(tmp_path: Path, workspace: Workspace) -> None:
    """An agent continues without the disk when the process's file size limit is reached."""
    with program(workspace, "limited", tmp_path) as it:
        found, err = it.rest()
    assert any("error" in each for each in found), err
    assert err.count("the spool is full") == 1
    assert found[-1]["delivered"] == 2
