"""Relays that freeze, start, end and lose their connections, and servers that die: still in order, and nothing lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.asyncio import Redis

from salesmachine_async import Agent, Batching, Outcome
from salesmachine_async._core.batch import Batch
from salesmachine_async.engines.redis import RedisEngine, RedisTransport
from salesmachine_async.engines.redis.engine import RedisLease
from salesmachine_async.engines.redis.keys import Keys
from salesmachine_async.relay import Relay, RelayState, RelayStatus
from tests.support.carriers import Carrier
from tests.support.redis_servers import Between, RedisServer
from tests.support.relays import FAST, QUICK, Producer, check, drained, publish, relaying
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.one_python]

# It outlasts the requests of QUICK, and is short enough to wait for.
LEASE = 0.9


class Freezing(RedisEngine):
    """
    The engine of a relay that is frozen, as by SIGSTOP, right after a step has succeeded.

    Attributes:
        at: The name of the step.
        frozen: Set when it is.
        thawed: Set by the test.
    """

    def __init__(self, url: str, name: str, at: str) -> None:
        super().__init__(url, name=name, lease=LEASE)
        self.at = at
        self.frozen, self.thawed = asyncio.Event(), asyncio.Event()

    async def freeze(self, step: str) -> None:
        """Freeze if this is the step; then every call waits until it is thawed."""
        if step == self.at:
            self.frozen.set()
        if self.frozen.is_set():
            await self.thawed.wait()

    async def _run(self, *arguments: Any) -> Any:
        await self.freeze("")
        return await super()._run(*arguments)

    async def acquire(self, partition: int) -> RedisLease | None:
        lease = await super().acquire(partition)
        if lease is not None:
            await self.freeze("acquire")
        return lease

    async def fetch(self, lease: RedisLease, **options: Any) -> Any:
        entries = await super().fetch(lease, **options)
        if entries:
            await self.freeze("fetch")
        return entries

    async def permit(self, lease: RedisLease, *settled: Any, **options: Any) -> float:
        pause = await super().permit(lease, *settled, **options)
        await self.freeze("permit")
        return pause


@pytest.mark.parametrize("at", ["acquire", "fetch", "permit"])
async def test_a_relay_that_was_frozen_beyond_its_lease(server: RedisServer, name: str, at: str) -> None:
    """A relay that wakes after its lease sends nothing, because another relay has delivered all."""
    await publish(server.url, name, 200)
    frozen, other = Carrier(), Carrier()
    engine = Freezing(server.url, name, at)
    async with relaying(server.url, name, frozen, engine=engine):
        await engine.frozen.wait()
        async with relaying(server.url, name, other) as relay:
            await until(lambda: relay.stats().delivered > 0)
            await drained(relay)
            engine.thawed.set()
            await asyncio.sleep(LEASE / 2)  # time to do harm
            check(other.delivered, 200)
            assert frozen.attempts == []


class Counting(RedisEngine):
    """
    The engine of a relay whose heartbeats are counted.

    Attributes:
        beats: Their number.
    """

    beats = 0

    async def members(self, status: RelayStatus) -> Sequence[str]:
        self.beats += 1
        return await super().members(status)


async def shared_out(relays: dict[Relay, Counting], shares: list[int]) -> int:
    """Wait until the relays own these numbers of partitions; returns the most heartbeats of one of them by then."""
    before = {engine: engine.beats for engine in relays.values()}
    await until(lambda: sorted(len(relay.stats().partitions) for relay in relays) == shares)
    return max(engine.beats - before[engine] for engine in relays.values())


async def test_shares_follow_the_number_of_relays(server: RedisServer, name: str) -> None:
    """One, three and one relays own fair shares within a few heartbeats, and keep the order under load."""
    delivered: list[dict[str, Any]] = []
    carriers = [Carrier(takes=0.002) for _ in range(3)]
    engines = [Counting(server.url, name=name, lease=3) for _ in range(3)]
    for carrier in carriers:
        carrier.delivered = delivered
    producer = Producer(server.url, name, partitions=8)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(relaying(server.url, name, carriers[0], engine=engines[0]))
        async with producer:
            await until(lambda: len(first.stats().partitions) == 8)
            async with (
                relaying(server.url, name, carriers[1], engine=engines[1]) as second,
                relaying(server.url, name, carriers[2], engine=engines[2]) as third,
            ):
                relays = (first, second, third)
                # They become known in one heartbeat, the first gives its surplus back in the next, and they take it.
                assert await shared_out(dict(zip(relays, engines, strict=True)), [2, 3, 3]) <= 8
                await until(lambda: all(carrier.attempts for carrier in carriers))
            # The others have given theirs back, and have left the list of relays.
            assert await shared_out({first: engines[0]}, [8]) <= 3
        await drained(first)
    check(delivered, producer.count)


async def test_a_server_that_is_too_slow_for_a_while(server: RedisServer, name: str) -> None:
    """A relay whose calls all time out, although they are executed, gives way to another one, and recovers."""
    delivered: list[dict[str, Any]] = []
    slowed, other = Carrier(takes=0.002), Carrier(takes=0.002)
    slowed.delivered = other.delivered = delivered
    async with Between(server) as between:
        engine = RedisEngine(between.url, name=name, lease=LEASE)
        producer = Producer(server.url, name)
        async with relaying(server.url, name, slowed, engine=engine) as first:
            async with producer, relaying(server.url, name, other) as second:
                await until(lambda: first.stats().delivered > 100 and len(second.stats().partitions) == 2)
                between.delay = LEASE / 2  # a call may take a third of a lease
                await until(lambda: not first.stats().partitions)
                assert "did not answer in time" in str(first.stats().last_error)
                assert first.stats().state is RelayState.DISCONNECTED
                await until(lambda: len(second.stats().partitions) == 4)
                between.delay = 0.0
                await until(lambda: len(first.stats().partitions) == 2)
            await drained(first)
    # At most what each partition had under way and not settled.
    check(delivered, producer.count, repeated=4 * 100)


async def test_an_agent_whose_server_is_too_slow_for_a_while(
    server: RedisServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publications that time out are repeated, and recognized where they were executed nevertheless."""
    monkeypatch.setattr("salesmachine_async.engines.redis.transport.TIMEOUT", 0.2)
    carrier = Carrier()
    async with Between(server) as between:
        transport = RedisTransport(between.url, name=name, partitions=4)
        async with Agent(transport=transport, batching=Batching(max_messages=5, linger=0.01), retry=FAST) as agent:
            for number in range(200):
                agent.track(f"u{number % 9}", "e", {"i": number})
                if number == 50:
                    assert (await agent.flush()).ok
                    between.delay = 0.3
            await until(lambda: "did not answer in time" in str(agent.stats().last_error))
            between.delay = 0.0
            assert (await agent.flush()).ok
    async with relaying(server.url, name, carrier) as relay:
        await drained(relay)
    check(carrier.delivered, 200)


async def test_a_relay_that_lost_the_server_for_longer_than_its_lease(server: RedisServer, name: str) -> None:
    """A relay whose leases ended gives way to another, and then takes a share of its own again."""
    delivered: list[dict[str, Any]] = []
    cut_off, other = Carrier(takes=0.002), Carrier(takes=0.002)
    cut_off.delivered = other.delivered = delivered
    async with Between(server) as between:
        engine = RedisEngine(between.url, name=name, lease=LEASE)
        producer = Producer(server.url, name)
        async with relaying(server.url, name, cut_off, engine=engine) as first:
            async with producer, relaying(server.url, name, other) as second:
                await until(lambda: first.stats().delivered > 100 and len(second.stats().partitions) == 2)
                between.darken()
                await until(lambda: len(second.stats().partitions) == 4 and not first.stats().partitions)
                between.lighten()
                await until(lambda: len(first.stats().partitions) == 2)
            await drained(first)
    # At most what each partition had under way and not settled.
    check(delivered, producer.count, repeated=4 * 100)


async def test_answers_that_get_lost(server: RedisServer, name: str) -> None:
    """Messages arrive once and in order although every tenth answer of the server is cut off."""
    rng = random.Random(2)
    await publish(server.url, name, 1000, entry=4)
    carrier = Carrier()
    async with Between(server) as between:
        between.cut = lambda _: rng.random() < 0.1
        engine = RedisEngine(between.url, name=name, lease=20)
        async with relaying(server.url, name, carrier, engine=engine, batching=Batching(max_messages=20, linger=0.01)):
            probe = RedisEngine(server.url, name=name)
            while (await probe.lag()).messages:
                await asyncio.sleep(0.005)
            await probe.aclose()
            between.cut = lambda _: False
        assert between.cuts > 5
    check(carrier.delivered, 1000)


async def test_a_server_that_is_killed_again_and_again(start_server: Callable[..., RedisServer], name: str) -> None:
    """Agents and relays survive a killed server; an append-only file keeps messages and order."""
    server = start_server("--appendonly", "yes", "--appendfsync", "no")
    carrier = Carrier(takes=0.002)
    transport = RedisTransport(server.url, name=name, partitions=4)
    async with Agent(transport=transport, batching=Batching(max_messages=5, linger=0.01), retry=FAST) as agent:
        agent.track("u0", "e", {"i": 0})
        assert (await agent.flush()).ok
        async with relaying(server.url, name, carrier) as relay:
            for number in range(1, 2001):
                agent.track(f"u{number % 9}", "e", {"i": number})
                if number % 400 == 0:
                    await until(lambda: relay.stats().delivered > number / 2)  # noqa: B023
                    server.kill()
                    await until(lambda: relay.stats().last_error)
                    server.start()
            assert (await agent.flush()).ok
            await drained(relay)
    # At most what was under way and not settled, each time.
    check(carrier.delivered, 2001, repeated=5 * 4 * 100)


async def test_a_server_that_forgets_everything(start_server: Callable[..., RedisServer], name: str) -> None:
    """Leases and groups are created again after FLUSHALL, and later messages are delivered."""
    server = start_server()
    carrier = Carrier()
    transport = RedisTransport(server.url, name=name, partitions=2)
    async with Agent(transport=transport, batching=Batching(linger=0), retry=FAST) as agent:
        agent.track("u1", "e", {"i": 0})
        await agent.flush()
        async with relaying(server.url, name, carrier) as relay, Redis.from_url(server.url) as client:
            await until(lambda: relay.stats().delivered == 1)
            await client.flushall()
            await until(lambda: relay.stats().leases_lost == 2)
            for number in range(1, 50):
                agent.track(f"u{number % 9}", "e", {"i": number})
            await until(lambda: relay.stats().delivered == 50)
    check(carrier.delivered, 50)


async def test_a_relay_that_starts_after_the_server_has_forgotten_everything(
    start_server: Callable[..., RedisServer], name: str
) -> None:
    """A running agent makes the queue anew after FLUSHALL, with its first batch, so that a new relay finds it."""
    server = start_server()
    carrier = Carrier()
    transport = RedisTransport(server.url, name=name, partitions=3)
    async with Agent(transport=transport, batching=Batching(linger=0), retry=FAST) as agent:
        agent.track("u", "e", {"i": 0})
        assert (await agent.flush()).ok
        async with Redis.from_url(server.url) as client:
            await client.flushall()
        for number in range(1, 50):
            agent.track(f"u{number % 9}", "e", {"i": number})
        assert (await agent.flush()).ok
        async with relaying(server.url, name, carrier) as relay:
            await until(lambda: relay.stats().delivered == 49)
            assert relay.stats().partitions == (0, 1, 2)


async def test_a_relay_restores_the_queue(start_server: Callable[..., RedisServer], name: str) -> None:
    """A running relay makes the queue anew after FLUSHALL, so that another finds it before any agent publishes."""
    server = start_server()
    await publish(server.url, name, 1, partitions=2)
    carrier, other_carrier = Carrier(), Carrier()
    async with relaying(server.url, name, carrier) as first, Redis.from_url(server.url) as client:
        await drained(first)
        await client.flushall()
        async with relaying(server.url, name, other_carrier) as second:
            await until(lambda: sorted([first.stats().partitions, second.stats().partitions]) == [(0,), (1,)])


async def test_a_queue_that_is_made_anew_with_fewer_streams(
    start_server: Callable[..., RedisServer], name: str
) -> None:
    """Running agents and relays adopt the number of streams that another agent has fixed after FLUSHALL."""
    server = start_server()
    carrier = Carrier()
    transport = RedisTransport(server.url, name=name, partitions=4)
    async with Agent(transport=transport, batching=Batching(linger=0), retry=FAST) as agent:
        for number in range(50):
            agent.track(f"u{number % 9}", "e", {"i": number})
        assert (await agent.flush()).ok
        async with relaying(server.url, name, carrier) as relay, Redis.from_url(server.url) as client:
            await drained(relay)
            assert relay.stats().partitions == (0, 1, 2, 3)
            async with client.pipeline(transaction=True) as at_once:
                at_once.flushall()
                at_once.hset(Keys(name).meta, mapping={"version": "1", "partitions": "2"})
                await at_once.execute()
            for number in range(50, 100):
                agent.track(f"u{number % 9}", "e", {"i": number})
            assert (await agent.flush()).ok
            await until(lambda: relay.stats().delivered == 100 and relay.stats().partitions == (0, 1))
    check(carrier.delivered, 100)


async def test_a_relay_may_start_before_the_server_and_the_queue(
    start_server: Callable[..., RedisServer], name: str
) -> None:
    """A relay waits for the server and the queue."""
    server = start_server()
    server.kill()
    carrier = Carrier()
    async with relaying(server.url, name, carrier) as relay:
        await until(lambda: relay.stats().last_error)
        server.start()
        await until(lambda: relay.stats().relays == 1)
        await publish(server.url, name, 20)
        await until(lambda: relay.stats().delivered == 20)


async def test_a_transport_that_hangs_does_not_block_the_end(server: RedisServer, name: str) -> None:
    """A request that never ends is abandoned at the deadline, and its entries are left to another relay."""
    await publish(server.url, name, 10, partitions=1)
    under_way = asyncio.Event()

    class Hanging(Carrier):
        async def send(self, batch: Batch) -> Outcome:
            under_way.set()
            await asyncio.Event().wait()
            raise AssertionError

    async with relaying(server.url, name, Hanging()):
        await under_way.wait()
    carrier = Carrier()
    async with relaying(server.url, name, carrier) as relay:
        await drained(relay)
    check(carrier.delivered, 10)


async def test_a_relay_whose_task_is_cancelled_gives_back_what_it_has(server: RedisServer, name: str) -> None:
    """A cancelled relay gives back its leases, and the next relay continues at once."""
    await publish(server.url, name, 300)
    first, second = Carrier(takes=0.01), Carrier()
    relay = Relay(RedisEngine(server.url, name=name), first, timeouts=QUICK)
    running = asyncio.create_task(relay.run())
    await until(lambda: relay.stats().delivered > 0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with relaying(server.url, name, second) as other:
        await drained(other)
    check(first.delivered + second.delivered, 300)
