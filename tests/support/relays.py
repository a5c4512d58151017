"""What the tests of relays share: publishing, running relays, and the check of what was delivered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Self

from salesmachine_async import Agent, Batching, Retry, Timeouts
from salesmachine_async._delivery.transport import Transport
from salesmachine_async.engines.redis import RedisEngine, RedisTransport
from salesmachine_async.relay import DeadLetter, Relay
from tests.support.waiting import until

FAST = Retry(wait_initial=0.005, wait_max=0.02)
# Outlasted by leases that a test can wait for.
QUICK = Timeouts(request=0.2)


async def publish(url: str, name: str, count: int, *, partitions: int = 4, entry: int = 5, contacts: int = 9) -> None:
    """Publish so many events, in entries of so many."""
    async with Agent(
        transport=RedisTransport(url, name=name, partitions=partitions),
        batching=Batching(max_messages=entry),
        retry=FAST,
    ) as agent:
        for i in range(count):
            agent.track(f"u{i % contacts}", "e", {"i": i})
        assert (await agent.flush()).ok


class Producer:
    """
    Publishes events for as long as it is entered.

    Args:
        url: Of the server.
        name: Of the queue.
        partitions: How many it has.
        entry: Messages in an entry, at most.
        contacts: Number of contacts of all producers together.
        part: Which of several producers this is, and how many there are: each has its own numbers, and contacts.
        least: How many it publishes at least, also after its end was requested.

    Attributes:
        count: How many were published.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        partitions: int = 4,
        entry: int = 5,
        contacts: int = 9,
        part: tuple[int, int] = (0, 1),
        least: int = 0,
    ) -> None:
        transport = RedisTransport(url, name=name, partitions=partitions)
        self.count = 0
        self._contacts = contacts
        self._first, self._step = part
        self._least = least
        self._agent = Agent(transport=transport, batching=Batching(max_messages=entry), retry=FAST)
        self._ending = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._agent.start()
        self._task = asyncio.create_task(self._publish())
        await until(lambda: self._agent.stats().delivered)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._ending = True
        await self._task
        assert (await self._agent.flush()).ok
        await self._agent.aclose()

    async def _publish(self) -> None:
        while not self._ending or self.count < self._least:
            for _ in range(10):
                number = self._first + self._step * self.count
                self._agent.track(f"u{number % self._contacts}", "e", {"i": number})
                self.count += 1
            await asyncio.sleep(0.005)

    def published(self) -> range:
        """The numbers of the events that were published."""
        return range(self._first, self._first + self._step * self.count, self._step)


@asynccontextmanager
async def relaying(
    url: str, name: str, carrier: Transport, *, engine: RedisEngine | None = None, **options: Any
) -> AsyncIterator[Relay]:
    """A relay that runs."""
    settings = {"batching": Batching(linger=0.02), "retry": FAST, "timeouts": QUICK, **options}
    relay = Relay(engine or RedisEngine(url, name=name), carrier, **settings)
    running = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        relay.stop()
        await running


def numbers(messages: Iterable[dict[str, Any]]) -> list[int]:
    """The numbers of the events."""
    return [message["params"]["i"] for message in messages]


def check(messages: list[dict[str, Any]], count: int, *, without: Iterable[int] = (), repeated: int = 0) -> None:
    """All were delivered, the first deliveries of each contact in order; so many at most were repeated."""
    check_numbers(messages, set(range(count)) - set(without), repeated=repeated)


def check_numbers(messages: list[dict[str, Any]], expected: set[int], *, repeated: int = 0) -> None:
    """These were delivered, the first deliveries of each contact in order; repetitions have the same ``messageId``."""
    assert set(numbers(messages)) == expected
    assert len({message["messageId"] for message in messages}) == len(expected)
    assert len(messages) - len(expected) <= repeated
    newest: dict[str, int] = {}
    seen: set[str] = set()
    for message in messages:
        if message["messageId"] not in seen:
            seen.add(message["messageId"])
            assert message["params"]["i"] > newest.get(message["contact_uid"], -1)
            newest[message["contact_uid"]] = message["params"]["i"]


async def drained(relay: Relay) -> None:
    """Return once nothing waits in the queue."""
    while (await relay.status()).messages:
        await asyncio.sleep(0.005)


async def dead_letters(url: str, name: str) -> list[DeadLetter]:
    """All dead letters of a queue."""
    engine = RedisEngine(url, name=name)
    try:
        return [*await engine.dead_letters()]
    finally:
        await engine.aclose()
