"""A web application with several workers on one spool, an engine that is away, and a worker that is killed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.carriers import Carrier
from tests.support.example_process import ROOT
from tests.support.redis_servers import RedisServer, binary
from tests.support.relays import drained, relaying
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.one_python]

WORKERS = 4
CLIENTS = 8
AWAY_SECONDS = 5.0


class Visitors:
    """
    Clients of the application, each with a new connection for each request.

    Args:
        url: Of the application.

    Attributes:
        answered: What the application has answered: the worker, and the number of the visit there.
    """

    def __init__(self, url: str) -> None:
        self.answered: list[tuple[int, int]] = []
        self._url = url

    def workers(self, since: int = 0) -> set[int]:
        """The workers that have answered since so many answers."""
        return {worker for worker, _ in self.answered[since:]}

    @asynccontextmanager
    async def visiting(self) -> AsyncIterator[None]:
        """Visit while the block runs."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
            visitors = [asyncio.create_task(self._visit(http)) for _ in range(CLIENTS)]
            yield
            for each in visitors:
                each.cancel()
            await asyncio.wait(visitors)

    async def _visit(self, http: aiohttp.ClientSession) -> None:
        while True:
            with suppress(aiohttp.ClientError):  # of the killed worker
                async with http.post(f"{self._url}/visits") as response:
                    answer: dict[str, int] = await response.json()
                    self.answered.append((answer["worker"], answer["i"]))
            await asyncio.sleep(0.02)


@asynccontextmanager
async def application(server: RedisServer, name: str, spool: Path) -> AsyncIterator[str]:
    """Run the application with its workers; yields its URL. At its end it has ended by SIGTERM with status 0."""
    command = ["uvicorn", "--port", "0", "--workers", str(WORKERS), "tests.support.fleet_app:app"]
    places = {"SALESMACHINE_ENGINE": server.url, "SALESMACHINE_ENGINE_NAME": name, "SPOOL_DIRECTORY": str(spool)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *command, cwd=ROOT, env=os.environ | places, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    said = b""
    while (found := re.search(rb"(http://127\.0\.0\.1:\d+)", said)) is None:
        line = await process.stderr.readline()
        assert line, said
        said += line
    reading = asyncio.create_task(process.stderr.read())
    try:
        yield found[1].decode()
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()
        said += await reading
    assert process.returncode == 0, said.decode()


async def test_workers_of_a_web_application(name: str, tmp_path: Path) -> None:
    """Every visit that was answered is delivered, in order for each contact, although the engine and a worker died."""
    if binary("valkey") is None:
        pytest.skip("there is no valkey-server")
    carrier = Carrier()
    with RedisServer("valkey", "--appendonly", "yes", "--appendfsync", "no") as server:
        async with application(server, name, tmp_path / "spool") as url, relaying(server.url, name, carrier) as relay:
            visitors = Visitors(url)
            async with visitors.visiting():
                await until(lambda: len(visitors.workers()) == WORKERS and relay.stats().delivered > 50)
                server.kill()
                seen = len(visitors.answered)
                await until(lambda: len(visitors.workers(seen)) == WORKERS and len(visitors.answered) > seen + 100)
                killed = visitors.answered[-1][0]
                os.kill(killed, signal.SIGKILL)
                # Its successor has answered, too.
                await until(lambda: len(visitors.workers(seen) - {killed}) == WORKERS)
                await asyncio.sleep(AWAY_SECONDS)
                server.start()
                delivered = relay.stats().delivered
                await until(lambda: relay.stats().delivered > delivered + 100)
            answered = set(visitors.answered)
            while answered - arrived(carrier):
                await asyncio.sleep(0.05)
            await drained(relay)
        check_order(carrier.delivered)


def arrived(carrier: Carrier) -> set[tuple[int, int]]:
    """The worker and number of each visit that was delivered."""
    return {(message["params"]["worker"], message["params"]["i"]) for message in carrier.delivered}


def check_order(messages: list[dict[str, Any]]) -> None:
    """The first deliveries of each contact are in order; repetitions have the same ``messageId``."""
    first: dict[str, list[int]] = defaultdict(list)
    seen: set[str] = set()
    for message in messages:
        if message["messageId"] not in seen:
            seen.add(message["messageId"])
            first[message["contact_uid"]].append(message["params"]["i"])
    for contact, found in first.items():
        assert found == sorted(set(found)), contact
