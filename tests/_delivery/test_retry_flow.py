"""What the senders do about each outcome, on virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from salesmachine_async import (
    Agent,
    Batch,
    Batching,
    Endpoint,
    Loss,
    LossReason,
    Outcome,
    Overflow,
    QueueLimits,
    Retry,
    Verdict,
)
from salesmachine_async._http import backoff
from tests.support.carriers import BROKEN, OK, STALE, Carrier, Hanging, answer
from tests.support.virtual import run
from tests.support.waiting import held_back


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every wait its ceiling, so that a test can compute it."""
    monkeypatch.setattr(backoff, "full_jitter", lambda ceiling: ceiling)


def delays(carrier: Carrier) -> list[float]:
    """Return the seconds between the attempts."""
    times = carrier.times
    return [round(later - earlier, 6) for earlier, later in pairwise(times)]


def deliver(carrier: Any, *names: str, **options: Any) -> Any:
    """Track events, flush without a deadline, close at once; return the report of the flush."""

    async def main() -> Any:
        agent = Agent(transport=carrier, **options)
        for name in names:
            agent.track("u", name)
        await agent.start()
        report = await agent.flush()
        await agent.aclose(timeout=0)
        return report

    return run(main())


def test_backoff_doubles_up_to_the_cap() -> None:
    """Waits grow from *initial* to *cap* and stay there."""
    carrier = Carrier([BROKEN] * 6)
    assert deliver(carrier, "e", retry=Retry(wait_initial=1, wait_max=10)).delivered == 1
    assert delays(carrier) == [1, 2, 4, 8, 10, 10]


def test_backoff_begins_anew_after_a_success() -> None:
    """A delivered batch resets the backoff."""
    carrier = Carrier([BROKEN, BROKEN, OK, BROKEN])
    deliver(carrier, "1", "2", retry=Retry(wait_initial=1, wait_max=10), batching=Batching(max_messages=1))
    assert delays(carrier) == [1, 2, 0, 1]


def test_waits_are_jittered_over_the_whole_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is what full_jitter makes of the ceiling."""
    ceilings: list[float] = []

    def quarter(ceiling: float) -> float:
        ceilings.append(ceiling)
        return ceiling / 4

    monkeypatch.setattr(backoff, "full_jitter", quarter)
    carrier = Carrier([BROKEN, BROKEN])
    deliver(carrier, "e", retry=Retry(wait_initial=1, wait_max=10))
    assert ceilings == [1, 2]
    assert delays(carrier) == [0.25, 0.5]


def test_every_attempt_carries_the_same_messages() -> None:
    """A retry repeats the batch to the byte, ids included, and nothing overtakes it."""
    carrier = Carrier([BROKEN, answer(500), answer(429)])
    deliver(carrier, "1", "2", batching=Batching(max_messages=1))
    first = [messages for _, _, messages in carrier.attempts]
    assert first[0] == first[1] == first[2] == first[3] != first[4]
    assert carrier.events() == ["1", "2"]


@pytest.mark.parametrize("status", [408, 425, 500, 502, 504, 599, 600, 199])
def test_passing_troubles_are_retried(status: int) -> None:
    """Statuses of temporary failures are retried."""
    carrier = Carrier([answer(status)])
    assert deliver(carrier, "e").ok


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("3", 3.5),
        ("0", 0.5),
        ("0.25", 0.75),
        ("9999999999", 60.5),
        (None, 0.5),
        ("soon", 0.5),
        ("-5", 0.5),
        ("nan", 0.5),
    ],
)
def test_a_pause_is_as_long_as_asked_for(status: int, header: str | None, expected: float) -> None:
    """Retry-After is obeyed with a little jitter; absent or malformed it gives a backoff, and too long it is cut."""
    carrier = Carrier([answer(status) if header is None else answer(status, Retry_After=header)])
    deliver(carrier, "e", retry=Retry(wait_initial=0.5, wait_max=10, max_retry_after=60))
    assert delays(carrier) == [expected]


def test_a_pause_holds_every_lane() -> None:
    """A 429 to one sender silences all of them until it is over."""
    contacts = [f"u{number}" for number in range(20)]
    carrier = Carrier([answer(429, Retry_After="100")], takes=1)

    async def main() -> None:
        async with Agent(transport=carrier, concurrency=4, batching=Batching(linger=0)) as agent:
            for contact in contacts:
                agent.track(contact, "e")
            await asyncio.sleep(5)
            paused_at = carrier.times[0] + 1
            for contact in contacts:
                agent.track(contact, "e")
            assert (await agent.flush()).delivered == 40
        begun = [time for time in carrier.times if time > paused_at]
        assert begun
        assert min(begun) >= paused_at + 100

    run(main())


def test_a_longer_pause_is_not_shortened_by_a_shorter_one() -> None:
    """The later end of two pauses counts."""
    carrier = Carrier(takes=1)
    carrier.script.extend([answer(429, Retry_After="100"), answer(429, Retry_After="1")])

    async def main() -> None:
        async with Agent(transport=carrier, concurrency=2, batching=Batching(linger=0)) as agent:
            for number in range(20):
                agent.track(f"u{number}", "e")
            await agent.flush()
        assert carrier.times[2] - carrier.times[0] >= 100

    run(main())


def test_a_stale_connection_is_tried_again_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """A kept-alive connection that was closed costs no time and no log line."""
    carrier = Carrier([STALE])
    deliver(carrier, "e")
    assert delays(carrier) == [0]
    assert caplog.records == []


def test_a_second_stale_connection_backs_off() -> None:
    """A batch is repeated at once as often as there are connections, and with a backoff after that."""
    carrier = Carrier([STALE] * 4)
    deliver(carrier, "e", retry=Retry(wait_initial=1))
    assert delays(carrier) == [0, 1, 0, 2]


# Budget.


def test_a_batch_is_given_up_when_its_budget_is_spent() -> None:
    """The last attempt is made when the budget ends; then the batch is lost and the next has its own."""
    losses: list[Loss] = []
    carrier = Carrier(
        decide=lambda batch: BROKEN if batch.messages()[0]["event_uid"] == "1" else None,
    )
    report = deliver(
        carrier,
        "1",
        "2",
        batching=Batching(max_messages=1),
        retry=Retry(wait_initial=1, wait_max=8, timeout=5),
        on_lost=losses.append,
    )
    assert delays(carrier) == [1, 2, 2, 0]
    assert report.lost == {LossReason.EXPIRED: 1}
    assert report.delivered == 1
    assert [(loss.reason, loss.messages[0]["event_uid"]) for loss in losses] == [(LossReason.EXPIRED, "1")]
    assert losses[0].error is not None


def test_no_budget_means_for_ever() -> None:
    """Without `Retry.timeout` a batch outlives any outage."""
    carrier = Carrier([BROKEN] * 1000)
    assert deliver(carrier, "e", retry=Retry(wait_initial=1, wait_max=3600)).ok


def test_a_pause_beyond_the_budget_loses_the_batch_but_is_obeyed() -> None:
    """A batch that cannot be sent in time is lost at once, and the pause still holds for the next ones."""
    carrier = Carrier([answer(429, Retry_After="100")])
    report = deliver(carrier, "1", "2", batching=Batching(max_messages=1), retry=Retry(wait_initial=0.5, timeout=10))
    assert report.lost == {LossReason.EXPIRED: 1}
    assert delays(carrier) == [100.5]
    assert carrier.events() == ["2"]


# Parked.


@pytest.mark.parametrize(
    "status", [301, 302, 303, 307, 308, 304, 401, 402, 403, 404, 405, 406, 407, 410, 415, 421, 451, 501, 505]
)
def test_refusals_that_no_message_is_to_blame_for_park_the_lane(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """Parked: nothing lost, one ERROR line, flush reports it as pending, a probe heals."""
    carrier = Carrier([answer(status)] * 3)

    async def main() -> None:
        async with Agent(transport=carrier, retry=Retry(wait_max=30)) as agent:
            agent.track("u", "1")
            report = await agent.flush()
            assert (report.delivered, report.pending, report.lost) == (0, 1, {})
            assert held_back(agent)
            await asyncio.sleep(95)
            assert not held_back(agent)
        assert delays(carrier) == [30, 30, 30]
        assert carrier.events() == ["1"]

    run(main())
    assert [record.levelno for record in caplog.records if record.levelno >= logging.ERROR] == [logging.ERROR]
    assert str(status) in caplog.records[0].getMessage()


def test_being_parked_costs_no_budget() -> None:
    """The time while parked does not count towards `Retry.timeout`."""
    carrier = Carrier([BROKEN, answer(401), answer(401), BROKEN])
    report = deliver_parked(carrier, retry=Retry(wait_initial=1, wait_max=30, timeout=40))
    assert (report.delivered, report.lost) == (1, {})


def deliver_parked(carrier: Carrier, **options: Any) -> Any:
    """Deliver as `deliver` does, but wait beyond the parking."""

    async def main() -> Any:
        async with Agent(transport=carrier, **options) as agent:
            agent.track("u", "e")
            await asyncio.sleep(120)
            return await agent.flush()

    return run(main())


def test_closing_does_not_wait_for_a_parked_sender() -> None:
    """The messages of a parked sender are lost as CLOSED at once."""
    losses: list[Loss] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        agent = Agent(transport=Carrier([answer(401)] * 9), on_lost=losses.append)
        async with agent:
            agent.track("u", "1")
            await agent.flush()
            agent.track("u", "2")
            start = loop.time()
            report = await agent.aclose(timeout=1000)
            assert loop.time() - start < 1
        assert (report.lost, report.pending) == ({LossReason.CLOSED: 2}, 0)

    run(main())
    assert [[message["event_uid"] for message in loss.messages] for loss in losses] == [["1", "2"]]


def test_one_parked_sender_does_not_delay_another() -> None:
    """flush waits for the senders that move."""

    def decide(batch: Batch) -> Outcome | None:
        return answer(404) if batch.messages()[0]["contact_uid"] == "u0" else None

    async def main() -> None:
        async with Agent(
            transport=Carrier(decide=decide, takes=1), concurrency=8, batching=Batching(max_messages=1)
        ) as agent:
            for number in range(16):
                agent.track(f"u{number}", "e")
            report = await agent.flush()
            assert report.delivered + report.pending == 16
            assert report.pending >= 1

    run(main())


# Refused: whose fault is it?


def guilty(*names: str, status: int = 400, ping: Outcome | None = None) -> Callable[[Batch], Outcome | None]:
    """A server that refuses each request which holds one of these events."""

    def decide(batch: Batch) -> Outcome | None:
        if batch.endpoint is Endpoint.PING:
            return ping
        return answer(status) if any(message.get("event_uid") in names for message in batch.messages()) else None

    return decide


@pytest.mark.parametrize("status", [400, 422, 409])
@pytest.mark.parametrize("culprit", ["0", "49", "99"])
def test_one_guilty_message_is_isolated(status: int, culprit: str) -> None:
    """One message is lost as REJECTED, the other 99 are delivered in order, with at most 2·log2(n)+2 extra requests."""
    losses: list[Loss] = []
    carrier = Carrier(decide=guilty(culprit, status=status))
    names = [str(number) for number in range(100)]
    report = deliver(carrier, *names, on_lost=losses.append)
    assert (report.delivered, report.lost) == (99, {LossReason.REJECTED: 1})
    assert carrier.events() == [name for name in names if name != culprit]
    assert [message["event_uid"] for loss in losses for message in loss.messages] == [culprit]
    assert len(carrier.attempts) - 1 <= 15


def test_several_guilty_messages_are_isolated() -> None:
    """All guilty messages are lost, and no others."""
    carrier = Carrier(decide=guilty("3", "4", "77"))
    names = [str(number) for number in range(100)]
    report = deliver(carrier, *names)
    assert report.lost == {LossReason.REJECTED: 3}
    assert carrier.events() == [name for name in names if name not in ("3", "4", "77")]


def test_a_refused_key_parks_instead_of_losing() -> None:
    """400 to the batch and to ping: it is the key; nothing is split or lost."""
    carrier = Carrier(decide=guilty("1", ping=answer(400)))

    async def main() -> None:
        async with Agent(transport=carrier) as agent:
            agent.track("u", "1")
            agent.track("u", "2")
            report = await agent.flush()
            assert (report.pending, report.lost) == (2, {})
            assert [endpoint for _, endpoint, _ in carrier.attempts] == [Endpoint.BATCH, Endpoint.PING]
            carrier.decide = None
            await asyncio.sleep(31)
            assert (await agent.flush()).ok

    run(main())


def test_a_key_revoked_during_the_search_loses_nothing() -> None:
    """A ping is sent again before a message is lost."""
    carrier = Carrier([answer(400), OK, answer(400)])
    carrier.decide = guilty("1", "2", ping=answer(401))

    async def main() -> None:
        agent = Agent(transport=carrier)
        async with agent:
            agent.track("u", "1")
            agent.track("u", "2")
            report = await agent.flush()
            assert (report.pending, report.lost) == (2, {})
            await agent.aclose(timeout=0)

    run(main())


@pytest.mark.parametrize("ping", [BROKEN, answer(500), answer(429), STALE])
def test_a_ping_without_an_answer_decides_nothing(ping: Outcome) -> None:
    """A ping that fails temporarily is repeated later."""
    carrier = Carrier([answer(400), ping, answer(400)], decide=guilty("1"))
    report = deliver(carrier, "1", "2", retry=Retry(wait_initial=1))
    assert (report.delivered, report.lost) == (1, {LossReason.REJECTED: 1})


def test_too_large_a_batch_is_halved() -> None:
    """413: halves, in order; no ping."""
    carrier = Carrier(decide=lambda batch: answer(413) if batch.count > 3 else None)
    names = [str(number) for number in range(10)]
    assert deliver(carrier, *names).ok
    assert carrier.events() == names
    assert all(endpoint is Endpoint.BATCH for _, endpoint, _ in carrier.attempts)


def test_too_large_a_message_is_lost_alone() -> None:
    """413 to a single message loses it as TOO_LARGE."""
    carrier = Carrier(decide=guilty("big", status=413))
    report = deliver(carrier, "1", "big", "2")
    assert report.lost == {LossReason.TOO_LARGE: 1}
    assert carrier.events() == ["1", "2"]


# Flush and waits.


def test_flush_with_a_deadline_does_not_sit_out_a_backoff() -> None:
    """A flush that has a deadline brings the next attempt forward, but not closer than a first backoff."""
    carrier = Carrier([BROKEN] * 6)

    async def main() -> None:
        async with Agent(transport=carrier, retry=Retry(wait_initial=1, wait_max=1000)) as agent:
            agent.track("u", "e")
            await asyncio.sleep(50)
            assert delays(carrier) == [1, 2, 4, 8, 16]
            await asyncio.gather(*(agent.flush(timeout=5) for _ in range(10)))
            assert delays(carrier)[5:] == [(50 - 31 - 1 + 1)] or len(carrier.attempts) == 7

    run(main())


def test_flush_returns_at_its_deadline() -> None:
    """flush(timeout) reports pending messages in time if the host never answers."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        agent = Agent(transport=Hanging())
        async with agent:
            agent.track("u", "e")
            start = loop.time()
            report = await agent.flush(timeout=3)
            assert loop.time() - start == pytest.approx(3)
            assert (report.pending, report.ok) == (1, False)
            await agent.aclose(timeout=0)

    run(main())


def test_flush_reports_what_was_accepted_before_it() -> None:
    """Messages tracked by a hook during a flush are in neither its report nor its wait."""
    agent: Agent

    def track_more(_: object) -> None:
        for _ in range(10):
            agent.track("u", "more")

    async def main() -> None:
        nonlocal agent
        agent = Agent(transport=Carrier(takes=1), on_delivered=track_more, batching=Batching(linger=0))
        await agent.start()
        agent.track("u", "e")
        assert (await agent.flush()).delivered == 1
        await agent.aclose(timeout=0)

    run(main())


def test_a_storm_of_flushes_costs_one() -> None:
    """A thousand flushes at once make no more requests than one."""
    carrier = Carrier(takes=1)

    async def main() -> None:
        async with Agent(transport=carrier) as agent:
            agent.track("u", "e")
            reports = await asyncio.gather(*(agent.flush() for _ in range(1000)))
            assert {report.delivered for report in reports} == {1}
        assert len(carrier.attempts) == 1

    run(main())


def test_drain_holds_the_producer_between_the_water_marks() -> None:
    """drain() returns at once below 80 %, and else not before 50 %."""
    carrier = Carrier(takes=1)

    async def main() -> None:
        agent = Agent(transport=carrier, queue=QueueLimits(max_messages=100), batching=Batching(max_messages=10))
        for _ in range(79):
            agent.track("u", "e")
        await asyncio.wait_for(agent.drain(), 0.5)
        assert carrier.attempts == []
        agent.track("u", "e")
        await asyncio.gather(agent.drain(), agent.drain())
        stats = agent.stats()
        assert stats.queued + stats.in_flight == 50
        await agent.aclose()

    run(main())


def test_drain_seals_what_it_waits_for() -> None:
    """A queue smaller than a batch drains without waiting for the linger."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Agent(
            transport=Carrier(takes=1), queue=QueueLimits(max_messages=10), batching=Batching(linger=1000)
        ) as agent:
            for _ in range(9):
                agent.track("u", "e")
            start = loop.time()
            await agent.drain()
            assert loop.time() - start < 10

    run(main())


@pytest.mark.slow
def test_many_messages_pass_through_a_small_queue() -> None:
    """track() with drain() moves any number through a bounded queue, none refused."""
    count = 0

    def decide(batch: Batch) -> None:
        nonlocal count
        count += batch.count

    class Counting(Carrier):
        async def send(self, batch: Batch) -> Outcome:
            decide(batch)
            return OK

    async def main() -> None:
        async with Agent(
            transport=Counting(), queue=QueueLimits(max_messages=2000), batching=Batching(max_messages=500)
        ) as agent:
            for _ in range(100_000):
                assert agent.track("u", "e")
                await agent.drain()
        assert count == 100_000

    run(main())


def test_a_transport_that_raises_is_a_broken_connection(caplog: pytest.LogCaptureFixture) -> None:
    """An exception of a transport causes a retry, and its text is not logged."""
    carrier = Carrier([ValueError("SECRET"), TimeoutError(), KeyError("SECRET")])
    assert deliver(carrier, "e").ok
    assert "SECRET" not in caplog.text
    assert "ValueError" in caplog.text


@pytest.mark.parametrize("nonsense", [None, "delivered", 201])
def test_a_transport_that_returns_nonsense_is_a_broken_connection(nonsense: Any) -> None:
    """A carrier that forgets its return is retried with backoff, not in a hot loop."""

    class Forgetful(Carrier):
        async def send(self, batch: Batch) -> Outcome:
            self.attempts.append((asyncio.get_running_loop().time(), batch.endpoint, batch.messages()))
            return OK if len(self.attempts) > 2 else nonsense

    forgetful = Forgetful()
    assert deliver(forgetful, "e", retry=Retry(wait_initial=1)).ok
    assert delays(forgetful) == [1, 2]


def test_a_transport_that_raises_its_own_cancellation_is_a_broken_connection() -> None:
    """A CancelledError raised by the transport itself is a failure."""
    carrier = Carrier([asyncio.CancelledError(), asyncio.CancelledError()])
    assert deliver(carrier, "e", retry=Retry(wait_initial=1)).ok
    assert delays(carrier) == [1, 2]


def test_flush_ends_when_everything_under_it_was_displaced() -> None:
    """DROP_OLDEST gives the messages of a flush their outcome too."""

    async def main() -> None:
        limits = QueueLimits(max_messages=4, overflow=Overflow.DROP_OLDEST)
        agent = Agent(transport=Carrier(decide=lambda _: BROKEN), queue=limits, batching=Batching(max_messages=1))
        for number in range(4):
            agent.track("u", str(number))
        await agent.start()
        flush = asyncio.ensure_future(agent.flush())
        await asyncio.sleep(1)
        for number in range(8):
            agent.track("u", f"new{number}")
            await asyncio.sleep(0.001)
        report = None
        async with asyncio.timeout(1000):
            while not flush.done() and agent.stats().in_flight == 1:
                await asyncio.sleep(10)
                if agent.stats().lost.get(LossReason.QUEUE_FULL, 0) >= 3:
                    break
        await agent.aclose(timeout=0)
        report = await flush
        assert report.pending == 0

    run(main())


@pytest.mark.slow
def test_an_outage_of_ten_thousand_failures_logs_little(caplog: pytest.LogCaptureFixture) -> None:
    """An outage of 10,000 failed requests writes less than twenty lines."""
    carrier = Carrier([BROKEN, answer(500), answer(503)] * 3334)
    with caplog.at_level(logging.DEBUG, logger="salesmachine_async"):
        assert deliver(carrier, "e", retry=Retry(wait_initial=0.001, wait_max=0.05)).ok
    assert 2 <= len([record for record in caplog.records if record.name == "salesmachine_async"]) < 20


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_is_decided(verdict: Verdict) -> None:
    """The counts add up for any outcome of a transport."""

    async def main() -> None:
        outcome = Outcome(verdict=verdict, error=None if verdict is Verdict.DELIVERED else BROKEN.error)
        async with Agent(transport=Carrier([outcome])) as agent:
            agent.track("u", "e")
            await agent.flush()
            stats = agent.stats()
            assert stats.accepted == stats.delivered + sum(stats.lost.values()) + stats.queued + stats.in_flight == 1

    run(main())
