"""
The slow path of odd values: what JSON cannot hold becomes something it can, or is named by its path.

`simplify` turns one odd value into a plain one; orjson calls it for every value that it does not know, so
that most odd values stay on the fast path. `Cleaner` walks a whole structure instead, for what orjson has no
hook for: non-string keys, integers beyond 64 bits, lone surrogates, depth and cycles. Both give the same
result for the same value.
"""

from __future__ import annotations

import dataclasses
import re
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Set
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from pathlib import PurePath
from types import NoneType
from typing import Any, Final, cast
from uuid import UUID

import orjson

from salesmachine_async.errors import InvalidMessage

# Below orjson's own limit of 254 levels, less the levels of the message around the params.
MAX_DEPTH: Final = 200
# A key is quoted in an error only this far: it may hold anything.
MAX_KEY_IN_PATH: Final = 40

_INT64_MIN: Final = -(2**63)
_UINT64_MAX: Final = 2**64 - 1
_MINUTE: Final = timedelta(minutes=1)
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
# What is written as it is; `type(value) in` is exact, so subclasses take the longer way.
_ATOMS: Final = frozenset({bool, float, NoneType})


class Unencodable(TypeError):
    """A value has no JSON form. A TypeError, because that is what orjson expects of its hook."""


def simplify(value: Any) -> Any:
    """
    Turn one value that orjson does not know into one that it does.

    The result may hold odd values itself; orjson hands those in again.

    Raises:
        Unencodable: The value has no JSON form. Its ``repr`` is never used: it could leak or fail.
    """
    if isinstance(value, Enum):  # first: a str or int mixed in would hide it
        return value.value
    for cls in type(value).__mro__:
        convert = _BY_TYPE.get(cls)
        if convert is not None:
            return convert(value)
    return _by_shape(value)


def without_surrogates(text: str) -> str:
    """
    Return *text* as an exact `str` of valid Unicode: a surrogate pair is joined, a lone one is U+FFFD.

    The round trip through UTF-16 is what joins the halves of a pair.
    """
    text = str.__str__(text)  # a subclass may lie
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class Cleaner:
    """
    Walks a value and returns a copy that orjson accepts.

    Args:
        on_problem: Called with path and problem of each value without a JSON form. It may raise; when it
            returns, the value becomes null.
    """

    __slots__ = ("_ancestors", "_on_problem")

    def __init__(self, on_problem: Callable[[str, str], None]) -> None:
        self._on_problem = on_problem
        # Containers being walked, by identity: meeting one again means it contains itself.
        self._ancestors: set[int] = set()

    def clean(self, value: Any, path: str, depth: int = 0) -> Any:
        """Return the plain copy of *value*; *path* is where it stands."""
        cls: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        if cls in _ATOMS:
            return value
        if cls is str:
            return without_surrogates(value)
        if cls is int:
            return value if _INT64_MIN <= value <= _UINT64_MAX else self._guarded(str, value, path)
        if depth >= MAX_DEPTH:
            return self._problem(path, f"is nested deeper than {MAX_DEPTH} levels")
        if id(value) in self._ancestors:
            return self._problem(path, "contains itself")
        self._ancestors.add(id(value))
        try:
            return self._container(value, cls, path, depth)
        except RecursionError:  # little stack was left at the call
            return self._problem(path, "is nested deeper than the stack allows")
        finally:
            self._ancestors.discard(id(value))

    def _container(self, value: Any, cls: type[Any], path: str, depth: int) -> Any:
        if cls is dict:
            return self._mapping(value, path, depth)
        if cls is list or cls is tuple:
            return [self.clean(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(tuple(value))]
        plain = self._guarded(simplify, value, path)
        # An odd value stands one level deeper, so that one which keeps turning into another ends.
        return self.clean(plain, path, depth + 1)

    def _mapping(self, mapping: dict[Any, Any], path: str, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        # A copy of the items first: another thread may change the mapping meanwhile.
        for key, item in tuple(mapping.items()):
            place = path + key_in_path(key)
            name = self._guarded(key_text, key, place)
            if name is None:
                continue
            if name in result:
                self._problem(place, "is the same key in JSON as another one")
                continue
            result[name] = self.clean(item, place, depth + 1)
        return result

    def _guarded(self, convert: Callable[[Any], Any], value: Any, path: str) -> Any:
        """Convert by code that may be the user's own, and so may raise anything."""
        try:
            return convert(value)
        except Unencodable as exc:
            return self._problem(path, str(exc))
        except Exception as exc:  # noqa: BLE001
            # Only the type is told: the text of a foreign exception may quote the value.
            return self._problem(path, f"{_name(value)} could not be converted ({type(exc).__name__})")

    def _problem(self, path: str, problem: str) -> None:
        self._on_problem(path, problem)


def raise_invalid(path: str, problem: str) -> None:
    """Raise the problem as `InvalidMessage`: the strict ``on_problem``."""
    raise InvalidMessage(path, problem)


def key_text(key: Any) -> str:
    """
    Return the JSON key for a mapping's *key*, as ``OPT_NON_STR_KEYS`` of orjson writes it, and for a few more types.

    Raises:
        Unencodable: The key has no obvious text.
    """
    if isinstance(key, Enum):
        return key_text(key.value)
    if issubclass(type(key), str):  # by its type: proxies and mocks answer `isinstance` for another
        return without_surrogates(key)
    if isinstance(key, float):
        if isfinite(key):
            return float.__repr__(key)
    elif key is None or isinstance(key, bool):
        return orjson.dumps(key).decode()
    elif isinstance(key, int):
        return int.__repr__(key)
    elif isinstance(key, _TEXT_KEYS):
        return str(_plain_text(key))
    raise Unencodable(f"a key of type {_name(key)} has no JSON form")


def key_in_path(key: object) -> str:
    """Return how *key* is shown in a path: ``.name``, or quoted, escaped and barrier short when it is no plain word."""
    if not issubclass(type(key), str):
        return f"[<{_name(key)}>]"
    text = str.__str__(cast("str", key))  # a subclass may lie
    if _PLAIN_KEY.match(text) and len(text) <= MAX_KEY_IN_PATH:
        return "." + text
    return f"[{text[:MAX_KEY_IN_PATH]!a}{'…' if len(text) > MAX_KEY_IN_PATH else ''}]"


def _name(value: object) -> str:
    return type(value).__qualname__


def _text_of_bytes(value: bytes | bytearray | memoryview) -> str:
    raw = bytes(value)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return b64encode(raw).decode("ascii")


def _text_of_datetime(value: datetime) -> str | None:
    # pandas' NaT is a datetime that differs from itself.
    if value != value:  # noqa: PLR0124
        return None
    offset = value.utcoffset()
    if offset is None:
        return value.isoformat() + "Z"
    if offset % _MINUTE:  # RFC 3339 has no offsets with seconds
        value = value.astimezone(UTC)
    return value.isoformat().replace("+00:00", "Z")


def _number_or_null(value: Decimal) -> str | None:
    return str(value) if value.is_finite() else None


def _int_or_text(value: int) -> int | str:
    plain = int(value)
    return plain if _INT64_MIN <= plain <= _UINT64_MAX else str(plain)


def _own_dict(value: dict[Any, Any]) -> dict[Any, Any]:
    return dict(value)


# One entry per family; the nearest along the method resolution order wins.
_BY_TYPE: Final[dict[type[Any], Callable[[Any], Any]]] = {
    Decimal: _number_or_null,  # exact, as text: a float would round money
    UUID: str,
    datetime: _text_of_datetime,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: timedelta.total_seconds,  # a number of seconds
    bytes: _text_of_bytes,  # its text if it is UTF-8, else base64
    bytearray: _text_of_bytes,
    memoryview: _text_of_bytes,
    PurePath: str,
    set: list,
    frozenset: list,
    deque: list,
    tuple: list,
    list: list,
    dict: _own_dict,
    str: without_surrogates,
    float: float,
    int: _int_or_text,
}
_TEXT_KEYS: Final = (Decimal, UUID, date, time, bytes, bytearray, PurePath)


def _plain_text(key: Any) -> str:
    text = simplify(key)
    if not isinstance(text, str):
        raise Unencodable(f"a key of type {_name(key)} has no JSON form")
    return without_surrogates(text)


def _by_shape(value: Any) -> Any:
    """Recognise models by what they offer, so that no model library needs to be imported."""
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(value, Set):
        return list(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    cls: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, type):
        raise Unencodable(f"a class ({value.__qualname__}) has no JSON form")
    if dataclasses.is_dataclass(value):
        return _fields(value, (field.name for field in dataclasses.fields(value)))
    attrs_fields = getattr(cls, "__attrs_attrs__", None)
    if attrs_fields is not None:
        return _fields(value, (field.name for field in attrs_fields))
    struct_fields = getattr(cls, "__struct_fields__", None)  # msgspec
    if struct_fields is not None:
        return _fields(value, struct_fields)
    if callable(getattr(cls, "model_dump", None)):  # pydantic: its own serialisers know best
        return value.model_dump(mode="json")
    if callable(getattr(cls, "tolist", None)):  # numpy arrays and scalars
        return value.tolist()
    raise Unencodable(f"a value of type {_name(value)} has no JSON form")


def _fields(value: Any, names: Iterable[str]) -> dict[str, Any]:
    # A leading underscore means private, as in orjson's own handling of dataclasses.
    return {name: getattr(value, name) for name in names if not name.startswith("_")}
