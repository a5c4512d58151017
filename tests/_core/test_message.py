"""The wire format of each kind of message, and what a line is."""

from __future__ import annotations

import inspect
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from salesmachine_async._core import message as module
from salesmachine_async._core.jsonable import raise_invalid
from salesmachine_async._core.message import encode
from salesmachine_async.errors import InvalidMessage
from tests.support.core import strict_loads
from tests.support.encoding import (
    FIRST,
    STAMP,
    Lenient,
    composed,
    encoder,
    one_line,
    params_of,
)

CONTACT = {"email": "elon@teslamotors.com", "name": "Elon Musk", "gender": "male", "mrr": 99, "account_uid": "78910"}
ACCOUNT = {"name": "Tesla Motors", "employee_count": 12000, "mrr": 999}
EVENT = {"account_uid": "78910", "display_name": "Registration"}
PAGEVIEW = {"account_uid": "78910", "visit_url": "http://myproduct.com/onboarding", "visit_ip": "203.0.113.7"}

DOCUMENTED: list[tuple[str, dict[str, object], Any, dict[str, Any]]] = [
    ("contact", {"contact_uid": "123456"}, CONTACT, {"method": "contact", "contact_uid": "123456", "params": CONTACT}),
    ("account", {"account_uid": "78910"}, ACCOUNT, {"method": "account", "account_uid": "78910", "params": ACCOUNT}),
    (
        "event",
        {"contact_uid": "123456", "event_uid": "user_registration"},
        EVENT,
        {"method": "event", "contact_uid": "123456", "event_uid": "user_registration", "params": EVENT},
    ),
    (
        "event",
        {"contact_uid": "123456", "event_uid": "pageview"},
        PAGEVIEW,
        {"method": "event", "contact_uid": "123456", "event_uid": "pageview", "params": PAGEVIEW},
    ),
    ("contact", {"contact_uid": "1"}, None, {"method": "contact", "contact_uid": "1", "params": {}}),
    ("account", {"account_uid": "1"}, {}, {"method": "account", "account_uid": "1", "params": {}}),
    (
        "event",
        {"contact_uid": "1", "event_uid": "e"},
        None,
        {"method": "event", "contact_uid": "1", "event_uid": "e", "params": {}},
    ),
]


@pytest.mark.parametrize(("method", "uids", "params", "expected"), DOCUMENTED)
def test_message_on_the_short_way(method: str, uids: dict[str, object], params: Any, expected: dict[str, Any]) -> None:
    """Contacts, accounts, events and pageviews have the documented keys, a time and an id, and no others."""
    it = encoder()
    if method == "event":
        line = it.event(uids["contact_uid"], uids["event_uid"], params)
    else:
        ((name, uid),) = uids.items()
        line = it.record(method, name, uid, params)
    assert line is not None
    assert strict_loads(line) == {**expected, "created_at": STAMP, "messageId": FIRST}


@pytest.mark.parametrize(("method", "uids", "params", "expected"), DOCUMENTED)
def test_message_on_the_long_way(method: str, uids: dict[str, object], params: Any, expected: dict[str, Any]) -> None:
    """The long way makes the same message, down to the order of its keys."""
    it = encoder()
    message = it.compose(method, uids, params, None, None)
    assert message is not None
    assert message == {**expected, "created_at": STAMP, "messageId": FIRST}
    assert list(message) == ["method", *uids, "params", "created_at", "messageId"]
    assert strict_loads(it.encode(message)) == message


def test_both_ways_write_the_same_bytes() -> None:
    """The fast path and the slow one write the same bytes."""
    short, long = encoder(), encoder()
    message = long.compose("contact", {"contact_uid": "1"}, CONTACT, None, None)
    assert message is not None
    assert short.record("contact", "contact_uid", "1", CONTACT) == long.encode(message)


def test_a_composed_message_takes_odd_values_as_a_call_does() -> None:
    """A composed message is encoded like one of the fast path."""
    it, params = encoder(), {"price": Decimal("42.50"), "items": [{"on": date(2026, 11, 22)}]}
    short = it.event("1", "e", params)
    assert params_of(it.encode(composed(it, params=params))) == params_of(short)
    assert params_of(short) == {"price": "42.50", "items": [{"on": "2026-11-22"}]}


def test_alias_has_its_two_documented_keys() -> None:
    """An alias has no params, no time and, by default, no id."""
    it = encoder()
    message = it.compose_alias("123456", 789, None)
    assert message == {"contact_uid": "123456", "alias": "789"}
    assert it.encode(message) == b'{"contact_uid":"123456","alias":"789"}'


def test_alias_carries_the_id_of_a_caller_who_gives_one() -> None:
    """A caller's own id is sent with an alias."""
    assert encoder().compose_alias("1", "2", "mine") == {"contact_uid": "1", "alias": "2", "messageId": "mine"}


def test_an_unusable_alias_is_none() -> None:
    """Leniently, an alias without a usable uid is no message."""
    lenient = Lenient()
    assert lenient.encoder.compose_alias("1", "", None) is None
    assert lenient.encoder.compose_alias(None, "2", "mine") is None
    assert [path for path, _ in lenient.reported] == ["alias", "contact_uid"]


def test_a_line_holds_no_more_memory_than_its_own_bytes() -> None:
    """The buffer that orjson leaves behind is not kept: a queue of small messages would take thirty times its size."""
    it = encoder()
    encode_each_way: list[Callable[[], bytes | None]] = [
        lambda: it.event("1", "e", {"a": 1}),
        lambda: it.event("1", "e", {"a": Decimal(1)}),
        lambda: it.record("contact", "contact_uid", "1", {"a": 1}),
        lambda: it.encode(composed(it, params={"a": 1})),
        lambda: it.encode(composed(it, params={1: 1})),
    ]
    for encode_one in encode_each_way:
        encode_one()
        tracemalloc.start()
        try:
            kept = [encode_one() for _ in range(100)]
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert all(line and not line.endswith(b"\n") for line in kept)
        assert held < 100 * (sys.getsizeof(kept[0]) + 60) + 2000


def test_a_deep_stack_is_no_problem_of_the_caller() -> None:
    """Near the recursion limit a message is sent or refused. (Finding: RecursionError escapes.)"""
    params: Any = {1: "odd, so that it goes the slow way"}
    for _ in range(190):
        params = {"d": params}

    def dive(levels: int) -> bytes:
        return dive(levels - 1) if levels else encode({"params": params}, raise_invalid)

    depth = len(inspect.stack(0))
    ended = 0
    for left in (100, 300, 500):
        with suppress(InvalidMessage):
            one_line(dive(sys.getrecursionlimit() - depth - left))
        ended += 1
    assert ended == 3


@pytest.mark.parametrize("fast", ["event", "record"])
def test_a_replaced_clock_takes_the_slow_way(fast: str) -> None:
    """A replaced clock may raise, so it is read only on the guarded path."""

    class Other:
        def time(self) -> float:
            raise ValueError

    it = encoder(Other())
    line = it.event("1", "e", None) if fast == "event" else it.record("contact", "contact_uid", "1", None)
    assert line is None


def test_an_odd_value_takes_the_slow_way_in_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """What orjson refuses is converted, in events, contacts and accounts alike."""
    # As where no Fragment exists, which a test that has run before in this process may hold.
    monkeypatch.setattr(module, "_refs", lambda _: module._unused)
    it, params = encoder(), {"price": Decimal("9.90")}
    lines = [
        it.event("1", "e", params),
        it.record("contact", "contact_uid", "1", params),
        it.record("account", "account_uid", "1", params),
    ]
    assert [params_of(line) for line in lines if line is not None] == [{"price": "9.90"}] * 3
