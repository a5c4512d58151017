"""Records of other SDKs, imported from files as they export them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from salesmachine_async.cli.importing.formats import CONVERTERS, NotMappable
from salesmachine_async.sandbox import Sandbox
from salesmachine_async.testing import serve
from tests.support.imports import import_json, keys, run_import

DATA = Path(__file__).parent / "data"


def imported(sandbox: Sandbox, sdk: str, tmp_path: Path) -> tuple[dict[str, Any], list[str]]:
    """Import the file of an SDK; return the result and the reasons of its rejected rows."""
    rejects = tmp_path / "r.ndjson"
    file = DATA / f"{sdk}.ndjson"
    _, summary = import_json(file, "--from", sdk, "--no-checkpoint", "--rejects", rejects, **keys(sandbox))
    return summary, [json.loads(line)["reason"] for line in rejects.read_text().splitlines()]


def events(sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    return {event["event_uid"]: dict(event) for event in sandbox.events(limit=100)}


def test_segment(tmp_path: Path) -> None:
    """Segment's identify, group, track, page and alias are mapped; screen and records without an id are rejected."""
    with serve() as sandbox:
        summary, reasons = imported(sandbox, "segment", tmp_path)
        assert (summary["delivered"], summary["rejected"]) == (5, 2)
        contact = sandbox.contact("97980cfea0067")
        assert contact["params"]["name"] == "Peter Gibbons"
        assert contact["params"]["account_uid"] == "0e8c78ea9d97a7b8185e8632"
        assert "507f191e810c19729de860ea" in contact["uids"]
        assert sandbox.account("0e8c78ea9d97a7b8185e8632")["params"]["employees"] == 329
        found = events(sandbox)
        assert found["Course Clicked"]["params"] == {
            "title": "Intro to Analytics",
            "price": 9.5,
            "account_uid": "0e8c78ea9d97a7b8185e8632",
        }
        assert found["Course Clicked"]["message_id"] == "022bb90c-0003"
        assert found["Course Clicked"]["created_at"] == "2026-02-23T22:28:57.387Z"
        page = found["pageview"]["params"]
        assert page["visit_url"] == "https://shop.example/pricing"
        assert (page["visit_ip"], page["visit_agent"]) == ("203.0.113.7", "Mozilla/5.0 (Macintosh)")
        assert found["pageview"]["created_at"] == "2026-02-23T22:28:58.387Z"
    assert reasons == [
        'is of the type "screen", which has no equivalent; expected identify, group, track, page, alias',
        "has neither userId nor anonymousId",
    ]


def test_rudderstack(tmp_path: Path) -> None:
    """RudderStack's traits in the context and empty user ids are read."""
    with serve() as sandbox:
        summary, reasons = imported(sandbox, "rudderstack", tmp_path)
        assert (summary["delivered"], summary["rejected"]) == (4, 1)
        assert sandbox.contact("rs-1")["params"] == {"name": "Ann", "email": "ann@example.com", "account_uid": "acme"}
        assert sandbox.account("acme")["params"] == {"name": "Acme"}
        found = events(sandbox)
        assert found["Order Completed"]["params"] == {"revenue": 49.9, "products": [{"sku": "A1"}]}
        assert found["pageview"]["contact_uid"] == "c01c3ae0-3c2b"
        assert found["pageview"]["params"]["visit_ip"] == "198.51.100.1"
    assert reasons[0].startswith('is of the type "merge"')


def test_posthog(tmp_path: Path) -> None:
    """PostHog's persons, groups, aliases, pageviews and own events are mapped; internal events are rejected."""
    with serve() as sandbox:
        summary, reasons = imported(sandbox, "posthog", tmp_path)
        assert (summary["delivered"], summary["rejected"]) == (5, 1)
        contact = sandbox.contact("user-42")
        assert contact["params"]["email"] == "kim@example.com"
        assert contact["params"]["first_seen"] == "2026-01-01"
        assert {"0190f1d2-anon", "backend-42"} <= set(contact["uids"])
        found = events(sandbox)
        assert found["signed_up"]["params"] == {"method": "google", "account_uid": "acme"}
        assert found["signed_up"]["message_id"] == "0190f1d2-0002"
        assert found["pageview"]["params"] == {
            "tab": "plans",
            "visit_url": "https://app.example/billing",
            "visit_ip": "203.0.113.9",
            "visit_agent": "Mozilla/5.0",
        }
        assert sandbox.account("acme")["params"] == {"name": "Acme", "seats": 12}
    assert reasons == ['is "$autocapture", an internal event of PostHog without an equivalent']


def test_mixpanel(tmp_path: Path) -> None:
    """Mixpanel's events, profiles, groups and merged ids are mapped."""
    with serve() as sandbox:
        summary, reasons = imported(sandbox, "mixpanel", tmp_path)
        assert (summary["delivered"], summary["rejected"]) == (6, 2)
        contact = sandbox.contact("mp-7")
        assert contact["params"] == {"email": "joe@example.com", "name": "Joe", "Plan": "Pro"}
        assert {"$device:1850ab", "mp-old"} <= set(contact["uids"])
        found = events(sandbox)
        assert found["Signed Up"]["params"] == {"Plan": "Pro"}
        assert found["Signed Up"]["created_at"] == "2026-01-01T00:00:00.000Z"
        assert found["pageview"]["params"]["visit_url"] == "https://shop.example/"
        assert sandbox.account("acme")["params"] == {"name": "Acme", "seats": 3}
    assert "internal event of Mixpanel" in reasons[0]
    assert reasons[1] == 'has no "event" and no "$properties" or "$set"'


def test_amplitude(tmp_path: Path) -> None:
    """Amplitude's identify operations, events, pageviews and groups are mapped."""
    with serve() as sandbox:
        summary, reasons = imported(sandbox, "amplitude", tmp_path)
        assert (summary["delivered"], summary["rejected"]) == (4, 2)
        assert sandbox.contact("amp-1")["params"]["email"] == "lee@example.com"
        assert sandbox.contact("amp-1")["params"]["source"] == "ad"
        found = events(sandbox)
        assert found["Song Played"]["params"] == {"title": "Blue", "length": 210, "account_uid": "acme"}
        assert found["Song Played"]["message_id"] == "5f0adeff-2"
        assert found["Song Played"]["created_at"] == "2026-05-01T10:01:00.000Z"
        assert found["pageview"]["contact_uid"] == "dev-1"
        assert found["pageview"]["params"]["visit_url"] == "https://music.example/"
        assert sandbox.account("acme")["params"] == {"name": "Acme"}
    assert reasons == [
        'changes properties with "$add", which has no equivalent',
        "has neither user_id nor device_id",
    ]


def test_imported_again_nothing_is_doubled(tmp_path: Path) -> None:
    """The ids of the records make a second import recognisable, also for rows with two messages."""
    with serve() as sandbox:
        for _ in range(2):
            imported(sandbox, "segment", tmp_path)
            (tmp_path / "r.ndjson").unlink()
        assert sandbox.summary()["events"] == 2


@pytest.mark.parametrize("options", [("--type", "event"), ("--map", "a=b"), ("--types", "auto"), ("--set", "a=b")])
def test_options_that_exclude_each_other(options: tuple[str, ...]) -> None:
    """--from has its own mapping, so that options for columns are usage errors."""
    ended = run_import(str(DATA / "segment.ndjson"), "--from", "segment", "--dry-run", *options)
    assert ended.status == 2
    assert "--from excludes" in ended.err


def test_csv_is_a_usage_error(tmp_path: Path) -> None:
    """--from reads NDJSON only."""
    file = tmp_path / "a.csv"
    file.write_text("a\n1\n")
    ended = run_import(str(file), "--from", "mixpanel", "--dry-run")
    assert (ended.status, "is CSV; --from reads NDJSON" in ended.err) == (2, True), ended


@pytest.mark.parametrize("sdk", sorted(CONVERTERS))
@pytest.mark.parametrize(
    "record",
    [
        {},
        {"type": 7, "event": 7, "event_type": 7},
        {"type": "identify", "traits": [], "event": "$set", "properties": 5, "distinct_id": "1", "event_type": "x"},
        {"type": "alias", "event": "$create_alias", "distinct_id": "1", "properties": {}, "event_type": "$identify"},
        {"type": "group", "event": "$merge", "properties": {"$distinct_ids": 5}, "event_type": "$groupidentify"},
        {"properties": "{broken", "event": "x", "distinct_id": "1"},
    ],
)
def test_hostile_records(sdk: str, record: dict[str, Any]) -> None:
    """A record of another shape is rejected with a reason, and never an error of another kind."""
    with pytest.raises(NotMappable):
        CONVERTERS[sdk](record)
