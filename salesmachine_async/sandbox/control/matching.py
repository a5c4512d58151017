"""Matching of a JSON object against a partial one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
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
        most_values: Limit of the values in *data*; None means no limit.
        most_characters: Limit of the length of each path; None means no limit.

    Raises:
        ValueError: *data* exceeds a limit.
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        equal: Callable[[object, object], bool] = json_equal,
        *,
        most_values: int | None = None,
        most_characters: int | None = None,
    ) -> None:
        self._wanted: list[tuple[str, Any]] = []
        # Checked one by one, because many values below a long key would make paths of gigabytes.
        longest = math.inf if most_characters is None else most_characters
        for path, value in _leaves(data, "", longest):
            if len(self._wanted) == most_values or len(path) > longest:
                raise ValueError(f"at most {most_values} values, with paths of at most {most_characters} characters")
            self._wanted.append((path, value))
        self._equal = equal

    def compare(self, item: Mapping[str, Any]) -> Iterator[Difference | None]:
        """Yield for each value its difference in *item*, or None if it matches."""
        for path, wanted in self._wanted:
            found = _look_up(item, path)
            matches = found is not MISSING and self._equal(found, wanted)
            yield None if matches else Difference(path, wanted, found)

    def differences(self, item: Mapping[str, Any]) -> list[Difference]:
        """List the values in which *item* differs."""
        return [difference for difference in self.compare(item) if difference is not None]

    def fits(self, item: Mapping[str, Any]) -> bool:
        """Return whether *item* matches."""
        return not any(self.compare(item))

    @property
    def size(self) -> int:
        """Number of values that must match."""
        return len(self._wanted)


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether *value* is a mapping."""
    return isinstance(value, Mapping)


def _leaves(value: Any, path: str, longest: float) -> Iterator[tuple[str, Any]]:
    if not is_mapping(value) or (path and not value) or len(path) > longest:
        yield path, value
        return
    for key, each in value.items():
        yield from _leaves(each, f"{path}.{key}" if path else key, longest)


def _look_up(item: Any, path: str) -> Any:
    if not is_mapping(item):
        return MISSING
    if path in item:
        return item[path]
    if len(item) < path.count("."):
        # So that the time is at most proportional to the number of keys, however many dots the path has.
        for key, each in item.items():
            if path.startswith(f"{key}.") and (found := _look_up(each, path[len(key) + 1 :])) is not MISSING:
                return found
        return MISSING
    head, _, rest = path.partition(".")
    while rest:
        if head in item:
            found = _look_up(item[head], rest)
            if found is not MISSING:
                return found
        part, _, rest = rest.partition(".")
        head = f"{head}.{part}"
    return MISSING
