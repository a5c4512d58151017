"""Log lines that cannot flood: the first of its kind at once, then at most one a minute with the number left out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePath
from threading import RLock
from typing import Final

logger: Final = logging.getLogger("salesmachine_async")
# The application decides what is shown; without a handler of its own, nothing is.
logger.addHandler(logging.NullHandler())

INTERVAL: Final = 60.0


class RateLimitedLogger:
    """
    Logs troubles of one agent, by kind. Any thread may use it.

    Args:
        clock: Monotonic seconds.
        interval: Seconds between two lines of one kind.
    """

    __slots__ = ("_clock", "_interval", "_lock", "_seen")

    def __init__(self, clock: Callable[[], float] = time.monotonic, interval: float = INTERVAL) -> None:
        self._clock = clock
        self._interval = interval
        self._lock = RLock()  # re-entrant: a finaliser may log while this one does
        # By kind: when its last line was written, and how many were left out since.
        self._seen: dict[str, tuple[float | None, int]] = {}

    def __call__(self, kind: str, level: int, message: str, *args: object, loud: bool = False) -> None:
        """
        Log *message* unless one of its kind was logged less than a minute ago.

        Args:
            kind: What counts as the same trouble. A fixed set of words, so that the memory for it is bounded.
            level: As of `logging`.
            message: With ``%s`` for *args*. Never a payload, a token or a secret.
            args: For the message.
            loud: Whether it must be seen even where logging is not configured: messages are lost, or none are sent.

        The record has the attributes ``trouble`` (the kind) and ``suppressed``, for structured logging.
        """
        now = self._clock()
        with self._lock:
            last, suppressed = self._seen.get(kind, (None, 0))
            if last is not None and now - last < self._interval:
                self._seen[kind] = (last, suppressed + 1)
                return
            self._seen[kind] = (now, 0)
        if suppressed:
            message += " (and %d more like it since the last line)"
            args = (*args, suppressed)
        # A handler or filter of the application that raises must not end a sender, nor reach a call.
        with suppress(Exception):
            logger.log(level, message, *args, extra={"trouble": kind, "suppressed": suppressed})
            if loud:
                _say_where_nobody_listens(level, message, *args)


def log_or_stderr(level: int, message: str, *args: object) -> None:
    """
    Log a line; where nobody has configured logging, write it to standard error.

    A NullHandler alone would swallow it, and a script that loses messages would not learn of it.
    """
    logger.log(level, message, *args)
    _say_where_nobody_listens(level, message, *args)


def _say_where_nobody_listens(level: int, message: str, *args: object) -> None:
    if not _is_heard(level) and logging.lastResort is not None:
        logging.lastResort.handle(logger.makeRecord(logger.name, level, __file__, 0, message, args, None))


def _is_heard(level: int) -> bool:
    """Whether a handler takes our lines, or somebody has chosen that none should."""
    if not logger.isEnabledFor(level):
        return True
    current: logging.Logger | None = logger
    while current is not None:
        if not current.propagate or any(not isinstance(handler, logging.NullHandler) for handler in current.handlers):
            return True
        current = current.parent
    return False


def show_debug() -> None:
    """Let the package's DEBUG lines through; where no logging is configured, show them on standard error."""
    if logger.getEffectiveLevel() > logging.DEBUG:
        logger.setLevel(logging.DEBUG)
    if not _is_heard(logging.DEBUG):
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("salesmachine_async: %(message)s"))
        logger.addHandler(handler)


class InvalidValues:
    """
    Counts and logs the arguments that could not be sent, under `Invalid.REPORT`.

    Attributes:
        count: How many there were.
    """

    __slots__ = ("_lock", "_log", "count")

    def __init__(self, log: RateLimitedLogger) -> None:
        self._log = log
        self._lock = RLock()
        self.count = 0

    def __call__(self, path: str, problem: str) -> None:
        """Note one; *path* is where it stands. Never holds the value."""
        with self._lock:
            self.count += 1
        self._log("invalid", logging.WARNING, "an argument cannot be sent: %s: %s", path, problem)


def describe_exception(exc: BaseException) -> str:
    """Return an exception's type and place; its text may quote a message."""
    traceback = exc.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return type(exc).__name__
    return f"{type(exc).__name__} ({PurePath(traceback.tb_frame.f_code.co_filename).name}:{traceback.tb_lineno})"
