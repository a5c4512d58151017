"""Arbitrary arguments are sent as documented, or refused with a path; nothing else happens."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salesmachine_async.errors import InvalidMessage
from tests.support.encoding import (
    PLUS_2,
    BrokenMapping,
    Id,
    Kind,
    Lenient,
    Number,
    Shouting,
    composed,
    encoder,
    line_of,
    message_to_revise,
    one_line,
)

# Hypothesis takes a second to make the first example of each of these.
pytestmark = pytest.mark.slow

any_text = st.text() | st.sampled_from(["\n", "a\nb", "\r\n", "\u2028\u2029", "\x00", "\x1f\x7f", "\ud800", "]\n["])
uid_text = any_text.filter(lambda text: bool(text) and not any("\ud800" <= c <= "\udfff" for c in text))


@given(uid_text, uid_text, any_text, any_text)
def test_any_text_stays_on_one_line(uid: str, event: str, key: str, value: str) -> None:
    """A message with any text is one line, from which the same text is read back."""
    it = encoder()
    line = it.event(uid, event, {key: value})
    if line is None:
        line = it.encode(composed(it, contact_uid=uid, event_uid=event, params={key: value}))
    reported = one_line(line)
    assert reported["contact_uid"] == uid
    assert reported["event_uid"] == event
    assert reported["params"] == {plain(key): plain(value)}


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
    """A value of one of the many types that users pass."""

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
    """Any value becomes one line of strict JSON or raises InvalidMessage, and no other exception."""
    check_fuzzed(params)


@settings(max_examples=200)
@given(structures(plain_leaves | odd_leaves, odd_keys), st.data())
def test_any_arguments_at_all_are_sent_or_refused(anything: Any, data: st.DataObject) -> None:
    """Any argument becomes part of a line of strict JSON or raises InvalidMessage."""
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
    assert lenient.reported[0] == (refused.path, refused.problem)


def check_documented(params: dict[Any, Any], line: bytes) -> None:
    message = one_line(line)
    assert set(message) == set(message_to_revise())
    try:
        expected = expected_value(params)
    except Undefined:
        return
    assert same(message["params"], expected)


def same(reported: Any, expected: object) -> bool:
    """Compare exactly: 1 is not True, and 1 is not 1.0."""
    match expected:
        case Instant():
            return bool(expected == reported)
        case dict():
            return (
                isinstance(reported, dict)
                and list(reported) == list(expected)
                and all(same(reported[key], expected[key]) for key in expected)
            )
        case list():
            return isinstance(reported, list) and len(reported) == len(expected) and all(map(same, reported, expected))
        case _:
            return type(reported) is type(expected) and repr(reported) == repr(expected)


def test_the_oracle_can_fail() -> None:
    """The comparison distinguishes values that Python calls equal."""
    assert not same(1, True)
    assert not same(1.0, 1)
    assert not same({"a": [None]}, {"a": [0]})
    assert not same("2026-01-01T00:00:00Z", Instant(datetime(2026, 1, 2, tzinfo=UTC)))
    pairs: Iterable[tuple[Any, Any]] = [(1, 1), ({"a": [None]}, {"a": [None]})]
    assert all(same(*pair) for pair in pairs)
