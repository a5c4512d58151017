"""State shared by the handlers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from aiohttp import web

from salesmachine_async.sandbox.faults.script import Script
from salesmachine_async.sandbox.http.auth import TokenHint
from salesmachine_async.sandbox.messages import now
from salesmachine_async.sandbox.storage.request_log import RequestLog, RequestRecord
from salesmachine_async.sandbox.storage.seeds import load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from salesmachine_async.sandbox.faults.rate_limit import RateLimiter
    from salesmachine_async.sandbox.http.auth import Tokens
    from salesmachine_async.sandbox.plan.results import PlanResults
    from salesmachine_async.sandbox.storage.message_log import MessageLog
    from salesmachine_async.sandbox.storage.ndjson import NdjsonLine
    from salesmachine_async.sandbox.storage.store import Store
    from salesmachine_async.sandbox.storage.v2_store import V2Store
    from salesmachine_async.sandbox.views import RequestView


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a sandbox; None means unlimited."""

    max_body_bytes: int
    max_batch_messages: int | None
    max_events: int | None
    max_requests: int
    max_history: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxState:
    """
    The state of one running sandbox.

    Attributes:
        hosts: host names accepted in the Host header.
        tokens: the tokens that are valid.
        v2_store: storage of what only v2 uses.
        seeds: initial content of every new workspace.
        seeded: whether the seeds were given by the user instead of the built-in examples.
        names: labels of workspaces.
        hints: what identifies the token of a workspace.
        on_request: called with each finished request to the API.
        known: names of the workspaces opened since the start.
        message_log: the latest messages.
        rate_limiter: the rate limit.
        plan_results: verdicts of the tracking plan.
        turns: locks of the writers, by workspace.
        closing: set when the server stops, so that no injected delay outlives it.
    """

    store: Store
    request_log: RequestLog
    limits: Limits
    hosts: frozenset[str]
    tokens: Tokens
    closing: asyncio.Event
    v2_store: V2Store
    seeds: Sequence[NdjsonLine]
    seeded: bool
    message_log: MessageLog
    rate_limiter: RateLimiter
    plan_results: PlanResults
    turns: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary[str, asyncio.Lock])
    names: Mapping[str, str]
    hints: dict[str, TokenHint] = field(default_factory=dict[str, TokenHint])
    on_request: Callable[[RequestView], None] | None = None
    known: set[str] = field(default_factory=set[str])
    faults: Script = field(default_factory=Script)

    def turn(self, name: str) -> asyncio.Lock:
        """Return the lock that serialises the writers of the workspace *name*, so that no large batch starves."""
        return self.turns.setdefault(name, asyncio.Lock())

    def open_workspace(self, name: str) -> None:
        """Create the workspace *name* from the seeds, unless it exists."""
        if name in self.known:
            return
        with self.store.writing():
            if self.store.find_workspace(name) is None:
                self.store.workspace(name)
                load(self.store, self.v2_store, name, self.seeds, now())
            self.known.add(name)


STATE = web.AppKey("STATE", SandboxState)
RECORD = web.RequestKey("RECORD", RequestRecord)
# Number of messages of the request to apply, set by a fault.
PARTIAL = web.RequestKey("PARTIAL", int)
