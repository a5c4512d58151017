"""Whether a message is what a test expects, and if none is, how far the nearest were off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final, TypeGuard

import orjson

from salesmachine_async._core.jsonable import raise_invalid
from salesmachine_async._core.message import encode

__all__ = ["Pattern"]

# How many near misses, and how many messages, a failure shows.
NEAREST: Final = 3
SHOWN: Final = 20
# Characters that are looked at to tell which of two texts is nearer.
MAX_COMPARED: Final = 200

_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class _Difference:
    path: str
    wanted: object
    found: object


class Pattern:
    """
    A partial message: what it names must be there and be equal, whatever else there is.

    Inside mappings the same holds; lists must be equal as a whole. A value is equal to what it is on the wire: a
    datetime or a Decimal to its text.

    Args:
        kind: What is expected, for people: ``event``, ``contact``, ``account``.
        uids: Of the message, by name; those that are None do not matter.
        params: Of its params.
    """

    def __init__(self, kind: str, uids: Mapping[str, str | int | None], params: Mapping[str, Any]) -> None:
        self._kind = kind
        self._uids = {name: str(uid) for name, uid in uids.items() if uid is not None}
        self._params = params

    def __str__(self) -> str:
        """Say what is expected: ``event with event_uid='order', params.plan='pro'``."""
        wanted = [f"{name}={value!r}" for name, value in self._uids.items()]
        wanted += [f"params.{name}={value!r}" for name, value in self._params.items()]
        return f"{self._kind} with {', '.join(wanted)}" if wanted else self._kind

    def fits(self, message: Mapping[str, Any]) -> bool:
        """Whether *message* is what is expected."""
        return kind_of(message) == self._kind and not self._differences(message)

    def explain(self, messages: Iterable[Mapping[str, Any]], headline: str = "") -> str:
        """Say that there is none (or *headline*), and show the nearest misses and what there is instead."""
        there = list(messages)
        lines = [f"{headline or f'no {self}'}; {_number(len(there))}"]
        for differences, message in self._nearest(there):
            lines += ["", f"  {_title(message)}, but:"]
            for each in differences:
                lines.append(f"    - {each.path}: {each.wanted!r}")
                lines.append(f"    + {each.path}: {_shown(each.found)}")
        shown = there[-SHOWN:]
        if shown:
            lines += ["", "All, in order:" if len(shown) == len(there) else f"The last {SHOWN}:"]
            lines += [f"  {_title(message)} {message.get('params', '')}" for message in shown]
        return "\n".join(lines)

    def _nearest(self, there: list[Mapping[str, Any]]) -> list[tuple[list[_Difference], Mapping[str, Any]]]:
        # Of equals the latest: tests look at what they have just done.
        misses = [
            (differences, message)
            for message in reversed(there)
            if kind_of(message) == self._kind and (differences := self._differences(message))
        ]
        misses.sort(key=lambda each: len(each[0]))
        # A slip of the pen is nearer than another word. Comparing texts is slow: only of the best.
        return sorted(misses[:SHOWN], key=lambda each: (len(each[0]), -_likeness(each[0])))[:NEAREST]

    def _differences(self, message: Mapping[str, Any]) -> list[_Difference]:
        found = [
            _Difference(name, uid, message.get(name, _MISSING))
            for name, uid in self._uids.items()
            if message.get(name) != uid
        ]
        return found + list(_compare("params", self._params, message.get("params", {})))


def _likeness(differences: list[_Difference]) -> float:
    return sum(
        SequenceMatcher(None, str(each.wanted)[:MAX_COMPARED], str(each.found)[:MAX_COMPARED]).ratio()
        for each in differences
    )


def kind_of(message: Mapping[str, Any]) -> str:
    """Return what a message is. An alias has no method on the wire."""
    return str(message.get("method", "alias"))


def _compare(path: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterable[_Difference]:
    for name, value in wanted.items():
        there, deeper = found.get(name, _MISSING), f"{path}.{name}"
        if _is_mapping(value) and value and _is_mapping(there):
            yield from _compare(deeper, value, there)
        elif not (_equal(there, value) or _equal(there, _on_the_wire(value))):
            yield _Difference(deeper, value, there)


def _is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def _equal(found: object, wanted: object) -> bool:
    """Compare as JSON does: 1 is 1.0, but true is not 1."""
    if isinstance(found, bool) and isinstance(wanted, int | float):
        return found is wanted
    if isinstance(wanted, bool) and isinstance(found, int | float):
        return False
    return bool(wanted == found)  # in this order: *wanted* may be an object made for comparing


def _on_the_wire(value: object) -> object:
    """Return what the agent makes of a value; itself if the agent would not send it."""
    try:
        return orjson.loads(encode({"value": value}, raise_invalid))["value"]
    except Exception:  # noqa: BLE001 (an object made for comparing can be anything)
        return value


def _title(message: Mapping[str, Any]) -> str:
    uids = [
        f"{name}={message[name]!r}" for name in ("event_uid", "contact_uid", "account_uid", "alias") if name in message
    ]
    return f"{kind_of(message)} with {', '.join(uids)}"


def _shown(found: object) -> str:
    return "(missing)" if found is _MISSING else repr(found)


def _number(count: int) -> str:
    if not count:
        return "no message at all was tracked."
    return "1 message was tracked in all." if count == 1 else f"{count} messages were tracked in all."
