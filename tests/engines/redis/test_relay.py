"""Relays on a real server: order, nothing lost, and what they do about each answer of Salesmachine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from salesmachine_async import (
    Agent,
    Batching,
    ConfigError,
    ConnectionFailed,
    LossReason,
    Outcome,
    Retry,
    State,
    Timeouts,
)
from salesmachine_async._core.batch import Batch
from salesmachine_async.engines.redis import RedisEngine, RedisTransport
from salesmachine_async.engines.redis.engine import RedisLease
from salesmachine_async.engines.redis.keys import Keys
from salesmachine_async.relay import Relay, RelayState
from salesmachine_async.report import Endpoint
from tests.support.carriers import Carrier, answer
from tests.support.redis_servers import RedisServer
from tests.support.relays import FAST, QUICK, check, dead_letters, drained, numbers, publish, relaying
from tests.support.waiting import until

# Each needs a server of Redis, and some wait for a second for one to be away.
pytestmark = pytest.mark.slow


async def test_all_is_delivered_in_order(server: RedisServer, name: str) -> None:
    """Messages arrive once, and nothing is left on the server."""
    await publish(server.url, name, 500)
    carrier = Carrier()
    async with relaying(server.url, name, carrier) as relay:
        await drained(relay)
        stats, status = relay.stats(), await relay.status()
        assert (stats.state, stats.partitions, stats.delivered, stats.read) == (RelayState.OPEN, (0, 1, 2, 3), 500, 500)
        assert (stats.relays, stats.in_hand, stats.dead, stats.last_error) == (1, 0, {}, None)
        assert repr(relay) == "<Relay [open | 4 partitions, 0 in hand]>"
        assert (status.messages, status.bytes, status.dead, status.oldest_seconds) == (0, 0, 0, 0.0)
        (described,) = status.relays
        assert {each.owner for each in status.partitions} == {described.relay}
        await publish(server.url, name, 1)
        await drained(relay)
    check(carrier.delivered[:-1], 500)
    assert relay.stats().state is RelayState.CLOSED
    assert carrier.closed == 1


async def test_small_entries_become_full_requests(server: RedisServer, name: str) -> None:
    """A thousand entries of one message are a few requests."""
    await publish(server.url, name, 1000, entry=1, partitions=2)
    carrier = Carrier()
    async with relaying(server.url, name, carrier) as relay:
        await drained(relay)
    check(carrier.delivered, 1000)
    assert len(carrier.attempts) < 20


async def test_an_alias_keeps_its_place(server: RedisServer, name: str) -> None:
    """An alias is sent after the messages published before it, and before those published later."""
    async with Agent(transport=RedisTransport(server.url, name=name, partitions=1)) as agent:
        agent.track("u", "before")
        agent.alias("u", "v")
        agent.track("u", "after")
    carrier = Carrier()
    async with relaying(server.url, name, carrier) as relay:
        await drained(relay)
    assert [endpoint for _, endpoint, _ in carrier.attempts] == [Endpoint.BATCH, Endpoint.ALIAS, Endpoint.BATCH]
    assert [message.get("event_uid") for message in carrier.delivered] == ["before", None, "after"]


async def test_poison_becomes_dead_letters_and_the_rest_arrives(
    server: RedisServer, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that the server rejects alone is stored once with its reason; the others are delivered."""
    await publish(server.url, name, 300)
    poison = {17, 18, 120, 299}

    def refuse(batch: Batch) -> Outcome | None:
        if poison.isdisjoint(numbers(batch.messages()) if batch.count else ()):
            return None
        return answer(413) if batch.count == 1 and 120 in numbers(batch.messages()) else answer(422, b'{"error":"bad"}')

    lost: list[int] = []
    carrier = Carrier(decide=refuse)
    on_lost = lambda loss: lost.extend(numbers(loss.messages))  # noqa: E731
    async with relaying(server.url, name, carrier, on_lost=on_lost) as relay:
        await drained(relay)
        letters = await dead_letters(server.url, name)
        assert relay.stats().dead == {LossReason.REJECTED: 3, LossReason.TOO_LARGE: 1}
    check(carrier.delivered, 300, without=poison)
    assert sorted(numbers(letter.message() for letter in letters)) == sorted(lost) == sorted(poison)
    assert {letter.reason for letter in letters} == {"rejected", "too_large"}
    assert "become dead letters (rejected): " in caplog.text
    assert "lost" not in caplog.text
    assert {(letter.status, letter.server_message) for letter in letters} == {(422, "bad"), (413, "")}


async def test_a_damaged_entry_becomes_a_dead_letter(
    server: RedisServer, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A foreign entry becomes a dead letter and stops no other."""
    await publish(server.url, name, 10, partitions=1)
    async with Redis.from_url(server.url) as client:
        await client.xadd(Keys(name).queue(0), {"hello": "world"})
    await publish(server.url, name, 10, partitions=1)
    carrier = Carrier()
    async with relaying(server.url, name, carrier) as relay:
        await until(lambda: relay.stats().delivered == 20)
        while (status := await relay.status()).partitions[0].entries:
            await asyncio.sleep(0.005)
        assert status.dead == 1
        assert relay.stats().dead == {LossReason.DAMAGED: 1}
        (letter,) = await dead_letters(server.url, name)
    assert (letter.reason, b"hello" in letter.line) == ("damaged", True)
    assert "an entry of partition 0 cannot be read and becomes a dead letter" in caplog.text


async def test_what_expires_becomes_a_dead_letter(server: RedisServer, name: str) -> None:
    """A message beyond the deadline for retries becomes a dead letter."""
    await publish(server.url, name, 5, partitions=1)
    carrier = Carrier(decide=lambda _: answer(500))
    retry = Retry(wait_initial=0.001, wait_max=0.002, timeout=0.0)
    async with relaying(server.url, name, carrier, retry=retry) as relay:
        await drained(relay)
        letters = await dead_letters(server.url, name)
    assert {letter.reason for letter in letters} == {"expired"}
    assert numbers(letter.message() for letter in letters) == [*range(5)]


async def test_a_wrong_key_parks_and_is_healed(server: RedisServer, name: str) -> None:
    """A refused key loses no message and stops the reading; an accepted one delivers all."""
    await publish(server.url, name, 1600)
    refused = True
    carrier = Carrier(decide=lambda _: answer(401) if refused else None)
    async with relaying(server.url, name, carrier, batching=Batching(max_messages=10, linger=0.02)) as relay:
        await until(lambda: relay.stats().state is RelayState.PARKED)
        while [each.state for each in (await relay.status()).relays] != ["parked"]:
            await asyncio.sleep(0.005)
        status = await relay.status()
        assert (status.messages, status.dead) == (1600, 0)
        assert relay.stats().in_hand <= 4 * 85
        refused = False
        await drained(relay)
        assert relay.stats().state is RelayState.OPEN
    check(carrier.delivered, 1600)


async def test_a_pause_is_shared_and_outlives_all_relays(server: RedisServer, name: str) -> None:
    """A 429 pauses all relays, and those that start later."""
    await publish(server.url, name, 400)
    first = Carrier([answer(429, Retry_After="3600")] * 9)
    async with relaying(server.url, name, first) as relay:
        await until(lambda: relay.stats().state is RelayState.PAUSED)
        while (await relay.status()).pause_seconds < 3500:
            await asyncio.sleep(0.005)
        # Those that had their permit when the answer came.
        assert len(first.attempts) <= 4
    later = Carrier()
    async with relaying(server.url, name, later) as relay:
        await until(lambda: relay.stats().state is RelayState.PAUSED and relay.stats().in_hand > 0)
        assert (await relay.status()).pause_seconds > 3500
        async with Redis.from_url(server.url) as client:
            await client.delete(*map(Keys(name).pause, range(4)))
    assert later.attempts == []
    async with relaying(server.url, name, later) as relay:
        await drained(relay)
    check(later.delivered, 400)


async def test_a_relay_sends_nothing_in_its_pause(server: RedisServer, name: str) -> None:
    """No sender of a relay begins a request before the time that a 429 names."""
    await publish(server.url, name, 800, partitions=8)
    early: list[float] = []
    pauses = 0
    until_time = 0.0

    class Limited(Carrier):
        """A server that answers every fifth request with 429."""

        async def send(self, batch: Batch) -> Outcome:
            nonlocal until_time, pauses
            loop = asyncio.get_running_loop()
            early.extend([until_time - loop.time()] if loop.time() < until_time - 0.001 else [])
            if len(self.attempts) % 5 == 4:
                self.script.append(answer(429, Retry_After="0.03"))
            outcome = await super().send(batch)
            if outcome.status == 429:
                until_time = loop.time() + 0.03
                pauses += 1
            return outcome

    carrier = Limited(takes=0.002)
    async with relaying(server.url, name, carrier, batching=Batching(max_messages=10, linger=0.01)) as relay:
        await drained(relay)
    check(carrier.delivered, 800)
    assert pauses > 5
    assert early == []


async def test_a_pause_is_shared_once_the_server_is_back(server: RedisServer, name: str) -> None:
    """A pause is kept in the relay while the engine fails, and shared afterwards."""
    await publish(server.url, name, 10, partitions=1)

    class Failing(RedisEngine):
        failures = 0

        async def pause(self, seconds: float) -> None:
            self.failures += 1
            if self.failures == 1:
                raise ConnectionFailed("away")
            await super().pause(seconds)

    engine = Failing(server.url, name=name)
    carrier = Carrier([answer(429, Retry_After="3600")])
    async with relaying(server.url, name, carrier, engine=engine) as relay:
        while (await relay.status()).pause_seconds < 3500:
            await asyncio.sleep(0.005)
    assert engine.failures >= 2
    assert len(carrier.attempts) == 1


async def test_a_worker_that_fails_begins_anew(
    server: RedisServer, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected error is logged with its place, and the worker restarts without losing a message."""
    await publish(server.url, name, 100, partitions=1)

    class Broken(RedisEngine):
        broken = True

        async def fetch(self, lease: RedisLease, **options: Any) -> Any:
            if self.broken:
                self.broken = False
                raise ZeroDivisionError
            return await super().fetch(lease, **options)

    carrier = Carrier()
    async with relaying(server.url, name, carrier, engine=Broken(server.url, name=name)) as relay:
        await drained(relay)
    check(carrier.delivered, 100)
    assert "a task of a relay failed: ZeroDivisionError" in caplog.text


async def test_a_fresh_relay_drains_a_full_server(start_server: Callable[..., RedisServer], name: str) -> None:
    """An agent pauses at maxmemory and keeps its messages; a new relay makes room for them."""
    server = start_server()
    agent = Agent(
        transport=RedisTransport(server.url, name=name, partitions=2), batching=Batching(max_messages=10), retry=FAST
    )
    async with agent, Redis.from_url(server.url) as client:
        for i in range(50):
            agent.track(f"u{i % 9}", "e", {"i": i, "x": "x" * 10_000})
        assert (await agent.flush()).delivered == 50
        await client.config_set("maxmemory", "1")
        for i in range(50, 200):
            agent.track(f"u{i % 9}", "e", {"i": i, "x": "x" * 10_000})
        await until(lambda: agent.stats().state is State.PAUSED)
        published = agent.stats().delivered
        carrier = Carrier()
        async with relaying(server.url, name, carrier) as relay:
            await until(lambda: relay.stats().delivered == published)
            await drained(relay)
            assert agent.stats().delivered == published
            await client.config_set("maxmemory", "0")
            assert (await agent.flush()).ok
            await drained(relay)
    check(carrier.delivered, 200)


async def test_a_stop_finishes_the_request_and_gives_the_leases_back(server: RedisServer, name: str) -> None:
    """A stop settles the current request, and leaves unsent entries to the next relay at once."""
    await publish(server.url, name, 1000, partitions=2)
    release, under_way = asyncio.Event(), asyncio.Event()

    class Slow(Carrier):
        async def send(self, batch: Batch) -> Outcome:
            under_way.set()
            await release.wait()
            return await super().send(batch)

    slow, next_carrier = Slow(), Carrier()
    async with relaying(server.url, name, slow, timeouts=Timeouts(request=20)) as relay:
        await under_way.wait()
        await until(lambda: relay.stats().in_hand > 100)
        relay.stop()
        await until(lambda: relay.stats().state is RelayState.CLOSING)
        release.set()
        await until(lambda: relay.stats().state is RelayState.CLOSED)
        running = [task for task in asyncio.all_tasks() if "relay" in task.get_name()]
        assert running == []
        async with relaying(server.url, name, next_carrier) as other:
            await drained(other)
        return_check = slow.delivered + next_carrier.delivered
    assert 0 < len(slow.delivered) <= 200
    check(return_check, 1000)


async def test_a_relay_without_a_usable_server(start_server: Callable[..., RedisServer], name: str) -> None:
    """A relay without a usable server ends with the reason."""
    server = start_server("--maxmemory-policy", "allkeys-lru")
    carrier = Carrier()
    relay = Relay(RedisEngine(server.url, name=name), carrier, timeouts=QUICK)
    with pytest.raises(ConfigError, match="noeviction"):
        await relay.run()
    assert carrier.closed == 1
    with pytest.raises(RuntimeError, match="runs once"):
        await relay.run()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"rate": 0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 257}, "concurrency"),
        ({"concurrency": 1.5}, "concurrency"),
        ({"timeouts": Timeouts(request=30)}, "does not outlast"),
    ],
)
def test_unusable_arguments(name: str, options: Any, problem: str) -> None:
    """Unusable arguments raise at construction."""
    with pytest.raises(ConfigError, match=problem):
        Relay(RedisEngine("redis://127.0.0.1", name=name), Carrier(), **options)
