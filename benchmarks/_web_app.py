"""A small FastAPI application under uvicorn, which tracks every request with one client, or without any."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import aiohttp
import orjson

from benchmarks._contestants import CONTESTANTS, Contestant, SalesmachineAsync
from benchmarks._floor import message

PAGE: Final = {"items": [{"sku": f"A-{number}", "name": f"Article {number}", "price": 9.9} for number in range(5)]}


class BareClient:
    """
    The floor of tracking in an asyncio application: encode, keep, and post by the hundred with a bare aiohttp session.

    One post at a time, in order; no bounds, no thread safety, no linger, no retry.

    Args:
        url: The sink's.
        batch: Messages in a post.
    """

    def __init__(self, url: str, batch: int) -> None:
        self._url = f"{url}/v1/batch"
        self._batch = batch
        self._buffer = bytearray(b"[")
        self._count = 0
        self._full: list[bytes] = []
        self._posting: asyncio.Task[None] | None = None
        self._session = aiohttp.ClientSession(headers={"Content-Type": "application/json"})

    def track(self, contact_uid: str, event_uid: str, params: dict[str, Any]) -> None:
        """Keep one message."""
        self._buffer += orjson.dumps(message(contact_uid, event_uid, params))
        self._buffer += b","
        self._count += 1
        if self._count == self._batch:
            self._seal()

    async def flush(self) -> None:
        """Post the rest."""
        if self._count:
            self._seal()
        if self._posting is not None:
            await self._posting

    async def close(self) -> None:
        """End."""
        await self._session.close()

    def _seal(self) -> None:
        self._buffer[-1] = ord("]")
        self._full.append(bytes(self._buffer))
        self._buffer, self._count = bytearray(b"["), 0
        if self._posting is None or self._posting.done():
            self._posting = asyncio.get_running_loop().create_task(self._post())

    async def _post(self) -> None:
        while self._full:
            async with self._session.post(self._url, data=self._full.pop(0)) as response:
                await response.read()


class Shop:
    """
    The application, and how many requests it has answered.

    Args:
        track: The call, or None.
    """

    def __init__(self, track: Callable[[str, str, dict[str, Any]], object] | None) -> None:
        self.served = 0
        self.app = importlib.import_module("fastapi").FastAPI()
        handler = self._untracked if track is None else self._tracked(track)
        self.app.add_api_route("/items/{contact}", handler, response_model=None)

    async def _untracked(self, contact: str) -> dict[str, Any]:
        self.served += 1
        return {"contact": contact, **PAGE}

    def _tracked(self, track: Callable[[str, str, dict[str, Any]], object]) -> Callable[..., Any]:
        async def tracked(contact: str) -> dict[str, Any]:
            self.served += 1
            params = {"visit_url": "/items", "visit_ip": "203.0.113.7", "items": len(PAGE["items"]), "seq": self.served}
            track(contact, "pageview", params)
            return {"contact": contact, **PAGE}

        return tracked


async def serve(who: str, batch: int, sink: str) -> None:
    """Serve until standard input ends, then deliver what is left and tell how many requests were answered."""
    contestant = await _opened(who, batch, sink)
    shop = Shop(contestant.track if contestant is not None else None)
    uvicorn = importlib.import_module("uvicorn")
    server = uvicorn.Server(uvicorn.Config(shop.app, log_level="error", access_log=False, lifespan="off"))
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    serving = asyncio.create_task(server.serve([listening]))
    await asyncio.to_thread(sys.stdin.buffer.read)
    server.should_exit = True
    with suppress(Exception):
        await serving
    if contestant is not None:
        await contestant.flush()
        await contestant.close()
    print(json.dumps({"served": shop.served}), flush=True)


async def _opened(who: str, batch: int, sink: str) -> Contestant | BareClient | None:
    if who == "no client":
        return None
    if who == "floor":
        return BareClient(sink, batch)
    contestant = CONTESTANTS[who]()
    contestant.open(sink, batch)
    if isinstance(contestant, SalesmachineAsync):
        await contestant.agent.start()
    return contestant


def run() -> None:
    """Read the arguments; run on uvloop if it is there, as `uvicorn` by itself does."""
    arguments = argparse.ArgumentParser(description="The web application of web_latency; prints its port.")
    arguments.add_argument("who")
    arguments.add_argument("batch", type=int)
    arguments.add_argument("sink")
    parsed = arguments.parse_args()
    factory = importlib.import_module("uvloop").new_event_loop if importlib.util.find_spec("uvloop") else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(parsed.who, parsed.batch, parsed.sink))


if __name__ == "__main__":
    run()
