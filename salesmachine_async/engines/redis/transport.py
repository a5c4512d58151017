"""Publishes batches to Redis or Valkey, in the place of sending them over HTTP."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NoReturn

from redis import exceptions as redis_errors
from redis.asyncio import RedisCluster

from salesmachine_async._core.batch import AliasLine, Batch
from salesmachine_async._core.message import partition_key
from salesmachine_async._core.partition import partition_of
from salesmachine_async._core.response import Outcome, Verdict
from salesmachine_async.engines.redis import scripts
from salesmachine_async.engines.redis.client import (
    TIMEOUT,
    ClientHolder,
    RedisClient,
    as_text,
    check_server,
    on_server,
    outcome_of,
    run,
)
from salesmachine_async.engines.redis.keys import Keys
from salesmachine_async.errors import ConfigError, Rejected, ServerFailure
from salesmachine_async.policy import check_whole
from salesmachine_async.report import Endpoint

__all__ = ["RedisTransport"]

Confirm = Literal["memory", "synced", "replica"]

MAX_PARTITIONS: Final = 256
# Connections of one process: there may be hundreds of processes.
CONNECTIONS: Final = 4
PUBLISHED_MS: Final = 3_600_000
REPLICA_MS: Final = 2000

DELIVERED: Final = Outcome(verdict=Verdict.DELIVERED)


@dataclass(slots=True)
class _Progress:
    """
    What was published of one of the agent's partitions to one stream.

    Attributes:
        published: Number of messages, those included that were given up while their fate was not known.
        unknown: Messages after these of which it is not known whether they were published.
        full: How many publications of this transport had succeeded when the stream was last full; None if it was not.
    """

    published: int = 0
    unknown: list[bytes] = field(default_factory=list[bytes])
    full: int | None = None


class RedisTransport:
    """
    Publishes batches to a queue on Redis or Valkey, from which relays deliver them (see `salesmachine_async.relay`).

    For the agent, *delivered* then means handed over. No API token is needed in its process. Give each agent a
    transport of its own.

    A batch is published once even if an answer is lost and it is repeated. A queue that is full, or a server that is
    out of memory, pauses the agent; one that cannot be reached is tried again; one that refuses access, or is
    configured so that it would lose messages, parks the agent. Nothing is lost by any of these.

    Args:
        server: A URL (``redis://``, ``rediss://``, ``unix://``), or a client of ``redis.asyncio``: for Sentinel,
            Cluster and other ways to sign in. The agent does not close a client, and does not use it after a fork.
        name: The name of the queue: 1 to 64 letters, digits, dots, hyphens and underscores.
        partitions: Number of its streams, and so of the agent's partitions, 1 to 256. The first transport of a queue
            decides; a later one with another number distributes its messages accordingly.
        max_bytes: The bound of the whole queue in bytes; each stream has an equal part of it.
        confirm: When a batch counts as handed over: once it is in the server's ``memory``; the same, but on a server
            that writes each command to its disk first, without which nothing is published (``synced``); or once a
            ``replica`` has it too, which a client of a cluster cannot wait for.

    Raises:
        ConfigError: An argument is unusable.

    Attributes:
        partitions: As given.
        destination: The name of the queue: a spool gives its messages to agents of a queue of the same name.
    """

    def __init__(
        self,
        server: str | RedisClient,
        *,
        name: str = "default",
        partitions: int = 16,
        max_bytes: int = 256 * 2**20,
        confirm: Confirm = "memory",
    ) -> None:
        check_whole("partitions", partitions, at_least=1, at_most=MAX_PARTITIONS)
        check_whole("max_bytes", max_bytes, at_least=1)
        if confirm not in ("memory", "synced", "replica"):
            raise ConfigError(f"confirm must be 'memory', 'synced' or 'replica', not {confirm!r}")
        if confirm == "replica" and isinstance(server, RedisCluster):
            raise ConfigError("confirm='replica' needs a client of one server, not of a cluster")
        self.partitions = partitions
        self.destination = f"redis:{name}"
        self._keys = Keys(name)
        self._name = name
        self._max_bytes = max_bytes
        self._confirm: Confirm = confirm
        self._holder = ClientHolder(server, connections=CONNECTIONS)
        # Number of the queue's streams; None until the server was checked.
        self._streams: int | None = None
        self._reset()

    def _reset(self) -> None:
        """Initialize a new producer identity."""
        self._pid = os.getpid()
        self._producer = uuid.uuid4().hex
        self._progress: dict[tuple[int, int], _Progress] = {}
        # One publication at a time in each partition, should two agents share the transport.
        self._locks: dict[int, asyncio.Lock] = {}
        self._publications = 0

    def __repr__(self) -> str:
        """Show the queue, never the URL, which may hold a password."""
        return f"<RedisTransport {self._name} | {self.partitions} partitions>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled: both would number their messages alike."""
        raise TypeError("a RedisTransport cannot be copied or pickled")

    async def send(self, batch: Batch) -> Outcome:
        """Publish one batch, and return the outcome; raises only the cancellation of its task."""
        if os.getpid() != self._pid:
            self._reset()
        try:
            client = self._holder.client(batch.partition)
            streams = await self._prepare(client)
            if batch.endpoint is Endpoint.PING:
                async with asyncio.timeout(TIMEOUT):
                    await client.execute_command("PING")
                return DELIVERED
            async with self._locks.setdefault(batch.partition, asyncio.Lock()):
                for stream, part in self._by_stream(batch, streams):
                    outcome = await self._publish(client, batch.partition, stream, part, streams)
                    if outcome is not DELIVERED:
                        return outcome
            return DELIVERED
        except ConfigError as exc:
            return Outcome.failed(Rejected(str(exc)), Verdict.PARKED)
        except Exception as exc:
            if not on_server(exc):
                raise
            return outcome_of(exc)

    async def aclose(self) -> None:
        """Close the connections that were opened here."""
        await self._holder.aclose()

    async def _prepare(self, client: RedisClient) -> int:
        """Check the server once; returns the number of streams."""
        if self._streams is None:
            async with asyncio.timeout(TIMEOUT):
                await check_server(client, synced=self._confirm == "synced")
                self._streams = await self._fix_streams(client, self.partitions)
        return self._streams

    async def _fix_streams(self, client: RedisClient, streams: int) -> int:
        """Fix the number of streams, unless that has been done; returns it."""
        version, fixed = await run(client, scripts.META, (self._keys.meta,), streams)
        if as_text(version) != "1":
            raise ConfigError(f"the queue {self._name} was made by a newer version of salesmachine-async")
        return int(fixed)

    def _by_stream(self, batch: Batch, streams: int) -> Iterable[tuple[int, Batch]]:
        """
        Return the messages for each stream.

        That is one stream for the batch, unless the queue has another number of streams than the agent has partitions,
        or the batch is of a partition beyond these, in which an agent delivers what another process has left.
        """
        if streams == self.partitions and batch.partition < streams:
            return [(batch.partition, batch)]
        groups: dict[int, list[bytes]] = {}
        for message, line in zip(batch.messages(), batch.lines(), strict=True):
            groups.setdefault(partition_of(partition_key(message), streams), []).append(line)
        alias = batch.endpoint is Endpoint.ALIAS
        return [
            (stream, Batch.of_lines([AliasLine(line) for line in lines] if alias else lines))
            for stream, lines in groups.items()
        ]

    async def _publish(self, client: RedisClient, partition: int, stream: int, batch: Batch, streams: int) -> Outcome:
        progress = self._progress.setdefault((partition, stream), _Progress())
        lines = batch.lines()
        if progress.unknown[: len(lines)] != lines:
            # An earlier batch with an unknown outcome was given up, and must not be mistaken for this batch.
            progress.published += len(progress.unknown)
            progress.unknown = lines
        keys, arguments = self._call(partition, stream, progress, batch, streams)
        try:
            async with asyncio.timeout(TIMEOUT):
                answer = await self._run(client, keys, arguments)
                if answer == "MISSING":
                    # This is the first batch in the stream, or the server has lost its data.
                    self._streams = await self._fix_streams(client, streams)
                    if streams != self._streams:
                        error = ServerFailure(f"the queue {self._name} was made anew with {self._streams} streams")
                        return Outcome.failed(error, Verdict.UNREACHABLE)
                    answer = await self._run(client, keys, (*arguments, 1))
        except redis_errors.ResponseError as exc:
            progress.full = None
            return outcome_of(exc)
        if answer == "FULL":
            return self._full(progress, stream)
        if answer == "UNCONFIRMED":
            error = ServerFailure("the batch is published, but no replica of the Redis server has confirmed it in time")
            return Outcome.failed(error, Verdict.UNREACHABLE)
        progress.published += len(lines)
        progress.unknown = progress.unknown[len(lines) :]
        progress.full = None
        self._publications += 1
        return DELIVERED

    def _call(
        self, partition: int, stream: int, progress: _Progress, batch: Batch, streams: int
    ) -> tuple[tuple[str, ...], tuple[object, ...]]:
        producer = f"{self._producer}-{partition}"
        keys = self._keys.queue(stream), self._keys.size(stream), self._keys.published(stream, producer)
        bound = max(1, self._max_bytes // streams)
        body = batch.body()
        first, overhead = progress.published, scripts.ENTRY_BYTES
        return keys, (first, batch.count, batch.endpoint.value, body, bound, PUBLISHED_MS, overhead)

    async def _run(self, client: RedisClient, keys: tuple[str, ...], arguments: tuple[object, ...]) -> str:
        if self._confirm != "replica":
            return as_text(await run(client, scripts.PUBLISH, keys, *arguments))
        # WAIT is for what its own connection has written. A pipeline uses one; it does not send unknown scripts again.
        pipeline: Any = getattr(client, "pipeline")(transaction=False)  # noqa: B009 (only this way of confirming needs it)
        pipeline.execute_command("EVAL", scripts.PUBLISH.text, len(keys), *keys, *arguments)
        pipeline.execute_command("WAIT", 1, REPLICA_MS)
        answer, replicas = await pipeline.execute()
        return as_text(answer) if as_text(answer) in ("FULL", "MISSING") or int(replicas) >= 1 else "UNCONFIRMED"

    def _full(self, progress: _Progress, stream: int) -> Outcome:
        """
        Pause all partitions while nothing else can be published.

        If others have published since this stream was full the last time, only its own partition waits.
        """
        alone = progress.full is not None and self._publications > progress.full
        progress.full = self._publications
        error = ServerFailure(f"stream {stream} of the queue {self._name} is full: it holds {self._max_bytes} bytes")
        if alone:
            return Outcome.failed(error, Verdict.UNREACHABLE)
        return Outcome(verdict=Verdict.PAUSE, error=error, retry_after=0.0)
