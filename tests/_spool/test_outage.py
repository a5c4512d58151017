"""An outage of an hour, on real files and virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from salesmachine_async import Agent, Batch, Outcome, QueueLimits, Spool, SpoolState
from tests.support.carriers import BROKEN, OK
from tests.support.spool import disk_usage
from tests.support.virtual import run
from tests.support.waiting import until

HOUR: Final = 3600
CONTACTS: Final = 7
MEMORY: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Server:
    """Is away at first, then checks that each contact's messages come once and in order."""

    def __init__(self) -> None:
        self.away = True
        self.delivered = 0
        self.following = [*range(CONTACTS)]

    async def send(self, batch: Batch) -> Outcome:
        if self.away:
            return BROKEN
        for message in batch.messages():
            number = message["params"]["n"]
            if number != self.following[number % CONTACTS]:
                raise AssertionError(f"{number} is lost, repeated or in disorder")
            self.following[number % CONTACTS] += CONTACTS
            self.delivered += 1
        return OK

    async def aclose(self) -> None:
        pass


async def outage(path: Path, rate: int, limits: QueueLimits, max_bytes: int, concurrency: int) -> None:
    """Track so many messages a second for an hour without a server; check the bounds each second."""
    server = Server()
    agent = Agent(
        transport=server,
        spool=Spool(path, max_bytes=max_bytes, sync=False),
        queue=limits,
        concurrency=concurrency,
    )
    async with agent:
        number = 0
        for second in range(HOUR):
            for _ in range(rate):
                assert agent.track(f"c{number % CONTACTS}", "e", {"n": number})
                number += 1
            await agent.sync()
            await asyncio.sleep(1)
            stats = agent.stats()
            assert (stats.accepted, stats.queued + stats.in_flight) == (number, number)
            assert agent._accumulator.fill() <= 1
            assert stats.queued_bytes - stats.spooled_bytes <= limits.max_bytes
            assert stats.spool is not None
            assert stats.spool.state is SpoolState.OPEN
            if second % 60 == 0:
                assert disk_usage(path) <= max_bytes
        assert stats.queued - stats.spooled <= 0.6 * limits.max_messages
        server.away = False
        report = await agent.flush()
        assert report.ok
        assert (report.delivered, server.delivered) == (number, number)
        assert agent.stats().spooled == 0
    # Virtual time does not wait for the spool's thread.
    await until(lambda: (spool := agent.stats().spool) is not None and spool.state is SpoolState.CLOSED)
    assert [each.name for each in path.iterdir()] == ["quota.lock"]


@pytest.mark.slow
@pytest.mark.one_python
@pytest.mark.timeout(300)
@pytest.mark.parametrize("concurrency", [1, 3])
def test_an_hour(concurrency: int, untraced: None) -> None:
    """Memory and disk keep their bounds, no call is dropped, and each contact's order is kept; all at a fiftieth."""
    with TemporaryDirectory(dir=MEMORY) as folder:
        limits = QueueLimits(max_messages=2000, max_bytes=2**20)
        run(outage(Path(folder) / "spool", 40, limits, 80 * 2**20, concurrency))
