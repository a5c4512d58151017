"""The engine of relays on Redis or Valkey."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from math import ceil
from typing import Any, Final, TypeVar

from redis import exceptions as redis_errors

from salesmachine_async.engines.redis import scripts
from salesmachine_async.engines.redis.client import (
    TIMEOUT,
    ClientHolder,
    RedisClient,
    as_text,
    check_server,
    failure,
    on_server,
    pairs_of,
    run,
)
from salesmachine_async.engines.redis.keys import Keys
from salesmachine_async.errors import ConfigError
from salesmachine_async.policy import check_seconds, check_whole
from salesmachine_async.relay.engine import (
    DeadLetter,
    Entry,
    FleetStatus,
    LeaseLost,
    PartitionStatus,
    RelayStatus,
    described,
    from_description,
)
from salesmachine_async.report import Endpoint

__all__ = ["RedisEngine"]

# Connections for the steps of a relay, which each take one for a moment; besides, each partition waits for entries on
# one of its own.
CONNECTIONS: Final = 8
MAX_PARTITIONS: Final = 256
# How many dead letters a partition keeps, about.
MAX_DEAD: Final = 10_000
# The longest wait of one call for a permit of the rate; the pause is checked again after it.
MAX_TURN_SECONDS: Final = 1.0
# The application's client may have a timeout; a command that blocks has to end before it.
MAX_BLOCK_SECONDS: Final = 2.0
# From the beginning of what was read and not settled.
BEGINNING: Final = "0"

T = TypeVar("T")

# Runs while the host sleeps, too, where the operating system has it.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC) if hasattr(time, "CLOCK_MONOTONIC") else None


def _now() -> float:
    return time.clock_gettime(_CLOCK) if _CLOCK is not None else time.monotonic()


class RedisLease:
    """
    The ownership of a partition, and how far its owner has read.

    Attributes:
        partition: Its index.
        token: What the server knows the owner by. It is random, because a counter would repeat on a server that has
            lost its data.
        expires: When it ends at the earliest, on a clock of this module.
        history: The id after which to read what was read before and not settled; None once that was read.
        read: The id up to which the group has read, as far as it is known.
        in_hand: The ids of the entries that were read and are not settled.
    """

    def __init__(self, partition: int, token: str) -> None:
        self.partition = partition
        self.token = token
        self.expires = 0.0
        self.history: str | None = BEGINNING
        self.read = "0-0"
        self.in_hand: set[str] = set()

    def __repr__(self) -> str:
        """Show the partition and the time left."""
        return f"<RedisLease of {self.partition} | {self.left:.1f} s>"

    @property
    def left(self) -> float:
        """Seconds until it ends, at least; negative after."""
        return self.expires - _now()


class RedisEngine:
    """
    A queue on Redis or Valkey, as relays and the command line use it.

    Args:
        server: A URL (``redis://``, ``rediss://``, ``unix://``), or a client of ``redis.asyncio``, which is not closed
            here.
        name: The name of the queue, as of `RedisTransport`.
        relay: The name of the relay, unique; default: host, process and a random part.
        lease: Seconds after which another relay takes over the partitions of one that is dead. It must be longer than
            a request may take.

    Raises:
        ConfigError: An argument is unusable.

    Attributes:
        name: As given.
        partitions: Number of the queue's streams; 0 before `start`, and if no agent has used the queue yet.
        lease_seconds: As given.
        relay: As given.
    """

    def __init__(
        self, server: str | RedisClient, *, name: str = "default", relay: str | None = None, lease: float = 30.0
    ) -> None:
        check_seconds("lease", lease, above_zero=True)
        self._keys = Keys(name)
        self._holder = ClientHolder(server, connections=CONNECTIONS)
        self._waiting = ClientHolder(server, connections=MAX_PARTITIONS)
        self.name = name
        self.partitions = 0
        self.lease_seconds: float = lease
        # A call that takes longer has failed: the lease must be renewed in time.
        self._timeout = min(TIMEOUT, lease / 3)
        self.relay = relay or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        # Tokens of acquisitions whose answer was lost: trying again with another would have to wait for its end.
        self._tokens: dict[int, str] = {}

    def __repr__(self) -> str:
        """Show the queue, never the URL, which may hold a password."""
        return f"<RedisEngine {self.name} | relay {self.relay}>"

    # Lifecycle.

    async def start(self) -> None:
        """Connect and check the server; raises `ConfigError` if it cannot be used as it is configured."""
        client = self._holder.client()
        await self._answer(check_server(client))
        meta = client.execute_command("HMGET", self._keys.meta, "version", "partitions")
        version, partitions = await self._answer(meta)
        if version is not None and as_text(version) != "1":
            raise ConfigError(f"the queue {self.name} was made by a newer version of salesmachine-async")
        self.partitions = int(partitions or 0)

    async def create(self, partitions: int) -> None:
        """Create the queue with so many streams, if no agent has used it yet."""
        check_whole("partitions", partitions, at_least=1, at_most=MAX_PARTITIONS)
        await self._run(0, scripts.META, (self._keys.meta,), partitions)
        await self.start()

    async def aclose(self) -> None:
        """Close the connections that were opened here."""
        await self._holder.aclose()
        await self._waiting.aclose()

    # Members.

    async def members(self, status: RelayStatus) -> Sequence[str]:
        """Register this relay as living for a third of a lease; returns the names of all living ones."""
        keys = *self._relays(), self._keys.meta
        alive = max(1, int(self.lease_seconds * 1000 / 3))
        partitions, names = await self._run(
            0, scripts.MEMBERS, keys, self.relay, described(status), alive, self.partitions
        )
        if partitions != self.partitions:
            await self.start()  # agents have begun to use the queue, or have begun it anew after a FLUSHALL
        return [as_text(name) for name in names]

    async def leave(self) -> None:
        """Remove this relay from the living ones."""
        await self._run(0, scripts.LEAVE, self._relays(), self.relay)

    # The owner's steps.

    async def acquire(self, partition: int) -> RedisLease | None:
        """Become the owner of a partition; None if it has one."""
        token = self._tokens.setdefault(partition, f"{self.relay}:{secrets.token_hex(8)}")
        lease = RedisLease(partition, token)
        began = _now()
        acquired = await self._run(partition, scripts.ACQUIRE, (self._keys.owner(partition),), token, self._lease_ms)
        del self._tokens[partition]
        lease.expires = began + self.lease_seconds
        return lease if acquired else None

    async def fetch(self, lease: RedisLease, *, messages: int, size: int, wait: float = 0.0) -> Sequence[Entry]:
        """Read the next entries, oldest first; see `Engine.fetch`."""
        entries = await self._fetch(lease, messages, size)
        if entries or wait <= 0 or messages <= 0:
            return entries
        await self._wait_for_entries(lease, min(wait, MAX_BLOCK_SECONDS))
        return await self._fetch(lease, messages, size)

    async def _fetch(self, lease: RedisLease, messages: int, size: int) -> Sequence[Entry]:
        queue = self._keys.queue(lease.partition)
        while True:
            after = ">" if lease.history is None else lease.history
            # A copy, because entries that are settled before the answer arrives may be in it.
            in_hand = lease.in_hand.copy()
            read, found = await self._fenced(lease, scripts.FETCH, (queue,), after, messages, size, lease.read)
            if messages <= 0:
                return ()
            lease.read = as_text(read)
            if found is None:  # an answer was lost
                lease.history = BEGINNING
                continue
            entries = [_entry(*each) for each in found]
            if lease.history is not None:
                lease.history = entries[-1].id if entries else None
            new = [entry for entry in entries if entry.id not in in_hand]
            lease.in_hand.update(entry.id for entry in new)
            if new or after == ">":
                return new

    async def _wait_for_entries(self, lease: RedisLease, seconds: float) -> None:
        """
        Wait until there is an entry behind the last one.

        This changes nothing on the server and only spares it polling: an answer that gets lost, or a time-out, ends
        the waiting.
        """
        queue, block = self._keys.queue(lease.partition), ceil(seconds * 1000)
        client = self._waiting.client(lease.partition)

        async def wait() -> None:
            with suppress(redis_errors.TimeoutError):  # a client of the application may have a shorter time-out
                await client.execute_command("XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", queue, lease.read)

        await self._answer(wait(), seconds)

    async def settle(self, lease: RedisLease, entries: Sequence[Entry], dead: Sequence[DeadLetter]) -> None:
        """Remove entries and store the dead letters among their messages; see `Engine.settle`."""
        if entries:
            await self._settle(lease, entries, dead)

    async def _settle(self, lease: RedisLease, entries: Sequence[Entry], dead: Sequence[DeadLetter]) -> float:
        """Remove entries and store the dead letters among their messages; returns the seconds of a pause."""
        partition = lease.partition
        arguments: list[object] = [MAX_DEAD, len(entries)]
        for entry in entries:
            # A damaged entry was not counted by an agent.
            size = len(entry.body) + scripts.ENTRY_BYTES if entry.count else 0
            arguments += [entry.id, size, entry.count]
        for letter in dead:
            arguments += [
                entries[0].id,
                letter.reason,
                "" if letter.status is None else letter.status,
                letter.error,
                letter.server_message,
                letter.endpoint.value,
                letter.line,
                self.relay,
            ]
        keys = self._keys
        pause = await self._fenced(
            lease,
            scripts.SETTLE,
            (keys.queue(partition), keys.size(partition), keys.dead(partition), keys.pause(partition)),
            *arguments,
        )
        lease.in_hand.difference_update(entry.id for entry in entries)
        return int(pause) / 1000

    async def permit(
        self,
        lease: RedisLease,
        entries: Sequence[Entry] = (),
        dead: Sequence[DeadLetter] = (),
        *,
        rate: float | None = None,
    ) -> float:
        """Settle, then wait for a permit of this rate; see `Engine.permit`."""
        pause = await self._settle(lease, entries, dead)
        while rate is not None and pause == 0:
            turn = await self._turn(rate)
            if turn == 0:
                break
            await asyncio.sleep(min(turn, MAX_TURN_SECONDS))
            # The lease is older now, and there may be a pause.
            pause = await self._settle(lease, (), ())
            if turn <= MAX_TURN_SECONDS:
                break
        return pause

    async def _turn(self, rate: float) -> float:
        """Return the seconds until a request may be sent at this rate; above the longest wait, ask again after it."""
        interval, longest = max(1, round(1_000_000 / rate)), int(MAX_TURN_SECONDS * 1_000_000)
        return int(await self._run(0, scripts.TURN, (self._keys.rate,), interval, longest)) / 1_000_000

    async def release(self, lease: RedisLease) -> None:
        """Give up the ownership."""
        lease.expires = 0.0
        partition = lease.partition
        await self._run(partition, scripts.RELEASE, (self._keys.owner(partition),), lease.token)

    async def pause(self, seconds: float) -> None:
        """Hold back all relays for so long from now on; a longer pause stays."""
        for partition in range(self.partitions):
            key = self._keys.pause(partition)
            await self._run(partition, scripts.PAUSE, (key,), max(1, ceil(seconds * 1000)))

    async def lag(self) -> FleetStatus:
        """Return the state of the partitions and of the relays that own them."""
        if not self.partitions:
            await self.start()
        relays = await self._run(0, scripts.FLEET, self._relays())
        found = [await self._status(partition) for partition in range(self.partitions)]
        return FleetStatus(
            name=self.name,
            partitions=tuple(partition for partition, _ in found),
            relays=tuple(from_description(as_text(relay), _as_bytes(text)) for relay, text in sorted(relays)),
            pause_seconds=max((pause for _, pause in found), default=0.0),
        )

    async def _status(self, partition: int) -> tuple[PartitionStatus, float]:
        """Return the state of a partition, and the seconds of its pause."""
        keys = self._keys
        of_it = (keys.owner, keys.queue, keys.size, keys.dead, keys.pause)
        owner, lease, messages, entries, size, age, dead, pause = await self._run(
            partition, scripts.STATUS, tuple(key(partition) for key in of_it)
        )
        status = PartitionStatus(
            partition=partition,
            owner=as_text(owner).rpartition(":")[0] or None,
            lease_seconds=int(lease) / 1000,
            messages=int(messages),
            entries=int(entries),
            bytes=int(size),
            oldest_seconds=int(age) / 1000,
            dead=int(dead),
        )
        return status, int(pause) / 1000

    # Dead letters.

    async def dead_letters(self, *, partition: int | None = None, count: int = 100) -> Sequence[DeadLetter]:
        """Return at most *count* of the oldest dead letters, of one partition or of all."""
        if not self.partitions:
            await self.start()
        found: list[DeadLetter] = []
        for each in range(self.partitions) if partition is None else (partition,):
            reply = await self._command("XRANGE", self._keys.dead(each), "-", "+", "COUNT", count)
            found += [_letter(each, as_text(id_), fields) for id_, fields in reply]
        return sorted(found, key=lambda letter: letter.time)[:count]

    async def dead_letter(self, partition: int, letter: str) -> DeadLetter | None:
        """Return the dead letter with this id, or None if there is none."""
        reply = await self._command("XRANGE", self._keys.dead(partition), letter, letter)
        return _letter(partition, as_text(reply[0][0]), reply[0][1]) if reply else None

    async def retry_dead(self, letters: Sequence[DeadLetter]) -> int:
        """Move dead letters back to the end of their partitions; returns how many there still were."""
        moved = 0
        for letter in letters:
            partition, body = letter.partition, letter.batch().body()
            keys = self._keys.queue(partition), self._keys.size(partition), self._keys.dead(partition)
            arguments = letter.id, body, letter.endpoint.value, scripts.ENTRY_BYTES
            moved += await self._run(partition, scripts.RETRY_DEAD, keys, *arguments)
        return moved

    async def purge_dead(self, letters: Sequence[DeadLetter]) -> int:
        """Delete dead letters; returns how many there still were."""
        deleted = 0
        for letter in letters:
            deleted += await self._command("XDEL", self._keys.dead(letter.partition), letter.id)
        return deleted

    # The server.

    @property
    def _lease_ms(self) -> int:
        return max(1, int(self.lease_seconds * 1000))

    def _relays(self) -> tuple[str, str]:
        return self._keys.relays, self._keys.descriptions

    async def _fenced(
        self, lease: RedisLease, script: scripts.LuaScript, keys: tuple[str, ...], *arguments: object
    ) -> Any:
        """Call a script of the owner, which renews the lease; raises `LeaseLost`."""
        began = _now()  # before the call, because the lease ends no sooner than so long after the server's renewal
        owner = self._keys.owner(lease.partition)
        reply = await self._run(lease.partition, script, (owner, *keys), lease.token, self._lease_ms, *arguments)
        if reply is None:
            lease.expires = 0.0
            raise LeaseLost(f"the lease of partition {lease.partition} is lost")
        lease.expires = began + self.lease_seconds
        return reply

    async def _run(self, partition: int, script: scripts.LuaScript, keys: tuple[str, ...], *arguments: object) -> Any:
        return await self._answer(run(self._holder.client(partition), script, keys, *arguments))

    async def _command(self, *arguments: object) -> Any:
        return await self._answer(self._holder.client().execute_command(*arguments))

    async def _answer(self, call: Awaitable[T], seconds: float = 0.0) -> T:
        """Await a call that blocks for so long; failures of the server become a `DeliveryError`."""
        task = asyncio.current_task()
        cancellations = 0 if task is None else task.cancelling()
        try:
            async with asyncio.timeout(self._timeout + seconds):
                return await call
        except Exception as exc:
            if not on_server(exc):
                raise
            raise failure(exc) from None
        finally:
            # redis-py swallows a cancellation that comes together with an answer.
            if task is not None and task.cancelling() > cancellations:
                raise asyncio.CancelledError


def _as_bytes(reply: Any) -> bytes:
    return reply if isinstance(reply, bytes) else str(reply).encode()


def _fields(reply: Any) -> dict[str, bytes]:
    """Return the fields of an entry."""
    return {as_text(name): _as_bytes(value) for name, value in pairs_of(reply)}


def _entry(id_: Any, *found: Any) -> Entry:
    """Return an entry of its endpoint, count and body, or of its fields, if no agent has written it."""
    if len(found) != len(("endpoint", "count", "body")):
        fields = _fields(found[0])
        return Entry(as_text(id_), Endpoint.BATCH, 0, fields.get("b") or repr(fields).encode())
    endpoint, count, body = found
    try:
        return Entry(as_text(id_), Endpoint(as_text(endpoint)), int(count), _as_bytes(body))
    except ValueError:
        return Entry(as_text(id_), Endpoint.BATCH, 0, _as_bytes(body) or repr(found).encode())


def _letter(partition: int, id_: str, reply: Any) -> DeadLetter:
    fields = _fields(reply)

    def text(name: str) -> str:
        return fields.get(name, b"").decode(errors="replace")

    return DeadLetter(
        partition=partition,
        id=id_,
        time=int(id_.partition("-")[0]) / 1000,
        reason=text("reason"),
        status=int(text("status")) if text("status") else None,
        error=text("error"),
        server_message=text("server"),
        endpoint=Endpoint(text("e")) if text("e") else Endpoint.BATCH,
        line=fields.get("line", b""),
        relay=text("relay"),
    )
