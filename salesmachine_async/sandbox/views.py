"""The JSON shapes the control endpoints answer and the methods of `Sandbox` return. All times are ISO 8601, UTC."""

from __future__ import annotations

from typing import Any, TypedDict


class SummaryView(TypedDict):
    """
    What was received.

    `events` counts all events, pageviews among them; `pageviews` only these. `aliases` counts the further uids that
    contacts go by. `accepted` counts the messages applied, `duplicates` those ignored because their `messageId` was
    known, `rejected` those of refused requests. `evicted` counts the oldest events dropped to stay within the bound.
    `requests` (by status, or "dropped" when no answer was sent) and `bytes` (of their bodies) count since the
    server started; the rest survives a restart with a database file.
    """

    workspaces: int
    contacts: int
    accounts: int
    events: int
    pageviews: int
    aliases: int
    accepted: int
    duplicates: int
    rejected: int
    batches: int
    evicted: int
    bytes: int
    requests: dict[str, int]


class EventView(TypedDict):
    """
    One event.

    `seq` is its place in the order of arrival among all messages of the workspace. `contact_uid` is the uid that was
    sent, also after an alias. `account_uid` is the account it is linked to.
    """

    seq: int
    contact_uid: str
    event_uid: str
    account_uid: str | None
    params: dict[str, Any]
    created_at: str
    received_at: str
    message_id: str | None


class ContactView(TypedDict):
    """One contact; `uids` are all its uids, `contact_uid` first."""

    contact_uid: str
    uids: list[str]
    params: dict[str, Any]
    accounts: list[str]
    created_at: str
    updated_at: str


class ContactDetailView(ContactView):
    """One contact with its events in the order of their arrival."""

    events: list[EventView]


class AccountView(TypedDict):
    """One account."""

    account_uid: str
    params: dict[str, Any]
    contacts: list[str]
    created_at: str
    updated_at: str


class RequestView(TypedDict):
    """
    One request to the API, as it was answered.

    `status` is None when the connection was dropped without an answer. `workspace` is None when the credentials were
    missing or wrong. `items` counts its messages; `accepted` and `duplicates` what became of them.
    """

    id: int
    workspace: str | None
    method: str
    path: str
    status: int | None
    items: int
    accepted: int
    duplicates: int
    bytes: int
    received_at: str
    fault: dict[str, Any] | None
    error: str | None


class RequestDetailView(RequestView):
    """
    One request with what was in it.

    `headers` are pairs as they were sent, without what credentials were in them; of very long ones the beginning.
    `messages` are those that were applied, as `/_sandbox/wait` shows them, as far as they are kept. `index` and
    `excerpt` show what was refused in it, as in `RejectedView`; both are None when nothing was.
    """

    headers: list[tuple[str, str]]
    index: int | None
    excerpt: str | None
    messages: list[dict[str, Any]]


class RejectedView(TypedDict):
    """
    One request that was refused for what is in it.

    `id` is its number among the requests. `index` is the item of the batch that is at fault, None when it is the body
    as a whole or a single call. `excerpt` is the beginning of the item, or of the body, as text.
    """

    id: int
    workspace: str | None
    path: str
    status: int | None
    error: str | None
    items: int
    index: int | None
    excerpt: str
    received_at: str


class WorkspaceView(TypedDict):
    """One workspace: its public name, and how much is in it."""

    workspace: str
    contacts: int
    accounts: int
    events: int


class NearMiss(TypedDict):
    """A message that nearly was what was waited for; `differences` hold `path`, `wanted` and, if any, `found`."""

    item: dict[str, Any]
    differences: list[dict[str, Any]]


class WaitResult(TypedDict):
    """
    What came of waiting.

    `ok` tells whether `wanted` messages were there in time. `items` are those that fit, oldest first; `next` is the
    number to wait from when they shall not count again. `nearest` shows, when it failed, the messages that missed by
    the least.
    """

    ok: bool
    wanted: int
    found: int
    items: list[dict[str, Any]]
    next: int
    nearest: list[NearMiss]


class ReplayResult(TypedDict):
    """What came of a replay: how many lines were read, and messages applied or known already."""

    lines: int
    accepted: int
    duplicates: int
