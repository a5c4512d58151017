"""Read access to the state, shared by the control endpoints and the methods of `Sandbox`."""

from __future__ import annotations

from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

import orjson

from salesmachine_async.sandbox.messages import iso, now
from salesmachine_async.sandbox.pacing import strides
from salesmachine_async.sandbox.storage.search import count_events, search_events, search_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from salesmachine_async.sandbox.pacing import Steps
    from salesmachine_async.sandbox.state import SandboxState
    from salesmachine_async.sandbox.storage.store import EventRow, StoredRow
    from salesmachine_async.sandbox.views import (
        AccountView,
        ContactDetailView,
        ContactView,
        EventCounts,
        EventView,
        JudgedEventView,
        JudgedSummaryView,
        RequestDetailView,
        SummaryView,
        WorkspaceView,
    )

# SQLite's LIMIT for an unlimited result.
EVERYTHING = -1
# Intervals of the counts of events.
INTERVALS = 60


class AmbiguousError(LookupError):
    """Several workspaces exist and none was selected."""


class Inspection:
    """
    Read access to one sandbox.

    A workspace is given by its public name. None stands for the empty workspace of a server that has none yet. What may
    take long is a generator of steps, see `pacing`.

    Args:
        state: The state of the sandbox.
        decode: Converts the JSON text of params; `orjson.Fragment` leaves it as it is for a response.
    """

    def __init__(self, state: SandboxState, decode: Callable[[str], Any] = orjson.loads) -> None:
        self._state = state
        self._decode = decode
        self._store = state.store

    def only(self, name: str | None) -> str | None:
        """
        Return *name*, or the name of the only workspace if it is None; None if no workspace exists.

        Raises:
            AmbiguousError: *name* is None and several workspaces exist.
        """
        if name is not None:
            return name
        names = self._store.workspaces()
        if len(names) > 1:
            raise AmbiguousError(f"the sandbox has {len(names)} workspaces; select one by its API token")
        return names[0] if names else None

    def summary(self, name: str | None) -> SummaryView:
        """Return the counters of one workspace, or of all if *name* is None."""
        request_log = self._state.request_log
        with self._store.reading():
            found = None if name is None else self.find(name)
            summary: SummaryView = {
                "workspaces": len(self._store.workspaces()) if name is None else int(found != 0),
                **self._store.counts(found),  # type: ignore[typeddict-item]
                "bytes": request_log.size(name),
                "requests": request_log.statuses(name),
            }
        plan = self._state.plan_results.summary(name)
        if plan is None:
            return summary
        judged: JudgedSummaryView = {**summary, "plan": plan}
        return judged

    def workspaces(self) -> list[WorkspaceView]:
        """List all workspaces in the order of creation."""
        return [self._workspace_view(name, counts) for name, counts in self._store.all_counts()]

    def _workspace_view(self, name: str, counts: Mapping[str, int]) -> WorkspaceView:
        hint = self._state.hints.get(name)
        return {
            "workspace": name,
            "label": self._state.names.get(name),
            "token": hint.text if hint else None,
            "token_length": hint.length if hint else None,
            "used_at": iso(hint.used_at) if hint else None,
            "used_by": hint.used_by if hint else None,
            "contacts": counts["contacts"],
            "accounts": counts["accounts"],
            "events": counts["events"],
        }

    def contacts(
        self,
        name: str | None,
        after: str = "",
        limit: int = EVERYTHING,
        *,
        accept: Callable[[StoredRow], bool] | None = None,
        newest_first: bool = False,
    ) -> Steps[list[ContactView]]:
        """
        List contacts by uid, after the uid *after*; only those that *accept* accepts.

        With *newest_first* the order is that of creation, latest first, and *after* is the last uid already listed.
        """
        workspace = self.find(name)
        rows = yield from search_records(
            self._store,
            "contact",
            workspace,
            after=after,
            limit=limit,
            newest_first=newest_first,
            accept=accept,
        )
        views: list[ContactView] = []
        for part in strides(rows):
            views += self._contact_views(workspace, part)
            yield
        return views

    def contact(self, name: str | None, uid: str, limit: int = EVERYTHING) -> Steps[ContactDetailView | None]:
        """Return the contact with the uid or alias *uid*, with its first *limit* events."""
        found = self.contact_alone(name, uid)
        if found is None:
            return None
        events = yield from self.events(name, contact_uid=found["contact_uid"], limit=limit)
        return {**found, "events": events}

    def contact_alone(self, name: str | None, uid: str) -> ContactView | None:
        """Return the contact with the uid or alias *uid*, without its events."""
        with self._store.reading():
            workspace = self.find(name)
            rows = self._store.contacts(workspace, [self._own_uid(workspace, uid)])
            views = self._contact_views(workspace, rows)
            return views[0] if views else None

    def accounts(
        self,
        name: str | None,
        after: str = "",
        limit: int = EVERYTHING,
        *,
        accept: Callable[[StoredRow], bool] | None = None,
        newest_first: bool = False,
    ) -> Steps[list[AccountView]]:
        """
        List accounts by uid, after the uid *after*; only those that *accept* accepts.

        With *newest_first* the order is that of creation, latest first, and *after* is the last uid already listed.
        """
        workspace = self.find(name)
        rows = yield from search_records(
            self._store,
            "account",
            workspace,
            after=after,
            limit=limit,
            newest_first=newest_first,
            accept=accept,
        )
        views: list[AccountView] = []
        for part in strides(rows):
            views += self._account_views(workspace, part)
            yield
        return views

    def account(self, name: str | None, uid: str) -> AccountView | None:
        """Return one account."""
        with self._store.reading():
            workspace = self.find(name)
            views = self._account_views(workspace, self._store.accounts(workspace, [uid]))
            return views[0] if views else None

    def events(
        self,
        name: str | None,
        *,
        contact_uid: str | None = None,
        event_uid: str | None = None,
        account_uid: str | None = None,
        accept: Callable[[EventRow], bool] | None = None,
        after: int = 0,
        limit: int = EVERYTHING,
        newest_first: bool = False,
    ) -> Steps[list[EventView]]:
        """
        List events in the order of arrival; any uid of a contact finds all its events.

        With *newest_first* the order is reversed and *after* is the last `seq` already listed; 0 starts at the end.
        """
        workspace = self.find(name)
        equal = {"event_uid": event_uid, "account": account_uid}
        equal["contact"] = None if contact_uid is None else self._own_uid(workspace, contact_uid)
        rows = yield from search_events(
            self._store,
            workspace,
            after=after,
            limit=limit,
            newest_first=newest_first,
            equal={column: value for column, value in equal.items() if value is not None},
            accept=accept,
        )
        views: list[EventView] = []
        for part in strides(rows):
            views += [self._event_view(row) for row in part]
            yield
        return views

    def event_counts(self, name: str | None, seconds: int) -> Steps[EventCounts]:
        """Count the events of the last *seconds* by name, in equal intervals."""
        bucket = max(1, seconds * 1000 // INTERVALS)
        since = now() - bucket * INTERVALS + 1
        counts = yield from count_events(self._store, self.find(name), since=since, bucket=bucket, buckets=INTERVALS)
        return {
            "since": iso(since),
            "interval": bucket / 1000,
            "events": [{"event_uid": uid, "total": sum(each), "counts": each} for uid, each in counts.items()],
        }

    def changes(
        self, name: str | None, *, contact_uid: str | None, account_uid: str | None, limit: int
    ) -> list[dict[str, Any]]:
        """
        List the calls that changed a contact or an account, newest first, as far as the log of messages keeps them.

        Events are excluded, because `events` lists them. Any uid of a contact finds all its calls.
        """
        with self._store.reading():
            workspace = self.find(name)
            uids: set[str] = set()
            if contact_uid is not None:
                own_uid = self._own_uid(workspace, contact_uid)
                uids = {own_uid, *(uid for _, uid in self._store.further_uids(workspace, [own_uid]))}
        message_log = self._state.message_log
        return [] if name is None else list(islice(message_log.changes(name, uids, account_uid), limit))

    def request(self, name: str | None, number: int) -> Steps[RequestDetailView | None]:
        """Return one request, of any workspace if *name* is None, with those of its messages that are still kept."""
        found = self._state.request_log.request(name, number)
        if found is None:
            return None
        record, detail = found
        first = record.first
        kept = self._state.message_log.after(first - 1, detail["workspace"], self._decode) if first else iter(())
        for part in strides(takewhile(lambda item: item["number"] < first + record.accepted, kept)):
            detail["messages"] += [{**item, "seq": item["number"] - first + record.first_seq} for item in part]
            yield
        return detail

    def reset(self, name: str | None) -> None:
        """Delete everything in a workspace: state, log, faults."""
        if name is not None:
            self._store.delete_workspace(self.find(name))
            self._state.known.discard(name)
            self._state.request_log.forget(name)
            self._state.message_log.forget(name)
            self._state.plan_results.forget(name)
            self._state.faults.put((), name)

    def find(self, name: str | None) -> int:
        """Return the row id of a workspace; 0, which no row has, if it is unknown, because reading creates nothing."""
        return (name is not None and self._store.find_workspace(name)) or 0

    def _own_uid(self, workspace: int, uid: str) -> str:
        return self._store.aliases(workspace, [uid]).get(uid, uid)

    def _contact_views(self, workspace: int, rows: list[StoredRow]) -> list[ContactView]:
        uids = [row.uid for row in rows]
        further = _grouped(self._store.further_uids(workspace, uids))
        accounts = _grouped(self._store.memberships(workspace, uids))
        return [
            {
                "contact_uid": row.uid,
                "uids": [row.uid, *sorted(further.get(row.uid, ()))],
                "params": self._decode(row.params),
                "accounts": accounts.get(row.uid, []),
                "created_at": iso(row.created_at),
                "updated_at": iso(row.updated_at),
            }
            for row in rows
        ]

    def _account_views(self, workspace: int, rows: list[StoredRow]) -> list[AccountView]:
        contacts = _grouped(self._store.members(workspace, [row.uid for row in rows]))
        return [
            {
                "account_uid": row.uid,
                "params": self._decode(row.params),
                "contacts": contacts.get(row.uid, []),
                "created_at": iso(row.created_at),
                "updated_at": iso(row.updated_at),
            }
            for row in rows
        ]

    def _event_view(self, row: EventRow) -> EventView:
        view: EventView = {
            "seq": row.seq,
            "contact_uid": row.contact_uid,
            "event_uid": row.event_uid,
            "account_uid": row.account,
            "params": self._decode(row.params),
            "created_at": iso(row.created_at),
            "received_at": iso(row.received_at),
            "message_id": row.message_id,
        }
        plan = self._state.plan_results.plan
        if plan is None:
            return view
        problems = plan.judge("event", row.event_uid, orjson.loads(row.params), len(row.params))
        judged: JudgedEventView = {**view, "problems": [problem._asdict() for problem in problems]}
        return judged


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups
