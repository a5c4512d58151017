"""Relays as processes that are killed, ended and stopped, while agents publish and the API has its troubles."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from contextlib import AsyncExitStack
from typing import Any

import pytest

from salesmachine_async.engines.redis import RedisEngine
from tests.support.redis_servers import RedisServer
from tests.support.relays import Producer, check_numbers
from tests.support.servers import RawServer, Seen, answers, http

pytestmark = [pytest.mark.slow, pytest.mark.one_python]

LEASE = "2"
MESSAGES, CONTACTS, PRODUCERS = 40_000, 200, 4


class Fleet:
    """
    An API, and relays that deliver to it.

    Attributes:
        delivered: The messages that the API has accepted, in the order in which they came.
        relays: The processes.
    """

    def __init__(self, server: RedisServer, name: str, rng: random.Random) -> None:
        self.delivered: list[dict[str, Any]] = []
        self.relays: list[asyncio.subprocess.Process] = []
        self.engine = RedisEngine(server.url, name=name)
        self._server, self._name, self._rng = server, name, rng
        self._api = RawServer(then=answers(self._answer))

    def _answer(self, seen: Seen) -> bytes:
        """Accept most requests, and fail some as a real API does."""
        trouble = self._rng.random()
        if trouble < 0.03:
            return http(503)
        if trouble < 0.035:
            return http(429, Retry_After="0.05")
        self.delivered += seen.messages
        return http(200)

    async def begin(self) -> asyncio.subprocess.Process:
        """Start a relay."""
        command = ["-m", "tests.support.relay_process", self._server.url, self._name, self._api.url, LEASE]
        relay = await asyncio.create_subprocess_exec(sys.executable, *command)
        self.relays.append(relay)
        return relay

    async def owners(self) -> dict[str, list[int]]:
        """The partitions of each relay that owns any, by the number of its process."""
        found: dict[str, list[int]] = {}
        for each in (await self.engine.lag()).partitions:
            if each.owner is not None:
                found.setdefault(each.owner.split("-")[-2], []).append(each.partition)
        return found

    async def owned_by(self, *relays: asyncio.subprocess.Process) -> None:
        """Wait until each of these relays owns partitions, and together they own all of them."""
        names = {str(relay.pid) for relay in relays}
        while True:
            owners = await self.owners()
            if set(owners) == names and sum(map(len, owners.values())) == self.engine.partitions:
                return
            await asyncio.sleep(0.01)

    async def more(self, count: int) -> None:
        """Wait until so many more messages are delivered."""
        wanted = len(self.delivered) + count
        while len(self.delivered) < wanted:
            await asyncio.sleep(0.005)

    async def drained(self) -> None:
        """Wait until the queue is empty."""
        while (await self.engine.lag()).messages:
            await asyncio.sleep(0.01)

    async def __aenter__(self) -> Fleet:
        await self._api.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for relay in self.relays:
            if relay.returncode is None:
                relay.kill()
            await relay.wait()
        await self._api.aclose()
        await self.engine.aclose()


async def test_relays_that_are_killed_ended_and_stopped(server: RedisServer, name: str) -> None:
    """Of 40,000 messages none is lost, each contact's first deliveries are in order, and few messages are repeated."""
    producers = [
        Producer(
            server.url,
            name,
            partitions=8,
            entry=25,
            contacts=CONTACTS,
            part=(number, PRODUCERS),
            least=MESSAGES // PRODUCERS,
        )
        for number in range(PRODUCERS)
    ]
    async with Fleet(server, name, random.Random(1)) as fleet:
        async with AsyncExitStack() as publishing:
            for producer in producers:
                await publishing.enter_async_context(producer)
            first, second, third = [await fleet.begin() for _ in range(3)]
            await fleet.owned_by(first, second, third)
            await fleet.more(500)
            first.kill()
            await fleet.owned_by(second, third)
            await fleet.more(500)
            second.send_signal(signal.SIGSTOP)  # for longer than its lease
            fourth = await fleet.begin()
            await fleet.owned_by(third, fourth)
            await fleet.more(500)
            second.send_signal(signal.SIGCONT)
            await fleet.owned_by(second, third, fourth)
            third.send_signal(signal.SIGTERM)
            assert await third.wait() == 0
            fourth.send_signal(signal.SIGSTOP)  # for less than its lease
            await fleet.more(200)
            fourth.send_signal(signal.SIGCONT)
            await fleet.more(500)
            second.kill()
            await fleet.begin()
        await fleet.drained()
    published = {number for producer in producers for number in producer.published()}
    assert len(published) >= MESSAGES
    check_numbers(fleet.delivered, published, repeated=len(published) // 20)
