"""Values without a JSON form, and those that fail while they are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, KeysView, Mapping, Set
from datetime import datetime
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from salesmachine_async.errors import InvalidMessage
from tests.support.values import (
    Colour,
    Model,
    Plan,
    clean,
    fast,
    problems_of,
)


class Boom(Exception):
    """Quotes a secret, as foreign exceptions do."""

    def __init__(self) -> None:
        super().__init__("SECRET")

    def __repr__(self) -> str:
        raise AssertionError("its repr was used")


class Unreadable:
    """No model of any kind, and its repr is a trap."""

    def __repr__(self) -> str:
        raise AssertionError("its repr was used")

    __str__ = __repr__


class BrokenModel(Unreadable):
    def model_dump(self) -> Any:
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
    """Fails even in `isinstance`, as an unbound lazy proxy does."""

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
        (len, "a value of type builtin_function_or_method has no JSON form"),
        (lambda: 1, "a value of type function has no JSON form"),
        (..., "a value of type ellipsis has no JSON form"),
        (NotImplemented, "a value of type NotImplementedType has no JSON form"),
        (ValueError("SECRET"), "a value of type ValueError has no JSON form"),
        (SimpleNamespace(a="SECRET"), "a value of type SimpleNamespace has no JSON form"),
        (BrokenModel(), "BrokenModel could not be converted (Boom)"),
        (BrokenArray(), "BrokenArray could not be converted (Boom)"),
        (BrokenMapping(), "BrokenMapping could not be converted (Boom)"),
        (BrokenKeys(), "BrokenKeys could not be converted (Boom)"),
        (BrokenSet(), "BrokenSet could not be converted (Boom)"),
        (BrokenClass(), "a value of type BrokenClass has no JSON form"),
        (BrokenData(), "BrokenData could not be converted (AttributeError)"),
        (BrokenPath("x"), "BrokenPath could not be converted (Boom)"),
        (BrokenNumber(1), "BrokenNumber could not be converted (Boom)"),
        (Endless(), "Endless could not be converted (RecursionError)"),
        (released(), "memoryview could not be converted (ValueError)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_without_a_json_form_is_named_by_its_type(value: Any, problem: str) -> None:
    """The error shows neither the value's repr nor the text of its exception; leniently, it becomes null."""
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
    """A datetime that differs from itself, such as pandas' NaT, becomes null."""

    class NotATime(datetime):
        def __eq__(self, other: object) -> bool:
            return False

        def __ne__(self, other: object) -> bool:
            return True

        __hash__ = datetime.__hash__

    assert clean(NotATime(2026, 1, 1)) is None
