"""
The types of the public names, as a user's type checker sees them.

`make lint` checks this module with mypy --strict and with pyright in strict mode; it is never run. A change of a public
signature that breaks the code of users breaks this module first.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, assert_type

from salesmachine_async import (
    Agent,
    AgentClosed,
    Batch,
    Batching,
    CertificateRejected,
    ConfigError,
    ConnectionFailed,
    Delivery,
    DeliveryError,
    DropReason,
    Endpoint,
    HttpTransport,
    Invalid,
    InvalidMessage,
    Loss,
    LossReason,
    MessageTooLarge,
    Outcome,
    Overflow,
    QueueFull,
    QueueLimits,
    RateLimited,
    Rejected,
    Report,
    RequestTimeout,
    Retry,
    SalesmachineError,
    ServerFailure,
    State,
    Stats,
    ThreadedAgent,
    Timeouts,
    Tracker,
    Transport,
    Unauthorized,
    Verdict,
    WrongLoop,
    __version__,
)
from salesmachine_async.access import AccessClient, Account, Answer, Contact, Listing, Note, Page, Paths
from salesmachine_async.testing import Recorder, Workspace, capture

version: str = __version__


def on_delivered(delivery: Delivery) -> None:
    """Read every attribute of a delivery."""
    assert_type(delivery.endpoint, Endpoint)
    assert_type(delivery.status, int | None)
    assert_type(delivery.attempts, int)
    assert_type(delivery.seconds, float)
    assert_type(delivery.count, int)
    assert_type(delivery.messages, list[dict[str, Any]])


def on_lost(loss: Loss) -> None:
    """Read every attribute of a loss."""
    assert_type(loss.reason, LossReason)
    assert_type(loss.error, DeliveryError | None)
    assert_type(loss.count, int)
    assert_type(loss.messages, list[dict[str, Any]])


def before_send(message: dict[str, Any]) -> dict[str, Any] | None:
    """Change or drop a message."""
    return message if message["params"] else None


class Carrier:
    """A transport of a user: it needs no base class."""

    async def send(self, batch: Batch) -> Outcome:
        """Deliver or fail a batch."""
        assert_type(batch.endpoint, Endpoint)
        assert_type(batch.count, int)
        assert_type(batch.partition, int)
        assert_type(batch.body(), bytes)
        assert_type(batch.messages(), list[dict[str, Any]])
        if batch.count:
            return Outcome(verdict=Verdict.DELIVERED, status=200)
        return Outcome.failed(ConnectionFailed("no network"))

    async def aclose(self) -> None:
        """Release nothing."""


carrier: Transport = Carrier()
transport: Transport = HttpTransport("token", "secret", base_url="https://example.com", allow_http=False, proxy=None)


def policies() -> None:
    """Read every attribute of the policies."""
    batching = Batching(max_messages=100, max_bytes=512_000, linger=1)
    assert_type(batching.max_messages, int)
    assert_type(batching.max_bytes, int)
    assert_type(batching.linger, float)
    queue = QueueLimits(max_messages=100_000, max_bytes=2**26, overflow=Overflow.DROP_OLDEST)
    assert_type(queue.max_messages, int)
    assert_type(queue.max_bytes, int)
    assert_type(queue.overflow, Overflow)
    retry = Retry(wait_initial=0.5, wait_max=30, timeout=None, max_retry_after=3600)
    assert_type(retry.wait_initial, float)
    assert_type(retry.wait_max, float)
    assert_type(retry.timeout, float | None)
    assert_type(retry.max_retry_after, float)
    timeouts = Timeouts(connect=5, request=15, close=10)
    assert_type(timeouts.connect, float)
    assert_type(timeouts.request, float)
    assert_type(timeouts.close, float)


def construct() -> None:
    """Pass every argument of the agents."""
    assert_type(Agent(), Agent)
    agent = Agent(
        "token",
        "secret",
        base_url="https://example.com",
        batching=Batching(),
        queue=QueueLimits(),
        retry=Retry(),
        timeouts=Timeouts(),
        concurrency=2,
        on_invalid=Invalid.REPORT,
        params={"release": "1.0"},
        enabled=True,
        debug=False,
        on_delivered=on_delivered,
        on_lost=on_lost,
        before_send=before_send,
        transport=carrier,
    )
    assert_type(agent, Agent)
    threaded = ThreadedAgent(
        "token",
        "secret",
        base_url="https://example.com",
        batching=Batching(),
        queue=QueueLimits(),
        retry=Retry(),
        timeouts=Timeouts(),
        concurrency=2,
        on_invalid=Invalid.REPORT,
        params={"release": "1.0"},
        enabled=True,
        debug=False,
        on_delivered=on_delivered,
        on_lost=on_lost,
        before_send=before_send,
        transport=carrier,
    )
    assert_type(threaded, ThreadedAgent)


async def use(agent: Agent) -> None:
    """Call every method of an agent."""
    now = datetime.now(UTC)
    params: dict[str, int] = {"n": 1}
    async with agent as entered:
        assert_type(entered, Agent)
    assert_type(agent.contact("1"), bool)
    assert_type(agent.contact(1, {"name": "A"}, created_at=now, message_id="m"), bool)
    assert_type(agent.account("1", params, created_at=now, message_id="m"), bool)
    assert_type(agent.track("1", "event", params, created_at=now, message_id="m"), bool)
    assert_type(agent.pageview("1", params, created_at=now, message_id="m"), bool)
    assert_type(agent.alias("1", 2, message_id="m"), bool)
    assert_type(agent.bind("1", "2", plan="pro"), Tracker)
    await agent.start()
    assert_type(await agent.flush(), Report)
    assert_type(await agent.flush(timeout=1), Report)
    await agent.drain()
    await agent.ping()
    assert_type(agent.stats(), Stats)
    assert_type(await agent.aclose(timeout=1), Report)


def use_threaded(agent: ThreadedAgent) -> None:
    """Call every method of a threaded agent."""
    now = datetime.now(UTC)
    with agent as entered:
        assert_type(entered, ThreadedAgent)
    assert_type(agent.contact("1", {"name": "A"}, created_at=now, message_id="m"), bool)
    assert_type(agent.account("1", {"name": "A"}, created_at=now, message_id="m"), bool)
    assert_type(agent.track("1", "event", {"n": 1}, created_at=now, message_id="m"), bool)
    assert_type(agent.pageview("1", {"n": 1}, created_at=now, message_id="m"), bool)
    assert_type(agent.alias("1", 2, message_id="m"), bool)
    assert_type(agent.bind("1"), Tracker)
    agent.start()
    assert_type(agent.flush(1), Report)
    agent.drain()
    agent.ping()
    assert_type(agent.stats(), Stats)
    assert_type(agent.close(1), Report)


def use_tracker(tracker: Tracker) -> None:
    """Call every method of a tracker."""
    tracker.identify("1", account_uid="2")
    assert_type(tracker.contact_uid, str | int | None)
    assert_type(tracker.account_uid, str | int | None)
    assert_type(tracker.contact({"name": "A"}), bool)
    assert_type(tracker.track("event", {"n": 1}), bool)
    assert_type(tracker.pageview({"visit_url": "/"}), bool)


def read(report: Report, stats: Stats) -> None:
    """Read every attribute of the reports."""
    assert_type(report.delivered, int)
    assert_type(report.lost, Mapping[LossReason, int])
    assert_type(report.pending, int)
    assert_type(report.ok, bool)
    assert_type(stats.state, State)
    assert_type(stats.accepted, int)
    assert_type(stats.delivered, int)
    assert_type(stats.queued, int)
    assert_type(stats.queued_bytes, int)
    assert_type(stats.in_flight, int)
    assert_type(stats.lost, Mapping[LossReason, int])
    assert_type(stats.dropped, Mapping[DropReason, int])
    assert_type(stats.invalid_values, int)
    assert_type(stats.requests, int)
    assert_type(stats.retries, int)
    assert_type(stats.bytes_sent, int)
    assert_type(stats.last_error, DeliveryError | None)


def errors(invalid: InvalidMessage, failed: DeliveryError) -> object:
    """Read the attributes of the errors, and use each error as its base class."""
    assert_type(invalid.path, str)
    assert_type(invalid.problem, str)
    assert_type(failed.status, int | None)
    assert_type(failed.retry_after, float | None)
    assert_type(failed.server_message, str | None)
    values: tuple[type[ValueError], ...] = (ConfigError, InvalidMessage, MessageTooLarge)
    states: tuple[type[RuntimeError], ...] = (AgentClosed, WrongLoop)
    requests: tuple[type[DeliveryError], ...] = (
        ConnectionFailed,
        CertificateRejected,
        RequestTimeout,
        Unauthorized,
        RateLimited,
        Rejected,
        ServerFailure,
    )
    every: tuple[type[SalesmachineError], ...] = (QueueFull, ConfigError, AgentClosed, DeliveryError)
    return values, states, requests, every


async def manage(api: AccessClient) -> None:
    """Call the Access API."""
    assert_type(AccessClient("v2", tracking_token="v1", auth="bearer", paths=Paths.lower(), retry=None), AccessClient)
    assert_type(api.contacts.list(status="paying", limit=10), Listing[Contact])
    async for contact in api.contacts.list():
        assert_type(contact, Contact)
    async for page in api.accounts.list().pages():
        assert_type(page, Page[Account])
        assert_type(page.items, tuple[Account, ...])
        assert_type(page.next, str | None)
    assert_type(await api.contacts.get("id"), Contact)
    assert_type(await api.notes.create("text", subject="title"), Note)
    assert_type(await api.request("GET", "/v2/Contacts", params={"limit": 1}), Answer)
    await api.contacts.create_or_update("1", {"mrr": 1})
    await api.events.create("1", "event", account_uid="2")
    await api.ping()


def record(workspace: Workspace) -> None:
    """Use the tools for tests."""
    with capture() as recorder:
        assert_type(recorder, Recorder)
        assert_type(recorder.messages, list[dict[str, Any]])
        assert_type(recorder.tracked("event", n=1), list[dict[str, Any]])
        assert_type(recorder.assert_tracked("event", contact_uid="1"), dict[str, Any])
        agent: Agent = recorder
        assert_type(agent.stats(), Stats)
    assert_type(workspace.agent(concurrency=2), Agent)
    assert_type(workspace.threaded_agent(), ThreadedAgent)
