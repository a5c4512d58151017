"""An agent that records messages in memory."""

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
    An `Agent` for tests that validates and encodes messages as any agent does, and records instead of sending them.

    It needs no event loop, no start and no close; a message is recorded when the call returns. `aclose` leaves it
    usable, so that an application can be started and stopped several times in a test. It may be used from any thread
    and from several event loops.

    Args:
        batching: The batching policy; only ``max_bytes`` has an effect.
        queue: The queue limits; they have no effect on more than one message, because the queue is always empty.
        on_invalid: The treatment of invalid arguments.
        before_send: The hook called with each message.
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
            batching=batching,
            queue=queue,
            on_invalid=on_invalid,
            before_send=before_send,
            spool="",
            transport=NullTransport(),
        )

    def __repr__(self) -> str:
        """Return the number of messages: ``<Recorder [3 messages]>``."""
        return f"<Recorder [{len(self.messages)} messages]>"

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All messages in order, each in its form on the wire."""
        self._collect()
        return list(self._recorded)

    def alike(self, agent: Agent) -> Recorder:
        """Return a recorder with the policies of *agent* that records into this one."""
        shadow = Recorder(
            batching=agent._batching,
            queue=agent._queue,
            on_invalid=agent._on_invalid,
            # An application that found no keys before the capture has switched tracking off with this hook.
            before_send=None if agent._before_send is nothing else agent._before_send,
        )
        shadow._recorded, shadow._collecting = self._recorded, self._collecting
        return shadow

    def clear(self) -> None:
        """Delete all messages."""
        self._collect()
        self._recorded.clear()

    def tracked(
        self, event_uid: str | int | None = None, /, contact_uid: str | int | None = None, **params: Any
    ) -> list[dict[str, Any]]:
        """
        Return the matching events, oldest first.

        Args:
            event_uid: The name of the event; None matches any. Pageviews are the event ``pageview``.
            contact_uid: The contact of the event; None matches any.
            params: Values that the event's params must contain; other params are ignored, also inside mappings.
        """
        return self._found(_event(event_uid, contact_uid, params))

    def assert_tracked(
        self, event_uid: str | int | None = None, /, contact_uid: str | int | None = None, **params: Any
    ) -> dict[str, Any]:
        """
        Return the first matching event, or fail with the nearest misses. The arguments are those of `tracked`.

        Raises:
            AssertionError: No event matches.
        """
        __tracebackhide__ = True
        return self._one(_event(event_uid, contact_uid, params))

    def assert_not_tracked(
        self, event_uid: str | int | None = None, /, contact_uid: str | int | None = None, **params: Any
    ) -> None:
        """
        Fail if an event matches. The arguments are those of `tracked`; without arguments, any event matches.

        Raises:
            AssertionError: An event matches.
        """
        __tracebackhide__ = True
        pattern = _event(event_uid, contact_uid, params)
        found = self._found(pattern)
        if found:
            raise AssertionError(f"expected no {pattern}, but found: {found[0]}")

    def assert_contact(self, contact_uid: str | int | None = None, /, **params: Any) -> dict[str, Any]:
        """
        Return the first contact message with this uid and these params, or fail with the nearest misses.

        Raises:
            AssertionError: No message matches.
        """
        __tracebackhide__ = True
        return self._one(Expectation("contact", {"contact_uid": contact_uid}, params))

    def assert_account(self, account_uid: str | int | None = None, /, **params: Any) -> dict[str, Any]:
        """
        Return the first account message with this uid and these params, or fail with the nearest misses.

        Raises:
            AssertionError: No message matches.
        """
        __tracebackhide__ = True
        return self._one(Expectation("account", {"account_uid": account_uid}, params))

    def assert_alias(self, contact_uid: str | int | None = None, alias: str | int | None = None) -> dict[str, Any]:
        """
        Return the first alias message with these uids, or fail with the nearest misses.

        Raises:
            AssertionError: No message matches.
        """
        __tracebackhide__ = True
        return self._one(Expectation("alias", {"contact_uid": contact_uid, "alias": alias}, {}))

    # Lifecycle: no-ops.

    async def start(self) -> None:
        """Do nothing."""

    async def flush(self, timeout: float | None = None) -> Report:  # noqa: ARG002 (nothing is queued)
        """Return a report in which every recorded message is delivered."""
        return self._report()

    async def drain(self) -> None:
        """Do nothing, because the queue is always empty."""

    async def aclose(self, timeout: float | None = None) -> Report:  # noqa: ARG002
        """Return a report in which every recorded message is delivered; the recorder stays usable."""
        return self._report()

    async def ping(self) -> None:
        """Do nothing: a ping always succeeds."""

    def _build(self) -> None:
        super()._build()
        self._accumulator.wake = self._collect_from

    def _collect_from(self, partition: Partition) -> None:  # noqa: ARG002 (there is only one)
        self._collect()

    def _collect(self) -> None:
        """Record the queued messages, under a lock because only one thread at a time may take them."""
        with self._collecting:
            if self._is_collecting:
                return  # called again by a signal handler or finaliser that tracks; the outer call records the message
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
