"""A sandbox for tests: one server for all, a workspace for each."""

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
from salesmachine_async.testing._agents import hurry, told_of_held
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
    """Run a sandbox in a thread of its own, so that tests may block."""
    with start_blocking_portal() as portal:
        sandbox = Sandbox()
        portal.call(sandbox.start)
        try:
            yield sandbox
        finally:
            portal.call(sandbox.aclose)


class Workspace:
    """
    What one test sees of a sandbox: the messages and faults of its own token.

    A late flush of another test ends elsewhere.

    Args:
        sandbox: A running one.
        plan: The tracking plan of `assert_plan`.

    Attributes:
        url: Its base URL.
        token: The API token of the workspace.
        environment: The variables that point an agent here.
    """

    def __init__(self, sandbox: Sandbox, plan: str | os.PathLike[str] | None = None) -> None:
        self._sandbox = sandbox
        self._plan = plan
        self.url: str = sandbox.url
        self.token: str = token_hex(16)
        self.environment: dict[str, str] = {TOKEN_VARIABLE: self.token, SECRET_VARIABLE: "", URL_VARIABLE: self.url}

    def agent(self, **options: Unpack[Options]) -> Agent:
        """Return an agent that sends here."""
        return Agent(self.token, **{"base_url": self.url, **options})  # type: ignore[arg-type]

    def threaded_agent(self, **options: Unpack[Options]) -> ThreadedAgent:
        """Return a threaded agent that sends here."""
        return ThreadedAgent(self.token, **{"base_url": self.url, **options})  # type: ignore[arg-type]

    def faults(self, *faults: Fault | int | Iterable[Fault | int]) -> None:
        """Replace the script of faults: in order, each a `Fault` or a status to answer once. None: no more faults."""
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
        Wait until so many events that fit have arrived, and return them, oldest first.

        The agents of this process send at once what they hold: a test need not sit out `Batching.linger`.

        It blocks; in a coroutine use `wait_for_async`, or an agent on the same event loop could not send meanwhile.

        Args:
            event_uid: Which event; None: any.
            contact_uid: Of whom; None: of anybody.
            count: How many at least.
            timeout: Seconds to wait.
            params: What must be in the event's params; inside mappings too, others may be there.

        Raises:
            AssertionError: They did not come in time; shows the nearest misses.
        """
        __tracebackhide__ = True
        search = self._search(event_uid, contact_uid, params, count, timeout)
        while search.goes_on():
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
        """As `wait_for`, without blocking the event loop."""
        __tracebackhide__ = True
        search = self._search(event_uid, contact_uid, params, count, timeout)
        while search.goes_on():  # noqa: ASYNC110 (the sandbox lives on another loop)
            await sleep(POLL_SECONDS)
        return search.result()

    # What is there now.

    def events(
        self, event_uid: str | None = None, contact_uid: str | None = None, account_uid: str | None = None
    ) -> list[EventView]:
        """List events in the order of their arrival."""
        return self._sandbox.events(self.token, event_uid=event_uid, contact_uid=contact_uid, account_uid=account_uid)

    def contact(self, contact_uid: str) -> ContactDetailView:
        """Show a contact; LookupError if there is none."""
        return self._sandbox.contact(contact_uid, self.token)

    def contacts(self) -> list[ContactView]:
        """List all contacts, by uid."""
        return self._sandbox.contacts(self.token)

    def account(self, account_uid: str) -> AccountView:
        """Show an account; LookupError if there is none."""
        return self._sandbox.account(account_uid, self.token)

    def summary(self) -> SummaryView:
        """Count what was received."""
        return self._sandbox.summary(self.token)

    def requests(self) -> list[RequestView]:
        """List the requests, oldest first."""
        return self._sandbox.requests(self.token)

    def reset(self) -> None:
        """Forget everything."""
        self._sandbox.reset(self.token)

    def assert_plan(
        self, plan: str | os.PathLike[str] | Mapping[str, Any] | None = None, *, timeout: float = 5.0
    ) -> None:
        """
        Check that all messages received satisfy a tracking plan, after the agents of this process have sent theirs.

        It blocks while agents hold messages; in a coroutine, await the agent's `flush` first.

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
        while held := told_of_held():
            if time.monotonic() >= deadline:
                raise AssertionError(f"the messages cannot be checked against the plan yet{held}")
            hurry()
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
    ) -> _Search:
        hurry()
        pattern = Expectation("event", {"event_uid": event_uid, "contact_uid": contact_uid}, params)
        return _Search(lambda after: self._sandbox.events(self.token, after=after), pattern, count, timeout)


class _Search:
    """Looks at what arrives until there is enough."""

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

    def goes_on(self) -> bool:
        """Look; whether there is too little yet and there is still time."""
        # Before looking: what arrives by the deadline counts.
        late = time.monotonic() >= self._deadline
        for event in self._arrived(self._after):
            self._after = event["seq"]
            message = {"method": "event", **event}
            self._seen.append(message)
            if self._pattern.fits(message):
                self._found.append(event)
        return len(self._found) < self._count and not late

    def result(self) -> list[EventView]:
        """Return what was found; raise AssertionError if that is too little."""
        __tracebackhide__ = True
        if len(self._found) >= self._count:
            return self._found
        headline = f"no {self._pattern} within {self._timeout:g} s"
        if self._count > 1:
            headline = f"only {len(self._found)} of {self._count} within {self._timeout:g} s: {self._pattern}"
        raise AssertionError(self._pattern.explain(self._seen, headline) + told_of_held())


def _flat(faults: Iterable[Fault | int | Iterable[Fault | int]]) -> Iterator[Fault]:
    for fault in faults:
        if isinstance(fault, Fault):
            yield fault
        elif isinstance(fault, int):
            yield Fault(status=fault)
        else:
            yield from _flat(fault)
