"""What the handlers share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from salesmachine_async.sandbox.faults import Script
from salesmachine_async.sandbox.journal import Journal, Visit

if TYPE_CHECKING:
    import asyncio

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


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """
    One running sandbox.

    Attributes:
        hosts: the host names a request may be addressed to.
        tokens: the workspaces whose tokens are good; None means any token is.
        closing: set when the server stops, so that no latency outlives it.
    """

    store: Store
    journal: Journal
    limits: Limits
    hosts: frozenset[str]
    tokens: frozenset[str] | None
    closing: asyncio.Event
    faults: Script = field(default_factory=Script)


STATE = web.AppKey("STATE", State)
VISIT = web.RequestKey("VISIT", Visit)
