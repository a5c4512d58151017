"""`salesmachine relay`, `relay status` and `relay dead`, on a real server of Valkey."""

import asyncio
import json
import re
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from salesmachine_async import Agent, Batching, HttpTransport
from salesmachine_async.cli.relay.metrics import QueueReader
from salesmachine_async.engines.redis import RedisEngine, RedisTransport
from salesmachine_async.relay import FleetStatus, Relay
from salesmachine_async.sandbox import Fault, Sandbox
from tests.cli.conftest import TOKEN
from tests.support.cli_inside import invoke
from tests.support.cli_process import Ended, end, popen, start
from tests.support.redis_servers import RedisServer, new_name, servers
from tests.support.terminals import in_terminal

pytestmark = [pytest.mark.slow, pytest.mark.one_python]
PARTITIONS = 2


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server that these tests share."""
    yield from servers("valkey")


@pytest.fixture
def queue(server: RedisServer, keys: dict[str, str]) -> dict[str, str]:
    """The variables that name a queue of its own, and the keys of the sandbox."""
    return keys | {"SALESMACHINE_ENGINE": server.url, "SALESMACHINE_ENGINE_NAME": new_name()}


async def publish(queue: dict[str, str], *events: str) -> None:
    """Publish events as an application does, a batch each."""
    transport = RedisTransport(
        queue["SALESMACHINE_ENGINE"], name=queue["SALESMACHINE_ENGINE_NAME"], partitions=PARTITIONS
    )
    async with Agent(transport=transport, batching=Batching(max_messages=1)) as agent:
        for event in events:
            agent.track("u", event)
        assert (await agent.flush()).ok


async def relay_until(sandbox: Sandbox, queue: dict[str, str], *options: str, requests: int = 1) -> Ended:
    """Run a relay until the sandbox has seen so many batches and nothing waits, then stop it by SIGTERM."""
    process = await start("relay", "--linger", "0", "--every", "0.1", *options, **queue)
    while sum(request["path"] == "/v1/batch" for request in sandbox.requests()) < requests:
        assert process.returncode is None
        await asyncio.sleep(0.01)
    while (await status(queue))["messages"]:
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    return await end(process)


async def status(queue: dict[str, str]) -> dict[str, Any]:
    """Return the output of `relay status --json`."""
    ended = await invoke("relay", "status", "--json", **queue)
    assert ended.status == 0, ended
    found: dict[str, Any] = json.loads(ended.out)
    return found


async def owned(queue: dict[str, str]) -> list[dict[str, Any]]:
    """The partitions, as of `relay status --json`."""
    partitions: list[dict[str, Any]] = (await status(queue))["partitions"]
    return partitions


async def letters(queue: dict[str, str]) -> list[dict[str, Any]]:
    """Return the output of `relay dead ls` in a pipe."""
    ended = await invoke("relay", "dead", "ls", **queue)
    assert ended.status == 0, ended
    return [json.loads(line) for line in ended.out.splitlines()]


async def test_a_relay_delivers_and_stops_at_sigterm(sandbox: Sandbox, queue: dict[str, str]) -> None:
    """A relay in a pipe reports in JSON, ends with status 0 at SIGTERM, and gives back its leases."""
    await publish(queue, "one", "two")
    before = await status(queue)
    assert (before["messages"], before["relays"], len(before["partitions"])) == (2, [], PARTITIONS)
    ended = await relay_until(sandbox, queue, "--rate", "600/m")
    assert ended.status == 0, ended
    reports = [json.loads(line) for line in ended.out.splitlines()]
    assert reports[-1]["delivered"] == 2
    assert {event["event_uid"] for event in sandbox.events(TOKEN)} == {"one", "two"}
    after = await status(queue)
    assert after["relays"] == []
    assert [each["owner"] for each in after["partitions"]] == [None] * PARTITIONS
    assert TOKEN not in ended.out + ended.err


async def test_a_trouble_is_printed_once(sandbox: Sandbox, queue: dict[str, str]) -> None:
    """What the library logs is one line on stderr."""
    sandbox.faults([Fault(path="/v1/batch", status=500, times=1)])
    await publish(queue, "one")
    ended = await relay_until(sandbox, queue, requests=2)
    assert (ended.status, ended.err.count("the server answered 500")) == (0, 1), ended


@asynccontextmanager
async def serving(queue: dict[str, str]) -> AsyncIterator[aiohttp.ClientSession]:
    """A relay that serves its figures: a client of it. At its end the relay has ended in order."""
    process = await start("relay", "--metrics", ":0", "--every", "0.1", **queue)
    assert process.stderr is not None
    url = (await process.stderr.readline()).decode().split("metrics at ")[1].removesuffix("/metrics.\n")
    async with aiohttp.ClientSession(url) as http:
        yield http
    process.send_signal(signal.SIGINT)
    assert (await end(process)).status == 0


async def metrics_with(http: aiohttp.ClientSession, line: str) -> str:
    """Return the metrics once they have this line."""
    while True:
        async with http.get("/metrics") as response:
            text = await response.text()
        if f"{line}\n" in text:
            return text
        await asyncio.sleep(0.02)


async def health(http: aiohttp.ClientSession, state: str, *, error: str | None = None) -> int:
    """Return the status of /health once it has this state and error; /live has 200 whatever that is."""
    while True:
        async with http.get("/live") as response:
            assert response.status == 200
        async with http.get("/health") as response:
            said = await response.json()
            if said["state"] == state and (error or "None") in str(said["error"]):
                return response.status
        await asyncio.sleep(0.02)


async def test_metrics_and_health(sandbox: Sandbox, queue: dict[str, str]) -> None:
    """The endpoints of a running relay have its figures and those of the queue, and its state."""
    sandbox.faults([Fault(path="/v1/batch", status=422, times=1)])
    await publish(queue, "one")
    async with serving(queue) as http:
        while (await status(queue))["messages"]:
            await asyncio.sleep(0.01)
        text = await metrics_with(http, "salesmachine_relay_queue_dead_letters 1")
        assert await health(http, "open") == 200
    assert 'salesmachine_relay_dead_letters_total{reason="rejected"} 1\n' in text
    assert 'salesmachine_relay_dead_letters_total{reason="too_large"} 0\n' in text
    assert 'salesmachine_relay_state{state="open"} 1\n' in text
    assert f"salesmachine_relay_partitions {PARTITIONS}\n" in text
    for name in ("messages", "bytes", "oldest_seconds", "pause_seconds"):
        assert re.search(rf"^salesmachine_relay_queue_{name} [0-9.]+$", text, re.MULTILINE)


async def test_the_lag_is_that_of_the_queue(sandbox: Sandbox, queue: dict[str, str]) -> None:
    """Messages that a refused key holds back are in the metrics; /health is 503 and says why."""
    sandbox.faults([Fault(path="/v1/batch", status=401, times=1000)])
    await publish(queue, *"abcde")
    async with serving(queue) as http:
        assert await health(http, "parked", error="401") == 503
        text = await metrics_with(http, "salesmachine_relay_queue_messages 5")
    found = dict(re.findall(r"^salesmachine_relay_queue_(\w+) ([0-9.]+)$", text, re.MULTILINE))
    assert float(found["bytes"]) > 5 * 128
    assert float(found["oldest_seconds"]) > 0


@pytest.mark.usefixtures("server")  # skipped where there is none
async def test_health_while_the_engine_is_away(keys: dict[str, str]) -> None:
    """Without its engine, at its start and later, a relay is not ready and says why, but lives; it recovers itself."""
    with RedisServer("valkey") as server:
        queue = keys | {"SALESMACHINE_ENGINE": server.url, "SALESMACHINE_ENGINE_NAME": new_name()}
        await publish(queue, "one")
        server.kill()
        async with serving(queue) as http:
            for _ in range(2):
                assert await health(http, "disconnected", error="no connection to the Redis server") == 503
                text = await metrics_with(http, 'salesmachine_relay_state{state="disconnected"} 1')
                assert "salesmachine_relay_queue" not in text
                server.start()
                assert await health(http, "open") == 200
                server.kill()


async def test_the_queue_is_read_once_for_many_scrapes(
    queue: dict[str, str], server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many scrapes there are at once and within a few seconds, the engine is called for one of them."""
    await publish(queue, "one")
    calls = 0

    class Counting(RedisEngine):
        async def lag(self) -> FleetStatus:
            nonlocal calls
            calls += 1
            return await super().lag()

    engine = Counting(server.url, name=queue["SALESMACHINE_ENGINE_NAME"])
    relay = Relay(engine, HttpTransport("token", "secret"))
    reader = QueueReader(relay)
    found = await asyncio.gather(*(reader.read() for _ in range(20)))
    assert [each.messages for each in found if each] == [1] * 20
    assert calls == 1
    monkeypatch.setattr("salesmachine_async.cli.relay.metrics.QUEUE_SECONDS", 0.0)
    reader = QueueReader(relay)
    for _ in range(3):
        await reader.read()
    assert calls == 4
    await engine.aclose()


async def test_a_reader_that_leaves_ends_it_in_order(sandbox: Sandbox, queue: dict[str, str]) -> None:
    """`| head` ends the relay with 0; its partitions have no owner then, and nothing waits for a lease to end."""
    await publish(queue, "one")
    with popen("relay", "--every", "0.1", **queue) as process:
        assert process.stdout is not None
        while not (await status(queue))["relays"] or None in {each["owner"] for each in (await owned(queue))}:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(process.stdout.readline)
        process.stdout.close()
        assert await asyncio.to_thread(process.wait) == 0
    assert (await status(queue))["relays"] == []
    assert {each["owner"] for each in await owned(queue)} == {None}


async def test_metrics_at_an_address_in_use(queue: dict[str, str]) -> None:
    """An address that another process listens on is a usage error."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await start("relay", "--metrics", f":{port}", **queue)
        ended = await end(process)
    assert (ended.status, f"cannot serve the metrics at 127.0.0.1:{port}" in ended.err) == (2, True), ended


async def test_dead_letters(sandbox: Sandbox, queue: dict[str, str]) -> None:
    """Rejected messages are listed, shown, retried once and purged."""
    sandbox.faults([Fault(path="/v1/batch", status=422, times=2, body={"error": "no\x1b[2J"})])
    await publish(queue, "first", "second")
    await relay_until(sandbox, queue, "--linger", "0", requests=2)
    found = await letters(queue)
    assert [letter["status"] for letter in found] == [422] * len(found)
    assert found
    identifier, message = found[0]["id"], found[0]["message"]
    shown = await invoke("relay", "dead", "show", identifier, **queue)
    assert json.loads(shown.out) == found[0]
    assert "\x1b" not in shown.out
    assert (await status(queue))["dead"] == len(found)

    ended = await invoke("relay", "dead", "retry", identifier, **queue)
    assert (ended.status, ended.err) == (0, "1 dead letters moved back.\n")
    await relay_until(sandbox, queue)
    while message["event_uid"] not in {event["event_uid"] for event in sandbox.events(TOKEN)}:
        await asyncio.sleep(0.01)
    again = await invoke("relay", "dead", "retry", identifier, **queue)
    assert (again.status, f"there is no dead letter {identifier}" in again.err) == (1, True)

    refused = await invoke("relay", "dead", "purge", "--all", **queue)
    assert (refused.status, "pass --yes" in refused.err) == (2, True)
    assert (await invoke("relay", "dead", "purge", "--all", "--yes", **queue)).status == 0
    assert await letters(queue) == []


async def test_on_a_terminal(queue: dict[str, str], server: RedisServer) -> None:
    """The status is a table, and names a queue that does not exist yet as such."""
    await publish(queue, "one")
    code, text = await in_terminal("relay", "status", extra=queue | {"NO_COLOR": "1", "COLUMNS": "120"})
    assert code == 0, text
    assert "No relay is running." in text
    assert "PARTITION" in text
    code, text = await in_terminal(
        "relay", "status", "--name", "unused", extra=queue | {"NO_COLOR": "1", "COLUMNS": "120"}
    )
    assert (code, "No agent has published to the queue unused yet." in text) == (0, True), text
    async with asyncio.timeout(30):
        engine = RedisEngine(server.url, name=queue["SALESMACHINE_ENGINE_NAME"])
        await engine.start()
        assert (await engine.lag()).messages == 1
        await engine.aclose()


@pytest.mark.parametrize(
    ("arguments", "variables", "problem", "code"),
    [
        (["relay"], {"SALESMACHINE_API_TOKEN": ""}, "no API token", 2),
        (
            ["relay", "status"],
            {"SALESMACHINE_ENGINE": ""},
            "no engine: pass --engine URL or set SALESMACHINE_ENGINE",
            2,
        ),
        (["relay", "--engine", "redis://:s3cret@h/1"], {}, "--engine must not hold a password", 2),
        (["relay", "--engine", "redis://h/1?password=s3cret"], {}, "--engine must not hold a password", 2),
        (["relay", "status", "--engine", "http://h"], {}, "the server's URL is malformed", 2),
        (["relay", "status", "--engine", "redis://[h"], {}, "the server's URL is malformed", 2),
        (["relay", "status", "--engine", "redis://h?unknown=1"], {}, "the server's URL is malformed", 2),
        (["relay", "--rate", "0"], {}, "is not a rate such as 50/s", 2),
        (["relay", "--metrics", "9464"], {}, "is not HOST:PORT", 2),
        (["relay", "--lease", "10"], {}, "choose a longer --lease or a shorter --request-timeout", 2),
        (["relay", "status", "--engine", "redis://127.0.0.1:1"], {}, "Redis server: Connect call failed ('127.", 5),
        (["relay", "status", "--engine", "unix:///no/server"], {}, "Redis server: No such file or directory", 5),
        (["relay", "dead", "show", "7"], {}, "'7' is not the ID of a dead letter", 2),
        (["relay", "dead", "show", "0:99999999999999999999-0"], {}, "is not the ID of a dead letter", 2),
        (["relay", "dead", "show", f"{'9' * 5000}:1-0"], {}, "is not the ID of a dead letter", 2),
        (["relay", "dead", "show", "999:9999999999999999999-0"], {}, "there is no dead letter", 1),
        (["relay", "dead", "show", "0:1-0"], {}, "there is no dead letter 0:1-0", 1),
        (["relay", "dead", "purge"], {}, "pass the IDs of dead letters, or --all", 2),
    ],
)
async def test_usage_errors(
    queue: dict[str, str], arguments: list[str], variables: dict[str, str], problem: str, code: int
) -> None:
    """Each usage error names the fault and the remedy, and none quotes a password."""
    await publish(queue)
    ended = await invoke(*arguments, **queue | variables)
    assert (ended.status, problem in ended.err) == (code, True), ended
    assert "s3cret" not in ended.err
