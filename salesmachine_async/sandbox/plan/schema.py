"""
A tracking plan: a JSON Schema for the params of each event, of contacts and of accounts.

    {
      "events": {"order_created": {"required": ["amount"], "properties": {"amount": {"type": "number"}}}},
      "contacts": {"type": "object", "properties": {"email": {"type": "string"}}},
      "accounts": {"type": "object"},
      "other_events": false
    }

All keys are optional. With `events`, an event that is not among them is bad unless `other_events` is true. Aliases are
always good.

Source: https://json-schema.org/draft/2020-12
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from salesmachine_async.sandbox.messages import is_array, is_object
from salesmachine_async.sandbox.plan.keywords import keywords
from salesmachine_async.sandbox.plan.patterns import check_pattern

KEYS = ("events", "contacts", "accounts", "other_events")
# Problems of one message that are reported.
MAX_PROBLEMS = 20
MAX_REASON = 200
# Larger params are bad without a check, because some keywords take more than linear time.
MAX_PARAMS_CHARACTERS = 2**16


class PlanProblem(NamedTuple):
    """A violation of the plan: the path of the value, such as `params.amount`, and the reason."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class PlanError(ValueError):
    """A plan that cannot be used; names the place and the problem."""


class TrackingPlan:
    """
    A tracking plan.

    Args:
        data: The plan as JSON.

    Raises:
        PlanError: The plan is invalid.
        ModuleNotFoundError: The library `jsonschema` is not installed.
    """

    def __init__(self, data: Any) -> None:
        if not is_object(data):
            raise PlanError("the plan must be an object")
        for key in data:
            if key not in KEYS:
                raise PlanError(f"unknown key {key!r} in the plan; expected one of {', '.join(KEYS)}")
        events: Any = data.get("events")
        if events is not None and not is_object(events):
            raise PlanError("events must be an object that maps event names to schemas")
        other_events = data.get("other_events", events is None)
        if not isinstance(other_events, bool):
            raise PlanError("other_events must be true or false")
        self._other_events = other_events
        self._events = {name: _validator(schema, f"events.{name}") for name, schema in (events or {}).items()}
        self._records = {
            kind: _validator(data[key], key)
            for kind, key in (("contact", "contacts"), ("account", "accounts"))
            if key in data
        }

    @classmethod
    def load(cls, source: str | os.PathLike[str] | Mapping[str, Any]) -> TrackingPlan:
        """
        Read a plan from a file, or take it as it is.

        Raises:
            OSError: The file cannot be read.
            PlanError: The plan is invalid.
            ModuleNotFoundError: The library `jsonschema` is not installed.
        """
        if isinstance(source, Mapping):
            return cls(source)
        try:
            data = orjson.loads(Path(source).read_bytes())
        except orjson.JSONDecodeError as error:
            raise PlanError(f"the plan is not valid JSON: {error}") from None
        return cls(data)

    def judge(self, kind: str, name: str, params: Any, size: int = 0) -> tuple[PlanProblem, ...]:
        """
        Validate a message.

        Args:
            kind: `contact`, `account`, `event` or `alias`.
            name: The `event_uid` of an event.
            params: The params.
            size: The number of characters of the params as JSON.

        Returns:
            The problems; empty for a good message.
        """
        if kind == "event" and name not in self._events:
            return () if self._other_events else (PlanProblem("event_uid", "is not an event of the plan"),)
        validator = self._events[name] if kind == "event" else self._records.get(kind)
        if validator is None:
            return ()
        if size > MAX_PARAMS_CHARACTERS:
            return (PlanProblem("params", f"is larger than {MAX_PARAMS_CHARACTERS} characters, the limit of the plan"),)
        problems: list[PlanProblem] = []
        for error in validator.iter_errors(params):
            problems.append(PlanProblem(_path(error.absolute_path), _reason(error.message)))
            if len(problems) == MAX_PROBLEMS:
                break
        return tuple(problems)


def _path(parts: Any) -> str:
    return "params" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _reason(text: str) -> str:
    return text if len(text) <= MAX_REASON else f"{text[: MAX_REASON - 1]}…"


def _validator(schema: Any, where: str) -> Any:
    """
    Create the validator of one schema.

    Raises:
        PlanError: The schema is invalid.
    """
    # Imported here, because the library is optional; it has no complete types.
    library: Any = importlib.import_module("jsonschema")
    registry: Any = importlib.import_module("referencing").Registry()
    bounded = library.validators.extend(library.Draft202012Validator, keywords(library))
    try:
        bounded.check_schema(schema)
        _check(schema)
        # An explicit registry, so that no reference is fetched from the network.
        return bounded(schema, registry=registry)
    except (library.SchemaError, ValueError) as error:
        raise PlanError(f"{where}: {_reason(getattr(error, 'message', str(error)))}") from None


def _check(schema: Any) -> None:
    """
    Check what could make validation slow or fail: patterns and references.

    Raises:
        ValueError: Names the problem.
    """
    pending: list[Any] = [schema]
    while pending:
        part: Any = pending.pop()
        if is_array(part):
            pending.extend(part)
        elif is_object(part):
            for key in ("pattern", *(part["patternProperties"] if is_object(part.get("patternProperties")) else ())):
                wanted: Any = part.get(key) if key == "pattern" else key
                if isinstance(wanted, str):
                    check_pattern(wanted)
            for key in ("$ref", "$dynamicRef"):
                reference: Any = part.get(key)
                if isinstance(reference, str):
                    raise ValueError(f"{key} is not supported; write the schema in place")
            pending.extend(part.values())
