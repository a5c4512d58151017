"""The log of requests, and counters that cover evicted entries as well."""

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
# Limit of the rejected requests that are kept with their content.
MAX_REJECTED = 1000
MAX_EXCERPT = 1000
MAX_HEAD = 4000
# A Referer can be a URL with ?api_token=.
SECRET = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"referer"})


class Refusal(NamedTuple):
    """
    The rejected content of a request.

    Attributes:
        item: The index in the batch; None if the body as a whole is invalid.
        excerpt: The beginning of the item as JSON, or of the body.
    """

    item: int | None
    excerpt: str


@dataclass(slots=True)
class RequestRecord:
    """
    One request, during its handling and in the log.

    Attributes:
        path: The path without the query, which may contain the token.
        received: Epoch milliseconds.
        workspace: The public name; None until the credentials are valid.
        status: The status of the response; None if none was sent.
        error: The error in the response.
        refusal: The rejected content.
        headers: The lines of its head, without credentials.
        first: The number of its first applied message in the log of messages; 0 if there is none.
        first_seq: The `seq` of that message in its workspace.
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
    first_seq: int = 0


def head_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return headers in a compact form for the log, with credentials redacted."""
    lines = [b"%b: %b" % (name, b"(not kept)" if name.lower() in SECRET else value) for name, value in headers]
    return b"\n".join(lines)[:MAX_HEAD]


class RequestLog:
    """
    The latest requests to the API, in memory.

    Args:
        bound: Number of requests kept.

    Attributes:
        last: The number of the latest request.
    """

    def __init__(self, bound: int) -> None:
        self._latest: deque[tuple[int, RequestRecord]] = deque(maxlen=bound)
        self._rejected: deque[tuple[int, RequestRecord]] = deque(maxlen=min(bound, MAX_REJECTED))
        self.last: int = 0
        self._statuses: Counter[tuple[str | None, str]] = Counter()
        self._bytes: Counter[str | None] = Counter()

    def add(self, record: RequestRecord) -> RequestView:
        """Append a finished request."""
        self.last += 1
        self._latest.append((self.last, record))
        if record.refusal is not None:
            self._rejected.append((self.last, record))
        status = DROPPED if record.status is None else str(record.status)
        self._statuses[record.workspace, status] += 1
        self._bytes[record.workspace] += record.size
        return _view(self.last, record)

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
        List the kept requests, oldest first, of all workspaces if *workspace* is None.

        With *newest_first* the order is reversed and *after* is the last number already listed; 0 starts at the end.
        With *text*, only those that contain it in the method, path, status or error.
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
        """List the requests rejected for their content, as `requests` does; *text* also searches the excerpt."""
        chosen = _chosen(self._rejected, workspace, after, newest_first=newest_first)
        return [_rejected(number, record) for number, record in islice(_holding(chosen, text), limit)]

    def request(self, workspace: str | None, number: int) -> tuple[RequestRecord, RequestDetailView] | None:
        """Return one request, with its record; `messages` is left empty."""
        for each, record in reversed(list(self._latest)):
            if each == number and workspace in {None, record.workspace}:
                index, excerpt = record.refusal or (None, None)
                return record, {
                    **_view(number, record),
                    "headers": _pairs(record.headers),
                    "index": index,
                    "excerpt": excerpt,
                    "messages": [],
                }
        return None

    def containing(self, workspace: str, seq: int) -> list[RequestView]:
        """Return the request whose messages include the one with this `seq`; empty if it is not kept."""
        for number, record in reversed(list(self._latest)):
            if record.workspace == workspace and 0 <= seq - record.first_seq < record.accepted and record.first_seq:
                return [_view(number, record)]
        return []

    def latest(self, after: int, workspace: str | None, most: int) -> tuple[list[RequestView], int]:
        """Return the latest *most* requests after *after*, oldest first, and the number of skipped ones."""
        # Walks back only as far as needed, because live updates call this several times a second.
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
        """Return the total size of all request bodies."""
        return sum(count for owner, count in list(self._bytes.items()) if workspace in {None, owner})

    def forget(self, workspace: str) -> None:
        """Delete all entries and counters of *workspace*."""
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
    """Return the entries that contain *text*, ignoring case."""
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
        # The pure-Python parser of aiohttp decodes invalid UTF-8 to lone surrogates, which JSON cannot represent.
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
