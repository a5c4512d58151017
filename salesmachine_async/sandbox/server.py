"""The life of a sandbox, and the methods to look inside it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from aiohttp import web

from salesmachine_async.sandbox.app import build
from salesmachine_async.sandbox.auth import LOOPBACK, workspace_of
from salesmachine_async.sandbox.inspection import EVERYTHING, Inspection
from salesmachine_async.sandbox.journal import Journal
from salesmachine_async.sandbox.state import Limits, State
from salesmachine_async.sandbox.store import Store

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable
    from types import TracebackType
    from typing import Self

    from salesmachine_async.sandbox.faults import Fault
    from salesmachine_async.sandbox.views import Account, Contact, ContactDetail, Event, Request, Summary

# aiohttp logs the bytes of what is not HTTP, where a token can be, as its access log would show ?api_token=. So the
# first goes nowhere until a handler is added to it, and the second is off.
wire_logger = logging.getLogger("salesmachine_async.sandbox.wire")
wire_logger.addHandler(logging.NullHandler())
wire_logger.propagate = False

# Requests in progress get this long when the server stops; idle connections are closed at once.
SHUTDOWN_SECONDS = 0.25
# An address that means all interfaces cannot be connected to everywhere; the loopback one can.
CONNECTABLE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to


class Sandbox:
    """
    A local Salesmachine.

    ```python
    async with Sandbox() as sandbox:
        async with Agent("token", base_url=sandbox.url) as agent:
            agent.track("123456", "user_registration")
        assert sandbox.summary()["events"] == 1
    ```

    Each API token has a workspace of its own. The methods that look inside take the token; without it they mean the
    only workspace there is (`summary` and `requests`: all of them). They may be called from any thread.

    Args:
        host: the address to listen on.
        port: the port; 0 takes a free one.
        db: a file that keeps the state beyond this process; None keeps it in memory.
        allowed_hosts: further names that requests may be addressed to, beside *host* and those of the loopback.
        tokens: the only tokens that are good; None takes any. Others are answered 401.
        max_body_bytes: a larger body is answered 413.
        max_batch_messages: a larger batch is answered 413; None means no bound, for none is documented.
        max_events: the most events kept in each workspace, some 300 bytes each beside their `params`; the oldest are
            dropped. None means no bound. Contacts, accounts and known message ids are not bounded.
        max_requests: the most lines kept of the log of requests.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        db: str | os.PathLike[str] | None = None,
        allowed_hosts: Collection[str] = (),
        tokens: Collection[str] | None = None,
        max_body_bytes: int = 5 * 2**20,
        max_batch_messages: int | None = None,
        max_events: int | None = 1_000_000,
        max_requests: int = 10_000,
    ) -> None:
        bounds = {
            "max_body_bytes": max_body_bytes,
            "max_batch_messages": max_batch_messages,
            "max_events": max_events,
            "max_requests": max_requests,
        }
        for name, bound in bounds.items():
            if bound is not None and bound < 1:
                raise ValueError(f"{name} must be 1 or more")
        self._host = host
        self._port = port
        self._db = db
        self._hosts = frozenset(name.lower().strip("[]") for name in (*LOOPBACK, host, *allowed_hosts))
        self._tokens = None if tokens is None else frozenset(map(workspace_of, tokens))
        self._limits = Limits(
            max_body_bytes=max_body_bytes,
            max_batch_messages=max_batch_messages,
            max_events=max_events,
            max_requests=max_requests,
        )
        # Set while it runs.
        self._state: State | None = None
        self._runner: web.AppRunner | None = None
        self._url = ""

    async def __aenter__(self) -> Self:
        """Start listening."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        await self.aclose()

    async def start(self) -> None:
        """
        Start listening.

        Raises:
            RuntimeError: it runs already.
            OSError: the address cannot be listened on.
            ValueError: the database file was written by another version.
        """
        if self._state is not None:
            raise RuntimeError("the sandbox is running already")
        state = State(
            store=Store(self._db),
            journal=Journal(self._limits.max_requests),
            limits=self._limits,
            hosts=self._hosts,
            tokens=self._tokens,
            closing=asyncio.Event(),
        )
        self._state = state
        self._runner = runner = web.AppRunner(
            build(state), access_log=None, logger=wire_logger, shutdown_timeout=SHUTDOWN_SECONDS
        )
        try:
            await runner.setup()
            await web.TCPSite(runner, self._host, self._port).start()
        except BaseException:
            await self.aclose()
            raise
        self._url = _url(*runner.addresses[0][:2])

    async def aclose(self) -> None:
        """Stop listening and end all connections; does nothing when it does not run."""
        state, runner = self._state, self._runner
        self._state = self._runner = None
        if state is None or runner is None:
            return
        state.closing.set()
        try:
            await runner.cleanup()
        finally:
            state.store.close()

    @property
    def url(self) -> str:
        """Its base URL, such as `http://127.0.0.1:43211`."""
        self._running()
        return self._url

    def summary(self, token: str | None = None) -> Summary:
        """Count what was received, in one workspace or in all."""
        return self._inspection().summary(_workspace(token))

    def contacts(self, token: str | None = None) -> list[Contact]:
        """List all contacts, by uid."""
        return self._inspection().contacts(self._only(token))

    def contact(self, uid: str, token: str | None = None) -> ContactDetail:
        """
        Show the contact that *uid* means, with all its events.

        Raises:
            LookupError: there is none.
        """
        found = self._inspection().contact(self._only(token), uid)
        if found is None:
            raise LookupError(f"no contact {uid!r} in this workspace")
        return found

    def accounts(self, token: str | None = None) -> list[Account]:
        """List all accounts, by uid."""
        return self._inspection().accounts(self._only(token))

    def account(self, uid: str, token: str | None = None) -> Account:
        """
        Show one account.

        Raises:
            LookupError: there is none.
        """
        found = self._inspection().account(self._only(token), uid)
        if found is None:
            raise LookupError(f"no account {uid!r} in this workspace")
        return found

    def events(
        self,
        token: str | None = None,
        *,
        contact_uid: str | None = None,
        event_uid: str | None = None,
        account_uid: str | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> list[Event]:
        """
        List events in the order of their arrival.

        Args:
            token: chooses the workspace.
            contact_uid: only events of the contact that this uid means.
            event_uid: only events of this name.
            account_uid: only events linked to this account.
            after: only events whose `seq` is greater.
            limit: at most so many; None means all.
        """
        return self._inspection().events(
            self._only(token),
            contact_uid=contact_uid,
            event_uid=event_uid,
            account_uid=account_uid,
            after=after,
            limit=EVERYTHING if limit is None else limit,
        )

    def requests(self, token: str | None = None, *, after: int = 0, limit: int | None = None) -> list[Request]:
        """List the requests in the log, oldest first: those whose `id` is greater than *after*, at most *limit*."""
        return self._running().journal.requests(_workspace(token), after, limit)

    def reset(self, token: str | None = None) -> None:
        """Forget everything of a workspace: state, log, faults."""
        self._inspection().reset(self._only(token))

    def faults(self, faults: Iterable[Fault], token: str | None = None) -> None:
        """Replace the script of faults: of one workspace, or without *token* of the whole server."""
        self._running().faults.put(faults, _workspace(token))

    def faults_left(self, token: str | None = None) -> list[Fault]:
        """List the faults still to come, with the times each has left."""
        return self._running().faults.left(_workspace(token))

    def __repr__(self) -> str:
        if self._state is None:
            return "<Sandbox [not running]>"
        seen: dict[str, Any] = {**self.summary()}
        return (
            f"<Sandbox [{self._url} | {sum(seen['requests'].values())} requests | {seen['contacts']} contacts, "
            f"{seen['accounts']} accounts, {seen['events']} events]>"
        )

    def _running(self) -> State:
        if self._state is None:
            raise RuntimeError("the sandbox is not running")
        return self._state

    def _inspection(self) -> Inspection:
        return Inspection(self._running())

    def _only(self, token: str | None) -> str | None:
        return self._inspection().only(_workspace(token))


def _workspace(token: str | None) -> str | None:
    return None if token is None else workspace_of(token)


def _url(host: str, port: int) -> str:
    host = CONNECTABLE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
