"""A status line decides, whatever follows it: every defect of a head, over real sockets."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from salesmachine_async import Agent, Batching, Retry, Timeouts
from salesmachine_async._core.batch import Batch
from salesmachine_async._core.head import MAX_HEAD_BYTES
from salesmachine_async._core.response import Outcome, Verdict
from salesmachine_async._delivery.transport import HttpTransport
from tests.support.servers import RawServer, Turn, chunked, drip, flood, http, ok, raw, says

TOKEN = "tok4711token"
PATIENT = Timeouts(connect=30, request=30, close=30)
PROMPT = 15.0

VERDICTS = {
    200: Verdict.DELIVERED,
    400: Verdict.REJECTED,
    401: Verdict.PARKED,
    413: Verdict.TOO_LARGE,
    429: Verdict.PAUSE,
    500: Verdict.RETRY,
    503: Verdict.PAUSE,
}
every_status = pytest.mark.parametrize("status", VERDICTS)
# One for each thing that a defect could undo: a delivery, a park, a pause.
main_statuses = pytest.mark.parametrize("status", [200, 401, 503])
PAUSE = b"Retry-After: 7\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nRetry-After: 3600\r\n\r\n"

# What follows a status line and the header Retry-After.
DEFECTS: dict[str, bytes] = {
    "header of 9,000 bytes": b"X: " + b"x" * 9_000 + b"\r\n\r\n",
    "header of 70,000 bytes": b"X: " + b"x" * 70_000 + b"\r\n\r\n",
    "header of 300,000 bytes": b"X: " + b"x" * 300_000 + b"\r\n\r\n",
    "name of 9,000 bytes": b"x" * 9_000 + b": y\r\n\r\n",
    "200 headers": b"X: y\r\n" * 200 + b"\r\n",
    "3,000 headers": b"X: y\r\n" * 3_000 + b"\r\n",
    "no colon": b"no colon\r\n\r\n",
    "no name": b": value\r\n\r\n",
    "space in a name": b"a b: value\r\n\r\n",
    "space before a colon": b"Name : value\r\n\r\n",
    "control character in a name": b"a\x01b: value\r\n\r\n",
    "control character in a value": b"a: \x01\x1b\x7f\r\n\r\n",
    "NUL in a name": b"a\x00b: value\r\n\r\n",
    "NUL in a value": b"a: \x00\r\n\r\n",
    "no ASCII in a name": "naïve: value\r\n\r\n".encode(),
    "no ASCII in a value": b"a: \xff\xfe\xe9\r\n\r\n",
    "bare CR": b"a: b\rc: d\r\n\r\n",
    "bare LF": b"a: b\nc: d\n\n",
    "line folded": b"a: b\r\n  c\r\n\r\n",
    "line folded before any": b"  c\r\na: b\r\n\r\n",
    "two lengths": b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "the same length twice": b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "list of lengths": b"Content-Length: 2, 3\r\n\r\n{}",
    "negative length": b"Content-Length: -2\r\n\r\n{}",
    "signed length": b"Content-Length: +2\r\n\r\n{}",
    "no number as length": b"Content-Length: two\r\n\r\n{}",
    "empty length": b"Content-Length:\r\n\r\n{}",
    "length beyond 64 bits": b"Content-Length: " + b"9" * 30 + b"\r\n\r\n{}",
    "length of 5,000 digits": b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\n{}",
    "hexadecimal length": b"Content-Length: 0x2\r\n\r\n{}",
    "length and chunks": b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "chunks twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "unknown encoding": b"Transfer-Encoding: cake\r\n\r\n{}",
    "no size of a chunk": b"Transfer-Encoding: chunked\r\n\r\nno size\r\n",
    "negative size of a chunk": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    "huge size of a chunk": b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n",
    "chunk longer than its size": b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
    "malformed trailer": b"Transfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n",
    "unknown compression": b"Content-Encoding: cake\r\nContent-Length: 2\r\n\r\n{}",
    "malformed cookie": b"Set-Cookie: \x01=;;=\r\nContent-Length: 2\r\n\r\n{}",
    "upgrade": b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}",
    "more than the length": b"Content-Length: 2\r\n\r\n{}HTTP/1.1 500 Oops\r\n\r\n",
    "another answer": b"no colon\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
}
every_defect = pytest.mark.parametrize("defect", DEFECTS.values(), ids=DEFECTS)


@asynccontextmanager
async def transport_to(server: RawServer, timeouts: Timeouts = PATIENT) -> AsyncIterator[HttpTransport]:
    async with aclosing(HttpTransport(TOKEN, base_url=server.url, timeouts=timeouts)) as transport:
        yield transport


async def outcome_of(turn: Turn, timeouts: Timeouts = PATIENT) -> Outcome:
    """Send one batch to a server that plays *turn*."""
    async with RawServer(then=turn) as server, transport_to(server, timeouts) as transport:
        async with asyncio.timeout(PROMPT):
            return await transport.send(Batch.of_lines([b'{"messageId":"m"}']))


async def outcome_after_silence(turn: Turn) -> Outcome:
    """Send one batch to a server that stays silent in the end; the longer the busier this machine is."""
    for seconds in (0.1, 0.4, 1.6, 6.4):
        outcome = await outcome_of(turn, Timeouts(connect=30, request=seconds, close=30))
        if outcome.status is not None:
            break
    return outcome


def check(outcome: Outcome, status: int, *, pause: float | None = 7.0) -> None:
    """Check that an outcome is that of a status, and a failure's wait."""
    assert (outcome.verdict, outcome.status) == (VERDICTS[status], status), outcome.error
    if status != 200:
        assert outcome.error is not None
        assert outcome.error.status == status
        assert outcome.retry_after == outcome.error.retry_after == pause


def line(status: int) -> bytes:
    return b"HTTP/1.1 %d Something\r\n" % status


@every_status
async def test_malformed_header(status: int) -> None:
    """Every status keeps its meaning."""
    check(await outcome_of(raw(line(status) + PAUSE + b"no colon\r\n\r\n")), status)


@every_defect
@main_statuses
@pytest.mark.parametrize("bytewise", [0, 150], ids=["at once", "in bytes"])
async def test_defect_behind_the_status_line(status: int, defect: bytes, bytewise: int) -> None:
    """A defect changes neither the verdict nor the effect of the headers before it, and causes no repetition."""
    check(await outcome_of(raw(line(status) + PAUSE + defect, bytewise=bytewise)), status)


@pytest.mark.parametrize("bytewise", [0, 200], ids=["at once", "in bytes"])
@pytest.mark.parametrize("defect", [b"no colon\r\n", b"a: \x00\r\n", b"Content-Length: x\r\n", b": \r\n", b" x\r\n"])
async def test_pause_behind_a_defect(defect: bytes, bytewise: int) -> None:
    """A Retry-After that comes after a malformed header is obeyed, too, however the network cuts them."""
    check(await outcome_of(raw(line(503) + defect + PAUSE + b"\r\n", bytewise=bytewise)), 503)


@main_statuses
@pytest.mark.parametrize(
    "reason", [b"x" * 9_000, b"x" * 70_000, b"\x00\xff", b"", b"a: b"], ids=["9,000", "70,000", "odd", "empty", "colon"]
)
async def test_reason_phrase(status: int, reason: bytes) -> None:
    """The reason phrase may be long or odd."""
    outcome = await outcome_of(raw(b"HTTP/1.1 %d %s\r\n%s\r\n" % (status, reason, PAUSE)))
    # Beyond the limit it depends on the network whether the header is seen.
    check(outcome, status, pause=7.0 if len(reason) < MAX_HEAD_BYTES else outcome.retry_after)


@main_statuses
@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        INTERIM,
        INTERIM * 100,
        b"HTTP/1.1 102 Processing\r\nno colon\r\n\r\n" * 2,
        b"HTTP/1.1 199 \x00\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
    ],
    ids=["100", "103", "many", "malformed", "huge", "two lengths"],
)
@pytest.mark.parametrize("bytewise", [0, 100], ids=["at once", "in bytes"])
async def test_interim_answers(status: int, interim: bytes, bytewise: int) -> None:
    """An interim answer is not the answer, whatever it says; a defect in it does not hide what comes after."""
    check(await outcome_of(raw(interim + line(status) + PAUSE + b"\r\n", bytewise=bytewise)), status)
    check(await outcome_of(raw(interim + line(status) + PAUSE + b"no colon\r\n\r\n", bytewise=bytewise)), status)


@main_statuses
@pytest.mark.parametrize("behind", [b"", PAUSE, PAUSE + b"X", INTERIM], ids=["nothing", "header", "half", "interim"])
@pytest.mark.parametrize("how", ["silence", "end", "reset"])
async def test_head_without_an_end(status: int, behind: bytes, how: str) -> None:
    """Silence until the time-out, the end or a reset of the connection: a status line that came decides."""
    head = behind + line(status) if behind is INTERIM else line(status) + behind
    turn = raw(head, hold=how == "silence", reset=how == "reset")
    outcome = await (outcome_after_silence(turn) if how == "silence" else outcome_of(turn))
    check(outcome, status, pause=7.0 if PAUSE in behind and behind is not INTERIM else None)


@main_statuses
@pytest.mark.parametrize(
    "turn_of",
    [
        lambda head: flood(head, b"X: " + b"x" * 997 + b"\r\n"),
        lambda head: flood(head + b"X: ", b"x" * 1000),
        lambda head: flood(head + b"\r\n", b"x" * 1000),
        lambda head: flood(head + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: " + b"x" * 997 + b"\r\n"),
    ],
    ids=["endless headers", "endless header", "endless body", "endless trailers"],
)
async def test_endless_answer(status: int, turn_of: Callable[[bytes], Turn]) -> None:
    """An endless answer ends at the limit of size or of time, and its status line decides."""
    check(await outcome_of(turn_of(line(status) + PAUSE)), status)


@main_statuses
async def test_slow_header(status: int) -> None:
    """A slow header ends at the time-out, although bytes arrive, and the status line decides."""
    check(await outcome_after_silence(drip(b"x", after=line(status) + PAUSE)), status)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"H",
        b"HTTP/1.1 20",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        INTERIM + b"HTTP/1.1 2",
        b"HTTP/1.1 100 Continue\r\nX: y",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/7.7 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"\x00HTTP/1.1 200 OK\r\n\r\n",
        b"<html>HTTP/1.1 200 OK</html>",
    ],
)
@pytest.mark.parametrize("bytewise", [False, True])
async def test_without_a_status_line_nothing_is_decided(data: bytes, bytewise: bool) -> None:
    """A batch is sent again if the answer has no complete status line."""
    outcome = await outcome_of(raw(data, bytewise=len(data) if bytewise else 0))
    assert (outcome.verdict, outcome.status) == (Verdict.RETRY, None)


@pytest.mark.parametrize("head", [b"X: " + b"x" * 9_000 + b"\r\n", b"X: y\r\n" * 200])
async def test_large_head_does_not_cost_the_connection(head: bytes) -> None:
    """The connection is kept after a large head within the limits of aiohttp."""
    turn = raw_and_keep(b"HTTP/1.1 200 OK\r\n" + head + b"Content-Length: 0\r\n\r\n")
    async with RawServer(turn) as server, transport_to(server) as transport:
        for _ in range(2):
            assert (await transport.send(Batch.ping())).status == 200
    assert server.connections == 1


def raw_and_keep(data: bytes) -> Turn:
    async def turn(exchange: object) -> bool:
        await exchange.request()  # type: ignore[attr-defined]
        await exchange.send(data)  # type: ignore[attr-defined]
        return True

    return turn


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", b"HTTP/1.1 401 No\r\n" + b"x" * 70_000])
async def test_proxys_answer_is_not_the_servers(answer: bytes) -> None:
    """A malformed answer to CONNECT has delivered nothing, and is no verdict on the messages."""
    async with RawServer(then=raw(answer)) as proxy:
        transport = HttpTransport(TOKEN, base_url="https://api.example.com", proxy=proxy.url, timeouts=PATIENT)
        async with aclosing(transport):
            outcome = await transport.send(Batch.ping())
    assert (outcome.verdict, outcome.status) == (Verdict.RETRY, None)


@pytest.mark.parametrize("status", [200, 401])
async def test_connection_of_a_spoiled_answer_is_not_used_again(status: int) -> None:
    """The next request has a new one, and is well."""
    async with RawServer(raw(line(status) + b"no colon\r\n\r\n", hold=True)) as server:
        async with transport_to(server) as transport:
            assert (await transport.send(Batch.ping())).status == status
            assert (await transport.send(Batch.ping())).status == 200
    assert server.connections == 2


async def test_failed_attempt_does_not_see_the_answer_before() -> None:
    """A closed connection is a failure, although the request before it on the same connection was answered."""
    async with RawServer(says(200), raw(b"")) as server, transport_to(server) as transport:
        assert (await transport.send(Batch.ping())).status == 200
        outcome = await transport.send(Batch.ping())
        assert (outcome.verdict, outcome.status) == (Verdict.STALE, None)


# End to end.


async def test_agent_obeys_a_spoiled_answer() -> None:
    """200 is not sent again, 503 pauses, 401 parks until it is answered otherwise; then all is delivered once."""
    spoiled = b"X: " + b"x" * 70_000 + b"\r\n\r\n"
    script = [
        raw(b"HTTP/1.1 200 OK\r\n" + spoiled, commit=True),
        raw(b"HTTP/1.1 503 No\r\nRetry-After: 0.3\r\n" + spoiled),
        raw(b"HTTP/1.1 401 No\r\n" + spoiled),
    ]
    async with RawServer(*script) as server:
        agent = Agent(
            TOKEN,
            base_url=server.url,
            timeouts=PATIENT,
            retry=Retry(wait_initial=0.01, wait_max=0.02),
            batching=Batching(max_messages=1, linger=0),
        )
        async with asyncio.timeout(PROMPT), agent:
            for number in range(2):
                agent.track("c", "x", message_id=f"m{number}")
            await agent.flush()
            while agent.stats().delivered < 2:
                await asyncio.sleep(0.005)
    assert server.committed == ["m0", "m1"]
    assert [seen.ids for seen in server.seen] == [["m0"], ["m1"], ["m1"], ["m1"]]
    assert server.seen[2].at - server.seen[1].at >= 0.3


# Bodies.

BODIES: dict[str, bytes] = {
    "nested 300 levels": b'{"error":' + b"[" * 300 + b"]" * 300 + b"}",
    "nested 300 objects": b'{"error":' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}",
    "nested 1,000 levels": b'{"error":' + b"[" * 1_000 + b"]" * 1_000 + b"}",
    "nested 30,000 levels": b'{"error":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "nested around": b"[" * 300 + b'{"error":1}' + b"]" * 300,
    "huge integer": b'{"error":' + b"9" * 5_000 + b"}",
    "huge float": b'{"error":1e400}',
    "lone surrogate": b'{"error":"\\ud800"}',
    "lone surrogate as a key": b'{"error":{"\\udfff":1}}',
    "not UTF-8": b'{"error":"\xff\xfe"}',
    "encoded surrogate": b'{"error":"\xed\xa0\x80"}',
    "NUL": b'{"error":"\\u0000"}',
    "true": b'{"error":true}',
    "null": b'{"error":null}',
    "object": b'{"error":{"code":1}}',
    "NaN": b'{"error":NaN}',
    "array": b"[]",
    "number": b"1",
    "string": b'"error"',
    "empty": b"",
    "spaces": b" \n" * 30_000,
    "byte order mark": b'\xef\xbb\xbf{"error":"x"}',
    "UTF-16": '{"error":"x"}'.encode("utf-16"),
    "twice": b'{"error":1,"error":[[]]}',
    "unfinished": b'{"error":"x',
    "HTML": b"<html>" + b"x" * 60_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@every_status
async def test_no_body_changes_what_the_status_decided(status: int, body: bytes) -> None:
    """A body changes neither outcome nor pause nor connection, and the server's message is short text or None."""
    async with RawServer(says(status, body, Retry_After="7"), ok()) as server, transport_to(server) as transport:
        outcome = await transport.send(Batch.of_lines([b'{"messageId":"m"}']))
        check(outcome, status)
        message = outcome.error.server_message if outcome.error else None
        assert message is None or len(message) <= 500
        assert (await transport.send(Batch.ping())).status == 200
    assert server.connections == 1


async def test_body_in_chunks_without_an_end() -> None:
    """The partial body of an error is discarded, and its pause is kept."""
    turn = raw(chunked(429, b'{"error"', Retry_After="7"), hold=True)
    check(await outcome_of(turn), 429)


async def test_message_survives_junk_behind_the_body() -> None:
    """The body had ended: what follows belongs to no answer."""
    outcome = await outcome_of(raw(http(400, b'{"error":"because"}') + b"junk"))
    check(outcome, 400, pause=None)
    assert outcome.error is not None
    assert outcome.error.server_message == "because"


# The parser in Python.


@pytest.mark.slow
@pytest.mark.one_python
def test_with_the_parser_in_python() -> None:
    """All tests of this file pass with the pure Python parser of aiohttp."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", __file__],
        env={**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No credential in any log line, and no complaint of asyncio's."""
    yield
    assert "4711" not in caplog.text
    assert not [record for record in caplog.records if record.name == "asyncio"]
