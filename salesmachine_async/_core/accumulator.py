"""
Where messages wait: per partition one open buffer and a queue of sealed batches, bounded exactly.

The usual call must cost next to nothing, so it does next to nothing. A partition's open batch is *granted* room for so
many messages and bytes; a call within the grant appends, counts, and is done. Whatever is more (opening, sealing,
the bounds of the whole queue, overflow, a closed agent) happens when a grant ends. Grants never add up to more than
the room there is, so the bounds hold exactly.

Everything here may be called from any thread. CPython lets another thread or a signal handler run only where code
calls something, a function begins or a loop goes round; a finaliser also where the last reference to its object goes
or, up to 3.11, a container is made. What does none of these is one step. A call within the grant is such a step, and
needs no lock; it stands in `Accumulator.add`, and once more in `Agent.track`. All else happens under the lock, and
ends the grant before it relies on what is in the open batch; what it reads of other partitions, whose grants stand, it
reads so that it errs on the safe side. (Where there is no GIL, every call takes the lock. With the GIL, what runs
Python code between two lines of such a step, a debugger or a tracer written in Python, could let another thread in
there, and the batch be miscounted.)

The lock is re-entrant, because a signal handler or a finaliser may track a message in the middle of a call that is
tracking one. Counters are changed in statements that call nothing, so such a nested message is never lost; it, or the
one it interrupts, may exceed a bound, and it may go out ahead of the batch that is being sealed around it.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from threading import RLock, get_ident
from typing import Final

from salesmachine_async._core.barrier import Barrier
from salesmachine_async._core.batch import OPEN, Batch, Endpoint, seal
from salesmachine_async._core.partition import Partition
from salesmachine_async.errors import AgentClosed, MessageTooLarge, QueueFull
from salesmachine_async.policy import Batching, Overflow, QueueLimits
from salesmachine_async.report import LossReason

# What a call asks for; a bit set.
NOTHING: Final = 0
OPENED: Final = 1  # a batch was opened: its linger begins
SEALED: Final = 2  # a batch was sealed: it can be sent
EVICTED: Final = 4  # older messages were lost to make room: `take_evicted` has them
REFUSED: Final = 8  # the message was not accepted

HIGH_WATER: Final = 0.8
LOW_WATER: Final = 0.5


@dataclass(frozen=True, slots=True)
class Counts:
    """The part of `Stats` that the accumulator knows; the names are the same."""

    accepted: int
    delivered: int
    queued: int
    queued_bytes: int
    in_flight: int
    lost: Counter[LossReason]
    refused: int


class Accumulator:
    """
    Holds messages from the call until their outcome, and counts them.

    Args:
        batching: When a batch is full.
        limits: The bounds, over queued and in-flight messages together.
        partitions: How many partitions.

    Attributes:
        partitions: One per partition.
        unlocked: The only one, if there is but one, to which calls may add within the grant without the lock, in the
            same statements as `add`. None where they must not.
        no_eviction: Threads (by `threading.get_ident`) whose calls must not displace older messages: those
            that are running an ``on_lost`` hook for displaced ones, or that hook would never end.
    """

    def __init__(self, batching: Batching, limits: QueueLimits, partitions: int = 1) -> None:
        self._lock = RLock()
        self._batch_messages = min(batching.max_messages, limits.max_messages)
        self._batch_bytes = min(batching.max_bytes, limits.max_bytes)
        self._limits = limits
        self.partitions = tuple(Partition(index) for index in range(partitions))
        self._only = self.partitions[0] if partitions == 1 else None
        self.unlocked = self._only
        if _free_threaded():
            self.unlocked = None
            self.add = self.add_locked  # type: ignore[method-assign]
        self.no_eviction: set[int] = set()
        self._closed = False
        self._epoch = 0
        self._orders = 0
        # How many calls have asked to be admitted: what tells a call that another came in the middle of it.
        self._turn = 0
        # Each with how many follow it.
        self._barriers: dict[Barrier, int] = {}
        self._evicted: list[Batch] = []
        # Messages that ever left an open batch, and what became of them.
        self._sealed_messages = 0
        self._delivered = 0
        # Complete from the start: Counter's own default for a missing reason is a call.
        self._lost: Counter[LossReason] = Counter(dict.fromkeys(LossReason, 0))
        self._refused = 0

    # The calls of the tracking threads.

    def add(self, uid: object, line: bytes) -> int:
        """
        Append one message to the open batch of its partition.

        Args:
            uid: Decides the partition; a str, of which the encoder has made sure.
            line: The message as encoded, its newline included.

        Returns:
            What is to be done now: `NOTHING`, or a bit set of `OPENED`, `SEALED`, `EVICTED`, `REFUSED`.

        Raises:
            AgentClosed: After `close`.
            MessageTooLarge: The message alone exceeds a batch.
            QueueFull: The queue is full, under `Overflow.RAISE`.
        """
        partition = self._only or self.partition_of(uid)
        size = len(line)
        # One step, without the lock (130 of 1,250 ns, CPython 3.11): nothing from here to the first `return` is a call.
        room = partition.room - size
        if room >= 0 and partition.count < partition.count_limit:
            # The numbers before the line: there may be no memory for one.
            count = partition.count + 1
            partition.open += line
            partition.room = room
            partition.count = count
            return NOTHING
        with self._lock:
            return self._add_slowly(partition, line)

    def add_locked(self, uid: object, line: bytes) -> int:
        """As `add`, with the lock from its beginning: where there is no GIL."""
        with self._lock:
            return Accumulator.add(self, uid, line)

    def add_alias(self, uid: object, line: bytes) -> int:
        """Append an alias: a request of its own, behind all that was accepted before it in its partition."""
        with self._lock:
            partition = self.partition_of(uid)
            flags = self._admit(partition, len(line))
            if not flags & REFUSED:
                self._seal(partition)
                order = self._next_order()
                batch = Batch(
                    seal(bytearray(OPEN + line)),
                    1,
                    endpoint=Endpoint.ALIAS,
                    partition=partition.index,
                    epoch=self._epoch,
                    order=order,
                )
                size = batch.size
                # All at once, as in `_seal`.
                partition.sealed += (batch,)
                partition.sealed_messages += 1
                partition.sealed_bytes += size
                self._sealed_messages += 1
                flags |= SEALED
            return flags

    def partition_of(self, uid: object) -> Partition:
        """Return the queue of the partition that keeps the order of this contact or account."""
        return self.partitions[hash(uid) % len(self.partitions)]

    def refuse(self) -> None:
        """Count a call that was refused before it came here."""
        with self._lock:
            self._refused += 1

    def take_evicted(self) -> list[Batch]:
        """Hand out what was displaced since the last time."""
        with self._lock:
            evicted, self._evicted = self._evicted, []
            return evicted

    # The calls of the partitions.

    def take(self, partition: Partition) -> Batch | None:
        """Move the oldest sealed batch in flight; None if there is none."""
        with self._lock:
            return partition.take()

    def put_back(self, batch: Batch) -> None:
        """Return a batch from flight to the front of its queue."""
        with self._lock:
            self.partitions[batch.partition].replace(batch, batch)

    def split(self, batch: Batch, *, searching: bool = False) -> None:
        """
        Replace a batch in flight by its halves, at the front of its queue.

        Args:
            batch: Of two messages at least.
            searching: Whether the guilty message of a refused batch is sought.
        """
        older, newer = batch.search_halves() if searching else batch.halves()
        with self._lock:
            self.partitions[batch.partition].replace(batch, older, newer)

    def settle(self, batch: Batch, reason: LossReason | None = None) -> None:
        """Give a batch in flight its outcome: delivered, or lost for *reason*."""
        with self._lock:
            partition = self.partitions[batch.partition]
            count, size, following = batch.count, batch.size, self._following(batch)
            # All at once, as in `_seal`; but for several barriers, between which Python looks for signals.
            partition.in_flight -= count
            partition.in_flight_bytes -= size
            partition.flying = None
            if reason is None:
                self._delivered += count
            else:
                self._lost[reason] += count
            for barrier in following:
                barrier.pending[partition.index] -= count
                if reason is None:
                    barrier.delivered += count
                else:
                    barrier.lost[reason] += count

    # The calls of the agent.

    def seal_open(self, partition: Partition) -> bool:
        """Seal the partition's open batch; returns whether it had one."""
        with self._lock:
            return self._seal(partition)

    def barrier(self) -> Barrier:
        """Seal all open batches and follow everything accepted so far. Give it back to `release`."""
        with self._lock:
            for partition in self.partitions:
                self._seal(partition)
            # A storm of flushes shares one barrier.
            barrier = next((barrier for barrier in self._barriers if barrier.accepted == self._sealed_messages), None)
            if barrier is None:
                barrier = Barrier(
                    self._epoch,
                    accepted=self._sealed_messages,
                    delivered=self._delivered,
                    lost=+self._lost,
                    pending=[partition.sealed_messages + partition.in_flight for partition in self.partitions],
                )
                self._epoch += 1
            self._barriers[barrier] = self._barriers.get(barrier, 0) + 1
            return barrier

    def release(self, barrier: Barrier) -> bool:
        """End one following of *barrier*; returns whether it was the last."""
        with self._lock:
            self._barriers[barrier] -= 1
            if self._barriers[barrier]:
                return False
            del self._barriers[barrier]
            return True

    def close(self) -> None:
        """Refuse messages from now on, and seal the rest."""
        with self._lock:
            self._closed = True
            for partition in self.partitions:
                self._seal(partition)

    def abandon(self, reason: LossReason) -> list[Batch]:
        """Lose everything that is queued, and return it, oldest first."""
        with self._lock:
            batches: list[Batch] = []
            for partition in self.partitions:
                self._seal(partition)
                while (batch := partition.take()) is not None:
                    batches.append(batch)
                    self.settle(batch, reason)
            return sorted(batches, key=lambda batch: batch.order)

    def fill(self) -> float:
        """How full the queue is: 0 to 1, by whichever bound is nearer."""
        with self._lock:
            messages, size = self._room()
            return 1 - min(messages / self._limits.max_messages, size / self._limits.max_bytes)

    def counts(self) -> Counts:
        """Return all counts. They add up; `queued_bytes` may include messages of calls that came meanwhile."""
        with self._lock:
            # Read once, as calls go on meanwhile, and so for both sides of the sum.
            opened = sum(partition.count for partition in self.partitions)
            return Counts(
                accepted=self._sealed_messages + opened,
                delivered=self._delivered,
                queued=sum(partition.sealed_messages for partition in self.partitions) + opened,
                queued_bytes=sum(partition.queued_bytes for partition in self.partitions),
                in_flight=sum(partition.in_flight for partition in self.partitions),
                lost=+self._lost,
                refused=self._refused,
            )

    def after_fork_in_child(self) -> None:
        """Replace the lock: a thread of the parent may have held it, and does not exist here to release it."""
        self._lock = RLock()

    # The long way of a call. All of this runs with the lock held.

    def _add_slowly(self, partition: Partition, line: bytes) -> int:
        size = len(line)
        if partition.granted_full and size <= partition.room and partition.count == partition.count_limit:
            # The usual case: the grant reaches to the end of the batch, and this is its last message. (Below the limit
            # another thread has opened the next batch since the caller looked.)
            partition.open += line
            partition.count += 1
            partition.granted_full = False
            self._seal(partition)
            return SEALED
        flags = self._admit(partition, size)
        if flags & REFUSED:
            return flags
        # Full already: its sealing was broken off by a signal handler that raised.
        full = partition.count >= self._batch_messages or len(partition.open) + size > self._batch_bytes
        if full and self._seal(partition):
            flags |= SEALED
        if not partition.count:
            partition.order = self._next_order()
            flags |= OPENED
        partition.open += line
        partition.count += 1
        if partition.count >= self._batch_messages:
            self._seal(partition)
            return (flags | SEALED) & ~OPENED
        self._grant(partition)
        return flags

    def _admit(self, partition: Partition, size: int) -> int:
        """Make room for one message of *size* bytes in the open batch of *partition*, by the policy; end its grant."""
        partition.revoke()
        self._turn += 1
        if self._closed:
            raise AgentClosed("the agent is closed: it accepts no more messages")
        if size + len(OPEN) > self._batch_bytes:
            limit = self._batch_bytes - len(OPEN) - 1  # a bracket before it, and one behind
            raise MessageTooLarge("message", f"is {size - 1} bytes, and a batch holds one of {limit} at most")
        flags = NOTHING
        while not self._fits(size):
            if (
                self._limits.overflow is Overflow.DROP_OLDEST
                and get_ident() not in self.no_eviction
                and self._fits_an_empty_queue(size)
                and self._evict_oldest()
            ):
                flags |= EVICTED
                continue
            self._refused += 1
            if self._limits.overflow is Overflow.RAISE:
                limits = self._limits
                raise QueueFull(f"the queue is full ({limits.max_messages} messages or {limits.max_bytes} bytes)")
            return flags | REFUSED
        return flags

    def _fits(self, size: int) -> bool:
        if len(self.partitions) > 1:
            # The grants first: other partitions use theirs meanwhile, and then there is less room and as much less promised.
            promised = sum(partition.promised for partition in self.partitions)
            promised_bytes = sum(partition.room for partition in self.partitions)
            messages, room = self._room()
            if messages > promised and room - size >= promised_bytes:
                return True
            # It fits only in what partitions were granted and have not used, if at all.
            for partition in self.partitions:
                partition.revoke()
        messages, room = self._room()
        return messages >= 1 and room >= size

    def _fits_an_empty_queue(self, size: int) -> bool:
        """Whether displacing can help at all: what is in flight stays."""
        messages = sum(partition.in_flight for partition in self.partitions)
        in_flight_bytes = sum(partition.in_flight_bytes for partition in self.partitions)
        return messages < self._limits.max_messages and in_flight_bytes + size <= self._limits.max_bytes

    def _room(self) -> tuple[int, int]:
        messages, size = self._limits.max_messages, self._limits.max_bytes
        for partition in self.partitions:
            messages -= partition.sealed_messages + partition.count + partition.in_flight
            size -= partition.sealed_bytes + len(partition.open) - len(OPEN) + partition.in_flight_bytes
        return messages, size

    def _grant(self, partition: Partition) -> None:
        """
        Let the next calls of this partition go the short way, as far as the room reaches.

        The message that fills the batch, by count or by bytes, is left to the long way, which seals it.
        """
        turn = self._turn
        partition.revoke()  # what a call in the middle of this one has granted knows nothing of this one's message
        messages, size = self._share(partition) if len(self.partitions) > 1 else self._room()
        missing = self._batch_messages - partition.count
        short = min(missing - 1, messages)
        room = max(0, min(self._batch_bytes - len(partition.open), size))
        # Else a call in the middle has used of the room, and may have granted it; or has sealed the batch, and the next
        # one must be opened the long way.
        if self._turn == turn and partition.count:
            partition.granted_full = messages >= missing
            partition.count_limit = partition.count + short
            partition.room = room

    def _share(self, partition: Partition) -> tuple[int, int]:
        """Return which part of the room this partition may be granted, as others hold grants too."""
        partitions = len(self.partitions)
        others = [other for other in self.partitions if other is not partition]
        # Before the room, as in `_fits`.
        promised = sum(other.promised for other in others)
        promised_bytes = sum(other.room for other in others)
        messages, size = self._room()
        if messages >= partitions * self._batch_messages and size >= partitions * self._batch_bytes:
            return messages, size  # enough for a whole batch in each
        # Near a bound: a fair part. What other partitions do not use is taken back only if it must be, or the partitions would
        # take from each other with every message.
        if messages - promised < messages // partitions or size - promised_bytes < size // partitions:
            for other in others:
                other.revoke()
            messages, size = self._room()
        return messages // partitions, size // partitions

    def _seal(self, partition: Partition) -> bool:
        """Turn the open batch, if there is one, into a sealed batch at the end of the queue."""
        if not partition.count:
            return False
        buffer = partition.open
        while partition.open is buffer:
            count, order, fresh = partition.count, partition.order, bytearray(OPEN)
            batch = Batch(seal(buffer), count, partition=partition.index, epoch=self._epoch, order=order)
            # Made here: CPython 3.11 may collect garbage, and run finalisers, wherever a tuple or an iterator is made.
            size, sealed = batch.size, iter((batch,))
            # Until here nothing has changed: what a signal handler raises in the middle leaves the batch open. Whoever
            # tracked in the middle has added to this batch, or has sealed it.
            if partition.open is buffer and partition.count == count:
                # All at once, as no call comes between; first what may find no memory.
                partition.sealed += sealed
                partition.open, partition.count = fresh, 0
                partition.count_limit = partition.room = 0
                partition.granted_full = False
                partition.sealed_messages += count
                partition.sealed_bytes += size
                self._sealed_messages += count
        return True

    def _next_order(self) -> int:
        self._orders += 1
        return self._orders

    def _evict_oldest(self) -> bool:
        """Lose the oldest message that is not in flight. False if there is none."""
        while True:
            try:
                oldest = min(
                    (partition for partition in self.partitions if partition.queued),
                    key=lambda partition: partition.sealed[0].order if partition.sealed else partition.order,
                )
                if not oldest.sealed:
                    self._seal(oldest)
                batch = oldest.sealed[0]
            except (ValueError, IndexError):  # pragma: no cover (a call in the middle of this one took it)
                return False
            count = batch.count
            message = batch.oldest() if count > 1 else batch
            size, following, evicted = message.size, self._following(batch), (message,)
            # Until here nothing has changed, and from here on nothing is called, as in `_seal`.
            if oldest.sealed and oldest.sealed[0] is batch and batch.count == count:
                if count > 1:
                    batch.start += size
                    batch.count -= 1
                else:
                    del oldest.sealed[0]
                oldest.sealed_messages -= 1
                oldest.sealed_bytes -= size
                self._evicted += evicted
                self._lost[LossReason.QUEUE_FULL] += 1
                for barrier in following:
                    barrier.pending[oldest.index] -= 1
                    barrier.lost[LossReason.QUEUE_FULL] += 1
                return True

    def _following(self, batch: Batch) -> list[Barrier]:
        """Return the barriers that *batch* falls under."""
        return [barrier for barrier in self._barriers if batch.epoch <= barrier.epoch]


def _free_threaded() -> bool:
    """
    Whether this is a build on which several threads may run Python code at once.

    Asked of the build and not whether it does so now: importing an extension turns the GIL on for a while.
    Source: docs.python.org/3/howto/free-threading-python.html, "Identifying free-threaded Python".
    """
    return "free-threading" in sys.version
