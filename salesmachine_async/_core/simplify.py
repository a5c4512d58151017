"""
Conversions of types without a JSON form: each type has one form, wherever the value stands.

`docs/values.md` lists all types; the tests check each entry. Types of other libraries are recognised by their names or
their attributes, so that no library is imported.
"""

from __future__ import annotations

import dataclasses
import re
from base64 import b64encode
from collections import UserList, UserString, deque
from collections.abc import Callable, Iterable, Mapping, Set, ValuesView
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from math import isfinite
from pathlib import PurePath
from types import NoneType
from typing import Any, Final, TypeVar, cast
from uuid import UUID

__all__ = [
    "LEAVES",
    "Unencodable",
    "is_json_int",
    "is_lazy_text",
    "is_nothing",
    "name_of",
    "real",
    "simplify",
    "without_surrogates",
]

T = TypeVar("T")

# Types with a JSON form. `type(value) in` is exact: a subclass is converted by the table.
LEAVES: Final = frozenset({str, int, float, bool, NoneType})

_INT64_MIN: Final = -(2**63)
_UINT64_MAX: Final = 2**64 - 1
_MINUTE: Final = timedelta(minutes=1)


class Unencodable(TypeError):
    """A value has no JSON form."""


def real(cls: type[T]) -> type[T]:
    """Return the class of the module `datetime` behind *cls*, which may be freezegun's subclass at the import."""
    return next((cast("type[T]", base) for base in cls.__mro__ if base.__module__ == "datetime"), cls)


_Datetime: Final = real(datetime)
_Date: Final = real(date)


def simplify(value: Any) -> Any:
    """
    Convert a value without a JSON form by one step.

    The result may need another conversion, or contain values that need one.

    Raises:
        Unencodable: The value has no JSON form. Its ``repr`` is never used, because it could leak data or fail.
    """
    # `isinstance` is avoided, because proxies and mocks claim the class of another object.
    cls: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if _full_name(cls) in _ABSENT:
        return None
    if issubclass(cls, Enum):  # before the table, which would find a str or int mixed in
        return value.value
    for base in cls.__mro__:
        convert = _BY_TYPE.get(base)
        if convert is not None:
            return convert(value)
        if _full_name(base) in _BY_STR or _full_name(base) in _LAZY:
            return str(value)
    return _by_shape(value, cls)


def without_surrogates(text: str) -> str:
    """
    Return *text* as an exact `str` of valid Unicode: a surrogate pair is joined, a lone one is U+FFFD.

    The round trip through UTF-16 joins the halves of a pair.
    """
    text = str.__str__(text)  # a subclass may override it
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def is_json_int(value: int) -> bool:
    """Return whether JSON readers keep *value* exact: a 64-bit integer, signed or not."""
    return _INT64_MIN <= value <= _UINT64_MAX


def is_nothing(cls: type[Any]) -> bool:
    """Return whether a class is that of ``attrs.NOTHING``, an Enum whose value orjson would write."""
    return _full_name(cls) == ("attr", "_Nothing")


def is_lazy_text(cls: type[Any]) -> bool:
    """Return whether a class is that of Django's lazy translations."""
    return any(_full_name(base) in _LAZY for base in cls.__mro__)


def name_of(value: object) -> str:
    """Return the name of a value's type, for the text of an error."""
    return _name(type(value))


def _name(cls: type[Any]) -> str:
    # A metaclass may override the attribute, and raise.
    return str(type.__getattribute__(cls, "__qualname__"))


def _full_name(cls: type[Any]) -> tuple[str, str]:
    """Return the top-level package and the name of a class, because libraries move classes between modules."""
    return str(cls.__module__).partition(".")[0], cls.__qualname__


def _text_of_bytes(value: bytes | bytearray | memoryview) -> str:
    raw = bytes(value)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return b64encode(raw).decode("ascii")


def _text_of_datetime(value: datetime) -> str | None:
    # pandas' NaT is a datetime that does not equal itself.
    if value != value:  # noqa: PLR0124
        return None
    offset = value.utcoffset()
    if offset is None:
        return _Datetime.isoformat(value) + "Z"
    if offset % _MINUTE:  # RFC 3339 has no offsets with seconds
        value = value.astimezone(UTC)
    return _Datetime.isoformat(value).replace("+00:00", "Z")


def _seconds(value: timedelta) -> float:
    return float(value.total_seconds())


def _number_or_null(value: Decimal) -> str | None:
    return str(value) if value.is_finite() else None


def _float_or_null(value: float) -> float | None:
    plain = float(value)
    return plain if isfinite(plain) else None


def _int_or_text(value: int) -> int | str:
    plain = int.__int__(value)
    return plain if is_json_int(plain) else str(plain)


def _items_of_dict(value: dict[Any, Any]) -> dict[Any, Any]:
    """Return what a dict holds, as orjson reads it: its methods may be overridden, as those of Werkzeug's MultiDict."""
    items: Any = dict.items(value)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return dict(items)


def _items_of_list(value: list[Any]) -> list[Any]:
    items: Any = list.__iter__(value)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return list(items)


# One entry for each family; the nearest in the method resolution order is used.
_BY_TYPE: Final[dict[type[Any], Callable[[Any], Any]]] = {
    Decimal: _number_or_null,  # as a string, because a float would round amounts of money
    _Datetime: _text_of_datetime,
    _Date: _Date.isoformat,
    time: time.isoformat,
    timedelta: _seconds,
    bytes: _text_of_bytes,  # its text if it is UTF-8, else base64
    bytearray: _text_of_bytes,
    memoryview: _text_of_bytes,
    str: without_surrogates,
    float: _float_or_null,
    int: _int_or_text,
    dict: _items_of_dict,
    list: _items_of_list,
    **dict.fromkeys((tuple, set, frozenset, deque, UserList), list),
    **dict.fromkeys((UUID, Fraction, PurePath, UserString), str),
    **dict.fromkeys((IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network), str),
}
_LAZY: Final = frozenset({("django", "Promise")})
# Types converted by `str`, by package and name: URLs, and pydantic's secrets, whose string is asterisks.
_BY_STR: Final = frozenset(
    {
        ("yarl", "URL"),
        ("httpx", "URL"),
        ("starlette", "URL"),
        ("pydantic", "_BaseUrl"),
        ("pydantic", "_BaseMultiHostUrl"),
        ("pydantic_core", "Url"),
        ("pydantic_core", "MultiHostUrl"),
        ("pydantic", "_SecretBase"),
        ("pydantic", "Secret"),
    }
)
# Types of markers for a missing value.
_ABSENT: Final = frozenset(
    {
        ("dataclasses", "_MISSING_TYPE"),
        ("msgspec", "UnsetType"),
        ("msgspec", "NoDefaultType"),
        ("pandas", "NAType"),
        ("pydantic_core", "PydanticUndefinedType"),
        ("typing_extensions", "Sentinel"),  # pydantic's MISSING
        ("typing_extensions", "sentinel"),
    }
)


# Of numpy's durations and times: multiple and unit; the seconds of each unit as a fraction.
_UNIT: Final = re.compile(r"\[(\d*)([a-zA-Z]+)\]")
_MICRO: Final = 10**6
_SECONDS: Final = {
    "W": (604_800, 1),
    "D": (86_400, 1),
    "h": (3600, 1),
    "m": (60, 1),
    "s": (1, 1),
    "ms": (1, 1000),
    "us": (1, _MICRO),
    "ns": (1, 10**9),
    "ps": (1, 10**12),
    "fs": (1, 10**15),
    "as": (1, 10**18),
}


def _by_shape(value: Any, cls: Any) -> Any:
    """Convert containers and models, which are recognised by their attributes."""
    if issubclass(cls, Mapping):
        return dict(value)
    if issubclass(cls, (Set, ValuesView)):
        return list(value)
    if issubclass(cls, type):
        raise Unencodable(f"a class ({_name(value)}) has no JSON form")
    if dataclasses.is_dataclass(cls):
        return _fields(value, (field.name for field in dataclasses.fields(cls)))
    attrs_fields = getattr(cls, "__attrs_attrs__", None)
    if attrs_fields is not None:
        return _fields(value, (field.name for field in attrs_fields))
    struct_fields = getattr(cls, "__struct_fields__", None)  # msgspec
    if struct_fields is not None:
        return _fields(value, struct_fields)
    if callable(getattr(cls, "model_dump", None)):  # pydantic; its JSON mode would write some values in other forms
        return value.model_dump()
    if callable(getattr(cls, "_asdict", None)):  # SQLAlchemy's rows
        return value._asdict()
    if callable(getattr(cls, "tolist", None)):  # numpy, pandas, array
        return _of_array(value, cls)
    raise Unencodable(f"a value of type {name_of(value)} has no JSON form")


def _of_time(scalar: Any, kind: str) -> Any:
    """
    Return the datetime or date of a numpy time, or the seconds of a duration; None for NaT.

    numpy's own conversions between units overflow without an error.
    """
    if scalar != scalar:  # noqa: PLR0124 (NaT differs from itself)
        return None
    unit = _UNIT.search(scalar.dtype.str)
    seconds = unit and _SECONDS.get(unit[2])
    if kind == "m":
        if not (unit and seconds):
            raise Unencodable("a timedelta64 in years, months or without a unit has no JSON form")
        return int(scalar.astype("int64")) * int(unit[1] or 1) * seconds[0] / seconds[1]
    plain = scalar.tolist()
    if type(plain) is int and seconds and seconds[1] > _MICRO:
        plain = scalar.astype("datetime64[us]").tolist()
    if type(plain) is int:
        raise Unencodable("a datetime64 outside of the years 1 to 9999 has no JSON form")
    return plain


def _fields(value: Any, names: Iterable[str]) -> dict[str, Any]:
    # A leading underscore means private, as in orjson's own handling of dataclasses.
    return {name: getattr(value, name) for name in names if not name.startswith("_")}


def _of_array(value: Any, cls: Any) -> Any:
    """Return the values of an array, or the value of a numpy scalar."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind in ("M", "m") and hasattr(value, "astype"):
        # `tolist` converts times in nanoseconds, the default of numpy and pandas, to plain integers.
        if getattr(value, "ndim", 0):
            return list(value)
        return _of_time(value[()], kind)
    if kind == "V" and getattr(value.dtype, "names", None):
        # A record, field by field, for the same reason.
        return list(value) if getattr(value, "ndim", 0) else [value[name] for name in value.dtype.names]
    plain = value.tolist()
    # numpy's `tolist` does not convert a long double.
    return float(plain) if kind == "f" and type(plain) is cls else plain
