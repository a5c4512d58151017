"""The agent: the calls, their life and their wiring."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, NoReturn, Self

from salesmachine_async import _process
from salesmachine_async._arguments import check_callables, check_types, checked_params, flag, seconds
from salesmachine_async._core.accumulator import Accumulator
from salesmachine_async._core.jsonable import raise_invalid
from salesmachine_async._core.message import Encoder, partition_key
from salesmachine_async._core.partition import Partition
from salesmachine_async._core.snapshot import messages_below
from salesmachine_async._delivery.flusher import Flusher
from salesmachine_async._delivery.hooks import Hooks
from salesmachine_async._delivery.null_transport import NullTransport
from salesmachine_async._delivery.transport import HttpTransport, Transport
from salesmachine_async._http.config import SPOOL_VARIABLE
from salesmachine_async._log import InvalidValues, RateLimitedLogger, log_or_stderr, logger, show_debug
from salesmachine_async._spool.destination import destination_of
from salesmachine_async._spool.queue_source import QueueSource
from salesmachine_async._spool.spooler import Spooler
from salesmachine_async._uwsgi import Inheritance, is_about_to_fork
from salesmachine_async.errors import (
    AgentClosed,
    ConfigError,
    InvalidMessage,
    MessageTooLarge,
    SalesmachineError,
    SpoolFailed,
)
from salesmachine_async.policy import Batching, Invalid, QueueLimits, Retry, Spool, Timeouts, check_whole
from salesmachine_async.report import Delivery, DropReason, Loss, Report, State, Stats
from salesmachine_async.tracker import Tracker

__all__ = ["Agent"]

MAX_CONCURRENCY = 256

# The real clock, should a test have put an unusable one in its place.
_clock = time.time


class Agent:
    """
    Sends contacts, accounts, events, pageviews and aliases to Salesmachine in the background.

    The tracking calls are plain functions: they check, encode and return in about a microsecond, from any thread,
    before `start` too. In the background messages go out in batches; failed requests are repeated with backoff;
    `aclose` delivers what is left. Use it as ``async with Agent() as agent:``.

    Args:
        token: The API token; default: ``SALESMACHINE_API_TOKEN``.
        secret: The API secret; default: ``SALESMACHINE_API_SECRET``, else empty.
        base_url: The address of the API; default: ``SALESMACHINE_API_URL``, else ``https://api.salesmachine.io``.
        batching: When a batch is sent.
        queue: Bounds of the queue, and the policy of a call beyond them.
        retry: Waits between attempts, and the time limit.
        timeouts: Time limits of connecting, of a request and of the close.
        concurrency: Number of requests at once, 1 to 256. The order of the messages of one contact, and of one account,
            is kept with any number; 1 keeps the order of all.
        on_invalid: Policy for arguments that cannot be sent.
        params: Sent as ``params`` with every contact, account and event; those of a call win.
        enabled: False turns tracking off: every call returns True, nothing is queued or sent, and no token is needed.
            Default: ``SALESMACHINE_ENABLED``, else True.
        debug: True logs each accepted message and each answer at DEBUG, and shows them on stderr where no logging is
            configured. Default: ``SALESMACHINE_DEBUG``, else False.
        spool: Directory in which messages survive the process, or a `Spool` with the details; default:
            ``SALESMACHINE_SPOOL``, else none. An empty string: none, whatever the environment says.
        on_delivered: Called with each delivered request, on the event loop.
        on_lost: Called with each loss, on the event loop.
        before_send: Called in each tracking call with the message as it would be sent; returns it, changed or
            not, or None to drop it. ``params`` and the uids can be changed. If it raises, the message is not sent.
        transport: Carries the batches in the place of HTTP; it then has its own address, credentials and time-outs. If
            it has an attribute ``partitions``, that is the concurrency.

    Raises:
        ConfigError: An argument, or the environment variable in its place, is unusable.
    """

    def __init__(
        self,
        token: str | None = None,
        secret: str | None = None,
        *,
        base_url: str | None = None,
        batching: Batching = Batching(),  # noqa: B008 (frozen)
        queue: QueueLimits = QueueLimits(),  # noqa: B008
        retry: Retry = Retry(),  # noqa: B008
        timeouts: Timeouts = Timeouts(),  # noqa: B008
        concurrency: int = 1,
        on_invalid: Invalid = Invalid.RAISE,
        params: Mapping[str, Any] | None = None,
        enabled: bool | None = None,
        debug: bool | None = None,
        spool: str | os.PathLike[str] | Spool | None = None,
        on_delivered: Callable[[Delivery], None] | None = None,
        on_lost: Callable[[Loss], None] | None = None,
        before_send: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None,
        transport: Transport | None = None,
    ) -> None:
        check_whole("concurrency", concurrency, at_least=1, at_most=MAX_CONCURRENCY)
        check_types(batching=batching, queue=queue, retry=retry, timeouts=timeouts, on_invalid=on_invalid)
        check_callables(on_delivered=on_delivered, on_lost=on_lost, before_send=before_send)
        self._enabled = flag("enabled", enabled, default=True)
        self._debug = flag("debug", debug, default=False)
        if not self._enabled:
            transport = NullTransport()
        elif transport is None:
            try:
                transport = HttpTransport(token, secret, base_url=base_url, timeouts=timeouts)
            finally:
                del base_url  # error trackers record local variables, and it may hold a password
        elif not (callable(getattr(transport, "send", None)) and callable(getattr(transport, "aclose", None))):
            raise ConfigError(f"transport must have the methods send and aclose; {type(transport).__name__} does not")
        concurrency = _concurrency(concurrency, transport)
        self._params = checked_params(params)
        self._transport = transport
        self._batching = batching
        self._queue = queue
        self._retry = retry
        self._timeouts = timeouts
        self._concurrency = concurrency
        self._on_invalid = on_invalid
        self._on_delivered = on_delivered
        self._on_lost = on_lost
        self._before_send = before_send
        self._warned_unclosed = False
        self._spool = _spool_policy(spool) if self._enabled else None
        self._spooler: Spooler | None = None
        # Set where a fork that Python does not see is about to come.
        self._inheritance: Inheritance | None = None
        self._build()
        _process.watch(self, Agent._after_fork_in_child)

    def _build(self) -> None:
        """Create the parts, with an empty queue: at the start, and again in a forked child."""
        self._log = RateLimitedLogger()
        self._hooks = Hooks(self._on_delivered, self._on_lost, self._before_send, self._log)
        self._invalid_values = InvalidValues(self._log)
        self._accumulator = Accumulator(self._batching, self._queue, self._concurrency, extra=int(bool(self._spool)))
        self._prepare_spool()
        self._flusher = Flusher(
            self._accumulator,
            self._transport,
            batching=self._batching,
            retry=self._retry,
            hooks=self._hooks,
            log=self._log,
            spool=(self._spooler, self._spool, self._queue) if self._spooler and self._spool else None,
        )
        strict = self._on_invalid is Invalid.RAISE
        self._on_problem = raise_invalid if strict else self._invalid_values
        self._encoder = Encoder(_new_prefix, time, _clock, _process.process_id, self._on_problem)
        # The first step of a call. A message that has to be seen before it is queued takes the slow way.
        self._encode_event: Callable[[Any, Any, Any], bytes | None] = self._encoder.event
        self._encode_record: Callable[[str, str, Any, Any], bytes | None] = self._encoder.record
        if not self._enabled or self._debug or self._before_send is not None:
            self._encode_event = self._encode_record = _no_fast_way
        elif self._params:
            self._encode_event = partial(_event_with, self._params, self._encoder)
            self._encode_record = partial(_record_with, self._params, self._encoder)
        self._only = self._accumulator.partitions[0] if self._concurrency == 1 else None
        self._long = self._accumulator.long
        if self._debug:
            show_debug()

    def _prepare_spool(self) -> None:
        """Connect the queues with the spool. The first call, or `start`, begins to write."""
        if self._spool is None:
            return
        if self._spooler is None:
            self._source = QueueSource(self._accumulator, deliver=self._spool.deliver)
            self._spooler = Spooler(
                self._spool, _destination(self._transport), self._concurrency, self._source, log=self._log
            )
        self._source.accumulator = self._accumulator  # in a child, whose spool has begun anew
        self._accumulator.wake = partial(_begin_to_write, self._spooler)

    def __repr__(self) -> str:
        """Show the live state: ``<Agent [open | 12 queued, 3412 bytes | 1 in flight]>``."""
        counts = self._accumulator.counts()
        return (
            f"<Agent [{self._flusher.state.value} | {counts.queued} queued, {counts.queued_bytes} bytes"
            f" | {counts.in_flight} in flight]>"
        )

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
            True if accepted; False if dropped: the queue is full, ``before_send`` dropped it, or it is unusable under
            `Invalid.REPORT`. `Stats.dropped` counts by reason.

        Raises:
            InvalidMessage: An argument cannot be sent; names its path. Not under `Invalid.REPORT`.
            MessageTooLarge: The message exceeds `Batching.max_bytes`. Not under `Invalid.REPORT`.
            QueueFull: The queue is full, under `Overflow.RAISE`.
            AgentClosed: After `aclose`. Not under `Invalid.REPORT`.
        """
        if created_at is None and message_id is None:
            line = self._encode_record("contact", "contact_uid", contact_uid, params)
            if line is not None:
                return self._accept(contact_uid, line)
        return self._record("contact", {"contact_uid": contact_uid}, params, created_at, message_id)

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
            True if accepted; False if dropped: the queue is full, ``before_send`` dropped it, or it is unusable under
            `Invalid.REPORT`. `Stats.dropped` counts by reason.

        Raises:
            InvalidMessage: An argument cannot be sent; names its path. Not under `Invalid.REPORT`.
            MessageTooLarge: The message exceeds `Batching.max_bytes`. Not under `Invalid.REPORT`.
            QueueFull: The queue is full, under `Overflow.RAISE`.
            AgentClosed: After `aclose`. Not under `Invalid.REPORT`.
        """
        if created_at is None and message_id is None:
            line = self._encode_record("account", "account_uid", account_uid, params)
            if line is not None:
                return self._accept(account_uid, line)
        return self._record("account", {"account_uid": account_uid}, params, created_at, message_id)

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
            True if accepted; False if dropped: the queue is full, ``before_send`` dropped it, or it is unusable under
            `Invalid.REPORT`. `Stats.dropped` counts by reason.

        Raises:
            InvalidMessage: An argument cannot be sent; names its path. Not under `Invalid.REPORT`.
            MessageTooLarge: The message exceeds `Batching.max_bytes`. Not under `Invalid.REPORT`.
            QueueFull: The queue is full, under `Overflow.RAISE`.
            AgentClosed: After `aclose`. Not under `Invalid.REPORT`.
        """
        if created_at is None and message_id is None:
            # Bound to a name first: calling an attribute of the instance looks the name up in the class too, which
            # CPython 3.11 does not specialise (25 ns).
            encode_event = self._encode_event
            line = encode_event(contact_uid, event_uid, params)
            if line is not None:
                # These lines stand in `_accept` too, whose call would cost 5 %; `accumulator` explains them.
                partition = self._only or self._accumulator.partition_for(contact_uid)  # type: ignore[arg-type]
                try:
                    if len(line) <= self._long and partition.append(line) is None:
                        if len(partition.pending) < partition.notice.at:
                            return True
                        return self._announce(partition, line)
                    return self._add(partition, line)
                except BaseException as exc:
                    self._interrupted(partition, line, exc)
                    raise
        uids: dict[str, object] = {"contact_uid": contact_uid, "event_uid": event_uid}
        return self._record("event", uids, params, created_at, message_id)

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
            True if accepted; False if dropped: the queue is full, ``before_send`` dropped it, or it is unusable under
            `Invalid.REPORT`. `Stats.dropped` counts by reason.

        Raises:
            InvalidMessage: An argument cannot be sent; names its path. Not under `Invalid.REPORT`.
            MessageTooLarge: The message exceeds `Batching.max_bytes`. Not under `Invalid.REPORT`.
            QueueFull: The queue is full, under `Overflow.RAISE`.
            AgentClosed: After `aclose`. Not under `Invalid.REPORT`.
        """
        return self.track(contact_uid, "pageview", params, created_at=created_at, message_id=message_id)

    def alias(self, contact_uid: str | int, alias: str | int, *, message_id: str | None = None) -> bool:
        """
        Merge two contacts: from now on both uids mean the same.

        It is a request of its own, behind all that was accepted before it for *contact_uid*.

        Args:
            contact_uid: One id of the person.
            alias: Another id of the same person.
            message_id: Sent as ``messageId`` if given; the documented body has none.

        Returns:
            True if accepted; False if dropped: the queue is full, ``before_send`` dropped it, or it is unusable under
            `Invalid.REPORT`. `Stats.dropped` counts by reason.

        Raises:
            InvalidMessage: An argument cannot be sent; names its path. Not under `Invalid.REPORT`.
            MessageTooLarge: The message exceeds `Batching.max_bytes`. Not under `Invalid.REPORT`.
            QueueFull: The queue is full, under `Overflow.RAISE`.
            AgentClosed: After `aclose`. Not under `Invalid.REPORT`.
        """
        if not self._enabled:
            return True
        try:
            return self._add_message(self._encoder.compose_alias(contact_uid, alias, message_id), alias=True)
        except InvalidMessage as exc:
            raise exc.with_traceback(None) from None

    def bind(self, contact_uid: str | int, account_uid: str | int | None = None, **params: Any) -> Tracker:
        """
        Return the calls for one contact: ``contact``, ``track`` and ``pageview`` without the uid.

        Args:
            contact_uid: The contact.
            account_uid: Sent as ``params["account_uid"]`` of every message.
            params: Sent with every message; those of a call win.
        """
        return Tracker(self, contact_uid, account_uid, params)

    # Life and waiting.

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """
        Begin to deliver on the running event loop. Does nothing if that is done already.

        Raises:
            AgentClosed: The agent was closed.
            WrongLoop: The agent is delivering on another event loop, which is running.
        """
        if self._enabled:
            self._check_open()
            await asyncio.sleep(0)  # see `Flusher`
            self._flusher.start()

    async def flush(self, timeout: float | None = None) -> Report:
        """
        Wait until everything accepted before has an outcome. Starts the agent if there is something to wait for.

        What is parked (the server refuses the key, say) is not waited for. Cancelling it cancels only the waiting.

        Args:
            timeout: Wait at most so many seconds, and cut each backoff within them short; None: as long as it takes.

        Returns:
            What became of it, since the agent was made; what has no outcome yet is pending.

        Raises:
            ConfigError: *timeout* is not a number.
            WrongLoop: The agent is delivering on another event loop, which is running.
        """
        return await self._flusher.flush(None if timeout is None else seconds(timeout))

    async def drain(self) -> None:
        """
        Hold the producer back, as `asyncio.StreamWriter.drain` does.

        Returns at once while the queue is below 80 % of both its bounds; else waits until it is down to 50 %, or
        the agent is closed. Starts the agent if it has to wait.

        Raises:
            WrongLoop: The agent is delivering on another event loop, which is running.
        """
        await self._flusher.drain()

    async def sync(self) -> None:
        """
        Wait until everything accepted before is on stable storage, in the spool, or has an outcome.

        Raises:
            SpoolFailed: The disk refuses, or the agent has no spool. Or uWSGI has loaded the application and is going
                to fork: its master runs no thread.
        """
        if self._enabled:
            await asyncio.wrap_future(self._begin_sync())

    def _begin_sync(self) -> Future[None]:
        if self._spooler is None:
            raise SpoolFailed("the agent has no spool: pass spool=, or set SALESMACHINE_SPOOL")
        if self._flusher.stage is State.CLOSED:
            counts = self._accumulator.counts()
            if not counts.queued and not counts.in_flight:
                done: Future[None] = Future()
                done.set_result(None)  # everything has an outcome
                return done
        if is_about_to_fork():
            raise SpoolFailed(
                "uWSGI is about to fork this process, and its workers would hang because of a thread: sync in the"
                " workers, or start uWSGI with --py-call-uwsgi-fork-hooks or --lazy-apps"
            )
        return self._spooler.sync()

    async def aclose(self, timeout: float | None = None) -> Report:
        """
        Refuse further calls, deliver what is left, give up what cannot be delivered in time, and end.

        Returns within *timeout* and a quarter of a second whatever the network does, also when it is cancelled, which
        it raises afterwards. Later calls return the same report; one with less time brings the end forward.

        Args:
            timeout: Seconds to deliver; default: `Timeouts.close`.

        Returns:
            What became of all messages. What was given up is lost as `LossReason.CLOSED`, or, with a spool, kept on
            disk; nothing is pending.

        Raises:
            ConfigError: *timeout* is not a number.
            WrongLoop: The agent is delivering on another event loop, which is running.
        """
        if not self._enabled:
            return Report(delivered=0, lost={}, pending=0)
        return await self._flusher.aclose(seconds(self._timeouts.close if timeout is None else timeout))

    async def ping(self) -> None:
        """
        Ask the server now whether it is there and accepts the API key.

        Raises:
            Unauthorized: If the server rejects the key.
            DeliveryError: If the server is not reached or fails; see the subclasses.
            AgentClosed: The agent was closed.
            WrongLoop: The agent is delivering on another event loop, which is running.
        """
        if self._enabled:
            self._check_open()
            await self._flusher.ping()

    def stats(self) -> Stats:
        """Return a snapshot of all counts. Cheap, from any thread."""
        counts, traffic = self._accumulator.counts(), self._flusher.traffic
        return Stats(
            state=self._flusher.state,
            accepted=counts.accepted,
            delivered=counts.delivered,
            queued=counts.queued,
            queued_bytes=counts.queued_bytes,
            in_flight=counts.in_flight,
            lost=counts.lost,
            dropped=counts.dropped,
            invalid_values=self._invalid_values.count,
            requests=traffic.requests,
            retries=traffic.retries,
            bytes_sent=traffic.bytes_sent,
            last_error=traffic.last_error,
            recovered=counts.recovered,
            kept=counts.kept,
            spooled=counts.spooled,
            spooled_bytes=counts.spooled_bytes,
            spool=self._spooler.stats() if self._spooler is not None else None,
        )

    # The steps of a call.

    def _accept(self, uid: Any, line: bytes) -> bool:
        """Queue an encoded message, and notify the loop if it must look."""
        partition = self._only or self._accumulator.partition_for(uid)
        try:
            if len(line) <= self._long and partition.append(line) is None:
                if len(partition.pending) < partition.notice.at:
                    return True
                return self._announce(partition, line)
            return self._add(partition, line)
        except BaseException as exc:
            self._interrupted(partition, line, exc)
            raise

    def _interrupted(self, partition: Partition, line: bytes, exc: BaseException) -> None:
        """Finish a call in which a signal handler raised, perhaps when the line was appended and not announced."""
        # An error of the agent's own means a line that was refused, unless a call in a handler raised it.
        if not isinstance(exc, SalesmachineError) or line in tuple(partition.pending):
            self._accumulator.interrupted(partition, line)

    def _add(self, partition: Partition, line: bytes) -> bool:
        try:
            accepted = self._accumulator.add(partition, line)
        except (AgentClosed, MessageTooLarge) as exc:
            return self._not_accepted(exc)
        if not accepted:
            limits = self._queue
            self._log(
                "queue_full",
                logging.WARNING,
                "a call was dropped: the queue is full (%d messages or %d bytes)",
                limits.max_messages,
                limits.max_bytes,
                loud=True,
            )
        return accepted

    def _announce(self, partition: Partition, line: bytes) -> bool:
        try:
            return self._accumulator.announce(partition, line)
        except AgentClosed as exc:
            return self._not_accepted(exc)

    def _record(
        self, method: str, uids: dict[str, object], params: object, created_at: object, message_id: object
    ) -> bool:
        """Take the slow way: check and convert argument by argument."""
        if not self._enabled:
            return True
        try:
            message = self._encoder.compose(method, uids, params, created_at, message_id)
            if message is not None and self._params:
                message["params"] = self._with_bound(message["params"])
            return self._add_message(message)
        except InvalidMessage as exc:
            # The caller's line is what counts; the depths in which the value was found would hide it.
            raise exc.with_traceback(None) from None

    def _with_bound(self, params: dict[Any, Any]) -> dict[Any, Any]:
        """Return the params of a call over the agent's own."""
        try:
            return {**self._params, **params}
        except Exception as exc:  # noqa: BLE001 (the comparison of keys is the caller's own code)
            self._on_problem("params", f"could not be read ({type(exc).__name__})")
            return self._params

    def _add_message(self, message: dict[str, Any] | None, *, alias: bool = False) -> bool:
        if message is None:
            self._accumulator.drop(DropReason.INVALID)
            return False
        line = self._encoder.encode(message)
        if self._before_send is not None:
            filtered = self._hooks.filtered(message, line)
            if filtered is None:
                self._accumulator.drop(DropReason.BEFORE_SEND)
                return False
            message, line = filtered
        uid = partition_key(message)
        accepted = self._accept(uid, self._accumulator.alias_line(line) if alias else line)
        if self._debug and accepted:
            logger.debug("accepted %s", line.decode())
        return accepted

    def _not_accepted(self, exc: AgentClosed | MessageTooLarge) -> bool:
        reason = DropReason.CLOSED if isinstance(exc, AgentClosed) else DropReason.INVALID
        if self._on_invalid is Invalid.RAISE and not _process.after_exit():
            raise exc
        self._accumulator.drop(reason)
        self._log(reason.value, logging.WARNING, "a call was dropped: %s", exc)
        return False

    # Forks, and the end.

    def _check_open(self) -> None:
        if self._flusher.stage in (State.CLOSING, State.CLOSED):
            raise AgentClosed("the agent is closed")

    def _bequeath(self) -> None:
        """Leave the queued messages to one of the processes forked from this one, which is not started yet."""
        if self._inheritance is None:
            self._inheritance = Inheritance()

    def _inherit(self) -> None:
        """Take messages left to this process or a fork of it; start with an empty queue if another has taken them."""
        if self._inheritance is not None:
            self._after_fork_in_child()

    def _after_fork_in_child(self) -> None:
        """Start with an empty queue, because the parent delivers its messages unless they were left to this process."""
        inheritance, self._inheritance = self._inheritance, None
        if inheritance is not None and self._flusher.stage is State.NEW and inheritance.take():
            return
        closed = self._flusher.stage in (State.CLOSING, State.CLOSED)
        self._flusher.leave_to_parent()
        _process.keep((self._accumulator, self._flusher))
        if isinstance(self._transport, HttpTransport):
            self._transport.after_fork_in_child()
        self._build()
        if closed:
            self._accumulator.close()
            self._flusher.stage = State.CLOSED

    def _warn_if_unclosed(self, *, at_exit: bool = False) -> None:
        """Warn, once, that the agent was not closed, and how many messages are lost by it."""
        flusher = self._flusher
        if at_exit:
            # Messages tracked from now on (by daemon threads, by later exit handlers) would be lost silently.
            self._accumulator.close()
        counts = self._accumulator.counts()
        left = counts.queued + counts.in_flight
        if flusher.stage is State.CLOSED or (flusher.stage is State.NEW and not left):
            return
        if not at_exit:  # else an exit handler that comes later may still close it
            flusher.abandon()
        if self._warned_unclosed:
            return
        self._warned_unclosed = True
        kept = self._leave_spool(left, wait=at_exit)
        left -= kept
        if kept and self._spool is not None:
            line = "an agent was not closed: %d messages wait in %s for the next process"
            log_or_stderr(logging.WARNING, line, kept, os.fspath(self._spool.path))
        if left:
            line = "an agent was not closed: %d messages are lost. Use `async with` or `await agent.aclose()`"
            log_or_stderr(logging.ERROR, line, left)
        elif not kept:
            if flusher.has_ended():  # and all is delivered, as by one `asyncio.run` for each call of a function
                return
            log_or_stderr(logging.WARNING, "an agent was not closed. Use `async with` or `await agent.aclose()`")
        warnings.warn(f"unclosed agent, {left} messages lost: {self!r}", ResourceWarning, source=self, stacklevel=2)

    def _leave_spool(self, left: int, *, wait: bool) -> int:
        """Commit a last time, and return how many of the messages that are left another process will find."""
        if self._spooler is None:
            return 0
        closing = self._spooler.close()
        if wait:
            with suppress(Exception):  # the spool has logged it, or its disk hangs
                closing.result(self._timeouts.close)
        elif not closing.done():
            # A finalizer must not wait. The exit does, and should the disk refuse, the spool says so.
            _closing.add(closing)
            closing.add_done_callback(_closing.discard)
            return left
        *ordinary, extra = self._accumulator.partitions
        kept = sum(messages_below(partition, self._spooler.durable(partition.index)) for partition in ordinary)
        return kept + messages_below(extra, sys.maxsize)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled: the end of a copy would end the delivery."""
        raise TypeError("an Agent cannot be copied or pickled")

    def __del__(self) -> None:
        # An agent whose constructor raised has nothing to warn of.
        if hasattr(self, "_flusher"):
            self._warn_if_unclosed()


def _concurrency(wanted: int, transport: object) -> int:
    """Return the number of partitions: those of a transport that has its own, else as many as are *wanted*."""
    partitions = getattr(transport, "partitions", None)
    if partitions is None:
        return wanted
    check_whole("transport.partitions", partitions, at_least=1, at_most=MAX_CONCURRENCY)
    if wanted not in (1, partitions):
        raise ConfigError(f"concurrency must not be given: the transport has {partitions} partitions")
    return int(partitions)


def _new_prefix() -> str:
    """Return the beginning of the ids of an agent in this process."""
    return str(uuid.uuid4())[:24]


def _no_fast_way(*_: object) -> None:
    """Encode nothing, so that the call takes the slow way."""


def _event_with(
    bound: dict[str, Any], encoder: Encoder, contact_uid: object, event_uid: object, params: Any
) -> bytes | None:
    """Encode an event with the agent's own params below those of the call."""
    if params is not None and type(params) is not dict:
        return None
    try:
        merged: dict[str, Any] = {**bound, **params} if params else bound
    except Exception:  # noqa: BLE001 (the slow way reports it)
        return None
    return encoder.event(contact_uid, event_uid, merged)


def _record_with(bound: dict[str, Any], encoder: Encoder, *arguments: Any) -> bytes | None:
    """Encode a contact or account with the agent's own params below those of the call."""
    method, uid_name, uid, params = arguments
    if params is not None and type(params) is not dict:
        return None
    try:
        merged: dict[str, Any] = {**bound, **params} if params else bound
    except Exception:  # noqa: BLE001 (the slow way reports it)
        return None
    return encoder.record(method, uid_name, uid, merged)


def _spool_policy(spool: object) -> Spool | None:
    """Return the policy of the spool; None for none."""
    if spool is None:
        spool = os.environ.get(SPOOL_VARIABLE, "")
    if spool == "":
        return None
    if isinstance(spool, str | os.PathLike):
        return Spool(spool)  # pyright: ignore[reportUnknownArgumentType]
    if not isinstance(spool, Spool):
        raise ConfigError(f"spool must be a path or a Spool, not {type(spool).__name__}")
    return spool


def _destination(transport: Transport) -> int:
    destination: int | str = getattr(transport, "destination", "")
    return destination if isinstance(destination, int) else destination_of(destination, "")


def _begin_to_write(spooler: Spooler, partition: Partition) -> None:  # noqa: ARG001 (the signature of `wake`)
    """Write what is tracked before the start; no call may fail for it."""
    with suppress(Exception):
        if not is_about_to_fork():
            spooler.start()


# The ends of the spools of forgotten agents, which the exit waits for.
_closing: set[Future[None]] = set()


@_process.at_exit
def _at_exit() -> None:
    for closing in tuple(_closing):
        with suppress(Exception):
            closing.result(Timeouts().close)
    for agent in _process.living(Agent):
        agent._warn_if_unclosed(at_exit=True)  # pyright: ignore[reportPrivateUsage]
