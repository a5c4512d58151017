"""Arguments that raise, lie or never end when they are read."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any


class Hostile(Mapping[str, Any]):
    """A mapping whose every method raises, as a bound proxy whose object is gone."""

    def _raise(self, *_: object) -> Any:
        raise LookupError("SECRET")

    __bool__ = __len__ = __getitem__ = __iter__ = keys = items = __contains__ = __eq__ = __hash__ = _raise
    __repr__ = __str__ = _raise


class HostileDict(dict[str, Any]):
    """A dict whose every method raises."""

    def _raise(self, *_: object) -> Any:
        raise LookupError("SECRET")

    __bool__ = __len__ = __getitem__ = __iter__ = keys = items = copy = get = _raise


class Liar:
    """A proxy that claims to be of another class."""

    def __init__(self, claimed: type) -> None:
        self._claimed = claimed

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self._claimed


class OnceHashable(str):
    """A key whose hash can be taken once."""

    __slots__ = ("hashed",)

    def __hash__(self) -> int:
        if hasattr(self, "hashed"):
            raise LookupError("SECRET")
        self.hashed = True
        return 1


class NamelessType(type):
    """The type of classes that raise when their name is read."""

    def __getattribute__(cls, name: str) -> Any:
        raise LookupError("SECRET")


def raising(self: object) -> Iterator[int]:
    raise LookupError("SECRET")


class HostileMeta(type):
    """The type of classes that can be neither hashed, compared nor looked into."""

    def __hash__(cls) -> int:
        raise LookupError("SECRET")

    def __eq__(cls, other: object) -> bool:
        raise LookupError("SECRET")

    def __getattr__(cls, name: str) -> Any:
        raise LookupError("SECRET")

    def __instancecheck__(cls, instance: object) -> bool:
        raise LookupError("SECRET")

    __subclasscheck__ = __instancecheck__


class Unreadable:
    """An object that raises when any attribute is read, its class too."""

    def __getattribute__(self, name: str) -> Any:
        raise LookupError("SECRET")


class UnreadableDict(dict[str, Any]):
    """A dict that raises when its class is read."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise LookupError("SECRET")


class Key(str):
    """A key that has the hash of "release", and raises when it is compared."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash("release")

    def __eq__(self, other: object) -> bool:
        raise LookupError("SECRET")


class Endless:
    """An object that is converted to itself, without end."""

    def model_dump(self) -> Any:
        return self

    _asdict = tolist = model_dump


class BrokenMapping(Mapping[str, Any]):
    """A mapping whose items raise after the first."""

    def __getitem__(self, key: str) -> Any:
        return 1

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[str]:
        yield "a"
        raise LookupError("SECRET")


class BrokenTime(datetime):
    """A time whose offset raises."""

    def utcoffset(self) -> Any:
        raise LookupError("SECRET")


class BrokenDecimal(Decimal):
    """A number whose text raises."""

    def __str__(self) -> str:
        raise LookupError("SECRET")


def dead_proxy() -> Any:
    """Return a weak reference to an object that is gone."""
    return weakref.proxy(type("Gone", (), {})())


def deep() -> Any:
    """Return a list in a list, ten thousand times."""
    value: list[Any] = []
    for _ in range(10_000):
        value = [value]
    return value


def cyclic() -> Any:
    """Return a list that holds itself."""
    value: list[Any] = []
    value.append({"again": value})
    return value


HOSTILE: dict[str, Callable[[], Any]] = {
    "mapping": Hostile,
    "dict": lambda: HostileDict(a=1),
    "liar dict": lambda: Liar(dict),
    "liar str": lambda: Liar(str),
    "liar int": lambda: Liar(int),
    "liar mapping": lambda: Liar(Mapping),
    "liar type": lambda: Liar(type),
    "key hashed twice": lambda: {OnceHashable("k"): object()},
    "key hashed twice in a dict of its own kind": lambda: type("Own", (dict,), {})({OnceHashable("k"): 1}),
    "nameless": lambda: NamelessType("Nameless", (), {})(),
    "set": lambda: type("Set", (set,), {"__iter__": raising})({1}),
    "list": lambda: type("List", (list,), {"__iter__": raising})([1]),
    "int": lambda: type("Int", (int,), {"__int__": raising})(1),
    "str": lambda: type("Str", (str,), {"__str__": raising, "__len__": raising, "__bool__": raising})("x"),
    "metaclass": lambda: HostileMeta("Meta", (), {})(),
    "class": lambda: HostileMeta("Meta", (), {}),
    "unreadable": Unreadable,
    "unreadable dict": lambda: UnreadableDict(a=1),
    "a key that cannot be compared": lambda: {Key("x"): 1},
    "endless": Endless,
    "broken mapping": BrokenMapping,
    "time": lambda: BrokenTime(2026, 1, 1),
    "decimal": lambda: BrokenDecimal(1),
    "attrs without fields": lambda: type("Attrs", (), {"__attrs_attrs__": 5})(),
    "dataclass without fields": lambda: type("Data", (), {"__dataclass_fields__": 5})(),
    "struct without fields": lambda: type("Struct", (), {"__struct_fields__": ("a", 5)})(),
    "dead proxy": dead_proxy,
    "deep": deep,
    "cyclic": cyclic,
    "generator": lambda: (1 / 0 for _ in [1]),
    "huge int": lambda: 10**10_000,
    "huge negative int": lambda: -(10**10_000),
    "huge key": lambda: {10**10_000: 1},
    "huge text": lambda: "x" * 600_000,
    "surrogates": lambda: "\ud800" * 5,
    "tuple": lambda: type("Tuple", (tuple,), {"__iter__": raising, "__len__": raising})((1,)),
    "float": lambda: type("Float", (float,), {"__float__": raising})(5),
    "bytes": lambda: type("Bytes", (bytes,), {"decode": raising, "__len__": raising, "__bool__": raising})(b"a"),
}
