"""The text of keys, and of the paths that name a problem."""

from __future__ import annotations

from collections import deque
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from unittest.mock import Mock

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesmachine_async._core.jsonable import (
    MAX_KEY_IN_PATH,
    Cleaner,
    key_in_path,
    key_text,
    raise_invalid,
)
from salesmachine_async._core.simplify import Unencodable
from salesmachine_async.errors import InvalidMessage
from tests.support.core import strict_loads
from tests.support.values import (
    AN_ID,
    Colour,
    Number,
    Plan,
    Real,
    Text,
    Whole,
    Word,
    clean,
    problems_of,
    slow,
)

KEYS: list[tuple[Any, str]] = [
    ("a", "a"),
    ("", ""),
    (Text("t"), "t"),
    ("\ud800", "\ufffd"),
    ("\ud83d\ude00", "\U0001f600"),
    (1, "1"),
    (-1, "-1"),
    (2**70, str(2**70)),
    (Whole(3), "3"),
    (1.5, "1.5"),
    (1.0, "1.0"),
    (Real(2.5), "2.5"),
    (True, "true"),
    (False, "false"),
    (None, "null"),
    (AN_ID, str(AN_ID)),
    (date(2026, 1, 2), "2026-01-02"),
    (datetime(2026, 1, 2), "2026-01-02T00:00:00Z"),
    (time(1, 2), "01:02:00"),
    (Decimal("1.50"), "1.50"),
    (b"ab", "ab"),
    (b"\xff", "/w=="),
    (PurePosixPath("a/b"), "a/b"),
    (timedelta(days=1), "86400.0"),
    (Colour.RED, "red"),
    (Colour.MONEY, "1.50"),
    (Number.ONE, "1"),
    (Word.YES, "yes"),
]


@pytest.mark.parametrize(("key", "text"), KEYS, ids=repr)
def test_text_of_a_key(key: Any, text: str) -> None:
    """Each type of key has its text, an exact and valid str."""
    assert key_text(key) == text
    assert type(key_text(key)) is str
    assert strict_loads(slow({key: 1})) == {text: 1}


@pytest.mark.parametrize(
    "key",
    [
        "a",
        1,
        -5,
        1.5,
        True,
        None,
        AN_ID,
        date(2026, 1, 2),
        datetime(2026, 1, 2),
        time(1, 2),
        Colour.RED,
        Number.ONE,
        Word.YES,
    ],
    ids=repr,
)
def test_keys_are_written_as_orjson_would(key: Any) -> None:
    """Keys have the text that orjson writes under OPT_NON_STR_KEYS."""
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
    assert slow({key: 1}) == orjson.dumps({key: 1}, None, options)


@pytest.mark.parametrize(
    "key",
    [(1, 2), frozenset({1}), object(), int, float("nan"), float("inf"), Decimal("nan"), Colour.PAIR],
    ids=lambda key: type(key).__name__,
)
def test_a_key_without_an_obvious_text_is_refused(key: Any) -> None:
    """A key with no JSON form is named by its type; leniently, it is left out and the rest is kept."""
    with pytest.raises(Unencodable, match="has no JSON form"):
        key_text(key)
    with pytest.raises(InvalidMessage, match="key of type"):
        clean({key: 1})
    value, reported = problems_of({key: 1, "b": 2})
    assert value == {"b": 2}
    assert len(reported) == 1


@pytest.mark.parametrize(
    ("mapping", "kept", "path"),
    [
        ({1: "x", "1": "y"}, {"1": "x"}, "params['1']"),
        ({"1": "x", 1: "y"}, {"1": "x"}, "params[<int>]"),
        ({None: "x", "null": "y"}, {"null": "x"}, "params.null"),
        ({Colour.RED: "x", "red": "y"}, {"red": "x"}, "params.red"),
        ({"\ud800": "x", Text("\udfff"): "y"}, {"\ufffd": "x"}, r"params['\udfff']"),
        ({True: "x", "true": "y"}, {"true": "x"}, "params.true"),
    ],
)
def test_keys_that_collide_are_refused(mapping: Any, kept: Any, path: str) -> None:
    """Two keys with one text would be a repeated key in JSON: the later one is a problem."""
    with pytest.raises(InvalidMessage, match="same key") as caught:
        Cleaner(raise_invalid).clean(mapping, "params")
    assert caught.value.path == path
    value, reported = problems_of(mapping)
    assert value == kept
    assert reported == [(path, "is the same key in JSON as another one")]


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("name", ".name"),
        ("first-name_2", ".first-name_2"),
        ("", "['']"),
        ("two words", "['two words']"),
        ("2nd", "['2nd']"),
        ("a.b", "['a.b']"),
        ("a\n", r"['a\n']"),
        ("a\nERROR forged line", r"['a\nERROR forged line']"),
        ("\x1b[31m", r"['\x1b[31m']"),
        ("it's", '["it\'s"]'),
        ("\"'", "['\"\\'']"),
        ("é", r"['\xe9']"),
        ("\ud800", r"['\ud800']"),
        ("\u2028", r"['\u2028']"),
        ("]", "[']']"),
        ("x" * 40, "." + "x" * 40),
        ("x" * 41, "['" + "x" * 40 + "'…]"),
        ("x" * 10_000, "['" + "x" * 40 + "'…]"),
        ("\U0010ffff" * 10_000, "['" + r"\U0010ffff" * 40 + "'…]"),
        (Text("name"), ".name"),
        (1, "[<int>]"),
        (None, "[<NoneType>]"),
        ((1, 2), "[<tuple>]"),
        (b"SECRET", "[<bytes>]"),
        (Colour.RED, "[<Colour>]"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_key_in_a_path(key: object, shown: str) -> None:
    """A plain word is unchanged; other keys are quoted, escaped and cut, or named by their type."""
    assert key_in_path(key) == shown


@given(st.text())
def test_no_key_breaks_a_line_of_a_log(key: str) -> None:
    """A path is printable ASCII but for the ellipsis, and short, whatever the key."""
    shown = key_in_path(key)
    assert shown.replace("…", "").isascii()
    assert shown.isprintable()
    assert len(shown) <= 10 * MAX_KEY_IN_PATH + 10


class Liar(str):
    """A str whose methods do not say what it holds."""

    __slots__ = ()

    def __str__(self) -> str:
        return "lie\n"

    def __repr__(self) -> str:
        return "lie\n"

    def __len__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1

    def __getitem__(self, key: Any) -> str:
        return "lie\n"

    def __format__(self, spec: str) -> str:
        return "lie\n"


def test_a_str_that_lies_is_taken_at_its_content() -> None:
    """Methods of a str subclass are not believed: not in values, not in keys, not in paths."""
    assert strict_loads(slow({"v": Liar("true content")})) == {"v": "true content"}
    assert strict_loads(slow({Liar("key"): 1})) == {"key": 1}
    assert key_in_path(Liar("key")) == ".key"
    assert key_in_path(Liar("a\nb")) == r"['a\nb']"


class SelfConfident(str):
    """A str that calls itself encodable, whatever it holds."""

    __slots__ = ()

    def encode(self, *args: Any, **kwargs: Any) -> bytes:
        return b"fine"


def test_a_str_that_lies_about_its_encoding_is_taken_at_its_content() -> None:
    """A lone surrogate is replaced even if the str's own `encode` denies it. (Finding: TypeError escapes.)"""
    assert strict_loads(slow({"v": SelfConfident("\ud800")})) == {"v": "\ufffd"}
    assert strict_loads(slow({SelfConfident("\ud800"): 1})) == {"\ufffd": 1}


def test_an_object_that_only_claims_to_be_a_str_is_no_text_key() -> None:
    """A key that is no str by its type, such as a mock, is refused. (Finding: TypeError escapes.)"""
    with pytest.raises(InvalidMessage, match="key of type Mock"):
        clean({Mock(spec=str): 1})


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"plan": {"started": object()}}, "params.plan.started"),
        ({"a": [1, {"b c": object()}]}, "params.a[1]['b c']"),
        ({"a": (0, 0, object())}, "params.a[2]"),
        ({1: {None: object()}}, "params[<int>][<NoneType>]"),
        ({"a": deque([object()])}, "params.a[0]"),
        ({"a": Plan("x", object())}, "params.a.price"),  # type: ignore[arg-type]
        (object(), "params"),
    ],
)
def test_the_path_leads_to_the_value(value: Any, path: str) -> None:
    """A problem is named by the way to it from the argument down."""
    with pytest.raises(InvalidMessage) as caught:
        Cleaner(raise_invalid).clean(value, "params")
    assert caught.value.path == path
    assert str(caught.value) == f"{path}: a value of type object has no JSON form"


def test_a_key_that_always_turns_into_another_is_refused() -> None:
    """The conversion of a key ends."""

    class Doll:
        def tolist(self) -> Any:
            return Doll()

    with pytest.raises(InvalidMessage, match=r"key of type .*Doll"):
        clean({Doll(): 1})
