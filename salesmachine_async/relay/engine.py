"""
Protocol of an engine: a queue of sealed batches in ordered partitions, each with one owner at a time.

An engine on Kafka fits the same protocol (by aiokafka; experimental, not written): a partition is one of a topic, and
an entry is a record. `acquire` and `release` follow the group's rebalance: a lease is an assignment, its token the
generation. `fetch` is ``getmany``, and reads from the committed offset again after an error. `settle` commits the
longest settled prefix, after the dead letters were written to a topic of their own. `pause` and `permit` use a
compacted topic with the end of the pause; the rate is divided by the number of `members`. `lag` compares the end
offsets with those committed. Kafka's retention has to exceed the longest outage, because it deletes what is older,
delivered or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import orjson

from salesmachine_async._core.batch import Batch
from salesmachine_async.errors import SalesmachineError
from salesmachine_async.report import Endpoint

__all__ = [
    "DeadLetter",
    "DeadLetterStore",
    "Engine",
    "Entry",
    "FleetStatus",
    "Lease",
    "LeaseLost",
    "PartitionStatus",
    "RelayStatus",
]


class LeaseLost(SalesmachineError):
    """The relay does not own the partition any more, so it must not send or settle anything of it."""


class Lease(Protocol):
    """
    The ownership of one partition for some time.

    Attributes:
        partition: Its index.
    """

    partition: int

    @property
    def left(self) -> float:
        """Seconds until it ends, at least, by a clock that also runs while the process is stopped; negative after."""
        ...


L = TypeVar("L", bound=Lease)


@dataclass(frozen=True, slots=True)
class Entry:
    """
    A sealed batch as an agent has published it.

    Attributes:
        id: Its position in the partition, unique.
        endpoint: Where its messages go.
        count: Number of messages; 0 if the entry is damaged.
        body: The request's body, as of `Batch.body`; of a damaged entry, what it held instead.
    """

    id: str
    endpoint: Endpoint
    count: int
    body: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """
    A message that Salesmachine has rejected, kept for inspection.

    Attributes:
        partition: The partition that it came from.
        id: Its position among the dead letters of the partition; empty until it is stored.
        time: When it was stored, in seconds since 1970; 0.0 until then.
        reason: Value of the `LossReason`, or ``damaged`` for an entry that no agent has written.
        status: The HTTP status, or None.
        error: The text of the error.
        server_message: The server's own words, as of `DeliveryError`; empty if there are none.
        endpoint: Where the message goes.
        line: The message, encoded as JSON.
        relay: The relay that stored it.
    """

    partition: int
    id: str = ""
    time: float = 0.0
    reason: str
    status: int | None = None
    error: str = ""
    server_message: str = ""
    endpoint: Endpoint = Endpoint.BATCH
    line: bytes = field(repr=False)
    relay: str = ""

    def message(self) -> Any:
        """Decode the message; raises ValueError if it is damaged."""
        return orjson.loads(self.line)

    def batch(self) -> Batch:
        """Return a batch of this message alone."""
        body = b"[" + self.line + b"]" if self.endpoint is Endpoint.BATCH else self.line
        return Batch(body, 1, endpoint=self.endpoint)


@dataclass(frozen=True, kw_only=True, slots=True)
class PartitionStatus:
    """
    What waits in a partition.

    Attributes:
        partition: Its index.
        owner: The relay that owns it, or None.
        lease_seconds: How long the owner's lease still lasts; 0.0 without one.
        messages: Number of messages without an outcome, those included that the owner has read.
        entries: Number of entries that they are in.
        bytes: Size of the entries, as the bound of the queue counts it.
        oldest_seconds: Age of the oldest entry; 0.0 without one.
        dead: Number of dead letters.
    """

    partition: int
    owner: str | None
    lease_seconds: float
    messages: int
    entries: int
    bytes: int
    oldest_seconds: float
    dead: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RelayStatus:
    """
    A living relay, as it has described itself in its last heartbeat.

    Attributes:
        relay: Its name.
        state: Value of its `RelayState`.
        partitions: The partitions that it owns.
        delivered: Number of messages delivered since it started.
        last_error: The text of the latest failure; empty if the latest request succeeded.
    """

    relay: str
    state: str = ""
    partitions: tuple[int, ...] = ()
    delivered: int = 0
    last_error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetStatus:
    """
    What an engine knows of a queue and of its relays.

    Attributes:
        name: The name of the queue.
        partitions: By index.
        relays: The living ones, by name.
        pause_seconds: How long the pause of all relays still lasts; 0.0 without one.
    """

    name: str
    partitions: tuple[PartitionStatus, ...]
    relays: tuple[RelayStatus, ...]
    pause_seconds: float

    @property
    def messages(self) -> int:
        """Number of messages without an outcome."""
        return sum(each.messages for each in self.partitions)

    @property
    def bytes(self) -> int:
        """Size of the entries, as the bound of the queue counts it."""
        return sum(each.bytes for each in self.partitions)

    @property
    def oldest_seconds(self) -> float:
        """Age of the oldest entry; 0.0 if there is none."""
        return max((each.oldest_seconds for each in self.partitions), default=0.0)

    @property
    def dead(self) -> int:
        """Number of dead letters."""
        return sum(each.dead for each in self.partitions)


class Engine(Protocol[L]):
    """
    A distributed queue with leases of a type of its own. It belongs to one event loop, and to one relay.

    Each method with a *lease* raises `LeaseLost`, and does nothing, once another relay may own the partition; if it
    succeeds it has also renewed the lease. Every method raises `DeliveryError` if the engine cannot be reached or
    fails; the call may have been executed then, and repeating it does no harm.

    Attributes:
        name: The name of the queue.
        partitions: Number of its partitions; known after `start`.
        lease_seconds: How long a lease lasts that is not renewed.
        relay: The name of the relay that uses it.
    """

    name: str
    partitions: int
    lease_seconds: float
    relay: str

    async def start(self) -> None:
        """Connect and check the engine; raises `ConfigError` if it cannot be used as it is configured."""
        ...

    async def members(self, status: RelayStatus) -> Sequence[str]:
        """Register this relay as living for some seconds more; returns the names of all living ones."""
        ...

    async def acquire(self, partition: int) -> L | None:
        """Become the owner of a partition; None if it has one."""
        ...

    async def fetch(self, lease: L, *, messages: int, size: int, wait: float = 0.0) -> Sequence[Entry]:
        """
        Read the next entries, oldest first; each stays in the partition until it is settled.

        The first call of a lease, and each after one that failed, begins with what has been read and not settled, by
        any owner, except for entries that this lease has in hand.

        Args:
            lease: Of the partition.
            messages: Stop once the entries hold so many messages; 0 only renews the lease.
            size: Stop once the entries hold so many bytes.
            wait: Seconds to wait for an entry, at most, if there is none.
        """
        ...

    async def settle(self, lease: L, entries: Sequence[Entry], dead: Sequence[DeadLetter]) -> None:
        """Remove entries and store the dead letters among their messages, in one step, and once if it is repeated."""
        ...

    async def permit(
        self, lease: L, entries: Sequence[Entry] = (), dead: Sequence[DeadLetter] = (), *, rate: float | None = None
    ) -> float:
        """
        Wait until a request may be sent, and settle the latest one's entries in the same step, as `settle` does.

        Args:
            lease: Of the partition.
            entries: What is to be settled.
            dead: The dead letters among their messages.
            rate: Requests a second of all relays together; None: no limit.

        Returns:
            0.0; or, if a pause forbids the request, the seconds that it still lasts.
        """
        ...

    async def release(self, lease: L) -> None:
        """Give up the ownership, so that another relay can acquire it at once."""
        ...

    async def pause(self, seconds: float) -> None:
        """Have `permit` hold back all relays for so long from now on; a longer pause stays."""
        ...

    async def lag(self) -> FleetStatus:
        """Return the state of the partitions and of the relays that own them."""
        ...

    async def leave(self) -> None:
        """Remove this relay from the living ones."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


class DeadLetterStore(Protocol):
    """The dead letters of an engine, as the command line uses them."""

    async def dead_letters(self, *, partition: int | None = None, count: int = 100) -> Sequence[DeadLetter]:
        """Return at most *count* of the oldest dead letters, of one partition or of all."""
        ...

    async def dead_letter(self, partition: int, letter: str) -> DeadLetter | None:
        """Return the dead letter with this id, or None if there is none."""
        ...

    async def retry_dead(self, letters: Sequence[DeadLetter]) -> int:
        """Move dead letters back to the end of their partitions; returns how many there still were."""
        ...

    async def purge_dead(self, letters: Sequence[DeadLetter]) -> int:
        """Delete dead letters; returns how many there still were."""
        ...


def described(status: RelayStatus) -> bytes:
    """Encode how a relay describes itself."""
    return orjson.dumps(
        {
            "state": status.state,
            "partitions": status.partitions,
            "delivered": status.delivered,
            "last_error": status.last_error,
        }
    )


def from_description(relay: str, described: bytes) -> RelayStatus:
    """Decode how a relay described itself; what is missing or malformed has its default."""
    try:
        found: Mapping[str, Any] = orjson.loads(described)
        return RelayStatus(
            relay=relay,
            state=str(found["state"]),
            partitions=tuple(map(int, found["partitions"])),
            delivered=int(found["delivered"]),
            last_error=str(found["last_error"]),
        )
    except (ValueError, KeyError, TypeError):
        return RelayStatus(relay=relay)
