"""Inference of a first tracking plan from messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from salesmachine_async.sandbox.messages import is_array, is_object

if TYPE_CHECKING:
    from collections.abc import Iterable

    from salesmachine_async.sandbox.messages import ParsedMessage

# Limits, because names of events and of params can be random texts.
MAX_EVENTS = 10_000
MAX_PROPERTIES = 500
MAX_DEPTH = 5

TYPES: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
)


class ValueShape:
    """The types of the values at one place, and the shapes below it."""

    def __init__(self) -> None:
        self._types: set[str] = set()
        self._objects = 0
        self._properties: dict[str, ValueShape] = {}
        self._present: dict[str, int] = {}
        self._items: ValueShape | None = None

    def add(self, value: Any, depth: int = 0) -> None:
        """Take one value into account."""
        self._types.add(_type(value))
        if depth >= MAX_DEPTH:
            return
        if is_object(value):
            self._objects += 1
            for name, each in value.items():
                if name in self._properties or len(self._properties) < MAX_PROPERTIES:
                    self._properties.setdefault(name, ValueShape()).add(each, depth + 1)
                    self._present[name] = self._present.get(name, 0) + 1
        elif is_array(value):
            self._items = self._items or ValueShape()
            for each in value:
                self._items.add(each, depth + 1)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema that all values satisfy."""
        types = sorted(self._types - ({"integer"} if "number" in self._types else set()))
        schema: dict[str, Any] = {"type": types[0] if len(types) == 1 else types}
        required = sorted(name for name, count in self._present.items() if count == self._objects)
        if required and types == ["object"]:
            schema["required"] = required
        if self._properties:
            schema["properties"] = {name: self._properties[name].schema() for name in sorted(self._properties)}
        if self._items is not None and self._items._types:
            schema["items"] = self._items.schema()
        return schema


def infer_plan(messages: Iterable[ParsedMessage]) -> dict[str, Any]:
    """
    Return a plan that all *messages* satisfy.

    A field that every message of an event has is required. The fields of contacts and accounts are optional, because
    each message updates only some of them.
    """
    events: dict[str, ValueShape] = {}
    records = {"contact": ValueShape(), "account": ValueShape()}
    complete = True
    for message in messages:
        if message.kind == "event":
            if message.name in events or len(events) < MAX_EVENTS:
                events.setdefault(message.name, ValueShape()).add(message.params)
            else:
                complete = False
        elif message.kind in records:
            records[message.kind].add(message.params)
    plan: dict[str, Any] = {"events": {name: events[name].schema() for name in sorted(events)}}
    for kind, shape in records.items():
        schema = shape.schema() if shape._types else None  # pyright: ignore[reportPrivateUsage]
        if schema is not None:
            plan[f"{kind}s"] = {name: value for name, value in schema.items() if name != "required"}
    if not complete:
        plan["other_events"] = True
    return plan


def _type(value: Any) -> str:
    return next((name for kind, name in TYPES if isinstance(value, kind)), "null")
