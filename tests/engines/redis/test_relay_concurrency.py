"""The requests of one relay at once: bounded, in turn, and without a place for what cannot be sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from salesmachine_async import Batching, Outcome, Retry
from salesmachine_async._core.batch import Batch
from salesmachine_async._core.partition import partition_of
from salesmachine_async.engines.redis import RedisEngine
from salesmachine_async.engines.redis.engine import RedisLease
from salesmachine_async.relay.worker import AHEAD
from tests.support.carriers import Carrier, answer
from tests.support.redis_servers import RedisServer
from tests.support.relays import check, drained, publish, relaying
from tests.support.waiting import until

pytestmark = pytest.mark.slow

PARTITIONS = 4  # each reads ahead AHEAD requests at most


def partition(messages: list[dict[str, Any]]) -> int:
    """The partition that these messages are of."""
    (found,) = {partition_of(message["contact_uid"], PARTITIONS) for message in messages}
    return found


class Gate(Carrier):
    """
    A server that answers once it is open.

    Attributes:
        open: Set by the test.
        at_once: The largest number of requests at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.at_once = 0
        self._inside = 0

    async def send(self, batch: Batch) -> Outcome:
        self._inside += 1
        self.at_once = max(self.at_once, self._inside)
        try:
            outcome = await super().send(batch)
            await self.open.wait()
        finally:
            self._inside -= 1
        return outcome


async def some_turns() -> None:
    """Let the event loop do what it can do without waiting."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_requests_at_once_are_bounded(server: RedisServer, name: str) -> None:
    """A relay of four partitions sends as many requests at once as it may, and no more."""
    await publish(server.url, name, 400, contacts=50)
    gate = Gate()
    async with relaying(server.url, name, gate, concurrency=2, batching=Batching(max_messages=10)) as relay:
        await until(lambda: relay.stats().in_hand > 3 * AHEAD * 10 and len(gate.attempts) == 2)
        await some_turns()
        assert len(gate.attempts) == 2
        gate.open.set()
        await drained(relay)
    check(gate.delivered, 400)
    assert gate.at_once == 2


async def test_partitions_take_turns(server: RedisServer, name: str) -> None:
    """With one request at a time, each partition that has something to send is next once in each round."""
    await publish(server.url, name, 400, entry=10, contacts=50)
    gate = Gate()
    async with relaying(server.url, name, gate, concurrency=1, batching=Batching(max_messages=10)) as relay:
        # Each partition waits for the place of the first.
        await until(lambda: len(relay.stats().partitions) == PARTITIONS and relay.stats().in_hand > 3 * AHEAD * 10)
        await some_turns()
        gate.open.set()
        await drained(relay)
    check(gate.delivered, 400)
    order = [partition(messages) for _, _, messages in gate.attempts]
    rounds = [set(order[at : at + PARTITIONS]) for at in range(1, 17, PARTITIONS)]
    assert rounds == [{*range(PARTITIONS)}] * 4


async def test_a_parked_partition_holds_no_place(server: RedisServer, name: str) -> None:
    """Partitions deliver in the only place while another one waits for its next probe."""
    await publish(server.url, name, 200, contacts=50)
    refused = 0

    def decide(batch: Batch) -> Outcome | None:
        nonlocal refused
        if batch.count and partition(batch.messages()) == 0:
            refused += batch.attempts == 1
            return answer(401)
        return None

    carrier = Carrier(decide=decide)
    retry = Retry(wait_initial=3600, wait_max=3600)
    async with relaying(server.url, name, carrier, concurrency=1, retry=retry) as relay:
        await until(lambda: refused)
        while (await relay.status()).messages > sum(partition([message]) == 0 for message in every(200)):
            await asyncio.sleep(0.005)
    assert {partition([message]) for message in carrier.delivered} == {1, 2, 3}


def every(count: int) -> list[dict[str, Any]]:
    """The contacts of so many messages of `publish`."""
    return [{"contact_uid": f"u{i % 50}"} for i in range(count)]


async def test_a_slow_server_is_waited_for_without_polling(server: RedisServer, name: str) -> None:
    """A few messages that wait behind a request that lasts cost the engine no calls."""
    await publish(server.url, name, 25, partitions=1)
    calls = 0

    class Counting(RedisEngine):
        async def fetch(self, lease: RedisLease, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            return await super().fetch(lease, **options)

    gate = Gate()
    engine = Counting(server.url, name=name)
    batching = Batching(max_messages=10, linger=0.001)
    async with relaying(server.url, name, gate, engine=engine, batching=batching) as relay:
        await until(lambda: relay.stats().in_hand == 25)
        before = calls
        for _ in range(100):  # a hundred answers of the engine to others
            await relay.status()
        assert calls - before < 10
        gate.open.set()
        await drained(relay)
    check(gate.delivered, 25)
