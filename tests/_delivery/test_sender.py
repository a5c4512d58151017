"""What a sender says, waits for and obeys, on virtual time."""

from __future__ import annotations

import asyncio
import logging
import re
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
    RequestTimeout,
    Retry,
)
from salesmachine_async._delivery.hooks import Hooks
from salesmachine_async._delivery.loop_thread import LoopThread
from salesmachine_async._delivery.transport import send_guarded
from salesmachine_async._http import backoff
from salesmachine_async._log import RateLimitedLogger, describe_exception
from tests.support.carriers import BROKEN, OK, STALE, Carrier, Hanging, answer
from tests.support.virtual import run


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every wait its ceiling, so that a test can compute it."""
    monkeypatch.setattr(backoff, "full_jitter", lambda ceiling: ceiling)


def delays(carrier: Carrier) -> list[float]:
    """Return the seconds between the attempts."""
    return [round(later - earlier, 6) for earlier, later in pairwise(carrier.times)]


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """Level and text of the lines that were logged."""
    return [(record.levelno, record.getMessage()) for record in caplog.records if record.name == "salesmachine_async"]


def deliver(carrier: Carrier, *names: str, **options: Any) -> Agent:
    """Track events for one contact and wait until they have their outcomes."""

    async def main() -> Agent:
        async with Agent(transport=carrier, **options) as agent:
            for name in names:
                agent.track("u", name)
            await agent.flush()
        return agent

    return run(main())


# What the log says.


def test_each_kind_of_trouble_has_a_line_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """A failure and a pause within a minute have separate log lines, each with the reaction."""
    deliver(Carrier([BROKEN, answer(503)]), "e")
    assert said(caplog) == [
        (logging.WARNING, "broken on purpose; trying again"),
        (logging.WARNING, "the server answered 503; pausing"),
    ]


def test_parking_and_its_end_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The line of a parked sender says that nothing is lost, why, and when it is tried again."""

    async def main() -> None:
        async with Agent(transport=Carrier([answer(404)]), retry=Retry(wait_max=30)) as agent:
            agent.track("u", "e")
            await asyncio.sleep(40)

    run(main())
    reason = "the server answered 404: check the base URL (SALESMACHINE_API_URL)"
    (parked, unparked) = said(caplog)
    assert parked == (logging.ERROR, f"sending is parked, messages are kept: {reason}. Trying again every 30 s")
    assert unparked[0] == logging.WARNING
    assert "parked" in unparked[1]


@pytest.mark.parametrize(
    ("outcomes", "seen"),
    [
        ([BROKEN, OK], "salesmachine_async: broken on purpose; trying again\n"),  # nothing was ever delivered there
        ([answer(503), OK], ""),
        ([OK, BROKEN, OK], ""),
        ([OK, *[BROKEN] * 6, answer(503), OK], "salesmachine_async: the server answered 503; pausing\n"),  # 31.5 s
    ],
)
def test_an_address_that_never_answered_and_a_long_outage_are_seen_without_logging(
    outcomes: list[Any], seen: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without logging a long outage is written to stderr, and a short one is not."""
    monkeypatch.setattr("salesmachine_async._log._is_heard", lambda level: False)
    deliver(Carrier(outcomes), "1", "2", batching=Batching(max_messages=1))
    assert capsys.readouterr().err == seen


def test_a_delivered_batch_leaves_no_line(caplog: pytest.LogCaptureFixture) -> None:
    """A delivery without a failure writes no log line."""
    with caplog.at_level(logging.DEBUG, logger="salesmachine_async"):
        deliver(Carrier(), "1", "2", batching=Batching(max_messages=1))
    assert said(caplog) == []


def test_each_reason_of_a_loss_has_a_line_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """The line has the number, the reason and the server's message."""

    async def main() -> None:
        agent = Agent(transport=Carrier([answer(413)], takes=1), batching=Batching(max_messages=1))
        agent.track("u", "1")
        agent.track("u", "2")
        await agent.flush()
        agent.track("u", "3")
        agent.track("u", "4")
        await agent.aclose(timeout=0)

    run(main())
    assert said(caplog) == [
        (logging.ERROR, "lost 1 messages (too_large): the server answered 413"),
        (logging.ERROR, "lost 2 messages (closed)"),
    ]


def test_a_hook_that_raises_is_logged_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    """The line names the hook, the exception and its place, also twice within a minute."""

    def fail(_: object) -> None:
        raise ValueError("SECRET")

    carrier = Carrier([answer(413)])
    deliver(carrier, "1", "2", batching=Batching(max_messages=1), on_delivered=fail, on_lost=fail)
    lines = [text for _, text in said(caplog) if "hook" in text]
    assert [re.sub(r":\d+\)", ":N)", text) for text in lines] == [
        "the on_lost hook raised ValueError (test_sender.py:N)",
        "the on_delivered hook raised ValueError (test_sender.py:N)",
    ]


class TimeIsUp(BaseException):
    """An exception as raised by the signal handler of a test's timeout."""


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, TimeIsUp])
def test_what_is_no_exception_in_a_hook_may_be_meant_for_the_caller(error: type[BaseException]) -> None:
    """A signal handler's, probably, in the middle of it."""

    def fail(_: object) -> None:
        raise error

    hooks = Hooks(fail, None, None, RateLimitedLogger())
    batch = Batch(b"{}", 1)
    with pytest.raises(error):
        hooks.delivered(batch, status=None, seconds=0.0)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_the_program_may_end_in_the_middle_of_a_hook_or_a_request(error: type[BaseException]) -> None:
    """An exit in a hook or a request leaves the event loop."""

    def fail(_: object) -> None:
        raise error

    with pytest.raises(error):
        deliver(Carrier(), "1", on_delivered=fail)
    with pytest.raises(error):
        deliver(Carrier([error()]), "1")


def test_what_is_no_exception_goes_on_from_the_closing_of_a_transport() -> None:
    """A BaseException in the closing of a transport propagates, as from a hook."""

    def fail() -> None:
        raise TimeIsUp

    carrier = Carrier()
    carrier.aclose = fail  # type: ignore[assignment]
    with pytest.raises(TimeIsUp):
        deliver(carrier, "1")
    assert carrier.events() == ["1"]


def test_a_request_whose_coroutine_is_closed_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """A closed coroutine is no failure of the transport, also in the agent's own thread."""

    async def close_one() -> None:
        sending = send_guarded(Hanging(), Batch(b"[{}]", 1), RateLimitedLogger())
        sending.send(None)
        sending.close()

    thread = LoopThread()
    thread.start()
    thread.submit(close_one).result(30)
    thread.stop()
    thread.join(30)
    assert not said(caplog)


def test_an_exception_that_was_never_raised_is_named_by_its_type() -> None:
    """An exception without a traceback is named by its type alone."""
    assert describe_exception(ValueError("SECRET")) == "ValueError"


def test_a_transport_that_raises_is_logged_with_type_and_place(caplog: pytest.LogCaptureFixture) -> None:
    """Two lines: what the carrier did, and what is done about it."""
    deliver(Carrier([ValueError("SECRET")]), "e")
    assert [(level, re.sub(r":\d+\)", ":N)", text)) for level, text in said(caplog)] == [
        (logging.ERROR, "the transport raised ValueError (carriers.py:N)"),
        (logging.WARNING, "the transport raised ValueError; trying again"),
    ]


# The budget.


def test_a_pause_of_our_own_ends_with_the_budget() -> None:
    """After a 429 without Retry-After the last attempt is made when `Retry.timeout` ends."""
    losses: list[Loss] = []
    carrier = Carrier([answer(429)] * 2)
    deliver(carrier, "e", retry=Retry(wait_initial=10, wait_max=10, timeout=4), on_lost=losses.append)
    assert delays(carrier) == [4]
    assert [loss.reason for loss in losses] == [LossReason.EXPIRED]


def test_a_pause_shorter_than_the_budget_is_kept() -> None:
    """The budget shortens a pause and never prolongs it."""
    carrier = Carrier([answer(429)])
    deliver(carrier, "e", retry=Retry(wait_initial=1, wait_max=10, timeout=100))
    assert delays(carrier) == [1]


# Ping without an answer.


def test_a_ping_that_fails_in_passing_is_a_failure_of_the_batch(caplog: pytest.LogCaptureFixture) -> None:
    """The question is put again after a backoff, batch first."""
    carrier = Carrier([answer(400), BROKEN, OK])
    deliver(carrier, "e", retry=Retry(wait_initial=3))
    assert [endpoint for _, endpoint, _ in carrier.attempts] == [Endpoint.BATCH, Endpoint.PING, Endpoint.BATCH]
    assert delays(carrier) == [0, 3]
    assert said(caplog) == [(logging.WARNING, "broken on purpose; trying again")]


def test_a_ping_on_a_stale_connection_is_repeated_at_once_and_then_backs_off() -> None:
    """Pings count towards the repetitions that stale connections allow."""
    carrier = Carrier([answer(400), STALE, answer(400), STALE, OK])
    deliver(carrier, "e", retry=Retry(wait_initial=3))
    assert delays(carrier) == [0, 0, 0, 3]


def test_a_refused_ping_is_asked_again_after_the_longest_backoff() -> None:
    """A wrong key parks the sender for *cap* seconds between the questions."""
    carrier = Carrier([answer(400), answer(401), OK])
    deliver_parked(carrier, seconds=50, retry=Retry(wait_max=40))
    assert delays(carrier) == [0, 40]


def deliver_parked(carrier: Carrier, *, seconds: float, **options: Any) -> None:
    """Track one event and let some time pass; a flush would not wait for what is parked."""

    async def main() -> None:
        async with Agent(transport=carrier, **options) as agent:
            agent.track("u", "e")
            await asyncio.sleep(seconds)

    run(main())


def test_a_stale_connection_is_repeated_at_once_as_often_as_there_are_senders() -> None:
    """Each sender may find one stale connection; a further one is a failure."""
    carrier = Carrier([STALE] * 4)
    deliver(carrier, "e", concurrency=3, retry=Retry(wait_initial=5))
    assert delays(carrier) == [0, 0, 0, 5]


# Waits that are expedited.


def test_a_hurried_attempt_keeps_its_distance_from_the_last() -> None:
    """A flush with a deadline in the middle of a backoff brings the attempt to a first backoff after the last one."""
    carrier = Carrier([BROKEN] * 2)

    async def main() -> None:
        async with Agent(transport=carrier, retry=Retry(wait_initial=10, wait_max=1000)) as agent:
            agent.track("u", "e")
            await asyncio.sleep(12)
            assert (await agent.flush(timeout=15)).delivered == 1

    run(main())
    assert delays(carrier) == [10, 10]


# Cancellation that a transport holds back.


class HoldingBack(Carrier):
    """Finishes its request when it is cancelled, as HttpTransport does once the server has answered."""

    async def send(self, batch: Batch) -> Outcome:
        try:
            return await super().send(batch)
        except asyncio.CancelledError:
            return OK


def test_a_cancellation_held_back_is_obeyed_after_the_outcome(caplog: pytest.LogCaptureFixture) -> None:
    """The batch counts as delivered, and then the sender stops."""
    carrier = HoldingBack(takes=10)

    async def main() -> None:
        async with Agent(transport=carrier, batching=Batching(max_messages=1)) as agent:
            agent.track("u", "1")
            agent.track("u", "2")
            await asyncio.sleep(1)
            (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "salesmachine-sender-0"]
            task.cancel()
            await asyncio.sleep(0.01)
            assert task.cancelled()
            assert (agent.stats().delivered, agent.stats().in_flight) == (1, 0)
            assert (await agent.flush()).delivered == 2

    run(main())
    assert [[message["event_uid"] for message in messages] for _, _, messages in carrier.attempts] == [["1"], ["2"]]
    line = "a delivery task was cancelled from outside; it is restarted, and nothing is lost"
    assert said(caplog) == [(logging.ERROR, line)]


# Uplinks too slow for full batches.


def test_batches_that_time_out_are_sent_in_parts() -> None:
    """Batches are halved after the second time-out, later ones are sent in parts, which grow again."""
    slow = True
    carrier = Carrier(decide=lambda batch: TIMED_OUT if slow and batch.count > 25 else None)

    async def main() -> None:
        nonlocal slow
        async with Agent(transport=carrier, retry=Retry(wait_initial=1, wait_max=10)) as agent:
            for number in range(3000):
                agent.track("u", str(number))
            report = await agent.flush()
            assert (report.delivered, report.lost) == (3000, {})
            in_vain = sum(len(messages) > 25 for _, _, messages in carrier.attempts)
            assert [len(messages) for _, _, messages in carrier.attempts[:3]] == [100, 100, 50]
            assert in_vain < 20
            slow = False
            before = len(carrier.attempts)
            for number in range(3000, 10_000):
                agent.track("u", str(number))
            assert (await agent.flush()).ok
            assert len(carrier.attempts) - before < 200
            assert len(carrier.attempts[-1][2]) == 100
        assert carrier.events() == [str(number) for number in range(10_000)]

    run(main())


TIMED_OUT = Outcome.failed(RequestTimeout("no answer in time"))


@pytest.mark.parametrize("failure", [BROKEN, answer(500), answer(503), answer(429)])
def test_a_flush_with_a_deadline_cuts_every_backoff_in_its_time(failure: Outcome) -> None:
    """Each attempt comes a first backoff after the last one; after the deadline the waits are long again."""
    carrier = Carrier([failure] * 60)

    async def main() -> None:
        async with Agent(transport=carrier, retry=Retry(wait_initial=1, wait_max=1000)) as agent:
            agent.track("u", "e")
            await asyncio.sleep(50)
            before = len(carrier.attempts)
            await agent.flush(timeout=10.5)
            assert delays(carrier)[before:] == [1] * 10
            before = len(carrier.attempts)
            await asyncio.sleep(60)
            assert len(carrier.attempts) - before <= 1
            await agent.aclose(timeout=0)

    run(main())


def test_a_flush_with_a_deadline_obeys_the_pause_that_the_server_asked_for() -> None:
    """A Retry-After is no backoff."""
    carrier = Carrier([answer(429, Retry_After="30")])

    async def main() -> None:
        async with Agent(transport=carrier, retry=Retry(wait_initial=1)) as agent:
            agent.track("u", "e")
            report = await agent.flush(timeout=20)
            assert (report.pending, len(carrier.attempts)) == (1, 1)
            assert (await agent.flush(timeout=20)).ok

    run(main())


def test_a_close_tries_again_until_its_deadline() -> None:
    """A server that comes back while an agent closes gets the messages."""
    carrier = Carrier([BROKEN] * 12)

    async def main() -> None:
        async with Agent(transport=carrier, retry=Retry(wait_initial=1, wait_max=1000)) as agent:
            agent.track("u", "e")
            await asyncio.sleep(100)
            assert (await agent.aclose(timeout=10)).delivered == 1

    run(main())


# What is kept.


def test_a_settled_batch_holds_no_other() -> None:
    """A hook that keeps a loss or a delivery does not keep the other halves of its batch."""
    kept: list[Any] = []
    carrier = Carrier(decide=lambda batch: answer(400) if '"7"' in str(batch.lines()) else None)
    deliver(carrier, *map(str, range(20)), on_lost=kept.append, on_delivered=kept.append)
    assert len(kept) > 2
    assert all(batch.partner is None for each in kept for batch in each.batches)


# Debugging.


def test_each_step_is_shown_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    """Request, answer, decision and wait, a line each, without a payload; nothing at INFO."""
    with caplog.at_level(logging.DEBUG, logger="salesmachine_async.delivery"):
        deliver(Carrier([answer(500)]), "SECRET", token="TOKEN", secret="HIDDEN", retry=Retry(wait_initial=2))
    lines = [record.getMessage() for record in caplog.records if record.name == "salesmachine_async.delivery"]
    assert [re.sub(r"\d+ bytes", "N bytes", line) for line in lines] == [
        "partition 0: <Batch /v1/batch | 1 messages, N bytes> is taken",
        "partition 0: attempt 1 of <Batch /v1/batch | 1 messages, N bytes>",
        "partition 0: retry after 0.000 s: status 500, the server answered 500",
        "partition 0: Wait(at_most=None, at_least=0.0)",
        "partition 0: wait of 2.000 s",
        "partition 0: attempt 2 of <Batch /v1/batch | 1 messages, N bytes>",
        "partition 0: delivered after 0.000 s: status 201, None",
        "partition 0: Deliver()",
    ]
    assert not any(word in caplog.text for word in ("SECRET", "TOKEN", "HIDDEN"))


def test_a_debug_handler_that_raises_does_not_stop_the_delivery() -> None:
    """Neither a handler nor a filter that raises stops the delivery."""

    def fail(_: object) -> bool:
        raise ValueError

    logger = logging.getLogger("salesmachine_async.delivery")
    logger.addFilter(fail)
    logger.setLevel(logging.DEBUG)
    try:
        assert deliver(Carrier([answer(500)]), "e").stats().delivered == 1
    finally:
        logger.removeFilter(fail)
        logger.setLevel(logging.NOTSET)


def test_without_a_hook_a_message_passes_unchanged() -> None:
    """A message is unchanged if there is no hook."""
    message = {"method": "event"}
    assert Hooks(None, None, None, RateLimitedLogger()).filtered(message, b"{}") == (message, b"{}")
