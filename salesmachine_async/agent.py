"""The agent: the calls, their life and their wiring."""

from __future__ import annotations

import atexit
import logging
import os
import time
import uuid
import warnings
from asyncio import CancelledError
from collections.abc import Callable, Mapping
from datetime import datetime
from inspect import iscoroutinefunction
from threading import get_ident
from types import TracebackType
from typing import Any, NoReturn, Self
from weakref import WeakSet

import orjson

from salesmachine_async._core.accumulator import EVICTED, NOTHING, OPENED, REFUSED, SEALED, Accumulator
from salesmachine_async._core.jsonable import raise_invalid
from salesmachine_async._core.message import Encoder, encode, partition_key, revise
from salesmachine_async._delivery.flusher import Flusher, State
from salesmachine_async._delivery.hooks import Hooks
from salesmachine_async._delivery.transport import HttpTransport, Transport
from salesmachine_async._log import InvalidValues, RateLimitedLogger, describe_exception, log_or_stderr
from salesmachine_async.errors import AgentClosed, ConfigError, InvalidMessage, MessageTooLarge, QueueFull
from salesmachine_async.policy import Batching, Invalid, QueueLimits, Retry, Timeouts, check_whole
from salesmachine_async.report import Delivery, Loss, LossReason, Report, Stats
from salesmachine_async.tracker import Tracker

__all__ = ["Agent"]

MAX_CONCURRENCY = 256
# Seconds: longer waits than thirty years are barrier to that, as not every event loop can count to infinity.
FOREVER = 1e9

# Those not collected yet: asked after a fork, and when the interpreter exits.
_agents: WeakSet[Agent] = WeakSet()


class Agent:
    """
    Sends contacts, accounts, events, pageviews and aliases to Salesmachine in the background.

    The tracking calls are plain functions: they check, encode and return in about a microsecond, from any thread,
    before `start` too. In the background messages go out in batches; failed requests are repeated with backoff;
    `aclose` delivers what is left. Use it as ``async with Agent() as agent:``.

    Args:
        token: The API token; default: ``SALESMACHINE_API_TOKEN``.
        secret: The API secret; default: ``SALESMACHINE_API_SECRET``, else empty.
        base_url: Where the API is; default: ``SALESMACHINE_API_URL``, else ``https://api.salesmachine.io``.
        batching: When a batch is sent.
        queue: How much may wait, and what happens beyond.
        retry: How failed requests are repeated.
        timeouts: How long to wait for the network, and for the end.
        concurrency: How many requests at once, 1 to 256. The order of the messages of one contact, and of one account,
            is kept with any number; 1 keeps the order of all.
        on_invalid: What a call does with arguments that cannot be sent.
        on_delivered: Called with each delivered request, on the event loop.
        on_lost: Called with each loss: on the event loop, or for messages displaced under
            `Overflow.DROP_OLDEST` in the thread of the call that displaced them.
        before_send: Called in each tracking call with the message as it would be sent; returns it, changed or
            not, or None to drop it. ``params`` and the uids can be changed. If it raises, the message is not sent.
        transport: Another carrier; token, secret, base_url and timeouts are then its own affair.

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
        on_delivered: Callable[[Delivery], None] | None = None,
        on_lost: Callable[[Loss], None] | None = None,
        before_send: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None,
        transport: Transport | None = None,
    ) -> None:
        check_whole("concurrency", concurrency, at_least=1, at_most=MAX_CONCURRENCY)
        _check_types(batching=batching, queue=queue, retry=retry, timeouts=timeouts, on_invalid=on_invalid)
        _check_callables(on_delivered=on_delivered, on_lost=on_lost, before_send=before_send)
        if transport is None:
            transport = HttpTransport(token, secret, base_url=base_url, timeouts=timeouts)
        elif not (callable(getattr(transport, "send", None)) and callable(getattr(transport, "aclose", None))):
            raise ConfigError(f"transport must have the methods send and aclose; {type(transport).__name__} has not")
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
        self._told_unclosed = False
        self._build()
        _agents.add(self)

    def _build(self) -> None:
        """Make the rooms, empty: at the start, and anew in a forked child."""
        self._log = RateLimitedLogger()
        # Threads in which `before_send` runs: what it tracks itself would come to it again, without end.
        self._filtering: set[int] = set()
        self._hooks = Hooks(self._on_delivered, self._on_lost, self._log)
        self._problems = InvalidValues(self._log)
        self._accumulator = Accumulator(self._batching, self._queue, self._concurrency)
        self._flusher = Flusher(
            self._accumulator,
            self._transport,
            batching=self._batching,
            retry=self._retry,
            hooks=self._hooks,
            log=self._log,
        )
        strict = self._on_invalid is Invalid.RAISE
        self._encoder = Encoder(str(uuid.uuid4())[:24], time.time, raise_invalid if strict else self._problems)
        # The steps of a call, bound once. With a hook on the messages there is no short way of encoding.
        self._encode_event = _no_short_way if self._before_send else self._encoder.event
        self._encode_record = _no_short_way if self._before_send else self._encoder.record
        self._add = self._accumulator.add
        self._stream = self._accumulator.unlocked

    def __repr__(self) -> str:
        """Show the live state: ``<Agent [open | 12 queued, 3412 bytes | 1 in flight]>``."""
        counts = self._accumulator.counts()
        return (
            f"<Agent [{self._flusher.condition} | {counts.queued} queued, {counts.queued_bytes} bytes"
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
            True if accepted; False if refused: the queue is full, ``before_send`` dropped it, or it is unusable under
            `Invalid.REPORT`. `Stats.refused` counts.

        Raises:
            InvalidMessage: An argument cannot be sent; names its path. Not under `Invalid.REPORT`.
            MessageTooLarge: The message exceeds `Batching.max_bytes`. Not under `Invalid.REPORT`.
            QueueFull: The queue is full, under `Overflow.RAISE`.
            AgentClosed: After `aclose`. Not under `Invalid.REPORT`.
        """
        if created_at is None and message_id is None:
            line = self._encode_record("contact", "contact_uid", contact_uid, params)
            if line is not None:
                return self._accept(contact_uid, line, self._add)
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
            created_at: As for `contact`.
            message_id: As for `contact`.

        Returns:
            As `contact`; it raises the same.
        """
        if created_at is None and message_id is None:
            line = self._encode_record("account", "account_uid", account_uid, params)
            if line is not None:
                return self._accept(account_uid, line, self._add)
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
            contact_uid: Who.
            event_uid: What, e.g. ``user_registration``.
            params: ``account_uid`` (links to an account), ``display_name`` (for people to read), any other.
            created_at: As for `contact`.
            message_id: As for `contact`.

        Returns:
            As `contact`; it raises the same.
        """
        if created_at is None and message_id is None:
            # Bound to a name first: calling an attribute of the instance looks the name up in the class too, which
            # CPython 3.11 does not specialise (25 ns).
            encode_event = self._encode_event
            line = encode_event(contact_uid, event_uid, params)
            if line is not None:
                # The short way of `Accumulator.add`, as it stands there: another call would cost 55 ns.
                partition = self._stream
                if partition is not None:
                    size = len(line)
                    room = partition.room - size
                    if room >= 0 and partition.count < partition.count_limit:
                        count = partition.count + 1
                        partition.open += line
                        partition.room = room
                        partition.count = count
                        return True
                return self._accept(contact_uid, line, self._add)
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
            contact_uid: Who.
            params: ``visit_url``, ``visit_ip``, ``visit_agent``, ``account_uid``, any other.
            created_at: As for `contact`.
            message_id: As for `contact`.

        Returns:
            As `contact`; it raises the same.
        """
        return self.track(contact_uid, "pageview", params, created_at=created_at, message_id=message_id)

    def alias(self, contact_uid: str | int, alias: str | int, *, message_id: str | None = None) -> bool:
        """
        Merge two contacts: from now on both uids mean the same.

        It is a request of its own, behind all that was accepted before it for *contact_uid*.

        Args:
            contact_uid: The one.
            alias: The other.
            message_id: Sent as ``messageId`` if given; the documented body has none.

        Returns:
            As `contact`; it raises the same.
        """
        message = self._encoder.compose_alias(contact_uid, alias, message_id)
        return self._add_message(message, alias=True)

    def bind(self, contact_uid: str | int, account_uid: str | int | None = None, **params: Any) -> Tracker:
        """
        Return the calls for one contact: ``contact``, ``track`` and ``pageview`` without the uid.

        Args:
            contact_uid: Who.
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
        self._check_open()
        self._flusher.start()

    async def flush(self, timeout: float | None = None) -> Report:
        """
        Wait until everything accepted before has an outcome. Starts the agent if there is something to wait for.

        What is parked (the server refuses the key, say) is not waited for. Cancelling it cancels only the waiting.

        Args:
            timeout: Wait at most so many seconds, and do not sit out a backoff meanwhile; None: as long as it takes.

        Returns:
            What became of it, since the agent was made; what has no outcome yet is pending.

        Raises:
            ConfigError: *timeout* is not a number.
            WrongLoop: The agent is delivering on another event loop, which is running.
        """
        return await self._flusher.flush(None if timeout is None else _seconds(timeout))

    async def drain(self) -> None:
        """
        Hold the producer back, as `asyncio.StreamWriter.drain` does.

        Returns at once while the queue is below 80 % of both its bounds; else waits until it is down to 50 %, or
        the agent is closed. Starts the agent if it has to wait.

        Raises:
            WrongLoop: The agent is delivering on another event loop, which is running.
        """
        await self._flusher.drain()

    async def aclose(self, timeout: float | None = None) -> Report:
        """
        Refuse further calls, deliver what is left, give up what cannot be delivered in time, and end.

        Returns within *timeout* and a quarter of a second whatever the network does, also when it is cancelled, which
        it raises afterwards. Later calls return the same report; one with less time brings the end forward.

        Args:
            timeout: Seconds to deliver; default: `Timeouts.close`.

        Returns:
            What became of all messages. What was given up is lost as `LossReason.CLOSED`; nothing is pending.

        Raises:
            ConfigError: *timeout* is not a number.
            WrongLoop: The agent is delivering on another event loop, which is running.
        """
        return await self._flusher.aclose(_seconds(self._timeouts.close if timeout is None else timeout))

    async def ping(self) -> None:
        """
        Ask the server now whether it is there and accepts the API key.

        Raises:
            Unauthorized: It does not accept the key.
            DeliveryError: It is not there, or not well; see its children.
            AgentClosed: The agent was closed.
            WrongLoop: The agent is delivering on another event loop, which is running.
        """
        self._check_open()
        await self._flusher.ping()

    def stats(self) -> Stats:
        """Return a snapshot of all counts. Cheap, from any thread."""
        counts, traffic = self._accumulator.counts(), self._flusher.traffic
        return Stats(
            accepted=counts.accepted,
            delivered=counts.delivered,
            queued=counts.queued,
            queued_bytes=counts.queued_bytes,
            in_flight=counts.in_flight,
            lost=counts.lost,
            refused=counts.refused,
            invalid_values=self._problems.count,
            requests=traffic.requests,
            retries=traffic.retries,
            bytes_sent=traffic.bytes_sent,
            paused=self._flusher.paused,
            last_error=traffic.last_error,
        )

    # The steps of a call.

    def _accept(self, uid: object, line: bytes, add: Callable[[object, bytes], int]) -> bool:
        """Queue an encoded message."""
        try:
            flags = add(uid, line)
            return True if flags == NOTHING else self._follow_up(uid, flags)
        except (AgentClosed, MessageTooLarge) as exc:
            return self._not_accepted(exc)
        except BaseException as exc:
            self._broken_off(uid, exc)
            raise

    def _broken_off(self, uid: object, exc: BaseException) -> None:
        """Have the loop look: a signal handler has raised, perhaps when the message was queued but not announced."""
        if not isinstance(exc, QueueFull):
            self._flusher.notify(self._accumulator.partition_of(uid), OPENED | SEALED)

    def _record(
        self, method: str, uids: dict[str, object], params: object, created_at: object, message_id: object
    ) -> bool:
        """Take the long way: check and convert argument by argument."""
        try:
            return self._add_message(self._encoder.compose(method, uids, params, created_at, message_id))
        except InvalidMessage as exc:
            # The caller's line is what counts: the depths in which the value was found would hide it.
            raise exc.with_traceback(None) from None

    def _add_message(self, message: dict[str, Any] | None, *, alias: bool = False) -> bool:
        if message is not None and self._before_send is not None:
            message = self._filtered(message, self._before_send)
        if message is None:
            self._accumulator.refuse()
            return False
        uid, line = partition_key(message), self._encoder.encode(message)
        return self._accept(uid, line, self._accumulator.add_alias if alias else self._add)

    def _filtered(
        self, message: dict[str, Any], before_send: Callable[[dict[str, Any]], dict[str, Any] | None]
    ) -> dict[str, Any] | None:
        """Let the hook see, change or drop a message. It gets a copy: the caller's objects stay as they are."""
        copy = orjson.loads(self._encoder.encode(message))
        me = get_ident()
        if me in self._filtering:
            self._log("before_send", logging.ERROR, "before_send tracked a message itself; not sent")
            return None
        self._filtering.add(me)
        try:
            changed = before_send(copy)
        except (Exception, CancelledError) as exc:  # noqa: BLE001 (the hook's own: nothing is awaited here)
            self._log("before_send", logging.ERROR, "before_send raised %s; not sent", describe_exception(exc))
            return None
        finally:
            self._filtering.discard(me)
        if changed is None:
            return None
        try:
            revised = revise(message, changed)
            encode(revised, raise_invalid)
        except InvalidMessage as exc:
            self._log("before_send", logging.ERROR, "before_send returned a message that cannot be sent: %s", exc)
            return None
        return revised

    def _not_accepted(self, exc: AgentClosed | MessageTooLarge) -> bool:
        if self._on_invalid is Invalid.RAISE:
            raise exc
        self._accumulator.refuse()
        self._log(type(exc).__name__, logging.WARNING, "a message was refused: %s", exc)
        return False

    def _follow_up(self, uid: object, flags: int) -> bool:
        """Do what the queue asks for after a call."""
        self._flusher.notify(self._accumulator.partition_of(uid), flags)
        if flags & EVICTED:
            # A call made by the hook must not displace others in turn, or this would never end.
            self._accumulator.no_eviction.add(get_ident())
            try:
                self._hooks.lost(LossReason.QUEUE_FULL, None, self._accumulator.take_evicted())
            finally:
                self._accumulator.no_eviction.discard(get_ident())
        return not flags & REFUSED

    # The ends that come by themselves.

    def _check_open(self) -> None:
        if self._flusher.state in (State.CLOSING, State.CLOSED):
            raise AgentClosed("the agent is closed")

    def _after_fork_in_child(self) -> None:
        """Begin anew: what is queued belongs to the parent, which delivers it."""
        _inherited.append((self._accumulator, self._flusher))
        self._accumulator.after_fork_in_child()
        if isinstance(self._transport, HttpTransport):
            self._transport.after_fork_in_child()
        closed = self._flusher.state in (State.CLOSING, State.CLOSED)
        self._build()
        if closed:
            self._accumulator.close()
            self._flusher.state = State.CLOSED

    def _warn_if_unclosed(self, *, at_exit: bool = False) -> None:
        """Say loudly that nobody closed the agent, and how many messages that costs. Once."""
        flusher = self._flusher
        if at_exit:
            # What is tracked from now on (by daemon threads, by exit handlers that come later) would be lost silently.
            self._accumulator.close()
        counts = self._accumulator.counts()
        left = counts.queued + counts.in_flight
        if flusher.state is State.CLOSED or (flusher.state is State.NEW and not left):
            return
        if not at_exit:  # else an exit handler that comes later may still close it
            flusher.orphan()
        if self._told_unclosed:
            return
        self._told_unclosed = True
        if left:
            line = "an agent was not closed: %d messages are lost. Use `async with` or `await agent.aclose()`"
            log_or_stderr(logging.ERROR, line, left)
        else:
            # aiohttp is going to complain of a session that nobody closed; this says whose it is.
            log_or_stderr(logging.WARNING, "an agent was not closed. Use `async with` or `await agent.aclose()`")
        warnings.warn(f"unclosed agent, {left} messages lost: {self!r}", ResourceWarning, source=self, stacklevel=2)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled: the end of a copy would end the delivery."""
        raise TypeError("an Agent cannot be copied or pickled")

    def __del__(self) -> None:
        # An agent whose constructor raised has nothing to warn of.
        if hasattr(self, "_flusher"):
            self._warn_if_unclosed()


# What forked children have inherited, kept unused for as long as they live: to collect it would close the parent's
# connections.
_inherited: list[object] = []


def _no_short_way(*_: object) -> None:
    """Encode nothing: the call takes the long way, past the hook."""


def _seconds(timeout: object) -> float:
    """Return a waiting time; what is left of a deadline may be negative, then there is none."""
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout != timeout:  # noqa: PLR0124 (NaN)
        raise ConfigError(f"timeout must be a number of seconds, not {timeout!r}")
    return min(max(0.0, timeout), FOREVER)


def _check_types(**arguments: object) -> None:
    for name, value in arguments.items():
        kind = _KINDS[name]
        if not isinstance(value, kind):
            raise ConfigError(f"{name} must be of type {kind.__name__}, not {type(value).__name__}")


def _check_callables(**hooks: object) -> None:
    for name, hook in hooks.items():
        if hook is not None and not callable(hook):
            raise ConfigError(f"{name} must be callable, not {type(hook).__name__}")
        if iscoroutinefunction(hook):
            raise ConfigError(f"{name} must be a plain function: nothing awaits it")


_KINDS: dict[str, type] = {
    "batching": Batching,
    "queue": QueueLimits,
    "retry": Retry,
    "timeouts": Timeouts,
    "on_invalid": Invalid,
}


def _all_after_fork_in_child() -> None:
    for agent in list(_agents):
        agent._after_fork_in_child()  # pyright: ignore[reportPrivateUsage]


@atexit.register
def _at_exit() -> None:
    for agent in list(_agents):
        agent._warn_if_unclosed(at_exit=True)  # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_all_after_fork_in_child)
