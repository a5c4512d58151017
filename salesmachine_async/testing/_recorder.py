"""An agent that keeps everything in memory."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Any

from salesmachine_async._core.partition import Partition
from salesmachine_async._delivery.null_transport import NullTransport
from salesmachine_async.agent import Agent
from salesmachine_async.integrations._environment import nothing
from salesmachine_async.policy import Batching, Invalid, QueueLimits
from salesmachine_async.report import Report
from salesmachine_async.testing._matching import Expectation

__all__ = ["Recorder"]


class Recorder(Agent):
    """
    An `Agent` for tests: it checks and encodes like one, and keeps what one would send.

    It needs no event loop, no start and no end; a call is recorded when it returns. `aclose` leaves it usable, so that
    an application can be started and stopped several times in a test. Use it from any thread and any number of loops.

    Args:
        batching: As of `Agent`; only ``max_bytes`` matters.
        queue: As of `Agent`; nothing ever waits.
        on_invalid: As of `Agent`.
        before_send: As of `Agent`.
    """

    def __init__(
        self,
        *,
        batching: Batching = Batching(),  # noqa: B008 (frozen)
        queue: QueueLimits = QueueLimits(),  # noqa: B008
        on_invalid: Invalid = Invalid.RAISE,
        before_send: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None,
    ) -> None:
        self._recorded: list[dict[str, Any]] = []
        self._collecting = RLock()
        self._is_collecting = False
        super().__init__(
            batching=batching, queue=queue, on_invalid=on_invalid, before_send=before_send, transport=NullTransport()
        )

    def __repr__(self) -> str:
        """Show how much was recorded: ``<Recorder [3 messages]>``."""
        return f"<Recorder [{len(self.messages)} messages]>"

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All messages in order, each as it would go over the wire."""
        self._collect()
        return list(self._recorded)

    def alike(self, agent: Agent) -> Recorder:
        """Return a recorder with the policies of *agent* that records into this one."""
        shadow = Recorder(
            batching=agent._batching,
            queue=agent._queue,
            on_invalid=agent._on_invalid,
            # An application made before the capture may have found no keys: it is on all the same.
            before_send=None if agent._before_send is nothing else agent._before_send,
        )
        shadow._recorded, shadow._collecting = self._recorded, self._collecting
        return shadow

    def clear(self) -> None:
        """Forget all messages."""
        self._collect()
        self._recorded.clear()

    def tracked(
        self, event_uid: str | int | None = None, /, contact_uid: str | int | None = None, **params: Any
    ) -> list[dict[str, Any]]:
        """
        Return the events that fit, oldest first.

        Args:
            event_uid: Which event; None: any. Pageviews are the event ``pageview``.
            contact_uid: Of whom; None: of anybody.
            params: What must be in the event's params; inside mappings too, others may be there.
        """
        return self._found(_event(event_uid, contact_uid, params))

    def assert_tracked(
        self, event_uid: str | int | None = None, /, contact_uid: str | int | None = None, **params: Any
    ) -> dict[str, Any]:
        """
        Fail unless an event fits, and show the nearest misses; return the first that does. The arguments: as `tracked`.

        Raises:
            AssertionError: None fits.
        """
        __tracebackhide__ = True
        return self._one(_event(event_uid, contact_uid, params))

    def assert_not_tracked(
        self, event_uid: str | int | None = None, /, contact_uid: str | int | None = None, **params: Any
    ) -> None:
        """
        Fail if an event fits. The arguments are `tracked`'s; without any, no event at all must have been tracked.

        Raises:
            AssertionError: One fits.
        """
        __tracebackhide__ = True
        pattern = _event(event_uid, contact_uid, params)
        found = self._found(pattern)
        if found:
            raise AssertionError(f"expected no {pattern}, but there is: {found[0]}")

    def assert_contact(self, contact_uid: str | int | None = None, /, **params: Any) -> dict[str, Any]:
        """
        Fail unless a contact was created or updated so; return the first message that fits.

        Raises:
            AssertionError: None fits.
        """
        __tracebackhide__ = True
        return self._one(Expectation("contact", {"contact_uid": contact_uid}, params))

    def assert_account(self, account_uid: str | int | None = None, /, **params: Any) -> dict[str, Any]:
        """
        Fail unless an account was created or updated so; return the first message that fits.

        Raises:
            AssertionError: None fits.
        """
        __tracebackhide__ = True
        return self._one(Expectation("account", {"account_uid": account_uid}, params))

    def assert_alias(self, contact_uid: str | int | None = None, alias: str | int | None = None) -> dict[str, Any]:
        """
        Fail unless two contacts were merged so; return the first message that fits.

        Raises:
            AssertionError: None fits.
        """
        __tracebackhide__ = True
        return self._one(Expectation("alias", {"contact_uid": contact_uid, "alias": alias}, {}))

    # Life: there is none.

    async def start(self) -> None:
        """Do nothing."""

    async def flush(self, timeout: float | None = None) -> Report:  # noqa: ARG002 (nothing is waited for)
        """Return what was recorded, as delivered."""
        return self._report()

    async def drain(self) -> None:
        """Do nothing: nothing waits."""

    async def aclose(self, timeout: float | None = None) -> Report:  # noqa: ARG002
        """Return what was recorded, as delivered; the recorder stays usable."""
        return self._report()

    async def ping(self) -> None:
        """Do nothing: it is there."""

    def _build(self) -> None:
        super()._build()
        self._accumulator.wake = self._collect_from

    def _collect_from(self, partition: Partition) -> None:  # noqa: ARG002 (there is only one)
        self._collect()

    def _collect(self) -> None:
        """Take over what the calls have queued. Under a lock, because the accumulator is for one thread at a time."""
        with self._collecting:
            if self._is_collecting:
                return  # a signal handler or finaliser tracks in the middle
            self._is_collecting = True
            try:
                (partition,) = self._accumulator.partitions
                self._accumulator.seal(partition)
                while (batch := self._accumulator.take(partition)) is not None:
                    self._recorded += batch.messages()
                    self._accumulator.settle(batch)
            finally:
                self._is_collecting = False

    def _report(self) -> Report:
        self._collect()
        stats = self.stats()
        return Report(delivered=stats.delivered, lost=stats.lost, pending=0)

    def _found(self, pattern: Expectation) -> list[dict[str, Any]]:
        return [message for message in self.messages if pattern.fits(message)]

    def _one(self, pattern: Expectation) -> dict[str, Any]:
        __tracebackhide__ = True
        messages = self.messages
        for message in messages:
            if pattern.fits(message):
                return message
        raise AssertionError(pattern.explain(messages))


def _event(event_uid: str | int | None, contact_uid: str | int | None, params: dict[str, Any]) -> Expectation:
    return Expectation("event", {"event_uid": event_uid, "contact_uid": contact_uid}, params)
