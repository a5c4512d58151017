"""Matching of a JSON object against a partial one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeGuard

# Marks a path that does not exist, because None is a JSON value.
MISSING: Final = object()


def json_equal(found: object, wanted: object) -> bool:
    """Compare as JSON does: 1 equals 1.0, but true does not equal 1."""
    if isinstance(wanted, bool) or (isinstance(found, bool) and isinstance(wanted, int | float)):
        return found is wanted
    if is_mapping(wanted) and is_mapping(found):
        return found.keys() == wanted.keys() and all(json_equal(found[key], each) for key, each in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(json_equal, found, wanted))  # pyright: ignore[reportUnknownArgumentType]
    # In this order, because *wanted* may be an object that is made for comparisons.
    return bool(wanted == found)


class Difference(NamedTuple):
    """A value that does not match; *found* is `MISSING` if the path does not exist."""

    path: str
    wanted: object
    found: object


class Pattern:
    """
    A partial JSON object: every value it names must exist and be equal; other values are ignored.

    `{"event_uid": "order", "params": {"plan": "pro"}}` and `{"event_uid": "order", "params.plan": "pro"}` are
    equivalent. Arrays must be equal as a whole. A key that contains a dot is found, too.

    Args:
        data: The partial object.
        equal: Compares a found value with a wanted one.
    """

    def __init__(self, data: Mapping[str, Any], equal: Callable[[object, object], bool] = json_equal) -> None:
        self._wanted = list(_leaves(data, ""))
        self._equal = equal

    def differences(self, item: Mapping[str, Any]) -> list[Difference]:
        """List the values in which *item* differs."""
        found = ((path, wanted, _look_up(item, path)) for path, wanted in self._wanted)
        return [Difference(*each) for each in found if not self._matches(each[2], each[1])]

    def fits(self, item: Mapping[str, Any]) -> bool:
        """Return whether *item* matches."""
        return all(self._matches(_look_up(item, path), wanted) for path, wanted in self._wanted)

    @property
    def size(self) -> int:
        """Number of values that must match."""
        return len(self._wanted)

    @property
    def longest_path(self) -> int:
        """Number of characters in the longest path."""
        return max((len(path) for path, _ in self._wanted), default=0)

    def _matches(self, found: object, wanted: object) -> bool:
        return found is not MISSING and self._equal(found, wanted)


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether *value* is a mapping."""
    return isinstance(value, Mapping)


def _leaves(value: Any, path: str) -> list[tuple[str, Any]]:
    if not is_mapping(value) or (path and not value):
        return [(path, value)]
    return [leaf for key, each in value.items() for leaf in _leaves(each, f"{path}.{key}" if path else key)]


def _look_up(item: Any, path: str) -> Any:
    if not is_mapping(item):
        return MISSING
    if path in item:
        return item[path]
    head, _, rest = path.partition(".")
    while rest:
        if head in item:
            found = _look_up(item[head], rest)
            if found is not MISSING:
                return found
        part, _, rest = rest.partition(".")
        head = f"{head}.{part}"
    return MISSING
