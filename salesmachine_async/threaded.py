"""The agent for programs without an event loop: the same calls, with the loop in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from os import PathLike, getpid
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypedDict

from salesmachine_async._background import Background
from salesmachine_async.agent import Agent
from salesmachine_async.errors import AgentClosed, ConfigError
from salesmachine_async.policy import Batching, Invalid, QueueLimits, Retry, Spool, Timeouts
from salesmachine_async.report import Delivery, DropReason, Loss, Report, Stats
from salesmachine_async.tracker import Tracker

if TYPE_CHECKING:
    from typing import Unpack

    from salesmachine_async._delivery.transport import Transport

__all__ = ["Options", "ThreadedAgent"]


class Options(TypedDict, total=False):
    """The keyword arguments of `Agent`, which describes them."""

    base_url: str | None
    batching: Batching
    queue: QueueLimits
    retry: Retry
    timeouts: Timeouts
    concurrency: int
    on_invalid: Invalid
    params: Mapping[str, Any] | None
    enabled: bool | None
    debug: bool | None
    spool: str | PathLike[str] | Spool | None
    on_delivered: Callable[[Delivery], None] | None
    on_lost: Callable[[Loss], None] | None
    before_send: Callable[[dict[str, Any]], dict[str, Any] | None] | None
    transport: Transport | None


class ThreadedAgent:
    """
    An `Agent` for synchronous programs: scripts, WSGI applications, Celery tasks.

    Its event loop runs in a thread that the first call starts. Use it as ``with ThreadedAgent() as agent:``, or keep
    one for the whole process: when the interpreter exits, it delivers what is left within `Timeouts.close`, or says on
    stderr how much it could not. Children of multiprocessing and worker processes of Celery deliver at their end, too;
    a process that ends by ``os._exit`` must `close` first. After a fork the child begins empty and starts a thread of
    its own.

    The tracking calls wait for nothing: they may come from any thread, a logging handler, a signal handler or a
    finalizer. When no thread can be started they keep their messages and try again later.

    Hooks run in the thread. What they raise is logged there, SystemExit too: it would end nothing but the delivery.

    Args:
        token: The API token; default: ``SALESMACHINE_API_TOKEN``.
        secret: The API secret; default: ``SALESMACHINE_API_SECRET``, else empty.
        options: The keyword arguments of `Agent`.

    Raises:
        ConfigError: An argument, or the environment variable in its place, is unusable.
    """

    def __init__(self, token: str | None = None, secret: str | None = None, **options: Unpack[Options]) -> None:
        try:
            self._agent = Agent(token, secret, **options)
        except ConfigError:
            del options  # error trackers record local variables, and the base URL may hold a password
            raise
        self._background = Background(self._agent, options.get("timeouts", Timeouts()).close)

    def __repr__(self) -> str:
        """Show the live state, as `Agent` does."""
        return repr(self._agent).replace("Agent", "ThreadedAgent", 1)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled: two handles would end one delivery."""
        raise TypeError("a ThreadedAgent cannot be copied or pickled")

    def __del__(self) -> None:
        background = getattr(self, "_background", None)  # not set when the constructor has raised
        if background is not None:
            background.abandon()

    # The calls.

    def contact(
        self,
        contact_uid: str | int,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """
        Create or update a contact.

        Args:
            contact_uid: The person's id in your application, e.g. a database id or an email address.
            params: Attributes to set: ``email``, ``name``, ``account_uid`` (links to an account), ``mrr``, any other.
            created_at: When it happened; default: now. Naive datetimes are UTC.
            message_id: Identifies the message on every attempt; default: minted.

        Returns:
            True if accepted; False if dropped: the queue is full, ``before_send`` dropped it, the process is ending, or
            it is unusable under `Invalid.REPORT`. `stats` counts.

        Raises:
            InvalidMessage: An argument cannot be sent; names its path. Not under `Invalid.REPORT`.
            MessageTooLarge: The message exceeds `Batching.max_bytes`. Not under `Invalid.REPORT`.
            QueueFull: The queue is full, under `Overflow.RAISE`.
            AgentClosed: After `close`. Not under `Invalid.REPORT`.
        """
        # The process is compared in each call: a fork by C runs no hook, and its child has no thread.
        if self._background.process != getpid() and not self._background.ready():
            return self._dropped()
        return self._agent.contact(contact_uid, params, created_at=created_at, message_id=message_id)

    def account(
        self,
        account_uid: str | int,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """
        Create or update an account, a group of contacts.

        Args:
            account_uid: The account's id in your application.
            params: Attributes to set: ``name``, ``employee_count``, ``website_url``, ``mrr``, any other.
            created_at: When it happened; default: now. Naive datetimes are UTC.
            message_id: Identifies the message on every attempt; default: minted.

        Returns:
            True if accepted; False if dropped: the queue is full, ``before_send`` dropped it, the process is ending, or
            it is unusable under `Invalid.REPORT`. `stats` counts.

        Raises:
            InvalidMessage: An argument cannot be sent; names its path. Not under `Invalid.REPORT`.
            MessageTooLarge: The message exceeds `Batching.max_bytes`. Not under `Invalid.REPORT`.
            QueueFull: The queue is full, under `Overflow.RAISE`.
            AgentClosed: After `close`. Not under `Invalid.REPORT`.
        """
        if self._background.process != getpid() and not self._background.ready():
            return self._dropped()
        return self._agent.account(account_uid, params, created_at=created_at, message_id=message_id)

    def track(
        self,
        contact_uid: str | int,
        event_uid: str | int,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """
        Record an event: something a contact did.

        Args:
            contact_uid: The person's id in your application.
            event_uid: The name of the event, e.g. ``user_registration``.
            params: ``account_uid`` (links to an account), ``display_name`` (for people to read), any other.
            created_at: When it happened; default: now. Naive datetimes are UTC.
            message_id: Identifies the message on every attempt; default: minted.

        Returns:
            True if accepted; False if dropped: the queue is full, ``before_send`` dropped it, the process is ending, or
            it is unusable under `Invalid.REPORT`. `stats` counts.

        Raises:
            InvalidMessage: An argument cannot be sent; names its path. Not under `Invalid.REPORT`.
            MessageTooLarge: The message exceeds `Batching.max_bytes`. Not under `Invalid.REPORT`.
            QueueFull: The queue is full, under `Overflow.RAISE`.
            AgentClosed: After `close`. Not under `Invalid.REPORT`.
        """
        if self._background.process != getpid() and not self._background.ready():
            return self._dropped()
        return self._agent.track(contact_uid, event_uid, params, created_at=created_at, message_id=message_id)

    def pageview(
        self,
        contact_uid: str | int,
        params: Mapping[str, Any] | None = None,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
    ) -> bool:
        """
        Record that a contact loaded a page: an event whose ``event_uid`` is ``pageview``.

        Args:
            contact_uid: The person's id in your application.
            params: ``visit_url``, ``visit_ip``, ``visit_agent``, ``account_uid``, any other.
            created_at: When it happened; default: now. Naive datetimes are UTC.
            message_id: Identifies the message on every attempt; default: minted.

        Returns:
            True if accepted; False if dropped: the queue is full, ``before_send`` dropped it, the process is ending, or
            it is unusable under `Invalid.REPORT`. `stats` counts.

        Raises:
            InvalidMessage: An argument cannot be sent; names its path. Not under `Invalid.REPORT`.
            MessageTooLarge: The message exceeds `Batching.max_bytes`. Not under `Invalid.REPORT`.
            QueueFull: The queue is full, under `Overflow.RAISE`.
            AgentClosed: After `close`. Not under `Invalid.REPORT`.
        """
        if self._background.process != getpid() and not self._background.ready():
            return self._dropped()
        return self._agent.pageview(contact_uid, params, created_at=created_at, message_id=message_id)

    def alias(self, contact_uid: str | int, alias: str | int, *, message_id: str | None = None) -> bool:
        """
        Merge two contacts: from now on both uids mean the same.

        It is a request of its own, behind all that was accepted before it for *contact_uid*.

        Args:
            contact_uid: One id of the person.
            alias: The other id.
            message_id: Sent as ``messageId`` if given; the documented body has none.

        Returns:
            True if accepted; False if dropped: the queue is full, ``before_send`` dropped it, the process is ending, or
            it is unusable under `Invalid.REPORT`. `stats` counts.

        Raises:
            InvalidMessage: An argument cannot be sent; names its path. Not under `Invalid.REPORT`.
            QueueFull: The queue is full, under `Overflow.RAISE`.
            AgentClosed: After `close`. Not under `Invalid.REPORT`.
        """
        if self._background.process != getpid() and not self._background.ready():
            return self._dropped()
        return self._agent.alias(contact_uid, alias, message_id=message_id)

    def bind(self, contact_uid: str | int, account_uid: str | int | None = None, **params: Any) -> Tracker:
        """
        Return the calls for one contact: ``contact``, ``track`` and ``pageview`` without the uid.

        Args:
            contact_uid: The person's id in your application.
            account_uid: Sent as ``params["account_uid"]`` of every message.
            params: Sent with every message; those of a call win.
        """
        return Tracker(self, contact_uid, account_uid, params)

    # Lifecycle and waiting.

    def start(self) -> None:
        """
        Start the thread and wait for it; the first call starts it without waiting.

        Raises:
            AgentClosed: The agent was closed.
            OSError: If the event loop cannot be made, because no descriptors are left.
            RuntimeError: The thread cannot be started.
        """
        self._background.submit(self._agent.start).result()

    def flush(self, timeout: float | None = None) -> Report:
        """
        Wait until everything accepted before has an outcome.

        What is parked (the server refuses the key, say) is not waited for.

        Args:
            timeout: Wait at most so many seconds, and do not sit out a backoff; None: as long as it takes. A hook that
                holds the thread's event loop does not hold this longer than *timeout* and a second.

        Returns:
            What became of it, since the agent was made; what has no outcome yet is pending.

        Raises:
            ConfigError: *timeout* is not a number.
            RuntimeError: If called by a hook, in the thread it would wait for, or if no thread can be started.
        """
        try:
            return self._background.flush(timeout)
        except AgentClosed:
            return self._background.report or self._background.pending_report()

    def drain(self) -> None:
        """
        Hold the producer back, as `asyncio.StreamWriter.drain` does.

        Returns at once while the queue is below 80 % of both its bounds; else waits until it is down to 50 %, or the
        agent is closed.

        Raises:
            RuntimeError: If called by a hook, in the thread it would wait for, or if no thread can be started.
        """
        try:
            self._background.submit(self._agent.drain).result()
        except AgentClosed:
            return

    def sync(self) -> None:
        """
        Wait until everything accepted before is on stable storage, in the spool, or has an outcome.

        Raises:
            SpoolFailed: The disk refuses, or the agent has no spool. Or uWSGI has loaded the application and is going
                to fork: its master runs no thread.
        """
        if self._agent._enabled:  # pyright: ignore[reportPrivateUsage]
            self._agent._begin_sync().result()  # pyright: ignore[reportPrivateUsage]

    def ping(self) -> None:
        """
        Ask the server now whether it is there and accepts the API key.

        Raises:
            Unauthorized: The server does not accept the key.
            DeliveryError: The server is not there, or not well; see its children.
            AgentClosed: The agent was closed.
        """
        self._background.submit(self._agent.ping).result()

    def stats(self) -> Stats:
        """Return a snapshot of all counts. Cheap, from any thread."""
        return self._agent.stats()

    def close(self, timeout: float | None = None) -> Report:
        """
        Refuse further calls, deliver what is left, give up what cannot be delivered in time, and end the thread.

        Where no thread can be started, it delivers in the calling thread. It may be called in a signal handler.

        Args:
            timeout: Seconds to deliver; default: `Timeouts.close`.

        Returns:
            What became of all messages; later calls return the same. If the thread does not answer in time, or nothing
            can be started to deliver with, that is logged, what is left is pending, and a later call tries again.

        Raises:
            ConfigError: *timeout* is not a number.
            RuntimeError: If called by a hook, in the thread that it would end.
        """
        closing = self._background.begin_close(timeout)
        report = closing.finish()
        closing.join()
        return report

    def _dropped(self) -> bool:
        """Count a call that came too late: the process is ending."""
        self._agent._accumulator.drop(DropReason.CLOSED)  # pyright: ignore[reportPrivateUsage]
        return False
