"""
What the shop tracked, written down apart from the agent, and the comparison with what a server holds.

The ledger shares nothing with the agent: it notes each call before the agent sees it. A message that the agent refused,
lost, garbled or sent twice is therefore found here, whatever the agent says about itself.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from salesmachine_async.cli.demo.shop import TrackingCalls

# How many differences are named; all of them are counted.
MAX_EXAMPLES = 5


class Problem(StrEnum):
    """How a server can differ from the ledger."""

    MISSING = "missing"
    UNEXPECTED = "unexpected"
    DUPLICATED = "duplicated"
    ALTERED = "altered"


class ExpectedEvent(NamedTuple):
    """One tracked event; its contact is the one it belongs to after merging."""

    contact_uid: str
    event_uid: str
    params: dict[str, Any]


class ExpectedState:
    """Everything that was tracked, by kind."""

    def __init__(self) -> None:
        self.contacts: dict[str, dict[str, Any]] = {}
        self.accounts: dict[str, dict[str, Any]] = {}
        # By the event's own number, the "n" of its params.
        self.events: dict[int, ExpectedEvent] = {}
        # From the contact that was merged away to the one that remains.
        self.merged: dict[str, str] = {}
        self.calls: Counter[str] = Counter()

    def resolve(self, contact_uid: str) -> str:
        """Give the contact that *contact_uid* now belongs to."""
        return self.merged.get(contact_uid, contact_uid)


class RecordingTracker:
    """
    A tracker that notes each call in a ledger and passes it on.

    Args:
        agent: What really tracks.
        ledger: Where each call is noted, with a copy of its params.
    """

    def __init__(self, agent: TrackingCalls, ledger: ExpectedState) -> None:
        self._agent = agent
        self._ledger = ledger

    def contact(self, contact_uid: str, params: Mapping[str, Any]) -> bool:
        """Note that the contact's params were set; earlier ones of other names stay."""
        self._ledger.calls["contact"] += 1
        self._ledger.contacts.setdefault(self._ledger.resolve(contact_uid), {}).update(params)
        return self._agent.contact(contact_uid, params)

    def account(self, account_uid: str, params: Mapping[str, Any]) -> bool:
        """Note that the account's params were set."""
        self._ledger.calls["account"] += 1
        self._ledger.accounts.setdefault(account_uid, {}).update(params)
        return self._agent.account(account_uid, params)

    def track(self, contact_uid: str, event_uid: str, params: Mapping[str, Any]) -> bool:
        """Note the event."""
        self._ledger.calls["event"] += 1
        self._ledger.events[params["n"]] = ExpectedEvent(contact_uid, event_uid, dict(params))
        return self._agent.track(contact_uid, event_uid, params)

    def pageview(self, contact_uid: str, params: Mapping[str, Any]) -> bool:
        """Note the pageview: an event named "pageview"."""
        self._ledger.calls["pageview"] += 1
        self._ledger.events[params["n"]] = ExpectedEvent(contact_uid, "pageview", dict(params))
        return self._agent.pageview(contact_uid, params)

    def alias(self, contact_uid: str, alias: str) -> bool:
        """Note that *alias* is now *contact_uid*, with all that was set on it; on conflict *contact_uid* wins."""
        ledger = self._ledger
        ledger.calls["alias"] += 1
        ledger.merged[alias] = contact_uid
        ledger.contacts[contact_uid] = ledger.contacts.pop(alias, {}) | ledger.contacts.get(contact_uid, {})
        return self._agent.alias(contact_uid, alias)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AuditResult:
    """
    What the comparison found.

    Attributes:
        events: How many events the server holds.
        contacts: How many contacts.
        accounts: How many accounts.
        merged: How many of the ledger's aliases the server has merged.
        problems: How many differences of each sort.
        examples: The first few of them, in words.
    """

    events: int
    contacts: int
    accounts: int
    merged: int
    problems: Mapping[Problem, int]
    examples: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the server holds exactly what was tracked."""
        return not any(self.problems.values())


class Audit:
    """Compares a server with the ledger, one thing at a time, so that the server's pages need not be kept."""

    def __init__(self, ledger: ExpectedState) -> None:
        self._ledger = ledger
        self._events: set[int] = set()
        self._contacts: set[str] = set()
        self._accounts: set[str] = set()
        self._merged: set[str] = set()
        self._held = 0
        self._problems: Counter[Problem] = Counter(dict.fromkeys(Problem, 0))
        self._examples: list[str] = []

    def event(self, contact_uid: str, event_uid: str, params: Mapping[str, Any]) -> None:
        """Take note of one event that the server holds."""
        self._held += 1
        number = params.get("n")
        expected = self._ledger.events.get(number) if isinstance(number, int) else None
        name = f"event {event_uid} number {number} of {contact_uid}"
        if expected is None or not isinstance(number, int):
            self._found(Problem.UNEXPECTED, name)
        elif number in self._events:
            self._found(Problem.DUPLICATED, name)
        else:
            self._events.add(number)
            # Both by the contact that remained: whether a server rewrites the uids of old events is its own affair.
            held = (self._ledger.resolve(contact_uid), event_uid, params)
            if held != (self._ledger.resolve(expected.contact_uid), expected.event_uid, expected.params):
                self._found(Problem.ALTERED, name)

    def contact(self, contact_uid: str, params: Mapping[str, Any], aliases: tuple[str, ...]) -> None:
        """Take note of one contact, its params, and the other uids that were merged into it."""
        for alias in aliases:
            if self._ledger.merged.get(alias) == contact_uid:
                self._merged.add(alias)
            else:
                self._found(Problem.UNEXPECTED, f"alias {alias} of contact {contact_uid}")
        self._thing("contact", contact_uid, params, self._ledger.contacts, self._contacts)

    def account(self, account_uid: str, params: Mapping[str, Any]) -> None:
        """Take note of one account."""
        self._thing("account", account_uid, params, self._ledger.accounts, self._accounts)

    def finish(self) -> AuditResult:
        """Count what the server should have shown and didn't."""
        for number in self._ledger.events.keys() - self._events:
            event = self._ledger.events[number]
            self._found(Problem.MISSING, f"event {event.event_uid} number {number} of {event.contact_uid}")
        for uid in self._ledger.contacts.keys() - self._contacts:
            self._found(Problem.MISSING, f"contact {uid}")
        for uid in self._ledger.accounts.keys() - self._accounts:
            self._found(Problem.MISSING, f"account {uid}")
        for alias in self._ledger.merged.keys() - self._merged:
            self._found(Problem.MISSING, f"alias {alias} of contact {self._ledger.merged[alias]}")
        return AuditResult(
            events=self._held,
            contacts=len(self._contacts),
            accounts=len(self._accounts),
            merged=len(self._merged),
            problems=dict(self._problems),
            examples=tuple(self._examples),
        )

    def _thing(
        self, kind: str, uid: str, params: Mapping[str, Any], expected: Mapping[str, Mapping[str, Any]], seen: set[str]
    ) -> None:
        name = f"{kind} {uid}"
        if uid not in expected:
            self._found(Problem.UNEXPECTED, name)
        elif uid in seen:
            self._found(Problem.DUPLICATED, name)
        else:
            seen.add(uid)
            if params != expected[uid]:
                self._found(Problem.ALTERED, name)

    def _found(self, problem: Problem, name: str) -> None:
        self._problems[problem] += 1
        if len(self._examples) < MAX_EXAMPLES:
            self._examples.append(f"{problem}: {name}")
