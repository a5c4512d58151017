"""The status line decides the outcome in the client of the Access API, too, whatever follows it."""

from __future__ import annotations

from typing import Any

import pytest

from salesmachine_async import ConnectionFailed, DeliveryError, RateLimited, Rejected, Retry, Timeouts, Unauthorized
from salesmachine_async.access import AccessClient
from tests.support.servers import RawServer, Turn, http, ok, raw, says

TOKEN = "v2-token-qwertyuiop"
FAST = Retry(wait_initial=0.001, wait_max=0.002, timeout=20.0)
SPOILED = {
    "malformed header": b"no colon\r\n\r\n",
    "huge header": b"X: " + b"x" * 70_000 + b"\r\n\r\n",
    "two lengths": b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "no end": b"X: y\r\n",
}
spoiled = pytest.mark.parametrize("rest", SPOILED.values(), ids=SPOILED)


def client(server: RawServer, **options: Any) -> AccessClient:
    return AccessClient(TOKEN, base_url=server.url, **{"retry": FAST, **options})


def head(status: int, rest: bytes) -> Turn:
    return raw(b"HTTP/1.1 %d Something\r\nRetry-After: 0\r\n%s" % (status, rest))


@spoiled
@pytest.mark.parametrize(("status", "kind"), [(401, Unauthorized), (400, Rejected), (404, Rejected), (302, Rejected)])
async def test_error_status_is_raised_without_a_retry(status: int, kind: type[DeliveryError], rest: bytes) -> None:
    """An error status is raised and not retried, although aiohttp repeats a GET whose connection ended early."""
    async with RawServer(then=head(status, rest)) as server, client(server) as api:
        with pytest.raises(kind) as raised:
            await api.request("POST", "/v2/x", json={})
        assert raised.value.status == status
        assert len(server.seen) == 1
        with pytest.raises(kind):
            await api.contacts.page()
        assert len(server.seen) <= 3


@spoiled
async def test_429_is_always_retried(rest: bytes) -> None:
    """A 429 means that nothing was done, so even a request that must not be repeated is retried."""
    async with RawServer(head(429, rest), ok()) as server, client(server) as api:
        assert (await api.request("POST", "/v2/x", json={})).status == 200
        assert len(server.seen) == 2
    async with RawServer(then=head(429, rest)) as server, client(server, retry=None) as api:
        with pytest.raises(RateLimited) as raised:
            await api.request("POST", "/v2/x", json={})
        assert raised.value.retry_after == 0.0


@spoiled
async def test_2xx_with_an_incomplete_body_is_a_failure(rest: bytes) -> None:
    """A read with an incomplete body is retried; a request that must not be repeated raises, with its 2xx status."""
    async with RawServer(head(200, rest), ok()) as server, client(server) as api:
        assert (await api.request("GET", "/v2/x")).data == {}
        assert len(server.seen) == 2
    async with RawServer(head(201, rest)) as server, client(server) as api:
        with pytest.raises(ConnectionFailed) as raised:
            await api.request("POST", "/v2/x", json={})
        assert raised.value.status == 201
        assert len(server.seen) == 1


async def test_large_head_is_understood() -> None:
    """A head within the limits needs no retry."""
    async with RawServer(then=says(200, b'{"a":1}', X="x" * 9_000)) as server, client(server) as api:
        assert (await api.request("GET", "/v2/x")).data == {"a": 1}
        assert server.connections == len(server.seen) == 1


async def test_timeout_in_the_head_keeps_the_status() -> None:
    """The timeout of the attempt bounds a slow body; the status line decides."""
    turn = raw(b"HTTP/1.1 403 Forbidden\r\nX:", hold=True)
    for seconds in (0.1, 0.4, 1.6, 6.4):  # the longer the busier this machine is
        async with RawServer(turn) as server, client(server, timeouts=Timeouts(connect=30, request=seconds)) as api:
            with pytest.raises(DeliveryError) as raised:
                await api.request("POST", "/v2/x", json={})
        if raised.value.status is not None:
            break
    assert type(raised.value) is Unauthorized


async def test_bytes_after_a_whole_body_are_ignored() -> None:
    """A whole body is used, although the connection ends with an error."""
    async with RawServer(raw(http(200, b'{"a":1}') + b"junk")) as server, client(server) as api:
        assert (await api.request("POST", "/v2/x", json={})).data == {"a": 1}


@pytest.mark.parametrize("body", [b'{"error":' + b"[" * 300 + b"]" * 300 + b"}", b'{"error":"\\ud800"}', b"\xff"])
@pytest.mark.parametrize(("status", "kind"), [(400, Rejected), (401, Unauthorized), (429, RateLimited)])
async def test_body_does_not_change_the_error(status: int, kind: type[DeliveryError], body: bytes) -> None:
    """A broken answer changes neither the kind of the error nor its retry_after."""
    async with RawServer(then=says(status, body, Retry_After="7")) as server, client(server, retry=None) as api:
        with pytest.raises(kind) as raised:
            await api.contacts.page()
        assert (raised.value.status, raised.value.retry_after) == (status, 7.0)
