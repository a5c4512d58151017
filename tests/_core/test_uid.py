"""Identifying arguments: which values may be a uid, and the text of each."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import pytest

from salesmachine_async._core.jsonable import raise_invalid
from salesmachine_async._core.message import partition_key
from salesmachine_async._core.uid import check_uids
from salesmachine_async.errors import InvalidMessage
from tests.support.encoding import (
    Id,
    Kind,
    Lenient,
    Number,
    Shouting,
    Unbound,
    compose,
    composed,
    encoder,
)


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
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Kind.A, "a"),
    ],
)
def test_a_usable_uid(uid: object, text: str) -> None:
    """A non-empty str is taken as it is, an int as its decimal digits, an Enum as its value, a UUID as its text."""
    message = composed(encoder(), contact_uid=uid, event_uid=uid)
    assert (message["contact_uid"], message["event_uid"]) == (text, text)
    assert type(message["contact_uid"]) is str


class Nested(Enum):
    """Its value is no text, although the value of that is."""

    A = Kind.A


@pytest.mark.parametrize(
    ("uid", "problem"),
    [
        ("", "must not be empty"),
        (Nested.A, "must be a non-empty str or an int, not Nested"),
        (Id(""), "must not be empty"),
        ("\ud800", "must be valid Unicode (it holds a lone surrogate)"),
        ("a\ud83d\ude00", "must be valid Unicode (it holds a lone surrogate)"),
        (10**5000, "has too many digits"),
        (None, "must be a non-empty str or an int, not NoneType"),
        (True, "must be a non-empty str or an int, not bool"),
        (1.0, "must be a non-empty str or an int, not float"),
        (b"a", "must be a non-empty str or an int, not bytes"),
        (Decimal(1), "must be a non-empty str or an int, not Decimal"),
        (["a"], "must be a non-empty str or an int, not list"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("name", ["contact_uid", "event_uid"])
def test_an_unusable_uid(name: str, uid: object, problem: str) -> None:
    """Any other uid is refused by name; leniently, it is reported and there is no message."""
    with pytest.raises(InvalidMessage) as caught:
        compose(encoder(), **{name: uid})
    assert (caught.value.path, caught.value.problem) == (name, problem)
    lenient = Lenient()
    assert lenient.compose(**{name: uid}, params={"v": object()}) is None
    assert lenient.reported == [(name, problem)]


@pytest.mark.parametrize("uid", [Mock(spec=str), Mock(spec=int)], ids=["str", "int"])
def test_what_only_claims_to_be_a_str_or_an_int_is_no_uid(uid: object) -> None:
    """A mock or lazy proxy is refused like any other type. (Finding: a TypeError escapes.)"""
    with pytest.raises(InvalidMessage, match="contact_uid"):
        compose(encoder(), contact_uid=uid)


@pytest.mark.parametrize("name", ["contact_uid", "params", "created_at", "message_id"])
def test_an_argument_that_fails_at_isinstance_is_refused(name: str) -> None:
    """An unbound lazy proxy is a bad argument, reported by name. (Finding: its own exception escapes.)"""
    with pytest.raises(InvalidMessage) as caught:
        compose(encoder(), **{name: Unbound()})
    assert caught.value.path == name
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [("", "e", {}), ("1", "", {}), (1, "e", {}), ("1", 2, {}), (None, "e", {}), (Id("1"), "e", {}), ("1", Id("e"), {})],
)
def test_the_short_way_leaves_unusual_uids_to_the_long_one(arguments: tuple[Any, Any, Any]) -> None:
    """The fast path accepts only plain, non-empty strings as uids."""
    assert encoder().event(*arguments) is None


@pytest.mark.parametrize("uid", ["", 1, None, Id("1"), "\ud800"])
def test_the_short_way_of_records_leaves_unusual_uids_to_the_long_one(uid: object) -> None:
    """Contacts and accounts are as strict as events."""
    assert encoder().record("contact", "contact_uid", uid, {}) is None


@pytest.mark.parametrize("params", [[], "", 0, False, MappingProxyType({}), [("a", 1)], deque()])
def test_the_short_way_leaves_unusual_params_to_the_long_one(params: object) -> None:
    """The fast path accepts only None and plain dicts as params."""
    assert encoder().event("1", "e", params) is None
    assert encoder().record("contact", "contact_uid", "1", params) is None


@pytest.mark.parametrize("params", [{"v": object()}, {"v": 2**64}, {"v": "\ud800"}, {1: 2}])
def test_the_short_way_leaves_what_orjson_cannot_to_the_long_one(params: object) -> None:
    """The fast path refuses types for which orjson has no hook."""
    assert encoder().event("1", "e", params) is None
    assert encoder().record("account", "account_uid", "1", params) is None


def test_lane_uid() -> None:
    """Order is kept by contact, or for an account by account."""
    assert partition_key({"contact_uid": "1", "event_uid": "e"}) == "1"
    assert partition_key({"account_uid": "2"}) == "2"
    assert partition_key({"contact_uid": "1", "alias": "3"}) == "1"


def test_check_uids_of_nothing() -> None:
    """An empty mapping of uids has no problem."""
    assert check_uids({}, raise_invalid) == {}
