"""The resources of the API, one class for each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from salesmachine_async.access.objects import Account, Activity, Contact, Note, Ref, Task, User
from salesmachine_async.access.resource import Listed, Tracked
from salesmachine_async.access.service import Service
from salesmachine_async.errors import InvalidMessage

__all__ = ["Accounts", "Activities", "Contacts", "Events", "Notes", "Tasks", "Users"]


class Contacts(Tracked[Contact]):
    """The contacts."""

    async def create_or_update(
        self,
        uid: str | int,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        tracking_token: str | None = None,
    ) -> None:
        """
        Create a contact or update the given fields, by a request of v1 with the tracking token.

        Args:
            uid: Your own id: the ``contact_uid``.
            params: The fields, such as ``email``, ``name``, ``gender``, ``mrr``, ``account_uid``, ``churn_date``,
                ``churn_mrr``, ``churn_reason`` and ``churn_comment``.
            created_at: The time of the update; default: now.
            tracking_token: A v1 token instead of the client's.

        Raises:
            InvalidMessage: An argument cannot be sent.
            DeliveryError: The request failed.
        """
        # Error trackers record local variables, and hide only those named `token` or `secret`.
        token, tracking_token = tracking_token, None
        uids: dict[str, object] = {"contact_uid": uid}
        await self._service.track("/v1/contact", "contact", uids, params, created_at=created_at, token=token)


class Accounts(Tracked[Account]):
    """The accounts."""

    async def create_or_update(
        self,
        uid: str | int,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        tracking_token: str | None = None,
    ) -> None:
        """
        Create an account or update the given fields, by a request of v1 with the tracking token.

        Args:
            uid: Your own id: the ``account_uid``.
            params: The fields, such as ``name``, ``mrr``, ``domain``, ``churn_date``, ``churn_mrr``,
                ``churn_reason`` and ``churn_comment``.
            created_at: The time of the update; default: now.
            tracking_token: A v1 token instead of the client's.

        Raises:
            InvalidMessage: An argument cannot be sent.
            DeliveryError: The request failed.
        """
        # Error trackers record local variables, and hide only those named `token` or `secret`.
        token, tracking_token = tracking_token, None
        uids: dict[str, object] = {"account_uid": uid}
        await self._service.track("/v1/account", "account", uids, params, created_at=created_at, token=token)


class Notes(Listed[Note]):
    """The notes."""

    async def create(
        self,
        body: str,
        *,
        subject: str | None = None,
        contact: str | Ref | Contact | None = None,
        account: str | Ref | Account | None = None,
        author: str | Ref | User | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Note:
        """
        Create a note.

        The API does not document the fields of a new note, so this sends those that it returns. A failed call is not
        retried, because the note may have been created; a call that is answered 429 is.

        Args:
            body: The text.
            subject: The title.
            contact: The contact of the note, or its id.
            account: The account of the note, or its id.
            author: The user who wrote the note, or the user's id.
            extra: Further fields, sent unchanged.

        Raises:
            InvalidMessage: An argument cannot be sent.
            DeliveryError: The request failed.
        """
        if not _is_text(body):
            raise InvalidMessage("body", "must be a non-empty str")
        links = {"contact": contact, "account": account, "author": author}
        given = {name: {"id": each if isinstance(each, str) else each.id} for name, each in links.items() if each}
        fields = {"body": body, **({} if subject is None else {"subject": subject}), **given, **(extra or {})}
        return self._one(await self._service.call("POST", self._path, json=fields))

    async def delete(self, id: str) -> None:  # noqa: A002
        """
        Delete a note by its id.

        Raises:
            Rejected: The note does not exist (`status` 404), or the server rejects the request.
            DeliveryError: The request failed.
        """
        await self._service.call("DELETE", self._path_of(id), gone_is_done=True)


class Activities(Listed[Activity]):
    """The activities: calls, meetings and emails."""


class Tasks(Listed[Task]):
    """The tasks."""


class Users(Listed[User]):
    """The users of the service."""


class Events:
    """
    The events, which the API can create but not list.

    Args:
        service: Makes the requests.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def create(
        self,
        contact_uid: str | int,
        event_uid: str,
        params: Mapping[str, Any] | None = None,
        *,
        account_uid: str | int | None = None,
        display_name: str | None = None,
        created_at: datetime | None = None,
        message_id: str | None = None,
        tracking_token: str | None = None,
    ) -> None:
        """
        Create an event by a request of v1, with the tracking token.

        A failed call is not retried, because the event may have been created; a call that is answered 429 is. For many
        events, use the `Agent`.

        Args:
            contact_uid: The contact of the event.
            event_uid: The name of the event.
            params: Further fields.
            account_uid: The account of the event; added to *params*.
            display_name: The name to display; added to *params*.
            created_at: The time of the event; default: now.
            message_id: A message id; default: none.
            tracking_token: A v1 token instead of the client's.

        Raises:
            InvalidMessage: An argument cannot be sent.
            DeliveryError: The request failed.
        """
        # Error trackers record local variables, and hide only those named `token` or `secret`.
        token, tracking_token = tracking_token, None
        named = {"account_uid": None if account_uid is None else str(account_uid), "display_name": display_name}
        given = {name: value for name, value in named.items() if value is not None}
        uids: dict[str, object] = {"contact_uid": contact_uid, "event_uid": event_uid}
        # Params that are not a mapping are rejected by the check of all params.
        fields: object = {**(params or {}), **given} if params is None or _is_mapping(params) else params
        await self._service.track(
            "/v1/track/event",
            "event",
            uids,
            fields,
            created_at=created_at,
            message_id=message_id,
            token=token,
        )


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""
