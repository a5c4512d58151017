"""
The objects of the API.

Every attribute except ``id`` may be missing in an answer and is then None or empty, because the API documents no
guarantee. A value of an unexpected type counts as missing. ``raw`` holds the whole answer, and ``extra`` the fields
that have no attribute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Self

from salesmachine_async.access.values import as_bool, as_datetime, as_list, as_mapping, as_text

__all__ = ["Account", "Activity", "Contact", "Note", "Record", "Ref", "Stage", "Task", "User"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ref:
    """
    A link to another object.

    Attributes:
        id: The id of the other object.
        object: The kind of the object, such as ``contact``; None if the answer does not name it.
    """

    id: str
    object: str | None = None

    @classmethod
    def read(cls, value: Any, kind: str | None = None) -> Ref | None:
        """Read a link: an object with an id, or the id alone; None for anything else."""
        link = as_mapping(value)
        found = as_text(link.get("id") if link else value)
        return None if found is None else cls(id=found, object=as_text(link.get("object")) or kind)

    @classmethod
    def read_all(cls, value: Any, kind: str) -> tuple[Ref, ...]:
        """Read a list of links: an array, or a list object with ``data``; the documentation shows both."""
        listed = as_list(as_mapping(value).get("data") if as_mapping(value) else value)
        return tuple(ref for each in listed if (ref := cls.read(each, kind)) is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """
    The position of a contact or an account in the funnel.

    Attributes:
        name: Such as ``Trial``; None if the answer does not name it.
        id: Its id; None if the answer has none.
    """

    name: str | None
    id: str | None = None

    @classmethod
    def read(cls, value: Any) -> Stage | None:
        """Read a stage; None if there is none."""
        stage = as_mapping(value)
        name, found = as_text(stage.get("name")), as_text(stage.get("id"))
        return None if name is None and found is None else cls(name=name, id=found)


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """
    An object of the API; the base of all kinds.

    Attributes:
        id: The API's own id, 24 hexadecimal digits.
        object: The kind, such as ``contact``.
        created_at: The time of creation, in UTC.
        extra: The fields of the answer that have no attribute.
        raw: The whole answer.
    """

    id: str
    object: str | None = None
    created_at: datetime | None = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, hash=False)
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, hash=False, compare=False)

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Self | None:
        """Read an object; None if it has no id."""
        found = as_text(raw.get("id"))
        if found is None:
            return None
        known = {each.name for each in fields(cls)}
        return cls(
            id=found,
            object=as_text(raw.get("object")),
            created_at=as_datetime(raw.get("created_at")),
            extra={name: value for name, value in raw.items() if name not in known},
            raw=raw,
            **cls._own(raw),
        )

    @classmethod
    def _own(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Read the attributes that only this kind of object has."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, slots=True)
class Contact(Record):
    """
    A contact.

    Attributes:
        unique_id: Your own id: the ``contact_uid`` of the tracking calls.
        archived: Whether the contact is archived.
        data: The fields: the ``params`` of the tracking calls.
        salesmachine: Metrics of the service.
        stage: The position in the funnel.
        accounts: The accounts of the contact.
    """

    unique_id: str | None = None
    archived: bool | None = None
    data: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    salesmachine: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    stage: Stage | None = None
    accounts: tuple[Ref, ...] = ()

    @classmethod
    def _own(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        return {**_tracked(raw), "accounts": Ref.read_all(raw.get("accounts"), "account")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Account(Record):
    """
    An account.

    Attributes:
        unique_id: Your own id: the ``account_uid`` of the tracking calls.
        archived: Whether the account is archived; missing in the documented example.
        data: The fields: the ``params`` of the tracking calls.
        salesmachine: Metrics of the service.
        stage: The position in the funnel.
        contacts: The contacts of the account.
    """

    unique_id: str | None = None
    archived: bool | None = None
    data: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    salesmachine: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    stage: Stage | None = None
    contacts: tuple[Ref, ...] = ()

    @classmethod
    def _own(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        return {**_tracked(raw), "contacts": Ref.read_all(raw.get("contacts"), "contact")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Note(Record):
    """
    A note.

    Attributes:
        body: The text, also when the answer holds it under its old name, ``note``.
        subject: The title.
        account: The account of the note.
        contact: The contact of the note.
        author: The user who wrote the note.
    """

    body: str | None = None
    subject: str | None = None
    account: Ref | None = None
    contact: Ref | None = None
    author: Ref | None = None

    @classmethod
    def _own(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "body": as_text(raw.get("body", raw.get("note"))),
            "subject": as_text(raw.get("subject")),
            "account": Ref.read(raw.get("account"), "account"),
            "contact": Ref.read(raw.get("contact"), "contact"),
            "author": Ref.read(raw.get("author"), "user"),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Activity(Record):
    """
    A completed activity: a call, a meeting or an email.

    Attributes:
        type: ``call``, ``meeting`` or ``email``.
        completed_at: The time of completion, in UTC.
        subject: The title, sometimes empty.
        note: The text.
        accounts: The accounts involved.
        contacts: The contacts involved.
        author: The user who completed the activity.
    """

    type: str | None = None
    completed_at: datetime | None = None
    subject: str | None = None
    note: str | None = None
    accounts: tuple[Ref, ...] = ()
    contacts: tuple[Ref, ...] = ()
    author: Ref | None = None

    @classmethod
    def _own(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **{name: as_text(raw.get(name)) for name in ("type", "subject", "note")},
            "completed_at": as_datetime(raw.get("completed_at")),
            "accounts": Ref.read_all(raw.get("accounts"), "account"),
            "contacts": Ref.read_all(raw.get("contacts"), "contact"),
            "author": Ref.read(raw.get("author"), "user"),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Task(Record):
    """
    A task.

    Attributes:
        type: ``todo``, ``call``, ``meeting`` or ``email``.
        status: ``open`` or ``close``.
        subject: The title.
        body: The description.
        due_at: The due time, in UTC.
        completed_at: The time of completion, in UTC.
        account: The account of the task.
        contact: The contact of the task.
        assignee: The user to whom the task is assigned.
    """

    type: str | None = None
    status: str | None = None
    subject: str | None = None
    body: str | None = None
    due_at: datetime | None = None
    completed_at: datetime | None = None
    account: Ref | None = None
    contact: Ref | None = None
    assignee: Ref | None = None

    @classmethod
    def _own(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **{name: as_text(raw.get(name)) for name in ("type", "status", "subject", "body")},
            **{name: as_datetime(raw.get(name)) for name in ("due_at", "completed_at")},
            "account": Ref.read(raw.get("account"), "account"),
            "contact": Ref.read(raw.get("contact"), "contact"),
            "assignee": Ref.read(raw.get("assignee"), "user"),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class User(Record):
    """
    A user of the service.

    Attributes:
        email: The email address.
        name: The full name.
        role: ``owner``, ``admin``, ``member`` or ``visitor``.
        enabled: Whether the user may log in. Documented as a string, with a boolean in the example: both are read.
    """

    email: str | None = None
    name: str | None = None
    role: str | None = None
    enabled: bool | None = None

    @classmethod
    def _own(cls, raw: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **{name: as_text(raw.get(name)) for name in ("email", "name", "role")},
            "enabled": as_bool(raw.get("enabled")),
        }


def _tracked(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "unique_id": as_text(raw.get("unique_id")),
        "archived": as_bool(raw.get("archived")),
        "data": as_mapping(raw.get("data")),
        "salesmachine": as_mapping(raw.get("salesmachine")),
        "stage": Stage.read(raw.get("stage")),
    }
