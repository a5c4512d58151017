"""The owner's steps: fenced, idempotent, and without a gap when an answer is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from redis.asyncio import Redis

from salesmachine_async import ConfigError, DeliveryError, RequestTimeout
from salesmachine_async._core.batch import Batch
from salesmachine_async.engines.redis import RedisEngine, RedisTransport
from salesmachine_async.engines.redis.engine import RedisLease
from salesmachine_async.engines.redis.keys import Keys
from salesmachine_async.relay import DeadLetter, Entry, LeaseLost, RelayStatus
from tests.support.redis_servers import Between, RedisServer

pytestmark = pytest.mark.slow

ALL = {"messages": 10**6, "size": 10**9}


async def publish(url: str, name: str, *numbers: int) -> None:
    """Publish a batch for each number."""
    transport = RedisTransport(url, name=name, partitions=1)
    for number in numbers:
        outcome = await transport.send(Batch.of_lines([b'{"contact_uid":"u","n":%d}' % number]))
        assert outcome.error is None
    await transport.aclose()


@asynccontextmanager
async def engine_of(url: str, name: str, **options: float) -> AsyncIterator[RedisEngine]:
    """An engine that is started."""
    engine = RedisEngine(url, name=name, **options)  # type: ignore[arg-type]
    try:
        await engine.start()
        yield engine
    finally:
        await engine.aclose()


@asynccontextmanager
async def owning(url: str, name: str, **options: float) -> AsyncIterator[tuple[RedisEngine, RedisLease]]:
    """An engine, and its lease of the only partition."""
    async with engine_of(url, name, **options) as engine:
        lease = await engine.acquire(0)
        assert lease is not None
        yield engine, lease


def numbers(entries: object) -> list[int]:
    """The numbers of the messages."""
    assert isinstance(entries, list)
    return [m["n"] for each in entries for m in Batch(each.body, each.count).messages()]


def letter(number: int) -> DeadLetter:
    """A dead letter to be stored."""
    line = b'{"contact_uid":"u","n":%d}' % number
    return DeadLetter(partition=0, reason="rejected", status=400, error="no", server_message="bad", line=line)


async def test_one_owner_at_a_time(server: RedisServer, name: str) -> None:
    """A partition with an owner is not acquired, and one that was given back is."""
    await publish(server.url, name, 1)
    async with owning(server.url, name) as (engine, lease), engine_of(server.url, name) as other:
        assert 29 < lease.left <= 30
        assert await other.acquire(0) is None
        await engine.release(lease)
        assert lease.left <= 0
        taken = await other.acquire(0)
        assert taken is not None
        await engine.release(lease)  # of a partition that another owns
        with pytest.raises(LeaseLost):
            await engine.fetch(lease, **ALL)
        assert numbers(await other.fetch(taken, **ALL)) == [1]


async def test_a_former_owner_can_do_nothing(server: RedisServer, name: str) -> None:
    """A relay frozen beyond its lease cannot read, settle or send, and takes nothing from the group."""
    await publish(server.url, name, 1, 2, 3)
    async with owning(server.url, name) as (engine, lease), engine_of(server.url, name) as other:
        (first,) = await engine.fetch(lease, messages=1, size=10**6)
        async with Redis.from_url(server.url) as client:
            await client.delete(Keys(name).owner(0))  # as if the lease had ended
        taken = await other.acquire(0)
        assert taken is not None
        calls: list[Callable[[], object]] = [
            lambda: engine.fetch(lease, **ALL),
            lambda: engine.fetch(lease, messages=0, size=0),
            lambda: engine.settle(lease, [first], [letter(1)]),
            lambda: engine.permit(lease),
        ]
        for call in calls:
            with pytest.raises(LeaseLost):
                await call()  # type: ignore[misc]
            assert lease.left <= 0
        assert await other.dead_letters() == []
        assert numbers(await other.fetch(taken, **ALL)) == [1]  # what was read and not settled comes first
        assert numbers(await other.fetch(taken, **ALL)) == [2, 3]


async def test_a_lease_ends_by_itself(server: RedisServer, name: str) -> None:
    """The partition of a dead relay is free once its lease has ended."""
    await publish(server.url, name, 1)
    async with owning(server.url, name, lease=1.0) as (_, lease), engine_of(server.url, name) as other:
        while (taken := await other.acquire(0)) is None:
            await asyncio.sleep(0.01)
        assert lease.left <= 0
        assert numbers(await other.fetch(taken, **ALL)) == [1]


async def test_entries_stay_until_they_are_settled(server: RedisServer, name: str) -> None:
    """The next owner reads the unsettled entries in order, and then the new ones."""
    await publish(server.url, name, *range(6))
    async with owning(server.url, name) as (engine, lease):
        entries = await engine.fetch(lease, messages=4, size=10**6)
        assert numbers(entries) == [0, 1, 2, 3]
        await engine.settle(lease, entries[1:2], [])
        await engine.release(lease)
    async with owning(server.url, name) as (engine, lease):
        assert numbers(await engine.fetch(lease, messages=2, size=10**6)) == [0, 2]
        assert numbers(await engine.fetch(lease, messages=2, size=10**6)) == [3]
        assert numbers(await engine.fetch(lease, **ALL)) == [4, 5]
        assert await engine.fetch(lease, **ALL) == []


async def test_reading_is_bounded(server: RedisServer, name: str) -> None:
    """A fetch ends once it has enough messages, or enough bytes."""
    await publish(server.url, name, *range(6))
    async with owning(server.url, name) as (engine, lease):
        assert numbers(await engine.fetch(lease, messages=2, size=10**6)) == [0, 1]
        assert numbers(await engine.fetch(lease, messages=10**6, size=1)) == [2]
        assert await engine.fetch(lease, messages=0, size=10**6) == ()
        assert numbers(await engine.fetch(lease, **ALL)) == [3, 4, 5]


@pytest.mark.parametrize("fails", [False, True], ids=["the client repeats it", "the call fails"])
async def test_an_answer_that_gets_lost_is_read_again(server: RedisServer, name: str, fails: bool) -> None:
    """Entries of a lost answer are read next, before newer ones, and entries in hand are not read again."""
    await publish(server.url, name, *range(8))
    async with Between(server) as between, owning(between.url, name) as (engine, lease):
        assert numbers(await engine.fetch(lease, messages=2, size=10**6)) == [0, 1]
        between.cut = lambda data: fails if between.cuts else b'"n":2' in data
        if fails:
            with pytest.raises(DeliveryError):
                await engine.fetch(lease, messages=2, size=10**6)
            between.cut = lambda _: False
        seen: list[int] = []
        while len(seen) < 6:
            seen += numbers(await engine.fetch(lease, messages=2, size=10**6))
        assert seen == [2, 3, 4, 5, 6, 7]
        assert between.cuts >= 1


async def test_what_is_settled_while_it_is_read_does_not_come_again(server: RedisServer, name: str) -> None:
    """Entries that are settled during a read are not returned by it."""
    await publish(server.url, name, 1, 2)
    async with (
        Between(server) as between,
        owning(between.url, name) as (engine, lease),
        engine_of(server.url, name) as other,  # another connection of the same relay
    ):
        entries = await engine.fetch(lease, messages=1, size=10**6)
        lease.history = "0"  # as after an answer that was lost
        between.hold(b'"n":1')
        reading = asyncio.create_task(engine.fetch(lease, **ALL))
        await between.held.wait()
        await other.settle(lease, entries, [])
        between.lighten()
        assert numbers(await reading) == [2]


async def test_a_lost_answer_to_an_acquisition(server: RedisServer, name: str) -> None:
    """A partition is owned at the next attempt after a lost answer, before the lease ends."""
    await publish(server.url, name, 1)
    async with Between(server) as between, engine_of(between.url, name) as engine:
        between.cut = lambda _: True
        with pytest.raises(DeliveryError):
            await engine.acquire(0)
        between.cut = lambda _: False
        lease = await engine.acquire(0)
        assert lease is not None
        assert numbers(await engine.fetch(lease, **ALL)) == [1]


async def test_dead_letters_are_stored_once(server: RedisServer, name: str) -> None:
    """A settlement repeated after a lost answer stores and removes nothing twice."""
    await publish(server.url, name, 1, 2)
    async with Between(server) as between, owning(between.url, name) as (engine, lease):
        entries = await engine.fetch(lease, **ALL)
        between.cut = lambda _: True
        with pytest.raises(DeliveryError):
            await engine.settle(lease, entries, [letter(1)])
        between.cut = lambda _: False
        await engine.settle(lease, entries, [letter(1)])
        await engine.settle(lease, [], [])
        (stored,) = await engine.dead_letters()
        assert (stored.reason, stored.status, stored.error, stored.server_message) == ("rejected", 400, "no", "bad")
        assert stored.message() == {"contact_uid": "u", "n": 1}
        assert stored.relay == engine.relay
        (status,) = (await engine.lag()).partitions
        assert (status.messages, status.entries, status.bytes, status.dead) == (0, 0, 0, 1)


async def test_dead_letters_are_retried_and_purged(server: RedisServer, name: str) -> None:
    """A retry appends a dead letter to its partition once, and a purge removes it."""
    await publish(server.url, name, 1, 2)
    async with owning(server.url, name) as (engine, lease):
        await engine.settle(lease, await engine.fetch(lease, **ALL), [letter(1), letter(2)])
        first, second = await engine.dead_letters(partition=0)
        assert await engine.dead_letters(count=1) == [first]
        assert await engine.dead_letter(0, second.id) == second
        assert await engine.dead_letter(0, "1-1") is None
        assert await engine.retry_dead([first, first]) == 1
        assert await engine.purge_dead([second, second]) == 1
        assert await engine.dead_letters() == []
        (status,) = (await engine.lag()).partitions
        assert (status.messages, status.entries, status.dead) == (1, 1, 0)
        assert numbers(await engine.fetch(lease, **ALL)) == [1]


async def test_an_entry_that_no_agent_has_written_is_damaged(server: RedisServer, name: str) -> None:
    """A foreign entry in the stream is read as damaged, and can be settled."""
    await publish(server.url, name, 1)
    queue = Keys(name).queue(0)
    async with Redis.from_url(server.url) as client, owning(server.url, name) as (engine, lease):
        await client.xadd(queue, {"hello": "world"})
        await client.xadd(queue, {"v": "1", "e": "/v1/nowhere", "n": "x", "b": "["})
        _, foreign, broken = await engine.fetch(lease, **ALL)
        assert (foreign.count, broken.count, broken.body) == (0, 0, b"[")
        assert b"hello" in foreign.body
        await engine.settle(lease, [foreign, broken], [])
        (status,) = (await engine.lag()).partitions
        assert (status.entries, status.messages, status.bytes > 100) == (1, 1, True)


async def test_an_entry_that_was_deleted_is_passed_over(server: RedisServer, name: str) -> None:
    """An entry that was read and then deleted by hand does not end the reading of the others."""
    await publish(server.url, name, 1, 2, 3)
    async with owning(server.url, name) as (engine, lease):
        entries = await engine.fetch(lease, **ALL)
        async with Redis.from_url(server.url) as client:
            await client.xdel(Keys(name).queue(0), entries[0].id, entries[1].id)
        await engine.release(lease)
    async with owning(server.url, name) as (engine, lease):
        assert numbers(await engine.fetch(lease, **ALL)) == [3]


async def test_a_group_that_was_deleted_comes_back(server: RedisServer, name: str) -> None:
    """Without its group, the stream is read from its beginning, without what is in hand."""
    await publish(server.url, name, 1, 2)
    async with owning(server.url, name) as (engine, lease):
        assert numbers(await engine.fetch(lease, messages=1, size=10**6)) == [1]
        async with Redis.from_url(server.url) as client:
            await client.xgroup_destroy(Keys(name).queue(0), "relay")
        assert numbers(await engine.fetch(lease, **ALL)) == [2]


async def test_waiting_ends_with_an_entry(server: RedisServer, name: str) -> None:
    """A fetch that waits returns the entry that is published."""
    await publish(server.url, name, 1)
    async with owning(server.url, name) as (engine, lease):
        assert numbers(await engine.fetch(lease, **ALL)) == [1]
        waiting = asyncio.create_task(engine.fetch(lease, **ALL, wait=30))
        await publish(server.url, name, 2)
        seen: list[Entry] = []
        while not seen:
            seen += await waiting
            waiting = asyncio.create_task(engine.fetch(lease, **ALL, wait=30))
        waiting.cancel()
        assert numbers(seen) == [2]


async def test_a_pause_is_only_prolonged(server: RedisServer, name: str) -> None:
    """A pause holds back every relay, and a shorter one does not end it."""
    await publish(server.url, name, 1)
    async with owning(server.url, name) as (engine, lease), engine_of(server.url, name) as other:
        assert await engine.permit(lease) == 0.0
        await other.pause(100)
        await other.pause(1)
        assert 90 < await engine.permit(lease) <= 100
        assert 90 < (await engine.lag()).pause_seconds <= 100


async def test_the_rate_is_shared(server: RedisServer, name: str) -> None:
    """Two relays together get as many permits a second as the rate allows."""
    await publish(server.url, name, 1)
    async with owning(server.url, name) as (engine, lease), engine_of(server.url, name) as other:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await engine.release(lease)
        lease = await engine.acquire(0) or lease

        async def ask(each: RedisEngine, times: int) -> None:
            for _ in range(times):
                # The other owns nothing: only the fenced renewal at the end fails.
                with suppress(LeaseLost):
                    assert await each.permit(lease, rate=100) == 0.0

        await asyncio.gather(ask(engine, 15), ask(other, 15))
        assert loop.time() - began >= 29 * 0.01 * 0.9


async def test_members_are_the_living_ones(server: RedisServer, name: str) -> None:
    """A relay is a member from its heartbeat until it leaves or is silent for a third of a lease."""
    async with engine_of(server.url, name, lease=1.5) as short, engine_of(server.url, name) as other:
        await other.create(2)
        mine = RelayStatus(relay=other.relay, state="open", partitions=(0, 1), delivered=7, last_error="no")
        assert await short.members(RelayStatus(relay=short.relay)) == [short.relay]
        assert short.partitions == 2
        assert set(await other.members(mine)) >= {other.relay}
        while len(await other.members(mine)) > 1:
            await asyncio.sleep(0.01)
        status = await other.lag()
        assert status.relays == (mine,)
        assert [each.owner for each in status.partitions] == [None, None]
        await other.leave()
        assert (await other.lag()).relays == ()


async def test_a_relay_works_at_maxmemory(start_server: Callable[..., RedisServer], name: str) -> None:
    """Every step of a new relay works on a full server, so that the server can be drained."""
    server = start_server()
    await publish(server.url, name, 1, 2)
    async with Redis.from_url(server.url) as client:
        await client.config_set("maxmemory", "1")
    async with engine_of(server.url, name) as engine:
        assert await engine.members(RelayStatus(relay=engine.relay)) == [engine.relay]
        lease = await engine.acquire(0)
        assert lease is not None
        entries = await engine.fetch(lease, **ALL)
        assert numbers(entries) == [1, 2]
        await engine.pause(0.001)
        while await engine.permit(lease, rate=1000):
            await asyncio.sleep(0.001)
        await engine.settle(lease, entries, [letter(1)])
        assert (await engine.lag()).dead == 1
        await engine.release(lease)
        await engine.leave()


async def test_a_server_that_hangs_is_noticed(start_server: Callable[..., RedisServer], name: str) -> None:
    """A call to a hanging server fails well before its lease ends, and succeeds once the server responds."""
    server = start_server()
    await publish(server.url, name, 1)
    async with Between(server) as between, owning(between.url, name, lease=3.0) as (engine, lease):
        between.darken()
        with pytest.raises(RequestTimeout):
            await engine.fetch(lease, **ALL)
        between.lighten()
        assert await engine.members(RelayStatus(relay=engine.relay))


async def test_a_cancellation_is_never_swallowed(server: RedisServer, name: str) -> None:
    """A pending call raises a cancellation at whatever moment it comes; redis-py alone loses some."""
    await publish(server.url, name, 1)
    async with owning(server.url, name) as (engine, lease):
        for turns in range(60):
            call = asyncio.create_task(engine.permit(lease))
            for _ in range(turns // 2):
                await asyncio.sleep(0)
            if not call.done():
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
        assert await engine.permit(lease) == 0.0


async def test_a_newer_layout_is_refused(server: RedisServer, name: str) -> None:
    """A queue of a newer version is an error and left unchanged."""
    async with Redis.from_url(server.url) as client:
        await client.hset(Keys(name).meta, mapping={"version": "2", "partitions": "4"})
    with pytest.raises(ConfigError, match="newer version"):
        async with engine_of(server.url, name):
            pass
    transport = RedisTransport(server.url, name=name)
    outcome = await transport.send(Batch.of_lines([b'{"contact_uid":"u"}']))
    assert "newer version" in str(outcome.error)
    await transport.aclose()


def test_no_url_is_shown(name: str) -> None:
    """The representation shows the queue and the relay, and not the URL."""
    engine = RedisEngine("redis://:hunter2@127.0.0.1/0", name=name, relay="r1")
    assert repr(engine) == f"<RedisEngine {name} | relay r1>"
