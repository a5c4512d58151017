"""
The conservation law, by a model: each accepted message is delivered, lost for a reason, or still here.

Hypothesis plays random lives of an agent, on virtual time and with a transport that fails in every way, and compares
with a model that knows only which messages were accepted.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from salesmachine_async import (
    Agent,
    AgentClosed,
    Batch,
    Batching,
    Endpoint,
    Loss,
    LossReason,
    Outcome,
    Overflow,
    QueueLimits,
    Retry,
)
from tests.support.carriers import BROKEN, OK, STALE, answer
from tests.support.virtual import VirtualLoop

FAILURES = {
    "broken": BROKEN,
    "stale": STALE,
    "error": answer(500),
    "throttled": answer(429, Retry_After="3"),
    "maintenance": answer(503),
    "rejected": answer(400),
    "too large": answer(413),
    "unauthorized": answer(401),
    "moved": answer(301),
}


class Server:
    """The other side: remembers what it accepted, also when its answer does not arrive."""

    def __init__(self) -> None:
        self.failure: str | None = None
        self.poison: set[str] = set()
        self.accepted: list[str] = []
        self.possibly_twice: set[str] = set()

    async def send(self, batch: Batch) -> Outcome:
        await asyncio.sleep(0.1)
        ids = [message["messageId"] for message in batch.messages()]
        if self.failure == "accepted and lost":
            self.accepted += ids
            self.possibly_twice.update(ids)
            return BROKEN
        if self.failure is not None:
            if self.failure == "rejected" and batch.endpoint is Endpoint.PING:
                return answer(401)
            return FAILURES[self.failure]
        if self.poison & set(ids):
            return answer(422)
        self.accepted += ids
        return OK

    async def aclose(self) -> None:
        pass


class Life(RuleBasedStateMachine):
    """The life of one agent, from its first message to its end."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.server = Server()
        self.told_lost: dict[str, LossReason] = {}
        self.told_delivered: list[str] = []
        self.accepted: list[str] = []
        self.refused = 0
        self.count = 0
        self.closed = False

    @initialize(
        concurrency=st.integers(1, 3),
        batch=st.integers(1, 5),
        limit=st.integers(3, 30),
        overflow=st.sampled_from([Overflow.DROP_NEWEST, Overflow.DROP_OLDEST]),
        budget=st.sampled_from([None, 5.0]),
    )
    def make(self, concurrency: int, batch: int, limit: int, overflow: Overflow, budget: float | None) -> None:
        self.agent = Agent(
            transport=self.server,
            concurrency=concurrency,
            batching=Batching(max_messages=batch, linger=1),
            queue=QueueLimits(max_messages=limit, overflow=overflow),
            retry=Retry(wait_initial=0.5, wait_max=4, timeout=budget),
            on_lost=self.lost,
            on_delivered=lambda delivery: self.told_delivered.extend(m["messageId"] for m in delivery.messages),
        )
        # Under DROP_OLDEST the loop displaces when it runs: until then there may be a batch more in each partition.
        self.limit = limit + (concurrency * min(batch, limit) if overflow is Overflow.DROP_OLDEST else 0)

    def lost(self, loss: Loss) -> None:
        for message in loss.messages:
            assert message["messageId"] not in self.told_lost
            self.told_lost[message["messageId"]] = loss.reason

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    @rule(contact=st.integers(0, 3), poisonous=st.booleans())
    def track(self, contact: int, poisonous: bool) -> None:
        self.count += 1
        name = f"m{self.count}"
        if poisonous and self.count % 5 == 0:
            self.server.poison.add(name)
        try:
            if self.agent.track(f"u{contact}", "e", {"n": self.count}, message_id=name):
                self.accepted.append(name)
            else:
                self.refused += 1
        except AgentClosed:
            assert self.closed

    @rule(contact=st.integers(0, 3))
    def alias(self, contact: int) -> None:
        self.count += 1
        name = f"m{self.count}"
        try:
            if self.agent.alias(f"u{contact}", "other", message_id=name):
                self.accepted.append(name)
            else:
                self.refused += 1
        except AgentClosed:
            assert self.closed

    @rule(number=st.integers(1, 8))
    def track_from_a_thread(self, number: int) -> None:
        thread = threading.Thread(target=lambda: [self.track(index % 4, False) for index in range(number)])
        thread.start()
        thread.join()

    @precondition(lambda self: not self.closed)
    @rule()
    def start(self) -> None:
        self.run(self.agent.start())

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.3, 1.5, 10.0]))
    def tick(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule(kind=st.sampled_from([*FAILURES, "accepted and lost"]))
    def fail(self, kind: str) -> None:
        self.server.failure = kind

    @rule()
    def heal(self) -> None:
        self.server.failure = None

    @rule(timeout=st.sampled_from([0.0, 0.3, 5.0]))
    def flush(self, timeout: float) -> None:
        before = len(self.accepted)
        report = self.run(self.agent.flush(timeout))
        assert report.delivered + sum(report.lost.values()) + report.pending == before

    @rule(after=st.sampled_from([0.0, 0.05, 1.0]))
    def cancelled_flush(self, after: float) -> None:
        async def main() -> None:
            task = asyncio.ensure_future(self.agent.flush())
            await asyncio.sleep(after)
            task.cancel()
            await asyncio.wait({task})

        self.run(main())

    @rule()
    def kill_the_senders(self) -> None:
        async def main() -> None:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0)

        self.run(main())

    @rule()
    def next_loop(self) -> None:
        """The loop ends without a close, as in asyncio.run; another loop begins."""
        self.end_loop()
        self.loop = VirtualLoop()

    @rule(timeout=st.sampled_from([0.0, 0.2, 20.0]))
    def close(self, timeout: float) -> None:
        self.closed = True
        report = self.run(self.agent.aclose(timeout))
        assert report.pending == 0

    @invariant()
    def law(self) -> None:
        if not hasattr(self, "agent"):
            return
        stats = self.agent.stats()
        assert stats.accepted == len(self.accepted)
        assert stats.accepted == stats.delivered + sum(stats.lost.values()) + stats.queued + stats.in_flight
        assert stats.queued + stats.in_flight <= self.limit
        assert sum(stats.dropped.values()) == self.refused
        assert stats.delivered == len(self.told_delivered)
        assert sum(stats.lost.values()) == len(self.told_lost)

    def teardown(self) -> None:
        """Heal and close: then each accepted message has one outcome, and the server agrees."""
        if hasattr(self, "agent"):
            self.server.failure = None
            self.close(timeout=60.0)
            self.law()
            delivered, lost = set(self.told_delivered), set(self.told_lost)
            assert len(delivered) == len(self.told_delivered)
            assert delivered | lost == set(self.accepted)
            assert not delivered & lost
            assert delivered <= set(self.server.accepted)
            twice = {name for name in self.server.accepted if self.server.accepted.count(name) > 1}
            assert twice <= self.server.possibly_twice
        self.end_loop()

    def end_loop(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks))
        self.loop.close()


Life.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLife = pytest.mark.slow(pytest.mark.usefixtures("untraced")(Life.TestCase))
