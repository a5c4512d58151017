"""The objects in the API's documentation, and unexpected answers of a server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from salesmachine_async.access import Account, Activity, Contact, Note, Ref, Stage, Task, User
from salesmachine_async.access.objects import Record

CONTACT = {
    "object": "contact",
    "id": "5d3bae5bcb4a287b44583a55",
    "unique_id": "5d3bae4cf92ea13a3dfb542e",
    "created_at": 1564192347,
    "archived": False,
    "data": {"name": "John Doe"},
    "salesmachine": {"health": "good"},
    "stage": {"name": "Trial", "id": "5b2bc014ce8d8355c6d48b70"},
    "accounts": {"object": "account.list", "data": [{"id": "5d3bae278cae234bef95405a"}]},
}


def read(kind: Any, raw: dict[str, Any]) -> Any:
    found = kind.read(raw)
    assert found is not None
    return found


def test_contact() -> None:
    """The documented contact is read attribute by attribute."""
    assert read(Contact, CONTACT) == Contact(
        id="5d3bae5bcb4a287b44583a55",
        object="contact",
        unique_id="5d3bae4cf92ea13a3dfb542e",
        created_at=datetime(2019, 7, 27, 1, 52, 27, tzinfo=UTC),
        archived=False,
        data={"name": "John Doe"},
        salesmachine={"health": "good"},
        stage=Stage(name="Trial", id="5b2bc014ce8d8355c6d48b70"),
        accounts=(Ref(id="5d3bae278cae234bef95405a", object="account"),),
    )
    assert read(Contact, CONTACT).raw is CONTACT


def test_account() -> None:
    """The documented account has no `archived` and a list object of contacts."""
    raw = {**CONTACT, "object": "account", "contacts": {"object": "contact.list", "data": [{"id": "c"}, {}]}}
    del raw["archived"], raw["accounts"]
    account = read(Account, raw)
    assert (account.archived, account.contacts) == (None, (Ref(id="c", object="contact"),))


def test_note() -> None:
    """A note is read with its body under the old name, too."""
    raw = {"id": "n", "object": "note", "note": "old", "author": {"object": "user", "id": "u"}, "account": "a"}
    note = read(Note, raw)
    assert (note.body, note.author, note.account) == ("old", Ref(id="u", object="user"), Ref(id="a", object="account"))
    assert note.extra == {"note": "old"}


def test_activity() -> None:
    """An activity's links are plain arrays."""
    raw = {"id": "a", "type": "call", "accounts": [{"object": "account", "id": "x"}], "contacts": [], "note": ""}
    activity = read(Activity, raw)
    assert (activity.accounts, activity.contacts, activity.note) == ((Ref(id="x", object="account"),), (), "")


def test_task() -> None:
    """A link or a time that is missing is None."""
    task = read(Task, {"id": "t", "due_at": 1629544561, "completed_at": None})
    assert (task.due_at, task.completed_at) == (datetime(2021, 8, 21, 11, 16, 1, tzinfo=UTC), None)
    assert (task.contact, task.assignee) == (None, None)


@pytest.mark.parametrize(("given", "enabled"), [(True, True), ("true", True), ("False", False), ("x", None), (1, None)])
def test_enabled_may_be_a_text(given: Any, enabled: Any) -> None:
    """A documented string that the example shows as a boolean is read in both forms."""
    assert read(User, {"id": "u", "enabled": given}).enabled is enabled


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        (1564192347, datetime(2019, 7, 27, 1, 52, 27, tzinfo=UTC)),
        (1564192347000, datetime(2019, 7, 27, 1, 52, 27, tzinfo=UTC)),
        (1564192347.5, datetime(2019, 7, 27, 1, 52, 27, 500_000, tzinfo=UTC)),
        ("2019-07-27T01:52:27Z", datetime(2019, 7, 27, 1, 52, 27, tzinfo=UTC)),
        ("2019-07-27T03:52:27+02:00", datetime(2019, 7, 27, 1, 52, 27, tzinfo=UTC)),
        ("2019-07-27 01:52:27", datetime(2019, 7, 27, 1, 52, 27, tzinfo=UTC)),
        ("yesterday", None),
        (10**30, None),
        (float("nan"), None),
        (True, None),
        (None, None),
        ([], None),
    ],
)
def test_times_are_aware(given: Any, moment: Any) -> None:
    """Epochs in seconds or milliseconds, and ISO 8601 strings, become datetimes in UTC."""
    found = read(Contact, {"id": "1", "created_at": given}).created_at
    assert found == moment
    assert found is None or found.tzinfo is UTC


@pytest.mark.parametrize("kind", [Contact, Account, Note, Activity, Task, User])
@pytest.mark.parametrize("junk", [None, 7, 1.5, "x", [], {}, [None, 7, [], {}], {"data": 7}, {"data": [None]}, True])
def test_junk_counts_as_missing(kind: Any, junk: Any) -> None:
    """A value of an unexpected type counts as missing and never raises."""
    names = [name for name in kind.__dataclass_fields__ if name not in ("id", "extra", "raw")]
    found = read(kind, {"id": "1", **dict.fromkeys(names, junk), "more": junk})
    assert (found.id, found.extra) == ("1", {"more": junk})


@pytest.mark.parametrize("raw", [{}, {"id": None}, {"id": []}, {"id": True}])
def test_without_an_id_there_is_no_object(raw: Any) -> None:
    """An answer without an id is not an object of the API."""
    assert Contact.read(raw) is None


def test_the_base_class_cannot_be_read() -> None:
    """The base class cannot be read."""
    with pytest.raises(NotImplementedError):
        Record.read({"id": "1"})
