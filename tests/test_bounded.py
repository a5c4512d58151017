"""An outage leaves nothing behind: no memory, no file descriptor, no task, no timer, hardly a log line."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from salesmachine_async import Agent, Batching, QueueLimits, Retry, Timeouts
from salesmachine_async.sandbox import Sandbox
from tests.support.carriers import BROKEN, Carrier, answer

pytestmark = pytest.mark.slow

SECRETS = ("TOPSECRETTOKEN", "TOPSECRETSECRET", "PAYLOAD")


class Leaks:
    """A filter that counts lines and keeps those with a secret in them; it passes none on."""

    def __init__(self) -> None:
        self.lines = 0
        self.found: list[str] = []

    def __call__(self, record: logging.LogRecord) -> bool:
        self.lines += 1
        text = record.getMessage()
        if any(secret in text for secret in SECRETS):
            self.found.append(text)
        return False


@pytest.fixture
def debug_lines() -> Iterator[Leaks]:
    """Read the DEBUG lines of the delivery, without keeping tens of thousands of them."""
    logger, leaks = logging.getLogger("salesmachine_async.delivery"), Leaks()
    logger.addFilter(leaks)
    yield leaks
    logger.removeFilter(leaks)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def timers() -> int:
    loop: Any = asyncio.get_running_loop()
    return len([timer for timer in loop._scheduled if not timer.cancelled()])


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts file descriptors in /proc")
@pytest.mark.usefixtures("untraced")
async def test_ten_thousand_refused_connections_leave_nothing_behind(
    closed_port: int, caplog: pytest.LogCaptureFixture, debug_lines: Leaks
) -> None:
    """10,000 failed requests leave no descriptor, task, timer or memory, and write few lines without secrets."""
    agent = Agent(
        "TOPSECRETTOKEN",
        "TOPSECRETSECRET",
        base_url=f"http://127.0.0.1:{closed_port}",
        concurrency=4,
        retry=Retry(wait_initial=1e-6, wait_max=1e-6),
        batching=Batching(max_messages=10),
        timeouts=Timeouts(close=0.1),
    )
    with caplog.at_level(logging.DEBUG, logger="salesmachine_async"):
        tasks, open_files = len(asyncio.all_tasks()), descriptors()
        async with agent:
            for number in range(100):  # each may become a batch of its own, but no more
                agent.track(f"u{number}", "e", {"x": "PAYLOAD"})
            await _until_requests(agent, 500)
            during, running, armed = _allocated(), len(asyncio.all_tasks()), timers()
            await _until_requests(agent, 10_000)
            # One block left behind by each request would be 9,500 of them.
            assert _allocated() - during < 2000
            assert len(asyncio.all_tasks()) <= running + 4
            assert timers() <= armed + 12
            assert descriptors() <= open_files + 12
        await asyncio.sleep(0)
        assert (len(asyncio.all_tasks()), descriptors()) == (tasks, open_files)
        assert timers() == 0
    assert 1 <= len(caplog.records) < 20
    assert not any(secret in caplog.text for secret in SECRETS)
    assert debug_lines.lines > 30_000
    assert not debug_lines.found
    assert sum(agent.stats().lost.values()) == 100


async def _until_requests(agent: Agent, number: int) -> None:
    while agent.stats().requests < number:
        await asyncio.sleep(0.005)


def _allocated() -> int:
    gc.collect()
    return sys.getallocatedblocks()


async def test_an_outage_with_a_full_queue_heals_and_delivers_everything() -> None:
    """The server is away while the queue fills up; when it is back, all that was kept arrives."""
    async with Sandbox() as sandbox:
        port = int(sandbox.url.rpartition(":")[2])
    agent = Agent(
        "token",
        base_url=f"http://127.0.0.1:{port}",
        retry=Retry(wait_initial=0.01, wait_max=0.05),
        queue=QueueLimits(max_messages=5000),
    )
    async with agent:
        accepted = sum(agent.track("u", "e", {"n": number}) for number in range(6000))
        assert (accepted, sum(agent.stats().dropped.values())) == (5000, 1000)
        assert (await agent.flush(timeout=0.1)).pending == 5000
        async with Sandbox(port=port) as sandbox:
            assert (await agent.flush()).delivered == 5000
            assert [event["params"]["n"] for event in sandbox.events("token")] == list(range(5000))


@pytest.mark.parametrize("outcome", [BROKEN, answer(500), answer(429), answer(401), answer(400)])
async def test_no_error_holds_on_to_what_was_sent(outcome: Any) -> None:
    """An error in stats, hooks and reports has no traceback and no cause that could hold a frame, and so a message."""
    async with Agent(
        transport=Carrier([outcome] * 2), retry=Retry(wait_initial=30), timeouts=Timeouts(close=0)
    ) as agent:
        agent.track("u", "e")
        await agent.flush(timeout=0.01)
        error = agent.stats().last_error
        assert error is not None
        assert error.__traceback__ is None
        assert error.__cause__ is None
        assert error.__context__ is None
