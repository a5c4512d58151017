"""Keywords of JSON Schema whose time is bounded for any value."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from salesmachine_async.sandbox.messages import is_array, is_object
from salesmachine_async.sandbox.plan.patterns import MAX_VALUE_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


def keywords(library: Any) -> dict[str, Callable[..., Iterator[Any]]]:
    """Return implementations for *library*, the module `jsonschema`, which is optional."""

    def pattern(_: Any, wanted: str, value: Any, __: Any) -> Iterator[Any]:
        if isinstance(value, str) and len(value) > MAX_VALUE_CHARACTERS:
            yield library.ValidationError(f"is longer than {MAX_VALUE_CHARACTERS} characters, the limit of pattern")
        elif isinstance(value, str) and not re.search(wanted, value):
            yield library.ValidationError(f"{value!r} does not match {wanted!r}")

    def unique_items(_: Any, wanted: bool, value: Any, __: Any) -> Iterator[Any]:
        if wanted and is_array(value) and _has_equal_items(value):
            yield library.ValidationError("has equal items")

    def pattern_properties(validator: Any, patterns: Mapping[str, Any], value: Any, __: Any) -> Iterator[Any]:
        names = [name for name in value if len(name) <= MAX_VALUE_CHARACTERS] if is_object(value) else []
        for wanted, schema in patterns.items():
            for name in names:
                if re.search(wanted, name):
                    yield from validator.descend(value[name], schema, path=name, schema_path=wanted)

    return {"pattern": pattern, "uniqueItems": unique_items, "patternProperties": pattern_properties}


def _has_equal_items(items: list[Any]) -> bool:
    return len({orjson.dumps(item, option=orjson.OPT_SORT_KEYS) for item in items}) < len(items)
