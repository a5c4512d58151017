"""`salesmachine get` and `salesmachine delete`."""

import json

import pytest

from salesmachine_async.sandbox import Sandbox
from tests.cli.conftest import TOKEN
from tests.support.cli_inside import invoke
from tests.support.cli_process import run
from tests.support.terminals import in_terminal


async def newest(kind: str, keys: dict[str, str]) -> str:
    ended = await invoke("list", kind, "--limit", "1", **keys)
    return str(json.loads(ended.out)["id"])


def fill(sandbox: Sandbox) -> None:
    lines = (
        {"method": "account", "account_uid": "a1", "params": {"name": "Acme\x1b[31m"}},
        {"method": "contact", "contact_uid": "c1", "params": {"name": "Ann"}},
    )
    sandbox.replay(map(json.dumps, lines), TOKEN)


@pytest.mark.slow
async def test_get(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """In a pipe the object is one line of JSON, as the API returns it."""
    fill(sandbox)
    ended = await run("get", "contact", await newest("contacts", keys), **keys)
    assert (ended.status, ended.err) == (0, "")
    assert json.loads(ended.out)["data"] == {"name": "Ann"}
    assert len(ended.out.splitlines()) == 1
    for kind, kinds in (("activity", "activities"), ("task", "tasks"), ("user", "users")):
        ended = await invoke("get", kind, await newest(kinds, keys), **keys)
        assert json.loads(ended.out)["object"] == kind


@pytest.mark.slow
async def test_get_on_a_terminal(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """On a terminal the object is indented and cannot control it; --json prints one line."""
    fill(sandbox)
    its_id = await newest("accounts", keys)
    status, text = await in_terminal("get", "account", its_id, extra=keys | {"NO_COLOR": "1"})
    assert status == 0
    assert json.loads(text)["data"]["name"] == "Acme\x1b[31m"
    assert '\n    "name": "Acme\\u001b[31m"' in text


async def test_not_there(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """A missing object has status 4 and a hint about ids."""
    fill(sandbox)
    ended = await invoke("get", "contact", "c1", **keys)
    assert (ended.status, ended.out) == (4, "")
    assert "not your uid" in ended.err
    ended = await invoke("delete", "contact", "c1", "--yes", **keys)
    assert (ended.status, ended.out) == (4, "")
    assert (await invoke("get", "thing", "c1", **keys)).status == 2
    assert (await invoke("delete", "user", "c1", "--yes", **keys)).status == 2


@pytest.mark.slow
async def test_delete_without_a_terminal(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """Without a terminal --yes is required: status 2 without it."""
    fill(sandbox)
    its_id = await newest("contacts", keys)
    ended = await run("delete", "contact", its_id, **keys)
    assert ended == (2, "", "salesmachine delete: error: not a terminal: pass --yes to delete without confirmation\n")
    assert await newest("contacts", keys) == its_id
    ended = await invoke("delete", "contact", its_id, "--yes", **keys)
    assert ended == (0, "", f"Deleted: contact {its_id}\n")
    assert (await invoke("list", "contacts", **keys)).out == ""


@pytest.mark.slow
async def test_delete_asks(sandbox: Sandbox, keys: dict[str, str]) -> None:
    """On a terminal the prompt names the host; no has status 1 and deletes nothing."""
    fill(sandbox)
    its_id = await newest("contacts", keys)
    status, text = await in_terminal(
        "delete", "contact", its_id, press=[("[y/N]: ", "\n")], extra=keys | {"NO_COLOR": "1"}
    )
    assert status == 1
    assert text.startswith(f"Delete contact {its_id} of {sandbox.url}? [y/N]: ")
    assert text.endswith("salesmachine delete: error: nothing was deleted\n")
    assert await newest("contacts", keys) == its_id
    status, text = await in_terminal("delete", "contact", its_id, press=[("[y/N]: ", "y\n")], extra=keys)
    assert status == 0
    assert (await invoke("list", "contacts", **keys)).out == ""
