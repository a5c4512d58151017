"""Fixtures: a running sandbox, a client of it, and scripted HTTP servers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from salesmachine_async import Retry
from salesmachine_async.access import AccessClient
from salesmachine_async.sandbox import Sandbox

TOKEN = "v2-token-qwertyuiop"
# Waits that no test notices.
FAST = Retry(wait_initial=0.001, wait_max=0.002, timeout=20.0)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
async def api(sandbox: Sandbox) -> AsyncIterator[AccessClient]:
    async with AccessClient(TOKEN, base_url=sandbox.url, retry=FAST) as api:
        yield api


class Server:
    """A scripted HTTP server: sends *answers* one after the other, repeats the last one, and records the requests."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.seen: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        self.bodies.append(await request.read())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, web.StreamResponse):
            return answer
        status, data = answer if isinstance(answer, tuple) else (200, answer)
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        return web.Response(status=status, body=body, content_type="application/json")


@asynccontextmanager
async def serving(*answers: Any) -> AsyncIterator[Server]:
    server = Server(*answers)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def client_of(server: Server, **options: Any) -> AccessClient:
    return AccessClient(TOKEN, base_url=server.url, **{"retry": FAST, **options})
