"""Seeds, export and replay."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from salesmachine_async.sandbox import Sandbox
from tests.sandbox.conftest import TOKEN, Client

NDJSON = "application/x-ndjson"
LINES: list[dict[str, Any]] = [
    {
        "object": "user",
        "email": "ann@example.com",
        "name": "Ann",
        "role": "owner",
        "created_at": "2026-01-02T03:04:05Z",
    },
    {"method": "account", "account_uid": "9", "params": {"name": "Tesla"}, "created_at": "2020-01-01T00:00:00Z"},
    {"method": "contact", "contact_uid": "1", "params": {"email": "a@b.c", "account_uid": "9"}},
    {"method": "contact", "contact_uid": "1", "params": {"account_uid": "8"}},
    {"method": "alias", "contact_uid": "1", "alias": "one"},
    {"method": "contact", "contact_uid": "2", "archived": True},
    {"method": "account", "account_uid": "7", "archived": True},
    {"method": "event", "contact_uid": "one", "event_uid": "login", "account_uid": "8", "messageId": "m"},
    {"object": "note", "body": "hello", "contact_uid": "one", "account_uid": "9", "author": "ann@example.com"},
    {
        "object": "activity",
        "type": "call",
        "contact_uids": ["1", 2],
        "account_uids": ["9"],
        "author": "ann@example.com",
    },
    {
        "object": "task",
        "type": "todo",
        "status": "open",
        "due_at": "2026-12-01T00:00:00Z",
        "assignee": "ann@example.com",
    },
]


def ndjson(lines: list[Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def everything(client: Client, sandbox: Sandbox, token: str) -> Any:
    """Everything that both APIs and the control endpoints show, except generated ids and numbers."""
    shown: Any = [sandbox.contacts(token), sandbox.accounts(token)]
    shown.append([{**each, "seq": 0, "received_at": ""} for each in sandbox.events(token)])
    for path in (
        "contacts",
        "contacts?archived=true",
        "accounts?archived=true",
        "notes",
        "activities",
        "tasks",
        "users",
    ):
        data = (await client.of(token).call("GET", f"/v2/{path}")).body["data"]
        shown.append([{key: value for key, value in each.items() if not links(key)} for each in data])
    return shown


def links(key: str) -> bool:
    return key in ("id", "contact", "account", "contacts", "accounts", "author", "assignee") or key == "created_at"


@pytest.mark.parametrize("as_file", [True, False])
async def test_seed(session: Any, tmp_path: Path, as_file: bool) -> None:
    """Every new workspace starts with the seeds, from a file or a list, also when it is only inspected."""
    path = tmp_path / "seed.ndjson"
    path.write_bytes(ndjson(LINES) + b"\n")
    async with Sandbox(seed=str(path) if as_file else LINES) as sandbox:
        for token in ("a", "b"):
            client = Client(session, sandbox.url, token)
            assert (await client.get("summary"))["contacts"] == 2
            (event,) = sandbox.events(token)
            assert (event["account_uid"], event["contact_uid"]) == ("8", "one")
            activity = (await client.call("GET", "/v2/activities")).body["data"][0]
            assert (len(activity["contacts"]), len(activity["accounts"])) == (2, 1)
            task = (await client.call("GET", "/v2/tasks")).body["data"][0]
            assert task["due_at"] == 1796083200
            (user,) = (await client.call("GET", "/v2/users")).body["data"]
            assert (user["created_at"], task["assignee"]["id"]) == (1767323045, user["id"])
        assert sandbox.summary("c")["contacts"] == 2
        sandbox.reset("a")
        assert sandbox.account("9", "a")["params"] == {"name": "Tesla"}


async def test_no_seed(session: Any) -> None:
    """An empty seed leaves workspaces empty."""
    async with Sandbox(seed=()) as sandbox:
        assert (await Client(session, sandbox.url).call("GET", "/v2/users")).body["data"] == []


async def test_export_makes_the_same_again(client: Client, sandbox: Sandbox) -> None:
    """An export of one workspace, replayed into another, restores the same state."""
    sandbox.replay([ndjson(LINES)], "first")
    for n in range(3):
        await client.of("first").contact("1", n=n)
    exported = b"".join(sandbox.export("first"))
    async with client.session.get(f"{client.url}/_sandbox/export?api_token=first") as response:
        assert response.headers["Content-Type"] == NDJSON
        assert await response.read() == exported
    async with Sandbox(seed=()) as other:
        url = f"{other.url}/_sandbox/replay?api_token=second"
        async with client.session.post(url, data=exported, headers={"Content-Type": NDJSON}) as response:
            answer = await response.json()
            assert answer["lines"] == exported.count(b"\n")
            assert response.status == 200
        twin = Client(client.session, other.url)
        assert await everything(twin, other, "second") == await everything(client, sandbox, "first")
        # The order of fields may differ, because an export begins with the accounts.
        again = b"".join(other.export("second"))
        assert list(map(json.loads, again.splitlines())) == list(map(json.loads, exported.splitlines()))


async def test_things_and_their_people(client: Client, sandbox: Sandbox) -> None:
    """A user created by one line is known to the next lines."""
    users = [{"object": "user", "email": f"{name}@example.com"} for name in "ab"]
    notes = [{"object": "note", "body": name, "author": f"{name}@example.com"} for name in "ab"]
    assert sandbox.replay([ndjson([users[0], notes[0], users[1], notes[1]])], TOKEN)["lines"] == 4
    assert len((await client.call("GET", "/v2/notes")).body["data"]) == 2


async def test_replay_knows_what_it_has_seen(client: Client, sandbox: Sandbox) -> None:
    """Events with a message id are applied once, however the body is split."""
    lines: list[bytes | str] = [ndjson([LINES[7]]), "", json.dumps(LINES[2]), "\n"]
    assert sandbox.replay(lines, TOKEN) == {"lines": 2, "accepted": 2, "duplicates": 0}
    assert sandbox.replay(lines, TOKEN) == {"lines": 2, "accepted": 1, "duplicates": 1}
    assert (await sandbox.wait({"event_uid": "login"}, count=2))["ok"]


async def test_replay_of_much(client: Client, sandbox: Sandbox) -> None:
    """A body of any size is applied as it arrives."""
    lines = [{"method": "event", "contact_uid": str(n % 7), "event_uid": "x", "params": {"n": n}} for n in range(1234)]
    body = ndjson(lines).rstrip(b"\n")
    answer = await client.call("POST", "/_sandbox/replay", data=body, headers={"Content-Type": NDJSON})
    assert answer.body == {"lines": 1234, "accepted": 1234, "duplicates": 0}
    assert [each["params"]["n"] for each in sandbox.events()] == list(range(1234))
    assert b"".join(sandbox.export(TOKEN)).count(b"\n") == 1234 + 7 + 7


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (7, "must be an object"),
        ({}, "method must be one of account, alias, contact, event"),
        ({"method": "ping"}, "method must be one of"),
        ({"method": "event", "contact_uid": "1"}, "event_uid is missing"),
        ({"method": "event", "contact_uid": "1", "event_uid": "x", "account_uid": ""}, "account_uid is empty"),
        ({"object": "car"}, "object must be one of note, activity, task, user"),
        ({"object": "task", "type": "sleep"}, "type must be one of todo"),
        ({"object": "activity", "type": "todo"}, "type must be one of call"),
        ({"object": "task", "due_at": "soon"}, "due_at must be ISO 8601, or an epoch"),
        ({"object": "user", "created_at": []}, "created_at must be ISO 8601, or an epoch"),
        ({"object": "note", "contact_uids": "1"}, "contact_uids must be an array"),
        ({"object": "note", "contact_uid": []}, "contact_uid must be a string"),
        ({"object": "note", "contact_uid": "nobody"}, "contact_uid names no contact"),
        ({"object": "note", "account_uid": "nobody"}, "account_uid names no account"),
        ({"object": "note", "author": "nobody"}, "author is not the email of a user"),
        ({"object": "note", "author": 7}, "author must be the email of a user"),
    ],
)
async def test_bad_lines(client: Client, sandbox: Sandbox, line: Any, problem: str) -> None:
    """An invalid line is named; only the lines before it are applied. A seed with such a line is rejected."""
    good = {"method": "event", "contact_uid": "1", "event_uid": "x"}
    body = ndjson([good, good, line, good])
    answer = await client.call("POST", "/_sandbox/replay", data=body, headers={"Content-Type": NDJSON})
    assert answer.status == 400
    assert answer.body["error"].startswith(f"line 3: {problem}")
    assert answer.body["error"].endswith("; the 2 lines before it are applied")
    assert (answer.body["lines"], len(sandbox.events())) == (2, 2)
    with pytest.raises(ValueError, match="line 1"):
        sandbox.replay(ndjson([line]).splitlines(), TOKEN)
    with pytest.raises(ValueError, match=problem.split()[0]):
        Sandbox(seed=[line])


async def test_replay_is_guarded(client: Client) -> None:
    """A replay needs a workspace and a Content-Type that browsers do not send without a preflight request."""
    for who, content_type, status in ((client.of(None), NDJSON, 401), (client, "text/plain", 406)):
        answer = await who.call("POST", "/_sandbox/replay", data=b"", headers={"Content-Type": content_type})
        assert answer.status == status
    answer = await client.call("POST", "/_sandbox/replay", data=b"", headers={"Content-Type": NDJSON})
    assert answer.body == {"lines": 0, "accepted": 0, "duplicates": 0}


async def test_replay_of_an_endless_line(session: Any) -> None:
    """A line is limited to the size of a body."""
    async with Sandbox(max_body_bytes=100) as sandbox:
        client = Client(session, sandbox.url)
        body = ndjson([{"method": "contact", "contact_uid": "1", "params": {"x": "y" * 100}}]).rstrip()
        answer = await client.call("POST", "/_sandbox/replay", data=body, headers={"Content-Type": NDJSON})
        assert answer.status == 413


async def test_replay_of_what_cannot_be_decoded(client: Client) -> None:
    """A malformed Content-Encoding is answered 400; gzip is supported."""
    headers = {"Content-Type": NDJSON, "Content-Encoding": "gzip"}
    body = gzip.compress(ndjson(LINES))
    answer = await client.call("POST", "/_sandbox/replay", data=body, headers=headers)
    assert (answer.status, answer.body["lines"]) == (200, len(LINES))
    assert (await client.call("POST", "/_sandbox/replay", data=b"x" * 50, headers=headers)).status == 400
