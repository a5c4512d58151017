"""JSON types of the control endpoints and of the methods of `Sandbox`. All times are ISO 8601 in UTC."""

from __future__ import annotations

from typing import Any, TypedDict


class SummaryView(TypedDict):
    """
    The counters.

    `events` counts all events including pageviews; `pageviews` only these. `aliases` counts the further uids of
    contacts. `accepted` counts the messages applied, `duplicates` those ignored because their `messageId` was known,
    `rejected` those of rejected requests. `evicted` counts the oldest events deleted to stay within the limit.
    `requests` (by status, or "dropped" if no response was sent) and `bytes` (of their bodies) count since the server
    started; with a database file the other counters survive a restart.
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


class PlanSummary(TypedDict):
    """Number of good and bad messages under the tracking plan since the server started."""

    good: int
    bad: int


class JudgedSummaryView(SummaryView):
    """The counters with those of the tracking plan."""

    plan: PlanSummary


class EventView(TypedDict):
    """
    One event.

    `seq` is its position among all messages of the workspace. `contact_uid` is the uid that was sent, also after an
    alias. `account_uid` is the linked account.
    """

    seq: int
    contact_uid: str
    event_uid: str
    account_uid: str | None
    params: dict[str, Any]
    created_at: str
    received_at: str
    message_id: str | None


class NamedCounts(TypedDict):
    """The events of one name: their number, and their numbers in each interval, oldest first."""

    event_uid: str
    total: int
    counts: list[int]


class EventCounts(TypedDict):
    """Events by name over time: intervals of `interval` seconds from `since`; the most frequent name first."""

    since: str
    interval: float
    events: list[NamedCounts]


class JudgedEventView(EventView):
    """One event with its problems under the tracking plan: objects of `path` and `reason`, none for a good event."""

    problems: list[dict[str, str]]


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
    One request to the API.

    `status` is None if the connection was dropped without a response. `workspace` is None if the credentials were
    missing or wrong. `items` counts its messages, `accepted` and `duplicates` their outcomes.
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
    One request with its content.

    `headers` are pairs as they were sent, with credentials redacted and very long ones truncated. `messages` are the
    applied messages in the form of `/_sandbox/wait`, as far as they are kept. `index` and `excerpt` show the rejected
    content, as in `RejectedView`; both are None if nothing was rejected.
    """

    headers: list[tuple[str, str]]
    index: int | None
    excerpt: str | None
    messages: list[dict[str, Any]]


class RejectedView(TypedDict):
    """
    One request that was rejected.

    `id` is its number among the requests. `index` is the position of the invalid item in the batch; None for a single
    call, or if the request as a whole is invalid. `excerpt` is the beginning of the item, or of the body, as text.
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
    """
    One workspace: its public name, its label, and its counters.

    `label` is given with `--name`. `token` shows the first and the last two characters of a token with at least eight,
    `token_length` counts all of them. `used_at` and `used_by` are the time and the User-Agent of the last request. They
    are None for a workspace that was not used since the server started.
    """

    workspace: str
    label: str | None
    token: str | None
    token_length: int | None
    used_at: str | None
    used_by: str | None
    contacts: int
    accounts: int
    events: int


class NearMiss(TypedDict):
    """A message that nearly matched; `differences` are objects of `path`, `wanted` and, if it exists, `found`."""

    item: dict[str, Any]
    differences: list[dict[str, Any]]


class WaitResult(TypedDict):
    """
    The result of waiting.

    `ok` is whether `wanted` messages arrived in time. `items` are the messages that match, oldest first; `next` is the
    `after` of the next call, if they must not count again. `nearest` contains, after a timeout, the messages with the
    fewest differences.
    """

    ok: bool
    wanted: int
    found: int
    items: list[dict[str, Any]]
    next: int
    nearest: list[NearMiss]


class ReplayResult(TypedDict):
    """The result of a replay: the number of lines, of applied messages and of duplicates."""

    lines: int
    accepted: int
    duplicates: int
