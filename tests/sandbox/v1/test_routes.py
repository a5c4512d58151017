"""The tracking endpoints: responses and state."""

from __future__ import annotations

from typing import Any

import pytest

from salesmachine_async.sandbox import Sandbox
from tests.sandbox.conftest import Client

SUCCESS = {"status": "success"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/ping", None),
        ("/v1/contact", {"contact_uid": "1", "params": {"name": "Elon"}}),
        ("/v1/contact", {"contact_uid": "1"}),
        ("/v1/contact", {"contact_uid": "1", "params": None, "context": {"library": "x"}}),
        ("/v1/account", {"account_uid": "1", "params": {}}),
        ("/v1/track/event", {"contact_uid": "1", "event_uid": "testing the timestamp"}),
        ("/v1/alias", {"contact_uid": "1", "alias": "2"}),
        ("/v1/alias", {"contact_uid": "1", "alias": "2", "params": {"account_uid": []}}),
    ],
)
async def test_single_call_is_answered_200(client: Client, path: str, body: Any) -> None:
    """Single calls are answered 200 with the documented body."""
    answer = await client.post(path, body)
    assert (answer.status, answer.body) == (200, SUCCESS)
    assert answer.headers["Content-Type"] == "application/json"


async def test_batch_is_answered_201(client: Client) -> None:
    """A batch is answered 201."""
    answer = await client.post("/v1/batch", [{"method": "contact", "contact_uid": "1"}])
    assert (answer.status, answer.body) == (201, SUCCESS)


async def test_ping_makes_the_workspace(client: Client, sandbox: Sandbox) -> None:
    """A ping creates a workspace and counts no message."""
    await client.post("/v1/ping")
    assert sandbox.summary()["workspaces"] == 1
    assert sandbox.summary()["accepted"] == 0


async def test_params_are_merged_field_by_field(client: Client, sandbox: Sandbox) -> None:
    """Absent fields are kept, null is a value, nested values are replaced as a whole."""
    await client.contact("1", email="a@b.c", plan={"name": "pro", "seats": 3}, mrr=1)
    await client.contact("1", mrr=None, plan={"name": "free"}, 名="x")
    await client.contact("1")
    assert sandbox.contact("1")["params"] == {"email": "a@b.c", "plan": {"name": "free"}, "mrr": None, "名": "x"}
    await client.account("9", name="Tesla", mrr=1)
    await client.account("9", mrr=2)
    assert sandbox.account("9")["params"] == {"name": "Tesla", "mrr": 2}


async def test_merging_within_a_batch(client: Client, sandbox: Sandbox) -> None:
    """Items of a batch are applied in order."""
    items = [{"method": "contact", "contact_uid": "1", "params": {"n": n, f"f{n}": n}} for n in range(3)]
    items.append({"method": "contact", "contact_uid": "1", "params": {}})
    await client.post("/v1/batch", items)
    assert sandbox.contact("1")["params"] == {"n": 2, "f0": 0, "f1": 1, "f2": 2}
    assert sandbox.summary()["contacts"] == 1


async def test_contact_belongs_to_several_accounts(client: Client, sandbox: Sandbox) -> None:
    """Each account_uid adds one link, in order; an unknown account is created."""
    for account in ("b", "a", "b", None):
        await client.contact("1", account_uid=account)
    assert sandbox.contact("1")["accounts"] == ["b", "a"]
    assert sandbox.account("a")["contacts"] == ["1"]
    assert [each["account_uid"] for each in sandbox.accounts()] == ["a", "b"]


async def test_event_is_linked_to_contact_and_account(client: Client, sandbox: Sandbox) -> None:
    """An event creates an unknown contact and account, but no link between them."""
    await client.track("1", "login", account_uid="9", n=1)
    (event,) = sandbox.events(contact_uid="1")
    assert (event["event_uid"], event["account_uid"], event["params"]) == ("login", "9", {"account_uid": "9", "n": 1})
    assert sandbox.contact("1")["accounts"] == []
    assert sandbox.account("9")["contacts"] == []
    assert sandbox.events(account_uid="9") == [event]


async def test_event_takes_the_only_account_of_its_contact(client: Client, sandbox: Sandbox) -> None:
    """Without account_uid an event is linked to the account of its contact, if there is exactly one."""
    await client.track("1", "before")
    await client.contact("1", account_uid="a")
    await client.track("1", "one")
    await client.contact("1", account_uid="b")
    await client.track("1", "two")
    assert [event["account_uid"] for event in sandbox.events()] == [None, "a", None]


async def test_pageviews_are_counted(client: Client, sandbox: Sandbox) -> None:
    """A pageview is the event named pageview."""
    await client.track("1", "pageview", visit_url="/home")
    await client.track("1", "login")
    assert (sandbox.summary()["pageviews"], sandbox.summary()["events"]) == (1, 2)


async def test_numbers_are_uids(client: Client, sandbox: Sandbox) -> None:
    """Numbers are accepted as uids and converted to text."""
    await client.contact(1234, account_uid=78)
    await client.contact("1234", n=1)
    await client.contact(5.0)
    await client.contact(5.5)
    assert [each["contact_uid"] for each in sandbox.contacts()] == ["1234", "5", "5.5"]
    assert sandbox.contact("1234")["accounts"] == ["78"]


@pytest.mark.parametrize(
    ("path", "body", "problem"),
    [
        ("/v1/contact", {}, "contact_uid is missing"),
        ("/v1/contact", {"contact_uid": None}, "contact_uid is missing"),
        ("/v1/contact", {"contact_uid": ""}, "contact_uid is empty"),
        ("/v1/contact", {"contact_uid": True}, "contact_uid must be a string"),
        ("/v1/contact", {"contact_uid": ["1"]}, "contact_uid must be a string"),
        ("/v1/contact", {"contact_uid": 2**70}, "contact_uid is a number too large to be exact; send a string"),
        ("/v1/contact", {"contact_uid": "1", "params": []}, "params must be an object"),
        ("/v1/contact", {"contact_uid": "1", "params": {"account_uid": ""}}, "params.account_uid is empty"),
        ("/v1/contact", {"contact_uid": "1", "params": {"account_uid": {}}}, "params.account_uid must be a string"),
        ("/v1/contact", {"contact_uid": "1", "messageId": ""}, "messageId must be a non-empty string"),
        ("/v1/contact", {"contact_uid": "1", "messageId": 7}, "messageId must be a non-empty string"),
        ("/v1/contact", ["contact_uid"], "the body must be an object"),
        ("/v1/contact", "contact_uid", "the body must be an object"),
        ("/v1/account", {"contact_uid": "1"}, "account_uid is missing"),
        ("/v1/track/event", {"event_uid": "x"}, "contact_uid is missing"),
        ("/v1/track/event", {"contact_uid": "1", "event": "x"}, "event_uid is missing"),
        ("/v1/alias", {"contact_uid": "1"}, "alias is missing"),
        ("/v1/alias", {"alias": "1"}, "contact_uid is missing"),
        ("/v1/batch", {}, "the body must be an array"),
        ("/v1/batch", [], "the batch is empty"),
        ("/v1/batch", [{"contact_uid": "1"}], "items[0].method is missing"),
        ("/v1/batch", [{"method": "alias"}], "items[0].method must be one of contact, account, event"),
        ("/v1/batch", [{"method": ["event"]}], "items[0].method must be one of contact, account, event"),
        ("/v1/batch", [7], "items[0] must be an object"),
    ],
)
async def test_bad_request_names_the_field(client: Client, path: str, body: Any, problem: str) -> None:
    """A 400 names the item and the field."""
    answer = await client.post(path, body)
    assert (answer.status, answer.body) == (400, {"error": problem})


async def test_batch_is_accepted_whole_or_not_at_all(client: Client, sandbox: Sandbox) -> None:
    """One invalid item rejects its batch, and is named."""
    good = {"method": "event", "contact_uid": "1", "event_uid": "x"}
    answer = await client.post("/v1/batch", [good, good, good, {"method": "contact", "params": {}}, {}])
    assert (answer.status, answer.body) == (400, {"error": "items[3].contact_uid is missing"})
    summary = sandbox.summary()
    assert (summary["events"], summary["rejected"], summary["batches"], summary["accepted"]) == (0, 5, 0, 0)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "invalid JSON: Input is a zero-length, empty document"),
        (b"{", "invalid JSON: "),
        (b'{"contact_uid": NaN}', "invalid JSON: "),
        (b'{"contact_uid": "1", "params": {"x": Infinity}}', "invalid JSON: "),
        (b'{"contact_uid": "1", "params": {"x": 1e999}}', "invalid JSON: "),
        (b'{"contact_uid": "\xff"}', "invalid JSON: "),
        (b"[" * 5000, "invalid JSON: "),
    ],
)
@pytest.mark.parametrize("path", ["/v1/contact", "/v1/batch"])
async def test_json_is_parsed_strictly(client: Client, path: str, body: bytes, problem: str) -> None:
    """Invalid JSON is answered 400."""
    answer = await client.send(path, body)
    assert answer.status == 400
    assert answer.body["error"].startswith(problem)


async def test_lone_surrogate_is_refused_with_its_place(client: Client, sandbox: Sandbox) -> None:
    """An escaped lone surrogate is answered 400 with its position; a pair is one character."""
    answer = await client.send("/v1/contact", r'{"contact_uid": "\ud800"}')
    assert answer.status == 400
    assert "line 1 column" in answer.body["error"]
    assert (await client.send("/v1/contact", r'{"contact_uid": "\ud83d\ude00"}')).status == 200
    assert sandbox.contacts()[0]["contact_uid"] == "😀"


async def test_deep_nesting_is_refused(client: Client) -> None:
    """Params that orjson can read but not write are rejected."""
    answer = await client.send("/v1/contact", '{"contact_uid": "1", "params": {"x": ' + "[" * 500 + "]" * 500 + "}}")
    assert (answer.status, answer.body) == (400, {"error": "params is nested too deeply; the limit is 253 levels"})


HOSTILE = [
    "a\0b",
    "\u202eevil",
    "line\u2028line",
    "'; DROP TABLE event; --",
    "%",
    "a/b",
    "..",
    "\n",
    "é" * 500,
    "?#",
]


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_texts_are_kept_exactly(client: Client, sandbox: Sandbox, text: str) -> None:
    """Any Unicode text is a uid, an event name, a message id and a value."""
    item = {"contact_uid": text, "event_uid": text, "messageId": text, "params": {text: text, "account_uid": text}}
    for _ in range(2):
        answer = await client.post("/v1/batch", [{"method": "event", **item}, {"method": "contact", **item}])
        assert answer.status == 201
    assert sandbox.summary()["accepted"] == 1
    assert sandbox.summary()["duplicates"] == 3
    await client.contact(text, account_uid=text)
    await client.alias(text, text + "2")
    contact = sandbox.contact(text + "2")
    assert contact["uids"] == [text, text + "2"]
    assert contact["accounts"] == [text]
    (event,) = found = sandbox.events(contact_uid=text, event_uid=text, account_uid=text)
    assert event["params"] == {text: text, "account_uid": text}
    assert (await client.get("events", contact_uid=text))["events"] == found


async def test_message_id_seen_before_is_not_applied_again(client: Client, sandbox: Sandbox) -> None:
    """A known messageId counts as a duplicate: within a batch, across batches, and in single calls."""
    event = {"contact_uid": "1", "event_uid": "x"}
    items = [{**event, "method": "event", "messageId": each} for each in ("a", "b", "a")]
    await client.post("/v1/batch", items)
    await client.post("/v1/batch", [*items, {**event, "method": "event", "messageId": "c"}])
    await client.post("/v1/track/event", {**event, "messageId": "c"})
    summary = sandbox.summary()
    assert (summary["accepted"], summary["duplicates"], summary["events"]) == (3, 5, 3)
    assert [event["message_id"] for event in sandbox.events()] == ["a", "b", "c"]
    assert [request["duplicates"] for request in sandbox.requests()] == [1, 3, 1]


async def test_messages_without_id_are_always_applied(client: Client, sandbox: Sandbox) -> None:
    """Without messageId there are no duplicates."""
    items = [{"method": "event", "contact_uid": "1", "event_uid": "x", "messageId": None}] * 3
    await client.post("/v1/batch", items)
    assert (sandbox.summary()["accepted"], sandbox.summary()["duplicates"]) == (3, 0)


async def test_seq_is_the_order_of_arrival(client: Client, sandbox: Sandbox) -> None:
    """Messages of all kinds share one sequence."""
    await client.track("1", "a")
    await client.contact("1")
    await client.post("/v1/batch", [{"method": "event", "contact_uid": "1", "event_uid": each} for each in "bcd"])
    assert [(event["seq"], event["event_uid"]) for event in sandbox.events()] == [
        (1, "a"),
        (3, "b"),
        (4, "c"),
        (5, "d"),
    ]


async def test_batch_larger_than_one_statement(client: Client, sandbox: Sandbox) -> None:
    """A batch may affect more rows than one statement can select."""
    items = [
        {"method": "contact", "contact_uid": f"c{n}", "messageId": f"m{n}", "params": {"account_uid": f"a{n}"}}
        for n in range(1200)
    ]
    for _ in range(2):
        assert (await client.post("/v1/batch", items)).status == 201
    summary = sandbox.summary()
    assert (summary["contacts"], summary["accounts"], summary["duplicates"]) == (1200, 1200, 1200)
    assert len(sandbox.contacts()) == 1200


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("2013-01-01T00:00:00.000Z", "2013-01-01T00:00:00.000Z"),
        ("2013-01-01T01:00:00.123+01:00", "2013-01-01T00:00:00.123Z"),
        ("2013-01-01T00:00:00", "2013-01-01T00:00:00.000Z"),
        ("2013-01-01", "2013-01-01T00:00:00.000Z"),
        (1356998400, "2013-01-01T00:00:00.000Z"),
        (1356998400.5, "2013-01-01T00:00:00.500Z"),
        (1356998400123, "2013-01-01T00:00:00.123Z"),
        (-1, "1969-12-31T23:59:59.000Z"),
        ("0999-01-01T00:00:00Z", "0999-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
    ],
)
async def test_created_at_is_the_time_of_the_event(client: Client, sandbox: Sandbox, sent: Any, shown: str) -> None:
    """ISO 8601 and epochs in seconds or milliseconds are parsed."""
    await client.post("/v1/track/event", {"contact_uid": "1", "event_uid": "x", "created_at": sent})
    assert sandbox.events()[0]["created_at"] == shown
    assert sandbox.contact("1")["created_at"] == shown


@pytest.mark.parametrize("sent", [None, "", "soon", True, {}, [1], 1e300, -1e300, 10**17, "0001-01-01T00:00:00+23:59"])
async def test_created_at_not_understood_is_ignored(client: Client, sandbox: Sandbox, sent: Any) -> None:
    """A missing or invalid time is replaced by the time of arrival."""
    await client.post("/v1/track/event", {"contact_uid": "1", "event_uid": "x", "created_at": sent})
    (event,) = sandbox.events()
    assert event["created_at"] == event["received_at"]


async def test_updated_at_follows_the_messages(client: Client, sandbox: Sandbox) -> None:
    """A record has the times of its first and its latest message."""
    for day in (1, 2):
        body = {"contact_uid": "1", "params": {}, "created_at": f"2013-01-0{day}"}
        await client.post("/v1/contact", body)
    contact = sandbox.contact("1")
    assert (contact["created_at"][:10], contact["updated_at"][:10]) == ("2013-01-01", "2013-01-02")


async def test_oldest_events_are_evicted(session: Any) -> None:
    """A workspace keeps the latest events up to its limit."""
    async with Sandbox(max_events=3) as sandbox:
        client = Client(session, sandbox.url)
        for name in "abcde":
            await client.track("1", name)
        assert [event["event_uid"] for event in sandbox.events()] == ["c", "d", "e"]
        assert (sandbox.summary()["events"], sandbox.summary()["evicted"]) == (5, 2)


async def test_events_can_be_unbounded(session: Any) -> None:
    """None removes the limit."""
    async with Sandbox(max_events=None) as sandbox:
        await Client(session, sandbox.url).track("1", "a")
        assert sandbox.summary()["events"] == 1
