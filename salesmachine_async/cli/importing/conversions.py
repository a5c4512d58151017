"""Convert texts to values: times, and the types of ``--types``."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import orjson

# A larger epoch is in milliseconds: in seconds it would be the year 5138, in milliseconds it is 1973.
_MILLISECONDS_FROM = 100_000_000_000
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)
# A number as JSON writes it, without a leading zero or a plus; 15 digits are exact in any receiver.
_SAFE_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,14})?", re.ASCII)
MAX_DIGITS = 300
# Groups of three digits are separated by points, blanks or apostrophes.
_DECIMAL_COMMA = re.compile(r"([+-]?(?:\d{1,3}(?:[. \u00a0\u202f'\u2019]\d{3})+|\d+))(?:,(\d+))?", re.ASCII)
_DATE = re.compile(r"(\d{1,2})[./-](\d{1,2})[./-](\d{4})(?:[ T](\d{1,2}):(\d{2})(?::(\d{2}))?)?", re.ASCII)
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_AUTO_BOOLEANS = {"true": True, "false": False}


class BadValue(ValueError):
    """A text that cannot be converted."""


def moment(value: Any) -> datetime | None:
    """
    Convert `created_at`: ISO 8601, or an epoch in seconds or milliseconds, also as text; empty ones to None.

    A time without an offset is UTC.

    Raises:
        BadValue: If it is none of these.
    """
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            # Eight digits are a date in ISO 8601, because as an epoch they would lie in 1970 to 1973. The hyphen of
            # most dates is looked at first, because the rest takes longer than the conversion.
            if value[4:5] != "-" and len(value) != 8 and value.lstrip("-").replace(".", "", 1).isdecimal():
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
    # Longer texts are no sensible numbers, and Python limits int() to 4,300 digits.
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
    value = _BOOLEANS.get(text.strip().casefold())
    if value is None:
        raise BadValue(f"{_shown(text)} is not true, false, yes, no, 1 or 0")
    return value


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadValue(f"is not JSON: {error}") from None


def _decimal_comma(text: str) -> int | float:
    found = _DECIMAL_COMMA.fullmatch(text.strip())
    if not found or len(text) > MAX_DIGITS:
        raise BadValue(f"{_shown(text)} is not a number with a decimal comma like 1.234,5")
    return _number(re.sub(r"[^\d+-]", "", found[1]) + (f".{found[2]}" if found[2] else ""))


def _date(day: int, month: int, example: str) -> Callable[[str], str]:
    """Return a converter of dates whose groups *day* and *month* are these; it returns ISO 8601."""

    def convert(text: str) -> str:
        found = _DATE.fullmatch(text.strip())
        try:
            if found is None:
                datetime.fromisoformat(text.strip())
                return text.strip()
            date = datetime(int(found[3]), int(found[month]), int(found[day]))  # noqa: DTZ001 (a date has no zone)
            if found[4] is None:
                return date.date().isoformat()
            return date.replace(hour=int(found[4]), minute=int(found[5]), second=int(found[6] or 0)).isoformat()
        except ValueError:
            raise BadValue(f"{_shown(text)} is not a date like {example}") from None

    return convert


def guess(text: str) -> Any:
    """Convert a text to a number or a truth value if that loses nothing, else return it."""
    if len(text) <= 16 and _SAFE_NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return _AUTO_BOOLEANS.get(text.casefold(), text)


CONVERTERS: dict[str, Callable[[str], Any]] = {
    "text": str,
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "json": _json,
    "auto": guess,
    "decimal-comma": _decimal_comma,
    "day-first": _date(1, 2, "31.12.2026 or 31/12/2026 23:59"),
    "month-first": _date(2, 1, "12/31/2026 or 12/31/2026 23:59"),
}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
