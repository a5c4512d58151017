"""Each resource against the sandbox, over a real socket."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from salesmachine_async import InvalidMessage, Rejected, Unauthorized
from salesmachine_async.access import AccessClient, Contact, Paths, Ref
from salesmachine_async.sandbox import Sandbox

from .conftest import FAST, TOKEN


async def uids(listing: Any) -> list[str]:
    return [item.unique_id async for item in listing]


async def test_create_or_update_a_contact(api: AccessClient, sandbox: Sandbox) -> None:
    """Every field of a contact arrives, and a second call updates the given fields."""
    fields = {
        "email": "elon@teslamotors.com",
        "name": "Elon Musk",
        "gender": "male",
        "mrr": 99,
        "account_uid": "78910",
        "churn_date": datetime(2026, 11, 22, tzinfo=UTC),
        "churn_mrr": 9,
        "churn_reason": "too_expensive",
        "churn_comment": "Too expensive",
    }
    await api.contacts.create_or_update("123456", fields)
    await api.contacts.create_or_update(123456, {"mrr": 100})
    kept = sandbox.contact("123456")
    assert kept["params"] == {**fields, "mrr": 100, "churn_date": "2026-11-22T00:00:00Z"}
    assert kept["accounts"] == ["78910"]


async def test_create_or_update_an_account(api: AccessClient, sandbox: Sandbox) -> None:
    """Every field of an account arrives; an unknown account is created."""
    fields = {"name": "Tesla", "mrr": 999, "domain": "tesla.com", "churn_date": 1, "churn_mrr": 2}
    fields |= {"churn_reason": "x", "churn_comment": "y"}
    await api.accounts.create_or_update("78910", fields, created_at=datetime(2020, 1, 2, tzinfo=UTC))
    assert sandbox.account("78910")["params"] == fields
    assert sandbox.account("78910")["created_at"] == "2020-01-02T00:00:00.000Z"


async def test_create_an_event(api: AccessClient, sandbox: Sandbox) -> None:
    """The account and the display name of an event are among its params."""
    await api.events.create("1", "user_registration", {"plan": "pro"}, account_uid=9, display_name="Registration")
    await api.events.create("1", "login", created_at=datetime(2020, 1, 2, tzinfo=UTC), message_id="m")
    first, second = sandbox.events()
    assert first["params"] == {"plan": "pro", "account_uid": "9", "display_name": "Registration"}
    assert (first["account_uid"], first["message_id"]) == ("9", None)
    assert (second["created_at"], second["message_id"]) == ("2020-01-02T00:00:00.000Z", "m")


async def test_get_a_contact(api: AccessClient) -> None:
    """A contact is typed, frozen, and linked to its accounts."""
    await api.contacts.create_or_update("1", {"name": "John", "account_uid": "9"})
    (listed,) = [each async for each in api.contacts.list()]
    contact = await api.contacts.get(listed.id)
    assert contact == listed
    assert (contact.object, contact.unique_id, contact.archived) == ("contact", "1", False)
    assert contact.data == {"name": "John", "account_uid": "9"}
    assert contact.created_at is not None
    assert contact.created_at.tzinfo is UTC
    account = await api.accounts.get(contact.accounts[0].id)
    assert (account.unique_id, account.contacts) == ("9", (Ref(id=contact.id, object="contact"),))
    with pytest.raises(AttributeError):
        contact.id = "x"  # type: ignore[misc]


async def test_get_needs_the_id_and_not_the_uid(api: AccessClient) -> None:
    """An unknown id raises Rejected with status 404 and the reason."""
    await api.contacts.create_or_update("1")
    with pytest.raises(Rejected, match="does not exist") as caught:
        await api.contacts.get("1")
    assert caught.value.status == 404
    assert "not the contact_uid" in (caught.value.server_message or "")


async def test_list_follows_all_pages(api: AccessClient) -> None:
    """The iteration reads all pages, newest first by default."""
    for n in range(7):
        await api.contacts.create_or_update(n)
    assert await uids(api.contacts.list(limit=3)) == list("6543210")
    assert await uids(api.contacts.list(limit=2, order="asc", sort="created_at")) == list("0123456")
    assert await uids(api.contacts.list(offset=5)) == list("10")
    assert [len(page.items) async for page in api.contacts.list(limit=3).pages()] == [3, 3, 1]


async def test_list_can_be_read_twice(api: AccessClient) -> None:
    """Every iteration begins anew."""
    await api.accounts.create_or_update("9")
    listing = api.accounts.list()
    assert await uids(listing) == await uids(listing) == ["9"]


async def test_page_by_page(api: AccessClient) -> None:
    """A page holds the URL of the next page."""
    for n in range(3):
        await api.accounts.create_or_update(n)
    page = await api.accounts.page(limit=2)
    assert [each.unique_id for each in page.items] == ["2", "1"]
    assert page.next is not None
    last = await api.accounts.page(next=page.next)
    assert ([each.unique_id for each in last.items], last.next) == (["0"], None)


async def test_list_by_status(api: AccessClient) -> None:
    """The status filters contacts and accounts."""
    for records in (api.contacts, api.accounts):
        await records.create_or_update("t")
        await records.create_or_update("p", {"mrr": 9})
        await records.create_or_update("c", {"mrr": 9, "churn_date": 1795000000})
        await records.create_or_update("n", {"status": "not_converted"})
        for status, uid in (("trial", "t"), ("paying", "p"), ("churned", "c"), ("not_converted", "n")):
            assert await uids(records.list(status=status)) == [uid]  # type: ignore[arg-type]


async def test_delete_archives(api: AccessClient) -> None:
    """A deleted object is listed only as archived; a new write in the sandbox restores it."""
    for records in (api.contacts, api.accounts):
        await records.create_or_update("1")
        await records.create_or_update("2")
        newest = (await records.page(limit=1)).items[0]
        await records.delete(newest.id)
        assert await uids(records.list()) == await uids(records.list(archived=False)) == ["1"]
        assert await uids(records.list(archived=True)) == ["2"]
        assert (await records.get(newest.id)).archived is True
        await records.delete(newest.id)
        await records.create_or_update("2", {"x": 1})
        assert await uids(records.list()) == ["2", "1"]


async def test_notes(api: AccessClient) -> None:
    """A note is created with links, listed, read and deleted."""
    await api.contacts.create_or_update("1", {"account_uid": "9"})
    contact = (await api.contacts.page()).items[0]
    author = (await api.users.page()).items[0]
    note = await api.notes.create(
        "Called.", subject="Call", contact=contact, account=contact.accounts[0], author=author.id
    )
    assert (note.body, note.subject) == ("Called.", "Call")
    assert note.contact == Ref(id=contact.id, object="contact")
    assert note.account == contact.accounts[0]
    assert note.author == Ref(id=author.id, object="user")
    bare = await api.notes.create("Bare")
    assert (bare.subject, bare.contact) == (None, None)
    assert [each async for each in api.notes.list(limit=1)] == [bare, note]
    assert await api.notes.get(note.id) == note
    await api.notes.delete(note.id)
    assert [each async for each in api.notes.list()] == [bare]
    with pytest.raises(Rejected):
        await api.notes.delete(note.id)


async def test_note_with_an_unknown_field(api: AccessClient) -> None:
    """Further fields of a note are sent unchanged, and the server's message is in the error."""
    with pytest.raises(Rejected) as caught:
        await api.notes.create("x", extra={"colour": "red"})
    assert (caught.value.status, caught.value.server_message) == (
        400,
        "unknown field; expected one of account, author, body, contact, note, subject",
    )


async def test_activities(api: AccessClient) -> None:
    """Activities are listed and read."""
    activities = [each async for each in api.activities.list(order="asc")]
    assert [each.type for each in activities] == ["call", "meeting", "email"]
    first = await api.activities.get(activities[0].id)
    assert first == activities[0]
    assert first.completed_at == datetime(2021, 8, 21, 12, 16, 1, tzinfo=UTC)
    assert first.author is not None
    assert (await api.activities.page(limit=2)).next is not None


async def test_tasks(api: AccessClient) -> None:
    """Tasks are listed and read."""
    (task, _) = [each async for each in api.tasks.list()]
    assert await api.tasks.get(task.id) == task
    assert (task.type, task.status, task.completed_at) == ("call", "open", None)
    assert task.due_at is not None
    assert task.assignee is not None


async def test_users(api: AccessClient) -> None:
    """Users are listed and read."""
    users = [each async for each in api.users.list(limit=1, order="asc")]
    assert [(each.name, each.role, each.enabled) for each in users] == [
        ("John Doe", "owner", True),
        ("Jane Roe", "member", True),
    ]
    assert await api.users.get(users[0].id) == users[0]


@pytest.mark.parametrize("auth", ["basic", "bearer", "query"])
async def test_every_auth_scheme(sandbox: Sandbox, auth: Any) -> None:
    """The v2 token is sent by the chosen scheme, on every page too."""
    async with AccessClient(TOKEN, base_url=sandbox.url, auth=auth, retry=FAST) as api:
        for n in range(3):
            await api.contacts.create_or_update(n)
        assert await uids(api.contacts.list(limit=1)) == ["2", "1", "0"]


async def test_two_tokens(sandbox: Sandbox) -> None:
    """Each API rejects the token of the other; a call may use another tracking token."""
    async with Sandbox(tokens=["v1"], v2_tokens={"v2": "v1"}) as strict:
        async with AccessClient("v2", tracking_token="v1", base_url=strict.url, retry=None) as api:
            await api.ping()
            await api.contacts.create_or_update("1")
            assert await uids(api.contacts.list()) == ["1"]
        async with AccessClient("v2", base_url=strict.url, retry=None) as api:
            with pytest.raises(Unauthorized):
                await api.contacts.create_or_update("2")
            await api.contacts.create_or_update("2", tracking_token="v1")
            await api.events.create("2", "x", tracking_token="v1")
            await api.accounts.create_or_update("9", tracking_token="v1")
            assert await uids(api.contacts.list()) == ["2", "1"]
        async with AccessClient("v1", base_url=strict.url, retry=None) as api:
            with pytest.raises(Unauthorized, match=r"token of the Access API \(v2\)"):
                await api.contacts.page()


async def test_paths_in_lower_case(sandbox: Sandbox) -> None:
    """The paths can be changed."""
    async with AccessClient(TOKEN, base_url=sandbox.url, paths=Paths.lower(), retry=FAST) as api:
        await api.contacts.create_or_update("1")
        assert await uids(api.contacts.list()) == ["1"]
    assert {each["path"] for each in sandbox.requests()} == {"/v1/contact", "/v2/contacts"}


async def test_the_documented_call(api: AccessClient) -> None:
    """Make an API call: GET /v2/Contacts, with the matches under `data` of the body."""
    await api.contacts.create_or_update("1", {"name": "John"})
    answer = await api.request("GET", "/v2/Contacts", params={"limit": 1, "archived": False, "status": None})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert [each["unique_id"] for each in answer.data["data"]] == ["1"]


async def test_any_call(api: AccessClient, sandbox: Sandbox) -> None:
    """Each method can be used, with a body and headers, on both APIs."""
    await api.request("post", "/v1/contact", json={"contact_uid": "1", "params": {"seats": {3}}})
    assert sandbox.contact("1")["params"] == {"seats": [3]}
    note = await api.request("POST", "/v2/Notes", json={"body": "x"}, headers={"Accept": "application/json"})
    assert note.status == 201
    deleted = await api.request("DELETE", f"/v2/Notes/{note.data['id']}")
    assert deleted.data == {"status": "success"}
    for method in ("PUT", "PATCH"):
        with pytest.raises(Rejected) as caught:
            await api.request(method, "/v2/Contacts", json={})
        assert caught.value.status == 405


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": True}, "limit"),
        ({"offset": -1}, "offset"),
        ({"offset": "1"}, "offset"),
        ({"status": "free"}, "status"),
        ({"archived": "true"}, "archived"),
        ({"order": "up"}, "order"),
        ({"sort": "name"}, "sort"),
        ({"params": {"x": []}}, "params.x"),
    ],
)
async def test_lists_check_their_arguments(api: AccessClient, arguments: Any, path: str) -> None:
    """An invalid argument of a list raises before a request is sent."""
    with pytest.raises(InvalidMessage) as caught:
        api.contacts.list(**arguments)
    assert caught.value.path == path


@pytest.mark.parametrize("shown", ["", ".", "..", "a\nb", None, 7])
async def test_ids_are_checked(api: AccessClient, shown: Any) -> None:
    """An unusable id raises, because it could change the path."""
    for call in (api.contacts.get, api.contacts.delete, api.notes.delete):
        with pytest.raises(InvalidMessage):
            await call(shown)


async def test_ids_are_quoted(api: AccessClient, sandbox: Sandbox) -> None:
    """An id with special characters is quoted and never changes the path."""
    with pytest.raises(Rejected):
        await api.contacts.get("../accounts?x=1#y")
    assert sandbox.requests()[-1]["path"].startswith("/v2/Contacts/")


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (lambda api: api.contacts.create_or_update(""), "contact_uid"),
        (lambda api: api.accounts.create_or_update(None), "account_uid"),
        (lambda api: api.contacts.create_or_update("1", {"x": object()}), "params.x"),
        (lambda api: api.contacts.create_or_update("1", ["x"]), "params"),
        (lambda api: api.events.create("1", "", None), "event_uid"),
        (lambda api: api.events.create("1", "x", ["y"]), "params"),
        (lambda api: api.notes.create(""), "body"),
        (lambda api: api.notes.create(7), "body"),
        (lambda api: api.request("GET", "v2/Contacts"), "path"),
        (lambda api: api.request("GET", "//evil.example/v2"), "path"),
        (lambda api: api.request("GET", "https://evil.example/v2"), "path"),
        (lambda api: api.request("GET", "/v2/Contacts?x=1"), "path"),
        (lambda api: api.request("GET", "/v2 Contacts"), "path"),
        (lambda api: api.request("GET", None), "path"),
        (lambda api: api.request("TRACE", "/v2"), "method"),
        (lambda api: api.request("POST", "/v2", json={"x": object()}), "json.x"),
        (lambda api: api.request("GET", "/v2", headers={"X": "a\r\nb"}), "headers.X"),
        (lambda api: api.request("GET", "/v2", headers={"X": 1}), "headers.X"),
        (lambda api: api.request("GET", "/v2", headers={"X y": "1"}), "headers"),
    ],
)
async def test_arguments_are_checked(api: AccessClient, sandbox: Sandbox, call: Any, path: str) -> None:
    """An invalid argument is named in the error, and no request is sent."""
    with pytest.raises(InvalidMessage) as caught:
        await call(api)
    assert caught.value.path == path
    assert sandbox.requests() == []


def test_objects_can_be_hashed_and_copied() -> None:
    """Objects are hashable and can be pickled."""
    import pickle

    contact = Contact.read({"id": "1", "data": {"x": [1]}, "colour": "red"})
    assert contact is not None
    assert {contact: 1}[pickle.loads(pickle.dumps(contact))] == 1
    assert contact.extra == {"colour": "red"}
