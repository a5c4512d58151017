"""The Access API over plain HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from salesmachine_async.sandbox import Fault, Sandbox
from tests.sandbox.conftest import TOKEN, Client


async def listed(client: Client, path: str) -> list[str]:
    answer = await client.call("GET", f"/v2/{path}")
    assert answer.status == 200, answer.body
    return [each["unique_id"] for each in answer.body["data"]]


async def test_contact_object(client: Client) -> None:
    """A contact has the documented attributes, and its id begins with the second of its creation."""
    await client.contact("1", name="John Doe", account_uid="9")
    answer = await client.call("GET", "/v2/Contacts")
    (contact,) = answer.body["data"]
    assert answer.body["object"] == "contact.list"
    assert answer.body["pagination"] == {}
    (account,) = (await client.call("GET", "/v2/accounts")).body["data"]
    assert contact == {
        "object": "contact",
        "id": contact["id"],
        "unique_id": "1",
        "created_at": int(contact["id"][:8], 16),
        "archived": False,
        "data": {"name": "John Doe", "account_uid": "9"},
        "salesmachine": {},
        "stage": {"name": "Trial", "id": contact["stage"]["id"]},
        "accounts": {"object": "account.list", "data": [{"id": account["id"]}]},
    }
    assert account["contacts"] == {"object": "contact.list", "data": [{"id": contact["id"]}]}
    assert (await client.call("GET", f"/v2/contacts/{contact['id']}")).body == contact
    assert (await client.call("GET", f"/v2/ACCOUNTS/{account['id']}")).body == account


@pytest.mark.parametrize("path", ["contacts", "Contacts", "CONTACTS", "users", "Users", "Activities", "tasks", "notes"])
async def test_paths_in_either_case(client: Client, path: str) -> None:
    """Paths are accepted in lower and upper case."""
    assert (await client.call("GET", f"/v2/{path}")).status == 200


async def test_pages(client: Client) -> None:
    """`next` is present while more results exist, keeps the filters, and never contains the token."""
    for n in range(5):
        await client.contact(n, mrr=1)
    answer = await client.of(None).call("GET", f"/v2/Contacts?status=paying&limit=2&order=asc&api_token={TOKEN}")
    assert [each["unique_id"] for each in answer.body["data"]] == ["0", "1"]
    following = answer.body["pagination"]["next"]
    assert following.startswith(f"{client.url}/v2/Contacts?")
    assert TOKEN not in following
    assert await listed(client, following.removeprefix(f"{client.url}/v2/")) == ["2", "3"]
    assert await listed(client, "contacts?offset=4") == ["0"]
    assert (await client.call("GET", "/v2/contacts?limit=5")).body["pagination"] == {}


async def test_twenty_five_by_default(client: Client) -> None:
    """A page has the documented size."""
    for n in range(26):
        await client.account(n)
    answer = await client.call("GET", "/v2/accounts")
    assert len(answer.body["data"]) == 25
    assert "next" in answer.body["pagination"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("limit=101", "limit must be a number from 1 to 100"),
        ("limit=0", "limit must be a number from 1 to 100"),
        ("offset=-1", "offset must be a number from 0"),
        ("order=up", "order must be one of asc, desc"),
        ("sort=name", "sort must be one of created_at"),
        ("status=free", "status must be one of trial, paying, churned, not_converted"),
        ("archived=1", "archived must be one of true, false"),
        ("page=2", "unknown query parameter; expected one of offset, limit, order, sort, status, archived"),
    ],
)
async def test_parameters_are_strict(client: Client, query: str, problem: str) -> None:
    """An undocumented parameter or value is answered 400."""
    answer = await client.call("GET", f"/v2/contacts?{query}")
    assert answer.status == 400
    assert answer.body["error"].startswith(problem)


async def test_status(client: Client) -> None:
    """The status is the given one, or follows from churn_date and a numeric mrr."""
    await client.contact("trial", mrr="99", churn_date=None, status="free")
    await client.contact("paying", mrr=0.5)
    await client.contact("churned", mrr=9, churn_date="2026-01-01")
    await client.contact("not_converted", mrr=9, status="not_converted")
    for status in ("trial", "paying", "churned", "not_converted"):
        assert await listed(client, f"contacts?status={status}") == [status]


async def test_deleting_archives(client: Client, sandbox: Sandbox) -> None:
    """A deleted contact is listed as archived, keeps its events, and is unarchived by a write."""
    await client.contact("1", email="a@b.c")
    await client.track("1", "login")
    (contact,) = (await client.call("GET", "/v2/contacts")).body["data"]
    for _ in range(2):
        answer = await client.call("DELETE", f"/v2/contacts/{contact['id']}")
        assert (answer.status, answer.body) == (200, {"status": "success"})
    assert await listed(client, "contacts") == []
    assert await listed(client, "contacts?archived=true") == ["1"]
    assert (await client.call("GET", f"/v2/contacts/{contact['id']}")).body["archived"] is True
    assert len(sandbox.contact("1")["events"]) == 1
    await client.track("1", "login")
    assert await listed(client, "contacts") == []
    await client.contact("1", email="x@y.z")
    assert await listed(client, "contacts") == ["1"]


async def test_ids_are_of_one_kind_and_one_workspace(client: Client) -> None:
    """An id of another kind, of another workspace or with another time is not found."""
    await client.contact("1", account_uid="9")
    (contact,) = (await client.call("GET", "/v2/contacts")).body["data"]
    wrong = f"{int(contact['id'][:8], 16) + 1:08x}{contact['id'][8:]}"
    for who, path in (
        (client, f"accounts/{contact['id']}"),
        (client.of("other"), f"contacts/{contact['id']}"),
        (client, f"contacts/{wrong}"),
        (client, "contacts/1"),
        (client, "users/1"),
    ):
        for method in ("GET", "DELETE") if path.startswith("contacts") else ("GET",):
            answer = await who.call(method, f"/v2/{path}")
            assert answer.status == 404
            assert "no " in answer.body["error"]


async def test_notes(client: Client) -> None:
    """A note is created with links by id or by object, and can be deleted."""
    await client.contact("1", account_uid="9")
    (contact,) = (await client.call("GET", "/v2/contacts")).body["data"]
    user = (await client.call("GET", "/v2/users")).body["data"][0]
    body = {"note": "old name", "contact": contact["id"], "account": contact["accounts"]["data"][0]}
    answer = await client.post("/v2/notes", {**body, "author": {"id": user["id"]}, "subject": "x"})
    assert answer.status == 201
    note = answer.body
    assert note == {
        "object": "note",
        "id": note["id"],
        "created_at": note["created_at"],
        "body": "old name",
        "subject": "x",
        "contact": {"object": "contact", "id": contact["id"]},
        "account": {"object": "account", "id": contact["accounts"]["data"][0]["id"]},
        "author": {"object": "user", "id": user["id"]},
    }
    assert (await client.call("GET", f"/v2/notes/{note['id']}")).body == note
    await client.alias("2", "1")
    (merged,) = (await client.call("GET", "/v2/contacts")).body["data"]
    assert (await client.call("GET", f"/v2/notes/{note['id']}")).body["contact"]["id"] == merged["id"]
    assert (await client.call("DELETE", f"/v2/notes/{note['id']}")).status == 200
    assert (await client.call("DELETE", f"/v2/notes/{note['id']}")).status == 404


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ([], "the body must be an object"),
        ({}, "body is missing"),
        ({"body": ""}, "body must be a non-empty string"),
        ({"body": 7}, "body must be a non-empty string"),
        ({"body": "x", "subject": 7}, "subject must be a string"),
        ({"body": "x", "contact": 7}, 'contact must be an id, or {"id": …}'),
        ({"body": "x", "contact": "1"}, "no contact with this id"),
        ({"body": "x", "author": {"id": "1"}}, "no user with this id"),
        ({"body": "x", "colour": 1}, "unknown field; expected one of account, author, body, contact, note, subject"),
    ],
)
async def test_bad_notes(client: Client, body: Any, problem: str) -> None:
    """Invalid notes are rejected with the reason."""
    answer = await client.post("/v2/notes", body)
    assert answer.status == 400
    assert answer.body["error"].startswith(problem)


async def test_a_note_must_be_json(client: Client) -> None:
    """Invalid JSON is answered 400, another Content-Type 406."""
    assert (await client.send("/v2/notes", "{")).status == 400
    assert (await client.send("/v2/notes", "{}", "text/plain")).status == 406


async def test_other_methods_are_405(client: Client) -> None:
    """Methods that v2 does not have are answered 405."""
    for method, path in (("POST", "contacts"), ("PUT", "contacts/1"), ("DELETE", "users/1"), ("POST", "tasks")):
        answer = await client.call(method, f"/v2/{path}")
        assert (answer.status, answer.body) == (405, {"error": "method not allowed"})


async def test_every_form_of_the_token(client: Client) -> None:
    """Basic, bearer and query credentials select the same workspace."""
    await client.contact("1")
    assert await listed(client, "contacts") == ["1"]
    assert await listed(client.of(None), f"contacts?api_token={TOKEN}") == ["1"]
    answer = await client.of(None).call("GET", "/v2/contacts", headers={"Authorization": f"Bearer {TOKEN}"})
    assert len(answer.body["data"]) == 1
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Digest x"}):
        assert (await client.of(None).call("GET", "/v2/contacts", headers=headers)).status == 401


async def test_tokens_of_each_api(session: Any) -> None:
    """Tokens can be valid for one of the APIs only; a v2 token opens the workspace of another token."""
    async with Sandbox(tokens=["v1"], v2_tokens={"v2": "v1"}) as sandbox:
        client = Client(session, sandbox.url, "v1")
        await client.contact("1")
        assert await listed(client.of("v2"), "contacts") == ["1"]
        for token, method, path in (
            ("v1", "GET", "/v2/contacts"),
            ("v2", "POST", "/v1/ping"),
            ("x", "POST", "/v1/ping"),
        ):
            answer = await client.of(token).call(method, path)
            assert (answer.status, answer.body) == (401, {"error": "the API token is wrong"})
        assert len((await client.of("v2").get("contacts"))["contacts"]) == 1
        assert len(sandbox.contacts("v2")) == 1


async def test_examples_of_what_cannot_be_created(client: Client) -> None:
    """A new workspace has users, activities and tasks."""
    for path, count in (("users", 2), ("activities", 3), ("tasks", 2), ("notes", 0)):
        answer = await client.call("GET", f"/v2/{path}")
        assert len(answer.body["data"]) == count
    activity = (await client.call("GET", "/v2/activities")).body["data"][0]
    assert (activity["accounts"], activity["contacts"], activity["author"]["object"]) == ([], [], "user")


async def test_faults_are_for_both_apis(client: Client, sandbox: Sandbox) -> None:
    """A fault without a path applies to v2 as well; a path may end in an asterisk."""
    sandbox.faults([Fault(status=503)])
    assert (await client.call("GET", "/v2/contacts")).status == 503
    sandbox.faults([Fault(status=500, path="/v2/*")])
    assert (await client.post("/v1/ping")).status == 200
    assert (await client.call("GET", "/v2/contacts")).status == 500


async def test_ids_survive_a_restart(session: Any, tmp_path: Any) -> None:
    """With a database file, objects keep their ids."""
    path = tmp_path / "sandbox.db"
    seen: list[Any] = []
    for _ in range(2):
        async with Sandbox(db=path) as sandbox:
            client = Client(session, sandbox.url)
            await client.contact("1")
            seen.append([(await client.call("GET", f"/v2/{each}")).body["data"] for each in ("contacts", "users")])
    assert seen[0] == seen[1]
