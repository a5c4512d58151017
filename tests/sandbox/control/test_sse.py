"""Server-Sent Events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from salesmachine_async.sandbox import Sandbox
from salesmachine_async.sandbox.control import sse
from salesmachine_async.sandbox.http.auth import workspace_of
from tests.sandbox.conftest import TOKEN, Client


class Events:
    """A parser of one stream."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.id = ""

    async def block(self) -> list[str]:
        """Read up to an empty line."""
        lines: list[str] = []
        while line := (await self.response.content.readuntil(b"\n")).decode().rstrip("\n"):
            lines.append(line)
        return lines

    async def update(self) -> dict[str, Any]:
        """Read the next update; comments and settings are skipped."""
        while True:
            fields = dict(line.split(": ", 1) for line in await self.block())
            if "data" in fields:
                assert fields["event"] == "update"
                self.id = fields["id"]
                data: dict[str, Any] = json.loads(fields["data"])
                return data


@asynccontextmanager
async def listening(client: Client, query: str = "", last_id: str | None = None) -> AsyncIterator[Events]:
    headers = dict(client.headers) if last_id is None else {**client.headers, "Last-Event-ID": last_id}
    url = f"{client.url}/_sandbox/stream{query}"
    async with client.session.get(url, headers=headers, read_bufsize=2**24) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store"
        yield Events(response)


@pytest.fixture(autouse=True)
def no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "PACE_SECONDS", 0.001)


async def test_updates(client: Client, sandbox: Sandbox) -> None:
    """The first event is the current state; later events contain what is new, in the form of the other endpoints."""
    await client.contact("0")
    async with listening(client) as events:
        assert await events.block() == ["retry: 1000"]
        first = await events.update()
        assert (first["messages"], first["requests"], first["reset"]) == ([], [], False)
        assert first["summary"]["contacts"] == 1
        await client.contact("1", name="x")
        second = await events.update()
        assert second["summary"] == sandbox.summary(TOKEN)
        assert second["messages"] == (await sandbox.wait({"contact_uid": "1"}))["items"]
        assert second["requests"] == sandbox.requests()[1:]
        assert (second["messages_skipped"], second["requests_skipped"]) == (0, 0)


async def test_refused_requests_are_news_too(client: Client) -> None:
    """A request without messages appears in an update."""
    async with listening(client) as events:
        await events.update()
        await client.post("/v1/contact", {})
        update = await events.update()
        assert (update["messages"], update["requests"][0]["status"]) == ([], 400)


async def test_whose_news(client: Client) -> None:
    """A token or a name limits the stream to one workspace; without either it covers all."""
    async with (
        listening(client) as mine,
        listening(client.of(None), f"?workspace={workspace_of(TOKEN)}") as named,
        listening(client.of(None), f"?api_token={TOKEN}") as queried,
        listening(client.of(None)) as whole,
    ):
        for events in (mine, named, queried, whole):
            await events.update()
        await client.of("other").contact("2")
        update = await whole.update()
        assert [each["contact_uid"] for each in update["messages"]] == ["2"]
        await client.contact("1")
        for events in (mine, named, queried):
            seen: list[str] = []
            while not seen:
                seen = [each["contact_uid"] for each in (await events.update())["messages"]]
            assert seen == ["1"]


async def test_coming_back(client: Client) -> None:
    """A reconnection with the id of the last event receives the missed entries."""
    async with listening(client) as events:
        await events.update()
        await client.contact("1")
        await events.update()
    for n in range(2, 5):
        await client.contact(n)
    async with listening(client, last_id=events.id) as again:
        update = await again.update()
        assert [each["contact_uid"] for each in update["messages"]] == ["2", "3", "4"]
        assert len(update["requests"]) == 3
        assert update["reset"] is False


async def test_coming_back_from_another_time(client: Client) -> None:
    """Entries of an earlier run, or before a reset, are declared void; a malformed id is ignored."""
    async with listening(client, last_id="0123abcd-0.7.7") as events:
        assert (await events.update())["reset"] is True
        await client.contact("1")
        assert (await events.update())["reset"] is False
        await client.post("/_sandbox/reset")
        update = await events.update()
        assert (update["reset"], update["summary"]["contacts"]) == (True, 0)
    async with listening(client, last_id="x") as events:
        assert (await events.update())["reset"] is False


async def test_much_is_cut(client: Client) -> None:
    """An update contains at most the latest hundred entries and the number of skipped ones."""
    async with listening(client) as events:
        await events.update()
        await client.post("/v1/batch", [{"method": "contact", "contact_uid": str(n)} for n in range(250)])
        update = await events.update()
        assert [each["contact_uid"] for each in update["messages"]] == [str(n) for n in range(150, 250)]
        assert update["messages_skipped"] == 150


async def test_large_messages_are_left_out(client: Client) -> None:
    """An update has a limited size."""
    async with listening(client) as events:
        await events.update()
        large = {"method": "contact", "contact_uid": "1", "params": {"x": "y" * 300_000}}
        await client.post("/v1/batch", [large, {**large, "contact_uid": "2", "params": {}}])
        update = await events.update()
        assert [each["contact_uid"] for each in update["messages"]] == ["2"]
        assert update["messages_skipped"] == 1


async def test_hostile_text_stays_in_its_field(client: Client) -> None:
    """Line breaks in values do not end an event."""
    name = "\r\n\n\u2028data: x\n\nevent: evil\n\n</script>"
    async with listening(client) as events:
        await events.update()
        await client.contact(name, name=name)
        update = await events.update()
        assert update["messages"][0]["params"] == {"name": name}


async def test_keep_alive(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent stream sends comments."""
    monkeypatch.setattr(sse, "KEEP_ALIVE_SECONDS", 0.01)
    async with listening(client) as events:
        await events.block()
        await events.block()
        assert await events.block() == [": keep-alive"]


async def test_stopping_ends_streams(session: aiohttp.ClientSession) -> None:
    """The stream ends when the server stops."""
    async with Sandbox() as sandbox:
        response = await session.get(f"{sandbox.url}/_sandbox/stream")
        events = Events(response)
        await events.update()
    assert await response.content.read() == b""
    response.close()


async def test_a_slow_listener_does_not_delay_others(client: Client, sandbox: Sandbox) -> None:
    """A listener that never reads occupies only socket buffers; other listeners receive their updates."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sandbox.url.rpartition(":")[2]), limit=2**10)
    writer.write(b"GET /_sandbox/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    await writer.drain()
    large = [{"method": "contact", "contact_uid": "1", "params": {"x": "y" * 200_000}}]
    async with listening(client) as events:
        await events.update()
        for _ in range(40):
            await client.post("/v1/batch", large)
        seen = 0
        while seen < 40:
            update = await events.update()
            seen += len(update["messages"]) + update["messages_skipped"]
    writer.close()
    assert reader.at_eof() is False


async def test_a_listener_that_leaves_is_forgotten(client: Client, sandbox: Sandbox) -> None:
    """The stream of a closed connection ends with the next update."""
    async with listening(client) as events:
        await events.update()
    message_log = sandbox._running().message_log
    while message_log._listeners:
        await client.contact("1")
        await asyncio.sleep(0.001)
    assert sandbox.summary()["contacts"] == 1


async def test_a_listener_that_left_before_the_answer_is_no_bug(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A client may disconnect before the stream begins."""

    async def prepare(*_: Any) -> None:
        raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")

    with monkeypatch.context() as patch:
        patch.setattr(web.StreamResponse, "prepare", prepare)
        with pytest.raises(aiohttp.ClientError):
            await client.session.get(f"{client.url}/_sandbox/stream")
    assert [record for record in caplog.records if record.name == "salesmachine_async.sandbox"] == []
    assert await client.get("health") == {"status": "ok"}
