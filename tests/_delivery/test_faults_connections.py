"""
Faults of connections: the matrix of ``faults.md`` B1, row by row, over real sockets.

Each row twice: what the transport makes of it, and what comes of it end to end, when a server misbehaves a few times
and then behaves. Rows 17 (stale keep-alive), 18 (pool) and 21 (killed server) have tests of their own.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from salesmachine_async import Agent, Batching, Retry, Timeouts
from salesmachine_async._core.batch import Batch
from salesmachine_async._core.response import Verdict
from salesmachine_async._delivery.transport import HttpTransport
from salesmachine_async.errors import CertificateRejected, ConnectionFailed, DeliveryError, RequestTimeout
from tests.support.core import uid_for
from tests.support.servers import (
    RawServer,
    Turn,
    at_accept,
    bound,
    chunked,
    client_context,
    drip,
    early,
    flood,
    half_open,
    http,
    mortal,
    never_read,
    ok,
    raw,
    refusing,
    reset_inside_request,
    secure,
    server_context,
)

TOKEN = "tok4711token"
RETRY = Retry(wait_initial=0.01, wait_max=0.05)
TIMEOUTS = Timeouts(connect=0.5, request=0.5, close=2)
# For what is expected to hang; a good request that takes longer on a busy machine is only sent again.
SHORT = Timeouts(connect=0.2, request=0.2, close=2)
LONG = Timeouts(connect=30, request=30, close=30)
# Generous: nothing here takes a tenth of it.
PATIENCE = 30.0


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def balanced(agent: Agent) -> bool:
    """The law of conservation."""
    stats = agent.stats()
    return stats.accepted == stats.delivered + sum(stats.lost.values()) + stats.queued + stats.in_flight


@asynccontextmanager
async def watched(agent: Agent) -> AsyncIterator[Agent]:
    """Run an agent to a clean end; the law of conservation is looked at in every turn of the loop."""

    async def watch() -> None:
        while True:
            assert balanced(agent)
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    try:
        async with asyncio.timeout(PATIENCE), agent:
            yield agent
    finally:
        watching.cancel()
    assert not watching.done() or watching.cancelled() or watching.result()


def track(agent: Agent, count: int, *, start: int = 0, padding: int = 0) -> list[str]:
    """Track events with ids of their own; returns the ids."""
    ids = [f"m{number}" for number in range(start, start + count)]
    for number, id_ in enumerate(ids):
        assert agent.track(f"c{number % 7}", "x", {"n": id_, "p": "x" * padding}, message_id=id_)
    return ids


def check_received(server: RawServer, ids: list[str], *, ordered: bool = True) -> None:
    """Every message was committed, in order, and whatever came more than once came as the same message."""
    first = list(dict.fromkeys(server.committed))
    assert (first if ordered else sorted(first)) == (ids if ordered else sorted(ids))
    for seen in server.seen:
        assert all(message["messageId"] == message["params"]["n"] for message in seen.messages)
    assert set(server.received) == set(ids)


# The rows.


@dataclass(frozen=True)
class Row:
    """
    One fault of the matrix.

    Attributes:
        name: Begins with the number of its row.
        turn: What the server does.
        error: What the transport reports; None: delivered.
        times: How often the server does it before it behaves.
        padding: Bytes added to each message.
        timeouts: Those that fit.
        words: What the error says.
        unread: Whether the messages of that request never arrived.
    """

    name: str
    turn: Turn
    error: type[DeliveryError] | None = ConnectionFailed
    times: int = 3
    padding: int = 0
    timeouts: Timeouts = LONG
    words: str = ""
    unread: bool = False


NOT_HTTP = "the answer was not HTTP"
CLOSED = "the connection was closed before an answer came"
HTML = b"<html><body>Please log in to the hotel's network</body></html>"

ROWS = [
    Row("06 closed at accept", at_accept(), unread=True),
    Row("06 closed before the answer", raw(b""), words=CLOSED),
    Row("07 reset at accept", at_accept(reset=True), unread=True),
    Row("07 reset before the answer", raw(b"", reset=True)),
    Row("08 reset inside the request", reset_inside_request(), padding=100_000, unread=True),
    Row(
        "09 answer's body ends early",
        raw(http(200, b"{}", Content_Length="10"), commit=True),
        error=None,
    ),
    Row("09 answer's body is reset", raw(http(200, b"{}", Content_Length="10"), commit=True, reset=True), error=None),
    Row("09 answer's body stalls", raw(http(200, b"{}", Content_Length="10"), commit=True, hold=True), error=None),
    Row("10 end inside the status line", raw(b"HTTP/1.1 20"), words=CLOSED),
    Row("10 end inside the headers", raw(b"HTTP/1.1 200 OK\r\nContent-Le", commit=True), error=None),
    Row("11 not HTTP", raw(b"SSH-2.0-OpenSSH_9.9\r\n"), words=NOT_HTTP),
    Row("11 not HTTP, before the request", at_accept(data=b"220 smtp.example.com ESMTP\r\n"), unread=True),
    Row("11 zeros", raw(bytes(100)), words=NOT_HTTP),
    Row("11 bad status line", raw(b"HTTP/1.1 abc Odd\r\n\r\n"), words=NOT_HTTP),
    Row("11 bad version", raw(b"HTTP/7.7 200 OK\r\n\r\n"), words=NOT_HTTP),
    Row("11 huge header", raw(http(200, b"", X_Huge="x" * 70_000), commit=True), error=None),
    Row("11 two lengths", raw(http(200, b"{}", Content_length="3"), commit=True), error=None),
    Row("12 no answer", raw(b"", hold=True), RequestTimeout, 2, timeouts=SHORT, words="no answer in time"),
    Row("12 no reading", at_accept(hold=True), RequestTimeout, 2, timeouts=SHORT, unread=True),
    Row("13 full pipe", never_read(), RequestTimeout, 2, padding=2**20, timeouts=TIMEOUTS, unread=True),
    Row("14 slow status line", drip(b"HTTP/1.1 200 OK\r\n", every=0.1), RequestTimeout, 2, timeouts=SHORT),
    Row("14 slow body", drip(b"x", after=http(200, b"", Content_Length="99999"), commit=True), error=None, times=2),
    Row("14 slow chunks", drip(b"1\r\nx\r\n", after=chunked(200), commit=True), error=None, times=2),
    Row("15 endless body", flood(chunked(200), b"1000\r\n" + b"x" * 4096 + b"\r\n", commit=True), error=None),
    Row("15 huge body", flood(http(200, b"", Content_Length="9" * 15), b"x" * 65536, commit=True), error=None),
    Row(
        "15 bad gzip",
        raw(http(200, b"\x1f\x8bnot gzip at all", Content_Encoding="gzip"), commit=True),
        error=None,
    ),
    Row("16 web page", raw(http(200, HTML, Content_Type="text/html"), commit=True), error=None),
    Row("16 not JSON", raw(http(200, b"{"), commit=True), error=None),
    Row("16 no body", raw(http(204, b""), commit=True), error=None),
    Row("19 two answers", raw(http(200) + http(503), commit=True, hold=True), error=None),
    Row("19 more bytes", drip(b"\x00\x01\x02", after=http(200), commit=True), error=None),
]
every_row = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


@every_row
async def test_outcome(row: Row) -> None:
    """The transport makes of the fault what the matrix says; nothing that is not an answer has a status."""
    lines = [b'{"messageId":"m","params":{"n":"m","p":"%s"}}' % (b"x" * row.padding)] * 20
    async with (
        RawServer(row.turn) as server,
        aclosing(HttpTransport(TOKEN, base_url=server.url, timeouts=row.timeouts)) as transport,
    ):
        async with asyncio.timeout(PATIENCE):
            outcome = await transport.send(Batch.of_lines(lines))
        if row.error is None:
            assert outcome.verdict is Verdict.DELIVERED, outcome.error
        else:
            assert outcome.verdict is Verdict.RETRY
            assert outcome.status is None
            assert type(outcome.error) is row.error
            assert outcome.error.status is None
            assert row.words in str(outcome.error)
        # The connection is not used again: what it still says would be taken for an answer.
        if "bad gzip" not in row.name and "16" not in row.name:
            async with aclosing(HttpTransport(TOKEN, base_url=server.url, timeouts=LONG)) as patient:
                assert (await patient.send(Batch.of_lines(lines[:1]))).status == 200
            assert server.connections == 2


@pytest.mark.slow
@every_row
async def test_every_message_arrives(row: Row) -> None:
    """Every message arrives in order, however often the fault occurs, and none is sent again after its delivery."""
    count = 20
    batching = Batching(max_messages=count if row.padding else 4, max_bytes=32 * 2**20, linger=0.005)
    async with RawServer(*[row.turn] * row.times) as server:
        agent = Agent(TOKEN, base_url=server.url, retry=RETRY, timeouts=row.timeouts, batching=batching)
        async with watched(agent):
            ids = track(agent, count, padding=row.padding)
            report = await agent.flush()
        assert report.ok
        assert report.delivered == count
        assert server.turns > row.times
    check_received(server, ids)
    assert set(server.paths) == {"/v1/batch"}  # no ping was sent
    if row.timeouts is LONG and (row.error is None or row.unread):
        assert set(server.received.values()) == {1}


# Row 1: refused. Row 2: DNS.


async def test_01_refused() -> None:
    """A refused connection is a failure, and nothing is lost."""
    with refusing() as url:
        async with aclosing(HttpTransport(TOKEN, base_url=url, timeouts=LONG)) as transport:
            outcome = await transport.send(Batch.ping())
        assert (outcome.verdict, type(outcome.error)) == (Verdict.RETRY, ConnectionFailed)
    server = RawServer()  # bound, not listening yet
    agent = Agent(TOKEN, base_url=server.url, retry=RETRY, timeouts=LONG, batching=Batching(linger=0.005))
    async with watched(agent):
        ids = track(agent, 10)
        while agent.stats().requests < 4:
            await asyncio.sleep(0.001)
        assert isinstance(agent.stats().last_error, ConnectionFailed)
        async with server:
            assert (await agent.flush()).ok
    check_received(server, ids)
    assert set(server.received.values()) == {1}  # what was refused was not sent


async def test_02_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is not found is looked up again; the failure is not kept."""
    lookups = 0

    def getaddrinfo(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        nonlocal lookups
        lookups += 1
        assert host == "api.localhost"
        if lookups <= 4:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with RawServer() as server:
        url = server.url.replace("127.0.0.1", "api.localhost")
        async with aclosing(HttpTransport(TOKEN, base_url=url, timeouts=LONG)) as transport:
            outcome = await transport.send(Batch.ping())
        assert (outcome.verdict, type(outcome.error)) == (Verdict.RETRY, ConnectionFailed)
        assert str(outcome.error) == "the host name api.localhost could not be resolved"
        agent = Agent(TOKEN, base_url=url, retry=RETRY, timeouts=LONG, batching=Batching(linger=0.005))
        async with watched(agent):
            ids = track(agent, 10)
            assert (await agent.flush()).ok
            assert agent.stats().retries == 3
    assert lookups == 5  # found, it is kept for a while
    check_received(server, ids)


# Rows 3 to 5: TLS.

YESTERDAY = datetime.now(UTC) - timedelta(days=1)
DISTRUSTED: dict[str, Callable[[trustme.CA], ssl.SSLContext]] = {
    "unknown authority": lambda _: server_context(trustme.CA()),
    "wrong host": lambda authority: server_context(authority, "api.example.com"),
    "expired": lambda authority: server_context(
        authority, not_before=YESTERDAY - timedelta(days=9), not_after=YESTERDAY
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("made", DISTRUSTED.values(), ids=DISTRUSTED)
async def test_03_certificate(
    authority: trustme.CA, made: Callable[[trustme.CA], ssl.SSLContext], caplog: pytest.LogCaptureFixture
) -> None:
    """An untrusted certificate parks the sender with one log line, and sends no byte until it is trusted."""
    bad, good = secure(made(authority), ok()), secure(server_context(authority), ok())
    async with RawServer(then=bad) as server:
        url = server.url.replace("http:", "https:")
        trusting = client_context(authority)
        async with aclosing(HttpTransport(TOKEN, base_url=url, timeouts=LONG, ssl_context=trusting)) as transport:
            outcome = await transport.send(Batch.ping())
        assert (outcome.verdict, type(outcome.error)) == (Verdict.PARKED, CertificateRejected)
        transport = HttpTransport(TOKEN, base_url=url, timeouts=LONG, ssl_context=trusting)
        agent = Agent(transport=transport, retry=RETRY, batching=Batching(linger=0.005))
        async with watched(agent):
            ids = track(agent, 10)
            report = await agent.flush()
            assert (report.pending, report.delivered, report.lost) == (10, 0, {})
            assert repr(agent).startswith("<Agent [parked")
            while agent.stats().retries < 2:
                await asyncio.sleep(0.001)
            assert not server.seen
            server.play(then=good)
            while agent.stats().delivered < 10:
                await asyncio.sleep(0.001)
    check_received(server, ids)
    (error,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert "certificate" in error.message


async def tls_agent_arrives(server: RawServer, authority: trustme.CA, timeouts: Timeouts) -> None:
    url = server.url.replace("http:", "https:")
    transport = HttpTransport(TOKEN, base_url=url, timeouts=timeouts, ssl_context=client_context(authority))
    agent = Agent(transport=transport, retry=RETRY, batching=Batching(linger=0.005))
    async with watched(agent):
        ids = track(agent, 10)
        assert (await agent.flush()).ok
    check_received(server, ids)


@pytest.mark.slow
async def test_04_handshake_hangs(authority: trustme.CA) -> None:
    """A server that does not speak TLS and waits: no connection in time, then all is well."""
    with half_open() as url:
        url = url.replace("http:", "https:")
        async with aclosing(
            HttpTransport(TOKEN, base_url=url, timeouts=Timeouts(connect=0.1, request=30))
        ) as transport:
            outcome = await transport.send(Batch.ping())
    assert (outcome.verdict, type(outcome.error)) == (Verdict.RETRY, RequestTimeout)
    hang = at_accept(hold=True)
    async with RawServer(hang, hang, then=secure(server_context(authority), ok())) as server:
        await tls_agent_arrives(server, authority, TIMEOUTS)


async def test_04_plain_answer_to_a_handshake(authority: trustme.CA) -> None:
    """A server that answers TLS in plain HTTP is no TLS server: a failed connection, not an answer."""
    plain = at_accept(data=http(400))
    async with RawServer(plain, plain, plain, then=secure(server_context(authority), ok())) as server:
        url = server.url.replace("http:", "https:")
        async with aclosing(HttpTransport(TOKEN, base_url=url, timeouts=LONG)) as transport:
            outcome = await transport.send(Batch.ping())
        assert (outcome.verdict, outcome.status, type(outcome.error)) == (Verdict.RETRY, None, ConnectionFailed)
        await tls_agent_arrives(server, authority, TIMEOUTS)


async def test_05_plain_http_to_a_tls_port(authority: trustme.CA) -> None:
    """A server that expects TLS hangs up: a failed connection, again and again, until it does not."""
    tls = secure(server_context(authority), ok())
    async with RawServer(*[tls] * 4) as server:
        async with aclosing(HttpTransport(TOKEN, base_url=server.url, timeouts=LONG)) as transport:
            outcome = await transport.send(Batch.ping())
        assert (outcome.verdict, outcome.status, type(outcome.error)) == (Verdict.RETRY, None, ConnectionFailed)
        agent = Agent(TOKEN, base_url=server.url, retry=RETRY, timeouts=TIMEOUTS, batching=Batching(linger=0.005))
        async with watched(agent):
            ids = track(agent, 10)
            assert (await agent.flush()).ok
    check_received(server, ids)


# Row 8 once more: the request is larger than all buffers.


@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_08_refused_while_being_sent(how: str) -> None:
    """A server that ends inside a large request gets it whole in the end."""
    cut = reset_inside_request(10**5) if how == "reset" else early(b"")
    batching = Batching(max_messages=10, max_bytes=2**25, linger=0.005)
    async with RawServer(cut, cut) as server:
        agent = Agent(TOKEN, base_url=server.url, retry=RETRY, timeouts=LONG, batching=batching)
        async with watched(agent):
            ids = track(agent, 10, padding=10**6)
            assert (await agent.flush()).ok
    check_received(server, ids)


# Row 12 again, on a port that accepts no connection.


async def test_12_refused_connection() -> None:
    """A server whose program is stuck: the kernel connects, no answer comes. Close gives up by its deadline."""
    with half_open() as url:
        agent = Agent(TOKEN, base_url=url, retry=RETRY, timeouts=Timeouts(connect=0.1, request=0.1, close=0.3))
        async with watched(agent):
            track(agent, 10)
            report = await agent.flush(0.2)
            assert report.pending == 10
            assert isinstance(agent.stats().last_error, RequestTimeout)
        assert agent.stats().queued == agent.stats().in_flight == 0
        assert sum(agent.stats().lost.values()) == 10


# Row 15 once more: memory.


async def test_15_endless_body_takes_no_memory() -> None:
    """At most some kilobytes of an endless answer are held."""
    turn = flood(chunked(200), b"10000\r\n" + b"x" * 2**16 + b"\r\n", commit=True)
    async with RawServer(then=turn) as server:
        agent = Agent(TOKEN, base_url=server.url, retry=RETRY, timeouts=LONG, batching=Batching(max_messages=1))
        async with watched(agent):
            tracemalloc.start()
            try:
                ids = track(agent, 20)
                assert (await agent.flush()).ok
                assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
            finally:
                tracemalloc.stop()
    assert server.committed == ids


# Row 17: stale keep-alive.


@pytest.mark.slow
@pytest.mark.parametrize(("senders", "reset"), [(1, False), (4, False), (4, True)])
async def test_17_stale_keepalive(senders: int, reset: bool, caplog: pytest.LogCaptureFixture) -> None:
    """
    A server that closes idle connections just before the next request causes no loss and no backoff.

    A request on such a connection may have been received; it is sent again, as the same messages.
    """
    caplog.set_level(logging.WARNING)
    idle = 0.003
    batching = Batching(max_messages=1, linger=0)
    async with RawServer(idle=idle, idle_reset=reset) as server:
        agent = Agent(TOKEN, base_url=server.url, retry=RETRY, timeouts=LONG, concurrency=senders, batching=batching)
        ids: list[str] = []
        async with watched(agent):
            for number in range(200):
                ids += track(agent, 1, start=number)
                if senders > 1:
                    agent.track(f"other{number}", "x", {"n": f"o{number}"}, message_id=f"o{number}")
                    ids.append(f"o{number}")
                # Just short of it, just beyond, and in between.
                await asyncio.sleep(idle * (0.8 + 0.4 * (number % 20) / 20))
            assert (await agent.flush()).ok
            stats = agent.stats()
        assert server.connections > 10  # it did happen
    check_received(server, ids, ordered=senders == 1)
    assert not caplog.records
    # Whatever came twice was sent twice, on purpose.
    assert sum(server.received.values()) - len(ids) <= stats.retries
    assert max(server.received.values()) <= 1 + senders


@pytest.mark.parametrize("turn", [raw(b""), raw(b"", reset=True), at_accept(), at_accept(reset=True)])
async def test_17_each_connection_may_be_stale_once(turn: Turn, caplog: pytest.LogCaptureFixture) -> None:
    """Each kept connection that the server has closed is detected at once, without a backoff."""
    caplog.set_level(logging.WARNING)
    senders = 4
    batching = Batching(max_messages=1, linger=0)
    together = asyncio.Barrier(senders)

    async def first(exchange: Any) -> bool:
        seen = await exchange.request()
        exchange.server.committed += seen.ids
        await together.wait()
        await exchange.send(http(200))
        return True

    async with RawServer(*[first] * senders, *[turn] * senders) as server:
        agent = Agent(TOKEN, base_url=server.url, retry=RETRY, timeouts=LONG, concurrency=senders, batching=batching)
        lane_of = {sender: uid_for(sender, senders) for sender in range(4)}
        async with watched(agent):
            for sender, uid in lane_of.items():
                agent.track(uid, "x", {"n": f"a{sender}"}, message_id=f"a{sender}")
            assert (await agent.flush()).ok
            assert server.connections == senders
            agent.track(lane_of[0], "x", {"n": "b"}, message_id="b")
            assert (await agent.flush()).ok
            assert agent.stats().retries == senders
    assert server.committed[-1] == "b"
    assert not caplog.records


async def test_17_new_connection_that_is_closed_is_not_stale(caplog: pytest.LogCaptureFixture) -> None:
    """The first request on a connection that is closed is a failure, with a backoff and a line in the log."""
    async with RawServer(raw(b"")) as server:
        agent = Agent(TOKEN, base_url=server.url, retry=RETRY, timeouts=LONG, batching=Batching(linger=0))
        async with watched(agent):
            track(agent, 1)
            assert (await agent.flush()).ok
    assert [record.levelname for record in caplog.records] == ["WARNING"]


# Row 18: the pool.


async def test_18_senders_do_not_wait_for_connections() -> None:
    """Each sender has a connection, so that none times out waiting for one while the server is slow."""
    senders = 32
    everybody = asyncio.Barrier(senders)

    async def slow(exchange: Any) -> bool:
        seen = await exchange.request()
        await everybody.wait()
        exchange.server.committed += seen.ids
        await exchange.send(http(200))
        return True

    async with RawServer(*[slow] * senders) as server:
        agent = Agent(TOKEN, base_url=server.url, concurrency=senders, timeouts=LONG, batching=Batching(linger=0.005))
        uids = [uid_for(sender, senders) for sender in range(senders)]
        async with watched(agent):
            for uid in uids:
                agent.track(uid, "x", {"n": uid}, message_id=uid)
            assert (await agent.flush()).ok
        assert server.connections == senders
    check_received(server, uids, ordered=False)


# Row 20: proxies.


async def test_20_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxy variables of the environment are ignored."""
    with refusing() as dead:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, dead)
        async with RawServer() as server:
            agent = Agent(TOKEN, base_url=server.url, timeouts=LONG, batching=Batching(linger=0.005))
            async with watched(agent):
                ids = track(agent, 10)
                assert (await agent.flush()).ok
                assert agent.stats().retries == 0
    check_received(server, ids)


# Row 21: the server is killed, again and again.


@pytest.mark.slow
@pytest.mark.parametrize("signal", ["kill", "terminate"])
async def test_21_killed_and_restarted(tmp_path: Path, signal: str) -> None:
    """Five times killed while messages flow: all arrive, and what came twice was in flight when it died."""
    notes = tmp_path / "committed"
    with bound() as probe:
        port = probe.getsockname()[1]
    batching = Batching(max_messages=5, linger=0.001)
    url = f"http://127.0.0.1:{port}"
    agent = Agent(TOKEN, base_url=url, retry=RETRY, timeouts=TIMEOUTS, concurrency=2, batching=batching)
    ids: list[str] = []
    async with watched(agent):
        for _ in range(5):
            async with mortal(port, str(notes)) as process:
                before = agent.stats().delivered
                while agent.stats().delivered < before + 20:
                    ids += track(agent, 5, start=len(ids))
                    await asyncio.sleep(0.001)
                ids += track(agent, 20, start=len(ids))
                getattr(process, signal)()
        async with mortal(port, str(notes)):
            report = await agent.flush()
    assert report.ok
    assert report.delivered == len(ids)
    committed = notes.read_text().split()
    assert set(committed) == set(ids)
    # At most one batch in flight per sender and death, and as many again for each time-out of a busy machine.
    assert len(committed) - len(ids) <= 5 * agent.stats().retries


@pytest.mark.slow
async def test_21_bounced() -> None:
    """Messages survive a listening socket that closes and opens again on the same port."""
    server = RawServer()
    ids: list[str] = []
    agent = Agent(
        TOKEN,
        base_url=server.url,
        retry=RETRY,
        timeouts=TIMEOUTS,
        concurrency=3,
        batching=Batching(max_messages=5, linger=0.001),
    )
    async with watched(agent):
        for _ in range(5):
            async with server:
                before = agent.stats().delivered
                while agent.stats().delivered < before + 20:
                    ids += track(agent, 5, start=len(ids))
                    await asyncio.sleep(0.001)
            ids += track(agent, 20, start=len(ids))
            await asyncio.sleep(0.01)
        async with server:
            assert (await agent.flush()).ok
    check_received(server, ids, ordered=False)


# All at once.


@pytest.mark.slow
async def test_every_fault_in_one_run() -> None:
    """One agent survives all rows that take no time, and delivers each contact's messages in order."""
    turns = [row.turn for row in ROWS if row.error is not RequestTimeout and not row.padding]
    script = [turn for turn in turns for _ in range(2)]
    async with RawServer(*script) as server:
        batching = Batching(max_messages=2, linger=0.001)
        agent = Agent(TOKEN, base_url=server.url, retry=RETRY, timeouts=TIMEOUTS, batching=batching)
        async with watched(agent):
            ids = track(agent, 80)
            assert (await agent.flush()).ok
            await agent.ping()
            # Liveness: a fresh message goes through at once.
            ids += track(agent, 1, start=80)
            assert (await agent.flush()).ok
    check_received(server, ids, ordered=False)
    # So many failures in a row are lasting ones, for which a message may be sent before one of another contact.
    first = [int(id_[1:]) for id_ in dict.fromkeys(server.committed)]
    for contact in range(7):
        of_contact = [number for number in first if number < 80 and number % 7 == contact]
        assert of_contact == sorted(of_contact)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check after each test that no log line has a credential and that asyncio has logged nothing."""
    yield
    assert "4711" not in caplog.text
    assert not [record for record in caplog.records if record.name == "asyncio" and record.levelno >= logging.WARNING]
