"""The calls of an agent, on a transport without a network."""

from __future__ import annotations

import asyncio
import logging
import pickle
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

import salesmachine_async
from salesmachine_async import (
    Agent,
    AgentClosed,
    Batching,
    ConfigError,
    ConnectionFailed,
    Delivery,
    Endpoint,
    Invalid,
    InvalidMessage,
    Loss,
    LossReason,
    MessageTooLarge,
    Overflow,
    QueueFull,
    QueueLimits,
    Rejected,
    Retry,
    ServerFailure,
    State,
    Timeouts,
    Unauthorized,
    errors,
    policy,
    report,
)
from tests.support.carriers import BROKEN, STALE, Carrier, Hanging, answer
from tests.support.virtual import run
from tests.support.waiting import held_back


async def sent(track: Callable[[Agent], object], **options: Any) -> list[dict[str, Any]]:
    """Run some calls and return the messages as the server gets them."""
    carrier = Carrier()
    async with Agent(transport=carrier, **options) as agent:
        track(agent)
    return carrier.delivered


async def test_each_call_makes_the_documented_message() -> None:
    """The messages of the documentation's examples, as items of a batch."""

    def track(agent: Agent) -> None:
        at = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)
        person = {
            "email": "elon@teslamotors.com",
            "name": "Elon Musk",
            "gender": "male",
            "mrr": 99,
            "account_uid": "78910",
        }
        assert agent.contact("123456", person, created_at=at, message_id="m1")
        assert agent.account("78910", {"name": "Tesla Motors", "employee_count": 12000}, created_at=at, message_id="m2")
        assert agent.track("123456", "user_registration", {"account_uid": "78910"}, created_at=at, message_id="m3")
        assert agent.pageview("123456", {"visit_url": "/home"}, created_at=at, message_id="m4")

    at = {"created_at": "2026-01-02T03:04:05.678Z"}
    assert await sent(track) == [
        {
            "method": "contact",
            "contact_uid": "123456",
            "params": {
                "email": "elon@teslamotors.com",
                "name": "Elon Musk",
                "gender": "male",
                "mrr": 99,
                "account_uid": "78910",
            },
            **at,
            "messageId": "m1",
        },
        {
            "method": "account",
            "account_uid": "78910",
            "params": {"name": "Tesla Motors", "employee_count": 12000},
            **at,
            "messageId": "m2",
        },
        {
            "method": "event",
            "contact_uid": "123456",
            "event_uid": "user_registration",
            "params": {"account_uid": "78910"},
            **at,
            "messageId": "m3",
        },
        {
            "method": "event",
            "contact_uid": "123456",
            "event_uid": "pageview",
            "params": {"visit_url": "/home"},
            **at,
            "messageId": "m4",
        },
    ]


async def test_alias_is_a_request_of_its_own_with_the_documented_body() -> None:
    """An alias is sent to its endpoint after the messages before it and before the messages after it."""
    carrier = Carrier()
    async with Agent(transport=carrier) as agent:
        agent.track("123456", "before")
        assert agent.alias("123456", 789)
        agent.track("123456", "after")
    assert [(endpoint, len(messages)) for _, endpoint, messages in carrier.attempts] == [
        (Endpoint.BATCH, 1),
        (Endpoint.ALIAS, 1),
        (Endpoint.BATCH, 1),
    ]
    assert carrier.attempts[1][2] == [{"contact_uid": "123456", "alias": "789"}]


async def test_alias_carries_a_message_id_only_when_given_one() -> None:
    """The documented body of an alias has two keys; a message id of the caller is added."""
    assert await sent(lambda agent: agent.alias("a", "b", message_id="m")) == [
        {"contact_uid": "a", "alias": "b", "messageId": "m"}
    ]


async def test_numbers_are_sent_as_text_in_every_uid() -> None:
    """An int uid is its decimal string; it is the same contact as that string."""

    def track(agent: Agent) -> None:
        agent.track(42, 7)
        agent.contact(42)
        agent.account(-1)

    first, second, third = await sent(track)
    assert (first["contact_uid"], first["event_uid"], second["contact_uid"], third["account_uid"]) == (
        "42",
        "7",
        "42",
        "-1",
    )


async def test_now_is_the_time_of_the_call() -> None:
    """A message without created_at has the time of its call, in UTC with milliseconds."""
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    (message,) = await sent(lambda agent: agent.track("u", "e"))
    at = datetime.strptime(message["created_at"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert before <= at <= datetime.now(UTC)


async def test_created_at_is_converted_to_utc() -> None:
    """An offset is converted; a naive datetime is UTC."""

    def track(agent: Agent) -> None:
        agent.track("u", "e", created_at=datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))))
        agent.contact("u", created_at=datetime(2026, 1, 1))

    first, second = await sent(track)
    assert (first["created_at"], second["created_at"]) == ("2025-12-31T23:30:00.000Z", "2026-01-01T00:00:00.000Z")


async def test_later_changes_of_the_arguments_are_not_sent() -> None:
    """A message has the values at the time of the call; the arguments are not changed."""
    params: dict[str, Any] = {"plan": {"name": "free"}}

    def track(agent: Agent) -> None:
        agent.track("u", "e", params)
        params["plan"]["name"] = "pro"

    (message,) = await sent(track)
    assert message["params"] == {"plan": {"name": "free"}}
    assert params == {"plan": {"name": "pro"}}


async def test_calls_before_start_are_sent_after_it() -> None:
    """The constructor and the calls need no event loop."""
    carrier = Carrier()
    agent = await asyncio.to_thread(lambda: Agent(transport=carrier))
    await asyncio.to_thread(lambda: agent.track("u", "early"))
    assert agent.stats().queued == 1
    async with agent:
        assert (await agent.flush()).delivered == 1
    assert carrier.events() == ["early"]


async def test_more_than_a_thousand_messages_have_unique_ids() -> None:
    """Ids are unique across the blocks in which they are created."""
    messages = await sent(lambda agent: [agent.track("u", "e") for _ in range(2500)])
    assert len({message["messageId"] for message in messages}) == 2500


# Bad input.


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (lambda agent: agent.track("", "e"), "contact_uid"),
        (lambda agent: agent.track(None, "e"), "contact_uid"),
        (lambda agent: agent.track(True, "e"), "contact_uid"),
        (lambda agent: agent.track("u", ""), "event_uid"),
        (lambda agent: agent.track("u", 1.5), "event_uid"),
        (lambda agent: agent.track("\ud800", "e"), "contact_uid"),
        (lambda agent: agent.contact(b"u"), "contact_uid"),
        (lambda agent: agent.account(""), "account_uid"),
        (lambda agent: agent.alias("u", ""), "alias"),
        (lambda agent: agent.alias("", "u"), "contact_uid"),
        (lambda agent: agent.alias("u", "v", message_id=""), "message_id"),
        (lambda agent: agent.track("u", "e", ["no", "mapping"]), "params"),
        (lambda agent: agent.track("u", "e", {"plan": {"started": object()}}), "params.plan.started"),
        (lambda agent: agent.track("u", "e", {"items": [1, {"x": object()}]}), "params.items[1].x"),
        (lambda agent: agent.track("u", "e", {("a",): 1}), "params[<tuple>]"),
        (lambda agent: agent.track("u", "e", created_at="2026-01-01"), "created_at"),
        (lambda agent: agent.track("u", "e", message_id=7), "message_id"),
        (lambda agent: agent.contact("u", {"x": object()}), "params.x"),
        (lambda agent: agent.account("u", {"x": object()}), "params.x"),
    ],
)
async def test_bad_arguments_raise_at_the_call_and_name_the_path(call: Callable[[Any], object], path: str) -> None:
    """A value that cannot be sent raises InvalidMessage with its path; other messages are not affected."""
    carrier = Carrier()
    async with Agent(transport=carrier) as agent:
        agent.track("u", "before")
        with pytest.raises(InvalidMessage) as caught:
            call(agent)
        agent.track("u", "after")
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")
    # Short, so that the caller's line is seen: the place of the value is not in the text.
    assert len(traceback.format_tb(caught.value.__traceback__)) <= 8
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert carrier.events() == ["before", "after"]


async def test_report_mode_sends_null_for_an_unsendable_value(caplog: pytest.LogCaptureFixture) -> None:
    """Under Invalid.REPORT a bad value becomes null, is counted, and logged once a minute with its path."""
    carrier = Carrier()
    with caplog.at_level(logging.WARNING, logger="salesmachine_async"):
        async with Agent(transport=carrier, on_invalid=Invalid.REPORT) as agent:
            for _ in range(3):
                assert agent.track("u", "e", {"good": 1, "bad": {"worse": object()}})
            assert agent.track("u", "e", [], created_at="x", message_id="")  # type: ignore[arg-type]
            assert agent.stats().invalid_values == 6
    assert carrier.delivered[0]["params"] == {"good": 1, "bad": {"worse": None}}
    assert carrier.delivered[3]["params"] == {}
    assert carrier.delivered[3]["messageId"]
    assert [record.getMessage() for record in caplog.records] == [
        "an argument cannot be sent: params.bad.worse: a value of type object has no JSON form"
    ]


async def test_report_mode_refuses_what_is_unusable_and_never_raises() -> None:
    """Under Invalid.REPORT a call without a usable uid, too large, or after the end returns False and is counted."""
    carrier = Carrier()
    agent = Agent(transport=carrier, on_invalid=Invalid.REPORT, batching=Batching(max_bytes=300))
    async with agent:
        assert agent.track("", "e") is False
        assert agent.track("u", None) is False  # type: ignore[arg-type]
        assert agent.alias("u", "") is False
        assert agent.track("u", "e", {"x": "y" * 300}) is False
        assert agent.contact("u", {"x": "y" * 300}, message_id="m") is False
        assert agent.alias("u", "y" * 300) is False
    assert agent.track("u", "e") is False
    assert agent.alias("u", "v") is False
    stats = agent.stats()
    assert (sum(stats.dropped.values()), stats.accepted) == (8, 0)
    assert carrier.attempts == []


async def test_a_message_larger_than_a_batch_raises() -> None:
    """One message may be as large as a batch and no larger."""
    async with Agent(transport=Carrier(), batching=Batching(max_bytes=400)) as agent:
        with pytest.raises(MessageTooLarge):
            agent.track("u", "e", {"x": "y" * 400})
        with pytest.raises(MessageTooLarge):
            agent.alias("u", "y" * 400)
        assert agent.stats().accepted == 0


# The queue.


async def test_drop_newest_drops_the_call() -> None:
    """By default a full queue drops the new message and keeps the old ones."""
    carrier = Carrier()
    agent = Agent(transport=carrier, queue=QueueLimits(max_messages=3))
    assert [agent.track("u", str(number)) for number in range(5)] == [True, True, True, False, False]
    assert sum(agent.stats().dropped.values()) == 2
    assert (await agent.aclose()).ok
    assert carrier.events() == ["0", "1", "2"]


async def test_drop_oldest_loses_exactly_the_oldest(caplog: pytest.LogCaptureFixture) -> None:
    """DROP_OLDEST makes room message by message, as soon as the loop runs, and reports each loss."""
    carrier = Carrier()
    losses: list[Loss] = []
    limits = QueueLimits(max_messages=3, overflow=Overflow.DROP_OLDEST)
    agent = Agent(transport=carrier, queue=limits, on_lost=losses.append)
    assert all(agent.track("u", str(number)) for number in range(5))
    assert agent.stats().queued == 5  # the bound and up to a batch, until the loop runs
    await agent.start()
    assert agent.stats().queued == 3
    assert [(loss.reason, loss.error, loss.count) for loss in losses] == [(LossReason.QUEUE_FULL, None, 2)]
    assert [message["event_uid"] for loss in losses for message in loss.messages] == ["0", "1"]
    report = await agent.aclose()
    assert (report.delivered, report.lost, report.ok) == (3, {LossReason.QUEUE_FULL: 2}, False)
    assert carrier.events() == ["2", "3", "4"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_drop_oldest_does_not_empty_the_queue_in_vain() -> None:
    """A message that would not fit even with the queue empty, beside what is in flight, displaces none."""
    limits = QueueLimits(max_bytes=1500, overflow=Overflow.DROP_OLDEST)
    agent = Agent(transport=Hanging(), queue=limits, batching=Batching(max_messages=4))
    async with agent:
        assert all(agent.track("u", "e", {"x": "y" * 100}) for _ in range(4))
        await agent.flush(timeout=0.01)
        assert agent.stats().in_flight == 4
        assert agent.track("u", "small")
        assert agent.track("u", "big", {"x": "y" * 800}) is False
        stats = agent.stats()
        assert (stats.queued, stats.lost, sum(stats.dropped.values())) == (1, {}, 1)
        await agent.aclose(timeout=0)


async def test_a_hook_that_tracks_into_a_full_queue_does_not_displace() -> None:
    """A call made by on_lost is dropped rather than losing another message, which would call on_lost for ever."""
    accepted: list[bool] = []
    limits = QueueLimits(max_messages=2, overflow=Overflow.DROP_OLDEST)
    agent = Agent(transport=Carrier(), queue=limits, on_lost=lambda _: accepted.append(agent.track("u", "again")))
    for number in range(4):
        agent.track("u", str(number))
    await agent.start()
    assert accepted == [False]
    assert (await agent.aclose()).delivered == 2


async def test_overflow_raise_raises_queue_full() -> None:
    """Overflow.RAISE raises at the call; the message counts as dropped."""
    agent = Agent(transport=Carrier(), queue=QueueLimits(max_messages=1, overflow=Overflow.RAISE))
    assert agent.track("u", "e")
    with pytest.raises(QueueFull):
        agent.track("u", "e")
    with pytest.raises(QueueFull):
        agent.alias("u", "v")
    assert sum(agent.stats().dropped.values()) == 2
    await agent.aclose()


async def test_a_full_queue_does_not_refuse_for_ever() -> None:
    """Delivered messages make room again."""
    async with Agent(transport=Carrier(), queue=QueueLimits(max_messages=2)) as agent:
        for _ in range(10):
            assert agent.track("u", "e")
            assert agent.track("u", "e")
            await agent.flush()


# Batching.


def test_a_full_batch_goes_at_once_and_a_half_full_one_lingers() -> None:
    """A batch is sent when it is full, or when its oldest message has waited for *linger* seconds."""
    carrier = Carrier()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Agent(transport=carrier, batching=Batching(max_messages=2, linger=5.0)) as agent:
            start = loop.time()
            for _ in range(3):
                agent.track("u", "e")
            await asyncio.sleep(20)
            agent.track("u", "late")
            await asyncio.sleep(20)
            assert [round(time - start, 6) for time in carrier.times] == [0, 5, 25]
            assert [len(messages) for _, _, messages in carrier.attempts] == [2, 1, 1]

    run(main())


def test_a_batch_opened_under_an_armed_timer_gets_its_whole_linger() -> None:
    """A batch that filled up early leaves its timer behind; the next batch still waits its own time."""
    carrier = Carrier()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Agent(transport=carrier, batching=Batching(max_messages=2, linger=5.0)) as agent:
            start = loop.time()
            agent.track("u", "1")
            await asyncio.sleep(3)
            agent.track("u", "2")
            agent.track("u", "3")
            await asyncio.sleep(10)
            assert [round(time - start, 6) for time in carrier.times] == [3, 8]

    run(main())


async def test_batches_are_cut_by_bytes() -> None:
    """No body is larger than max_bytes, and none is sent with one message where two fit."""
    bodies: list[int] = []
    carrier = Carrier(decide=lambda batch: bodies.append(len(batch.body())))
    async with Agent(transport=carrier, batching=Batching(max_bytes=1000)) as agent:
        for _ in range(50):
            agent.track("u", "e", {"x": "y" * 100})
    assert len(carrier.delivered) == 50
    assert max(bodies) <= 1000
    assert min(bodies[:-1]) > 1000 - 300


async def test_senders_send_side_by_side_and_keep_the_order_of_each_contact() -> None:
    """concurrency=4 has up to four requests under way and never mixes up one contact."""
    carrier = Carrier(takes=0.001)
    async with Agent(transport=carrier, concurrency=4, batching=Batching(max_messages=5)) as agent:
        for number in range(400):
            agent.track(f"u{number % 20}", "e", {"n": number})
    assert 1 < carrier.most_underway <= 4
    for contact in range(20):
        numbers = [m["params"]["n"] for m in carrier.delivered if m["contact_uid"] == f"u{contact}"]
        assert numbers == list(range(contact, 400, 20))


# Looking at it.


async def test_repr_shows_the_live_state_and_no_secret() -> None:
    """The repr holds the state, the queue and the messages in flight."""
    carrier = Carrier([answer(401)])
    agent = Agent("TOKENTOKEN", "SECRETSECRET", transport=carrier)
    assert repr(agent) == "<Agent [new | 0 queued, 0 bytes | 0 in flight]>"
    async with agent:
        agent.track("u", "e", {"p": "PAYLOAD"})
        size = agent.stats().queued_bytes
        assert repr(agent) == f"<Agent [open | 1 queued, {size} bytes | 0 in flight]>"
        await agent.flush()
        assert repr(agent) == "<Agent [parked | 0 queued, 0 bytes | 1 in flight]>"
    assert repr(agent) == "<Agent [closed | 0 queued, 0 bytes | 0 in flight]>"


def test_repr_shows_a_pause() -> None:
    """While a 429 holds it back, the agent is paused."""

    async def main() -> None:
        async with Agent(transport=Carrier([answer(429, Retry_After="60")])) as agent:
            agent.track("u", "e")
            await agent.flush(timeout=1)
            assert repr(agent).startswith("<Agent [paused |")
            assert held_back(agent)
            await agent.flush()
            assert not held_back(agent)

    run(main())


async def test_stats_count_everything() -> None:
    """The snapshot holds each count after several kinds of calls."""
    carrier = Carrier([answer(500), answer(500)])
    retry = Retry(wait_initial=0.001, wait_max=0.001)
    async with Agent(transport=carrier, retry=retry, queue=QueueLimits(max_messages=2)) as agent:
        agent.track("u", "e")
        agent.track("u", "e")
        agent.track("u", "e")
        size = agent.stats().queued_bytes
        assert await agent.flush() is not None
        stats = agent.stats()
    assert (stats.accepted, stats.delivered, stats.queued, stats.queued_bytes, stats.in_flight) == (2, 2, 0, 0, 0)
    assert (sum(stats.dropped.values()), stats.requests, stats.retries, stats.bytes_sent) == (1, 3, 2, 3 * (size + 4))
    assert (stats.lost, stats.state, stats.last_error, stats.invalid_values) == ({}, State.OPEN, None, 0)


async def test_stats_tell_the_last_error_until_a_request_succeeds() -> None:
    """last_error is the current failure."""
    async with Agent(transport=Carrier([answer(503, b'{"error":"down"}')] * 99), retry=Retry(wait_initial=30)) as agent:
        agent.track("u", "e")
        await agent.flush(timeout=0.05)
        error = agent.stats().last_error
        assert isinstance(error, ServerFailure)
        assert (error.status, error.server_message) == (503, "down")
        await agent.aclose(timeout=0)


# Hooks.


async def test_on_delivered_is_called_with_each_request() -> None:
    """on_delivered receives count, status, attempts and, on access, the messages."""
    delivered: list[Delivery] = []
    carrier = Carrier([BROKEN])
    async with Agent(transport=carrier, on_delivered=delivered.append, retry=Retry(wait_initial=0.001)) as agent:
        agent.track("u", "1")
        agent.track("u", "2")
    (delivery,) = delivered
    assert (delivery.count, delivery.status, delivery.attempts) == (2, 201, 2)
    assert delivery.seconds >= 0
    assert [message["event_uid"] for message in delivery.messages] == ["1", "2"]
    assert "event_uid" not in repr(delivery)


async def test_on_lost_has_the_reason_and_the_messages() -> None:
    """on_lost receives reason, error and, on access, the messages."""
    losses: list[Loss] = []
    refuse = Carrier(decide=lambda batch: answer(422, b'{"error":"no"}') if batch.endpoint is Endpoint.BATCH else None)
    async with Agent(transport=refuse, on_lost=losses.append) as agent:
        agent.track("u", "bad")
    (loss,) = losses
    assert (loss.reason, loss.count) == (LossReason.REJECTED, 1)
    assert isinstance(loss.error, Rejected)
    assert loss.error.server_message == "no"
    assert [message["event_uid"] for message in loss.messages] == ["bad"]
    assert "bad" not in repr(loss)


async def test_hooks_that_raise_do_not_stop_the_delivery(caplog: pytest.LogCaptureFixture) -> None:
    """An exception in a hook is logged by type and place, once, and without its text."""

    def fail(_: object) -> None:
        raise ValueError("SECRET payload")

    carrier = Carrier(
        decide=lambda batch: answer(413) if any(m.get("event_uid") == "big" for m in batch.messages()) else None
    )
    async with Agent(transport=carrier, on_delivered=fail, on_lost=fail, batching=Batching(max_messages=1)) as agent:
        for name in ("1", "big", "2"):
            agent.track("u", name)
    assert carrier.events() == ["1", "2"]
    lines = [record.getMessage() for record in caplog.records if "hook" in record.getMessage()]
    assert len(lines) == 2
    assert all("ValueError (test_agent.py:" in line and "SECRET" not in line for line in lines)


async def test_a_hook_may_call_any_public_method() -> None:
    """Hooks may call every public method without a deadlock."""
    tasks: list[asyncio.Task[Any]] = []

    def reenter(_: object) -> None:
        if len(tasks) >= 20:
            return
        agent.track("u", "from the hook")
        agent.contact("u")
        agent.account("a")
        agent.pageview("u")
        agent.alias("u", "v")
        agent.stats()
        repr(agent)
        coroutines = (agent.flush(), agent.drain(), agent.start(), agent.ping())
        tasks.extend(asyncio.ensure_future(coroutine) for coroutine in coroutines)

    carrier = Carrier()
    agent = Agent(transport=carrier, on_delivered=reenter, batching=Batching(linger=0))
    async with agent:
        agent.track("u", "e")
        await agent.flush()
        await asyncio.gather(*tasks)
        await agent.flush()
    stats = agent.stats()
    assert stats.accepted == stats.delivered == len(carrier.delivered) > 6


async def test_a_hook_may_close_the_agent() -> None:
    """An agent closed by a hook delivers the rest and ends."""
    closing: list[asyncio.Task[Any]] = []
    agent = Agent(
        transport=Carrier(),
        on_delivered=lambda _: closing.append(asyncio.ensure_future(agent.aclose())),
        batching=Batching(max_messages=1),
    )
    await agent.start()
    for _ in range(3):
        agent.track("u", "e")
    await agent.flush()
    assert (await closing[0]).delivered == 3
    with pytest.raises(AgentClosed):
        agent.track("u", "e")


async def test_before_send_changes_what_is_sent_and_not_the_callers_objects() -> None:
    """The hook gets a copy of the message as it would be sent."""

    def scrub(message: dict[str, Any]) -> dict[str, Any]:
        message["params"]["nested"].pop("password", None)
        message["messageId"] = "forged"
        message["extra"] = 1
        return message

    params = {"nested": {"password": "x", "ok": 1}}
    (message,) = await sent(lambda agent: agent.track("u", "e", params, message_id="m"), before_send=scrub)
    assert message["params"] == {"nested": {"ok": 1}}
    assert message["messageId"] == "m"
    assert "extra" not in message
    assert params == {"nested": {"password": "x", "ok": 1}}


async def test_before_send_may_drop_and_rename() -> None:
    """None drops the message; a changed uid decides the sender."""

    def hook(message: dict[str, Any]) -> dict[str, Any] | None:
        if message.get("event_uid") == "secret":
            return None
        return {**message, **({"contact_uid": "anonymous"} if "contact_uid" in message else {})}

    def track(agent: Agent) -> None:
        assert agent.track("u", "secret") is False
        assert agent.track("u", "open") is True
        assert agent.contact("u") is True
        assert agent.account("a") is True
        assert agent.alias("u", "v") is True
        assert sum(agent.stats().dropped.values()) == 1

    messages = await sent(track, before_send=hook)
    assert [message.get("contact_uid") for message in messages] == ["anonymous", "anonymous", None, "anonymous"]


@pytest.mark.parametrize(
    "hook",
    [
        lambda message: 1 / 0,
        lambda message: "a string",
        lambda message: {},
        lambda message: {**message, "contact_uid": ""},
        lambda message: {**message, "params": [1]},
        lambda message: {**message, "params": {"x": object()}},
    ],
)
async def test_before_send_fails_closed(hook: Callable[[Any], Any], caplog: pytest.LogCaptureFixture) -> None:
    """If the hook raises or returns an invalid value, the message is dropped with one log line."""
    carrier = Carrier()
    async with Agent(transport=carrier, before_send=hook) as agent:
        assert agent.track("u", "e", {"x": "PAYLOAD"}) is False
        assert agent.track("u", "e", {"x": "PAYLOAD"}) is False
        assert sum(agent.stats().dropped.values()) == 2
    assert carrier.attempts == []
    (record,) = caplog.records
    assert "before_send" in record.getMessage()
    assert "PAYLOAD" not in caplog.text


async def test_an_exception_of_before_send_is_named_by_type_only(caplog: pytest.LogCaptureFixture) -> None:
    """The text of the library's own error may hold data of the hook, so it is not logged."""

    def hook(_: object) -> None:
        raise InvalidMessage("params", "PAYLOAD")

    async with Agent(transport=Carrier(), before_send=hook) as agent:
        assert agent.track("u", "e") is False
    assert "InvalidMessage (test_agent.py:" in caplog.text
    assert "PAYLOAD" not in caplog.text


async def test_before_send_may_not_track_itself(caplog: pytest.LogCaptureFixture) -> None:
    """A message tracked by before_send is dropped, because it would call before_send without end."""
    inner: list[bool] = []

    def hook(message: dict[str, Any]) -> dict[str, Any]:
        inner.append(agent.track("u", "inner"))
        return message

    carrier = Carrier()
    agent = Agent(transport=carrier, before_send=hook)
    async with agent:
        assert agent.track("u", "outer") is True
    assert inner == [False]
    assert carrier.events() == ["outer"]
    assert "before_send tracked a message itself" in caplog.text


async def test_a_hook_that_raises_a_cancellation_harms_nothing() -> None:
    """A CancelledError raised by a hook is treated as any other error."""

    def fail(_: object) -> None:
        raise asyncio.CancelledError

    carrier = Carrier()
    async with Agent(transport=carrier, on_delivered=fail) as agent:
        agent.track("u", "e")
        assert (await agent.flush()).delivered == 1
    async with Agent(transport=carrier, before_send=fail) as agent:
        assert agent.track("u", "e") is False


async def test_a_log_handler_that_raises_does_not_stop_the_delivery() -> None:
    """Messages are delivered whatever the application's logging does."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("disk full")

    handler = Broken()
    logging.getLogger("salesmachine_async").addHandler(handler)
    try:
        async with Agent(transport=Carrier([BROKEN]), retry=Retry(wait_initial=0.001)) as agent:
            agent.track("u", "e")
            assert (await agent.flush()).delivered == 1
    finally:
        logging.getLogger("salesmachine_async").removeHandler(handler)


# Construction.


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": True},
        {"concurrency": 257},
        {"batching": {"max_messages": 5}},
        {"queue": None},
        {"retry": 3},
        {"timeouts": 5},
        {"on_invalid": "raise"},
        {"on_lost": "print"},
        {"on_delivered": 1},
        {"before_send": 1},
        {"on_delivered": asyncio.sleep},
        {"transport": object()},
    ],
)
def test_unusable_arguments_are_refused_by_name(options: dict[str, Any]) -> None:
    """A constructor argument of the wrong kind is a ConfigError that names it."""
    (name,) = options
    with pytest.raises(ConfigError, match=name):
        Agent("token", **options)


@pytest.mark.parametrize(
    ("policy", "options"),
    [
        (Batching, {"max_messages": 0}),
        (Batching, {"max_messages": 1.5}),
        (Batching, {"max_bytes": 255}),
        (Batching, {"linger": -1}),
        (Batching, {"linger": float("nan")}),
        (QueueLimits, {"max_messages": True}),
        (QueueLimits, {"max_bytes": -1}),
        (QueueLimits, {"overflow": "raise"}),
        (Retry, {"wait_initial": 0}),
        (Retry, {"wait_max": float("inf")}),
        (Retry, {"wait_max": 10**400}),
        (Retry, {"wait_max": 0.1}),
        (Retry, {"timeout": -1}),
        (Retry, {"max_retry_after": "1"}),
        (Timeouts, {"connect": 0}),
        (Timeouts, {"request": None}),
        (Timeouts, {"close": -0.1}),
    ],
)
def test_unusable_policies_are_refused_by_name(policy: Any, options: dict[str, Any]) -> None:
    """A policy's value out of range is a ConfigError that names field and value."""
    (name,) = options
    with pytest.raises(ConfigError, match=rf"{policy.__name__}\.{name}|{policy.__name__}.wait_max"):
        policy(**options)


def test_policies_are_frozen_and_keyword_only() -> None:
    """Policies are frozen, so that agents can share them."""
    with pytest.raises(AttributeError):
        Batching().linger = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        Batching(100)  # type: ignore[call-arg]


def test_a_missing_token_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a token the constructor raises an error that says where to set it."""
    monkeypatch.delenv("SALESMACHINE_API_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="SALESMACHINE_API_TOKEN"):
        Agent()


def test_the_environment_configures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Token, secret and URL come from the environment by default."""
    monkeypatch.setenv("SALESMACHINE_API_TOKEN", "token")
    monkeypatch.setenv("SALESMACHINE_API_URL", "http://127.0.0.1:1/prefix")
    monkeypatch.setenv("SALESMACHINE_API_SECRET", "secret")
    transport: Any = Agent()._transport
    assert repr(transport) == "<HttpTransport http://127.0.0.1:1/prefix>"
    assert transport._authorization == "Basic dG9rZW46c2VjcmV0"
    monkeypatch.setenv("SALESMACHINE_API_URL", "ftp://x")
    with pytest.raises(ConfigError):
        Agent()


# Ping.


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (answer(401), Unauthorized),
        (answer(400), Unauthorized),
        (answer(404), Rejected),
        (answer(500), ServerFailure),
        (BROKEN, ConnectionFailed),
    ],
)
async def test_ping_raises_what_went_wrong(outcome: Any, error: type[Exception]) -> None:
    """Each failure of a ping raises its own error class."""
    async with Agent(transport=Carrier([outcome])) as agent:
        with pytest.raises(error) as caught:
            await agent.ping()
        last_error = agent.stats().last_error
        assert last_error is not None
        assert last_error.__traceback__ is None
        assert caught.value.status == outcome.status  # type: ignore[attr-defined]


async def test_ping_asks_at_once_and_carries_nothing() -> None:
    """A ping is a request of its own; a stale connection is retried once."""
    carrier = Carrier([STALE])
    agent = Agent(transport=carrier)
    await agent.ping()
    assert [endpoint for _, endpoint, _ in carrier.attempts] == [Endpoint.PING] * 2
    await agent.aclose()
    with pytest.raises(AgentClosed):
        await agent.ping()


async def test_ping_by_a_carrier_that_raises_is_a_failed_connection() -> None:
    """Any exception of a transport becomes an error of the library."""
    async with Agent(transport=Carrier([ValueError("SECRET")])) as agent:
        with pytest.raises(ConnectionFailed, match="ValueError") as caught:
            await agent.ping()
    assert "SECRET" not in str(caught.value)


# The package.


def test_every_public_name_is_there() -> None:
    """`__all__` is sorted and holds all errors, policies and records."""
    names = salesmachine_async.__all__
    assert names == sorted(set(names))
    assert [name for name in names if not hasattr(salesmachine_async, name)] == []
    assert {*errors.__all__, *policy.__all__, *report.__all__} <= set(names)


def test_errors_can_be_pickled() -> None:
    """Errors can be pickled, for multiprocessing and Celery, and keep their attributes."""
    invalid = pickle.loads(pickle.dumps(InvalidMessage("params.x", "is wrong")))
    assert (invalid.path, invalid.problem, str(invalid)) == ("params.x", "is wrong", "params.x: is wrong")
    error = pickle.loads(pickle.dumps(Unauthorized("no", status=401, retry_after=1.0, server_message="x")))
    assert (error.status, error.retry_after, error.server_message) == (401, 1.0, "x")


async def test_an_error_of_the_agent_that_a_signal_handler_raises_leaves_no_message_behind() -> None:
    """A handler that tracks wrong arguments interrupts a call behind its append: what was appended is sent."""
    carrier = Carrier()
    async with Agent(transport=carrier, batching=Batching(linger=0)) as agent:
        (partition,) = agent._accumulator.partitions
        append = partition.append

        def interrupted(line: bytes) -> None:
            append(line)
            partition.append = append
            agent.track("", "handled")

        partition.append = interrupted
        with pytest.raises(InvalidMessage):
            agent.track("u", "event")
        async with asyncio.timeout(20):
            while not carrier.delivered:
                await asyncio.sleep(0)
