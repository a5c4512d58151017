"""The expected state and its comparison: every difference of a server is found."""

from collections.abc import Mapping
from typing import Any

import pytest

from salesmachine_async.cli.demo.audit import (
    MAX_EXAMPLES,
    Audit,
    AuditResult,
    Discrepancy,
    ExpectedEvent,
    ExpectedState,
    RecordingTracker,
)


class Refusing:
    """A tracker that drops every call, which must not change the record."""

    def contact(self, contact_uid: str, params: Mapping[str, Any]) -> bool:
        return False

    def account(self, account_uid: str, params: Mapping[str, Any]) -> bool:
        return False

    def track(self, contact_uid: str, event_uid: str, params: Mapping[str, Any]) -> bool:
        return False

    def pageview(self, contact_uid: str, params: Mapping[str, Any]) -> bool:
        return False

    def alias(self, contact_uid: str, alias: str) -> bool:
        return False


def tracked() -> ExpectedState:
    """Record one visitor who signs up, and one who does not."""
    ledger = ExpectedState()
    witness = RecordingTracker(Refusing(), ledger)
    witness.contact("anon-1", {"source": "search", "name": "?"})
    witness.pageview("anon-1", {"n": 1, "visit_url": "/"})
    witness.contact("anon-2", {"source": "friend"})
    witness.contact("user-1", {"name": "Ada", "orders": 0})
    witness.alias("user-1", "anon-1")
    witness.account("acme", {"name": "Acme", "user_count": 1})
    witness.account("acme", {"user_count": 2})
    witness.track("user-1", "order_placed", {"n": 2, "amount": 9.5})
    witness.contact("user-1", {"orders": 1})
    return ledger


class Held:
    """The contents of a correct server, which tests change."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, Any]]] = [
            ("anon-1", "pageview", {"n": 1, "visit_url": "/"}),
            ("user-1", "order_placed", {"n": 2, "amount": 9.5}),
        ]
        self.contacts: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
            ("anon-2", {"source": "friend"}, ()),
            ("user-1", {"source": "search", "name": "Ada", "orders": 1}, ("anon-1",)),
        ]
        self.accounts: list[tuple[str, dict[str, Any]]] = [("acme", {"name": "Acme", "user_count": 2})]

    def audit(self) -> AuditResult:
        audit = Audit(tracked())
        for event in self.events:
            audit.event(*event)
        for contact in self.contacts:
            audit.contact(*contact)
        for account in self.accounts:
            audit.account(*account)
        return audit.finish()


def problems(verdict: AuditResult) -> dict[str, int]:
    return {problem.value: count for problem, count in verdict.problems.items() if count}


def test_the_witness_passes_calls_on() -> None:
    """The shop gets the agent's results, and calls are counted by kind."""
    ledger = ExpectedState()
    witness = RecordingTracker(Refusing(), ledger)
    assert not witness.contact("1", {})
    assert not witness.account("1", {})
    assert not witness.track("1", "e", {"n": 1})
    assert not witness.pageview("1", {"n": 2})
    assert not witness.alias("1", "2")
    assert ledger.calls == {"contact": 1, "account": 1, "event": 1, "pageview": 1, "alias": 1}


def test_the_ledger_keeps_copies() -> None:
    """A later change of the params leaves the record unchanged."""
    ledger = ExpectedState()
    params: dict[str, Any] = {"n": 1}
    RecordingTracker(Refusing(), ledger).track("1", "e", params)
    params["n"] = 9
    assert ledger.events == {1: ExpectedEvent("1", "e", {"n": 1})}


def test_a_faithful_server_passes() -> None:
    """A server with exactly the tracked state has no problems, and everything is counted."""
    verdict = Held().audit()
    assert verdict.ok
    assert verdict.examples == ()
    assert (verdict.events, verdict.contacts, verdict.accounts, verdict.merged) == (2, 2, 1, 1)
    assert set(verdict.problems) == set(Discrepancy)


def test_events_may_be_shown_under_the_merged_contact() -> None:
    """An event of a merged contact may have the old or the new uid."""
    held = Held()
    held.events[0] = ("user-1", *held.events[0][1:])
    assert held.audit().ok


def test_missing_event() -> None:
    """An absent event is reported as missing, by its name."""
    held = Held()
    held.events.pop()
    verdict = held.audit()
    assert not verdict.ok
    assert problems(verdict) == {"missing": 1}
    assert verdict.examples == ("missing: event order_placed number 2 of user-1",)


def test_duplicated_event() -> None:
    """An event stored twice is reported as a duplicate."""
    held = Held()
    held.events.append(held.events[0])
    assert problems(held.audit()) == {"duplicated": 1}


@pytest.mark.parametrize("params", [{"n": 3}, {"n": "2"}, {}])
def test_unexpected_event(params: dict[str, Any]) -> None:
    """An event that was never tracked is unexpected, whatever its number looks like."""
    held = Held()
    held.events.append(("user-1", "order_placed", params))
    assert problems(held.audit()) == {"unexpected": 1}


@pytest.mark.parametrize(
    "event",
    [
        ("user-1", "order_placed", {"n": 2, "amount": 9.6}),
        ("user-1", "order_placed", {"n": 2, "amount": 9.5, "more": None}),
        ("user-1", "order_cancelled", {"n": 2, "amount": 9.5}),
        ("anon-2", "order_placed", {"n": 2, "amount": 9.5}),
    ],
)
def test_altered_event(event: tuple[str, str, dict[str, Any]]) -> None:
    """An event with another param, name or contact is altered."""
    held = Held()
    held.events[1] = event
    assert problems(held.audit()) == {"altered": 1}


def test_contacts_and_accounts_that_differ() -> None:
    """Contacts and accounts are compared by their merged params, and each counts once."""
    held = Held()
    held.contacts[0] = ("anon-2", {"source": "advert"}, ())
    held.accounts = [("acme", {"name": "Acme", "user_count": 1}), ("acme", {}), ("hooli", {})]
    assert problems(held.audit()) == {"altered": 2, "duplicated": 1, "unexpected": 1}


def test_everything_missing() -> None:
    """An empty server lacks every event, contact, account and alias."""
    verdict = Audit(tracked()).finish()
    assert problems(verdict) == {"missing": 2 + 2 + 1 + 1}
    assert len(verdict.examples) == MAX_EXAMPLES


def test_unmerged_contact() -> None:
    """An alias without effect is reported: the old contact exists, and the new one lacks its params."""
    held = Held()
    held.contacts = [
        ("anon-1", {"source": "search", "name": "?"}, ()),
        ("anon-2", {"source": "friend"}, ()),
        ("user-1", {"name": "Ada", "orders": 1}, ()),
    ]
    assert problems(held.audit()) == {"unexpected": 1, "altered": 1, "missing": 1}


def test_wrongly_merged_contact() -> None:
    """An alias that was not tracked is unexpected."""
    held = Held()
    held.contacts[1] = ("user-1", held.contacts[1][1], ("anon-1", "anon-7"))
    verdict = held.audit()
    assert problems(verdict) == {"unexpected": 1}
    assert verdict.examples == ("unexpected: alias anon-7 of contact user-1",)
