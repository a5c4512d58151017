"""A contact's view of an agent: the calls without the uid."""

from __future__ import annotations

import itertools
import logging
from collections import ChainMap
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Protocol

from salesmachine_async._log import RateLimitedLogger

__all__ = ["Calls", "Tracker"]

_log: Final = RateLimitedLogger()
# The messages of this process that had no contact.
_anonymous: Final = itertools.count()


class Calls(Protocol):
    """The tracking calls, as `Agent` and `ThreadedAgent` have them."""

    def contact(
        self,
        contact_uid: str | int,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """Create or update a contact."""
        ...

    def account(
        self,
        account_uid: str | int,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """Create or update an account."""
        ...

    def track(
        self,
        contact_uid: str | int,
        event_uid: str | int,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """Record an event."""
        ...

    def pageview(
        self,
        contact_uid: str | int,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """Record that a contact loaded a page."""
        ...

    def alias(self, contact_uid: str | int, alias: str | int, *, message_id: str | None = None) -> bool:
        """Merge two contacts."""
        ...


class Tracker:
    """
    The calls of an agent for one contact; made by `Agent.bind`, and by the web integrations for each request.

    While no contact is identified (the visitor of a request is anonymous), calls are dropped: they return False, and a
    line is logged once a minute; the first one of a process is seen on stderr, too, where no logging is configured.

    Args:
        agent: The agent that carries the messages.
        contact_uid: The contact's uid; None while unknown.
        account_uid: Sent as ``params["account_uid"]`` of every message.
        params: Sent with every message; those of a call win.
    """

    __slots__ = ("_account_uid", "_agent", "_contact_uid", "_params")

    def __init__(
        self,
        agent: Calls,
        contact_uid: str | int | None = None,
        account_uid: str | int | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self._agent = agent
        self._contact_uid = contact_uid
        self._account_uid = account_uid
        self._params = dict(params or {})

    def __repr__(self) -> str:
        """Show whether a contact is identified, but not its uid."""
        return f"<Tracker [{'anonymous' if self.contact_uid is None else 'identified'}]>"

    @property
    def agent(self) -> Calls:
        """The agent, for calls that are not about the contact: ``account``, ``alias``."""
        return self._agent

    @property
    def contact_uid(self) -> str | int | None:
        """The contact that is tracked; None while none is identified."""
        return self._contact_uid

    @property
    def account_uid(self) -> str | int | None:
        """The account that the messages are linked to, if any."""
        return self._account_uid

    @property
    def anonymous_id(self) -> str | int | None:
        """The uid of calls while no contact is identified: of a request's visitor, if the integration knows it."""
        return None

    def identify(self, contact_uid: str | int | None, account_uid: str | int | None = None) -> None:
        """Set the contact, and the account, of all calls from now on; None: no contact."""
        self._contact_uid = contact_uid
        self._account_uid = account_uid

    def contact(
        self,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """
        Create or update the contact.

        Args:
            params: Attributes to set: ``email``, ``name``, ``mrr``, any other.
            created_at: When it happened; default: now. Naive datetimes are UTC.
            message_id: Identifies the message on every attempt; default: minted.

        Returns:
            True if accepted; False if dropped: no contact is identified, the queue is full, ``before_send`` dropped it,
            or it is unusable under `Invalid.REPORT`.

        Raises:
            InvalidMessage: An argument cannot be sent; names its path. Not under `Invalid.REPORT`.
            MessageTooLarge: The message exceeds `Batching.max_bytes`. Not under `Invalid.REPORT`.
            QueueFull: The queue is full, under `Overflow.RAISE`.
            AgentClosed: After the agent was closed. Not under `Invalid.REPORT`.
        """
        uid = self.uid
        if uid is None:
            return _dropped("contact")
        return self._carrier.contact(uid, self._merged(params), created_at=created_at, message_id=message_id)

    def track(
        self,
        event_uid: str | int,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """
        Record an event: something the contact did.

        Args:
            event_uid: The name of the event, e.g. ``user_registration``.
            params: ``display_name`` (for people to read), any other.
            created_at: When it happened; default: now. Naive datetimes are UTC.
            message_id: Identifies the message on every attempt; default: minted.

        Returns:
            True if accepted; False if dropped: no contact is identified, the queue is full, ``before_send`` dropped it,
            or it is unusable under `Invalid.REPORT`.

        Raises:
            InvalidMessage: An argument cannot be sent; names its path. Not under `Invalid.REPORT`.
            MessageTooLarge: The message exceeds `Batching.max_bytes`. Not under `Invalid.REPORT`.
            QueueFull: The queue is full, under `Overflow.RAISE`.
            AgentClosed: After the agent was closed. Not under `Invalid.REPORT`.
        """
        uid = self.uid
        if uid is None:
            return _dropped("event")
        return self._carrier.track(uid, event_uid, self._merged(params), created_at=created_at, message_id=message_id)

    def pageview(
        self,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """
        Record that the contact loaded a page.

        Args:
            params: ``visit_url``, ``visit_ip``, ``visit_agent``, any other.
            created_at: When it happened; default: now. Naive datetimes are UTC.
            message_id: Identifies the message on every attempt; default: minted.

        Returns:
            True if accepted; False if dropped: no contact is identified, the queue is full, ``before_send`` dropped it,
            or it is unusable under `Invalid.REPORT`.

        Raises:
            InvalidMessage: An argument cannot be sent; names its path. Not under `Invalid.REPORT`.
            MessageTooLarge: The message exceeds `Batching.max_bytes`. Not under `Invalid.REPORT`.
            QueueFull: The queue is full, under `Overflow.RAISE`.
            AgentClosed: After the agent was closed. Not under `Invalid.REPORT`.
        """
        uid = self.uid
        if uid is None:
            return _dropped("pageview")
        return self._carrier.pageview(uid, self._merged(params), created_at=created_at, message_id=message_id)

    @property
    def _carrier(self) -> Calls:
        """The agent that gets the next call."""
        return self._agent

    @property
    def uid(self) -> str | int | None:
        """The uid of the next call: the contact's, or the visitor's anonymous one; None while there is neither."""
        return self.contact_uid

    def _merged(self, params: Any) -> Any:
        """Return *params* over what is bound. What cannot be merged is passed on, for the agent to refuse."""
        account_uid = self.account_uid
        if not self._params and account_uid is None:
            return params
        bound = dict(self._params)
        # By its type: a mapping may be the user's own code, which the agent reads under its guard.
        cls: Any = type(params)  # pyright: ignore[reportUnknownVariableType]
        try:
            if account_uid is not None:
                bound["account_uid"] = str(account_uid) if type(account_uid) is int else account_uid
            if params is None:
                return bound
            if issubclass(cls, dict):
                stored: Any = dict.items(params)  # pyright: ignore
                return {**bound, **dict(stored)}
            if issubclass(cls, Mapping):
                return ChainMap(params, bound)
        except Exception:  # noqa: BLE001, S110 (the hash of a key, or of a class, may raise)
            pass
        return params


def _dropped(what: str) -> bool:
    line = "%s dropped: no contact identified yet; call identify() first"
    _log("anonymous", logging.WARNING, line, what, loud=next(_anonymous) == 0)
    return False
