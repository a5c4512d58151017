"""Alias: two contacts become one."""

from __future__ import annotations

from salesmachine_async.sandbox import Sandbox
from tests.sandbox.conftest import Client


async def test_alias_merges_fields_events_and_accounts(client: Client, sandbox: Sandbox) -> None:
    """The fields of the contact of contact_uid take precedence; events and accounts are joined in order."""
    await client.contact("old", name="Old", plan="free", account_uid="a")
    await client.contact("new", name="New", mrr=1, account_uid="b")
    await client.contact("new", account_uid="a")
    await client.track("old", "first")
    await client.track("new", "second")
    await client.alias("new", "old")
    for uid in ("new", "old"):
        contact = sandbox.contact(uid)
        assert contact["contact_uid"] == "new"
        assert contact["uids"] == ["new", "old"]
        assert contact["params"] == {"name": "New", "plan": "free", "mrr": 1, "account_uid": "a"}
        assert sorted(contact["accounts"]) == ["a", "b"]
        assert [(event["event_uid"], event["contact_uid"]) for event in contact["events"]] == [
            ("first", "old"),
            ("second", "new"),
        ]
        assert len(sandbox.events(contact_uid=uid)) == 2
    assert sandbox.account("a")["contacts"] == ["new"]
    assert len(sandbox.contacts()) == sandbox.summary()["contacts"] == 1


async def test_after_an_alias_either_uid_means_the_contact(client: Client, sandbox: Sandbox) -> None:
    """Later calls with either uid affect the same contact."""
    await client.contact("1", a=1)
    await client.alias("1", "2")
    await client.contact("2", b=2, account_uid="x")
    await client.track("2", "login")
    assert sandbox.contact("1")["params"] == {"a": 1, "b": 2, "account_uid": "x"}
    assert sandbox.events(contact_uid="1")[0]["account_uid"] == "x"
    assert [each["contact_uid"] for each in sandbox.contacts()] == ["1"]


async def test_chains_lead_to_one_contact(client: Client, sandbox: Sandbox) -> None:
    """Chains of aliases in any direction lead to the same contact."""
    for uid in "abcd":
        await client.track(uid, f"by {uid}")
    await client.alias("a", "b")
    await client.alias("c", "d")
    await client.alias("b", "d")
    await client.alias("e", "a")
    assert sandbox.contact("d")["uids"] == ["e", "a", "b", "c", "d"]
    assert [event["event_uid"] for event in sandbox.events(contact_uid="c")] == ["by a", "by b", "by c", "by d"]
    summary = sandbox.summary()
    assert (summary["contacts"], summary["aliases"]) == (1, 4)


async def test_repeated_alias_changes_nothing(client: Client, sandbox: Sandbox) -> None:
    """A repeated alias, its reverse and an alias to itself are accepted and change nothing."""
    await client.contact("1", a=1)
    await client.alias("1", "2")
    before = sandbox.contact("1")
    for pair in (("1", "2"), ("2", "1"), ("1", "1"), ("2", "2")):
        await client.alias(*pair)
    assert sandbox.contact("1") == before
    assert (sandbox.summary()["aliases"], sandbox.summary()["accepted"]) == (1, 6)


async def test_alias_of_unknown_contacts_creates_one(client: Client, sandbox: Sandbox) -> None:
    """Unknown uids create one contact, also with an alias to itself."""
    await client.alias("1", "2")
    await client.alias("3", "3")
    assert [each["uids"] for each in sandbox.contacts()] == [["1", "2"], ["3"]]


async def test_alias_with_a_known_message_id_is_a_duplicate(client: Client, sandbox: Sandbox) -> None:
    """A messageId makes aliases idempotent, too."""
    for alias in ("2", "3"):
        await client.post("/v1/alias", {"contact_uid": "1", "alias": alias, "messageId": "m"})
    assert sandbox.contact("1")["uids"] == ["1", "2"]
    assert sandbox.summary()["duplicates"] == 1


async def test_created_at_is_the_earlier_one(client: Client, sandbox: Sandbox) -> None:
    """A merged contact has the earlier creation time."""
    for uid, day in (("1", "2014-01-01"), ("2", "2013-01-01")):
        await client.post("/v1/contact", {"contact_uid": uid, "created_at": day})
    await client.alias("1", "2")
    assert sandbox.contact("1")["created_at"] == "2013-01-01T00:00:00.000Z"
