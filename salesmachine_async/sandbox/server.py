"""The lifecycle of a sandbox."""

from __future__ import annotations

import asyncio
import logging
import time
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from aiohttp import web

from salesmachine_async.sandbox.api import ControlApi
from salesmachine_async.sandbox.app import build
from salesmachine_async.sandbox.faults.rate_limit import RateLimiter
from salesmachine_async.sandbox.http.auth import LOOPBACK, Tokens, workspace_of
from salesmachine_async.sandbox.http.responses import encode
from salesmachine_async.sandbox.plan.results import PlanResults
from salesmachine_async.sandbox.plan.schema import TrackingPlan
from salesmachine_async.sandbox.state import Limits, SandboxState
from salesmachine_async.sandbox.storage.message_log import MessageLog
from salesmachine_async.sandbox.storage.ndjson import parse_lines
from salesmachine_async.sandbox.storage.request_log import RequestLog
from salesmachine_async.sandbox.storage.seeds import check, examples
from salesmachine_async.sandbox.storage.store import Store
from salesmachine_async.sandbox.storage.v2_store import V2Store

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from salesmachine_async.sandbox.faults.rate_limit import RateLimit
    from salesmachine_async.sandbox.storage.ndjson import NdjsonLine
    from salesmachine_async.sandbox.views import RequestView

# aiohttp logs bytes that are not HTTP, which can contain a token, so this logger is silent until a handler is added to
# it. aiohttp's access log, which would show ?api_token=, is off.
wire_logger: logging.Logger = logging.getLogger("salesmachine_async.sandbox.wire")
wire_logger.addHandler(logging.NullHandler())
wire_logger.propagate = False

# Grace period for requests in progress when the server stops; idle connections are closed at once.
SHUTDOWN_SECONDS = 0.25
# A uid accepted in a body must fit percent-encoded into a URL that queries it; aiohttp's limit is 8 KiB.
MAX_URL_BYTES = 2**18
# Clients cannot connect to a wildcard address on every platform, so the URL shows the loopback address.
CONNECTABLE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to


class Sandbox(ControlApi):
    """
    A local Salesmachine.

    ::

        async with Sandbox() as sandbox:
            async with Agent("token", base_url=sandbox.url) as agent:
                agent.track("123456", "user_registration")
            assert sandbox.summary()["events"] == 1

    Each API token has its own workspace. The methods for inspection take the token; without it they use the only
    workspace (`summary` and `requests`: all workspaces). They are thread-safe.

    Args:
        host: The address to listen on.
        port: The port; 0 selects a free one.
        db: A file that keeps the state beyond this process; None keeps it in memory.
        allowed_hosts: Further host names accepted in the Host header, beside *host* and those of the loopback.
        tokens: The valid tokens; other requests are answered 401. None accepts any token.
        max_body_bytes: Limit of a request body, compressed and uncompressed; larger ones are answered 413.
        max_batch_messages: Limit of a batch; larger ones are answered 413. None means unlimited: the API documents no
            limit.
        max_events: Limit of the events kept in each workspace; the oldest are evicted. Each event takes about 300 bytes
            beside its `params`. None means unlimited. Contacts, accounts and known message ids are not limited.
        max_requests: Number of requests kept in the log.
        max_history: Number of the latest messages kept in memory for `wait` and for live updates.
        v2_tokens: Maps the tokens that are valid only for the Access API (v2) to the token of the workspace they open.
            None accepts the tokens of the tracking API for both.
        seed: Initial content of every new workspace: an NDJSON file, as ``/_sandbox/export`` writes it, or its lines as
            objects. None adds examples of users, activities and tasks, which no API can create; `()` adds nothing.
        rate_limit: Limit of the request rate of each workspace; other requests are answered 429. None means unlimited.
        plan: A tracking plan, as a file or as JSON, that judges each message: JSON Schemas by event. It needs the extra
            ``plan``.
        names: Labels of workspaces by token, shown in the menu of the page.
        on_request: Called with each finished request to the API, in the event loop.
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
        max_history: int = 10_000,
        v2_tokens: Mapping[str, str] | None = None,
        seed: str | os.PathLike[str] | Iterable[Mapping[str, Any]] | None = None,
        rate_limit: RateLimit | None = None,
        plan: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        names: Mapping[str, str] | None = None,
        on_request: Callable[[RequestView], None] | None = None,
    ) -> None:
        bounds = {
            "max_body_bytes": max_body_bytes,
            "max_batch_messages": max_batch_messages,
            "max_events": max_events,
            "max_requests": max_requests,
            "max_history": max_history,
        }
        for name, bound in bounds.items():
            if bound is not None and bound < 1:
                raise ValueError(f"{name} must be 1 or more")
        self._host = host
        self._port = port
        self._db = db
        self._hosts = frozenset(name.lower().strip("[]") for name in (*LOOPBACK, host, *allowed_hosts))
        self._tokens = Tokens(
            None if tokens is None else frozenset(map(workspace_of, tokens)),
            None
            if v2_tokens is None
            else {workspace_of(each): workspace_of(opens) for each, opens in v2_tokens.items()},
        )
        self._limits = Limits(
            max_body_bytes=max_body_bytes,
            max_batch_messages=max_batch_messages,
            max_events=max_events,
            max_requests=max_requests,
            max_history=max_history,
        )
        self._seeded = seed is not None
        self._seeds = _seeds(seed)
        self._rate_limit = rate_limit
        self._plan = None if plan is None else TrackingPlan.load(plan)
        self._names = {workspace_of(token): label for token, label in (names or {}).items()}
        self._on_request = on_request
        # Set while the sandbox runs.
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
            RuntimeError: The sandbox is running already.
            OSError: The address is not available.
            ValueError: The database file was written by another version.
        """
        if self._state is not None:
            raise RuntimeError("the sandbox is running already")
        store = Store(self._db)
        plan_results = PlanResults(self._plan, self._limits.max_history)
        state = SandboxState(
            store=store,
            request_log=RequestLog(self._limits.max_requests),
            limits=self._limits,
            hosts=self._hosts,
            tokens=self._tokens,
            closing=asyncio.Event(),
            v2_store=V2Store(store),
            seeds=self._seeds,
            seeded=self._seeded,
            message_log=MessageLog(self._limits.max_history, plan_results),
            plan_results=plan_results,
            rate_limiter=RateLimiter(self._rate_limit, time.monotonic),
            on_request=self._on_request,
            names=self._names,
        )
        self._state = state
        self._runner = runner = web.AppRunner(
            build(state),
            access_log=None,
            logger=wire_logger,
            shutdown_timeout=SHUTDOWN_SECONDS,
            max_line_size=MAX_URL_BYTES,
        )
        try:
            await runner.setup()
            await web.TCPSite(runner, self._host, self._port).start()
        except BaseException:
            await self.aclose()
            raise
        self._url = _url(*runner.addresses[0][:2])

    async def aclose(self) -> None:
        """Stop listening and close all connections; no-op if the sandbox is not running."""
        state, runner = self._state, self._runner
        self._state = self._runner = None
        if state is None or runner is None:
            return
        state.closing.set()
        state.message_log.close()
        try:
            await runner.cleanup()
        finally:
            state.store.close()

    @property
    def url(self) -> str:
        """The base URL, such as ``http://127.0.0.1:43211``."""
        self._running()
        return self._url

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled: both would use, and close, the same connections."""
        raise TypeError("a Sandbox cannot be copied or pickled")

    def __repr__(self) -> str:
        if self._state is None:
            return "<Sandbox [not running]>"
        seen: dict[str, Any] = {**self.summary()}
        return (
            f"<Sandbox [{self._url} | {sum(seen['requests'].values())} requests | {seen['contacts']} contacts, "
            f"{seen['accounts']} accounts, {seen['events']} events]>"
        )


def _url(host: str, port: int) -> str:
    host = CONNECTABLE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _seeds(seed: str | os.PathLike[str] | Iterable[Mapping[str, Any]] | None) -> Sequence[NdjsonLine]:
    if seed is None:
        return examples()
    if isinstance(seed, (str, PathLike)):
        lines = list(parse_lines(Path(seed).read_bytes().splitlines()))
    else:
        lines = list(parse_lines(map(encode, seed)))
    # Validate now, not at the first request of a workspace.
    check(lines)
    return lines
