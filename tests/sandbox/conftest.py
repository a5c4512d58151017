"""A running sandbox, and a client that speaks plain HTTP to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import pytest

from salesmachine_async.sandbox import Sandbox

TOKEN = "qwertyuiopasdfghjkl123"


def basic(token: str, password: str = "") -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth(token, password)}


class Answer(NamedTuple):
    status: int
    body: Any
    headers: Any


class Client:
    """One token's HTTP client; every answer must be JSON."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str | None = TOKEN) -> None:
        self.session = session
        self.url = url
        self.headers = {} if token is None else basic(token)

    def of(self, token: str | None) -> Client:
        return Client(self.session, self.url, token)

    async def call(self, method: str, path: str, headers: dict[str, str] | None = None, **kwargs: Any) -> Answer:
        headers = {**self.headers, **(headers or {})}
        async with self.session.request(method, f"{self.url}{path}", headers=headers, **kwargs) as response:
            body = None if response.status == 204 else await response.json()
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            return Answer(response.status, body, response.headers)

    async def post(self, path: str, json: Any = None, **kwargs: Any) -> Answer:
        return await self.call("POST", path, json=json, **kwargs)

    async def send(self, path: str, body: bytes | str, content_type: str = "application/json") -> Answer:
        return await self.call("POST", path, data=body, headers={"Content-Type": content_type})

    async def get(self, path: str, **params: str) -> Any:
        answer = await self.call("GET", f"/_sandbox/{path}", params=params)
        assert answer.status == 200, answer.body
        return answer.body

    async def contact(self, uid: Any, **params: Any) -> None:
        assert (await self.post("/v1/contact", {"contact_uid": uid, "params": params})).status == 200

    async def account(self, uid: Any, **params: Any) -> None:
        assert (await self.post("/v1/account", {"account_uid": uid, "params": params})).status == 200

    async def track(self, uid: Any, event: str, **params: Any) -> None:
        body = {"contact_uid": uid, "event_uid": event, "params": params}
        assert (await self.post("/v1/track/event", body)).status == 200

    async def alias(self, uid: Any, alias: Any) -> None:
        assert (await self.post("/v1/alias", {"contact_uid": uid, "alias": alias})).status == 200


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    # The connector closes each connection, because one dropped by a fault must not affect the next request.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


@pytest.fixture
def client(session: aiohttp.ClientSession, sandbox: Sandbox) -> Client:
    return Client(session, sandbox.url)
