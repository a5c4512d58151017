"""
The queue of messages, from the call that accepts them to their outcome.

A batch's life, and the method that makes each step:

    ========== ============= ================ =====================================================
    from       to            by               what happens
    ========== ============= ================ =====================================================
    (call)     pending       `Partition.append` or `add`: a line is appended
    pending    open          `collect`        the line moves to the partition's open batch
    open       sealed        `collect`, `take`, `barrier`: the open batch is full, due, or flushed
    sealed     in flight     `take`           the sender works on it
    in flight  delivered     `settle`         the server answered 2xx
    in flight  lost          `settle`         it was given up, for a reason
    in flight  sealed        `put_back`, `split`: at the front, whole or in two parts
    in flight  sealed        `defer`          in its place, and a message of another contact at the front
    sealed     lost          `displace`       QUEUE_FULL, under `Overflow.DROP_OLDEST`
    sealed     lost          `abandon`        CLOSED
    sealed     lost          `expire`         EXPIRED
    sealed     spilled       `spill`          its lines leave the memory, as they are in the spool
    spilled    sealed        `restore`        its lines were read back; lost as DAMAGED where they could not be
    sealed     kept          `keep`           it is on disk, and another process delivers it
    (outside)  sealed        `put`            a whole batch comes from a spool or a relay
    ========== ============= ================ =====================================================

Two rules make this safe for any thread, signal handler and finaliser, without a lock:

1. A call does two things only: it appends its line to `Partition.pending`, and then compares the number of pending
   lines with `Partition.notice.at`. Below it, the call is done. Else it notifies the loop (`announce`). Everything
   else is done by the loop's thread, one step after the other.
2. Each of these steps first builds what it needs and then stores it with assignments that call nothing: CPython runs
   signal handlers, and switches threads, where a function of Python begins, after a call, and at a jump backwards.
   ``deque += ...`` is one step of C without such a point; a property or a loop is not. A step that an exception
   interrupts (KeyboardInterrupt, a time limit) has happened or has not. Lines move between two containers within one
   call of C, so that each is always in exactly one of them. What moves messages makes `Partition.changes` odd while it
   does, so that another thread can copy all containers of one moment (`snapshot`).

So a message whose call is interrupted by an exception is accepted if its line was appended, and else it is not; the
caller cannot tell. `interrupted` then notifies the loop in the place of the rest of the call. An interrupted step of
the loop is repeated by the next look at its partition, and a batch in flight is put back by its sender: nothing is
lost, and what was being sent may be sent twice, with the same ids.

A notification cannot get lost, because each side writes before it reads. The call appends, then reads the number; the
loop replaces the number by 0, then looks at what is pending. The number is above 0 only while the loop is certain to
look again: a notification is under way, the linger timer runs, or the linger is over and the sender takes the batch,
which collects again. It stays 0 for as long as a look takes lines off, because a call that raised it then would count
lines that are about to go, and others could exceed the bounds unseen.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate, groupby, islice, repeat, starmap, takewhile
from threading import get_ident
from typing import Final, NamedTuple
from weakref import ref

from salesmachine_async._core.barrier import Barrier, Tally
from salesmachine_async._core.batch import AliasLine, Batch
from salesmachine_async._core.bounds import FRAMING_BYTES, Bounds, closed_error, decline
from salesmachine_async._core.partition import LOOKING, Notice, Partition, partition_of
from salesmachine_async._core.receipt import Receipt, RejectedLine
from salesmachine_async.errors import AgentClosed, DeliveryError, QueueFull
from salesmachine_async.policy import Batching, Overflow, QueueLimits
from salesmachine_async.report import DropReason, Endpoint, LossReason, Report

__all__ = ["Accumulator", "Counts"]

# About how many bytes of messages `Accumulator.defer` looks through: to decode them takes a few milliseconds.
LOOK_AHEAD_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class Counts:
    """The part of `Stats` that the accumulator knows; the names are the same."""

    accepted: int
    recovered: int
    delivered: int
    kept: int
    queued: int
    queued_bytes: int
    spooled: int
    spooled_bytes: int
    in_flight: int
    lost: Counter[LossReason]
    dropped: Counter[DropReason]


class Accumulator:
    """
    Holds messages until their outcome, and counts them.

    Args:
        batching: When a batch is full.
        limits: The bounds, over all messages without an outcome.
        partitions: Number of ordered queues.
        extra: Number of further ones at the end, that no call belongs to.

    Attributes:
        partitions: The queues.
        long: Lines above this many bytes must be added with `add` (see `Bounds`).
        wake: Called in any thread to have the loop collect a partition's lines. It must not raise by itself.
        displaced: Batches lost by `displace` and `abandon` that no hook has seen yet; take them from the left.
        reporting_thread: The thread (by `threading.get_ident`) in which a hook is being called with them; 0 for none.
    """

    def __init__(self, batching: Batching, limits: QueueLimits, partitions: int = 1, extra: int = 0) -> None:
        self._ordinary = partitions
        self.partitions: tuple[Partition, ...] = tuple(Partition(index) for index in range(partitions + extra))
        self._bounds = Bounds(batching, limits, self.partitions)
        self.long = self._bounds.long
        self.wake: Callable[[Partition], None] = _nothing_to_wake
        self.displaced: deque[tuple[LossReason, Batch]] = deque()
        self.reporting_thread = 0
        # Whether everything that was accepted before the close has been collected.
        self._complete = False
        self._sealed_batches = 0
        # Weak references, so that a flush ends without a step here: it may be collected in any thread, at any moment.
        self._tallies: dict[ref[Barrier], Tally] = {}
        # Receipts with nothing pending that were not called yet; taken from the left.
        self._settled_receipts: deque[Receipt] = deque()
        # By the reason's text, because a lookup by an Enum member calls Python code.
        self._dropped = dict.fromkeys((reason.value for reason in DropReason), 0)
        # Whether there may be an `AliasLine` among the lines. To look at the type of each costs 2 % of its delivery.
        self._aliased = False

    def partition_for(self, uid: str) -> Partition:
        """Return the queue that keeps the order of this contact or account."""
        return self.partitions[partition_of(uid, self._ordinary) if self._ordinary > 1 else 0]

    def alias_line(self, line: bytes) -> AliasLine:
        """Return an encoded alias as a line to add. A batch ends before it."""
        self._aliased = True
        return AliasLine(line)

    # Steps of a call, in any thread.

    def add(self, partition: Partition, line: bytes) -> bool:
        """
        Append a line after a look at the bounds: one that is long, or that `Partition.append` has declined.

        Returns:
            True if accepted, False if dropped because the queue is full.

        Raises:
            AgentClosed: After `close`.
            MessageTooLarge: The line alone exceeds a batch.
            QueueFull: The queue is full, under `Overflow.RAISE`.
        """
        bounds, size = self._bounds, len(line)
        bounds.spare_bytes -= size
        roomy = bounds.spare_bytes >= 0 and size + FRAMING_BYTES <= bounds.batch_bytes
        fits = roomy or bounds.have_room(size)
        # In the thread of the hook that is called with what was displaced nothing is, or it would be called for ever.
        if not fits and (get_ident() == self.reporting_thread or not bounds.may_be_exceeded(size)):
            self.drop(DropReason.QUEUE_FULL)
            limits = bounds.limits
            if limits.overflow is Overflow.RAISE:
                raise QueueFull(f"the queue is full ({limits.max_messages} messages or {limits.max_bytes} bytes)")
            return False
        pending = partition.pending
        if size > self.long:
            partition.large_bytes += size
        pending.append(line)
        if not roomy and partition.append is not decline:
            bounds.watch()  # else short lines would be appended unseen in the room that this one has taken
        if fits and len(pending) < partition.notice.at and partition.large_bytes < bounds.batch_bytes:
            return True
        return self.announce(partition, line)

    def announce(self, partition: Partition, line: bytes) -> bool:
        """
        Notify the loop that *partition* has lines, after the caller has appended *line*.

        Returns:
            True.

        Raises:
            AgentClosed: The agent was closed before the line was appended; the line was taken back.
        """
        notice = partition.notice  # before the look at `closed`: `close` replaces it
        if self._bounds.closed:
            return _withdraw(partition, line)
        if not notice.sent:
            self.wake(partition)
        # The number is of the time before the look at the bounds, or other threads could add more lines than are left.
        at = len(partition.pending) + self._bounds.step
        self._bounds.watch()
        if notice is not LOOKING:
            # If the loop has begun to look since, it has replaced the notice, and these have no effect.
            notice.sent = True
            notice.at = at
        return True

    def interrupted(self, partition: Partition, line: bytes) -> None:
        """Notify the loop after an interrupted call, which may have appended *line*; once closed, take it back."""
        if not self._bounds.closed:
            self.wake(partition)
            return
        with suppress(AgentClosed):
            _withdraw(partition, line)

    def drop(self, reason: DropReason) -> None:
        """Count a call that was not accepted."""
        name = reason.value
        self._dropped[name] += 1

    # Steps of the loop's thread.

    def collect(self, partition: Partition) -> bool:
        """
        Move the lines that are pending now to the open batch, and seal it each time that it is full.

        Lines that are appended during it wait for the next look, or a flood of calls would never let this one end. Once
        a barrier stands behind all that was accepted before the close, lines are left to their calls, which take them
        back: collected now, they would be accepted and in no report.

        Returns:
            Whether another batch is open than before.
        """
        if self._complete:
            return False
        another = not partition.lines
        partition.notice = LOOKING  # before the look: from here on every call notifies the loop
        left = len(partition.pending)
        left -= self._collect_some(partition, left)  # also none: an interrupted look may have left a full batch
        while count := self._full(partition):
            self._seal_some(partition, count)
            another = True
            left -= self._collect_some(partition, left)
        partition.notice = Notice()
        return another and bool(partition.lines)

    def quieten(self, partition: Partition) -> None:
        """Let calls append without notifying the loop, which is certain to look again: its linger timer runs."""
        bounds = self._bounds
        if partition.append is decline:
            bounds.stop_guarding()
        partition.notice = notice = Notice()  # before the look at `closed`, and at the bounds
        if not bounds.closed:
            at = min(bounds.step, bounds.batch_messages - len(partition.lines))
            bounds.watch(anew=True)
            notice.at = at

    def seal(self, partition: Partition) -> None:
        """Seal everything that was accepted before."""
        self.collect(partition)
        while partition.lines:
            self._seal_some(partition, self._fitting(partition))

    def take(self, partition: Partition) -> Batch | None:
        """Move the oldest batch in flight: a sealed one, else the open one if it is due; None: it is not there."""
        if partition.due and not partition.sealed:
            self.seal(partition)
        if not partition.sealed or partition.sealed[0].spilled:
            return None
        batch = partition.sealed[0]
        partition.changes |= 1
        partition.in_flight = batch
        del partition.sealed[0]
        partition.changes += 1
        return batch

    def put(self, batch: Batch) -> None:
        """
        Queue a whole batch that was not accepted by calls, behind what was accepted before in its partition.

        It is counted as recovered, whatever the bounds say, and gets its `number` and `first` here.

        Args:
            batch: Its `Batch.partition` is set; its `Batch.receipt` is settled with the outcomes of its messages.
        """
        partition = self.partitions[batch.partition]
        self.wake(partition)  # first, so that what was put is sent, even if this is interrupted
        self.seal(partition)
        batch.number, batch.first = self._sealed_batches + 1, partition.numbered
        count, size = batch.count, batch.size
        # From here on nothing is called, as in `_seal_some`.
        partition.changes |= 1
        partition.sealed += (batch,)
        partition.numbered += count
        partition.unsettled += count
        partition.unsettled_bytes += size
        partition.recovered += count
        self._sealed_batches += 1
        self._bounds.spare_bytes -= size
        partition.changes += 1
        self._bounds.watch()

    def put_back(self, batch: Batch) -> None:
        """Return a batch from flight to the front of its queue."""
        self._replace(batch, batch)

    def split(self, batch: Batch, *, searching: bool = False) -> None:
        """
        Replace a batch in flight by its halves, at the front of its queue.

        Args:
            batch: Of two messages at least.
            searching: Whether a rejected message is being searched.
        """
        self._replace(batch, *(batch.search_halves() if searching else batch.halves()))

    def defer(self, batch: Batch) -> bool:
        """
        Return a single message in flight to its place, and bring to the front one that may be sent before it.

        That is one that has no uid in common with any before it; if possible, one that has not failed alone itself.

        Returns:
            Whether there was one; else the message stays in flight.
        """
        partition = self.partitions[batch.partition]
        self.seal(partition)
        waiting = [*partition.sealed]
        # By the first message: the parts of a batch share its number.
        waiting.insert(next((i for i, each in enumerate(waiting) if each.first > batch.first), len(waiting)), batch)
        place = _first_independent(waiting, batch)
        if place is None:
            return False
        index, at = place
        older, one, newer = waiting[index].cut_out(at)
        sealed = deque([*one, *waiting[:index], *older, *newer, *waiting[index + 1 :]])
        _return(partition, sealed)
        return True

    def others_wait(self, batch: Batch) -> bool:
        """Return whether a message of another uid than this single message waits that has not failed alone itself."""
        partition = self.partitions[batch.partition]
        self.seal(partition)
        (own,) = batch.uids()
        return any(not each.lone_failures and own.isdisjoint(uids) for _, each, _, uids in _ahead(partition.sealed))

    def settle(self, batch: Batch, reason: LossReason | None = None, error: DeliveryError | None = None) -> None:
        """Give a batch in flight its outcome: delivered, or lost for *reason*, because of *error*."""
        if reason is LossReason.REJECTED:
            batch.found_guilty()
        partition, receipt = self.partitions[batch.partition], batch.receipt
        outcome = Tally(batch.count) if reason is None else Tally(lost={reason: batch.count})
        after = self._after(partition, batch, outcome)
        rejected = _rejected(batch, reason, error) if receipt is not None else ()
        # From here on nothing is called.
        partition.in_flight = None
        partition.unsettled, partition.unsettled_bytes, partition.tally, self._tallies = after
        batch.partner = None  # a hook may keep a reference to the batch, which must not keep its siblings alive
        if receipt is not None:
            receipt.rejected += rejected
            receipt.pending -= batch.count
            if receipt.pending == 0:
                self._settled_receipts += (receipt,)
        self.answer_receipts()

    def spill(self, partition: Partition, durable: int, leave: int, leave_bytes: int) -> None:
        """
        Let sealed batches leave the memory that are on disk, but for the oldest ones, which are sent next.

        Args:
            partition: Whose.
            durable: The number behind the last message that is on disk.
            leave: Batches stay until they, with the one in flight, have so many messages, or *leave_bytes*. Behind a
                message alone in flight one stays, because `defer` may have to bring it forward.
            leave_bytes: The same in bytes.
        """
        messages, size = partition.in_flight_size()
        for batch in partition.sealed:
            if batch.spilled:
                break
            if messages >= leave or size >= leave_bytes:
                _spill(partition, batch, durable)
            messages += batch.count
            size += batch.size
        else:
            return
        # The oldest first, so that what an interruption leaves is found here again.
        for batch in reversed([*takewhile(lambda each: not each.spilled, reversed(partition.sealed))]):
            _spill(partition, batch, durable)

    def restore(self, batch: Batch, lines: list[bytes | None]) -> None:
        """
        Take messages back that have left the memory.

        Args:
            batch: A spilled batch in its queue.
            lines: Its messages. Those that are None are lost as `LossReason.DAMAGED`; they are in `displaced`. Until
                then, also after an interruption, they are a spilled batch of their own.
        """
        partition = self.partitions[batch.partition]
        parts: list[Batch] = []
        gaps: list[Batch] = []
        for known, run in groupby(enumerate(lines), lambda each: each[1] is not None):
            found = [*run]
            start = found[0][0]
            if known:
                parts.append(batch.part(start, [line for _, line in found if line is not None]))
            else:
                gaps.append(batch.missing(start, len(found)))
                parts.append(gaps[-1])
        sealed, oldest = partition.sealed, parts[0]
        at = sealed.index(batch)
        if len(parts) > 1:
            sealed = deque([*islice(sealed, at), *parts, *islice(sealed, at + 1, None)])
        size = batch.size
        spilled = partition.spilled - batch.count + sum(gap.count for gap in gaps)
        unsettled_bytes = partition.unsettled_bytes - size + sum(part.size for part in parts)
        # From here on nothing is called.
        partition.changes |= 1
        sealed[at] = oldest  # in place, because there may be many others
        partition.sealed = sealed
        partition.spilled = spilled
        partition.spilled_bytes -= size
        partition.unsettled_bytes = unsettled_bytes
        self._bounds.spare_bytes -= size
        partition.changes += 1
        for gap in gaps:
            self.lose(gap, LossReason.DAMAGED)
        self._bounds.watch()

    def keep(self, partition: Partition, end: int) -> None:
        """Leave what is sealed and has a number below *end* to another process, which finds it on disk."""
        for batch in tuple(partition.sealed):
            below = batch.count if batch.spilled else min(batch.count, end - batch.first)
            if below > 0:
                self._settle_sealed(batch, below, None)

    def displace(self) -> bool:
        """
        Under `Overflow.DROP_OLDEST`, lose the oldest messages that are not in flight until the bounds hold again.

        Returns:
            Whether any were lost; they are in `displaced`.
        """
        bounds = self._bounds
        if bounds.limits.overflow is not Overflow.DROP_OLDEST or min(bounds.room()) >= 0:
            return False
        for partition in self.partitions:
            self.collect(partition)
        lost = False
        while min(room := bounds.room(exactly=True)) < 0:
            oldest = self._oldest_sealed(in_memory=True)
            if oldest is None:
                break
            self._settle_sealed(oldest, _covering(oldest, *room), LossReason.QUEUE_FULL)
            lost = True
        return lost

    def expire(self, partition: Partition, number: int) -> None:
        """Lose what is queued in batches up to this number; it is in `displaced`."""
        while partition.sealed and partition.sealed[0].number <= number:
            self.lose(partition.sealed[0], LossReason.EXPIRED)

    def lose(self, batch: Batch, reason: LossReason) -> None:
        """Lose a sealed batch; it is in `displaced`."""
        self._settle_sealed(batch, batch.count, reason)

    @property
    def sealed_batches(self) -> int:
        """The number of the batch that was sealed last."""
        return self._sealed_batches

    def abandon(self, reason: LossReason) -> None:
        """Lose everything that is queued, oldest first; it is in `displaced`."""
        while (oldest := self._oldest_sealed()) is not None:
            self._settle_sealed(oldest, oldest.count, reason)

    def barrier(self) -> Barrier:
        """Seal everything and return a barrier behind it. Its messages are counted for as long as it lives."""
        closed = self._bounds.closed  # before the look, or a call might be accepted between the two
        for partition in self.partitions:
            self.seal(partition)
        self._complete = closed
        number = self._sealed_batches
        for known in self._tallies:
            if (barrier := known()) is not None and barrier.number == number:
                return barrier  # many flushes at the same time share one
        tally = self._tally()
        barrier = Barrier(number, tally.total() + sum(partition.unsettled for partition in self.partitions))
        self._tallies = {**self._tallies, ref(barrier): tally}
        return barrier

    def passed(self, barrier: Barrier, partition: Partition) -> bool:
        """Return whether everything before *barrier* in *partition* has an outcome."""
        # The numbers ascend, but for one message that `defer` has brought forward: it is in flight, or at the front.
        oldest = (partition.in_flight, *islice(partition.sealed, 2))
        return all(batch is None or batch.number > barrier.number for batch in oldest)

    def report(self, barrier: Barrier) -> Report:
        """Return the outcomes of the messages before *barrier*."""
        return barrier.report(self._tallies[ref(barrier)])

    def close(self) -> None:
        """Reject all further calls. Any thread may close, also in the middle of another step."""
        self._bounds.closed = True
        self._bounds.guard()
        for partition in self.partitions:
            partition.notice = Notice()

    # Snapshots, in any thread.

    def is_closed(self) -> bool:
        """Return whether `close` was called."""
        return self._bounds.closed

    def fill(self) -> float:
        """Return how full the queue is, from 0 to 1, by whichever bound is nearer."""
        return self._bounds.fill()

    def counts(self) -> Counts:
        """
        Return all counts.

        They add up by construction, because what was accepted is derived from the rest. Without a GIL, a snapshot in
        the very moment in which another thread settles a batch may count this batch twice or not at all.
        """
        recovered = queued = size = in_flight = spooled = spooled_bytes = 0
        tally = Tally()
        for partition in self.partitions:
            loose, unsettled, flying, put, settled = _consistent(partition)
            flying_count, flying_bytes = (flying.count, flying.size) if flying is not None else (0, 0)
            recovered += put
            tally = tally.plus(settled)
            spooled += partition.spilled
            spooled_bytes += partition.spilled_bytes
            in_flight += flying_count
            queued += loose + unsettled - flying_count
            size += partition.loose_bytes() + partition.unsettled_bytes - flying_bytes
        return Counts(
            accepted=tally.total() + queued + in_flight - recovered,
            recovered=recovered,
            kept=tally.kept,
            spooled=spooled,
            spooled_bytes=spooled_bytes,
            delivered=tally.delivered,
            queued=queued,
            queued_bytes=size,
            in_flight=in_flight,
            lost=Counter(tally.lost),
            dropped=Counter({reason: n for reason in DropReason if (n := self._dropped[reason.value])}),
        )

    # The open batch.

    def _collect_some(self, partition: Partition, most: int) -> int:
        """Move at most *most* pending lines, and no more than the open batch may still hold; returns how many."""
        lines = partition.lines
        missing = min(most, self._bounds.batch_messages - len(lines))
        oldest = starmap(partition.pending.popleft, repeat((), missing))
        partition.changes |= 1
        try:
            lines += oldest  # one call of C, so that no exception leaves a line in neither container
        except IndexError:  # a call that found the agent closed has taken its line back in the meantime
            pass
        finally:
            partition.changes += 1
        return missing

    def _full(self, partition: Partition) -> int:
        """Return how many lines of the open batch must be sealed, because no other line fits; 0 if one does."""
        lines = partition.lines
        count = self._fitting(partition)
        is_alias = count == 1 and type(lines[0]) is AliasLine
        is_full = count < len(lines) or count == self._bounds.batch_messages or is_alias
        return count if is_full else 0

    def _fitting(self, partition: Partition) -> int:
        """Return how many lines of the open batch the next batch takes."""
        lines = partition.lines
        if self._aliased and AliasLine in set(map(type, lines)):
            alias = [*map(type, lines)].index(AliasLine)
            lines = lines[:alias] or lines[:1]
        # So few lines, none of them long, fit in any case: the usual one, in which nothing is added up.
        if not partition.large_bytes and len(lines) <= self._bounds.step:
            return len(lines)
        sizes = accumulate(len(line) + FRAMING_BYTES for line in lines)
        return sum(1 for size in sizes if size <= self._bounds.batch_bytes)

    def _seal_some(self, partition: Partition, count: int) -> None:
        """Seal the *count* oldest lines of the open batch."""
        lines, rest = partition.lines[:count], partition.lines[count:]
        number = self._sealed_batches + 1
        batch = Batch.of_lines(lines, partition=partition.index, number=number)
        batch.first = partition.numbered
        unsettled, unsettled_bytes = partition.unsettled + count, partition.unsettled_bytes + batch.size
        large_bytes = sum(size for size in map(len, lines) if size > self.long) if partition.large_bytes else 0
        # From here on nothing is called. The first statements are the only ones that may fail, for want of memory.
        partition.changes |= 1
        partition.sealed += (batch,)
        partition.numbered += count
        partition.lines = rest
        partition.due = False
        partition.unsettled = unsettled
        partition.unsettled_bytes = unsettled_bytes
        # Where nothing is left, nothing is long: this also ends what interrupted calls have left.
        partition.large_bytes = partition.large_bytes - large_bytes if rest or partition.pending else 0
        self._sealed_batches = number
        partition.changes += 1

    # Outcomes.

    def _replace(self, batch: Batch, *parts: Batch) -> None:
        """Queue *parts* at the front in the place of a batch in flight."""
        partition = self.partitions[batch.partition]
        _return(partition, deque((*parts, *partition.sealed)))

    def _after(self, partition: Partition, batch: Batch, outcome: Tally) -> _After:
        """Return the counts as they are once the messages of *batch* have this outcome."""
        return _After(
            partition.unsettled - batch.count,
            partition.unsettled_bytes - batch.size,
            partition.tally.plus(outcome),
            {
                known: tally.plus(outcome) if batch.number <= barrier.number else tally
                for known, tally in self._tallies.items()
                if (barrier := known()) is not None
            },
        )

    def _tally(self) -> Tally:
        return reduce(Tally.plus, (partition.tally for partition in self.partitions))

    def _oldest_sealed(self, *, in_memory: bool = False) -> Batch | None:
        """Return the oldest sealed batch, in memory perhaps; where there is none, seal the open ones first."""
        oldest = _oldest(self.partitions, in_memory=in_memory)
        if oldest is None:
            for partition in self.partitions:
                self.seal(partition)
            oldest = _oldest(self.partitions, in_memory=in_memory)
        return oldest

    def _settle_sealed(self, batch: Batch, count: int, reason: LossReason | None) -> None:
        """Give the *count* oldest messages of a sealed batch their outcome: lost for *reason*, or kept on disk."""
        partition = self.partitions[batch.partition]
        at = partition.sealed.index(batch)
        whole = count >= batch.count
        older, newer = (batch, batch) if whole else batch.split(count)
        outcome = Tally(kept=older.count) if reason is None else Tally(lost={reason: older.count})
        after = self._after(partition, older, outcome)
        displaced = [] if reason is None else [(reason, older)]
        receipt = None if reason is None else older.receipt
        spilled, spilled_bytes = (batch.count, batch.size) if batch.spilled else (0, 0)
        # From here on nothing is called, as in `_seal_some`.
        self.displaced += displaced
        if whole:
            del partition.sealed[at]
        else:
            partition.sealed[at] = newer
        partition.unsettled, partition.unsettled_bytes, partition.tally, self._tallies = after
        partition.spilled -= spilled
        partition.spilled_bytes -= spilled_bytes
        older.partner = None
        if receipt is not None:
            receipt.pending -= older.count
            if receipt.pending == 0:
                self._settled_receipts += (receipt,)
        self.answer_receipts()

    def answer_receipts(self) -> None:
        """Call the receipts that have nothing pending, including those that an interrupted step has left."""
        while self._settled_receipts:
            self._settled_receipts[0].answer()
            del self._settled_receipts[0]


class _After(NamedTuple):
    """The result of `Accumulator._after`."""

    unsettled: int
    unsettled_bytes: int
    tally: Tally
    tallies: dict[ref[Barrier], Tally]


def _spill(partition: Partition, batch: Batch, durable: int) -> None:
    """Let a sealed batch leave the memory if it is on disk."""
    count, size = batch.count, batch.size
    if batch.first + count > durable or batch.receipt is not None:
        return
    # From here on nothing is called.
    batch.spilled, batch.stored = True, b""
    partition.spilled += count
    partition.spilled_bytes += size


def _nothing_to_wake(partition: Partition) -> None:
    """Do nothing, because no loop runs yet; it collects all partitions when it starts."""


def _withdraw(partition: Partition, line: bytes) -> bool:
    """Take back a line that was appended while the agent was closed."""
    try:
        partition.pending.remove(line)
    except ValueError:
        return True  # the loop has collected it, so it was accepted
    raise closed_error()


def _return(partition: Partition, sealed: deque[Batch]) -> None:
    """Queue the batch in flight again, as part of *sealed*."""
    partition.changes |= 1
    partition.sealed = sealed
    partition.in_flight = None
    partition.changes += 1


def _rejected(batch: Batch, reason: LossReason | None, error: DeliveryError | None) -> list[RejectedLine]:
    """Return the messages of a batch for its receipt, if the server rejected them."""
    if reason in (LossReason.REJECTED, LossReason.TOO_LARGE):
        return [RejectedLine(line, error) for line in batch.lines()]
    return []


def _consistent(partition: Partition) -> tuple[int, int, Batch | None, int, Tally]:
    """Return one partition's counts: loose lines, unsettled messages, batch in flight, messages put, outcomes."""
    while True:
        lines = partition.lines
        collected = len(lines)
        loose = collected + len(partition.pending)
        # No calls here, so that no other thread settles a batch in between.
        unsettled, flying, put, tally = partition.unsettled, partition.in_flight, partition.recovered, partition.tally
        if partition.lines is lines and len(lines) == collected:
            return loose, unsettled, flying, put, tally


def _oldest(partitions: Iterable[Partition], *, in_memory: bool) -> Batch | None:
    """Return the sealed batch that stands at the front of its partition and was sealed before the other ones."""
    fronts = (
        next((batch for batch in partition.sealed if not (in_memory and batch.spilled)), None)
        for partition in partitions
    )
    return min((batch for batch in fronts if batch is not None), key=lambda batch: batch.number, default=None)


def _covering(batch: Batch, messages: int, size: int) -> int:
    """Return how many of its oldest messages must go, for there is room for so many messages and bytes (negative)."""
    if size >= 0:
        return -messages
    sizes = accumulate(map(len, batch.lines()))
    return max(-messages, 1 + sum(1 for each in sizes if each < -size))


def _first_independent(waiting: list[Batch], batch: Batch) -> tuple[int, int] | None:
    """Return where the message stands that `Accumulator.defer` brings forward: the index of its batch, that in it."""
    before: set[str] = set()
    last: tuple[int, int] | None = None
    for index, each, at, uids in _ahead(waiting):
        if each is not batch and each.endpoint in (Endpoint.BATCH, batch.endpoint) and before.isdisjoint(uids):
            if not each.lone_failures:
                return index, at
            if last is None or each.lone_failures[-1] < waiting[last[0]].lone_failures[-1]:
                last = index, at  # of those that have failed alone, that which waits for the longest time
        before |= uids
    return last


def _ahead(batches: Iterable[Batch]) -> Iterator[tuple[int, Batch, int, set[str]]]:
    """Yield the first messages: the index of the batch, it, the index in it, and the uids that the message concerns."""
    size = 0
    for index, batch in enumerate(batches):
        for at, uids in enumerate(batch.uids()):
            yield index, batch, at, uids
        size += batch.size
        if size >= LOOK_AHEAD_BYTES or batch.spilled:  # what is on disk only may concern any uid
            break
