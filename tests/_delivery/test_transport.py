"""The real transport: what it sends, what it makes of answers, what it leaves behind."""

from __future__ import annotations

import asyncio
import base64
import gc
import logging
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import aiohttp
import pytest
import trustme
from aioresponses import aioresponses

from salesmachine_async import __version__
from salesmachine_async._core.batch import AliasLine, Batch
from salesmachine_async._core.head import HeadReader
from salesmachine_async._core.response import Outcome, Verdict
from salesmachine_async._delivery.transport import HttpTransport
from salesmachine_async._http import connector as connector_module
from salesmachine_async._http import session
from salesmachine_async._http.session import KEEPALIVE_SECONDS, MAX_ANSWER_BYTES
from salesmachine_async.errors import (
    CertificateRejected,
    ConnectionFailed,
    DeliveryError,
    RateLimited,
    Rejected,
    RequestTimeout,
    ServerFailure,
    Unauthorized,
)
from salesmachine_async.policy import Timeouts
from salesmachine_async.testing import serve
from tests.support.servers import (
    Exchange,
    RawServer,
    answers,
    at_accept,
    chunked,
    client_context,
    drip,
    early,
    flood,
    half_open,
    http,
    in_thread,
    ok,
    proxy,
    raw,
    refusing,
    says,
    secure,
    server_context,
)
from tests.support.waiting import until

RESET = "the connection failed (Connection reset by peer)"
TOKEN = "tok4711token"
SECRET = "sec4711secret"
# Long enough that nothing here ever waits for it on purpose: what must be prompt is far quicker.
PATIENT = Timeouts(connect=30, request=30, close=30)
PROMPT = 15.0


def batch(count: int = 1, padding: int = 0) -> Batch:
    item = b'{"method":"event","contact_uid":"1","event_uid":"x","params":{"p":"%s"},"messageId":"m%d"}'
    return Batch.of_lines([item % (b"x" * padding, number) for number in range(count)])


def alias() -> Batch:
    return Batch.of_lines([AliasLine(b'{"contact_uid":"1","alias":"2"}')])


@asynccontextmanager
async def transport_to(url: str, **kwargs: Any) -> AsyncIterator[HttpTransport]:
    kwargs.setdefault("timeouts", PATIENT)
    async with aclosing(HttpTransport(TOKEN, SECRET, base_url=url, **kwargs)) as transport:
        yield transport


def sockets() -> int:
    """Count the open sockets of this process."""
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            found += os.readlink(entry).startswith("socket:")
    return found


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


# What an answer means.

ANSWERS: list[tuple[range | list[int], Verdict, type[DeliveryError] | None]] = [
    (range(200, 300), Verdict.DELIVERED, None),
    ([300, 301, 302, 303, 304, 305, 307, 308, 399], Verdict.PARKED, Rejected),
    ([400, 422, 409, 418, 431, 499], Verdict.REJECTED, Rejected),
    ([401, 403], Verdict.PARKED, Unauthorized),
    ([402, 404, 405, 406, 407, 410, 415, 421, 426, 451], Verdict.PARKED, Rejected),
    ([408], Verdict.RETRY, RequestTimeout),
    ([425], Verdict.RETRY, Rejected),
    ([413], Verdict.TOO_LARGE, Rejected),
    ([429], Verdict.PAUSE, RateLimited),
    ([503], Verdict.PAUSE, ServerFailure),
    ([500, 502, 504, 507, 520, 599, 600, 799, 999], Verdict.RETRY, ServerFailure),
    ([501, 505, 511], Verdict.PARKED, ServerFailure),
    ([101], Verdict.RETRY, ServerFailure),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "verdict", "kind"), [(status, verdict, kind) for many, verdict, kind in ANSWERS for status in many]
)
async def test_answer_becomes_an_outcome(status: int, verdict: Verdict, kind: type[DeliveryError] | None) -> None:
    """Each status has one meaning, and its error one type; the server's words are kept aside."""
    with aioresponses() as mocked:
        mocked.post("https://api.salesmachine.io/v1/batch", status=status, payload={"error": "because"})
        async with transport_to("https://api.salesmachine.io") as transport:
            outcome = await transport.send(batch())
    assert (outcome.verdict, outcome.status) == (verdict, status)
    if kind is None:
        assert outcome.error is None
    else:
        assert type(outcome.error) is kind
        assert (outcome.error.status, outcome.error.server_message) == (status, "because")
        assert str(status) in str(outcome.error)
        assert "because" not in str(outcome.error)


@pytest.mark.parametrize("status", [429, 503, 500])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "2"}, 2.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "1000000000"}, 1e9),
        ({"retry-after": "7"}, 7.0),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:27:00 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT", "Date": "Fri, 31 Dec 9999 23:59:00 GMT"}, 59.0),
        ({"Retry-After": "Wed, 99 Foo 2026 07:28:30 GMT"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT"}, 0.0),
    ],
)
async def test_retry_after_is_read(status: int, headers: dict[str, str], seconds: float | None) -> None:
    """Seconds and dates by the server's clock are parsed; malformed values count as absent."""
    with aioresponses() as mocked:
        mocked.post("https://api.salesmachine.io/v1/batch", status=status, headers=headers)
        async with transport_to("https://api.salesmachine.io") as transport:
            outcome = await transport.send(batch())
    assert outcome.error is not None
    assert outcome.retry_after == outcome.error.retry_after == seconds


async def test_retry_after_date_without_a_date_is_read_by_our_clock() -> None:
    """A date is compared with the local clock if the answer has no Date header."""
    at = (datetime.now(UTC) + timedelta(hours=1)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    with aioresponses() as mocked:
        mocked.post("https://api.salesmachine.io/v1/batch", status=503, headers={"Retry-After": at})
        async with transport_to("https://api.salesmachine.io") as transport:
            outcome = await transport.send(batch())
    assert outcome.retry_after is not None
    assert 3500 < outcome.retry_after <= 3600


@pytest.mark.parametrize(
    "exc", [ValueError(f"Invalid header {TOKEN}"), aiohttp.ClientPayloadError(TOKEN), KeyError(SECRET), OSError(TOKEN)]
)
async def test_an_unexpected_exception_is_a_failed_connection(exc: Exception) -> None:
    """Every exception becomes an outcome; of unknown errors only the name is used."""
    with aioresponses() as mocked:
        mocked.post("https://api.salesmachine.io/v1/batch", exception=exc)
        async with transport_to("https://api.salesmachine.io") as transport:
            outcome = await transport.send(batch())
    assert outcome.verdict is Verdict.RETRY
    assert type(outcome.error) is ConnectionFailed
    assert str(outcome.error) == f"the connection failed ({type(exc).__name__})"
    assert outcome.error.__context__ is outcome.error.__cause__ is None


@pytest.mark.parametrize(
    ("exc", "reused", "verdict", "says"),
    [
        (aiohttp.ConnectionTimeoutError(), False, Verdict.RETRY, "no connection in time"),
        (aiohttp.ServerTimeoutError(), False, Verdict.RETRY, "no answer in time"),
        (aiohttp.ServerDisconnectedError(), False, Verdict.RETRY, "the connection was closed before an answer came"),
        (aiohttp.ServerDisconnectedError(), True, Verdict.STALE, "a kept-alive connection was closed"),
        (ConnectionResetError(104, "Connection reset by peer"), True, Verdict.RETRY, RESET),
        (aiohttp.ClientOSError(104, "Connection reset by peer"), False, Verdict.RETRY, RESET),
        (
            aiohttp.ClientOSError(104, "Connection reset by peer"),
            True,
            Verdict.STALE,
            "a kept-alive connection was closed",
        ),
        (
            aiohttp.ClientConnectorCertificateError(Mock(host="h", port=443), ssl.SSLCertVerificationError(TOKEN)),
            False,
            Verdict.PARKED,
            "the server's TLS certificate was not accepted: check the base URL, or pass ssl_context",
        ),
    ],
    ids=[
        "connection timeout",
        "answer timeout",
        "closed",
        "stale",
        "reset below",
        "reset",
        "stale reset",
        "certificate",
    ],
)
def test_text_and_verdict_of_a_failure(exc: Exception, reused: bool, verdict: Verdict, says: str) -> None:
    """Each says what happened; only what a kept connection may do by itself is stale."""
    outcome = session.failure(exc, reused=reused)
    assert (outcome.verdict, str(outcome.error), outcome.status) == (verdict, says, None)


# What is sent.


@pytest.mark.parametrize("base", ["", "/", "/base", "/base/", "/a/b%2Fc"])
@pytest.mark.parametrize(
    ("request_", "path", "body"),
    [
        (batch(2), "/v1/batch", batch(2).body()),
        (alias(), "/v1/alias", b'{"contact_uid":"1","alias":"2"}'),
        (Batch.ping(), "/v1/ping", b""),
    ],
)
async def test_request_on_the_wire(base: str, request_: Batch, path: str, body: bytes) -> None:
    """Method, path below the base, headers and body are those of the contract."""
    async with RawServer() as server, transport_to(server.url + base) as transport:
        outcome = await transport.send(request_)
    assert outcome == Outcome(verdict=Verdict.DELIVERED, status=200)
    (seen,) = server.seen
    assert (seen.method, seen.path, seen.body) == ("POST", base.rstrip("/") + path, body)
    credentials = base64.b64encode(f"{TOKEN}:{SECRET}".encode()).decode()
    assert seen.headers.items() >= {
        ("host", f"127.0.0.1:{server.port}"),
        ("authorization", f"Basic {credentials}"),
        ("content-type", "application/json"),
        ("accept", "application/json"),
        ("user-agent", f"salesmachine-async/{__version__}"),
        ("content-length", str(len(body))),
    }
    assert "gzip" not in seen.headers["accept-encoding"]
    assert "transfer-encoding" not in seen.headers
    assert "cookie" not in seen.headers


async def test_empty_secret_is_an_empty_password() -> None:
    """A token alone is the user of HTTP Basic, as the documents show it."""
    async with (
        RawServer() as server,
        aclosing(HttpTransport(TOKEN, "", base_url=server.url)) as transport,
    ):
        await transport.send(Batch.ping())
    assert server.seen[0].headers["authorization"] == "Basic " + base64.b64encode(f"{TOKEN}:".encode()).decode()


async def test_large_body_goes_out_whole() -> None:
    """A body beyond 1 MiB has a Content-Length and causes no ResourceWarning."""
    request = batch(10, padding=300_000)
    async with RawServer() as server, transport_to(server.url) as transport:
        for _ in range(2):  # on a new connection, and on a kept one
            assert (await transport.send(request)).verdict is Verdict.DELIVERED
    assert server.connections == 1
    for seen in server.seen:
        assert seen.body == request.body()
        assert len(seen.body) > 2 * 2**20
        assert seen.headers["content-length"] == str(len(seen.body))
        assert seen.headers["content-type"] == "application/json"
        assert "transfer-encoding" not in seen.headers


@pytest.mark.parametrize("size", [2**20 - 1, 2**20, 2**20 + 1])
async def test_body_about_the_size_that_is_sliced(size: int) -> None:
    """No byte is lost at the border."""
    request = batch(1, padding=size - len(batch().body()))
    assert request.body_size == size
    async with RawServer() as server, transport_to(server.url) as transport:
        assert (await transport.send(request)).verdict is Verdict.DELIVERED
    assert server.seen[0].body == request.body()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(status: int) -> None:
    """A redirect is an error that names its target without possible secrets."""
    async with RawServer() as other:
        there = f"http://user:{SECRET}@127.0.0.1:{other.port}/v1/batch?api_token={TOKEN}"
        async with RawServer(says(status, Location=there)) as server, transport_to(server.url) as transport:
            outcome = await transport.send(batch())
        assert (outcome.verdict, outcome.status) == (Verdict.PARKED, status)
        assert f"http://127.0.0.1:{other.port}/v1/batch" in str(outcome.error)
        assert TOKEN not in str(outcome.error)
        assert SECRET not in str(outcome.error)
        assert len(server.seen) == 1
        assert not other.connections


async def test_cookies_are_not_kept() -> None:
    """Cookies of the server are not sent back."""
    async with RawServer(then=says(200, Set_Cookie="id=1; Path=/")) as server:
        async with transport_to(server.url.replace("127.0.0.1", "localhost")) as transport:
            for _ in range(2):
                assert (await transport.send(batch())).verdict is Verdict.DELIVERED
    assert all("cookie" not in seen.headers for seen in server.seen)


@pytest.mark.usefixtures("no_proxies")
async def test_environment_is_not_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Proxy variables and the passwords in ~/.netrc are ignored."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login mallory password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with refusing() as dead:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, dead)
            monkeypatch.setenv(name.upper(), dead)
        async with RawServer() as server, transport_to(server.url) as transport:
            assert (await transport.send(batch())).verdict is Verdict.DELIVERED
    assert server.seen[0].headers["authorization"].endswith(base64.b64encode(f"{TOKEN}:{SECRET}".encode()).decode())


async def test_proxy_is_used_when_given() -> None:
    """The request goes to the proxy, which alone looks up the name."""
    async with RawServer(then=proxy()) as server:
        async with transport_to("http://api.localhost:1/base", proxy=server.url) as transport:
            assert (await transport.send(batch())).verdict is Verdict.DELIVERED
    assert server.paths == ["http://api.localhost:1/base/v1/batch"]


@pytest.mark.parametrize(
    ("status", "verdict"), [(401, Verdict.PARKED), (403, Verdict.PARKED), (407, Verdict.PARKED), (502, Verdict.RETRY)]
)
async def test_proxy_that_refuses_a_tunnel(status: int, verdict: Verdict) -> None:
    """The answer of a proxy to CONNECT is no verdict of the API."""
    async with RawServer(then=raw(http(status))) as server:
        async with transport_to("https://api.example.com", proxy=server.url) as transport:
            outcome = await transport.send(batch())
    assert outcome.verdict is verdict
    assert type(outcome.error) is ConnectionFailed
    assert f"the proxy answered {status}" in str(outcome.error)


async def test_proxy_that_is_not_there() -> None:
    """A dead proxy is a failed connection."""
    with refusing() as dead:
        async with transport_to("https://api.example.com", proxy=dead) as transport:
            outcome = await transport.send(batch())
    assert outcome.verdict is Verdict.RETRY
    assert type(outcome.error) is ConnectionFailed


# The body of an answer.


@pytest.mark.parametrize("pieces", [[b"one"], [b"one", b"two", b"three"], [b"x" * MAX_ANSWER_BYTES]])
async def test_answer_is_read_to_its_end(pieces: list[bytes]) -> None:
    """All pieces of a body up to the limit are returned, and the connection is kept."""
    response = Mock()
    response.content.is_eof.return_value = False
    response.content.readany = AsyncMock(side_effect=[*pieces, b""])
    assert await session.read_some(response) == b"".join(pieces)
    response.close.assert_not_called()


async def test_answer_beyond_the_limit_is_cut() -> None:
    """A body beyond the limit is cut, and the connection closed without reading on."""
    response = Mock()
    response.content.is_eof.return_value = False
    response.content.readany = AsyncMock(side_effect=[b"x" * MAX_ANSWER_BYTES, b"y", AssertionError])
    assert await session.read_some(response) == b"x" * MAX_ANSWER_BYTES
    response.close.assert_called_once_with()


async def test_compressed_answer_is_not_unpacked() -> None:
    """Garbage that calls itself gzip does no harm, and does not cost the connection."""
    async with RawServer(then=says(200, b"\x1f\x8bnot gzip", Content_Encoding="gzip")) as server:
        async with transport_to(server.url) as transport:
            for _ in range(2):
                assert (await transport.send(batch())).verdict is Verdict.DELIVERED
    assert server.connections == 1


@pytest.mark.parametrize("status", [200, 500])
async def test_endless_answer_is_cut_off(status: int) -> None:
    """The connection is closed after 64 KiB."""
    sent = 0

    async def turn(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.request()
        await exchange.send(chunked(status))
        while True:
            await exchange.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            sent += 4096

    async with RawServer(turn) as server, transport_to(server.url) as transport:
        async with asyncio.timeout(PROMPT):
            outcome = await transport.send(batch())
            await until(lambda: not server._open)
        assert outcome.status == status
        assert (await transport.send(batch())).verdict is Verdict.DELIVERED
    assert server.connections == 2
    assert sent < 2**25  # what the buffers of two sockets take


async def test_words_of_a_cut_off_answer() -> None:
    """An error message longer than is read is no error message."""
    body = b'{"error":"' + b"x" * (MAX_ANSWER_BYTES + 1) + b'"}'
    async with RawServer(says(400, body)) as server, transport_to(server.url) as transport:
        outcome = await transport.send(batch())
    assert outcome.status == 400
    assert outcome.error is not None
    assert outcome.error.server_message is None


SPOILED = [
    ("stall", raw(http(201, b"{}", Content_Length="10"), hold=True)),
    ("end", raw(http(201, b"{}", Content_Length="10"))),
    ("reset", raw(http(201, b"{}", Content_Length="10"), reset=True)),
    ("stalled chunk", raw(chunked(201, b"{}"), hold=True)),
    ("no last chunk", raw(chunked(201, b"{}"))),
    ("bad chunk", drip(b"no size\r\n", after=chunked(201))),
    ("flood", flood(chunked(201), b"1000\r\n" + b"x" * 4096 + b"\r\n")),
    ("until closed", raw(b"HTTP/1.1 201 Created\r\n\r\n{}", hold=True)),
]


@pytest.mark.parametrize("turn", [turn for _, turn in SPOILED], ids=[name for name, _ in SPOILED])
async def test_status_line_decides(turn: Any) -> None:
    """2xx is delivered, promptly, whatever comes of the body; that connection is not used again."""
    async with RawServer(turn) as server, transport_to(server.url) as transport:
        async with asyncio.timeout(PROMPT):
            assert (await transport.send(batch())).status == 201
        assert (await transport.send(batch())).status == 200
    assert [seen.connection for seen in server.seen] == [0, 1]


EARLY = [
    ("kept", early(http(200), hold=True)),
    ("closed", early(http(200))),
    ("reset", early(http(200), reset=True)),
    ("without a body", early(http(204, b""), hold=True)),
    ("stalled", early(http(200, b"", Content_Length="10"), hold=True)),
]


@pytest.mark.parametrize("turn", [turn for _, turn in EARLY], ids=[name for name, _ in EARLY])
async def test_status_line_decides_before_the_request_is_read(turn: Any) -> None:
    """A server may answer 2xx before it has read the body: delivered, promptly, though the upload goes no further."""
    async with RawServer(turn) as server, transport_to(server.url) as transport:
        async with asyncio.timeout(PROMPT):
            outcome = await transport.send(batch(20, padding=10**6))
        assert outcome.verdict is Verdict.DELIVERED, outcome.error
        assert (await transport.send(batch())).status == 200
    assert server.connections == 2


@pytest.mark.parametrize("status", [401, 413])
@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_refusal_before_the_request_is_read(status: int, how: str) -> None:
    """A server that refuses a large body unread is understood, though it then closes or resets."""
    turn = early(http(status), reset=how == "reset")
    async with RawServer(turn) as server, transport_to(server.url) as transport:
        outcome = await transport.send(batch(20, padding=10**6))
    assert outcome.status == status


async def test_interim_answers_are_skipped() -> None:
    """100 and 103 come before the answer, and are not it."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with RawServer(answers(lambda _: interim + http(201))) as server, transport_to(server.url) as transport:
        assert (await transport.send(batch())).status == 201


# Connections.


async def test_connection_is_kept() -> None:
    """Two requests, one connection."""
    async with RawServer() as server, transport_to(server.url) as transport:
        for _ in range(2):
            await transport.send(batch())
    assert [seen.connection for seen in server.seen] == [0, 0]
    assert KEEPALIVE_SECONDS < 60


async def test_connection_is_not_kept_when_the_server_will_not() -> None:
    """``Connection: close`` is obeyed."""
    async with RawServer(then=says(200, Connection="close")) as server, transport_to(server.url) as transport:
        for _ in range(2):
            assert (await transport.send(batch())).verdict is Verdict.DELIVERED
    assert [seen.connection for seen in server.seen] == [0, 1]


async def test_further_answer_is_not_taken_for_the_next() -> None:
    """Bytes behind an answer cost the connection: they would answer a request that was never sent."""
    async with RawServer(answers(lambda _: http(200) + http(500))) as server, transport_to(server.url) as transport:
        assert (await transport.send(batch())).status == 200
        assert (await transport.send(batch())).status == 200
    assert [seen.connection for seen in server.seen] == [0, 1]


@pytest.mark.parametrize("stray", [http(200), http(400), http(408, Connection="close"), b"garbage"])
async def test_unasked_answer_is_not_taken_for_the_next(stray: bytes) -> None:
    """An answer on an idle connection is discarded, because a batch would be lost with a false 200."""
    idle = asyncio.Event()

    async def turn(exchange: Exchange) -> bool:
        await exchange.request()
        await exchange.send(http(200))
        await idle.wait()
        await exchange.send(stray)
        return True

    async with RawServer(turn, then=says(500)) as server, transport_to(server.url) as transport:
        assert (await transport.send(batch())).status == 200
        idle.set()
        await asyncio.sleep(0.05)
        outcome = await transport.send(batch())
        assert outcome.status == 500, outcome
    assert [seen.connection for seen in server.seen] == [0, 1]


@pytest.mark.parametrize(
    "answer",
    [
        http(204, b"{}"),
        http(200, b"{}") + b"x",
        http(200, b"{}") + b"0\r\n\r\n",
        chunked(200) + b"no size\r\n",
        chunked(200, b"{}") + b"no size\r\n",
    ],
    ids=["204 with a body", "more", "end of chunks", "bad chunk", "bad second chunk"],
)
async def test_status_line_decides_whatever_comes_in_the_same_bytes(answer: bytes) -> None:
    """A defect in the same bytes as the status line does not change the outcome."""
    async with RawServer(answers(lambda _: answer)) as server, transport_to(server.url) as transport:
        outcome = await transport.send(batch())
        assert outcome.verdict is Verdict.DELIVERED, outcome
        assert (await transport.send(batch())).status == 200
    assert [seen.connection for seen in server.seen] == [0, 1]


@pytest.mark.parametrize("turn", [at_accept(), at_accept(reset=True), raw(b""), raw(b"", reset=True)])
async def test_kept_connection_that_was_closed_is_stale(turn: Any) -> None:
    """A connection that ends under its second request says nothing of the server; under its first it does."""
    async with RawServer(ok(), turn, turn) as server, transport_to(server.url) as transport:
        assert (await transport.send(batch())).verdict is Verdict.DELIVERED
        stale = await transport.send(batch())
        assert stale.verdict is Verdict.STALE
        assert type(stale.error) is ConnectionFailed
        assert (await transport.send(batch())).verdict is Verdict.RETRY


async def test_garbage_on_a_kept_connection_is_not_stale() -> None:
    """A server that says something is not one that has left."""
    async with RawServer(ok(), raw(b"220 smtp.example.com ESMTP\r\n")) as server:
        async with transport_to(server.url) as transport:
            await transport.send(batch())
            outcome = await transport.send(batch())
    assert outcome.verdict is Verdict.RETRY


async def test_session_is_made_at_the_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The constructor needs no loop and opens nothing; all requests share one session."""
    made: list[object] = []
    original = HttpTransport._new_session

    def counting(self: HttpTransport) -> aiohttp.ClientSession:
        made.append(self)
        return original(self)

    monkeypatch.setattr(HttpTransport, "_new_session", counting)
    async with RawServer() as server:
        transport = await asyncio.to_thread(HttpTransport, TOKEN, SECRET, base_url=server.url)
        assert not made
        await asyncio.gather(*(transport.send(batch()) for _ in range(5)))
        await transport.send(Batch.ping())
        assert len(made) == 1
        await transport.aclose()


async def test_close_without_a_request_does_nothing() -> None:
    """A transport without a session can be closed, also twice."""
    transport = HttpTransport(TOKEN, SECRET)
    await transport.aclose()
    await transport.aclose()
    assert transport._session is None


def test_a_session_is_closed_with_its_loop() -> None:
    """One `asyncio.run` after the other, as a function without a server has it: each closes its connections."""
    with serve() as sandbox:
        transport = HttpTransport(TOKEN, SECRET, base_url=sandbox.url)
        for _ in range(3):
            assert asyncio.run(transport.send(batch())).verdict is Verdict.DELIVERED
            assert transport._session is not None
            assert transport._session.closed
        asyncio.run(transport.aclose())
        assert transport._session is None


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the sockets of the loop that was only closed
def test_the_session_of_a_loop_that_ends_otherwise_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """A loop that is closed without a word."""
    with serve() as sandbox:
        transport = HttpTransport(TOKEN, SECRET, base_url=sandbox.url)
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(transport.send(batch())).verdict is Verdict.DELIVERED
        loop.close()
        assert asyncio.run(transport.send(batch())).verdict is Verdict.DELIVERED
        asyncio.run(transport.aclose())
        gc.collect()
    assert not caplog.records


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True])
async def test_close_gives_all_sockets_back(authority: trustme.CA, tls: bool) -> None:
    """After aclose no socket is left open, and nothing is left for the garbage collector."""
    gc.collect()
    before = sockets()
    context = server_context(authority) if tls else None
    async with RawServer(then=answers(lambda _: http(200)), tls=context) as server:
        url = server.url.replace("http:", "https:") if tls else server.url
        listening = sockets()
        transport = HttpTransport(TOKEN, base_url=url, timeouts=PATIENT, ssl_context=client_context(authority))
        outcomes = await asyncio.gather(*(transport.send(batch()) for _ in range(5)))
        assert {outcome.status for outcome in outcomes} == {200}
        assert sockets() == listening + 2 * 5
        await transport.aclose()
        async with asyncio.timeout(PROMPT):
            await until(lambda: sockets() <= listening)
    gc.collect()
    assert sockets() == before


@pytest.mark.slow
@pytest.mark.parametrize("closing", ["in the last loop", "in a new loop"])
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning", "ignore:unclosed transport:ResourceWarning")
def test_second_loop_after_the_first_was_closed(closing: str) -> None:
    """
    A transport can be used in a second loop, and sockets of the first do not accumulate.

    Only asyncio complains, of the loop that was closed over its connections.
    """
    gc.collect()
    before = sockets()
    with in_thread(RawServer()) as server:
        transport = HttpTransport(TOKEN, base_url=server.url, timeouts=PATIENT)

        async def use(transport: HttpTransport, *, close: bool) -> None:
            for _ in range(2):
                assert (await transport.send(batch())).status == 200
            if close:
                await transport.aclose()

        for number in range(3):
            asyncio.run(use(transport, close=closing == "in the last loop" and number == 2))
            assert server.connections == number + 1
        if closing == "in a new loop":
            asyncio.run(transport.aclose())
        del transport
        gc.collect()
    assert sockets() == before


@pytest.mark.slow
async def test_child_leaves_its_parents_connections_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked child drops the session without closing it, and opens its own."""
    inherited: list[Any] = []
    monkeypatch.setattr(connector_module, "INHERITED", inherited)
    async with RawServer() as server, transport_to(server.url) as transport:
        transport.after_fork_in_child()
        assert not inherited  # there was none
        assert (await transport.send(batch())).status == 200
        transport.after_fork_in_child()
        gc.collect()
        (connector,) = inherited
        assert not connector.closed
        assert (await transport.send(batch())).status == 200
        assert [seen.connection for seen in server.seen] == [0, 1]
        await connector.close()


async def test_fork_that_ran_no_hooks_is_noticed_by_the_process_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed process id has the effect of the fork hooks; tests/_http/test_fork.py has a real fork."""
    inherited: list[Any] = []
    monkeypatch.setattr(connector_module, "INHERITED", inherited)
    async with RawServer() as server, transport_to(server.url) as transport:
        assert (await transport.send(batch())).status == 200
        with monkeypatch.context() as patch:
            child = os.getpid() + 1
            patch.setattr(os, "getpid", lambda: child)
            for _ in range(2):
                assert (await transport.send(batch())).status == 200
            (connector,) = inherited
            assert not connector.closed
            await transport.aclose()
        assert [seen.connection for seen in server.seen] == [0, 1, 1]
        await connector.close()


# Failed connections. Each, and more, again end to end in test_faults_connections.py.


async def test_refused_connection_has_the_words_of_the_system() -> None:
    """The error says why."""
    with refusing() as url:
        async with transport_to(url) as transport:
            outcome = await transport.send(batch())
    assert str(outcome.error).startswith("the connection failed (Connect")


async def test_timeouts_of_the_connection_and_of_the_answer_differ(authority: trustme.CA) -> None:
    """The error says what was waited for."""
    with half_open() as url:
        quick = Timeouts(connect=30, request=0.1)
        async with transport_to(url, timeouts=quick) as transport:
            outcome = await transport.send(batch())
        assert (outcome.verdict, type(outcome.error), str(outcome.error)) == (
            Verdict.RETRY,
            RequestTimeout,
            "no answer in time",
        )
        async with transport_to(
            url.replace("http:", "https:"), timeouts=Timeouts(connect=0.1, request=30)
        ) as transport:
            outcome = await transport.send(batch())
        assert (outcome.verdict, type(outcome.error), str(outcome.error)) == (
            Verdict.RETRY,
            RequestTimeout,
            "no connection in time",
        )


async def test_private_authority_must_be_passed(authority: trustme.CA) -> None:
    """A certificate is checked against the system's authorities, or against the context that was passed."""
    async with RawServer(tls=server_context(authority)) as server:
        url = server.url.replace("http:", "https:")
        async with transport_to(url, ssl_context=client_context(authority)) as transport:
            assert (await transport.send(batch())).status == 200
        async with transport_to(url) as transport:
            outcome = await transport.send(batch())
    assert outcome.verdict is Verdict.PARKED
    assert type(outcome.error) is CertificateRejected
    assert len(server.seen) == 1


@pytest.mark.parametrize("context", [False, True, "no", object()])
def test_verification_cannot_be_switched_off(context: Any) -> None:
    """False, which means no verification in aiohttp, is refused."""
    with pytest.raises(ValueError, match="ssl_context"):
        HttpTransport(TOKEN, ssl_context=context)


async def test_tls_appears_on_a_connection(authority: trustme.CA) -> None:
    """`secure` of these tests' servers does what it says."""
    async with RawServer(then=secure(server_context(authority), ok())) as server:
        async with transport_to(
            server.url.replace("http:", "https:"), ssl_context=client_context(authority)
        ) as transport:
            for _ in range(2):
                assert (await transport.send(batch())).status == 200
    assert server.connections == 1


# Cancellation.


@pytest.mark.parametrize(
    "turn",
    [
        at_accept(hold=True),
        raw(b"HTTP/1.1 2", hold=True),
        raw(b"HTTP/1.1 500 Oops\r\n", hold=True),
        raw(http(500, b"", Content_Length="10"), hold=True),
    ],
    ids=["no answer", "no status", "status line of a failure", "status of a failure"],
)
async def test_cancellation_passes_through(turn: Any) -> None:
    """Before a 2xx a cancelled send raises, and its connection is not used again."""
    async with RawServer(turn) as server, transport_to(server.url) as transport:
        task = asyncio.create_task(transport.send(batch()))
        await until(lambda: server.turns)
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await transport.send(batch())).status == 200
    assert server.connections == 2


class Knowledge:
    """Records whether aiohttp has passed on a status line."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.come = asyncio.Event()
        started = aiohttp.ClientResponse.start

        async def start(response: aiohttp.ClientResponse, connection: Any) -> aiohttp.ClientResponse:
            await started(response, connection)
            self.come.set()
            return response

        monkeypatch.setattr(aiohttp.ClientResponse, "start", start)


@pytest.mark.parametrize("turn", [turn for _, turn in (*SPOILED[:2], SPOILED[3], EARLY[4])])
async def test_cancellation_after_2xx_is_held_back(turn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a 2xx the outcome is returned, and the cancellation stays pending."""
    knowledge = Knowledge(monkeypatch)
    async with RawServer(turn) as server, transport_to(server.url) as transport:
        task = asyncio.create_task(transport.send(batch(20, padding=10**6)))
        await knowledge.come.wait()
        await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(PROMPT):
            outcome = await task
        assert outcome.verdict is Verdict.DELIVERED
        assert task.cancelling() == 1
        assert (await transport.send(batch())).status == 200
    assert server.connections == 2


async def test_cancellation_after_a_status_line_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 2xx status line is a delivery, although the rest of the head has not arrived."""
    come = asyncio.Event()
    feed = HeadReader.feed

    def noting(reader: HeadReader, data: bytes) -> object:
        come.set()
        return feed(reader, data)

    monkeypatch.setattr(HeadReader, "feed", noting)
    async with (
        RawServer(raw(b"HTTP/1.1 201 Created\r\nX:", hold=True)) as server,
        transport_to(server.url) as transport,
    ):
        task = asyncio.create_task(transport.send(batch()))
        await come.wait()
        task.cancel()
        assert (await task).status == 201
        assert task.cancelling() == 1
        assert (await transport.send(batch())).status == 200
    assert server.connections == 2


@pytest.mark.parametrize(
    ("turn", "request_"),
    [(ok(), batch()), (ok(), batch(20, padding=10**6)), (early(http(200), hold=True), batch(20, padding=10**6))],
    ids=["small", "large", "early"],
)
async def test_cancellation_at_any_moment(turn: Any, request_: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A send is cancelled before a 2xx and delivered after it, and the next request succeeds."""
    ends = set()
    for steps in (*range(25), None):
        with monkeypatch.context() as patch:
            knowledge = Knowledge(patch)
            async with RawServer(turn) as server, transport_to(server.url) as transport:
                task = asyncio.create_task(transport.send(request_))
                if steps is None:
                    await knowledge.come.wait()
                for _ in range(steps or 0):
                    await asyncio.sleep(0)
                known = knowledge.come.is_set()
                task.cancel()
                try:
                    assert (await task).verdict is Verdict.DELIVERED
                    ends.add("delivered")
                except asyncio.CancelledError:
                    assert not known, steps
                    ends.add("cancelled")
                server.play()
                assert (await transport.send(batch())).status == 200
    assert ends == {"delivered", "cancelled"}


# Silence.


def leaks(text: str) -> bool:
    basic = base64.b64encode(f"{TOKEN}:{SECRET}".encode()).decode()
    return any(word in text for word in (TOKEN, SECRET, basic, "4711"))


async def failures(authority: trustme.CA) -> AsyncIterator[Callable[[], Awaitable[Outcome]]]:
    async def send(url: str, **kwargs: Any) -> Outcome:
        async with transport_to(url, timeouts=Timeouts(connect=0.1, request=0.1), **kwargs) as transport:
            return await transport.send(batch())

    echo = f'{{"error":"bad token {TOKEN}:{SECRET}"}}'.encode()
    with refusing() as dead, half_open() as mute:
        yield lambda: send(dead)
        yield lambda: send(mute)
        yield lambda: send("https://api.example.com", proxy=dead.replace("//", f"//user:{SECRET}@"))
    for turn in (raw(b"not HTTP\r\n\r\n"), raw(b""), says(401, echo), says(302, echo, Location=f"/?{TOKEN}")):
        async with RawServer(then=turn) as server:
            yield lambda url=server.url: send(url)  # type: ignore[misc]
    async with RawServer(tls=server_context(authority)) as server:
        yield lambda: send(server.url.replace("http:", "https:"))


async def test_nothing_shows_the_credentials(authority: trustme.CA, caplog: pytest.LogCaptureFixture) -> None:
    """No repr, error or log line has the token, the secret or the header, also at DEBUG."""
    caplog.set_level(logging.DEBUG)
    count = 0
    async with aclosing(failures(authority)) as each:  # type: ignore[type-var]
        async for failing in each:
            outcome = await failing()
            assert outcome.error is not None
            assert not leaks(f"{outcome.error} {outcome.error!r} {outcome.error.args}")
            assert outcome.error.__cause__ is outcome.error.__context__ is None
            count += 1
    assert count == 8
    assert not leaks(caplog.text)
    transport = HttpTransport(TOKEN, SECRET)
    assert not leaks(f"{transport} {transport!r}")


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """Have leftovers complained of here, not in another module."""
    yield
    gc.collect()
