"""
What the API answers, as objects.

Every attribute but ``id`` may be missing in an answer, and is then None or empty: what the API guarantees is not
documented. A value of an unexpected type counts as missing. ``raw`` holds the answer as it came, and ``extra`` what no
attribute shows.
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
        id: Its id.
        object: What it is, such as ``contact``; None when the answer does not tell.
    """

    id: str
    object: str | None = None

    @classmethod
    def read(cls, value: Any, kind: str | None = None) -> Ref | None:
        """Read a link, an object with an id or the id alone; None when it is neither."""
        link = as_mapping(value)
        found = as_text(link.get("id") if link else value)
        return None if found is None else cls(id=found, object=as_text(link.get("object")) or kind)

    @classmethod
    def read_all(cls, value: Any, kind: str) -> tuple[Ref, ...]:
        """Read a list of links: an array, or a list object with its ``data``; the documents show both."""
        listed = as_list(as_mapping(value).get("data") if as_mapping(value) else value)
        return tuple(ref for each in listed if (ref := cls.read(each, kind)) is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """Where in the funnel a contact or an account is, such as ``Trial``."""

    name: str | None
    id: str | None = None

    @classmethod
    def read(cls, value: Any) -> Stage | None:
        """Read a stage; None when there is none."""
        stage = as_mapping(value)
        name, found = as_text(stage.get("name")), as_text(stage.get("id"))
        return None if name is None and found is None else cls(name=name, id=found)


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """
    What all objects have.

    Attributes:
        id: The API's own id, 24 hexadecimal digits.
        object: What it is, such as ``contact``.
        created_at: When it was made; in UTC.
        extra: The fields of the answer that no attribute shows.
        raw: The whole answer.
    """

    id: str
    object: str | None = None
    created_at: datetime | None = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, hash=False)
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, hash=False, compare=False)

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Self | None:
        """Read an object; None when it has no id."""
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
        """Read what only this kind of object has."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, slots=True)
class Contact(Record):
    """
    A contact.

    Attributes:
        unique_id: Your own id for it: the ``contact_uid`` of the tracking calls.
        archived: Whether it is archived.
        data: Its fields: the ``params`` of the tracking calls.
        salesmachine: Metrics of the service.
        stage: Where in the funnel it is.
        accounts: The accounts it belongs to.
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
        unique_id: Your own id for it: the ``account_uid`` of the tracking calls.
        archived: Whether it is archived; the documents' example does not tell.
        data: Its fields: the ``params`` of the tracking calls.
        salesmachine: Metrics of the service.
        stage: Where in the funnel it is.
        contacts: The contacts that belong to it.
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
        body: What it says. An answer that has it under its old name, ``note``, is understood.
        subject: Its title.
        account: The account it is about.
        contact: The contact it is about.
        author: The user who wrote it.
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
    Something that was done: a call, a meeting or an email.

    Attributes:
        type: ``call``, ``meeting`` or ``email``.
        completed_at: When it was done; in UTC.
        subject: Its title, sometimes empty.
        note: What it was about.
        accounts: The accounts it was done with.
        contacts: The contacts it was done with.
        author: The user who did it.
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
    Something to do.

    Attributes:
        type: ``todo``, ``call``, ``meeting`` or ``email``.
        status: ``open`` or ``close``.
        subject: Its title.
        body: What is to be done.
        due_at: By when; in UTC.
        completed_at: When it was done; in UTC.
        account: The account it is about.
        contact: The contact it is about.
        assignee: The user who is to do it.
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
    Somebody who works with the service.

    Attributes:
        email: The address.
        name: The full name.
        role: ``owner``, ``admin``, ``member`` or ``visitor``.
        enabled: Whether the user may log in. The documents call it a text and show a boolean: both are understood.
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
