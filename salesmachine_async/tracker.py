"""A contact's view of an agent: the calls without the uid."""

from __future__ import annotations

import logging
from collections import ChainMap
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol, cast

from salesmachine_async._log import RateLimitedLogger

__all__ = ["Calls", "Tracker"]

_trouble = RateLimitedLogger()


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
        """As `Agent.contact`."""
        ...

    def account(
        self,
        account_uid: str | int,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """As `Agent.account`."""
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
        """As `Agent.track`."""
        ...

    def pageview(
        self,
        contact_uid: str | int,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """As `Agent.pageview`."""
        ...

    def alias(self, contact_uid: str | int, alias: str | int, *, message_id: str | None = None) -> bool:
        """As `Agent.alias`."""
        ...


class Tracker:
    """
    The calls of an agent for one contact; made by `Agent.bind`, and by the web integrations for each request.

    While nobody is identified (the visitor of a request is anonymous), calls are refused: they return False, and a log
    line says so once a minute.

    Args:
        agent: What carries the messages.
        contact_uid: Who; None while unknown.
        account_uid: Sent as ``params["account_uid"]`` of every message.
        params: Sent with every message; those of a call win.

    Attributes:
        agent: For the calls about somebody else: `account`, `alias`.
    """

    __slots__ = ("_account_uid", "_contact_uid", "_params", "agent")

    def __init__(
        self,
        agent: Calls,
        contact_uid: str | int | None = None,
        account_uid: str | int | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.agent: Calls = agent
        self._contact_uid = contact_uid
        self._account_uid = account_uid
        self._params = dict(params or {})

    def __repr__(self) -> str:
        """Show whether somebody is identified, not who."""
        return f"<Tracker [{'anonymous' if self.contact_uid is None else 'identified'}]>"

    @property
    def contact_uid(self) -> str | int | None:
        """Who is tracked; None while nobody is identified."""
        return self._contact_uid

    @property
    def account_uid(self) -> str | int | None:
        """To which account the messages are linked; None: to none."""
        return self._account_uid

    def identify(self, contact_uid: str | int | None, account_uid: str | int | None = None) -> None:
        """Say who is tracked from now on; None: nobody."""
        self._contact_uid = contact_uid
        self._account_uid = account_uid

    def contact(
        self,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """Create or update the contact; see `Agent.contact`. Returns False also when nobody is identified."""
        uid = self.contact_uid
        if uid is None:
            return _refused("contact")
        return self.agent.contact(uid, self._merged(params), created_at=created_at, message_id=message_id)

    def track(
        self,
        event_uid: str | int,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """Record something the contact did; see `Agent.track`. Returns False also when nobody is identified."""
        uid = self.contact_uid
        if uid is None:
            return _refused("event")
        return self.agent.track(uid, event_uid, self._merged(params), created_at=created_at, message_id=message_id)

    def pageview(
        self,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """Record a pageview; see `Agent.pageview`. Returns False also when nobody is identified."""
        uid = self.contact_uid
        if uid is None:
            return _refused("pageview")
        return self.agent.pageview(uid, self._merged(params), created_at=created_at, message_id=message_id)

    def _merged(self, params: Any) -> Any:
        """Return *params* over what is bound. What is no mapping is passed on: the agent says what is wrong with it."""
        account_uid = self.account_uid
        if not self._params and account_uid is None:
            return params
        bound = dict(self._params)
        if account_uid is not None:
            bound["account_uid"] = str(account_uid) if type(account_uid) is int else account_uid
        if not params:
            return bound if params is None or isinstance(params, Mapping) else params
        if isinstance(params, dict):
            return {**bound, **cast("dict[str, Any]", params)}
        if isinstance(params, Mapping):
            # Read by the agent, under its guard: a mapping may be the user's own code.
            return ChainMap(params, bound)  # type: ignore[arg-type]  # pyright: ignore
        return params


def _refused(what: str) -> bool:
    _trouble("anonymous", logging.WARNING, "a message (%s) for nobody was refused: call identify() first", what)
    return False
