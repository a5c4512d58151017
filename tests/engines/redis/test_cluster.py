"""A cluster: each stream and what belongs to it lie on one node, and the streams spread over the nodes."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisError

from salesmachine_async import Agent, Batching
from salesmachine_async.engines.redis import RedisEngine, RedisTransport
from tests.support.carriers import Carrier
from tests.support.redis_servers import binary, free_port
from tests.support.relays import check, drained, relaying

pytestmark = [pytest.mark.slow, pytest.mark.one_python]

SLOTS = 16384
OPTIONS = ["--save", "", "--cluster-enabled", "yes"]


@pytest.fixture(params=["redis", "valkey"])
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[RedisCluster]:
    """A client of a cluster of two nodes."""
    program = binary(request.param)
    if program is None:
        pytest.skip(f"there is no {request.param}-server")
    directories = [tempfile.mkdtemp(prefix="salesmachine-") for _ in range(2)]
    ports = [free_port() for _ in range(2)]
    nodes = [
        subprocess.Popen(
            [
                program,
                "--port",
                str(port),
                "--bind",
                "127.0.0.1",
                "--dir",
                directory,
                "--save",
                "",
                "--cluster-enabled",
                "yes",
            ],
            stdout=subprocess.DEVNULL,
        )
        for port, directory in zip(ports, directories, strict=True)
    ]
    try:
        for index, port in enumerate(ports):
            client: Any = Redis(port=port)
            async with client as node:
                while True:
                    with suppress(RedisError, OSError):
                        if await node.ping():
                            break
                    await asyncio.sleep(0.01)
                first = index * SLOTS // 2
                await node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, first + SLOTS // 2 - 1)
                if index:
                    await node.execute_command("CLUSTER", "MEET", "127.0.0.1", ports[0])
        for port in ports:
            client = Redis(port=port)
            async with client as node:
                # The number of slots that are assigned, and of those that can be used.
                while str(await node.execute_command("CLUSTER", "INFO")).count(str(SLOTS)) < 2:
                    await asyncio.sleep(0.05)
        async with RedisCluster(host="127.0.0.1", port=ports[0]) as connected:
            yield connected
    finally:
        for process, directory in zip(nodes, directories, strict=True):
            process.kill()
            process.wait()
            shutil.rmtree(directory)


async def test_agents_and_relays_on_a_cluster(cluster: Any, name: str) -> None:
    """Messages are delivered in order through streams on both nodes."""
    transport = RedisTransport(cluster, name=name, partitions=8)
    async with Agent(transport=transport, batching=Batching(max_messages=5)) as agent:
        for i in range(400):
            agent.track(f"u{i % 50}", "e", {"i": i})
        assert (await agent.flush()).ok
    carrier = Carrier()
    async with relaying("", name, carrier, engine=RedisEngine(cluster, name=name)) as relay:
        await drained(relay)
        assert len((await relay.status()).partitions) == 8
    check(carrier.delivered, 400)
    for node in cluster.get_nodes():
        keys = await cluster.execute_command("KEYS", f"sm:{{{name}:*", target_nodes=node)
        assert any(key.endswith(b":q") for key in keys)
