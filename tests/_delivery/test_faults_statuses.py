"""What each answer does, end to end: the table of the design's §6, row by row, over real sockets."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from salesmachine_async import Agent, Batching, Loss, LossReason, Report, Retry, Timeouts
from salesmachine_async.errors import RateLimited, Rejected, ServerFailure, Unauthorized
from salesmachine_async.sandbox import Fault, Sandbox
from tests.support.core import uid_for
from tests.support.servers import Exchange, RawServer, Seen, Turn, answers, bound, http, ok, raw, says
from tests.support.waiting import held_back, until

TOKEN = "tok4711token"
RETRY = Retry(wait_initial=0.01, wait_max=0.05)
TIMEOUTS = Timeouts(connect=30, request=30, close=20)
# Generous: nothing here takes a tenth of it.
PATIENCE = 20.0
HTTP_DATE = "%a, %d %b %Y %H:%M:%S GMT"


def balanced(agent: Agent) -> bool:
    """The law of conservation."""
    stats = agent.stats()
    return stats.accepted == stats.delivered + sum(stats.lost.values()) + stats.queued + stats.in_flight


@asynccontextmanager
async def agent_to(server: RawServer, **kwargs: Any) -> AsyncIterator[Agent]:
    """Run an agent to its end; the law of conservation is looked at in every turn of the loop."""
    arguments: dict[str, Any] = {
        "retry": RETRY,
        "timeouts": TIMEOUTS,
        "batching": Batching(max_messages=4, linger=0.002),
        **kwargs,
    }
    agent = Agent(TOKEN, base_url=server.url, **arguments)

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
        await asyncio.wait([watching])
    assert watching.cancelled()


def track(agent: Agent, count: int, *, start: int = 0, uid: str = "c") -> list[str]:
    """Track events with ids of their own; returns the ids."""
    ids = [f"{uid}-m{number}" for number in range(start, start + count)]
    for id_ in ids:
        assert agent.track(uid, "x", {"n": id_}, message_id=id_)
    return ids


def uids(senders: int) -> list[str]:
    """Return a uid for each sender."""
    return [uid_for(sender, senders) for sender in range(senders)]


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def check_received(server: RawServer, ids: Iterable[str]) -> None:
    """Every message was committed exactly once, in order; those not committed went out as the same messages."""
    assert server.committed == list(ids)
    assert set(server.received) >= set(ids)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check after each test that no log line has a credential and that asyncio has logged nothing."""
    yield
    assert "4711" not in caplog.text
    assert not [record for record in caplog.records if record.name == "asyncio" and record.levelno >= logging.WARNING]


# 2xx.


@pytest.mark.parametrize("status", [200, 201, 202, 204, 207, 226, 299])
async def test_2xx_is_delivered(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """Any 2xx delivers the batch once, without a log line."""
    async with RawServer(then=says(status, b"" if status == 204 else b"{}")) as server, agent_to(server) as agent:
        ids = track(agent, 10)
        assert await agent.flush() == Report(delivered=10, lost={}, pending=0)
        assert agent.stats().retries == 0
        assert agent.stats().last_error is None
    check_received(server, ids)
    assert not caplog.records


# 429 and 503: all senders pause.

PAUSES = [429, 503]


class Pausing:
    """A server that takes no requests for a while: it notes what comes when, and answers by a script of its own."""

    def __init__(self, status: int, **headers: str) -> None:
        self.answer = http(status, b"{}", **headers)
        self.paused_at: list[float] = []
        self.came: list[float] = []

    async def refuse(self, exchange: Exchange) -> bool:
        """Answer with the pause."""
        await exchange.request()
        # Noted before it is sent: the client cannot know it earlier.
        self.paused_at.append(asyncio.get_running_loop().time())
        await exchange.send(self.answer)
        return True

    async def accept(self, exchange: Exchange) -> bool:
        """Answer 200."""
        seen = await exchange.request()
        self.came.append(seen.at)
        exchange.server.committed += seen.ids
        await exchange.send(http(200))
        return True

    @property
    def pause(self) -> float:
        """Return the seconds between the last refusal and the first request after it."""
        return min(self.came) - max(self.paused_at)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "header"), [(429, "0.2"), (503, "0.2"), (429, "seconds"), (503, "date"), (429, "date of the server")]
)
async def test_pause_obeys_retry_after(status: int, header: str, caplog: pytest.LogCaptureFixture) -> None:
    """No request is made before Retry-After is over, given in seconds or as a date; then all arrives."""
    wanted = {"0.2": 0.2, "seconds": 1.0, "date": 0.0, "date of the server": 1.0}[header]
    now = datetime.now(UTC)
    headers = {
        "0.2": {"Retry_After": "0.2"},
        "seconds": {"Retry_After": "1"},
        # Whole seconds: cut off, the pause is anything up to one.
        "date": {"Retry_After": (now + timedelta(seconds=1)).strftime(HTTP_DATE)},
        # Its clock is a year behind ours.
        "date of the server": {
            "Date": "Wed, 01 Jan 2025 00:00:00 GMT",
            "Retry_After": "Wed, 01 Jan 2025 00:00:01 GMT",
        },
    }[header]
    pausing = Pausing(status, **headers)
    async with RawServer(pausing.refuse, then=pausing.accept) as server, agent_to(server) as agent:
        ids = track(agent, 10)
        await until(lambda: agent.stats().last_error)
        assert held_back(agent) or wanted == 0.0
        assert type(agent.stats().last_error) is (RateLimited if status == 429 else ServerFailure)
        assert (await agent.flush()).ok
        assert not held_back(agent)
    check_received(server, ids)
    assert pausing.pause >= wanted
    (warning,) = lines(caplog, logging.WARNING)
    assert str(status) in warning


@pytest.mark.parametrize("status", PAUSES)
@pytest.mark.parametrize(
    "header",
    [None, "", "soon", "-1", "-1e300", "nan", "inf", "-inf", "1,2", "0x10", "Wed, 99 Foo 2026 99:99:99 GMT"],
)
async def test_pause_without_a_usable_retry_after(status: int, header: str | None) -> None:
    """An absent, malformed or negative Retry-After gives an ordinary backoff."""
    headers = {} if header is None else {"Retry_After": header}
    turn = says(status, b"{}", **headers)
    async with RawServer(turn, turn, turn) as server, agent_to(server) as agent:
        ids = track(agent, 10)
        assert (await agent.flush()).ok
        assert agent.stats().retries == 3
    check_received(server, ids)


@pytest.mark.parametrize("status", PAUSES)
@pytest.mark.parametrize("header", ["1000000000", "1e300", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_pause_is_never_longer_than_allowed(status: int, header: str) -> None:
    """A mad Retry-After is cut to max_retry_after (one beyond a float is malformed)."""
    pausing = Pausing(status, Retry_After=header)
    retry = Retry(wait_initial=0.01, wait_max=0.05, max_retry_after=0.15)
    async with RawServer(pausing.refuse, then=pausing.accept) as server, agent_to(server, retry=retry) as agent:
        ids = track(agent, 10)
        assert (await agent.flush()).ok
    check_received(server, ids)
    if header != "9" * 400:
        assert pausing.pause >= 0.15


@pytest.mark.parametrize("status", PAUSES)
async def test_pause_in_the_past(status: int) -> None:
    """A date in the past gives an ordinary backoff."""
    turn = says(status, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")
    async with RawServer(turn) as server, agent_to(server) as agent:
        ids = track(agent, 10)
        assert (await agent.flush()).ok
    check_received(server, ids)


@pytest.mark.parametrize("status", PAUSES)
async def test_pause_of_one_lane_is_a_pause_of_all(status: int) -> None:
    """A Retry-After to one sender pauses all senders."""
    senders = 4
    pausing = Pausing(status, Retry_After="0.2")
    together = asyncio.Barrier(senders)
    paused = asyncio.Event()
    refused = False

    async def first(exchange: Exchange) -> bool:
        nonlocal refused
        seen = await exchange.request()
        await together.wait()
        if not refused:
            refused = True
            pausing.paused_at.append(asyncio.get_running_loop().time())
            await exchange.send(pausing.answer)
            return True
        exchange.server.committed += seen.ids
        await paused.wait()
        await exchange.send(http(200))
        return True

    batching = Batching(max_messages=1, linger=0)
    async with RawServer(*[first] * senders, then=pausing.accept) as server:
        async with agent_to(server, concurrency=senders, batching=batching) as agent:
            ids = [id_ for uid in uids(senders) for id_ in track(agent, 3, uid=uid)]
            await until(lambda: held_back(agent))
            paused.set()
            assert (await agent.flush()).ok
    assert sorted(server.committed) == sorted(ids)
    assert pausing.pause >= 0.2


async def test_pause_holds_the_question_to_ping_back() -> None:
    """A ping that follows a refused batch waits until the pause is over."""
    pausing = Pausing(429, Retry_After="0.2")
    together = asyncio.Barrier(2)
    paused = asyncio.Event()
    guilty, innocent = uids(2)

    async def first(exchange: Exchange) -> bool:
        seen = await exchange.request()
        await together.wait()
        if seen.ids == [f"{innocent}-m0"]:
            pausing.paused_at.append(asyncio.get_running_loop().time())
            await exchange.send(pausing.answer)
        else:
            await paused.wait()
            await exchange.send(http(400))
        return True

    async with RawServer(first, first, then=pausing.accept) as server:
        async with agent_to(server, concurrency=2, batching=Batching(max_messages=1, linger=0)) as agent:
            track(agent, 1, uid=guilty)
            track(agent, 1, uid=innocent)
            await until(lambda: held_back(agent))
            paused.set()
            report = await agent.flush()
    assert report == Report(delivered=1, lost={LossReason.REJECTED: 1}, pending=0)
    assert "/v1/ping" in server.paths
    assert pausing.pause >= 0.2


async def test_close_does_not_wait_for_a_pause_beyond_its_deadline() -> None:
    """Messages that cannot be sent any more are lost at once, and passed to on_lost."""
    losses: list[Loss] = []
    async with RawServer(then=says(429, Retry_After="3600")) as server:
        async with agent_to(server, on_lost=losses.append) as agent:
            ids = track(agent, 10)
            await until(lambda: held_back(agent))
            async with asyncio.timeout(PATIENCE / 2):
                report = await agent.aclose(PATIENCE)
    assert report == Report(delivered=0, lost={LossReason.CLOSED: 10}, pending=0)
    assert [message["messageId"] for loss in losses for message in loss.messages] == ids
    assert {type(loss.error) for loss in losses} == {RateLimited}


# Retried.

GARBAGE = [
    b"HTTP/1.1 000 Nothing\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 099 Nothing\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 600 Beyond\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 999 Beyond\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",  # and then the end
    b"HTTP/1.1 1000 Beyond\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 -1 Odd\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 40",
    b"HTTP/1.1 400",
    b"400 Bad Request\r\n\r\n",
    b"<html>400 Bad Request</html>",
    b"\x15\x03\x03\x00\x02\x02\x28",  # a TLS alert
]


@pytest.mark.slow
@pytest.mark.parametrize("status", [408, 425, 500, 502, 504, 507, 520, 599])
async def test_transient_failure_is_retried(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """The same messages are sent again in place, with a backoff, until they are delivered."""
    turn = says(status)
    async with RawServer(turn, turn, turn) as server, agent_to(server) as agent:
        ids = track(agent, 10)
        assert (await agent.flush()).ok
        assert agent.stats().retries == 3
    check_received(server, ids)
    assert [server.received[id_] for id_ in ids] == [4] * 4 + [1] * 6
    assert set(server.paths) == {"/v1/batch"}
    (warning,) = lines(caplog, logging.WARNING)
    assert str(status) in warning


@pytest.mark.parametrize("data", GARBAGE)
async def test_garbage_is_retried_and_never_a_refusal(data: bytes) -> None:
    """An answer that is not HTTP, or with an undefined status, sends no ping and rejects nothing."""
    turn = raw(data)
    async with RawServer(turn, turn, turn) as server, agent_to(server) as agent:
        ids = track(agent, 10)
        assert (await agent.flush()).ok
    check_received(server, ids)
    assert set(server.paths) == {"/v1/batch"}


async def test_garbage_to_ping_is_no_answer() -> None:
    """While ping does not answer, nothing is lost and nothing is split."""

    def answer(seen: Seen) -> bytes:
        if seen.path == "/v1/ping":
            return b"garbage\r\n\r\n"
        return http(400 if Counter(server.paths)["/v1/ping"] < 5 else 200)

    async with RawServer(then=answers(answer)) as server, agent_to(server) as agent:
        ids = track(agent, 4)
        assert (await agent.flush()).ok
    check_received(server, ids)
    assert {len(seen.ids) for seen in server.seen if seen.path == "/v1/batch"} == {4}


# Parked.

PARKING = [300, 301, 302, 303, 304, 307, 308, 401, 402, 403, 404, 405, 406, 407, 410, 415, 421, 426, 451, 501, 505, 511]


@pytest.mark.parametrize("status", PARKING)
async def test_parked_sender_keeps_everything_and_recovers(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """A parked sender logs one ERROR line, blocks no flush, probes, and delivers in order after the repair."""
    async with RawServer(then=says(status, b"", Location="/elsewhere")) as server, agent_to(server) as agent:
        ids = track(agent, 10)
        assert await agent.flush() == Report(delivered=0, lost={}, pending=10)
        assert held_back(agent)
        assert "[parked |" in repr(agent)
        await until(lambda: len(server.seen) >= 3)
        # Only the probe goes out, again and again; nothing else, nowhere else.
        assert {tuple(seen.ids) for seen in server.seen} == {tuple(ids[:4])}
        assert set(server.paths) == {"/v1/batch"}
        assert await agent.flush() == Report(delivered=0, lost={}, pending=10)
        server.play(then=ok())
        await until(lambda: agent.stats().delivered == 10)
        assert not held_back(agent)
        assert await agent.flush() == Report(delivered=10, lost={}, pending=0)
    check_received(server, ids)
    (error,) = lines(caplog, logging.ERROR)
    assert str(status) in error
    if status in (401, 403):
        assert "SALESMACHINE_API_TOKEN" in error


@pytest.mark.parametrize("status", [302, 401, 404])
async def test_close_does_not_wait_for_a_parked_sender(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """Parked messages are lost as CLOSED at once, and passed to on_lost with the error."""
    losses: list[Loss] = []
    async with RawServer(then=says(status)) as server:
        retry = Retry(wait_initial=0.01, wait_max=3600)
        async with agent_to(server, retry=retry, on_lost=losses.append) as agent:
            ids = track(agent, 10)
            await until(lambda: held_back(agent))
            async with asyncio.timeout(PATIENCE / 2):
                report = await agent.aclose(PATIENCE)
    assert report == Report(delivered=0, lost={LossReason.CLOSED: 10}, pending=0)
    assert [message["messageId"] for loss in losses for message in loss.messages] == ids
    assert {loss.reason for loss in losses} == {LossReason.CLOSED}
    assert {type(loss.error) for loss in losses} <= {Unauthorized, Rejected}
    assert len(server.seen) == 1
    assert len(lines(caplog, logging.ERROR)) == 2  # parked, and lost


async def test_parked_sender_does_not_stop_the_others() -> None:
    """Parking is a sender's own: flush waits for the others, and reports what is parked as pending."""
    bad, good = uids(2)
    turn = answers(lambda seen: http(403 if seen.messages[0]["contact_uid"] == bad else 200))
    async with RawServer(then=turn) as server, agent_to(server, concurrency=2) as agent:
        kept = track(agent, 4, uid=bad)
        sent = track(agent, 10, uid=good)
        await until(lambda: held_back(agent))
        assert await agent.flush() == Report(delivered=10, lost={}, pending=4)
        server.play(then=ok())
        await until(lambda: agent.stats().delivered == 14)
    assert server.committed == sent + kept


async def test_redirect_is_never_followed() -> None:
    """No request goes to the target of a redirect, on the same server or another."""
    async with RawServer() as other:
        for location in (f"{other.url}/v1/batch", "/v2/batch"):
            async with RawServer(says(307, Location=location)) as server, agent_to(server) as agent:
                track(agent, 1)
                await until(lambda: agent.stats().delivered)
            assert server.paths == ["/v1/batch", "/v1/batch"]
        assert not other.connections


# 400 and 422.


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("refusal", [400, 401, 403, 404, 422, 302])
async def test_refused_batch_with_a_refused_key_is_parked(
    status: int, refusal: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A refused ping means that no message is at fault: all are kept, and delivered after the repair."""
    turn = answers(lambda seen: http(refusal if seen.path == "/v1/ping" else status))
    async with RawServer(then=turn) as server, agent_to(server) as agent:
        ids = track(agent, 10)
        assert await agent.flush() == Report(delivered=0, lost={}, pending=10)
        await until(lambda: len(server.seen) >= 5)
        assert server.paths[:4] == ["/v1/batch", "/v1/ping"] * 2
        server.play(then=ok())
        await until(lambda: agent.stats().delivered == 10)
    check_received(server, ids)
    assert len(lines(caplog, logging.ERROR)) == 1


def refuses(guilty: set[str], status: int = 400) -> Turn:
    """Refuse every batch that holds a guilty message; accept ping."""
    return answers(lambda seen: http(status if guilty & set(seen.ids) else 200, b'{"error":"bad message"}'))


@pytest.mark.parametrize("status", [400, 422, 409, 431])
@pytest.mark.parametrize("guilty", [[0], [7], [15], [5, 6], [0, 15], list(range(16))])
async def test_guilty_messages_are_found(status: int, guilty: list[int]) -> None:
    """Exactly the invalid messages are lost as REJECTED, one by one, and the rest is delivered in order."""
    losses: list[Loss] = []
    wrong = [f"c-m{number}" for number in guilty]
    async with RawServer(then=refuses(set(wrong), status)) as server:
        batching = Batching(max_messages=16, linger=0.002)
        async with agent_to(server, batching=batching, on_lost=losses.append) as agent:
            ids = track(agent, 20)
            report = await agent.flush()
            assert agent.stats().lost == {LossReason.REJECTED: len(wrong)}
    assert report == Report(delivered=20 - len(wrong), lost={LossReason.REJECTED: len(wrong)}, pending=0)
    check_received(server, [id_ for id_ in ids if id_ not in wrong])
    assert [[message["messageId"] for message in loss.messages] for loss in losses] == [[id_] for id_ in wrong]
    for loss in losses:
        assert loss.reason is LossReason.REJECTED
        assert type(loss.error) is Rejected
        assert (loss.error.status, loss.error.server_message) == (status, "bad message")
        (message,) = loss.messages
        assert (message["method"], message["contact_uid"], message["params"]) == (
            "event",
            "c",
            {"n": message["messageId"]},
        )


async def test_search_for_one_message_is_short() -> None:
    """The search takes at most 2·log2(n) further batches and two pings."""
    async with RawServer(then=refuses({"c-m77"})) as server:
        async with agent_to(server, batching=Batching(max_messages=128, linger=0.002)) as agent:
            track(agent, 128)
            await agent.flush()
    count = Counter(server.paths)
    assert count["/v1/batch"] <= 1 + 2 * 7
    assert count["/v1/ping"] <= 2


async def test_refused_alias_is_lost_alone() -> None:
    """An alias that is refused does not take its neighbours with it."""
    losses: list[Loss] = []
    turn = answers(lambda seen: http(400 if seen.path == "/v1/alias" else 200))
    async with RawServer(then=turn) as server, agent_to(server, on_lost=losses.append) as agent:
        before = track(agent, 2)
        agent.alias("c", "d")
        after = track(agent, 2, start=2)
        assert await agent.flush() == Report(delivered=4, lost={LossReason.REJECTED: 1}, pending=0)
    check_received(server, before + after)
    (loss,) = losses
    assert loss.messages == [{"contact_uid": "c", "alias": "d"}]


async def test_key_revoked_in_the_middle_of_a_search() -> None:
    """A message alone is not lost on a 400 that the key is to blame for: it is parked, and delivered later."""
    revoked = False

    def answer(seen: Seen) -> bytes:
        nonlocal revoked
        if seen.path == "/v1/ping":
            return http(401 if revoked else 200)
        if len(seen.ids) == 2:
            revoked = True
        return http(400)

    async with RawServer(then=answers(answer)) as server, agent_to(server) as agent:
        ids = track(agent, 4)
        assert await agent.flush() == Report(delivered=0, lost={}, pending=4)
        server.play(then=ok())
        await until(lambda: agent.stats().delivered == 4)
    check_received(server, ids)


# 413.


@pytest.mark.parametrize("limit", [1, 3, 8])
async def test_too_large_a_batch_is_halved(limit: int) -> None:
    """A batch is split until the server accepts the parts: nothing is lost, the order is kept, and no ping is sent."""
    turn = answers(lambda seen: http(413 if len(seen.ids) > limit else 200))
    async with RawServer(then=turn) as server:
        async with agent_to(server, batching=Batching(max_messages=16, linger=0.002)) as agent:
            ids = track(agent, 40)
            assert await agent.flush() == Report(delivered=40, lost={}, pending=0)
    check_received(server, ids)
    assert set(server.paths) == {"/v1/batch"}


async def test_too_large_a_message_is_lost() -> None:
    """A message that is too large alone is lost as TOO_LARGE; the rest is delivered, in order."""
    losses: list[Loss] = []
    turn = answers(lambda seen: http(413 if "c-m5" in seen.ids else 200))
    async with RawServer(then=turn) as server:
        batching = Batching(max_messages=16, linger=0.002)
        async with agent_to(server, batching=batching, on_lost=losses.append) as agent:
            ids = track(agent, 20)
            assert await agent.flush() == Report(delivered=19, lost={LossReason.TOO_LARGE: 1}, pending=0)
    check_received(server, [id_ for id_ in ids if id_ != "c-m5"])
    (loss,) = losses
    assert loss.reason is LossReason.TOO_LARGE
    assert [message["messageId"] for message in loss.messages] == ["c-m5"]


# The sandbox, which shares no code with the client, agrees.

SANDBOX_FAULTS: list[tuple[str, list[Fault]]] = [
    ("429", [Fault(status=429, retry_after=0.05, times=2)]),
    ("503", [Fault(status=503, retry_after="soon", times=2)]),
    ("500 committed", [Fault(status=502, commit=True, times=2)]),
    ("dropped before", [Fault(drop="before", times=2)]),
    ("dropped during", [Fault(drop="during", times=2)]),
    ("dropped after", [Fault(drop="after", times=2)]),
    ("garbage", [Fault(raw="no HTTP", times=2)]),
    ("parked", [Fault(status=401, times=2)]),
    ("redirect", [Fault(status=301, headers={"Location": "/"}, times=2)]),
    ("too large", [Fault(status=413, times=1)]),
    ("refused with its key", [Fault(status=400, times=4)]),
]


@pytest.mark.parametrize("faults", [faults for _, faults in SANDBOX_FAULTS], ids=[name for name, _ in SANDBOX_FAULTS])
@pytest.mark.parametrize("senders", [1, 3])
async def test_sandbox_has_everything_once(faults: list[Fault], senders: int) -> None:
    """The sandbox counts each message once by its messageId, whatever failed."""
    async with Sandbox() as sandbox:
        sandbox.faults(faults)
        agent = Agent(
            TOKEN,
            base_url=sandbox.url,
            retry=RETRY,
            timeouts=TIMEOUTS,
            concurrency=senders,
            batching=Batching(max_messages=4, linger=0.002),
        )
        async with asyncio.timeout(PATIENCE), agent:
            ids = [id_ for uid in uids(3) for id_ in track(agent, 12, uid=uid)]
            await until(lambda: agent.stats().delivered == len(ids))
        assert sandbox.faults_left() == []
        events = sandbox.events()
        for uid in uids(3):
            assert [event["params"]["n"] for event in events if event["contact_uid"] == uid] == [
                id_ for id_ in ids if id_.startswith(f"{uid}-")
            ]
        assert len(events) == len(ids)


async def test_answers_before_anybody_listens() -> None:
    """`bound` of these tests' servers refuses: an agent made before its server finds it."""
    server = RawServer(sock=bound())
    async with agent_to(server) as agent:
        ids = track(agent, 1)
        await until(lambda: agent.stats().last_error)
        async with server:
            assert (await agent.flush()).ok
    check_received(server, ids)


# Failures that last.


@pytest.mark.slow
async def test_a_message_that_makes_the_server_fail_is_lost_alone() -> None:
    """A server answers 500 to each body with the marker; the other messages arrive, in the order of their contact."""
    losses: list[Loss] = []
    server = RawServer(then=answers(lambda seen: http(500 if b"MARKER" in seen.body else 200)))
    async with server:
        agent = Agent(
            "token", base_url=server.url, retry=Retry(wait_initial=0.001, wait_max=0.01), on_lost=losses.append
        )
        async with agent:
            for number in range(60):
                agent.track(f"u{number % 3}", "MARKER" if number == 0 else "e", message_id=str(number))
            report = await agent.flush()
    assert (report.delivered, report.lost) == (59, {LossReason.REJECTED: 1})
    assert [message["event_uid"] for loss in losses for message in loss.messages] == ["MARKER"]
    for contact in range(3):
        of_it = [int(number) for number in server.committed if int(number) % 3 == contact]
        assert of_it == sorted(of_it)
    assert len(server.committed) == 59


@pytest.mark.slow
async def test_a_server_that_never_answers_large_bodies_gets_small_ones() -> None:
    """Everything arrives in order with few wasted requests, as behind a slow uplink."""
    in_vain = 0

    async def only_small(exchange: Exchange) -> bool:
        nonlocal in_vain
        seen = await exchange.request()
        if len(seen.body) > 5000:
            in_vain += 1
            await exchange.forever()
        exchange.server.committed += seen.ids
        await exchange.send(http(200))
        return True

    async with RawServer(then=only_small) as server:
        agent = Agent(
            "token",
            base_url=server.url,
            retry=Retry(wait_initial=0.001, wait_max=0.01),
            timeouts=Timeouts(request=0.3),
        )
        async with agent:
            for number in range(300):
                agent.track("u", "e", {"x": "y" * 100}, message_id=str(number))
            report = await agent.flush()
    assert (report.delivered, report.lost) == (300, {})
    assert list(dict.fromkeys(server.committed)) == [str(number) for number in range(300)]
    assert 2 <= in_vain <= 12
