"""The form of each value, the same on both walks; depth and cycles."""

from __future__ import annotations

from collections import ChainMap, Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import Any

import orjson
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesmachine_async._core.jsonable import (
    MAX_DEPTH,
)
from salesmachine_async._core.simplify import without_surrogates
from salesmachine_async.errors import InvalidMessage
from tests.support.core import run_python, strict_loads
from tests.support.values import (
    AN_ID,
    BERLIN,
    Array,
    Bits,
    Colour,
    Crate,
    Items,
    Model,
    Moment,
    Money,
    Number,
    Old,
    Plan,
    Point,
    Real,
    Ring,
    Row,
    Settings,
    Slotted,
    Struct,
    Text,
    Whole,
    Word,
    clean,
    fast,
    problems_of,
    slow,
)

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


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def test_as_deep_as_allowed() -> None:
    """A value may be nested `MAX_DEPTH` levels deep, and orjson accepts the copy."""
    assert strict_loads(slow(nested(MAX_DEPTH))) == nested(MAX_DEPTH)


def test_deeper_than_allowed() -> None:
    """A value nested one level too deep is a problem; leniently, the deepest part becomes null."""
    with pytest.raises(InvalidMessage, match="nested deeper than 253 levels"):
        clean(nested(MAX_DEPTH + 1))
    value, reported = problems_of(nested(MAX_DEPTH + 1))
    assert [problem for _, problem in reported] == ["is nested deeper than 253 levels"]
    assert "null" in orjson.dumps(value).decode()


def test_an_abyss_is_only_deep() -> None:
    """Nesting beyond any recursion limit is found at our own limit."""
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
    """The slow path encodes the types that orjson supports to the same bytes."""
    direct = fast(value)
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
reported = []
print(encode({{"params": {{"at": datetime(2026, 1, 2, tzinfo=Zone())}}}}, lambda *problem: reported.append(problem)))
print(reported)
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
