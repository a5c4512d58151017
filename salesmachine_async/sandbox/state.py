"""What the handlers share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from salesmachine_async.sandbox.auth import workspace_of
from salesmachine_async.sandbox.faults import Script
from salesmachine_async.sandbox.journal import Journal, Visit

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

    from salesmachine_async.sandbox.feed import Feed
    from salesmachine_async.sandbox.limiting import Limiter
    from salesmachine_async.sandbox.lines import Line
    from salesmachine_async.sandbox.shelf import Shelf
    from salesmachine_async.sandbox.store import Store


def now() -> int:
    """Read the clock, in epoch milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of a sandbox; None means none."""

    max_body_bytes: int
    max_batch_messages: int | None
    max_events: int | None
    max_requests: int
    max_history: int


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """
    One running sandbox.

    Attributes:
        hosts: the host names a request may be addressed to.
        tokens: the workspaces whose tokens are good; None means any token is.
        v2_tokens: maps the digests of the tokens that are good for v2, and for nothing else, to the workspaces they
            open; None means that every good token is good for both APIs.
        shelf: what v2 needs of the store.
        seeds: what every new workspace begins with.
        seeded: whether the seeds were given, rather than the examples that are there otherwise.
        known: the workspaces that were opened.
        feed: the latest messages.
        limiter: the rate limit.
        closing: set when the server stops, so that no latency outlives it.
    """

    store: Store
    journal: Journal
    limits: Limits
    hosts: frozenset[str]
    tokens: frozenset[str] | None
    v2_tokens: Mapping[str, str] | None
    closing: asyncio.Event
    shelf: Shelf
    seeds: Sequence[Line]
    seeded: bool
    feed: Feed
    limiter: Limiter
    known: set[str] = field(default_factory=set[str])
    faults: Script = field(default_factory=Script)

    def workspace_of(self, token: str) -> str:
        """Name the workspace that *token*, of whichever API, opens."""
        digest = workspace_of(token)
        return digest if self.v2_tokens is None else self.v2_tokens.get(digest, digest)


STATE = web.AppKey("STATE", State)
VISIT = web.RequestKey("VISIT", Visit)
# How many of its messages a request may apply, by a fault.
PARTIAL = web.RequestKey("PARTIAL", int)
