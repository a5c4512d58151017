"""The policies of an agent: batching, queue limits, retries, timeouts; and the checks of their values."""

from __future__ import annotations

import os
from dataclasses import KW_ONLY, dataclass
from enum import Enum
from math import isfinite

from salesmachine_async.errors import ConfigError

__all__ = ["Batching", "Invalid", "Overflow", "QueueLimits", "Retry", "Spool", "Timeouts"]

# The smallest body that still holds one short message.
MIN_BATCH_BYTES = 256
# Room for the files of a few processes, each with a segment of the smallest size.
MIN_SPOOL_BYTES = 2**20


class Overflow(Enum):
    """Policies for a call when the queue is full."""

    DROP_NEWEST = "drop_newest"
    """Drop the call: it returns False."""
    DROP_OLDEST = "drop_oldest"
    """
    Accept the call and lose the oldest queued messages (``LossReason.QUEUE_FULL``).

    Until the event loop runs, the queue may exceed its limit by one batch for each partition; calls beyond that are
    dropped.
    """
    RAISE = "raise"
    """Raise `QueueFull`."""


class Invalid(Enum):
    """Policies for arguments that cannot be sent."""

    RAISE = "raise"
    """Raise `InvalidMessage` at the call, so that it is found in development."""
    REPORT = "report"
    """
    Never raise: a value that cannot be sent becomes null, and a call without a usable uid, or after `Agent.aclose`, is
    dropped; all are counted and logged. Only `Overflow.RAISE` still raises `QueueFull`.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Batching:
    """
    The limits at which a batch is sealed and sent: the one that is reached first.

    Attributes:
        max_messages: Messages in one request. Every published Salesmachine client uses 100.
        max_bytes: Bytes in the body of one request, and so in one message.
        linger: Seconds to wait for more messages; 0 sends in the next turn of the event loop.
    """

    max_messages: int = 100
    max_bytes: int = 512_000
    linger: float = 1.0

    def __post_init__(self) -> None:
        check_whole("Batching.max_messages", self.max_messages, at_least=1)
        check_whole("Batching.max_bytes", self.max_bytes, at_least=MIN_BATCH_BYTES)
        check_seconds("Batching.linger", self.linger)


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueLimits:
    """
    The bounds of the queue. Queued and in-flight messages count together.

    Attributes:
        max_messages: The most messages in the queue.
        max_bytes: The most bytes in the queue, as encoded for the wire.
        overflow: Policy of a call when a bound is reached.
    """

    max_messages: int = 100_000
    max_bytes: int = 64 * 2**20
    overflow: Overflow = Overflow.DROP_NEWEST

    def __post_init__(self) -> None:
        check_whole("QueueLimits.max_messages", self.max_messages, at_least=1)
        check_whole("QueueLimits.max_bytes", self.max_bytes, at_least=MIN_BATCH_BYTES)
        if not isinstance(self.overflow, Overflow):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"QueueLimits.overflow must be an Overflow, not {type(self.overflow).__name__}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """
    The retries of failed requests: exponential backoff with full jitter.

    Attributes:
        wait_initial: Ceiling of the first wait in seconds; it doubles with every further failure.
        wait_max: Largest ceiling in seconds, and the interval at which a parked sender probes the server.
        timeout: Seconds from the first failure of a batch until its messages are lost as ``EXPIRED``; None retries
            until the agent is closed.
        max_retry_after: The longest wait for a ``Retry-After`` in seconds; longer ones are cut to it.
    """

    wait_initial: float = 0.5
    wait_max: float = 30.0
    timeout: float | None = None
    max_retry_after: float = 3600.0

    def __post_init__(self) -> None:
        check_seconds("Retry.wait_initial", self.wait_initial, above_zero=True)
        check_seconds("Retry.wait_max", self.wait_max, above_zero=True)
        check_seconds("Retry.max_retry_after", self.max_retry_after)
        if self.timeout is not None:
            check_seconds("Retry.timeout", self.timeout)
        if self.wait_max < self.wait_initial:
            raise ConfigError(
                f"Retry.wait_max ({self.wait_max}) must not be below Retry.wait_initial ({self.wait_initial})"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """
    The time limits of network operations, in seconds.

    Attributes:
        connect: Limit for opening a connection (DNS, TCP and TLS).
        request: Limit for a whole request, including its connection.
        close: Default limit for `Agent.aclose` to deliver the queue.
    """

    connect: float = 5.0
    request: float = 15.0
    close: float = 10.0

    def __post_init__(self) -> None:
        check_seconds("Timeouts.connect", self.connect, above_zero=True)
        check_seconds("Timeouts.request", self.request, above_zero=True)
        check_seconds("Timeouts.close", self.close)


@dataclass(frozen=True, slots=True)
class Spool:
    """
    Where and how what is queued survives the process.

    Attributes:
        path: A directory on a local file system; it is created if it is missing. Processes may share it.
        commit: Seconds within which a message is written, unless it has an outcome by then: how old a call can be that
            a killed process loses.
        sync: Whether each commit waits for the disk (``fdatasync``). Without it a commit survives the process but not
            the host.
        max_bytes: Size of everything below the path, over all processes.
        max_age: Seconds after which what was not delivered is given up as ``EXPIRED``; None: never.
        keep_rejected: Bytes of messages that the server rejected, kept in ``rejected.ndjson`` files; 0: none.
        recover_first: Longest time in seconds that new messages wait for those which earlier processes left.
        deliver: False: only write; ``salesmachine spool drain`` sends.
        required: Whether an unusable path is a `ConfigError`; else it costs one line in the log, and the agent runs
            without a spool.
    """

    path: str | os.PathLike[str]
    _: KW_ONLY
    commit: float = 0.1
    sync: bool = True
    max_bytes: int = 2**30
    max_age: float | None = None
    keep_rejected: int = 16 * 2**20
    recover_first: float = 30.0
    deliver: bool = True
    required: bool = True

    def __post_init__(self) -> None:
        _check_path("Spool.path", self.path)
        check_seconds("Spool.commit", self.commit)
        if not 0.01 <= self.commit <= 60:
            raise ConfigError(f"Spool.commit must be between 0.01 and 60 seconds, not {self.commit!r}")
        check_whole("Spool.max_bytes", self.max_bytes, at_least=MIN_SPOOL_BYTES)
        if self.max_age is not None:
            check_seconds("Spool.max_age", self.max_age, above_zero=True)
        check_whole("Spool.keep_rejected", self.keep_rejected, at_least=0)
        check_seconds("Spool.recover_first", self.recover_first)
        for name in ("sync", "deliver", "required"):
            if type(getattr(self, name)) is not bool:
                raise ConfigError(f"Spool.{name} must be True or False, not {getattr(self, name)!r}")


def _check_path(name: str, value: object) -> None:
    if not isinstance(value, str | os.PathLike):
        raise ConfigError(f"{name} must be a str or a path, not {type(value).__name__}")
    path = os.fspath(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if not isinstance(path, str):
        raise ConfigError(f"{name} must be text, not bytes")
    if not path or "\0" in path:
        raise ConfigError(f"{name} must be the path of a directory, not {path!r}")


def check_whole(name: str, value: object, *, at_least: int, at_most: int | None = None) -> None:
    """Raise `ConfigError` unless *value* is an int (not a bool) within the bounds."""
    if type(value) is not int or value < at_least:
        raise ConfigError(f"{name} must be a whole number of at least {at_least}, not {value!r}")
    if at_most is not None and value > at_most:
        raise ConfigError(f"{name} must be a whole number of at most {at_most}, not {value!r}")


def check_seconds(name: str, value: object, *, above_zero: bool = False) -> None:
    """Raise `ConfigError` unless *value* is a finite number (not a bool) of at least 0, or above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise ConfigError(f"{name} must be a finite number of seconds, not {value!r}")
    if value < 0 or (above_zero and value == 0):
        raise ConfigError(f"{name} must be {'above' if above_zero else 'at least'} 0 seconds, not {value!r}")


def _is_finite(value: float) -> bool:
    try:
        return isfinite(value)
    except OverflowError:  # an int beyond any float
        return False
