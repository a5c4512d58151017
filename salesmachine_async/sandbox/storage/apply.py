"""
Application of the messages of one request to the store, all or none.

The API documentation says that contacts and accounts are created or updated, that events need no declaration, and that
an alias merges two contacts. The sandbox defines what it leaves open:

* Updates merge `params` field by field, in the order of arrival. Absent fields are kept; null is a value.
* Each `params.account_uid` in a call for a contact links the contact to that account; links are never removed.
* An event creates an unknown contact, and an unknown `account_uid` creates the account.
* An event without `account_uid` is linked to the account of its contact if there is exactly one.
* A message with a known `messageId` is a duplicate: ignored and counted.
* Alias: the contact of `contact_uid` remains, its fields take precedence over those of the contact of `alias`, and the
  events, accounts and uids of both are joined. Unknown contacts are created; a repeated alias, or an alias to itself,
  changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from salesmachine_async.sandbox.pacing import at_once, strides
from salesmachine_async.sandbox.storage.store import EventRow, StoredRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from salesmachine_async.sandbox.messages import ParsedMessage
    from salesmachine_async.sandbox.pacing import Steps
    from salesmachine_async.sandbox.storage.store import Store

PAGEVIEW = "pageview"


class Applied(NamedTuple):
    """Number of applied messages and of duplicates, the applied messages themselves, and the `seq` of the first."""

    accepted: int
    duplicates: int
    messages: Sequence[ParsedMessage] = ()
    first_seq: int = 0


def apply_steps(
    store: Store,
    name: str,
    messages: Sequence[ParsedMessage],
    received: int,
    *,
    batches: int = 0,
    max_events: int | None = None,
) -> Steps[Applied]:
    """
    Apply *messages* to the workspace *name*, with one transaction at the end.

    The steps before it only read. If the workspace changes in between, they are repeated.

    Args:
        store: The store.
        name: The public name of the workspace; created if it is unknown.
        messages: The messages in order.
        received: Epoch milliseconds.
        batches: Number of batches to count.
        max_events: Limit of the events kept in the workspace; the oldest are evicted.
    """
    while True:
        workspace = store.workspace(name)
        version = store.version(workspace)
        fresh, message_ids = yield from _fresh(store, workspace, messages)
        work = _Work(store, workspace, received)
        yield from work.load(fresh)
        for part in strides(fresh):
            for message in part:
                work.apply(message)
            yield
        yield from work.prepare()
        result = Applied(len(fresh), len(messages) - len(fresh), fresh, version[1] + 1)
        counts = {**work.counts, "batches": batches, "accepted": result.accepted, "duplicates": result.duplicates}
        with store.writing():
            if store.find_workspace(name) == workspace and store.version(workspace) == version:
                work.save()
                store.add_seen(workspace, message_ids)
                store.count(workspace, **counts)
                if max_events is not None:
                    _evict(store, workspace, max_events)
                return result


def apply(
    store: Store, name: str, messages: Sequence[ParsedMessage], received: int, *, max_events: int | None = None
) -> Applied:
    """Apply *messages* to the workspace *name* without a pause, within the current transaction if there is one."""
    return at_once(apply_steps(store, name, messages, received, max_events=max_events))


def _fresh(
    store: Store, workspace: int, messages: Sequence[ParsedMessage]
) -> Steps[tuple[list[ParsedMessage], list[str]]]:
    """Return the messages that are not duplicates, and their message ids."""
    ids = {message.message_id for message in messages if message.message_id is not None}
    seen: set[str] = set()
    for part in strides(ids):
        seen |= store.seen(workspace, part)
        yield
    fresh: list[ParsedMessage] = []
    new: list[str] = []
    for message in messages:
        if message.message_id is not None:
            if message.message_id in seen:
                continue
            seen.add(message.message_id)
            new.append(message.message_id)
        fresh.append(message)
    return fresh, new


def _evict(store: Store, workspace: int, max_events: int) -> None:
    counts = store.counts(workspace)
    surplus = counts["events"] - counts["evicted"] - max_events
    if surplus > 0:
        store.evict_events(workspace, surplus)
        store.count(workspace, evicted=surplus)


class _WorkingRecord:
    """A contact or account during the application of a batch; *params* is parsed only for a merge."""

    __slots__ = ("changed", "created_at", "params", "text", "uid", "updated_at")

    def __init__(self, uid: str, text: str, created_at: int, updated_at: int, *, changed: bool) -> None:
        self.uid = uid
        self.text = text
        self.params: dict[str, Any] | None = None
        self.created_at = created_at
        self.updated_at = updated_at
        self.changed = changed

    def merge(self, message: ParsedMessage, at: int) -> None:
        """Merge the fields of *message*."""
        if self.params is None and self.text == "{}":
            # Fast path for the first fields of a record: nothing to parse or encode.
            self.text = message.text
        elif message.params:
            self._parsed().update(message.params)
        self.updated_at = at
        self.changed = True

    def inherit(self, other: _WorkingRecord) -> None:
        """Merge the fields that only *other* has."""
        self.params = {**other._parsed(), **self._parsed()}
        self.created_at = min(self.created_at, other.created_at)
        self.changed = True

    def row(self) -> StoredRow:
        """Return the row to store."""
        if self.params is not None:
            self.text = orjson.dumps(self.params).decode()
        return StoredRow(self.uid, self.text, self.created_at, self.updated_at)

    def _parsed(self) -> dict[str, Any]:
        if self.params is None:
            parsed: dict[str, Any] = orjson.loads(self.text)
            self.params = parsed
        return self.params


class _Work:
    """The records that one request affects: loaded by few queries, changed in memory, saved by few statements."""

    def __init__(self, store: Store, workspace: int, received: int) -> None:
        self._store = store
        self._workspace = workspace
        self._received = received
        self._seq = store.last_seq(workspace)
        self._events: list[EventRow] = []
        self._joined: list[tuple[str, str, int]] = []
        self.counts = dict.fromkeys(("contacts", "accounts", "events", "pageviews", "aliases"), 0)
        self._own_uid: dict[str, str] = {}
        self._contacts: dict[str, _WorkingRecord] = {}
        self._accounts: dict[str, _WorkingRecord] = {}
        self._accounts_of: dict[str, list[str]] = {}
        # Aliases as pairs of a uid and its contact; contacts merged into another as pairs of both.
        self._aliases: list[tuple[str, str]] = []
        self._absorbed: list[tuple[str, str]] = []
        self._rows: tuple[list[StoredRow], list[StoredRow]] = ([], [])

    def load(self, messages: Sequence[ParsedMessage]) -> Steps[None]:
        """Read the records that *messages* refer to."""
        store, workspace = self._store, self._workspace
        uids = {message.contact_uid for message in messages if message.contact_uid}
        uids.update(message.name for message in messages if message.kind == "alias")
        for part in strides(uids):
            self._own_uid.update(store.aliases(workspace, part))
            yield
        own_uids = {self._own_uid.get(uid, uid) for uid in uids}
        self._accounts_of = {uid: [] for uid in own_uids}
        for part in strides(own_uids):
            self._contacts.update(_records(store.contacts(workspace, part)))
            for contact, account in store.memberships(workspace, part):
                self._accounts_of[contact].append(account)
            yield
        for part in strides({message.account_uid for message in messages if message.account_uid}):
            self._accounts.update(_records(store.accounts(workspace, part)))
            yield

    def apply(self, message: ParsedMessage) -> None:
        """Apply one message."""
        self._seq += 1
        at = self._received if message.at is None else message.at
        if message.account_uid:
            account = self._account(message.account_uid, at)
            if message.kind == "account":
                account.merge(message, at)
                return
        contact = self._contact(message.contact_uid, at)
        if message.kind == "event":
            self._add_event(message, contact, at)
        elif message.kind == "contact":
            contact.merge(message, at)
            self._join(contact.uid, message.account_uid)
        else:
            self._alias(contact, message.name)

    def prepare(self) -> Steps[None]:
        """Build the rows to save."""
        for records, rows in zip((self._contacts, self._accounts), self._rows, strict=True):
            for part in strides(records.values()):
                rows += [each.row() for each in part if each.changed]
                yield

    def save(self) -> None:
        """Write all changes."""
        store, workspace = self._store, self._workspace
        for loser, winner in self._absorbed:
            store.absorb(workspace, loser, winner)
        for uid, contact in self._aliases:
            store.add_alias(workspace, uid, contact)
        contacts, accounts = self._rows
        store.save_contacts(workspace, contacts, self._received)
        store.save_accounts(workspace, accounts, self._received)
        store.add_memberships(workspace, self._joined)
        store.add_events(workspace, self._events)
        store.set_last_seq(workspace, self._seq)

    def _contact(self, uid: str, at: int) -> _WorkingRecord:
        own_uid = self._own_uid.get(uid, uid)
        contact = self._contacts.get(own_uid)
        if contact is None:
            contact = self._contacts[own_uid] = _WorkingRecord(own_uid, "{}", at, at, changed=True)
            self.counts["contacts"] += 1
        return contact

    def _account(self, uid: str, at: int) -> _WorkingRecord:
        account = self._accounts.get(uid)
        if account is None:
            account = self._accounts[uid] = _WorkingRecord(uid, "{}", at, at, changed=True)
            self.counts["accounts"] += 1
        return account

    def _join(self, contact: str, account: str) -> None:
        if account and account not in self._accounts_of[contact]:
            self._accounts_of[contact].append(account)
            self._joined.append((contact, account, self._seq))

    def _add_event(self, message: ParsedMessage, contact: _WorkingRecord, at: int) -> None:
        accounts = self._accounts_of[contact.uid]
        account = message.account_uid or (accounts[0] if len(accounts) == 1 else None)
        self._events.append(
            EventRow(
                self._seq,
                contact.uid,
                message.contact_uid,
                message.name,
                account,
                message.text,
                at,
                self._received,
                message.message_id,
            )
        )
        self.counts["events"] += 1
        self.counts["pageviews"] += message.name == PAGEVIEW

    def _alias(self, contact: _WorkingRecord, uid: str) -> None:
        """Merge two contacts; valid because an alias is always the only message of its request."""
        other_uid = self._own_uid.get(uid, uid)
        if other_uid == contact.uid:
            return
        other = self._contacts.pop(other_uid, None)
        if other is not None:
            contact.inherit(other)
            self._absorbed.append((other.uid, contact.uid))
            self.counts["contacts"] -= 1
        self._aliases.append((other_uid, contact.uid))
        self.counts["aliases"] += 1


def _records(rows: Iterable[StoredRow]) -> dict[str, _WorkingRecord]:
    return {row.uid: _WorkingRecord(*row, changed=False) for row in rows}
