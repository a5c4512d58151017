"""The recorder, and the texts of its failures."""

from __future__ import annotations

import asyncio
import os
import threading
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

import salesmachine_async.testing
from salesmachine_async import Batching, Invalid, InvalidMessage, MessageTooLarge
from salesmachine_async.testing import Recorder


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def test_all_calls_are_recorded_in_order_as_they_would_be_sent(recorder: Recorder) -> None:
    """A message is recorded when the call returns, without a loop or a start."""
    assert recorder.contact("u", {"email": "e"})
    assert recorder.account("acme")
    assert recorder.track(7, "ordered", {"order": 9})
    assert recorder.pageview("u")
    assert recorder.alias("u", "other")
    kinds = [message.get("method", "alias") for message in recorder.messages]
    assert kinds == ["contact", "account", "event", "event", "alias"]
    assert recorder.messages[2]["contact_uid"] == "7"
    assert recorder.messages[2]["params"] == {"order": 9}
    assert repr(recorder) == "<Recorder [5 messages]>"


def test_invalid_arguments_raise(recorder: Recorder) -> None:
    """Invalid arguments raise in the test as in the application, and are not recorded."""
    with pytest.raises(InvalidMessage, match=r"params\.a"):
        recorder.track("u", "e", {"a": object()})
    with pytest.raises(MessageTooLarge):
        Recorder(batching=Batching(max_bytes=256)).track("u", "e", {"a": "x" * 300})
    assert Recorder(on_invalid=Invalid.REPORT).track("", "e") is False
    assert recorder.messages == []


def test_before_send_changes_and_drops() -> None:
    """The effect of before_send can be tested."""

    def redact(message: dict[str, Any]) -> dict[str, Any] | None:
        message["params"].pop("email", None)
        return None if message.get("event_uid") == "secret" else message

    recorder = Recorder(before_send=redact)
    recorder.contact("u", {"email": "e", "name": "n"})
    assert recorder.track("u", "secret") is False
    assert [message["params"] for message in recorder.messages] == [{"name": "n"}]


async def test_lifecycle_methods_do_nothing() -> None:
    """Start, flush and close do nothing, in any loop; the recorder stays usable, and its counts are an agent's."""
    recorder = Recorder()
    async with recorder:
        recorder.track("u", "e")
        await recorder.drain()
        await recorder.ping()
        assert (await recorder.flush(1.0)).delivered == 1
    assert recorder.track("u", "after the end")
    assert await asyncio.to_thread(lambda: asyncio.run(recorder.aclose())) == await recorder.flush()
    stats = recorder.stats()
    assert (stats.accepted, stats.delivered, stats.queued, stats.in_flight) == (2, 2, 0, 0)


def test_threads_record_all(recorder: Recorder) -> None:
    """Calls from several threads are all recorded."""

    def work(index: int) -> None:
        for number in range(500):
            recorder.track(f"u{index}", "e", {"n": number})

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(4):
        assert [message["params"]["n"] for message in recorder.tracked("e", f"u{index}")] == list(range(500))


def test_clear_deletes_the_messages(recorder: Recorder) -> None:
    """clear() deletes the messages, for the next step of a long test."""
    recorder.track("u", "e")
    recorder.clear()
    assert recorder.messages == []
    recorder.assert_not_tracked()


def test_tracked_finds_by_some_of_the_params(recorder: Recorder) -> None:
    """tracked() finds events by name, contact and some of the params."""
    recorder.track("u", "ordered", {"order": 1, "plan": {"name": "pro", "seats": 5}})
    recorder.track("v", "ordered", {"order": 2})
    recorder.pageview("u")
    assert len(recorder.tracked()) == 3
    assert len(recorder.tracked("ordered")) == 2
    assert len(recorder.tracked(contact_uid="u")) == 2
    assert len(recorder.tracked("ordered", order=2)) == 1
    assert len(recorder.tracked(plan={"name": "pro"})) == 1
    assert len(recorder.tracked(plan={"name": "free"})) == 0
    assert len(recorder.tracked(plan={})) == 0
    recorder.assert_tracked("pageview")
    recorder.assert_not_tracked("ordered", "w")


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [
        (Decimal("9.50"), Decimal("9.50")),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
        (UUID(int=1), UUID(int=1)),
        ((1, 2), (1, 2)),
        ((1, 2), [1, 2]),
        (1, 1.0),
        (True, True),
        (None, None),
        ("x", type("Any", (), {"__eq__": lambda self, other: True, "__hash__": None})()),
    ],
)
def test_values_are_compared_as_they_are_on_the_wire(recorder: Recorder, sent: Any, wanted: Any) -> None:
    """An expected value may be a Python value, its form on the wire, or an object made for comparisons."""
    recorder.track("u", "e", {"value": sent, "deep": {"value": sent}})
    recorder.assert_tracked("e", value=wanted, deep={"value": wanted})


@pytest.mark.parametrize(("sent", "wanted"), [("x", object()), (True, 1), (0, False), (1, "1"), ([1], [1, 2])])
def test_other_values_are_not_equal(recorder: Recorder, sent: Any, wanted: Any) -> None:
    """Values that differ in JSON do not match: true is not 1."""
    recorder.track("u", "e", {"value": sent})
    recorder.assert_not_tracked("e", value=wanted)


def test_contacts_accounts_and_aliases_are_asserted_likewise(recorder: Recorder) -> None:
    """The asserts for contacts, accounts and aliases return the matching message."""
    recorder.contact("u", {"email": "e"})
    recorder.account("acme", {"name": "Acme"})
    recorder.alias("u", 7)
    assert recorder.assert_contact("u", email="e")["contact_uid"] == "u"
    assert recorder.assert_account("acme")["params"] == {"name": "Acme"}
    assert recorder.assert_alias(alias=7)["contact_uid"] == "u"
    with pytest.raises(AssertionError, match=r"no contact with contact_uid='u', params\.email='f'"):
        recorder.assert_contact("u", email="f")
    with pytest.raises(AssertionError, match="no account with account_uid='other'"):
        recorder.assert_account("other")
    with pytest.raises(AssertionError, match="no alias with contact_uid='v'"):
        recorder.assert_alias("v")


def failure(recorder: Recorder, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        recorder.assert_tracked(*args, **kwargs)
    return str(caught.value)


def test_a_failure_shows_the_nearest_misses_and_all_messages(recorder: Recorder) -> None:
    """A failure shows the expectation, the nearest misses and all messages."""
    recorder.contact("u", {"email": "e"})
    recorder.track("u", "order_created", {"order": "9"})
    recorder.track("v", "order_created", {"order": 8})
    assert failure(recorder, "order_created", contact_uid="u", order=9).splitlines() == [
        "no event with event_uid='order_created', contact_uid='u', params.order=9; 3 messages were tracked in all.",
        "",
        "  event with event_uid='order_created', contact_uid='u', but:",
        "    - params.order: 9",
        "    + params.order: '9'",
        "",
        "  event with event_uid='order_created', contact_uid='v', but:",
        "    - contact_uid: 'u'",
        "    + contact_uid: 'v'",
        "    - params.order: 9",
        "    + params.order: 8",
        "",
        "All, in order:",
        "  contact with contact_uid='u' {'email': 'e'}",
        "  event with event_uid='order_created', contact_uid='u' {'order': '9'}",
        "  event with event_uid='order_created', contact_uid='v' {'order': 8}",
    ]


def test_a_typing_error_is_the_nearest_miss() -> None:
    """A typing error is the nearest miss, also when another message is later."""
    recorder = Recorder()
    recorder.track("u", "order_created")
    recorder.pageview("u")
    with pytest.raises(AssertionError) as caught:
        recorder.assert_tracked("order_creatd")
    assert str(caught.value).splitlines()[2] == "  event with event_uid='order_created', contact_uid='u', but:"


def test_a_failure_without_any_message_says_so(recorder: Recorder) -> None:
    """A failure without any message is one line."""
    assert failure(recorder) == "no event; no message at all was tracked."


def test_a_failure_names_what_is_missing_deep_inside(recorder: Recorder) -> None:
    """A failure names a missing nested value by its path."""
    recorder.track("u", "e", {"plan": {"name": "pro"}})
    text = failure(recorder, "e", plan={"seats": 5})
    assert "    - params.plan.seats: 5\n    + params.plan.seats: (missing)" in text
    assert "; 1 message was tracked in all." in text


def test_a_failure_is_bounded(recorder: Recorder) -> None:
    """The text of a failure has at most a page: the nearest and the latest of thousands of messages."""
    for number in range(1000):
        recorder.track("u", "e", {"n": number})
    text = failure(recorder, "e", n=-1)
    assert "The last 20:" in text
    assert len(text.splitlines()) < 40
    assert "+ params.n: 999" in text


def test_an_unexpected_event_is_shown(recorder: Recorder) -> None:
    """assert_not_tracked shows the first matching event."""
    recorder.track("u", "e", {"n": 1})
    with pytest.raises(AssertionError, match=r"expected no event with event_uid='e', but found: .*'n': 1"):
        recorder.assert_not_tracked("e")


def test_public_names_are_imported_on_first_access() -> None:
    """Public names are imported on first access; an unknown name raises AttributeError."""
    for name in salesmachine_async.testing.__all__:
        assert getattr(salesmachine_async.testing, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        salesmachine_async.testing.nothing  # noqa: B018


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_leaves_the_parents_recorder_alone(recorder: Recorder) -> None:
    """A forked child has its own copy of the messages."""
    recorder.track("u", "e")
    child = os.fork()
    if child == 0:
        os._exit(0 if recorder.track("u", "in the child") else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(recorder.messages) == 1
