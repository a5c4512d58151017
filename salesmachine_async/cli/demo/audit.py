"""
A record of what the shop tracked, and its comparison with the contents of a server.

The record is independent of the agent, because each call is recorded before the agent gets it. The comparison therefore
finds every message that the agent dropped, lost, altered or sent twice.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from salesmachine_async.cli.demo.shop import TrackingCalls

# Differences that are described; all of them are counted.
MAX_EXAMPLES = 5


class Discrepancy(StrEnum):
    """A kind of difference."""

    MISSING = "missing"
    UNEXPECTED = "unexpected"
    DUPLICATED = "duplicated"
    ALTERED = "altered"


class ExpectedEvent(NamedTuple):
    """A tracked event."""

    contact_uid: str
    event_uid: str
    params: dict[str, Any]


class ExpectedState:
    """The state of a server that has applied all calls."""

    def __init__(self) -> None:
        self.contacts: dict[str, dict[str, Any]] = {}
        self.accounts: dict[str, dict[str, Any]] = {}
        # By the number of the event, "n" of its params.
        self.events: dict[int, ExpectedEvent] = {}
        # The remaining contact, by the one that was merged into it.
        self.merged: dict[str, str] = {}
        self.calls: Counter[str] = Counter()

    def resolve(self, contact_uid: str) -> str:
        """Return the contact that *contact_uid* belongs to now."""
        return self.merged.get(contact_uid, contact_uid)


class RecordingTracker:
    """
    A tracker that records each call and passes it to the agent.

    Args:
        agent: The agent.
        expected: The record, which gets copies of the params.
    """

    def __init__(self, agent: TrackingCalls, expected: ExpectedState) -> None:
        self._agent = agent
        self._expected = expected

    def contact(self, contact_uid: str, params: Mapping[str, Any]) -> bool:
        """Record a contact: its params are updated."""
        self._expected.calls["contact"] += 1
        self._expected.contacts.setdefault(self._expected.resolve(contact_uid), {}).update(params)
        return self._agent.contact(contact_uid, params)

    def account(self, account_uid: str, params: Mapping[str, Any]) -> bool:
        """Record an account: its params are updated."""
        self._expected.calls["account"] += 1
        self._expected.accounts.setdefault(account_uid, {}).update(params)
        return self._agent.account(account_uid, params)

    def track(self, contact_uid: str, event_uid: str, params: Mapping[str, Any]) -> bool:
        """Record an event."""
        self._expected.calls["event"] += 1
        self._expected.events[params["n"]] = ExpectedEvent(contact_uid, event_uid, dict(params))
        return self._agent.track(contact_uid, event_uid, params)

    def pageview(self, contact_uid: str, params: Mapping[str, Any]) -> bool:
        """Record a pageview: an event named "pageview"."""
        self._expected.calls["pageview"] += 1
        self._expected.events[params["n"]] = ExpectedEvent(contact_uid, "pageview", dict(params))
        return self._agent.pageview(contact_uid, params)

    def alias(self, contact_uid: str, alias: str) -> bool:
        """Record a merge: the params of *contact_uid* take precedence over those of *alias*."""
        state = self._expected
        state.calls["alias"] += 1
        state.merged[alias] = contact_uid
        state.contacts[contact_uid] = state.contacts.pop(alias, {}) | state.contacts.get(contact_uid, {})
        return self._agent.alias(contact_uid, alias)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AuditResult:
    """
    The result of the comparison.

    Attributes:
        events: The number of events of the server.
        contacts: The number of contacts.
        accounts: The number of accounts.
        merged: The number of expected aliases that the server has merged.
        problems: The number of differences by kind.
        examples: Descriptions of the first differences.
    """

    events: int
    contacts: int
    accounts: int
    merged: int
    problems: Mapping[Discrepancy, int]
    examples: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no difference."""
        return not any(self.problems.values())


class Audit:
    """A comparison of a server with the expected state, one object at a time."""

    def __init__(self, expected: ExpectedState) -> None:
        self._expected = expected
        self._events: set[int] = set()
        self._contacts: set[str] = set()
        self._accounts: set[str] = set()
        self._merged: set[str] = set()
        self._held = 0
        self._problems: Counter[Discrepancy] = Counter(dict.fromkeys(Discrepancy, 0))
        self._examples: list[str] = []

    def event(self, contact_uid: str, event_uid: str, params: Mapping[str, Any]) -> None:
        """Compare an event of the server."""
        self._held += 1
        number = params.get("n")
        expected = self._expected.events.get(number) if isinstance(number, int) else None
        name = f"event {event_uid} number {number} of {contact_uid}"
        if expected is None or not isinstance(number, int):
            self._found(Discrepancy.UNEXPECTED, name)
        elif number in self._events:
            self._found(Discrepancy.DUPLICATED, name)
        else:
            self._events.add(number)
            # A server may or may not rewrite the uids of events of merged contacts.
            held = (self._expected.resolve(contact_uid), event_uid, params)
            if held != (self._expected.resolve(expected.contact_uid), expected.event_uid, expected.params):
                self._found(Discrepancy.ALTERED, name)

    def contact(self, contact_uid: str, params: Mapping[str, Any], aliases: tuple[str, ...]) -> None:
        """Compare a contact, its params and its aliases."""
        for alias in aliases:
            if self._expected.merged.get(alias) == contact_uid:
                self._merged.add(alias)
            else:
                self._found(Discrepancy.UNEXPECTED, f"alias {alias} of contact {contact_uid}")
        self._compare("contact", contact_uid, params, self._expected.contacts, self._contacts)

    def account(self, account_uid: str, params: Mapping[str, Any]) -> None:
        """Compare an account."""
        self._compare("account", account_uid, params, self._expected.accounts, self._accounts)

    def finish(self) -> AuditResult:
        """Count what is missing, and return the result."""
        for number in self._expected.events.keys() - self._events:
            event = self._expected.events[number]
            self._found(Discrepancy.MISSING, f"event {event.event_uid} number {number} of {event.contact_uid}")
        for uid in self._expected.contacts.keys() - self._contacts:
            self._found(Discrepancy.MISSING, f"contact {uid}")
        for uid in self._expected.accounts.keys() - self._accounts:
            self._found(Discrepancy.MISSING, f"account {uid}")
        for alias in self._expected.merged.keys() - self._merged:
            self._found(Discrepancy.MISSING, f"alias {alias} of contact {self._expected.merged[alias]}")
        return AuditResult(
            events=self._held,
            contacts=len(self._contacts),
            accounts=len(self._accounts),
            merged=len(self._merged),
            problems=dict(self._problems),
            examples=tuple(self._examples),
        )

    def _compare(
        self, kind: str, uid: str, params: Mapping[str, Any], expected: Mapping[str, Mapping[str, Any]], seen: set[str]
    ) -> None:
        name = f"{kind} {uid}"
        if uid not in expected:
            self._found(Discrepancy.UNEXPECTED, name)
        elif uid in seen:
            self._found(Discrepancy.DUPLICATED, name)
        else:
            seen.add(uid)
            if params != expected[uid]:
                self._found(Discrepancy.ALTERED, name)

    def _found(self, problem: Discrepancy, name: str) -> None:
        self._problems[problem] += 1
        if len(self._examples) < MAX_EXAMPLES:
            self._examples.append(f"{problem}: {name}")
