"""The methods of `Sandbox` that look inside it, wait, and script what goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from salesmachine_async.sandbox.control.export import export
from salesmachine_async.sandbox.control.transfer import Replay
from salesmachine_async.sandbox.control.wait import wait
from salesmachine_async.sandbox.inspection import EVERYTHING, Inspection

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from salesmachine_async.sandbox.faults.rate_limit import RateLimit
    from salesmachine_async.sandbox.faults.script import Fault
    from salesmachine_async.sandbox.state import SandboxState
    from salesmachine_async.sandbox.views import (
        AccountView,
        ContactDetailView,
        ContactView,
        EventView,
        RejectedView,
        ReplayResult,
        RequestView,
        SummaryView,
        WaitResult,
    )


class ControlApi:
    """
    What can be done with a running sandbox from Python; the control endpoints do the same.

    All of it may be called from any thread.
    """

    # Set while it runs.
    _state: SandboxState | None = None

    def summary(self, token: str | None = None) -> SummaryView:
        """Count what was received, in one workspace or in all."""
        return self._inspection().summary(self._workspace(token))

    def contacts(self, token: str | None = None) -> list[ContactView]:
        """List all contacts, by uid."""
        return self._inspection().contacts(self._only(token))

    def contact(self, uid: str, token: str | None = None) -> ContactDetailView:
        """
        Show the contact that *uid* means, with all its events.

        Raises:
            LookupError: there is none.
        """
        found = self._inspection().contact(self._only(token), uid)
        if found is None:
            raise LookupError(f"no contact {uid!r} in this workspace")
        return found

    def accounts(self, token: str | None = None) -> list[AccountView]:
        """List all accounts, by uid."""
        return self._inspection().accounts(self._only(token))

    def account(self, uid: str, token: str | None = None) -> AccountView:
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
    ) -> list[EventView]:
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

    def requests(self, token: str | None = None, *, after: int = 0, limit: int | None = None) -> list[RequestView]:
        """List the requests in the log, oldest first: those whose `id` is greater than *after*, at most *limit*."""
        return self._running().request_log.requests(self._workspace(token), after, limit)

    def reset(self, token: str | None = None) -> None:
        """Forget everything of a workspace: state, log, faults."""
        self._inspection().reset(self._only(token))

    def faults(self, faults: Iterable[Fault], token: str | None = None) -> None:
        """Replace the script of faults: of one workspace, or without *token* of the whole server."""
        self._running().faults.put(faults, self._workspace(token))

    def faults_left(self, token: str | None = None) -> list[Fault]:
        """List the faults still to come, with the times each has left."""
        return self._running().faults.left(self._workspace(token))

    def rejected(self, token: str | None = None) -> list[RejectedView]:
        """List the requests that were refused for what is in them, oldest first, each with the item at fault."""
        return self._running().request_log.rejected(self._workspace(token))

    async def wait(
        self,
        match: dict[str, Any],
        *,
        count: int = 1,
        timeout: float = 5.0,
        after: int = 0,
        token: str | None = None,
    ) -> WaitResult:
        """
        Wait until messages like *match* have arrived; those that are there already count.

        ```python
        await sandbox.wait({"event_uid": "order", "params.plan": "pro"}, count=2)
        ```

        Args:
            match: what a message must hold, see `matching.Pattern`: `method`, `contact_uid`, `account_uid`,
                `event_uid`, `alias`, `message_id`, `created_at`, and anything in `params`.
            count: how many.
            timeout: seconds.
            after: only messages after this number; the answer's `next`.
            token: chooses the workspace; without it a message of any counts.

        Returns:
            What came; its `ok` is true.

        Raises:
            TimeoutError: they have not arrived; the text shows the nearest misses.
            ValueError: an argument is unusable.
        """
        waited = await wait(
            self._running().message_log, self._workspace(token), match, count=count, timeout=timeout, after=after
        )
        if not waited["ok"]:
            raise TimeoutError(_told(waited, timeout))
        return waited

    def export(self, token: str | None = None) -> Iterator[bytes]:
        """Show a workspace as NDJSON, some hundred lines to a chunk; `replay` makes the same of it."""
        return export(self._running(), self._only(token))

    def replay(self, lines: Iterable[bytes | str], token: str) -> ReplayResult:
        """
        Apply lines of NDJSON, such as an open file, to the workspace of *token*.

        Raises:
            ValueError: names the line that cannot be applied; those before it have been.
        """
        replay = Replay(self._running(), self._running().tokens.workspace_of(token))
        for line in lines:
            for each in (line.encode() if isinstance(line, str) else line).splitlines():
                replay.add(each)
        return replay.finish()

    def rate_limit(self, limit: RateLimit | None) -> None:
        """Limit the rate of requests of each workspace; None ends it."""
        self._running().rate_limiter.limit = limit

    def _running(self) -> SandboxState:
        if self._state is None:
            raise RuntimeError("the sandbox is not running")
        return self._state

    def _inspection(self) -> Inspection:
        return Inspection(self._running())

    def _only(self, token: str | None) -> str | None:
        return self._inspection().only(self._workspace(token))

    def _workspace(self, token: str | None) -> str | None:
        if token is None:
            return None
        state = self._running()
        workspace = state.tokens.workspace_of(token)
        if state.seeded:
            state.open_workspace(workspace)
        return workspace


def _told(waited: WaitResult, timeout: float) -> str:
    lines = [f"{waited['found']} of {waited['wanted']} messages arrived within {timeout:g} s"]
    for miss in waited["nearest"]:
        item = miss["item"]
        name = item.get("event_uid") or item["method"]
        lines.append(f"nearly: {name} of {item.get('contact_uid') or item.get('account_uid')}")
        for each in miss["differences"]:
            found = repr(each["found"]) if "found" in each else "missing"
            lines.append(f"  {each['path']}: wanted {each['wanted']!r}, found {found}")
    return "\n".join(lines)
