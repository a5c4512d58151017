"""What an answer means: status and headers become an `Outcome`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from math import isfinite
from typing import Final

import orjson

from salesmachine_async.errors import (
    DeliveryError,
    RateLimited,
    Rejected,
    RequestTimeout,
    ServerFailure,
    Unauthorized,
)

__all__ = ["Outcome", "Verdict", "outcome", "retry_after", "server_message"]

MAX_SERVER_MESSAGE: Final = 500

_RETRY: Final = frozenset({408, 425})
# Nothing is wrong with the messages, but with the key, the URL or the server's plan: only a person can mend it.
_PARKED: Final = frozenset({401, 402, 403, 404, 405, 406, 407, 410, 415, 421, 426, 451, 501, 505, 511})


class Verdict(Enum):
    """What an attempt came to."""

    DELIVERED = "delivered"
    """2xx: the status line decided, whatever came of the body."""
    PAUSE = "pause"
    """429 or 503: the server wants less of everything; all partitions wait."""
    RETRY = "retry"
    """It may work later: other 5xx, 408, 425, network errors, timeouts, garbage instead of HTTP."""
    STALE = "stale"
    """A kept-alive connection was closed under the request: says nothing about the server."""
    REJECTED = "rejected"
    """400, 422 and the like: some message, or the API key."""
    TOO_LARGE = "too_large"
    """413."""
    PARKED = "parked"
    """Refused for a reason no message is to blame for: key, URL, certificate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """
    What became of one request.

    Attributes:
        verdict: What it came to.
        status: The HTTP status, or None without an answer.
        error: The failure; None when delivered.
        retry_after: Seconds the server asked to wait, or None.
    """

    verdict: Verdict
    status: int | None = None
    error: DeliveryError | None = None
    retry_after: float | None = None

    @classmethod
    def failed(cls, error: DeliveryError, verdict: Verdict = Verdict.RETRY) -> Outcome:
        """Return the outcome of a request without an answer."""
        return cls(verdict=verdict, error=error)


def outcome(status: int, headers: Mapping[str, str], *, now: datetime, body: bytes = b"") -> Outcome:
    """
    Return what an HTTP answer means.

    Args:
        status: The HTTP status.
        headers: The answer's headers, looked up by their usual spelling.
        now: The wall clock, aware; only for a ``Retry-After`` given as a date without a ``Date`` header.
        body: As much of the answer's body as was read, for the server's words.
    """
    if 200 <= status <= 299:
        return Outcome(verdict=Verdict.DELIVERED, status=status)
    wait = retry_after(headers.get("Retry-After"), date=headers.get("Date"), now=now)
    error = _error(status, headers, wait, server_message(body))
    return Outcome(verdict=_verdict(status), status=status, error=error, retry_after=wait)


def retry_after(value: str | None, *, date: str | None, now: datetime) -> float | None:
    """
    Return a ``Retry-After`` in seconds, or None if it is absent, malformed or negative.

    A date is measured against the server's own clock (its ``Date`` header) if that is readable, so that a wrong
    clock here does no harm; a date in the past is 0.

    Source: RFC 9110 §10.2.3 (seconds or HTTP-date). A fraction is accepted, as many servers send it.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        at = _http_date(value)
        if at is None:
            return None
        return max(0.0, (at - (_http_date(date or "") or now)).total_seconds())
    return seconds if isfinite(seconds) and seconds >= 0 else None


def server_message(body: bytes) -> str | None:
    """Return what ``{"error": …}`` says, at most `MAX_SERVER_MESSAGE` characters; None if the body is not like that."""
    try:
        told = orjson.loads(body)["error"]
    except (ValueError, TypeError, KeyError):
        return None
    return (told if isinstance(told, str) else orjson.dumps(told).decode())[:MAX_SERVER_MESSAGE]


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _verdict(status: int) -> Verdict:
    if status in (429, 503):
        return Verdict.PAUSE
    if status == 413:
        return Verdict.TOO_LARGE
    if status in _PARKED or 300 <= status <= 399:
        return Verdict.PARKED
    if 400 <= status <= 499 and status not in _RETRY:
        return Verdict.REJECTED
    return Verdict.RETRY


def _error(status: int, headers: Mapping[str, str], wait: float | None, told: str | None) -> DeliveryError:
    kind: type[DeliveryError] = ServerFailure
    text = f"the server answered {status}"
    if status in (401, 403):
        kind = Unauthorized
        text += ": check SALESMACHINE_API_TOKEN and SALESMACHINE_API_SECRET"
    elif status == 429:
        kind = RateLimited
    elif status == 408:
        kind = RequestTimeout
    elif 300 <= status <= 399:
        kind = Rejected
        text += f", a redirect, which is never followed: check the base URL{_redirected_to(headers)}"
    elif 400 <= status <= 499:
        kind = Rejected
        text += _HINTS.get(status, "")
    return kind(text, status=status, retry_after=wait, server_message=told)


_HINTS: Final = {
    402: ": the plan may have expired",
    404: ": check the base URL (SALESMACHINE_API_URL)",
    405: ": check the base URL (SALESMACHINE_API_URL)",
    410: ": the API is gone from this URL; check the base URL (SALESMACHINE_API_URL)",
    407: ": the proxy wants credentials",
}


def _redirected_to(headers: Mapping[str, str]) -> str:
    """Return where to, without the query, user or anything unprintable: it may hold a token."""
    target = headers.get("Location", "").partition("?")[0].partition("#")[0]
    scheme, separator, rest = target.partition("://")
    if separator:
        authority, slash, path = rest.partition("/")
        target = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    # An @ that is left may end the user of an odd form of URL: `//user@host`, `https:user@host`.
    if not target.isascii() or not target.isprintable() or "@" in target:
        return ""
    return f" (it points to {target[:200]})" if target else ""
