"""The control endpoints, and the methods that mirror them."""

from __future__ import annotations

from typing import Any, get_type_hints
from urllib.parse import quote

import pytest
from yarl import URL

from salesmachine_async.sandbox import Fault, Sandbox, views
from salesmachine_async.sandbox.storage.request_log import RequestLog, RequestRecord
from tests.sandbox.conftest import TOKEN, Client


async def test_health(client: Client) -> None:
    """Health needs no credentials."""
    assert await client.of(None).get("health") == {"status": "ok"}


async def test_an_empty_sandbox_can_be_inspected(client: Client, sandbox: Sandbox) -> None:
    """Before the first request all results are empty, with or without a token, and reading creates no workspace."""
    for each in (client, client.of(None)):
        assert await each.get("contacts") == {"contacts": [], "next": None}
        assert await each.get("accounts") == {"accounts": [], "next": None}
        assert await each.get("events") == {"events": [], "next": None}
        assert await each.get("requests") == {"requests": [], "next": None}
        summary = await each.get("summary")
        assert summary["requests"] == {}
        assert {value for key, value in summary.items() if key != "requests"} == {0}
        assert (await each.call("POST", "/_sandbox/reset")).status == 200
    assert sandbox.summary()["workspaces"] == 0


async def test_contact_and_account_shapes(client: Client, sandbox: Sandbox) -> None:
    """HTTP and Python return the same."""
    await client.contact("1", email="a@b.c", account_uid="9")
    await client.track("1", "login")
    await client.alias("1", "2")
    contact = await client.get("contacts/2")
    assert contact == {
        "contact_uid": "1",
        "uids": ["1", "2"],
        "params": {"email": "a@b.c", "account_uid": "9"},
        "accounts": ["9"],
        "created_at": contact["created_at"],
        "updated_at": contact["updated_at"],
        "events": [
            {
                "seq": 2,
                "contact_uid": "1",
                "event_uid": "login",
                "account_uid": "9",
                "params": {},
                "created_at": contact["events"][0]["created_at"],
                "received_at": contact["events"][0]["received_at"],
                "message_id": None,
            }
        ],
    }
    assert contact == sandbox.contact("2") == sandbox.contact("1", TOKEN)
    assert len((await client.get("contacts/1", limit="1"))["events"]) == 1
    account = await client.get("accounts/9")
    assert account == sandbox.account("9")
    assert account["contacts"] == ["1"]
    assert await client.get("accounts") == {"accounts": [account], "next": None}
    assert (await client.get("contacts"))["contacts"] == sandbox.contacts()
    assert await client.get("summary") == sandbox.summary()
    assert (await client.get("requests"))["requests"] == sandbox.requests()
    assert (await client.get("events"))["events"] == sandbox.events()


async def test_declared_shapes_are_the_shapes_shown(client: Client, sandbox: Sandbox) -> None:
    """The TypedDicts have exactly the keys of the results."""
    await client.contact("1", account_uid="9")
    await client.track("1", "login")
    shown: list[tuple[type, Any]] = [
        (views.SummaryView, sandbox.summary()),
        (views.ContactView, sandbox.contacts()[0]),
        (views.ContactDetailView, sandbox.contact("1")),
        (views.AccountView, sandbox.accounts()[0]),
        (views.EventView, sandbox.events()[0]),
        (views.RequestView, sandbox.requests()[0]),
    ]
    for declared, value in shown:
        assert list(get_type_hints(declared)) == list(value)


@pytest.mark.parametrize("uid", ["a/b", "a b", "é@x.y", "a%2Fb", "?"])
async def test_any_uid_can_be_read(client: Client, uid: str) -> None:
    """A percent-encoded uid selects its contact."""
    await client.contact(uid)
    url = URL(f"{client.url}/_sandbox/contacts/{quote(uid, safe='')}", encoded=True)
    async with client.session.get(url) as response:
        assert (await response.json())["contact_uid"] == uid


async def test_unknown_records(client: Client, sandbox: Sandbox) -> None:
    """An unknown contact or account is answered 404, and a LookupError in Python."""
    await client.post("/v1/ping")
    for path, problem in (
        ("contacts/x", "no such contact in this workspace"),
        ("accounts/x", "no such account in this workspace"),
    ):
        answer = await client.call("GET", f"/_sandbox/{path}")
        assert (answer.status, answer.body) == (404, {"error": problem})
    with pytest.raises(LookupError, match="no contact 'x'"):
        sandbox.contact("x")
    with pytest.raises(LookupError, match="no account 'x'"):
        sandbox.account("x")


async def test_events_are_filtered_and_paged(client: Client, sandbox: Sandbox) -> None:
    """Filters combine, and a cursor visits every page."""
    for n in range(6):
        await client.track(str(n % 2), f"e{n % 3}", account_uid=str(n % 2))
    assert [each["seq"] for each in sandbox.events(contact_uid="1")] == [2, 4, 6]
    assert [each["seq"] for each in sandbox.events(event_uid="e0")] == [1, 4]
    assert [each["seq"] for each in sandbox.events(account_uid="0", event_uid="e2")] == [3]
    assert [each["seq"] for each in sandbox.events(after=2, limit=2)] == [3, 4]
    assert (await client.get("events", contact_uid="1", event_uid="e0", account_uid="1"))["events"][0]["seq"] == 4
    seen: list[int] = []
    cursor: Any = 0
    while cursor is not None:
        page = await client.get("events", limit="4", after=str(cursor))
        seen += [each["seq"] for each in page["events"]]
        cursor = page["next"]
    assert seen == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("what", "key"), [("contacts", "contact_uid"), ("accounts", "account_uid")])
async def test_records_are_paged_by_uid(client: Client, what: str, key: str) -> None:
    """The cursor is the last uid."""
    for uid in "cab":
        await (client.contact(uid) if what == "contacts" else client.account(uid))
    page = await client.get(what, limit="2")
    assert [each[key] for each in page[what]] == ["a", "b"]
    page = await client.get(what, limit="2", after=page["next"])
    assert ([each[key] for each in page[what]], page["next"]) == (["c"], None)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("events?limit=0", "limit must be a number from 1 to 10000"),
        ("events?limit=10001", "limit must be a number from 1 to 10000"),
        ("events?limit=", "limit must be a number from 1 to 10000"),
        ("events?limit=-1", "limit must be a number from 1 to 10000"),
        ("events?limit=%C2%B2", "limit must be a number from 1 to 10000"),
        ("events?limit=" + "9" * 5000, "limit must be a number from 1 to 10000"),
        ("events?after=99999999999999999999", f"after must be a number from 0 to {2**63 - 1}"),
        (
            "events?contact=1",
            "unknown query parameter; expected one of contact_uid, event_uid, account_uid, limit, after, ",
        ),
        ("health?x=1", "unknown query parameter; expected one of api_token"),
    ],
)
async def test_queries_are_strict(client: Client, path: str, problem: str) -> None:
    """An unknown parameter or a number out of range is answered 400."""
    answer = await client.call("GET", f"/_sandbox/{path}")
    assert answer.status == 400
    assert answer.body["error"].startswith(problem)


async def test_requests_are_logged(client: Client, sandbox: Sandbox) -> None:
    """The log shows each request and its outcome, and no secret."""
    await client.post("/v1/batch", [{"method": "contact", "contact_uid": "1", "messageId": "m"}] * 2)
    await client.post("/v1/batch", [{}, {}])
    await client.of(None).post("/v1/ping")
    await client.of(None).post("/nothing?api_token=hidden")
    first, second, third, fourth = sandbox.requests()
    assert first == {
        "id": 1,
        "workspace": first["workspace"],
        "method": "POST",
        "path": "/v1/batch",
        "status": 201,
        "items": 2,
        "accepted": 1,
        "duplicates": 1,
        "bytes": 122,
        "received_at": first["received_at"],
        "fault": None,
        "error": None,
    }
    assert first["workspace"] is not None
    assert (second["status"], second["items"], second["error"]) == (400, 2, "items[0].method is missing")
    assert (third["status"], third["workspace"]) == (401, None)
    assert (fourth["status"], fourth["path"]) == (404, "/nothing")
    assert [each["id"] for each in sandbox.requests(TOKEN)] == [1, 2]
    assert [each["id"] for each in sandbox.requests(after=1, limit=2)] == [2, 3]
    page = await client.get("requests", limit="1", after="1")
    assert (page["requests"][0]["id"], page["next"]) == (2, 2)
    assert sandbox.summary()["requests"] == {"201": 1, "400": 1, "401": 1, "404": 1}
    assert sandbox.summary(TOKEN)["requests"] == {"201": 1, "400": 1}
    assert sandbox.summary(TOKEN)["bytes"] == first["bytes"] + second["bytes"]


async def test_log_is_bounded(session: Any) -> None:
    """Only the latest requests are kept, but the counters cover all."""
    async with Sandbox(max_requests=2) as sandbox:
        client = Client(session, sandbox.url)
        for _ in range(3):
            await client.post("/v1/ping")
        assert [each["id"] for each in sandbox.requests()] == [2, 3]
        assert sandbox.summary()["requests"] == {"200": 3}


def test_log_shows_no_lone_surrogates() -> None:
    """A path of invalid UTF-8 is converted to valid JSON."""
    request_log = RequestLog(1)
    request_log.add(RequestRecord("GET", "/\udcff", 0))
    assert request_log.requests(None)[0]["path"] == "/?"


async def test_workspaces_are_isolated(client: Client, sandbox: Sandbox) -> None:
    """Each token sees only its own workspace; a message id is unique per workspace."""
    for token in ("one", "two"):
        body = {"contact_uid": "1", "messageId": "m", "params": {"of": token}, "event_uid": token}
        await client.of(token).post("/v1/contact", {**body, "params": {"of": token}})
        await client.of(token).track("1", token)
    for token in ("one", "two"):
        contact = sandbox.contact("1", token)
        assert contact["params"] == {"of": token}
        assert [(each["seq"], each["event_uid"]) for each in contact["events"]] == [(2, token)]
        assert contact == await client.of(token).get("contacts/1")
        assert sandbox.summary(token)["workspaces"] == 1
    assert sandbox.summary("three")["workspaces"] == 0
    assert sandbox.contacts("three") == []


async def test_several_workspaces_must_be_named(client: Client, sandbox: Sandbox) -> None:
    """Without credentials the summary and the log cover all workspaces; other endpoints answer 409."""
    for token in ("one", "two"):
        await client.of(token).contact("1")
    anonymous = client.of(None)
    summary = await anonymous.get("summary")
    assert (summary["workspaces"], summary["contacts"], summary["requests"]) == (2, 2, {"200": 2})
    assert len((await anonymous.get("requests"))["requests"]) == 2
    for method, path in (("GET", "contacts"), ("GET", "contacts/1"), ("GET", "events"), ("POST", "reset")):
        answer = await anonymous.call(method, f"/_sandbox/{path}")
        assert answer.status == 409
        assert answer.body == {"error": "the sandbox has 2 workspaces; select one by its API token"}
    with pytest.raises(LookupError, match="2 workspaces"):
        sandbox.events()


async def test_wrong_credentials_of_a_control_request(client: Client) -> None:
    """Malformed credentials are answered 401 instead of being ignored."""
    answer = await client.call("GET", "/_sandbox/summary", headers={"Authorization": "Basic !"})
    assert answer.status == 401


@pytest.mark.parametrize("body", [{}, None])
async def test_reset_forgets_one_workspace(client: Client, sandbox: Sandbox, body: Any) -> None:
    """A reset deletes the state, the log and the faults of one workspace only."""
    other = client.of("other")
    await other.contact("1")
    await client.contact("1", account_uid="a")
    await client.alias("1", "2")
    await client.track("1", "x")
    sandbox.faults([Fault(status=503)], TOKEN)
    answer = await (client.call("POST", "/_sandbox/reset", json=body) if body == {} else client.post("/_sandbox/reset"))
    assert (answer.status, answer.body) == (200, {"status": "success"})
    summary = sandbox.summary(TOKEN)
    assert {key: value for key, value in summary.items() if value} == {}
    assert sandbox.contacts(TOKEN) == []
    assert sandbox.requests(TOKEN) == []
    assert sandbox.faults_left(TOKEN) == []
    await client.track("2", "again")
    assert sandbox.events(TOKEN)[0]["seq"] == 1
    assert sandbox.contact("2", TOKEN)["uids"] == ["2"]
    assert sandbox.summary("other")["contacts"] == 1
    sandbox.reset("other")
    assert sandbox.summary()["contacts"] == 1


async def test_reset_takes_nothing_else(client: Client) -> None:
    """A reset with a non-empty body is rejected."""
    answer = await client.post("/_sandbox/reset", {"all": True})
    assert (answer.status, answer.body) == (400, {"error": "reset takes no body, or an empty object"})


async def test_control_bodies_must_be_json(client: Client) -> None:
    """A body with a form's Content-Type is rejected."""
    for method, path in (("POST", "reset"), ("PUT", "faults"), ("DELETE", "faults")):
        headers = {"Content-Type": "text/plain"}
        answer = await client.call(method, f"/_sandbox/{path}", data="{}", headers=headers)
        assert (answer.status, answer.body) == (406, {"error": "the Content-Type must be application/json"})
    answer = await client.call("PUT", "/_sandbox/faults", data="[", headers={"Content-Type": "application/json"})
    assert answer.status == 400
    assert answer.body["error"].startswith("invalid JSON")


async def test_unknown_control_paths_and_methods(client: Client) -> None:
    """Errors of the control endpoints are JSON, are not logged and are not affected by faults."""
    await client.call("PUT", "/_sandbox/faults", json=[{"status": 500}])
    for method, path, status in (
        ("GET", "", 404),
        ("GET", "/x", 404),
        ("GET", "/reset", 405),
        ("POST", "/faults", 405),
    ):
        answer = await client.call(method, f"/_sandbox{path}")
        assert answer.status == status
        assert isinstance(answer.body["error"], str)
    assert await client.get("requests") == {"requests": [], "next": None}


async def test_an_unknown_control_path_names_those_there_are(client: Client) -> None:
    """Each name in the error leads somewhere; unknown paths of the API and of the page have the short error."""
    error = (await client.call("GET", "/_sandbox/event")).body["error"]
    assert error == (await client.call("GET", "/_sandbox")).body["error"]
    start, _, names = error.partition("/_sandbox/ has ")
    assert start == "no such path; "
    assert {"summary", "events", "faults", "wait", "replay"} <= set(names.split(", "))
    for name in names.split(", "):
        assert (await client.call("OPTIONS", f"/_sandbox/{name}")).status == 405
    for path in ("/v1/nothing", "/nothing", "/_sandbox/page/nothing"):
        assert (await client.call("GET", path)).body == {"error": "no such path"}
