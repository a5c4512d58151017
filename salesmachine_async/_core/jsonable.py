"""
Values become plain: exact str, int, float, bool, None, dict and list, which nothing but the encoder holds.

`own_dict` is the fast walk, for values that all have a JSON form; it raises at the first that has none. `Cleaner` is
the thorough one, for what orjson refuses as well: keys that are not text, integers beyond 64 bits, lone surrogates,
depth and cycles. It names each problem by its path. Both give the same result for the same value.

orjson sees nothing else. A Fragment, which it would copy out unchecked, is a value without a JSON form like any other;
and no Python code runs during its work, in whose middle another thread could change what it reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import isfinite
from types import NoneType
from typing import Any, Final, cast

import orjson

from salesmachine_async._core.simplify import (
    LEAVES,
    Unencodable,
    is_json_int,
    name_of,
    simplify,
    without_surrogates,
)
from salesmachine_async.errors import InvalidMessage

__all__ = ["MAX_DEPTH", "Cleaner", "key_in_path", "key_text", "own_dict", "raise_invalid", "stored"]

# Below orjson's own limit of 254 levels, less the levels of the message around the params.
MAX_DEPTH: Final = 200
# A key is quoted in an error only this far: it may hold anything.
MAX_KEY_IN_PATH: Final = 40

_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
# What is written as it is; `type(value) in` is exact, so subclasses take the longer way.
_ATOMS: Final = frozenset({bool, float, NoneType})
# Simplifying a key ends here: an Enum of an Enum of a numpy integer is three steps.
MAX_STEPS: Final = 8
_NO_KEYS: Final = frozenset({dict, list, tuple, float, NoneType})


def own_dict(source: dict[Any, Any], depth: int) -> dict[Any, Any]:
    """
    Return a plain copy of an exact dict, down to its last value.

    Raises:
        Unencodable: A value has no JSON form, or is nested too deeply.
        Exception: Code of the user's, run to convert a value, raised it.
    """
    # The copy comes first: whatever another thread does to the source, the copy is what is checked, and what is sent.
    own = source.copy()
    for key, value in own.items():
        if type(value) not in LEAVES:
            own[key] = _own(value, depth + 1)
    return own


def _own(value: Any, depth: int) -> Any:
    if depth >= MAX_DEPTH:
        raise Unencodable(f"is nested deeper than {MAX_DEPTH} levels")
    cls: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if cls is dict:
        return own_dict(value, depth)
    if cls is list or cls is tuple:
        return [item if type(item) in LEAVES else _own(item, depth + 1) for item in tuple(value)]
    plain = simplify(value)
    return plain if type(plain) in LEAVES else _own(plain, depth + 1)


def stored(params: dict[Any, Any]) -> dict[Any, Any]:
    """Copy the content of a dict past the methods of its class, which may answer otherwise, or raise."""
    if type(params) is dict:
        return params.copy()
    items: Any = dict.items(params)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return dict(items)


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
            return value if is_json_int(value) else self._guarded(str, value, path)
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
        # A copy of the items first: another thread may change the mapping.
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
            # Only the type is named: the text of a foreign exception may quote the value.
            return self._problem(path, f"{name_of(value)} could not be converted ({type(exc).__name__})")

    def _problem(self, path: str, problem: str) -> None:
        self._on_problem(path, problem)


def raise_invalid(path: str, problem: str) -> None:
    """Raise the problem as `InvalidMessage`: the strict ``on_problem``."""
    raise InvalidMessage(path, problem)


def key_text(key: Any) -> str:
    """
    Return the JSON key for a mapping's *key*: the text of the value that it would be, if that is no container.

    Raises:
        Unencodable: The key has no obvious text.
    """
    plain = key
    for _ in range(MAX_STEPS):
        cls: Any = type(plain)  # pyright: ignore[reportUnknownVariableType]
        if cls is str:
            return without_surrogates(plain)
        if cls is int or (cls is float and isfinite(plain)):
            return repr(plain)
        if cls is bool or plain is key is None:
            return orjson.dumps(plain).decode()
        if cls in _NO_KEYS:
            break
        try:
            plain = simplify(plain)
        except Unencodable:
            break
    raise Unencodable(f"a key of type {name_of(key)} has no JSON form")


def key_in_path(key: object) -> str:
    """Return how *key* is shown in a path: ``.name``, or quoted, escaped and cut short when it is no plain word."""
    if not issubclass(type(key), str):
        return f"[<{name_of(key)}>]"
    text = str.__str__(cast("str", key))  # a subclass may lie
    if _PLAIN_KEY.match(text) and len(text) <= MAX_KEY_IN_PATH:
        return "." + text
    return f"[{text[:MAX_KEY_IN_PATH]!a}{'…' if len(text) > MAX_KEY_IN_PATH else ''}]"
