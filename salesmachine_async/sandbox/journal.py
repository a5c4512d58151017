"""The log of requests, and the counts that outlive its bound."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from salesmachine_async.sandbox.views import Request

DROPPED = "dropped"


def iso(milliseconds: int) -> str:
    """Show an instant: `2026-11-22T06:30:00.000Z`."""
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z".rjust(24, "0")


@dataclass(slots=True)
class Visit:
    """
    One request while it is handled; then one line of the log.

    Attributes:
        path: without the query, which may hold the token.
        received: epoch milliseconds.
        workspace: its public name; None until the credentials are found good.
        status: what was answered; None when nothing was.
        error: what the answer complained of.
    """

    method: str
    path: str
    received: int
    workspace: str | None = None
    status: int | None = None
    items: int = 0
    accepted: int = 0
    duplicates: int = 0
    size: int = 0
    fault: dict[str, Any] | None = None
    error: str | None = None


class Journal:
    """
    The latest requests to the API, in memory.

    Args:
        bound: how many are kept.
    """

    def __init__(self, bound: int) -> None:
        self._latest: deque[tuple[int, Visit]] = deque(maxlen=bound)
        self._number = 0
        self._statuses: Counter[tuple[str | None, str]] = Counter()
        self._bytes: Counter[str | None] = Counter()

    def add(self, visit: Visit) -> None:
        """Add a finished request."""
        self._number += 1
        self._latest.append((self._number, visit))
        status = DROPPED if visit.status is None else str(visit.status)
        self._statuses[visit.workspace, status] += 1
        self._bytes[visit.workspace] += visit.size

    def requests(self, workspace: str | None, after: int = 0, limit: int | None = None) -> list[Request]:
        """List the requests kept, oldest first; those of all workspaces when *workspace* is None."""
        chosen = [
            (number, visit)
            for number, visit in list(self._latest)
            if number > after and workspace in {None, visit.workspace}
        ]
        return [_view(number, visit) for number, visit in chosen[:limit]]

    def statuses(self, workspace: str | None) -> dict[str, int]:
        """Count all requests by status."""
        counts: Counter[str] = Counter()
        for (owner, status), count in list(self._statuses.items()):
            if workspace in {None, owner}:
                counts[status] += count
        return dict(sorted(counts.items()))

    def size(self, workspace: str | None) -> int:
        """Sum the bytes of all request bodies."""
        return sum(count for owner, count in list(self._bytes.items()) if workspace in {None, owner})

    def forget(self, workspace: str) -> None:
        """Drop all lines and counts of *workspace*."""
        kept = [line for line in self._latest if line[1].workspace != workspace]
        self._latest.clear()
        self._latest.extend(kept)
        self._bytes.pop(workspace, None)
        for key in [key for key in self._statuses if key[0] == workspace]:
            del self._statuses[key]


def _view(number: int, visit: Visit) -> Request:
    return {
        "id": number,
        "workspace": visit.workspace,
        "method": visit.method,
        # aiohttp's parser in Python lets bytes that are not UTF-8 through, as lone surrogates, which no JSON can hold.
        "path": visit.path.encode(errors="replace").decode(),
        "status": visit.status,
        "items": visit.items,
        "accepted": visit.accepted,
        "duplicates": visit.duplicates,
        "bytes": visit.size,
        "received_at": iso(visit.received),
        "fault": visit.fault,
        "error": visit.error,
    }
