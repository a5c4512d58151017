"""Conversions of the values in an answer; a value of an unexpected type counts as missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

__all__ = ["as_bool", "as_datetime", "as_list", "as_mapping", "as_text"]

# As seconds this is in the year 5138, as milliseconds in 1973: an epoch from here on is in milliseconds.
MILLISECONDS_FROM: Final = 100_000_000_000


def as_text(value: Any) -> str | None:
    """Return a string, or the digits of a whole number; None for anything else."""
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int else None


def as_bool(value: Any) -> bool | None:
    """Return a boolean, also one written as a string; None for anything else."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return a JSON object; an empty one for anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return a JSON array; an empty one for anything else."""
    return list(cast("Iterable[Any]", value)) if isinstance(value, list) else []


def as_datetime(value: Any) -> datetime | None:
    """Return a datetime in UTC from an epoch, in seconds (documented) or milliseconds, or from ISO 8601; else None."""
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = value / 1000 if abs(value) >= MILLISECONDS_FROM else value
            return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        # A value that is no point in time remains in the raw answer only.
        pass
    return None
