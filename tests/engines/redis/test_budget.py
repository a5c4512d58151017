"""Many agents, a few relays, and an API that has one budget for all of them."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from salesmachine_async import Agent, Batching, HttpTransport, Timeouts
from salesmachine_async.engines.redis import RedisEngine, RedisTransport
from salesmachine_async.relay import Relay, RelayState
from tests.support.redis_servers import RedisServer
from tests.support.relays import FAST, check, drained, relaying
from tests.support.servers import RawServer, Seen, answers, http
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.one_python]

AGENTS = 50
MESSAGES = 40
RELAYS = 4
RATE = 40.0
BURST = 5.0
# Seconds of a pause.
PAUSE = 0.3
# Milliseconds are the finest unit of the pause in the engine: a relay may begin so much sooner.
ROUNDING = 0.005
TIMEOUTS = Timeouts(request=5)


class Api:
    """
    An API with a budget of requests, which names a pause when it is used up.

    Attributes:
        delivered: The messages that it has accepted.
        pauses: The requests of each relay in each pause, the one that has begun it left out.
        retry_after: What it names, in seconds.
    """

    def __init__(self) -> None:
        self.delivered: list[dict[str, object]] = []
        self.pauses: list[Counter[str]] = []
        self.retry_after = PAUSE
        self._until = 0.0
        self._budget = BURST
        self._at: float | None = None

    def answer(self, seen: Seen) -> bytes:
        """Accept what is within the budget, and refuse every request until the end of the pause."""
        if seen.at < self._until:
            self.pauses[-1][relay_of(seen)] += 1
            return http(429, Retry_After=f"{self._until - seen.at:.3f}")
        self._budget = min(BURST, self._budget + RATE * (seen.at - (self._at or seen.at)))
        self._at = seen.at
        if self._budget < 1:
            self.pauses.append(Counter())
            self._until = seen.at + self.retry_after - ROUNDING
            return http(429, Retry_After=f"{self.retry_after:g}")
        self._budget -= 1
        self.delivered += seen.messages
        return http(200)

    def exhaust(self, retry_after: float) -> None:
        """Refuse the next request, and name this pause."""
        self.retry_after, self._budget, self._at = retry_after, 0.0, None


def relay_of(seen: Seen) -> str:
    """The relay that has sent a request: each has a token of its own."""
    return base64.b64decode(seen.headers["authorization"].removeprefix("Basic ")).decode().partition(":")[0]


async def publish(server: RedisServer, name: str) -> None:
    """Publish from fifty agents at once, each with its own contacts."""
    async with AsyncExitStack() as stack:
        agents = [
            await stack.enter_async_context(
                Agent(
                    transport=RedisTransport(server.url, name=name, partitions=RELAYS),
                    batching=Batching(max_messages=5),
                    retry=FAST,
                )
            )
            for _ in range(AGENTS)
        ]
        for i in range(AGENTS * MESSAGES):
            agents[i % AGENTS].track(f"u{i % AGENTS}", "e", {"i": i})
        for report in await asyncio.gather(*(agent.flush() for agent in agents)):
            assert report.ok


async def test_one_budget_of_fifty_agents(server: RedisServer, name: str) -> None:
    """In a pause each relay sends one request at most for each of its partitions; a long one outlives all relays."""
    await publish(server, name)
    api = Api()
    async with RawServer(then=answers(api.answer)) as raw:

        async def relays(stack: AsyncExitStack, *, first: int) -> list[Relay]:
            return [
                await stack.enter_async_context(
                    relaying(
                        server.url,
                        name,
                        HttpTransport(f"relay-{number}", "secret", base_url=raw.url, timeouts=TIMEOUTS),
                        engine=RedisEngine(server.url, name=name),
                        batching=Batching(max_messages=20, linger=0.01),
                        timeouts=TIMEOUTS,
                    )
                )
                for number in range(first, first + RELAYS)
            ]

        async with AsyncExitStack() as stack:
            running = await relays(stack, first=0)
            # Each has one partition from now on: then it has one request under way when the pause begins.
            await until(lambda: all(len(relay.stats().partitions) == 1 for relay in running))
            shared = len(api.pauses)
            await drained(running[0])
            assert len(api.pauses) > shared + 2
            for pause in api.pauses[shared:]:
                assert max(pause.values(), default=0) <= 1
            api.exhaust(3600.0)
            await publish(server, name)
            await until(lambda: all(relay.stats().state is RelayState.PAUSED for relay in running))
        requests = len(raw.seen)
        async with AsyncExitStack() as stack:
            running = await relays(stack, first=RELAYS)
            await until(lambda: all(relay.stats().state is RelayState.PAUSED for relay in running))
            assert (await running[0].status()).pause_seconds > 3500
        assert len(raw.seen) == requests
    check([*api.delivered], AGENTS * MESSAGES)
