"""The meaning of an answer: its status and headers become an `Outcome`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
# The messages are valid; an operator has to fix the key, the URL or the plan.
_PARKED: Final = frozenset({401, 402, 403, 404, 405, 406, 407, 410, 415, 421, 426, 451, 501, 505, 511})


class Verdict(Enum):
    """Classes of outcomes."""

    DELIVERED = "delivered"
    """2xx, whatever follows the status line."""
    PAUSE = "pause"
    """429 or 503: the server is overloaded, so all partitions wait."""
    RETRY = "retry"
    """A failure that may pass: other 5xx, 408, 425, network errors, timeouts, garbage instead of HTTP."""
    STALE = "stale"
    """A kept-alive connection was closed under the request, which says nothing about the server."""
    UNREACHABLE = "unreachable"
    """The carrier itself cannot be used now, which says nothing about the batch; only its partition waits."""
    REJECTED = "rejected"
    """400, 422 and the like: a message is invalid, or the API key is."""
    TOO_LARGE = "too_large"
    """413."""
    PARKED = "parked"
    """The configuration is wrong (key, URL, certificate), not a message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """
    The result of one request.

    Attributes:
        verdict: The class of the outcome.
        status: The HTTP status, or None without an answer.
        error: The failure; None when delivered.
        retry_after: Seconds to wait according to the server, or None.
    """

    verdict: Verdict
    status: int | None = None
    error: DeliveryError | None = None
    retry_after: float | None = None

    @classmethod
    def failed(cls, error: DeliveryError, verdict: Verdict = Verdict.RETRY) -> Outcome:
        """Return the outcome of a request without an answer."""
        return cls(verdict=verdict, error=error)


def outcome(
    status: int,
    headers: Mapping[str, str],
    *,
    now: datetime,
    body: bytes = b"",
    redact: Callable[[str], str] = str,
) -> Outcome:
    """
    Return the meaning of an HTTP answer, which its status decides.

    Args:
        status: The HTTP status.
        headers: The answer's headers, looked up by their usual spelling.
        now: The wall clock, aware; only for a ``Retry-After`` given as a date without a ``Date`` header.
        body: The beginning of the answer's body, for `server_message`.
        redact: Removes credentials from text of the server.
    """
    if 200 <= status <= 299:
        return Outcome(verdict=Verdict.DELIVERED, status=status)
    wait = retry_after(headers.get("Retry-After"), date=headers.get("Date"), now=now)
    message = server_message(body, redact=redact)
    error = _error(status, redact(headers.get("Location", "")), wait, message)
    return Outcome(verdict=_verdict(status), status=status, error=error, retry_after=wait)


def retry_after(value: str | None, *, date: str | None, now: datetime) -> float | None:
    """
    Return a ``Retry-After`` in seconds, or None if it is absent, malformed or negative.

    A date is compared with the server's own clock (its ``Date`` header) if that is readable, so that a wrong local
    clock does no harm; a date in the past is 0.

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


def server_message(body: bytes, *, redact: Callable[[str], str] = str) -> str | None:
    """
    Return the value of ``error`` in a JSON object, or None if *body* is something else or cannot be read.

    Returns:
        At most `MAX_SERVER_MESSAGE` characters, redacted before they are cut; a value that is no text as JSON.
    """
    try:
        message = orjson.loads(body)["error"]
        text = message if isinstance(message, str) else orjson.dumps(message).decode()
        return redact(text)[:MAX_SERVER_MESSAGE]
    except Exception:  # noqa: BLE001 (nothing in a body may change what the status decided)
        return None


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


def _error(status: int, location: str, wait: float | None, message: str | None) -> DeliveryError:
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
        text += f", a redirect, which is never followed: check the base URL{_redirected_to(location)}"
    elif 400 <= status <= 499:
        kind = Rejected
        text += _HINTS.get(status, "")
    return kind(text, status=status, retry_after=wait, server_message=message)


_HINTS: Final = {
    402: ": the plan may have expired",
    404: ": check the base URL (SALESMACHINE_API_URL)",
    405: ": check the base URL (SALESMACHINE_API_URL)",
    410: ": the API is gone from this URL; check the base URL (SALESMACHINE_API_URL)",
    407: ": the proxy requires credentials",
}


def _redirected_to(location: str) -> str:
    """Describe the target without query, user and unprintable characters, because it may hold credentials."""
    target = location.partition("?")[0].partition("#")[0]
    scheme, separator, rest = target.partition("://")
    if separator:
        authority, slash, path = rest.partition("/")
        target = f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
    # An @ may still end the user in a malformed URL: `//user@host`, `https:user@host`.
    if not target.isascii() or not target.isprintable() or "@" in target:
        return ""
    return f" (it points to {target[:200]})" if target else ""
