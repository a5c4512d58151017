"""Odd values: what JSON cannot hold becomes something it can, or is named by its path."""

from __future__ import annotations

import dataclasses
from collections import ChainMap, Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Iterator, KeysView, Mapping, Set
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType, SimpleNamespace
from typing import Any, ClassVar, NamedTuple
from unittest.mock import Mock
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import orjson
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesmachine_async._core.jsonable import (
    MAX_DEPTH,
    MAX_KEY_IN_PATH,
    Cleaner,
    Unencodable,
    key_in_path,
    key_text,
    raise_invalid,
    simplify,
    without_surrogates,
)
from salesmachine_async._core.message import OPTIONS
from salesmachine_async.errors import InvalidMessage
from tests.support.core import run_python, strict_loads

AN_ID = UUID("12345678-1234-5678-1234-567812345678")
BERLIN = ZoneInfo("Europe/Berlin")


class Colour(Enum):
    RED = "red"
    PAIR = (1, 2)
    MONEY = Decimal("1.50")


class Number(IntEnum):
    ONE = 1


class Bits(IntFlag):
    A = 1
    B = 2


class Word(StrEnum):
    YES = "yes"


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Real(float):
    pass


class Row(dict[Any, Any]):
    pass


class Items(list[Any]):
    pass


class Moment(datetime):
    pass


class Money(Decimal):
    pass


class Point(NamedTuple):
    x: int
    y: Any


Old = namedtuple("Old", "a b")


@dataclasses.dataclass
class Plan:
    name: str
    price: Decimal
    _token: str = "SECRET"
    kinds: ClassVar[int] = 3


@dataclasses.dataclass(slots=True, frozen=True)
class Slotted:
    at: date
    tags: frozenset[int] = frozenset()
    _token: str = "SECRET"


@attrs.define
class Crate:
    size: int
    inner: Any = None
    _token: str = "SECRET"


class Model(pydantic.BaseModel):
    id: UUID
    password: pydantic.SecretStr
    when: datetime


class Struct:
    """Looks like msgspec's."""

    __struct_fields__ = ("a", "_b")

    def __init__(self) -> None:
        self.a, self._b = 1, "SECRET"


class Array:
    """Looks like numpy's."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def tolist(self) -> Any:
        return self.items


class Ring(Set[int]):
    """An abstract set, and no `set`."""

    def __contains__(self, item: object) -> bool:
        return item == 1

    def __iter__(self) -> Iterator[int]:
        return iter([1])

    def __len__(self) -> int:
        return 1


class Settings(Mapping[str, int]):
    """An abstract mapping, and no `dict`."""

    def __getitem__(self, key: str) -> int:
        return {"a": 1}[key]

    def __iter__(self) -> Iterator[str]:
        return iter("a")

    def __len__(self) -> int:
        return 1


def clean(value: Any) -> Any:
    """Return what the slow path makes of a value, strictly."""
    return Cleaner(raise_invalid).clean(value, "params.v")


def slow(value: Any) -> bytes:
    """Encode by the slow path."""
    return orjson.dumps(clean(value), None, OPTIONS)


def fast(value: Any) -> bytes | None:
    """Encode by the fast path; None when it cannot."""
    try:
        return orjson.dumps(value, simplify, OPTIONS)
    except TypeError:
        return None


def problems_of(value: Any, path: str = "params") -> tuple[Any, list[tuple[str, str]]]:
    """Return what a lenient cleaner makes of a value, and what it reported."""
    told: list[tuple[str, str]] = []
    return Cleaner(lambda path, problem: told.append((path, problem))).clean(value, path), told


VALUES: list[tuple[str, Any, Any]] = [
    ("none", None, None),
    ("true", True, True),
    ("int", 7, 7),
    ("float", 1.5, 1.5),
    ("nan", float("nan"), None),
    ("infinity", float("-inf"), None),
    ("str", "é\n\x00\u2028", "é\n\x00\u2028"),
    ("largest int", 2**64 - 1, 2**64 - 1),
    ("smallest int", -(2**63), -(2**63)),
    ("int beyond", 2**64, "18446744073709551616"),
    ("int below", -(2**63) - 1, "-9223372036854775809"),
    ("int far beyond", 10**100, "1" + "0" * 100),
    ("lone surrogate", "a\ud800b", "a\ufffdb"),
    ("low surrogate", "\udfff", "\ufffd"),
    ("reversed pair", "\ude00\ud83d", "\ufffd\ufffd"),
    ("surrogate pair", "\ud83d\ude00", "\U0001f600"),
    ("pair and lone", "\ud83d\ude00\ud83d", "\U0001f600\ufffd"),
    ("decimal", Decimal("10.10"), "10.10"),
    ("decimal with exponent", Decimal("1E+3"), "1E+3"),
    ("decimal nan", Decimal("NaN"), None),
    ("decimal snan", Decimal("sNaN"), None),
    ("decimal infinity", Decimal("-Infinity"), None),
    ("decimal subclass", Money("9.99"), "9.99"),
    ("uuid", AN_ID, str(AN_ID)),
    ("datetime utc", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
    ("datetime microseconds", datetime(2026, 1, 2, 3, 4, 5, 60, tzinfo=UTC), "2026-01-02T03:04:05.000060Z"),
    ("datetime naive", datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05Z"),
    ("datetime zone", datetime(2026, 7, 2, 3, 4, 5, tzinfo=BERLIN), "2026-07-02T03:04:05+02:00"),
    ("datetime west", datetime(2026, 7, 2, tzinfo=timezone(timedelta(hours=-9.5))), "2026-07-02T00:00:00-09:30"),
    ("datetime first", datetime.min, "0001-01-01T00:00:00Z"),
    ("datetime subclass", Moment(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05Z"),
    ("datetime subclass aware", Moment(2026, 1, 2, tzinfo=timezone(timedelta(hours=1))), "2026-01-02T00:00:00+01:00"),
    ("date", date(2026, 1, 2), "2026-01-02"),
    ("time", time(1, 2, 3), "01:02:03"),
    ("time microseconds", time(1, 2, 3, 4), "01:02:03.000004"),
    # orjson itself writes .10000 here, ten times as much.
    ("time of ten milliseconds", time(0, 0, 0, 10_000), "00:00:00.010000"),
    ("time with tz", time(1, 2, 3, tzinfo=UTC), "01:02:03+00:00"),
    ("timedelta", timedelta(minutes=1, milliseconds=500), 60.5),
    ("timedelta negative", timedelta(seconds=-1), -1.0),
    ("bytes utf-8", "é".encode(), "é"),
    ("bytes not utf-8", b"\xff\xfe", "//4="),
    ("bytes of a surrogate", b"\xed\xa0\x80", "7aCA"),
    ("bytes empty", b"", ""),
    ("bytearray", bytearray(b"ab"), "ab"),
    ("memoryview", memoryview(b"ab"), "ab"),
    ("memoryview strided", memoryview(b"abcd")[::2], "ac"),
    ("memoryview not utf-8", memoryview(b"\xff"), "/w=="),
    ("path", Path("/tmp/x"), "/tmp/x"),
    ("pure path", PurePosixPath("a/b"), "a/b"),
    ("windows path", PureWindowsPath("c:/x"), "c:\\x"),
    ("path not utf-8", PurePosixPath("a\udcff"), "a\ufffd"),
    ("set", {1}, [1]),
    ("frozenset", frozenset({"a"}), ["a"]),
    ("abstract set", Ring(), [1]),
    ("dict keys", {"a": 1}.keys(), ["a"]),
    ("deque", deque([1, {2}]), [1, [2]]),
    ("list", [1, [2]], [1, [2]]),
    ("tuple", (1, (2,)), [1, [2]]),
    ("namedtuple", Point(1, Decimal(2)), [1, "2"]),
    ("old namedtuple", Old(1, {2}), [1, [2]]),
    ("enum", Colour.RED, "red"),
    ("enum of tuple", Colour.PAIR, [1, 2]),
    ("enum of decimal", Colour.MONEY, "1.50"),
    ("int enum", Number.ONE, 1),
    ("int flag", Bits.A | Bits.B, 3),
    ("str enum", Word.YES, "yes"),
    ("str subclass", Text("x"), "x"),
    ("str subclass surrogate", Text("x\ud800"), "x\ufffd"),
    ("int subclass", Whole(5), 5),
    ("int subclass beyond", Whole(2**70), str(2**70)),
    ("float subclass", Real(1.5), 1.5),
    ("float subclass nan", Real("nan"), None),
    ("dict subclass", Row(a=1), {"a": 1}),
    ("ordered dict", OrderedDict(b=1, a={2}), {"b": 1, "a": [2]}),
    ("defaultdict", defaultdict(int, a=1), {"a": 1}),
    ("counter", Counter("aab"), {"a": 2, "b": 1}),
    ("list subclass", Items([1, {2}]), [1, [2]]),
    ("mapping proxy", MappingProxyType({"a": {1}}), {"a": [1]}),
    ("chain map", ChainMap({"a": 1}, {"b": 2}), {"a": 1, "b": 2}),
    ("abstract mapping", Settings(), {"a": 1}),
    ("dataclass", Plan("pro", Decimal("1.0")), {"name": "pro", "price": "1.0"}),
    ("dataclass with slots", Slotted(date(2026, 1, 2), frozenset({1})), {"at": "2026-01-02", "tags": [1]}),
    ("attrs", Crate(1, Crate(2)), {"size": 1, "inner": {"size": 2, "inner": None}}),
    ("struct", Struct(), {"a": 1}),
    (
        "pydantic",
        Model(id=AN_ID, password=pydantic.SecretStr("SECRET"), when=datetime(2026, 1, 2, tzinfo=UTC)),
        {"id": str(AN_ID), "password": "**********", "when": "2026-01-02T00:00:00Z"},
    ),
    ("array", Array([1, [2.5]]), [1, [2.5]]),
    ("scalar", Array(3), 3),
    ("array of odd values", Array([Decimal(1)]), ["1"]),
]


@pytest.mark.parametrize(("value", "expected"), [pytest.param(v, e, id=name) for name, v, e in VALUES])
def test_what_becomes_of_a_value(value: Any, expected: Any) -> None:
    """Each type has its documented JSON form, the same on both paths."""
    assert strict_loads(slow(value)) == expected
    assert fast(value) in (slow(value), None)


@pytest.mark.parametrize(("value", "expected"), [pytest.param(v, e, id=name) for name, v, e in VALUES])
def test_what_becomes_of_a_value_deep_inside(value: Any, expected: Any) -> None:
    """A value has the same form wherever it stands."""
    nested = {"a": [{"b": (value,)}], 1: deque([value])}
    assert strict_loads(slow(nested)) == {"a": [{"b": [expected]}], "1": [expected]}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(value, id=name)
        for name, value, _ in VALUES
        if name.split()[0] in ("decimal", "set", "bytes", "enum", "timedelta", "dataclass", "attrs", "pydantic", "path")
        and "not" not in name
    ],
)
def test_common_odd_values_stay_on_the_fast_path(value: Any) -> None:
    """One odd value among many plain ones does not make a call slow."""
    assert fast({"plain": 1, "odd": value}) is not None


# Keys.

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
    """What orjson writes under OPT_NON_STR_KEYS is what we write."""
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
    assert slow({key: 1}) == orjson.dumps({key: 1}, None, options)


@pytest.mark.parametrize(
    "key",
    [(1, 2), frozenset({1}), object(), int, float("nan"), float("inf"), Decimal("nan"), Colour.PAIR, timedelta(1)],
    ids=lambda key: type(key).__name__,
)
def test_a_key_without_an_obvious_text_is_refused(key: Any) -> None:
    """A key with no JSON form is named by its type; leniently, it is left out and the rest is kept."""
    with pytest.raises(Unencodable, match="has no JSON form"):
        key_text(key)
    with pytest.raises(InvalidMessage, match="key of type"):
        clean({key: 1})
    value, told = problems_of({key: 1, "b": 2})
    assert value == {"b": 2}
    assert len(told) == 1


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
    value, told = problems_of(mapping)
    assert value == kept
    assert told == [(path, "is the same key in JSON as another one")]


# Paths.


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
    """A plain word stands as it is; anything else is quoted, escaped and barrier, or named by its type."""
    assert key_in_path(key) == shown


@given(st.text())
def test_no_key_breaks_a_line_of_a_log(key: str) -> None:
    """A path is printable ASCII but for the ellipsis, and short, whatever the key."""
    shown = key_in_path(key)
    assert shown.replace("…", "").isascii()
    assert shown.isprintable()
    assert len(shown) <= 10 * MAX_KEY_IN_PATH + 10


class Liar(str):
    """A str that lies to whoever asks it."""

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
    """What is no str by its type, like a mock or a lazy proxy, is refused as a key. (Finding: TypeError escapes.)"""
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


# What has no JSON form, and what fails while it is asked.


class Boom(Exception):
    """Quotes a secret, as foreign exceptions do."""

    def __init__(self) -> None:
        super().__init__("SECRET")

    def __repr__(self) -> str:
        raise AssertionError("asked for its repr")


class Unreadable:
    """No model of any kind, and its repr is a trap."""

    def __repr__(self) -> str:
        raise AssertionError("asked for its repr")

    __str__ = __repr__


class BrokenModel(Unreadable):
    def model_dump(self, mode: str) -> Any:
        raise Boom


class BrokenArray(Unreadable):
    def tolist(self) -> Any:
        raise Boom


class BrokenMapping(Unreadable, Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise Boom

    def __iter__(self) -> Iterator[str]:
        raise Boom

    def __len__(self) -> int:
        raise Boom


class BrokenKeys(Unreadable, Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise Boom

    def __iter__(self) -> Iterator[str]:
        return iter("a")

    def __len__(self) -> int:
        return 1

    def keys(self) -> KeysView[str]:
        raise Boom


class BrokenSet(Unreadable, Set[int]):
    def __contains__(self, item: object) -> bool:
        raise Boom

    def __iter__(self) -> Iterator[int]:
        raise Boom

    def __len__(self) -> int:
        raise Boom


class BrokenClass(Unreadable):
    """As an unbound lazy proxy: even `isinstance` fails on it."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise Boom


@dataclasses.dataclass(repr=False)
class BrokenData(Unreadable):
    field: int = dataclasses.field(init=False)


class BrokenPath(PurePosixPath):
    def __str__(self) -> str:
        raise Boom


class BrokenNumber(float):
    def __float__(self) -> float:
        raise Boom


class Endless(Unreadable):
    def __init__(self) -> None:
        self.nothing = 0

    def tolist(self) -> Any:
        return self.tolist()


def generator() -> Iterator[int]:
    yield 1


def released() -> memoryview:
    view = memoryview(b"SECRET")
    view.release()
    return view


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (object(), "a value of type object has no JSON form"),
        (Unreadable(), "a value of type Unreadable has no JSON form"),
        (int, "a class (int) has no JSON form"),
        (Plan, "a class (Plan) has no JSON form"),
        (Model, "a class (Model) has no JSON form"),
        (Colour, "a class (Colour) has no JSON form"),
        (generator(), "a value of type generator has no JSON form"),
        (iter([1]), "a value of type list_iterator has no JSON form"),
        (range(3), "a value of type range has no JSON form"),
        (1j, "a value of type complex has no JSON form"),
        (Fraction(1, 3), "a value of type Fraction has no JSON form"),
        (len, "a value of type builtin_function_or_method has no JSON form"),
        (lambda: 1, "a value of type function has no JSON form"),
        (..., "a value of type ellipsis has no JSON form"),
        (NotImplemented, "a value of type NotImplementedType has no JSON form"),
        (ValueError("SECRET"), "a value of type ValueError has no JSON form"),
        (SimpleNamespace(a="SECRET"), "a value of type SimpleNamespace has no JSON form"),
        (pydantic.SecretStr("SECRET"), "a value of type SecretStr has no JSON form"),
        (BrokenModel(), "BrokenModel could not be converted (Boom)"),
        (BrokenArray(), "BrokenArray could not be converted (Boom)"),
        (BrokenMapping(), "BrokenMapping could not be converted (Boom)"),
        (BrokenKeys(), "BrokenKeys could not be converted (Boom)"),
        (BrokenSet(), "BrokenSet could not be converted (Boom)"),
        (BrokenClass(), "BrokenClass could not be converted (Boom)"),
        (BrokenData(), "BrokenData could not be converted (AttributeError)"),
        (BrokenPath("x"), "BrokenPath could not be converted (Boom)"),
        (BrokenNumber(1), "BrokenNumber could not be converted (Boom)"),
        (Endless(), "Endless could not be converted (RecursionError)"),
        (released(), "memoryview could not be converted (ValueError)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_without_a_json_form_is_told_by_its_type(value: Any, problem: str) -> None:
    """Neither the value's repr nor the text of its exception is told; leniently, it becomes null."""
    with pytest.raises(InvalidMessage) as caught:
        clean(value)
    assert str(caught.value) == f"params.v: {problem}"
    assert problems_of([value, 1]) == ([None, 1], [("params[0]", problem)])
    assert fast(value) is None


def test_ready_made_json_has_no_json_form() -> None:
    """A Fragment is refused: orjson would copy it out unread."""
    with pytest.raises(InvalidMessage, match="a value of type Fragment has no JSON form"):
        clean([orjson.Fragment(b"SECRET")])


def test_an_int_with_too_many_digits_is_refused() -> None:
    """An int that Python itself does not turn into text is a problem like any other."""
    with pytest.raises(InvalidMessage, match=r"int could not be converted \(ValueError\)"):
        clean(10**5000)
    with pytest.raises(InvalidMessage, match=r"int could not be converted \(ValueError\)"):
        clean({10**5000: 1})


def test_a_moment_that_is_none_becomes_null() -> None:
    """pandas' NaT is a datetime that differs from itself: there is no moment to tell."""

    class NotATime(datetime):
        def __eq__(self, other: object) -> bool:
            return False

        def __ne__(self, other: object) -> bool:
            return True

        __hash__ = datetime.__hash__

    assert clean(NotATime(2026, 1, 1)) is None


# Depth and cycles.


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def test_as_deep_as_allowed() -> None:
    """A value may be nested `MAX_DEPTH` levels deep, and orjson accepts the copy."""
    assert strict_loads(slow(nested(MAX_DEPTH))) == nested(MAX_DEPTH)


def test_deeper_than_allowed() -> None:
    """One level more is a problem; leniently, what is too deep becomes null."""
    with pytest.raises(InvalidMessage, match="nested deeper than 200 levels"):
        clean(nested(MAX_DEPTH + 1))
    value, told = problems_of(nested(MAX_DEPTH + 1))
    assert [problem for _, problem in told] == ["is nested deeper than 200 levels"]
    assert "null" in orjson.dumps(value).decode()


def test_an_abyss_is_only_deep() -> None:
    """Nesting beyond any recursion limit is found at the limit of ours."""
    with pytest.raises(InvalidMessage, match="nested deeper"):
        clean(nested(50_000))


@pytest.mark.parametrize("make", [dict, list, deque, Row, Items], ids=lambda make: str(make.__name__))
def test_a_container_in_itself(make: Any) -> None:
    """A cycle is found at once, whatever it is made of; the same object twice side by side is none."""
    value = make()
    if isinstance(value, dict):
        value.update(twin=[shared := [1], shared], me=value)
    else:
        value += [[shared := [1], shared], value]
    with pytest.raises(InvalidMessage, match="contains itself"):
        clean({"a": value})
    assert len(problems_of(value)[1]) == 1


def test_an_object_in_itself() -> None:
    """A cycle through models is found too."""
    crate = Crate(1)
    crate.inner = [crate]
    with pytest.raises(InvalidMessage, match=r"params\.v\.inner\[0\]: contains itself"):
        clean(crate)


def test_a_value_that_turns_into_itself() -> None:
    """A value whose plain form is itself again ends."""
    array = Array(None)
    array.items = array
    with pytest.raises(InvalidMessage, match="contains itself"):
        clean(array)


def test_a_value_that_always_turns_into_another() -> None:
    """A value whose plain form is ever another odd one ends at the limit of depth."""

    class Doll:
        def tolist(self) -> Any:
            return Doll()

    with pytest.raises(InvalidMessage, match="nested deeper"):
        clean(Doll())


# The two paths agree.

json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.uuids()
    | st.dates()
    | st.times()
    | st.datetimes(
        timezones=st.none() | st.just(UTC) | st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))
    )
    | st.sampled_from([Colour.RED, Colour.PAIR, Number.ONE, Word.YES])
    | st.builds(Text, st.text(st.characters(exclude_categories=["Cs"]), max_size=4))
    | st.builds(Whole, st.integers(-(2**53), 2**53)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3).map(Items)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3).map(Row)
    ),
    max_leaves=15,
)
odd = st.recursive(
    json_like
    | st.decimals()
    | st.binary(max_size=6)
    | st.timedeltas()
    | st.sampled_from([Path("a"), Plan("a", Decimal(1)), Crate(1), Struct(), Colour.MONEY, MappingProxyType({"a": 1})]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(json_like)
def test_both_paths_agree_on_what_orjson_knows(value: Any) -> None:
    """Whatever orjson encodes itself, the slow path encodes to the same bytes."""
    direct = orjson.dumps(value, simplify, OPTIONS)
    assert slow(value) == direct


@given(odd)
def test_both_paths_agree_on_odd_values(value: Any) -> None:
    """A value the fast path can encode with the help of `simplify` has the same bytes on the slow path."""
    direct = fast(value)
    assert direct is None or slow(value) == direct


@given(odd)
def test_no_argument_is_changed(value: Any) -> None:
    """Neither path changes what it is given."""
    before = repr(value)
    fast(value)
    slow(value)
    assert repr(value) == before


@pytest.mark.parametrize("seconds", [30, -30, 3723, -340])
def test_an_offset_with_seconds_is_written_as_a_readable_time(seconds: int) -> None:
    """JSON dates have offsets of minutes, as 19th-century local times have not. (Finding: ``…Z:30`` is written.)"""
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(seconds=seconds)))
    written = datetime.fromisoformat(clean(moment))
    assert (written.utcoffset() or timedelta()).total_seconds() % 60 == 0
    assert written == moment


@pytest.mark.parametrize("body", ["raise RuntimeError('SECRET')", "return super().utcoffset(moment)"])
def test_a_broken_time_zone_does_not_crash_the_process(body: str) -> None:
    """A tzinfo that raises is a problem of its value. (Finding: orjson crashes the process, SIGSEGV.)"""
    done = run_python(f"""
from datetime import datetime, tzinfo
from salesmachine_async._core.message import encode
class Zone(tzinfo):
    def utcoffset(self, moment):
        {body}
    def dst(self, moment):
        return None
told = []
print(encode({{"params": {{"at": datetime(2026, 1, 2, tzinfo=Zone())}}}}, lambda *problem: told.append(problem)))
print(told)
""")
    assert done.returncode == 0, f"ended by {done.returncode}: {done.stderr[-300:]}"
    assert '"at":null' in done.stdout
    assert "params.at" in done.stdout
    assert "SECRET" not in done.stdout


def test_text_of_valid_unicode_is_the_same_object() -> None:
    """Almost all text is valid, and costs no copy."""
    text = "abcé"
    assert without_surrogates(text) is text


@given(st.text())
def test_any_text_becomes_valid_unicode(text: str) -> None:
    """The result can always be encoded, and valid text is unchanged."""
    result = without_surrogates(text)
    result.encode()
    assert result == text or any("\ud800" <= character <= "\udfff" for character in text)
