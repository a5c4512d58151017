"""Values for the tests of encoding, and both walks over them."""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from collections.abc import Iterator, Mapping, Set
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from typing import Any, ClassVar, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import orjson
import pydantic

from salesmachine_async._core.jsonable import (
    Cleaner,
    own_dict,
    raise_invalid,
)
from salesmachine_async._core.message import OPTIONS

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
        return orjson.dumps(own_dict({"v": value}, 0)["v"], None, OPTIONS)
    except Exception:
        return None


def problems_of(value: Any, path: str = "params") -> tuple[Any, list[tuple[str, str]]]:
    """Return what a lenient cleaner makes of a value, and what it reported."""
    reported: list[tuple[str, str]] = []
    return Cleaner(lambda path, problem: reported.append((path, problem))).clean(value, path), reported
