"""
Conversion of values to plain ones: exact str, int, float, bool, None, dict and list, in copies owned by the encoder.

`own_dict` is the fast conversion, for values that all have a JSON form; it raises at the first value without one.
`Cleaner` is the slow one, which also handles everything that orjson rejects: keys that are not strings, integers beyond
64 bits, lone surrogates, depth and cycles. It reports each problem with its path. Both have the same result for the
same value.

From here orjson receives only plain values. A Fragment, which it would copy unchecked, has no JSON form; and no Python
code runs while orjson encodes, so that no other thread can change a container during that time. (The fast way of
`message` passes the caller's values, an Enum among them, whose value Python code returns.)
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

# The limit of params, themselves included: that of orjson is 254 levels, and one is the message.
MAX_DEPTH: Final = 253
# The longest part of a key that an error quotes, because a key may hold any data.
MAX_KEY_IN_PATH: Final = 40

_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
# The most conversions of a key; an Enum of an Enum of a numpy integer needs three.
MAX_STEPS: Final = 8
_NO_KEYS: Final = frozenset({dict, list, tuple, float, NoneType})


def own_dict(source: dict[Any, Any], depth: int) -> dict[Any, Any]:
    """
    Return a plain copy of an exact dict, down to its last value.

    Raises:
        Unencodable: A value has no JSON form, or is nested too deeply.
        Exception: The user's own code raised it during a conversion.
    """
    # The copy is made first, so that another thread cannot change what is checked and sent.
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
    """Copy a dict's stored items; a subclass may override `items` and `copy`."""
    if type(params) is dict:
        return params.copy()
    items: Any = dict.items(params)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return dict(items)


class Cleaner:
    """
    Converts a value to a copy that orjson accepts.

    Args:
        on_problem: Called with the path and the problem of each value without a JSON form. If it returns instead of
            raising, the value becomes null.
    """

    __slots__ = ("_ancestors", "_on_problem")

    def __init__(self, on_problem: Callable[[str, str], None]) -> None:
        self._on_problem = on_problem
        # The ids of the containers around the current value: finding one again means that it contains itself.
        self._ancestors: set[int] = set()

    def clean(self, value: Any, path: str, depth: int = 0) -> Any:
        """Return the plain copy of *value*, whose place is *path*."""
        cls: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
        # By identity: the hash of a class is its metaclass's, which may be the user's own code.
        if cls is bool or cls is float or cls is NoneType:
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
        except RecursionError:  # the caller had used most of the stack
            return self._problem(path, "is nested deeper than the stack allows")
        finally:
            self._ancestors.discard(id(value))

    def _container(self, value: Any, cls: type[Any], path: str, depth: int) -> Any:
        if cls is dict:
            return self._mapping(value, path, depth)
        if cls is list or cls is tuple:
            return [self.clean(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(tuple(value))]
        plain = self._guarded(simplify, value, path)
        # Each conversion counts as a level, so that values converted to one another without end reach the limit.
        return self.clean(plain, path, depth + 1)

    def _mapping(self, mapping: dict[Any, Any], path: str, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        # The items are copied first, because another thread may change the mapping.
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
        """Convert a value by code that may be the user's own and may raise any exception."""
        try:
            return convert(value)
        except Unencodable as exc:
            return self._problem(path, str(exc))
        except Exception as exc:  # noqa: BLE001
            # Only the type is named, because the text of an exception may quote the value.
            return self._problem(path, f"{name_of(value)} could not be converted ({type(exc).__name__})")

    def _problem(self, path: str, problem: str) -> None:
        self._on_problem(path, problem)


def raise_invalid(path: str, problem: str) -> None:
    """Raise `InvalidMessage`; this is the strict ``on_problem``."""
    raise InvalidMessage(path, problem)


def key_text(key: Any) -> str:
    """
    Return the JSON key for the *key* of a mapping: the text of its JSON value, which must not be a container.

    Raises:
        Unencodable: The key has no JSON form.
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
    """Return *key* in the form of a path: ``.name``; quoted, escaped and shortened if it is not a plain word."""
    if not issubclass(type(key), str):
        return f"[<{name_of(key)}>]"
    text = str.__str__(cast("str", key))  # a subclass may override it
    if _PLAIN_KEY.match(text) and len(text) <= MAX_KEY_IN_PATH:
        return "." + text
    return f"[{text[:MAX_KEY_IN_PATH]!a}{'…' if len(text) > MAX_KEY_IN_PATH else ''}]"
