"""Texts become values: times, and cells whose type was said."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import orjson

# Beyond it an epoch is in milliseconds: in seconds it would be the year 5138, in milliseconds it is 1973.
_MILLISECONDS_FROM = 100_000_000_000
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)
# What JSON itself would call a number; 15 digits are exact in any receiver. No leading zero, no plus.
_SAFE_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,14})?", re.ASCII)
MAX_DIGITS = 300
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_AUTO_TRUTHS = {"true": True, "false": False}


class BadValue(ValueError):
    """A value cannot be what it must be; says why, without naming where it stands."""


def moment(value: Any) -> datetime | None:
    """
    Read a `created_at`: ISO 8601, or an epoch in seconds or milliseconds, also as text. None or "" is None.

    Without an offset it is UTC.

    Raises:
        BadValue: It is something else.
    """
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            # Eight digits are a date in ISO 8601; as an epoch they would lie in the seventies.
            if len(value) != 8 and value.lstrip("-").replace(".", "", 1).isdecimal():
                return _epoch(float(value))
            found = datetime.fromisoformat(value)
            return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _epoch(value)
    except (ValueError, OverflowError, OSError):
        pass
    raise BadValue(f"{_shown(value)} is neither ISO 8601 (2026-01-31T12:00:00Z) nor an epoch")


def _epoch(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds / 1000 if abs(seconds) >= _MILLISECONDS_FROM else seconds, UTC)


def _number(text: str) -> int | float:
    text = text.strip()
    found = _NUMBER.fullmatch(text)
    # Nobody means a number of more digits, and Python itself reads no more than 4,300.
    if found and len(text) <= MAX_DIGITS:
        number = float(text) if found[1] or found[2] else int(text)
        if isfinite(number):
            return number
    raise BadValue(f"{_shown(text)} is not a number like 1234.5")


def _integer(text: str) -> int:
    number = _number(text)
    if not isinstance(number, int):
        raise BadValue(f"{_shown(text)} is not a whole number")
    return number


def _boolean(text: str) -> bool:
    truth = _TRUTHS.get(text.strip().casefold())
    if truth is None:
        raise BadValue(f"{_shown(text)} is not true, false, yes, no, 1 or 0")
    return truth


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadValue(f"is not JSON: {error}") from None


def guess(text: str) -> Any:
    """Make a number or a truth of a text that cannot mean anything else, and changes nothing by it."""
    if len(text) <= 16 and _SAFE_NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return _AUTO_TRUTHS.get(text.casefold(), text)


CONVERTERS: dict[str, Callable[[str], Any]] = {
    "text": str,
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "json": _json,
    "auto": guess,
}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
