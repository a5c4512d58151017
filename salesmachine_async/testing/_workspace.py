"""A sandbox for tests: one server for all tests, one workspace for each test."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, NoReturn

from anyio import sleep
from anyio.from_thread import start_blocking_portal

from salesmachine_async._http.config import SECRET_VARIABLE, TOKEN_VARIABLE, URL_VARIABLE
from salesmachine_async.agent import Agent
from salesmachine_async.sandbox import Fault, Sandbox
from salesmachine_async.sandbox.plan.schema import TrackingPlan
from salesmachine_async.testing._agents import describe_held, expedite
from salesmachine_async.testing._matching import Expectation
from salesmachine_async.threaded import ThreadedAgent

if TYPE_CHECKING:
    from typing import Unpack

    from salesmachine_async.sandbox.views import (
        AccountView,
        ContactDetailView,
        ContactView,
        EventView,
        RequestView,
        SummaryView,
    )
    from salesmachine_async.threaded import Options

__all__ = ["Workspace", "serve"]

POLL_SECONDS: Final = 0.01
# Limit of the text of a failed `assert_plan`.
MAX_PLAN_LINES: Final = 100


@contextmanager
def serve() -> Generator[Sandbox]:
    """Run a sandbox in its own thread, so that tests may block."""
    with start_blocking_portal() as portal:
        sandbox = Sandbox()
        portal.call(sandbox.start)
        try:
            yield sandbox
        finally:
            portal.call(sandbox.aclose)


class Workspace:
    """
    The part of a sandbox that belongs to one test: the messages and faults of its own token.

    Messages that an agent of another test sends late arrive in another workspace.

    Args:
        sandbox: A running sandbox.
        plan: The tracking plan of `assert_plan`.

    Attributes:
        url: The base URL of the sandbox.
        token: The API token of the workspace.
        environment: The environment variables with which an agent sends to this workspace.
    """

    def __init__(self, sandbox: Sandbox, plan: str | os.PathLike[str] | None = None) -> None:
        self._sandbox = sandbox
        self._plan = plan
        self.url: str = sandbox.url
        self.token: str = token_hex(16)
        self.environment: dict[str, str] = {TOKEN_VARIABLE: self.token, SECRET_VARIABLE: "", URL_VARIABLE: self.url}

    def agent(self, **options: Unpack[Options]) -> Agent:
        """Return an agent that sends to this workspace."""
        return Agent(self.token, **{"base_url": self.url, **options})  # type: ignore[arg-type]

    def threaded_agent(self, **options: Unpack[Options]) -> ThreadedAgent:
        """Return a threaded agent that sends to this workspace."""
        return ThreadedAgent(self.token, **{"base_url": self.url, **options})  # type: ignore[arg-type]

    def faults(self, *faults: Fault | int | Iterable[Fault | int]) -> None:
        """Replace the script of faults: in order, each a `Fault` or a status to answer once. No argument: no faults."""
        self._sandbox.faults(list(_flat(faults)), self.token)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled: both would use, and close, the same connections."""
        raise TypeError("a Workspace cannot be copied or pickled")

    def wait_for(
        self,
        event_uid: str | int | None = None,
        /,
        contact_uid: str | int | None = None,
        *,
        count: int = 1,
        timeout: float = 5.0,
        **params: Any,
    ) -> list[EventView]:
        """
        Wait until *count* matching events have arrived, and return all matching ones, oldest first.

        The agents of this process send their queued messages at once, without waiting for `Batching.linger`.

        This blocks; in a coroutine use `wait_for_async`, because an agent on a blocked event loop cannot send.

        Args:
            event_uid: The name of the event; None matches any.
            contact_uid: The contact of the event; None matches any.
            count: The least number of events.
            timeout: Seconds to wait.
            params: Values that the event's params must contain; other params are ignored, also inside mappings.

        Raises:
            AssertionError: Too few events arrived in time; the text shows the nearest misses.
        """
        __tracebackhide__ = True
        search = self._search(event_uid, contact_uid, params, count, timeout)
        while search.is_unfinished():
            time.sleep(POLL_SECONDS)
        return search.result()

    async def wait_for_async(
        self,
        event_uid: str | int | None = None,
        /,
        contact_uid: str | int | None = None,
        *,
        count: int = 1,
        timeout: float = 5.0,
        **params: Any,
    ) -> list[EventView]:
        """Wait as `wait_for` does, with the same arguments, without blocking the event loop."""
        __tracebackhide__ = True
        search = self._search(event_uid, contact_uid, params, count, timeout)
        while search.is_unfinished():  # noqa: ASYNC110 (the sandbox lives on another loop)
            await sleep(POLL_SECONDS)
        return search.result()

    # Current content.

    def events(
        self, event_uid: str | None = None, contact_uid: str | None = None, account_uid: str | None = None
    ) -> list[EventView]:
        """List events in the order of their arrival."""
        return self._sandbox.events(self.token, event_uid=event_uid, contact_uid=contact_uid, account_uid=account_uid)

    def contact(self, contact_uid: str) -> ContactDetailView:
        """Return a contact; raises LookupError if it does not exist."""
        return self._sandbox.contact(contact_uid, self.token)

    def contacts(self) -> list[ContactView]:
        """List all contacts, sorted by uid."""
        return self._sandbox.contacts(self.token)

    def account(self, account_uid: str) -> AccountView:
        """Return an account; raises LookupError if it does not exist."""
        return self._sandbox.account(account_uid, self.token)

    def summary(self) -> SummaryView:
        """Return the numbers of objects, messages and requests."""
        return self._sandbox.summary(self.token)

    def requests(self) -> list[RequestView]:
        """List the requests, oldest first."""
        return self._sandbox.requests(self.token)

    def reset(self) -> None:
        """Delete everything in the workspace."""
        self._sandbox.reset(self.token)

    def assert_plan(
        self, plan: str | os.PathLike[str] | Mapping[str, Any] | None = None, *, timeout: float = 5.0
    ) -> None:
        """
        Check that all messages received satisfy a tracking plan, after the agents of this process have sent theirs.

        This blocks while agents hold messages; in a coroutine, await the agent's `flush` first.

        Args:
            plan: A file, or the plan as JSON; None takes the file of the pytest option ``salesmachine_plan``.
            timeout: Seconds to wait for messages that agents still hold.

        Raises:
            AssertionError: A message violates the plan, with the paths and reasons; or agents still hold messages.
            ValueError: No plan is given, or it is invalid.
        """
        __tracebackhide__ = True
        source = self._plan if plan is None else plan
        if source is None:
            raise ValueError("no tracking plan: pass one to assert_plan, or set the pytest option salesmachine_plan")
        loaded = TrackingPlan.load(source)
        deadline = time.monotonic() + timeout
        while held := describe_held():
            if time.monotonic() >= deadline:
                raise AssertionError(f"the messages cannot be checked against the plan yet{held}")
            expedite()
            time.sleep(POLL_SECONDS)
        bad: list[str] = []
        for message in self._sandbox.messages(self.token):
            name = message.get("event_uid", "")
            problems = loaded.judge(message["method"], name, message.get("params"))
            if problems:
                uid = message.get("contact_uid") or message.get("account_uid")
                bad += ["", f"  {name or message['method']} of {uid}:", *(f"    - {each}" for each in problems)]
                if len(bad) > MAX_PLAN_LINES:
                    bad += ["", "  …"]
                    break
        if bad:
            raise AssertionError("\n".join(["messages violate the tracking plan:", *bad]))

    def _search(
        self,
        event_uid: str | int | None,
        contact_uid: str | int | None,
        params: dict[str, Any],
        count: int,
        timeout: float,
    ) -> _EventSearch:
        expedite()
        pattern = Expectation("event", {"event_uid": event_uid, "contact_uid": contact_uid}, params)
        return _EventSearch(lambda after: self._sandbox.events(self.token, after=after), pattern, count, timeout)


class _EventSearch:
    """A search of the arriving events for a number of matches, until a deadline."""

    def __init__(
        self, arrived: Callable[[int], list[EventView]], pattern: Expectation, count: int, timeout: float
    ) -> None:
        self._arrived = arrived
        self._pattern = pattern
        self._count = count
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._after = 0
        self._found: list[EventView] = []
        self._seen: list[dict[str, Any]] = []

    def is_unfinished(self) -> bool:
        """Read new events; return whether matches are missing and the deadline is in the future."""
        # The clock is read first, because an event that arrived by the deadline counts.
        late = time.monotonic() >= self._deadline
        for event in self._arrived(self._after):
            self._after = event["seq"]
            message = {"method": "event", **event}
            self._seen.append(message)
            if self._pattern.fits(message):
                self._found.append(event)
        return len(self._found) < self._count and not late

    def result(self) -> list[EventView]:
        """Return the matches; raises AssertionError if there are too few."""
        __tracebackhide__ = True
        if len(self._found) >= self._count:
            return self._found
        headline = f"no {self._pattern} within {self._timeout:g} s"
        if self._count > 1:
            headline = f"only {len(self._found)} of {self._count} within {self._timeout:g} s: {self._pattern}"
        raise AssertionError(self._pattern.explain(self._seen, headline) + describe_held())


def _flat(faults: Iterable[Fault | int | Iterable[Fault | int]]) -> Iterator[Fault]:
    for fault in faults:
        if isinstance(fault, Fault):
            yield fault
        elif isinstance(fault, int):
            yield Fault(status=fault)
        else:
            yield from _flat(fault)
