"""Whether an item is like a pattern, and where it differs."""

from __future__ import annotations

from typing import Any

from salesmachine_async.sandbox.messages import is_object

# Marks what is not there, where None is a value.
MISSING = object()


class Pattern:
    """
    A partial item: what it names must be there and be equal, whatever else there is.

    `{"event_uid": "order", "params": {"plan": "pro"}}` and `{"event_uid": "order", "params.plan": "pro"}` mean the
    same. Lists must be equal as a whole. A key with a dot in it is found too.

    Args:
        data: the partial item.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self._wanted = list(_leaves(data, ""))

    def differences(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        """List what *item* lacks: `path`, `wanted` and, unless the path is missing, `found`."""
        differences: list[dict[str, Any]] = []
        for path, wanted in self._wanted:
            found = _look_up(item, path)
            if not _equal(found, wanted):
                told = {"path": path, "wanted": wanted}
                differences.append(told if found is MISSING else {**told, "found": found})
        return differences

    def fits(self, item: dict[str, Any]) -> bool:
        """Whether *item* has all that is wanted."""
        return all(_equal(_look_up(item, path), wanted) for path, wanted in self._wanted)

    @property
    def size(self) -> int:
        """How many values are wanted."""
        return len(self._wanted)


def _leaves(value: Any, path: str) -> list[tuple[str, Any]]:
    if not is_object(value) or (path and not value):
        return [(path, value)]
    return [leaf for key, each in value.items() for leaf in _leaves(each, f"{path}.{key}" if path else key)]


def _look_up(item: Any, path: str) -> Any:
    if not is_object(item):
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


def _equal(found: Any, wanted: Any) -> bool:
    """Compare as JSON does: 1 is 1.0, but true is not 1."""
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(_equal, found, wanted))  # pyright: ignore[reportUnknownArgumentType]
    if is_object(wanted) and is_object(found):
        return found.keys() == wanted.keys() and all(_equal(found[key], each) for key, each in wanted.items())
    return bool(found == wanted)
