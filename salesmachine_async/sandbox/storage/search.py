"""Searches in steps of a window of rows, because a rare text may need a scan of millions of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from salesmachine_async.sandbox.pacing import strides

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from salesmachine_async.sandbox.pacing import Steps
    from salesmachine_async.sandbox.storage.store import EventRow, Store, StoredRow
    from salesmachine_async.sandbox.storage.v2_store import RecordKind

T = TypeVar("T")

WINDOW = 2000
# Rows to which a condition is applied in one step.
ROWS_AT_ONCE = 20
# Limit of the names that are counted.
MAX_NAMES = 1000


def search_events(
    store: Store,
    workspace: int,
    *,
    after: int,
    limit: int,
    newest_first: bool,
    equal: Mapping[str, str],
    accept: Callable[[EventRow], bool] | None = None,
) -> Steps[list[EventRow]]:
    """
    Find events in the order of arrival.

    Args:
        store: The store.
        workspace: The row id of the workspace.
        after: The last `seq` already listed; 0 starts at the beginning, or at the end with *newest_first*.
        limit: Maximum number of events; -1 means all.
        newest_first: Reverses the order.
        equal: Values of contact, account or event_uid.
        accept: A further condition.
    """
    low, high = store.event_range(workspace)
    if newest_first:
        high = min(high, after - 1) if after else high
    else:
        low = max(low, after + 1)
    found: list[EventRow] = []
    while low <= high and (limit < 0 or len(found) < limit):
        start, end = (max(low, high - WINDOW + 1), high) if newest_first else (low, min(high, low + WINDOW - 1))
        low, high = (low, start - 1) if newest_first else (end + 1, high)
        rows = store.events(
            workspace,
            start,
            end,
            limit=-1 if accept or limit < 0 else limit - len(found),
            newest_first=newest_first,
            equal=equal,
        )
        yield from _add(found, rows, accept)
    return found if limit < 0 else found[:limit]


def count_events(store: Store, workspace: int, *, since: int, bucket: int, buckets: int) -> Steps[dict[str, list[int]]]:
    """
    Count events by name and time of arrival.

    Args:
        store: The store.
        workspace: The row id of the workspace.
        since: The start of the first bucket, in epoch milliseconds.
        bucket: The length of a bucket in milliseconds.
        buckets: The number of buckets.

    Returns:
        The counts of each name, the most frequent names first.
    """
    low, high = store.event_range(workspace)
    counts: dict[str, list[int]] = {}
    while low <= high:
        start = max(low, high - WINDOW + 1)
        rows = store.event_times(workspace, start, high)
        for name, at in rows:
            if since <= at < since + bucket * buckets and (name in counts or len(counts) < MAX_NAMES):
                counts.setdefault(name, [0] * buckets)[(at - since) // bucket] += 1
        yield
        if rows and rows[-1][1] < since:
            break
        high = start - 1
    return dict(sorted(counts.items(), key=lambda item: (-sum(item[1]), item[0])))


def search_records(
    store: Store,
    kind: RecordKind,
    workspace: int,
    *,
    after: str,
    limit: int,
    newest_first: bool,
    accept: Callable[[StoredRow], bool] | None = None,
) -> Steps[list[StoredRow]]:
    """
    Find contacts or accounts by uid, or with *newest_first* in the reverse order of creation.

    Args:
        store: The store.
        kind: The kind of records.
        workspace: The row id of the workspace.
        after: The last uid already listed; empty starts at the beginning.
        limit: Maximum number of records; -1 means all.
        newest_first: Selects the order.
        accept: A further condition.
    """
    found: list[StoredRow] = []
    while limit < 0 or len(found) < limit:
        window = WINDOW if accept or limit < 0 else min(WINDOW, limit - len(found))
        rows = store.records(kind, workspace, after, window, newest_first=newest_first)
        yield from _add(found, rows, accept)
        if len(rows) < window:
            break
        after = rows[-1].uid
    return found if limit < 0 else found[:limit]


def _add(found: list[T], rows: list[T], accept: Callable[[T], bool] | None) -> Steps[None]:
    """Append the rows that *accept* allows, with a step for each few of them, because a row can be megabytes."""
    yield
    for part in strides(rows, ROWS_AT_ONCE if accept else WINDOW):
        found += filter(accept, part) if accept else part
        yield
