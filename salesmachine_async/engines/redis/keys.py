"""The keys of a queue. All keys of a script lie in one slot of a cluster, because they have the same hash tag."""

from __future__ import annotations

import re

from salesmachine_async.errors import ConfigError

__all__ = ["Keys"]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Keys:
    """
    The keys of one queue.

    Args:
        name: The name of the queue: 1 to 64 letters, digits, dots, hyphens and underscores.

    Raises:
        ConfigError: The name has another form.

    Attributes:
        meta: Hash: the version of this layout, and the number of partitions.
        rate: When the next request may be sent at the rate of the relays, in microseconds.
        relays: Sorted set: each relay by the time in milliseconds at which it counts as dead.
        descriptions: Hash: how each relay has described itself.
    """

    def __init__(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"name must be 1 to 64 letters, digits, dots, hyphens or underscores, not {name!r}")
        self._name = name
        self.meta = self._shared("meta")
        self.rate = self._shared("rate")
        self.relays = self._shared("relays")
        self.descriptions = self._shared("descriptions")

    def queue(self, partition: int) -> str:
        """Stream: the entries that are not settled. Its group ``relay`` has one consumer, the owner."""
        return self._of(partition, "q")

    def size(self, partition: int) -> str:
        """Hash: ``bytes`` and ``messages`` of the entries in the queue."""
        return self._of(partition, "size")

    def owner(self, partition: int) -> str:
        """The token of the owner's lease; it expires with the lease."""
        return self._of(partition, "owner")

    def pause(self, partition: int) -> str:
        """Exists while no relay may send. Each partition has one, so that its owner's steps can read it."""
        return self._of(partition, "pause")

    def dead(self, partition: int) -> str:
        """Stream: the dead letters."""
        return self._of(partition, "dead")

    def published(self, partition: int, producer: str) -> str:
        """How many messages this producer has published; expires, see `scripts.PUBLISH`."""
        return self._of(partition, f"d:{producer}")

    def _shared(self, what: str) -> str:
        return f"sm:{{{self._name}}}:{what}"

    def _of(self, partition: int, what: str) -> str:
        return f"sm:{{{self._name}:{partition}}}:{what}"
