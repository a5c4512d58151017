"""A call's arguments become one line."""

from __future__ import annotations

import gc
import inspect
import json
import math
import re
import sys
import threading
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import Mock
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salesmachine_async._core.jsonable import raise_invalid
from salesmachine_async._core.message import Encoder, check_uids, encode, partition_key, revise
from salesmachine_async.errors import InvalidMessage
from tests.support.core import strict_loads

PREFIX = "12345678-abcd-4321-8765-"
FIRST = PREFIX + "100000000000"
T0 = 1_700_000_000.5
STAMP = "2023-11-14T22:13:20.500Z"


class Clock:
    """Tells what it is told to tell."""

    def __init__(self, now: float = T0) -> None:
        self.now = now
        self.read = 0

    def __call__(self) -> float:
        self.read += 1
        return self.now


def encoder(clock: Callable[[], float] | None = None) -> Encoder:
    return Encoder(PREFIX, clock or Clock())


class Lenient:
    """An encoder that reports, and what it reported."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.encoder = Encoder(PREFIX, Clock(), lambda path, problem: self.told.append((path, problem)))

    def compose(self, **given: Any) -> dict[str, Any] | None:
        return compose(self.encoder, **given)


def compose(it: Encoder, **given: Any) -> dict[str, Any] | None:
    """Compose an event, with all arguments good but the given ones."""
    arguments = {"contact_uid": "1", "event_uid": "e", "params": None, "created_at": None, "message_id": None, **given}
    uids = {name: arguments[name] for name in ("contact_uid", "event_uid")}
    return it.compose("event", uids, arguments["params"], arguments["created_at"], arguments["message_id"])


def composed(it: Encoder, **given: Any) -> dict[str, Any]:
    message = compose(it, **given)
    assert message is not None
    return message


def line_of(it: Encoder, params: Any) -> bytes:
    """Encode an event as the agent does: the short way, else the long one."""
    line = it.event("1", "e", params)
    return line if line is not None else it.encode(composed(it, params=params))


def params_of(line: bytes | None) -> Any:
    assert line is not None
    return strict_loads(line)["params"]


# The wire format of the documents, to the letter.

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
    """Which way a message took cannot be seen on it."""
    short, long = encoder(), encoder()
    message = long.compose("contact", {"contact_uid": "1"}, CONTACT, None, None)
    assert message is not None
    assert short.record("contact", "contact_uid", "1", CONTACT) == long.encode(message)


def test_a_composed_message_takes_odd_values_as_a_call_does() -> None:
    """What the long way has composed is encoded like what came the short way."""
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
    assert [path for path, _ in lenient.told] == ["alias", "contact_uid"]


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


# Uids.


class Id(str):
    __slots__ = ()


class Number(int):
    pass


class Kind(Enum):
    A = "a"


class Shouting(str):
    """Says something else than it holds."""

    __slots__ = ()

    def __str__(self) -> str:
        return "SHOUTED"


@pytest.mark.parametrize(
    ("uid", "text"),
    [
        ("a", "a"),
        (" ", " "),
        ("é\n\x00", "é\n\x00"),
        ("\U0001f600", "\U0001f600"),
        (0, "0"),
        (-7, "-7"),
        (2**200, str(2**200)),
        (Id("x"), "x"),
        (Number(3), "3"),
        (Shouting("held"), "held"),
    ],
)
def test_a_usable_uid(uid: object, text: str) -> None:
    """A non-empty str is taken as it is, an int as its decimal digits."""
    message = composed(encoder(), contact_uid=uid, event_uid=uid)
    assert (message["contact_uid"], message["event_uid"]) == (text, text)
    assert type(message["contact_uid"]) is str


@pytest.mark.parametrize(
    ("uid", "problem"),
    [
        ("", "must not be empty"),
        (Id(""), "must not be empty"),
        ("\ud800", "must be valid Unicode (it holds a lone surrogate)"),
        ("a\ud83d\ude00", "must be valid Unicode (it holds a lone surrogate)"),
        (10**5000, "has too many digits"),
        (None, "must be a non-empty str or an int, not NoneType"),
        (True, "must be a non-empty str or an int, not bool"),
        (1.0, "must be a non-empty str or an int, not float"),
        (b"a", "must be a non-empty str or an int, not bytes"),
        (uuid4(), "must be a non-empty str or an int, not UUID"),
        (Decimal(1), "must be a non-empty str or an int, not Decimal"),
        (Kind.A, "must be a non-empty str or an int, not Kind"),
        (["a"], "must be a non-empty str or an int, not list"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("name", ["contact_uid", "event_uid"])
def test_an_unusable_uid(name: str, uid: object, problem: str) -> None:
    """Any other uid is refused by name; leniently, it is told and there is no message."""
    with pytest.raises(InvalidMessage) as caught:
        compose(encoder(), **{name: uid})
    assert (caught.value.path, caught.value.problem) == (name, problem)
    lenient = Lenient()
    assert lenient.compose(**{name: uid}, params={"v": object()}) is None
    assert lenient.told == [(name, problem)]


@pytest.mark.parametrize("uid", [Mock(spec=str), Mock(spec=int)], ids=["str", "int"])
def test_what_only_claims_to_be_a_str_or_an_int_is_no_uid(uid: object) -> None:
    """A mock or lazy proxy is refused like any other type. (Finding: a TypeError escapes.)"""
    with pytest.raises(InvalidMessage, match="contact_uid"):
        compose(encoder(), contact_uid=uid)


class Unbound:
    """As a lazy proxy outside its context: even `isinstance` fails on it."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("SECRET")


@pytest.mark.parametrize("name", ["contact_uid", "params", "created_at", "message_id"])
def test_an_argument_that_fails_at_isinstance_is_refused(name: str) -> None:
    """An unbound lazy proxy is a bad argument, told by name. (Finding: its own exception escapes.)"""
    with pytest.raises(InvalidMessage) as caught:
        compose(encoder(), **{name: Unbound()})
    assert caught.value.path == name
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [("", "e", {}), ("1", "", {}), (1, "e", {}), ("1", 2, {}), (None, "e", {}), (Id("1"), "e", {}), ("1", Id("e"), {})],
)
def test_the_short_way_leaves_unusual_uids_to_the_long_one(arguments: tuple[Any, Any, Any]) -> None:
    """What is not a plain, non-empty str is not decided on the short way."""
    assert encoder().event(*arguments) is None


@pytest.mark.parametrize("uid", ["", 1, None, Id("1"), "\ud800"])
def test_the_short_way_of_records_leaves_unusual_uids_to_the_long_one(uid: object) -> None:
    """Contacts and accounts are as strict as events."""
    assert encoder().record("contact", "contact_uid", uid, {}) is None


@pytest.mark.parametrize("params", [[], "", 0, False, MappingProxyType({}), [("a", 1)], deque()])
def test_the_short_way_leaves_unusual_params_to_the_long_one(params: object) -> None:
    """What is neither None nor a plain dict is not decided on the short way, empty or not."""
    assert encoder().event("1", "e", params) is None
    assert encoder().record("contact", "contact_uid", "1", params) is None


@pytest.mark.parametrize("params", [{"v": object()}, {"v": 2**64}, {"v": "\ud800"}, {1: 2}])
def test_the_short_way_leaves_what_orjson_cannot_to_the_long_one(params: object) -> None:
    """What orjson has no hook for is not decided on the short way."""
    assert encoder().event("1", "e", params) is None
    assert encoder().record("account", "account_uid", "1", params) is None


def test_lane_uid() -> None:
    """Order is kept by contact, or for an account by account."""
    assert partition_key({"contact_uid": "1", "event_uid": "e"}) == "1"
    assert partition_key({"account_uid": "2"}) == "2"
    assert partition_key({"contact_uid": "1", "alias": "3"}) == "1"


def test_check_uids_of_nothing() -> None:
    """Without uids there is nothing wrong."""
    assert check_uids({}, raise_invalid) == {}


# Params.


class BrokenMapping(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise RuntimeError("SECRET")

    def __iter__(self) -> Iterator[str]:
        return iter("a")

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ([], "must be a mapping, not list"),
        ([("a", 1)], "must be a mapping, not list"),
        ("a", "must be a mapping, not str"),
        (b"{}", "must be a mapping, not bytes"),
        (0, "must be a mapping, not int"),
        (False, "must be a mapping, not bool"),
        (object(), "must be a mapping, not object"),
        (BrokenMapping(), "could not be read (RuntimeError)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_unusable_params(params: object, problem: str) -> None:
    """Params are a mapping or None; leniently, others are told and empty."""
    with pytest.raises(InvalidMessage) as caught:
        compose(encoder(), params=params)
    assert (caught.value.path, caught.value.problem) == ("params", problem)
    lenient = Lenient()
    message = lenient.compose(params=params)
    assert message is not None
    assert message["params"] == {}
    assert lenient.told == [("params", problem)]


@pytest.mark.parametrize("params", [MappingProxyType({"a": 1}), type("Row", (dict,), {})(a=1), {"a": 1}])
def test_any_mapping_will_do_as_params(params: Any) -> None:
    """Params may be any mapping."""
    it = encoder()
    assert params_of(it.encode(composed(it, params=params))) == {"a": 1}


def test_unusable_values_are_told_by_path_and_become_null() -> None:
    """Leniently, each bad value is told once and null, and everything else is kept."""
    lenient = Lenient()
    message = lenient.compose(params={"a": 1, "b": {"c": [object(), 2]}, (1, 2): 3, "d": {4}})
    assert message is not None
    assert params_of(lenient.encoder.encode(message)) == {"a": 1, "b": {"c": [None, 2]}, "d": [4]}
    assert lenient.told == [
        ("params.b.c[0]", "a value of type object has no JSON form"),
        ("params[<tuple>]", "a key of type tuple has no JSON form"),
    ]


def test_an_unusable_value_is_raised_with_its_path() -> None:
    """Strictly, the first bad value ends it."""
    it = encoder()
    with pytest.raises(InvalidMessage, match=r"^params\.plan\.started: a value of type object has no JSON form$"):
        it.encode(composed(it, params={"plan": {"started": object()}}))


def test_the_callers_dict_is_only_read() -> None:
    """What is sent is as it was at the call; the caller's dict stays as it is, and can be changed after."""
    it = encoder()
    params: dict[Any, Any] = {"a": [1], 2: {3}}
    line = it.encode(composed(it, params=params))
    assert params == {"a": [1], 2: {3}}
    params["a"].append(9)
    assert params_of(line) == {"a": [1], "2": [3]}


# Ids.


def test_minted_ids_count_up_and_look_like_uuids() -> None:
    """Each message has the next id; prefix and counter together have the shape of a UUID."""
    it = encoder()
    ids = [strict_loads(line)["messageId"] for _ in range(3) if (line := it.event("1", "e", None))]
    ids += [composed(it)["messageId"], composed(it, message_id="mine")["messageId"], composed(it)["messageId"]]
    assert ids == [PREFIX + str(100_000_000_000 + number) for number in range(4)] + ["mine", ids[-1]]
    assert ids[-1] == PREFIX + "100000000004"
    assert str(UUID(ids[0])) == ids[0]


def test_ids_go_on_for_ever() -> None:
    """Thousands of ids are all different and all of the same shape, and a message seldom goes the long way for one."""
    it = encoder()
    short, ids = 0, []
    for number in range(3500):
        line = it.event("1", "e", None) if number % 2 else it.record("contact", "contact_uid", "1", None)
        short += line is not None
        ids.append(strict_loads(line or it.encode(composed(it)))["messageId"])
    assert len(set(ids)) == 3500
    assert short >= 3490
    assert all(str(UUID(each)) == each and each.startswith(PREFIX) for each in ids)
    assert ids == sorted(ids)


def test_ids_are_unique_across_threads() -> None:
    """Eight threads at once never get the same id, on either way."""
    it = encoder()
    found: list[list[str]] = [[] for _ in range(8)]

    def mint(mine: list[str]) -> None:
        for number in range(2000):
            line = line_of(it, None) if number % 4 else it.encode(composed(it))
            mine.append(orjson.loads(line)["messageId"])

    threads = [threading.Thread(target=mint, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each for mine in found for each in mine}) == 16_000


@pytest.mark.parametrize("given_id", ["x", " ", "é", "x" * 500, Id("mine")])
def test_a_given_message_id_is_sent(given_id: str) -> None:
    """Any non-empty text will do as an id."""
    message = composed(encoder(), message_id=given_id)
    assert message["messageId"] == given_id
    assert type(message["messageId"]) is str


@pytest.mark.parametrize(
    ("given_id", "problem"),
    [
        ("", "must not be empty"),
        ("\udc00", "must be valid Unicode"),
        (1, "must be a non-empty str, not int"),
        (b"x", "must be a non-empty str, not bytes"),
        (False, "must be a non-empty str, not bool"),
        (uuid4(), "must be a non-empty str, not UUID"),
    ],
)
def test_an_unusable_message_id(given_id: object, problem: str) -> None:
    """Any other id is refused; leniently, it is told and one is minted."""
    with pytest.raises(InvalidMessage) as caught:
        compose(encoder(), message_id=given_id)
    assert (caught.value.path, caught.value.problem) == ("message_id", problem)
    lenient = Lenient()
    message = lenient.compose(message_id=given_id)
    assert message is not None
    assert message["messageId"] == FIRST
    assert lenient.told == [("message_id", problem)]


# Times.


class Zone(tzinfo):
    """Answers with what it was given, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def utcoffset(self, moment: datetime | None) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def dst(self, moment: datetime | None) -> None:
        return None

    def tzname(self, moment: datetime | None) -> str:
        return "SECRET"


class Moment(datetime):
    pass


PLUS_2 = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 11, 22, 12, 0, 0), "2026-11-22T12:00:00.000Z"),
        (datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC), "2026-11-22T12:00:00.000Z"),
        (datetime(2026, 11, 22, 1, 0, 0, tzinfo=PLUS_2), "2026-11-21T23:00:00.000Z"),
        (datetime(2026, 11, 22, 12, tzinfo=timezone(-timedelta(hours=9, minutes=30))), "2026-11-22T21:30:00.000Z"),
        (datetime(2026, 11, 22, 12, tzinfo=timezone(timedelta(seconds=30))), "2026-11-22T11:59:30.000Z"),
        (datetime(2026, 11, 22, 12, 0, 0, 999_999), "2026-11-22T12:00:00.999Z"),
        (datetime(2026, 11, 22, 12, 0, 0, 1_999), "2026-11-22T12:00:00.001Z"),
        (datetime(2026, 11, 22, 12, 0, 0, 999), "2026-11-22T12:00:00.000Z"),
        (datetime(2026, 11, 22, 12, tzinfo=Zone(None)), "2026-11-22T12:00:00.000Z"),
        (datetime.min, "0001-01-01T00:00:00.000Z"),
        (datetime.max, "9999-12-31T23:59:59.999Z"),
        (datetime.min.replace(tzinfo=timezone(-timedelta(hours=1))), "0001-01-01T01:00:00.000Z"),
        (Moment(2026, 11, 22, 12, tzinfo=PLUS_2), "2026-11-22T10:00:00.000Z"),
    ],
    ids=str,
)
def test_created_at_is_written_in_utc_with_milliseconds(moment: datetime, text: str) -> None:
    """A naive moment is UTC, an aware one is converted; microseconds are cut off."""
    assert composed(encoder(), created_at=moment)["created_at"] == text


@pytest.mark.parametrize(
    ("moment", "problem"),
    [
        (datetime.min.replace(tzinfo=PLUS_2), "is no moment in UTC (OverflowError)"),
        (datetime.max.replace(tzinfo=timezone(-timedelta(hours=2))), "is no moment in UTC (OverflowError)"),
        (datetime(2026, 1, 1, tzinfo=Zone(RuntimeError("SECRET"))), "is no moment in UTC (RuntimeError)"),
        (datetime(2026, 1, 1, tzinfo=Zone(timedelta(hours=30))), "is no moment in UTC (ValueError)"),
        (datetime(2026, 1, 1, tzinfo=Zone(5)), "is no moment in UTC (TypeError)"),
        (date(2026, 1, 1), "must be a datetime, not date"),
        ("2026-01-01", "must be a datetime, not str"),
        (1_700_000_000, "must be a datetime, not int"),
        (1.7e9, "must be a datetime, not float"),
        (True, "must be a datetime, not bool"),
        (False, "must be a datetime, not bool"),
        ("", "must be a datetime, not str"),
        (timedelta(1), "must be a datetime, not timedelta"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_unusable_created_at(moment: object, problem: str) -> None:
    """What is no moment in UTC is refused; leniently, it is told and now is taken."""
    with pytest.raises(InvalidMessage) as caught:
        compose(encoder(), created_at=moment)
    assert (caught.value.path, caught.value.problem) == ("created_at", problem)
    lenient = Lenient()
    message = lenient.compose(created_at=moment)
    assert message is not None
    assert message["created_at"] == STAMP
    assert lenient.told == [("created_at", problem)]


def stamp_of(it: Encoder) -> str:
    line = it.event("1", "e", None)
    assert line is not None
    stamp: str = strict_loads(line)["created_at"]
    return stamp


def stamp_of_record(it: Encoder) -> str:
    line = it.record("contact", "contact_uid", "1", None)
    assert line is not None
    stamp: str = strict_loads(line)["created_at"]
    return stamp


def stamp_of_composed(it: Encoder) -> str:
    stamp: str = composed(it)["created_at"]
    return stamp


WAYS = pytest.mark.parametrize("stamp", [stamp_of, stamp_of_record, stamp_of_composed])


@WAYS
@pytest.mark.parametrize(
    ("now", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000.0, "2023-11-14T22:13:20.000Z"),
        (1_700_000_000.001, "2023-11-14T22:13:20.001Z"),
        (1_700_000_000.000_999, "2023-11-14T22:13:20.000Z"),
        (1_700_000_000.999_999, "2023-11-14T22:13:20.999Z"),
        (1_767_225_599.999, "2025-12-31T23:59:59.999Z"),
        (1_767_225_600.0, "2026-01-01T00:00:00.000Z"),
    ],
)
def test_a_message_carries_the_time_of_its_call(stamp: Callable[[Encoder], str], now: float, text: str) -> None:
    """Without `created_at` a message has the clock's time, to the millisecond, cut off."""
    assert stamp(encoder(Clock(now))) == text


@WAYS
def test_time_goes_on_from_one_millisecond_to_the_next(stamp: Callable[[Encoder], str]) -> None:
    """At an exact boundary a new millisecond begins; within one nothing changes."""
    clock = Clock()
    it = encoder(clock)
    for now, milliseconds in [
        (T0, "500"),
        (T0 + 0.000_9, "500"),
        (T0 + 0.001, "501"),
        (T0 + 0.001_999, "501"),
        (T0 + 0.002, "502"),
        (T0 + 0.4, "900"),
    ]:
        clock.now = now
        assert stamp(it) == STAMP.replace("500", milliseconds)


@WAYS
@pytest.mark.parametrize("back", [0.000_5, 0.001, 0.25, 3600.0, 1_700_000_000.0])
def test_a_clock_set_back_is_believed(stamp: Callable[[Encoder], str], back: float) -> None:
    """When the clock goes backwards the time told goes with it: a cached text is never told for another time."""
    clock = Clock()
    it = encoder(clock)
    stamp(it)
    clock.now = T0 - back
    assert stamp(it) == stamp(encoder(Clock(clock.now)))


@given(st.lists(st.floats(0, 4e9), min_size=1, max_size=20))
def test_no_time_is_off_by_a_millisecond(times: list[float]) -> None:
    """Whatever the clock does, the time told is the clock's, at most a millisecond early and never late."""
    clock = Clock()
    it = encoder(clock)
    for now in times:
        clock.now = now
        told = datetime.fromisoformat(stamp_of(it)).timestamp()
        assert -1e-6 <= now - told < 0.001_001


def test_the_clock_is_read_once_per_message() -> None:
    """A message has one time; a message with a given time needs no clock."""
    clock = Clock()
    it = encoder(clock)
    it.event("1", "e", None)
    it.record("contact", "contact_uid", "1", None)
    composed(it)
    assert clock.read == 3
    composed(it, created_at=datetime(2026, 1, 1))
    assert clock.read == 3


# Fragments: ready-made JSON that orjson would copy out unread.

BROKEN = [b"1}\n[broken", b"{", b"", b"\xff", b'"\n"', b"1,2", b"NaN", b"1"]


@pytest.mark.parametrize("content", BROKEN)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda fragment: {"v": fragment},
        lambda fragment: {"a": {"b": [1, (fragment,)]}},
        lambda fragment: {"s": {1: deque([fragment])}},
        lambda fragment: {"plain": 1, "m": MappingProxyType({"x": fragment})},
    ],
    ids=["direct", "nested", "odd", "mapping"],
)
def test_a_fragment_in_params_is_refused(content: bytes, wrap: Callable[[Any], Any]) -> None:
    """Ready-made JSON is never accepted, at any depth: it could corrupt the whole batch."""
    it = encoder()
    params = wrap(orjson.Fragment(content))
    assert it.event("1", "e", params) is None
    assert it.record("contact", "contact_uid", "1", params) is None
    with pytest.raises(InvalidMessage, match="Fragment has no JSON form"):
        it.encode(composed(it, params=params))
    lenient = Lenient()
    message = lenient.compose(params=params)
    assert message is not None
    line = lenient.encoder.encode(message)
    one_line(line)
    assert len(lenient.told) == 1


def test_a_fragment_is_refused_as_any_argument() -> None:
    """Nor is it accepted in the place of params, uids or ids."""
    for name in ("contact_uid", "event_uid", "params", "created_at", "message_id"):
        with pytest.raises(InvalidMessage, match=f"^{name}: .*Fragment"):
            compose(encoder(), **{name: orjson.Fragment(b"{}")})


def test_a_fragment_as_a_key_is_refused() -> None:
    """Nor is it accepted as a key."""
    it = encoder()
    with pytest.raises(InvalidMessage, match="key of type Fragment"):
        it.encode(composed(it, params={orjson.Fragment(b"1"): 1}))


def test_messages_go_on_while_a_fragment_lives_elsewhere() -> None:
    """A Fragment that has nothing to do with a message changes nothing of it."""
    before = line_of(encoder(), {"a": 1})
    fragment = orjson.Fragment(b"{}")
    it = encoder()
    during = line_of(it, {"a": 1})
    assert during == before
    with pytest.raises(InvalidMessage):
        line_of(it, {"v": fragment})
    del fragment
    assert encoder().event("1", "e", {"a": 1}) == before


def test_a_fragment_made_while_encoding_is_refused() -> None:
    """A value whose plain form is a Fragment is found out too."""

    class Sly:
        def tolist(self) -> Any:
            return orjson.Fragment(b"1}\n[broken")

    with pytest.raises(InvalidMessage):
        line_of(encoder(), {"v": Sly()})


def test_the_short_way_is_open_again_once_fragments_are_gone() -> None:
    """Fragments of the past cost nothing."""
    fragments = [orjson.Fragment(b"1") for _ in range(10)]
    assert encoder().event("1", "e", {"x": fragments[0]}) is None
    assert encoder().event("1", "e", {"x": [1, {"y": "z"}]}) is not None
    del fragments
    gc.collect()
    assert encoder().event("1", "e", None) is not None


def test_what_contains_itself_is_left_to_the_long_way_while_a_fragment_lives() -> None:
    """The search for a Fragment ends."""
    fragment = orjson.Fragment(b"1")
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(InvalidMessage, match="contains itself"):
        line_of(encoder(), {"v": cycle})
    del fragment


def test_an_interrupt_in_the_conversion_of_a_value_comes_through() -> None:
    """Ctrl-C while a value is converted is not taken for an unsendable value."""

    class Slow:
        def tolist(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        line_of(encoder(), {"v": Slow()})


def test_a_dict_of_its_own_kind_is_read_past_its_methods() -> None:
    """What orjson does, and a copy must not do otherwise: a lazy dict may raise, or know nothing of what it holds."""

    class Lazy(dict[str, Any]):
        def __iter__(self) -> Iterator[str]:
            raise ZeroDivisionError

        def keys(self) -> Any:
            raise ZeroDivisionError

    it = encoder()
    message = it.compose("contact", {"contact_uid": "1"}, Lazy(a=1), None, None)
    assert message is not None
    assert orjson.loads(it.encode(message))["params"] == {"a": 1}
    assert revise(message, {**message, "params": Lazy(b=2)})["params"] == {"b": 2}


@pytest.mark.parametrize("call", ["event", "record", "compose"])
def test_params_that_change_while_an_enum_tells_its_value_are_sent_as_they_were(call: str) -> None:
    """The value of an Enum is Python code, and so a moment for other threads; orjson would read what is freed."""
    params: dict[str, Any] = {}
    kept: list[str] = []

    class Size(Enum):
        LARGE = 1

        @property
        def value(self) -> int:
            params.clear()
            kept.extend(f"anything else in memory {number}" for number in range(200))
            return 1

    expected = {"size": 1, **{f"key number {number} of these": f"text {number}" * 4 for number in range(10)}}
    for _ in range(20):
        params.update({**expected, "size": Size.LARGE})
        it = encoder()
        if call == "compose":
            message = it.compose("contact", {"contact_uid": "1"}, params, None, None)
            assert message is not None
            line = it.encode(message)
        else:
            line = (it.event if call == "event" else partial(it.record, "contact"))("contact_uid", "1", params) or b""
        assert orjson.loads(line)["params"] == expected
        kept.clear()


def test_a_list_that_its_own_items_shorten_does_not_crash() -> None:
    """orjson reads on in the caller's list while a value is converted: it gets a copy."""
    items: list[Any] = []

    class Sly:
        def tolist(self) -> Any:
            items.clear()
            return 1

    items += [Sly() for _ in range(300)]
    assert json.loads(line_of(encoder(), {"v": items}))["params"] == {"v": [1] * 300}


# Messages changed by a hook.


def message_to_revise() -> dict[str, Any]:
    return {
        "method": "event",
        "contact_uid": "1",
        "event_uid": "e",
        "params": {"a": 1},
        "created_at": STAMP,
        "messageId": "m",
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"params": {"b": 2}}, {"params": {"b": 2}}),
        ({"contact_uid": "2", "event_uid": 3}, {"contact_uid": "2", "event_uid": "3"}),
        ({"created_at": "never", "messageId": "", "method": "account"}, {}),
        ({"unknown": 1, "account_uid": "9"}, {}),
    ],
)
def test_uids_and_params_can_be_revised_and_nothing_else(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """What a hook may not change stays as it was; what it adds is left out."""
    message = message_to_revise()
    assert revise(message, {**message_to_revise(), **changes}) == {**message_to_revise(), **expected}
    assert message == message_to_revise()


def test_params_taken_away_are_empty() -> None:
    """A hook that removes the params sends none."""
    changed = message_to_revise()
    del changed["params"]
    assert revise(message_to_revise(), changed)["params"] == {}


def test_an_alias_is_revised_without_growing_params() -> None:
    """An alias keeps its two keys."""
    alias = {"contact_uid": "1", "alias": "2"}
    assert revise(alias, {"contact_uid": 3, "alias": "4", "params": {}}) == {"contact_uid": "3", "alias": "4"}


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        (True, "message"),
        ("x", "message"),
        ([], "message"),
        (MappingProxyType({}), "message"),
        ({}, "contact_uid"),
        ({**message_to_revise(), "contact_uid": ""}, "contact_uid"),
        ({**message_to_revise(), "event_uid": None}, "event_uid"),
        ({**message_to_revise(), "params": None}, "params"),
        ({**message_to_revise(), "params": [1]}, "params"),
        ({**message_to_revise(), "params": "{}"}, "params"),
    ],
)
def test_what_is_no_message_any_more(changed: object, path: str) -> None:
    """A hook must return a dict with usable uids and a dict of params."""
    with pytest.raises(InvalidMessage) as caught:
        revise(message_to_revise(), changed)
    assert caught.value.path == path


def test_a_revised_message_is_encoded_like_any_other() -> None:
    """Odd values that a hook put in are converted, bad ones told by path."""
    revised = revise(message_to_revise(), {**message_to_revise(), "params": {1: {2}}})
    assert params_of(encode(revised, raise_invalid)) == {"1": [2]}
    revised["params"] = {"v": object()}
    with pytest.raises(InvalidMessage, match=r"params\.v"):
        encode(revised, raise_invalid)


# The stack.


def test_a_deep_stack_is_no_problem_of_the_caller() -> None:
    """With little stack left a message is sent or refused, nothing else. (Finding: RecursionError escapes.)"""
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


# Arbitrary arguments.

any_text = st.text() | st.sampled_from(["\n", "a\nb", "\r\n", "\u2028\u2029", "\x00", "\x1f\x7f", "\ud800", "]\n["])
uid_text = any_text.filter(lambda text: bool(text) and not any("\ud800" <= c <= "\udfff" for c in text))


def one_line(line: bytes) -> Any:
    """Check that these are exactly one line, and parse it."""
    assert b"\n" not in line
    return strict_loads(line)


@given(uid_text, uid_text, any_text, any_text)
def test_any_text_stays_on_one_line(uid: str, event: str, key: str, value: str) -> None:
    """Whatever text a message holds, it is one line, and the text is what is read back."""
    it = encoder()
    line = it.event(uid, event, {key: value})
    if line is None:
        line = it.encode(composed(it, contact_uid=uid, event_uid=event, params={key: value}))
    told = one_line(line)
    assert told["contact_uid"] == uid
    assert told["event_uid"] == event
    assert told["params"] == {plain(key): plain(value)}


def plain(text: str) -> str:
    """Return the text as UTF-16 systems would read it."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class Undefined(Exception):
    """The oracle has no opinion."""


def expected_key(key: Any) -> str:
    """Return the documented text of a key, written down independently of the code."""
    match key:
        case str():
            return plain(key)
        case None:
            return "null"
        case bool():
            return "true" if key else "false"
        case int():
            return str(key)
        case float() if math.isfinite(key):
            return repr(key)
        case _:
            raise Undefined


def expected_value(value: Any) -> Any:
    """Return the documented form of a value, written down independently of the code."""
    match value:
        case Enum():
            return expected_value(value.value)
        case None | bool():
            return value
        case int():
            return int(value) if -(2**63) <= value < 2**64 else str(value)
        case float():
            return value if math.isfinite(value) else None
        case str():
            return plain(value)
        case list() | tuple() | deque():
            return [expected_value(item) for item in value]
        case dict():
            result = {expected_key(key): expected_value(item) for key, item in value.items()}
            if len(result) < len(value):
                raise Undefined
            return result
        case Decimal():
            return str(value) if value.is_finite() else None
        case UUID() | Path():
            return plain(str(value))
        case timedelta():
            return value.total_seconds()
        case datetime():
            aware = value if value.tzinfo else value.replace(tzinfo=UTC)
            return Instant(aware)
        case date():
            return value.isoformat()
        case _:
            raise Undefined


class Instant:
    """Equal to any ISO 8601 text of its moment."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and datetime.fromisoformat(other) == self.moment

    __hash__ = None  # type: ignore[assignment]


class Weird:
    """One of many things users pass."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def tolist(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def broken_fragment() -> Any:
    """Make one anew: one kept by these tables would close the short way for all tests."""
    return orjson.Fragment(b"1}\n{")


plain_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | any_text
    | st.decimals()
    | st.uuids()
    | st.dates()
    | st.timedeltas()
    | st.datetimes(timezones=st.sampled_from([None, UTC, PLUS_2]))
    | st.sampled_from([Kind.A, Path("a/b"), Id("x"), Number(7), 2**64, -(2**63) - 1])
)
odd_leaves = (
    st.sampled_from(
        [
            object(),
            int,
            len,
            1j,
            range(3),
            ...,
            Weird(None),
            Weird([1, {2: 3}]),
            Weird(ValueError("SECRET")),
            Weird(object()),
            BrokenMapping(),
            NotImplemented,
            b"\xff",
        ]
    )
    | st.builds(broken_fragment)
    | st.times()
    | st.binary(max_size=5)
    | st.sets(st.integers(0, 5), max_size=2)
    | st.complex_numbers()
    | st.fractions()
)
plain_keys = any_text | st.integers() | st.none() | st.booleans() | st.floats()
odd_keys = (
    plain_keys
    | st.dates()
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.binary(max_size=3)
    | st.tuples(st.integers())
    | st.sampled_from([Kind.A, int, Shouting("x")])
)


def structures(leaves: Any, keys: Any) -> Any:
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.lists(inner, max_size=3).map(tuple)
            | st.lists(inner, max_size=3).map(deque)
            | st.dictionaries(keys, inner, max_size=4)
            | st.tuples(inner, st.integers(0, 260)).map(lambda pair: buried(*pair))
        ),
        max_leaves=12,
    )


def buried(value: Any, levels: int) -> Any:
    """Nest a value; deep ones more seldom."""
    for level in range(levels if levels % 9 == 0 else levels % 9):
        value = [value] if level % 2 else {"d": value}
    return value


def shallow(keys: Any, values: Any) -> Any:
    return st.dictionaries(keys, values, max_size=4)


@settings(max_examples=200)
@given(shallow(any_text, structures(plain_leaves, any_text)))
def test_params_arrive_as_documented(params: dict[Any, Any]) -> None:
    """Values of documented types are sent as documented, or refused with a path, and nothing else happens."""
    check_fuzzed(params)


@settings(max_examples=200)
@given(shallow(plain_keys, structures(plain_leaves, plain_keys)))
def test_params_with_odd_keys_arrive_as_documented(params: dict[Any, Any]) -> None:
    """Keys of documented types are sent as documented, or refused with a path, and nothing else happens."""
    check_fuzzed(params)


@settings(max_examples=200)
@given(shallow(odd_keys, structures(plain_leaves | odd_leaves, odd_keys)))
def test_anything_at_all_is_sent_or_refused(params: dict[Any, Any]) -> None:
    """Whatever is passed becomes one line of strict JSON, or InvalidMessage; never another exception."""
    check_fuzzed(params)


@settings(max_examples=200)
@given(structures(plain_leaves | odd_leaves, odd_keys), st.data())
def test_any_arguments_at_all_are_sent_or_refused(anything: Any, data: st.DataObject) -> None:
    """The same for each of the arguments of a call."""
    name = data.draw(st.sampled_from(["contact_uid", "event_uid", "params", "created_at", "message_id"]))
    it = encoder()
    try:
        line = it.encode(composed(it, **{name: anything}))
    except InvalidMessage as exc:
        path = exc.path
    else:
        path = name
        assert set(one_line(line)) == set(message_to_revise())
    assert path.startswith(name)


def check_fuzzed(params: dict[Any, Any]) -> None:
    lenient = Lenient()
    try:
        line = line_of(encoder(), params)
    except InvalidMessage as exc:
        refused = exc
    else:
        check_documented(params, line)
        return
    assert re.match(r"params[.\[]", refused.path)
    assert "SECRET" not in str(refused)
    one_line(line_of(lenient.encoder, params))
    assert lenient.told[0] == (refused.path, refused.problem)


def check_documented(params: dict[Any, Any], line: bytes) -> None:
    message = one_line(line)
    assert set(message) == set(message_to_revise())
    try:
        expected = expected_value(params)
    except Undefined:
        return
    assert same(message["params"], expected)


def same(told: Any, expected: object) -> bool:
    """Compare exactly: 1 is not True, and 1 is not 1.0."""
    match expected:
        case Instant():
            return bool(expected == told)
        case dict():
            return (
                isinstance(told, dict)
                and list(told) == list(expected)
                and all(same(told[key], expected[key]) for key in expected)
            )
        case list():
            return isinstance(told, list) and len(told) == len(expected) and all(map(same, told, expected))
        case _:
            return type(told) is type(expected) and repr(told) == repr(expected)


def test_the_oracle_can_fail() -> None:
    """The comparison tells apart what Python calls equal."""
    assert not same(1, True)
    assert not same(1.0, 1)
    assert not same({"a": [None]}, {"a": [0]})
    assert not same("2026-01-01T00:00:00Z", Instant(datetime(2026, 1, 2, tzinfo=UTC)))
    pairs: Iterable[tuple[Any, Any]] = [(1, 1), ({"a": [None]}, {"a": [None]})]
    assert all(same(*pair) for pair in pairs)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ([], "must be a dict or None, not list"),
        ({"contact_uid": "u", "event_uid": "e", "params": [1]}, "must be a dict, not list"),
    ],
)
def test_what_a_hook_should_have_returned_is_told(changed: object, says: str) -> None:
    """The error says what is wrong with the result, by type and without its content."""
    with pytest.raises(InvalidMessage) as caught:
        revise(message_to_revise(), changed)
    assert str(caught.value).endswith(says)
