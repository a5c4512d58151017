"""The methods of `Sandbox` for inspection, waiting and faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from salesmachine_async.sandbox.control.export import export
from salesmachine_async.sandbox.control.transfer import Replay
from salesmachine_async.sandbox.control.wait import wait
from salesmachine_async.sandbox.inspection import EVERYTHING, Inspection
from salesmachine_async.sandbox.pacing import at_once

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from salesmachine_async.sandbox.faults.rate_limit import RateLimit
    from salesmachine_async.sandbox.faults.script import Fault
    from salesmachine_async.sandbox.pacing import Steps
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

T = TypeVar("T")


class ControlApi:
    """
    Control of a running sandbox from Python, equivalent to the control endpoints.

    All methods are thread-safe.
    """

    # Set while the sandbox runs.
    _state: SandboxState | None = None

    def summary(self, token: str | None = None) -> SummaryView:
        """Return the counters of one workspace, or of all."""
        return self._inspection().summary(self._workspace(token))

    def contacts(self, token: str | None = None) -> list[ContactView]:
        """List all contacts, by uid."""
        return self._read(self._inspection().contacts(self._only(token)))

    def contact(self, uid: str, token: str | None = None) -> ContactDetailView:
        """
        Return the contact with the uid or alias *uid*, with all its events.

        Raises:
            LookupError: No such contact exists.
        """
        found = self._read(self._inspection().contact(self._only(token), uid))
        if found is None:
            raise LookupError(f"no contact {uid!r} in this workspace")
        return found

    def accounts(self, token: str | None = None) -> list[AccountView]:
        """List all accounts, by uid."""
        return self._read(self._inspection().accounts(self._only(token)))

    def account(self, uid: str, token: str | None = None) -> AccountView:
        """
        Return one account.

        Raises:
            LookupError: No such account exists.
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
            token: Selects the workspace.
            contact_uid: Only events of the contact with this uid or alias.
            event_uid: Only events of this name.
            account_uid: Only events linked to this account.
            after: Only events whose `seq` is greater.
            limit: Maximum number of events; None means all.
        """
        steps = self._inspection().events(
            self._only(token),
            contact_uid=contact_uid,
            event_uid=event_uid,
            account_uid=account_uid,
            after=after,
            limit=EVERYTHING if limit is None else limit,
        )
        return self._read(steps)

    def requests(self, token: str | None = None, *, after: int = 0, limit: int | None = None) -> list[RequestView]:
        """List the logged requests whose `id` is greater than *after*, oldest first, at most *limit*."""
        return self._running().request_log.requests(self._workspace(token), after, limit)

    def reset(self, token: str | None = None) -> None:
        """Delete everything in a workspace: state, log, faults."""
        self._inspection().reset(self._only(token))

    def faults(self, faults: Iterable[Fault], token: str | None = None) -> None:
        """Replace the faults of one workspace, or without *token* those of the whole server."""
        self._running().faults.put(faults, self._workspace(token))

    def faults_left(self, token: str | None = None) -> list[Fault]:
        """List the remaining faults, each with its remaining `times`."""
        return self._running().faults.left(self._workspace(token))

    def rejected(self, token: str | None = None) -> list[RejectedView]:
        """List the requests rejected because of their content, oldest first, each with the invalid item."""
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
        Wait until messages that match have arrived; earlier ones count, too.

        ::

            await sandbox.wait({"event_uid": "order", "params.plan": "pro"}, count=2)

        Args:
            match: The values a message must have, see `matching.Pattern`: `method`, `contact_uid`, `account_uid`,
                `event_uid`, `alias`, `message_id`, `created_at`, and anything in `params`.
            count: Number of messages to wait for.
            timeout: Seconds to wait.
            after: Only messages after this number, such as the `next` of an earlier result.
            token: Selects the workspace; without it messages of all workspaces count.

        Returns:
            The messages; `ok` is true.

        Raises:
            TimeoutError: The messages have not arrived; the text shows the nearest misses.
            ValueError: An argument is invalid.
        """
        waited = await wait(
            self._running().message_log, self._workspace(token), match, count=count, timeout=timeout, after=after
        )
        if not waited["ok"]:
            raise TimeoutError(_explain(waited, timeout))
        return waited

    def messages(self, token: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the messages that are still kept, oldest first, as `wait` returns them."""
        return self._running().message_log.after(0, self._workspace(token))

    def bad_messages(self, token: str | None = None) -> list[dict[str, Any]]:
        """List the latest messages that violate the tracking plan, oldest first, each with its `problems`."""
        return self._running().plan_results.bad(self._workspace(token))

    def export(self, token: str | None = None) -> Iterator[bytes]:
        """Export a workspace as NDJSON in chunks of several hundred lines; `replay` restores it."""
        return export(self._running(), self._only(token))

    def replay(self, lines: Iterable[bytes | str], token: str) -> ReplayResult:
        """
        Apply lines of NDJSON, such as an open file, to the workspace of *token*.

        Raises:
            ValueError: Names the first line that cannot be applied; the lines before it are applied.
        """
        replay = Replay(self._running(), self._running().tokens.workspace_of(token))
        for line in lines:
            at_once(replay.add((line.encode() if isinstance(line, str) else line).splitlines()))
        at_once(replay.finish())
        return replay.result

    def rate_limit(self, limit: RateLimit | None) -> None:
        """Limit the request rate of each workspace; None removes the limit."""
        self._running().rate_limiter.limit = limit

    def _read(self, steps: Steps[T]) -> T:
        with self._running().store.reading():
            return at_once(steps)

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


def _explain(waited: WaitResult, timeout: float) -> str:
    lines = [f"{waited['found']} of {waited['wanted']} messages arrived within {timeout:g} s"]
    for miss in waited["nearest"]:
        item = miss["item"]
        name = item.get("event_uid") or item["method"]
        lines.append(f"nearest: {name} of {item.get('contact_uid') or item.get('account_uid')}")
        for each in miss["differences"]:
            found = repr(each["found"]) if "found" in each else "missing"
            lines.append(f"  {each['path']}: wanted {each['wanted']!r}, found {found}")
    return "\n".join(lines)
