"""Publishing: once each, in order, within the bound, and what each failure means to the agent."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.asyncio import Redis, RedisCluster

from salesmachine_async import Agent, Batching, ConfigError, Retry, State, Verdict
from salesmachine_async._core.batch import AliasLine, Batch
from salesmachine_async._core.partition import partition_of
from salesmachine_async.engines.redis import RedisEngine, RedisTransport
from salesmachine_async.engines.redis.keys import Keys
from salesmachine_async.relay import Entry
from salesmachine_async.report import Endpoint
from tests.support.redis_servers import Between, RedisServer
from tests.support.waiting import held_back, until

pytestmark = pytest.mark.slow

FAST = Retry(wait_initial=0.01, wait_max=0.05)


def batch(*numbers: int, partition: int = 0, contact: str = "u") -> Batch:
    """A batch of events with these numbers."""
    lines = [b'{"method":"event","contact_uid":"%s","n":%d}' % (contact.encode(), n) for n in numbers]
    return Batch.of_lines(lines, partition=partition)


async def published(url: str, name: str) -> dict[int, list[Entry]]:
    """Return the entries in each stream of a queue."""
    engine = RedisEngine(url, name=name)
    try:
        await engine.start()
        found: dict[int, list[Entry]] = {}
        for partition in range(engine.partitions):
            lease = await engine.acquire(partition)
            assert lease is not None
            found[partition] = [*await engine.fetch(lease, messages=10**6, size=10**9)]
            await engine.release(lease)
        return found
    finally:
        await engine.aclose()


async def numbers(url: str, name: str) -> list[int]:
    """The numbers of all messages in the only stream."""
    entries = (await published(url, name))[0]
    return [message["n"] for entry in entries for message in Batch(entry.body, entry.count).messages()]


async def test_an_agent_hands_its_messages_over(server: RedisServer, name: str) -> None:
    """Messages are in their contact's stream, in order; the agent has a partition for each stream."""
    transport = RedisTransport(server.url, name=name, partitions=4)
    async with Agent(transport=transport, batching=Batching(max_messages=5)) as agent:
        for i in range(100):
            agent.track(f"u{i % 7}", "e", {"i": i})
        agent.alias("u1", "u2")
        assert (await agent.flush()).delivered == 101
        assert agent.stats().state is State.OPEN
    found = await published(server.url, name)
    order: dict[str, list[int]] = {}
    for partition, entries in found.items():
        for entry in entries:
            for message in Batch(entry.body, entry.count, endpoint=entry.endpoint).messages():
                assert partition_of(message["contact_uid"], 4) == partition
                if entry.endpoint is Endpoint.BATCH:
                    order.setdefault(message["contact_uid"], []).append(message["params"]["i"])
    assert order == {f"u{k}": [*range(k, 100, 7)] for k in range(7)}
    (alias,) = (entry for entries in found.values() for entry in entries if entry.endpoint is Endpoint.ALIAS)
    assert alias is found[partition_of("u1", 4)][-1]


async def test_a_repetition_after_a_lost_answer_is_recognized(server: RedisServer, name: str) -> None:
    """A batch is in the stream once after a lost answer, retried whole, halved or in single messages."""
    async with Between(server) as between:
        transport = RedisTransport(between.url, name=name, partitions=1)
        assert (await transport.send(batch(0))).verdict is Verdict.DELIVERED
        for parts in ([[1, 2, 3, 4]], [[11, 12], [13, 14]], [[21], [22], [23, 24]]):
            whole = [number for part in parts for number in part]
            # The client tries once more by itself.
            lost = [lambda data: b"PUBLISHED" in data or b"DUPLICATE" in data] * 2
            between.cut = lambda data: bool(lost) and lost[0](data) and bool(lost.pop())  # noqa: B023
            assert (await transport.send(batch(*whole))).verdict is Verdict.UNREACHABLE
            for part in parts:
                assert (await transport.send(batch(*part))).verdict is Verdict.DELIVERED
        assert (await transport.send(batch(30))).verdict is Verdict.DELIVERED
        assert between.cuts == 6
        await transport.aclose()
    assert await numbers(server.url, name) == [0, 1, 2, 3, 4, 11, 12, 13, 14, 21, 22, 23, 24, 30]


async def test_answers_that_get_lost_while_a_stream_is_made(server: RedisServer, name: str) -> None:
    """Whichever answers are lost, the stream has the batch once, and the number of streams is restored before it."""
    async with Between(server) as between:
        for lost in range(1, 9):
            queue = f"{name}-{lost}"
            transport = RedisTransport(between.url, name=queue, partitions=1)
            assert (await transport.send(Batch.ping())).verdict is Verdict.DELIVERED
            async with Redis.from_url(server.url) as client:
                await client.delete(Keys(queue).meta)  # as a FLUSHALL does
            # Every second answer, so that each step fails once or twice.
            answers = iter([True, False] * lost)
            between.cut = lambda _: next(answers, False)  # noqa: B023
            while (await transport.send(batch(1))).verdict is not Verdict.DELIVERED:
                pass
            await transport.aclose()
            assert await numbers(server.url, queue) == [1]
    assert between.cuts > 8


async def test_another_batch_is_not_taken_for_one_that_was_given_up(server: RedisServer, name: str) -> None:
    """A batch given up with an unknown outcome does not hide the next one or its newer half."""
    async with Between(server) as between:
        transport = RedisTransport(between.url, name=name, partitions=1)
        await transport.send(batch(0))
        between.cut = lambda data: b"PUBLISHED" in data or b"DUPLICATE" in data
        assert (await transport.send(batch(1, 2))).verdict is Verdict.UNREACHABLE
        assert (await transport.send(batch(5, 6))).verdict is Verdict.UNREACHABLE
        between.cut = lambda _: False
        assert (await transport.send(batch(6))).verdict is Verdict.DELIVERED
        assert (await transport.send(batch(7, 8))).verdict is Verdict.DELIVERED
        await transport.aclose()
    assert await numbers(server.url, name) == [0, 1, 2, 5, 6, 6, 7, 8]


async def test_two_agents_may_share_a_transport(server: RedisServer, name: str) -> None:
    """Batches of two agents with equal numbers are distinct."""
    transport = RedisTransport(server.url, name=name, partitions=1)
    await asyncio.gather(*(transport.send(batch(i)) for i in range(20)))
    await transport.aclose()
    assert sorted(await numbers(server.url, name)) == [*range(20)]


async def test_a_forked_child_is_another_producer(
    server: RedisServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forked child's messages are distinct from those of its parent with equal numbers."""
    transport = RedisTransport(server.url, name=name, partitions=1)
    await transport.send(batch(1, 2))
    await transport.aclose()
    monkeypatch.setattr("os.getpid", lambda: -1)
    for number in (3, 4):
        assert (await transport.send(batch(number))).verdict is Verdict.DELIVERED
    await transport.aclose()
    assert await numbers(server.url, name) == [1, 2, 3, 4]


# A parent that publishes, before and after a child has.
FORKING = """
import gc, os, sys
from salesmachine_async import Batching, ThreadedAgent
from salesmachine_async.engines.redis import RedisTransport

url, name, uses = sys.argv[1:]
transport = RedisTransport(url, name=name, partitions=2)
agent = ThreadedAgent(transport=transport, batching=Batching(linger=0.0))

def publish(*numbers):
    for number in numbers:
        agent.track(f"u{number}", "e", {"n": number})
    assert agent.flush().ok

publish(*range(4))
child = os.fork()
if child == 0:
    if uses == "True":
        publish(*range(4, 8))
        gc.collect()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
publish(*range(8, 12))
assert agent.stats().retries == 0, agent.stats()
agent.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("uses", [True, False])
async def test_the_end_of_a_child_leaves_the_parents_connections_alone(
    server: RedisServer, name: str, uses: bool
) -> None:
    """A child closes no connection of its parent, which they would share with the parent's selector."""
    options = "-W", "error::ResourceWarning", "-W", "ignore::DeprecationWarning"  # Python 3.12 warns of forks
    command = sys.executable, *options, "-c", FORKING, server.url, name, str(uses)
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, "")
    expected = [*range(12)] if uses else [*range(4), *range(8, 12)]
    found = [entry for entries in (await published(server.url, name)).values() for entry in entries]
    messages = [message for entry in found for message in Batch(entry.body, entry.count).messages()]
    assert sorted(message["params"]["n"] for message in messages) == expected


async def test_the_bound_is_kept_and_the_rest_waits(server: RedisServer, name: str) -> None:
    """A full queue pauses the agent, which publishes its messages once there is room."""
    transport = RedisTransport(server.url, name=name, partitions=1, max_bytes=20_000)
    agent = Agent(transport=transport, batching=Batching(max_messages=10, linger=0), retry=FAST)
    engine = RedisEngine(server.url, name=name)
    async with agent:
        for i in range(400):
            agent.track("u", "e", {"i": i})
        await until(lambda: held_back(agent))
        assert "is full" in str(agent.stats().last_error)
        (status,) = (await engine.lag()).partitions
        assert 0 < status.bytes <= 20_000
        lease = await engine.acquire(0)
        assert lease is not None
        seen: list[int] = []
        while len(seen) < 400:
            entries = await engine.fetch(lease, messages=50, size=10**6, wait=1)
            seen += [m["params"]["i"] for each in entries for m in Batch(each.body, each.count).messages()]
            assert (await engine.lag()).bytes <= 20_000
            await engine.settle(lease, entries, [])
        assert seen == [*range(400)]
        assert (await agent.flush()).ok
    assert (await engine.lag()).bytes == 0
    await engine.aclose()


async def test_one_full_stream_does_not_stop_the_others(server: RedisServer, name: str) -> None:
    """Only the partition of a full stream waits while others can be published."""
    transport = RedisTransport(server.url, name=name, partitions=2, max_bytes=2000)
    while (first := await transport.send(batch(1))).verdict is Verdict.DELIVERED:
        pass
    assert first.verdict is Verdict.PAUSE
    assert (await transport.send(batch(2, partition=1))).verdict is Verdict.DELIVERED
    assert (await transport.send(batch(1))).verdict is Verdict.UNREACHABLE
    assert (await transport.send(batch(1))).verdict is Verdict.PAUSE
    await transport.aclose()


async def test_a_server_without_memory_pauses(start_server: Callable[..., RedisServer], name: str) -> None:
    """An agent pauses at maxmemory, and nothing is published."""
    server = start_server()
    transport = RedisTransport(server.url, name=name, partitions=1)
    assert (await transport.send(batch(0))).verdict is Verdict.DELIVERED
    async with Redis.from_url(server.url) as client:
        await client.config_set("maxmemory", "1")
    outcome = await transport.send(batch(1))
    assert (outcome.verdict, outcome.retry_after) == (Verdict.PAUSE, 0.0)
    assert "cannot be written to" in str(outcome.error)
    await transport.aclose()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_server_that_evicts_is_refused(
    start_server: Callable[..., RedisServer], name: str, policy: str
) -> None:
    """An eviction policy that deletes keys parks the agent, and is an error at the start of a relay."""
    server = start_server("--maxmemory-policy", policy)
    transport = RedisTransport(server.url, name=name)
    outcome = await transport.send(batch(1))
    assert outcome.verdict is Verdict.PARKED
    assert "noeviction" in str(outcome.error)
    await transport.aclose()
    engine = RedisEngine(server.url, name=name)
    with pytest.raises(ConfigError, match="noeviction"):
        await engine.start()
    await engine.aclose()


async def test_a_wrong_password_parks(start_server: Callable[..., RedisServer], name: str) -> None:
    """A server that refuses access parks the agent, and no output holds the password."""
    server = start_server("--requirepass", "right")
    for url in (server.url, f"unix://:hunter2@{server.socket}"):
        transport = RedisTransport(url, name=name)
        outcome = await transport.send(batch(1))
        assert outcome.verdict is Verdict.PARKED
        assert "hunter2" not in f"{outcome.error} {transport!r}"
        await transport.aclose()
    transport = RedisTransport(f"unix://:right@{server.socket}", name=name)
    assert (await transport.send(batch(1))).verdict is Verdict.DELIVERED
    await transport.aclose()


async def test_a_missing_permission_parks(start_server: Callable[..., RedisServer], name: str) -> None:
    """A server user without the permission for scripts parks the agent."""
    server = start_server()
    async with Redis.from_url(server.url) as client:
        await client.acl_setuser("shop", enabled=True, nopass=True, keys=["*"], commands=["+info", "+ping"])
    transport = RedisTransport(f"unix://shop:x@{server.socket}", name=name)
    outcome = await transport.send(batch(1))
    assert outcome.verdict is Verdict.PARKED
    assert "refuses access" in str(outcome.error)
    await transport.aclose()


async def test_a_replica_pauses(start_server: Callable[..., RedisServer], name: str) -> None:
    """A read-only server, as after a failover, pauses the agent."""
    server = start_server()
    transport = RedisTransport(server.url, name=name)
    assert (await transport.send(batch(0))).verdict is Verdict.DELIVERED
    async with Redis.from_url(server.url) as client:
        await client.replicaof("127.0.0.1", "1")
    assert (await transport.send(batch(1))).verdict is Verdict.PAUSE
    await transport.aclose()


async def test_a_server_that_is_away_is_tried_again(start_server: Callable[..., RedisServer], name: str) -> None:
    """An agent keeps its messages through an outage, and loads its scripts again after a restart."""
    server = start_server()
    agent = Agent(
        transport=RedisTransport(server.url, name=name, partitions=1), retry=FAST, batching=Batching(linger=0)
    )
    async with agent:
        agent.track("u", "e", {"i": 0})
        assert (await agent.flush()).ok
        server.kill()
        for i in range(1, 20):
            agent.track("u", "e", {"i": i})
        await until(lambda: agent.stats().last_error)
        assert "no connection to the Redis server" in str(agent.stats().last_error)
        server.start()
        report = await agent.flush()
        assert (report.delivered, report.ok) == (20, True)


async def test_a_single_message_outlives_a_long_outage(
    server: RedisServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of one message that fails again and again while another partition delivers is never given up."""
    monkeypatch.setattr("salesmachine_async._delivery.sender.LEAST_FULL_WAIT", 0.001)
    transport = RedisTransport(server.url, name=name, partitions=2)
    away = RedisTransport("redis://127.0.0.1:1", name=name, partitions=2)
    contacts = {partition_of(f"u{i}", 2): f"u{i}" for i in range(9)}
    failures = 0

    class OneNodeAway:
        """A cluster one node of which is away."""

        partitions = 2

        async def send(self, batch: Batch) -> Any:
            nonlocal failures
            if batch.partition == 0 and failures < 12:
                failures += 1
                return await away.send(batch)
            return await transport.send(batch)

        async def aclose(self) -> None:
            await transport.aclose()

    retry = Retry(wait_initial=0.001, wait_max=0.001)
    async with Agent(transport=OneNodeAway(), retry=retry, batching=Batching(linger=0)) as agent:
        agent.track(contacts[0], "e")
        for delivered in range(1000):
            agent.track(contacts[1], "e")
            await until(lambda: agent.stats().delivered > delivered)  # noqa: B023
            if failures == 12:
                break
        assert (await agent.flush()).ok


async def test_later_agents_adopt_the_number_of_streams(server: RedisServer, name: str) -> None:
    """The first transport sets the number of streams, which later ones adopt for each contact."""
    first = RedisTransport(server.url, name=name, partitions=3)
    await first.send(batch(0, partition=partition_of("u", 3)))
    async with Agent(transport=RedisTransport(server.url, name=name, partitions=8), batching=Batching()) as agent:
        for i in range(50):
            agent.track(f"u{i}", "e")
        agent.alias("u1", "u2")
        assert (await agent.flush()).delivered == 51
    await first.aclose()
    found = await published(server.url, name)
    assert len(found) == 3
    for partition, entries in found.items():
        for entry in entries:
            for message in Batch(entry.body, entry.count, endpoint=entry.endpoint).messages():
                assert partition_of(message["contact_uid"], 3) == partition


async def test_an_extra_partition_is_distributed(server: RedisServer, name: str) -> None:
    """Messages in a partition beyond the agent's own are published to their contacts' streams."""
    transport = RedisTransport(server.url, name=name, partitions=2)
    contacts = {partition_of(f"u{i}", 2): f"u{i}" for i in range(9)}
    lines = [b'{"contact_uid":"%s"}' % contacts[i % 2].encode() for i in range(4)]
    assert (await transport.send(Batch.of_lines(lines, partition=2))).verdict is Verdict.DELIVERED
    alias = AliasLine(b'{"contact_uid":"%s","alias":"x"}' % contacts[1].encode())
    assert (await transport.send(Batch.of_lines([alias], partition=2))).verdict is Verdict.DELIVERED
    await transport.aclose()
    found = await published(server.url, name)
    assert [[entry.count for entry in found[partition]] for partition in (0, 1)] == [[2], [2, 1]]
    assert found[1][-1].endpoint is Endpoint.ALIAS


async def test_what_a_spool_has_kept_goes_to_its_streams(
    start_server: Callable[..., RedisServer], name: str, tmp_path: Path
) -> None:
    """Messages spooled during an outage are published in order by the next agent."""
    server = start_server()
    server.kill()
    spool = tmp_path / "spool"

    def agent() -> Agent:
        transport = RedisTransport(server.url, name=name, partitions=4)
        return Agent(transport=transport, spool=spool, retry=FAST, batching=Batching(max_messages=5, linger=0.01))

    first = agent()
    for i in range(100):
        first.track(f"u{i % 7}", "e", {"i": i})
    first.alias("u1", "u2")
    assert (await first.aclose(0.2)).kept == 101
    server.start()
    async with agent() as second:
        for i in range(100, 150):
            second.track(f"u{i % 7}", "e", {"i": i})
        await until(lambda: second.stats().recovered == 101)
        assert (await second.flush()).ok
    order: dict[str, list[int]] = {}
    for partition, entries in (await published(server.url, name)).items():
        for entry in entries:
            for message in Batch(entry.body, entry.count, endpoint=entry.endpoint).messages():
                assert partition_of(message["contact_uid"], 4) == partition
                if entry.endpoint is Endpoint.BATCH:
                    order.setdefault(message["contact_uid"], []).append(message["params"]["i"])
    assert order == {f"u{k}": [*range(k, 150, 7)] for k in range(7)}


async def test_synced_needs_a_server_that_syncs(start_server: Callable[..., RedisServer], name: str) -> None:
    """Without ``appendfsync always`` nothing is published."""
    transport = RedisTransport(start_server().url, name=name, confirm="synced")
    outcome = await transport.send(batch(1))
    assert outcome.verdict is Verdict.PARKED
    assert "appendonly no" in str(outcome.error)
    await transport.aclose()
    transport = RedisTransport(
        start_server("--appendonly", "yes", "--appendfsync", "always").url, name=name, confirm="synced"
    )
    assert (await transport.send(batch(1))).verdict is Verdict.DELIVERED
    await transport.aclose()


async def test_a_replica_confirms(
    start_server: Callable[..., RedisServer], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch without a replica's confirmation is not handed over, and is published once."""
    monkeypatch.setattr("salesmachine_async.engines.redis.transport.REPLICA_MS", 1)
    server = start_server()
    transport = RedisTransport(server.url, name=name, confirm="replica", partitions=1)
    for _ in range(2):
        outcome = await transport.send(batch(1))
        assert outcome.verdict is Verdict.UNREACHABLE
        assert "no replica" in str(outcome.error)
    await transport.aclose()
    assert await numbers(server.url, name) == [1]


async def test_ping_asks_the_server(server: RedisServer, name: str) -> None:
    """`Agent.ping` succeeds if the server is usable."""
    async with Agent(transport=RedisTransport(server.url, name=name)) as agent:
        await agent.ping()


async def test_a_client_of_the_application_stays_open(server: RedisServer, name: str) -> None:
    """An application's client, even one that decodes replies, is used as it is and not closed."""
    async with Redis.from_url(server.url, decode_responses=True) as client:
        transport = RedisTransport(client, name=name, partitions=1)
        assert (await transport.send(batch(1))).verdict is Verdict.DELIVERED
        await transport.aclose()
        engine = RedisEngine(client, name=name)
        await engine.start()
        lease = await engine.acquire(0)
        assert lease is not None
        (entry,) = await engine.fetch(lease, messages=10, size=1000)
        assert Batch(entry.body, 1).messages()[0]["n"] == 1
        await engine.aclose()
        assert await client.ping()


async def test_a_client_of_the_application_is_not_used_after_a_fork(
    server: RedisServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that has inherited a used client keeps its messages, instead of reading the parent's answers."""
    async with Redis.from_url(server.url) as client:
        transport, unused = (RedisTransport(client, name=name, partitions=1) for _ in range(2))
        assert (await transport.send(batch(1))).verdict is Verdict.DELIVERED
        with monkeypatch.context() as child:
            child.setattr("os.getpid", lambda: -1)
            outcome = await transport.send(batch(2))
            assert outcome.verdict is Verdict.PARKED
            assert "after a fork" in str(outcome.error)
            assert (await unused.send(batch(3))).verdict is Verdict.DELIVERED


def test_each_event_loop_has_its_own_connections(server: RedisServer, name: str) -> None:
    """A transport can be used by successive event loops, as of two `asyncio.run` calls."""
    transport = RedisTransport(server.url, name=name, partitions=1)

    async def send(number: int) -> None:
        assert (await transport.send(batch(number))).verdict is Verdict.DELIVERED
        await transport.aclose()

    asyncio.run(send(1))
    asyncio.run(send(2))
    assert asyncio.run(numbers(server.url, name)) == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"server": "http://x"}, "malformed"),
        ({"server": "redis://[x"}, "malformed"),
        ({"server": "redis://127.0.0.1/0?db=x"}, "malformed"),
        ({"server": "redis://127.0.0.1/0?unknown=1"}, "malformed"),
        ({"server": "redis://127.0.0.1/0?protocol=9"}, "malformed"),
        ({"server": "rediss://127.0.0.1/0?ssl_cert_reqs=x"}, "malformed"),
        ({"server": redis.Redis()}, "must be a URL or a client of redis.asyncio"),
        ({"server": 7}, "must be a URL or a client"),
        ({"name": "a b"}, "name must be"),
        ({"name": "{a}"}, "name must be"),
        ({"partitions": 0}, "partitions"),
        ({"partitions": 257}, "partitions"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"confirm": "disk"}, "confirm must be"),
    ],
)
def test_unusable_arguments(arguments: dict[str, Any], problem: str) -> None:
    """Unusable arguments raise at construction."""
    with pytest.raises(ConfigError, match=problem):
        RedisTransport(**{"server": "redis://127.0.0.1/0", **arguments})


def test_a_cluster_cannot_confirm_by_a_replica() -> None:
    """A cluster with `confirm="replica"` is an error, because WAIT covers one server only."""
    cluster = RedisCluster(host="127.0.0.1", port=1)
    with pytest.raises(ConfigError, match="not of a cluster"):
        RedisTransport(cluster, confirm="replica")


def test_no_url_is_shown() -> None:
    """The error for a malformed URL omits the URL, because it may hold a password."""
    with pytest.raises(ConfigError) as caught:
        RedisTransport("redis://:hunter2@host:port/0")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
