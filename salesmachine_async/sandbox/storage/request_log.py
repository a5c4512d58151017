"""The log of requests, and the counts that outlive its bound."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from salesmachine_async.sandbox.messages import iso

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from salesmachine_async.sandbox.views import RejectedView, RequestDetailView, RequestView

DROPPED = "dropped"
# Refused requests are shown with what was refused in them; they are few, unless something is very wrong.
MAX_REJECTED = 1000
MAX_EXCERPT = 1000
MAX_HEAD = 4000
# A Referer may be a URL with ?api_token= in it.
SECRET = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"referer"})


class Refusal(NamedTuple):
    """
    What the API refused in a request.

    Attributes:
        item: which item of a batch; None when it is none of them.
        excerpt: the beginning of its JSON, or of the body.
    """

    item: int | None
    excerpt: str


@dataclass(slots=True)
class RequestRecord:
    """
    One request while it is handled; then one line of the log.

    Attributes:
        path: without the query, which may hold the token.
        received: epoch milliseconds.
        workspace: its public name; None until the credentials are found good.
        status: what was answered; None when nothing was.
        error: what the answer complained of.
        refusal: what was wrong with its body.
        headers: the lines of its head, without credentials.
        first: the number in the message_log of the first message applied; 0 when there is none.
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
    refusal: Refusal | None = None
    headers: bytes = b""
    first: int = 0


def head_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Keep headers for the log, small and as bytes: most are never looked at. Of credentials only that they came."""
    lines = [b"%b: %b" % (name, b"(not kept)" if name.lower() in SECRET else value) for name, value in headers]
    return b"\n".join(lines)[:MAX_HEAD]


class RequestLog:
    """
    The latest requests to the API, in memory.

    Args:
        bound: how many are kept.

    Attributes:
        last: the number of the latest request.
    """

    def __init__(self, bound: int) -> None:
        self._latest: deque[tuple[int, RequestRecord]] = deque(maxlen=bound)
        self._rejected: deque[tuple[int, RequestRecord]] = deque(maxlen=min(bound, MAX_REJECTED))
        self.last: int = 0
        self._statuses: Counter[tuple[str | None, str]] = Counter()
        self._bytes: Counter[str | None] = Counter()

    def add(self, record: RequestRecord) -> None:
        """Add a finished request."""
        self.last += 1
        self._latest.append((self.last, record))
        if record.refusal is not None:
            self._rejected.append((self.last, record))
        status = DROPPED if record.status is None else str(record.status)
        self._statuses[record.workspace, status] += 1
        self._bytes[record.workspace] += record.size

    def requests(
        self,
        workspace: str | None,
        after: int = 0,
        limit: int | None = None,
        *,
        newest_first: bool = False,
        text: str | None = None,
    ) -> list[RequestView]:
        """
        List the requests kept, oldest first; those of all workspaces when *workspace* is None.

        Newest first, *after* is the number they come before; 0 means the end. With *text* only those that show it in
        the method, path, status or error.
        """
        chosen = _chosen(self._latest, workspace, after, newest_first=newest_first)
        return [_view(number, record) for number, record in islice(_holding(chosen, text), limit)]

    def rejected(
        self,
        workspace: str | None,
        after: int = 0,
        limit: int | None = None,
        *,
        newest_first: bool = False,
        text: str | None = None,
    ) -> list[RejectedView]:
        """List the requests that were refused for what is in them, as `requests` does; *text* may be in the excerpt."""
        chosen = _chosen(self._rejected, workspace, after, newest_first=newest_first)
        return [_rejected(number, record) for number, record in islice(_holding(chosen, text), limit)]

    def request(self, workspace: str | None, number: int) -> tuple[int, RequestDetailView] | None:
        """Find one request; also tell the number of its first message. Its messages are not filled in."""
        for each, record in reversed(list(self._latest)):
            if each == number and workspace in {None, record.workspace}:
                index, excerpt = record.refusal or (None, None)
                return record.first, {
                    **_view(number, record),
                    "headers": _pairs(record.headers),
                    "index": index,
                    "excerpt": excerpt,
                    "messages": [],
                }
        return None

    def latest(self, after: int, workspace: str | None, most: int) -> tuple[list[RequestView], int]:
        """List the latest *most* requests after *after*, oldest first; also tell how many were left out."""
        # Walked back only as far as needed: it is asked several times a second.
        news = takewhile(lambda line: line[0] > after, reversed(list(self._latest)))
        chosen = [line for line in news if workspace in {None, line[1].workspace}]
        return [_view(number, record) for number, record in reversed(chosen[:most])], max(0, len(chosen) - most)

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
        for lines in (self._latest, self._rejected):
            kept = [line for line in lines if line[1].workspace != workspace]
            lines.clear()
            lines.extend(kept)
        self._bytes.pop(workspace, None)
        for key in [key for key in self._statuses if key[0] == workspace]:
            del self._statuses[key]


def _chosen(
    lines: Iterable[tuple[int, RequestRecord]], workspace: str | None, after: int, *, newest_first: bool = False
) -> list[tuple[int, RequestRecord]]:
    mine = [line for line in list(lines) if workspace in {None, line[1].workspace}]
    if newest_first:
        return [line for line in reversed(mine) if not after or line[0] < after]
    return [line for line in mine if line[0] > after]


def _holding(lines: Iterable[tuple[int, RequestRecord]], text: str | None) -> Iterator[tuple[int, RequestRecord]]:
    """Leave those that show *text*, in whichever case."""
    if not text:
        return iter(lines)
    wanted = text.lower()
    return (line for line in lines if wanted in _searched(line[1]).lower())


def _searched(record: RequestRecord) -> str:
    status = DROPPED if record.status is None else str(record.status)
    excerpt = record.refusal.excerpt if record.refusal else ""
    return f"{record.method} {record.path} {status} {record.error or ''} {excerpt}"


def _pairs(head: bytes) -> list[tuple[str, str]]:
    pairs = (line.partition(b": ") for line in head.split(b"\n") if line)
    return [(name.decode(errors="replace"), value.decode(errors="replace")) for name, _, value in pairs]


def _rejected(number: int, record: RequestRecord) -> RejectedView:
    index, excerpt = record.refusal or (None, "")
    return {
        "id": number,
        "workspace": record.workspace,
        "path": record.path,
        "status": record.status,
        "error": record.error,
        "items": record.items,
        "index": index,
        "excerpt": excerpt,
        "received_at": iso(record.received),
    }


def _view(number: int, record: RequestRecord) -> RequestView:
    return {
        "id": number,
        "workspace": record.workspace,
        "method": record.method,
        # aiohttp's parser in Python lets bytes that are not UTF-8 through, as lone surrogates, which no JSON can hold.
        "path": record.path.encode(errors="replace").decode(),
        "status": record.status,
        "items": record.items,
        "accepted": record.accepted,
        "duplicates": record.duplicates,
        "bytes": record.size,
        "received_at": iso(record.received),
        "fault": record.fault,
        "error": record.error,
    }
