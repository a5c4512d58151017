"""Matching of messages against the expectation of a test, with an explanation of the nearest misses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from typing import Any, Final

import orjson

from salesmachine_async._core.jsonable import raise_invalid
from salesmachine_async._core.message import encode
from salesmachine_async.sandbox.control.matching import MISSING, Difference, Pattern, json_equal

__all__ = ["Expectation"]

# Number of near misses, and of messages, in the text of a failure.
NEAREST: Final = 3
SHOWN: Final = 20
# Characters compared to decide which of two texts is nearer.
MAX_COMPARED: Final = 200


class Expectation:
    """
    A partial message that a test expects.

    Every value it names must exist and be equal; other values are ignored, also inside mappings. Lists must be equal as
    a whole. A value equals its form on the wire: a datetime or a Decimal equals its text.

    Args:
        kind: The kind of message: ``event``, ``contact``, ``account``, ``alias``.
        uids: The uids by name; None matches any.
        params: Values of its params.
    """

    def __init__(self, kind: str, uids: Mapping[str, str | int | None], params: Mapping[str, Any]) -> None:
        self._kind = kind
        self._uids = {name: str(uid) for name, uid in uids.items() if uid is not None}
        self._params = params
        self._pattern = Pattern({**self._uids, **({"params": params} if params else {})}, _equal)

    def __str__(self) -> str:
        """Describe the expectation: ``event with event_uid='order', params.plan='pro'``."""
        wanted = [f"{name}={value!r}" for name, value in self._uids.items()]
        wanted += [f"params.{name}={value!r}" for name, value in self._params.items()]
        return f"{self._kind} with {', '.join(wanted)}" if wanted else self._kind

    def fits(self, message: Mapping[str, Any]) -> bool:
        """Return whether *message* matches."""
        return kind_of(message) == self._kind and self._pattern.fits(message)

    def explain(self, messages: Iterable[Mapping[str, Any]], headline: str = "") -> str:
        """Explain that no message matches (or *headline*), with the nearest misses and the messages that exist."""
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

    def _nearest(self, there: list[Mapping[str, Any]]) -> list[tuple[list[Difference], Mapping[str, Any]]]:
        # Latest first among equals, because a test usually checks its latest call.
        misses = [
            (differences, message)
            for message in reversed(there)
            if kind_of(message) == self._kind and (differences := self._pattern.differences(message))
        ]
        misses.sort(key=lambda each: len(each[0]))
        # A typing error is nearer than another word. Comparing texts is slow, so only the best are compared.
        return sorted(misses[:SHOWN], key=lambda each: (len(each[0]), -_likeness(each[0])))[:NEAREST]


def _likeness(differences: list[Difference]) -> float:
    return sum(
        SequenceMatcher(None, str(each.wanted)[:MAX_COMPARED], str(each.found)[:MAX_COMPARED]).ratio()
        for each in differences
    )


def kind_of(message: Mapping[str, Any]) -> str:
    """Return the kind of a message; an alias has no method on the wire."""
    return str(message.get("method", "alias"))


def _equal(found: object, wanted: object) -> bool:
    return json_equal(found, wanted) or json_equal(found, _on_the_wire(wanted))


def _on_the_wire(value: object) -> object:
    """Return the value as the agent encodes it; unchanged if the agent cannot encode it."""
    try:
        return orjson.loads(encode({"value": value}, raise_invalid))["value"]
    except Exception:  # noqa: BLE001 (an object made for comparisons can raise anything)
        return value


def _title(message: Mapping[str, Any]) -> str:
    uids = [
        f"{name}={message[name]!r}" for name in ("event_uid", "contact_uid", "account_uid", "alias") if name in message
    ]
    return f"{kind_of(message)} with {', '.join(uids)}"


def _shown(found: object) -> str:
    return "(missing)" if found is MISSING else repr(found)


def _number(count: int) -> str:
    if not count:
        return "no message at all was tracked."
    return "1 message was tracked in all." if count == 1 else f"{count} messages were tracked in all."
