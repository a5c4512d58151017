"""Values of an answer: what has another type than expected counts as missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

__all__ = ["as_bool", "as_datetime", "as_list", "as_mapping", "as_text"]

# In milliseconds it is 1973, in seconds the year 5138: an epoch above it is in milliseconds.
MILLISECONDS_FROM: Final = 100_000_000_000


def as_text(value: Any) -> str | None:
    """Return a text, or a whole number as one."""
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int else None


def as_bool(value: Any) -> bool | None:
    """Return a boolean, also one written as a text."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return an object; an empty one for anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return an array; an empty one for anything else."""
    return list(cast("Iterable[Any]", value)) if isinstance(value, list) else []


def as_datetime(value: Any) -> datetime | None:
    """Return an epoch, in seconds as documented or in milliseconds, or an ISO 8601 text as a moment in UTC."""
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = value / 1000 if abs(value) >= MILLISECONDS_FROM else value
            return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        # Not a moment; the raw answer holds it.
        pass
    return None
