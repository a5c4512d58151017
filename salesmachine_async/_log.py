"""Log lines that cannot flood: the first of its kind at once, then at most one a minute with the number left out."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import PurePath
from threading import RLock
from typing import Any, Final

# Not by `logging.getLogger`, in whose place a test may have put a mock during the import.
logger: Final = logging.root.manager.getLogger("salesmachine_async")
# The application decides what is shown; without a handler of its own, nothing is.
logger.addHandler(logging.NullHandler())

INTERVAL: Final = 60.0

# The clock at the import.
_spare_clock: Final = time.monotonic


def monotonic() -> float:
    """Return monotonic seconds, by the present `time.monotonic` unless a test has put there what raises."""
    try:
        return time.monotonic()
    except Exception:  # noqa: BLE001 (no call may fail for the clock)
        return _spare_clock()


class _Line:
    """A logged line, and the number of lines suppressed after it."""

    __slots__ = ("__dict__", "suppressed", "time")

    def __init__(self, time: float) -> None:
        self.time = time
        self.suppressed = itertools.count()


class RateLimitedLogger:
    """
    Logs troubles by kind. Any thread may use it, and so may a signal handler or a finalizer in the middle of itself.

    It holds no lock, which a child that is forked in the middle of a call could not release: each line of a kind is
    claimed by one atomic step, as the successor of the line before it.

    Args:
        clock: Monotonic seconds.
        interval: Seconds between two lines of one kind.
    """

    __slots__ = ("_clock", "_interval", "_lines")

    def __init__(self, clock: Callable[[], float] = monotonic, interval: float = INTERVAL) -> None:
        self._clock = clock
        self._interval = interval
        # By kind: the last line, or one before it.
        self._lines: dict[str, _Line] = {}

    def __call__(self, kind: str, level: int, message: str, *args: object, loud: bool = False) -> None:
        """
        Log *message* unless one of its kind was logged less than a minute ago.

        Args:
            kind: The kind of trouble, of which a line is logged once a minute. A fixed set of words, so that the
                memory for it is bounded.
            level: A level of `logging`.
            message: With ``%s`` for *args*. Never a payload, a token or a secret.
            args: For the message.
            loud: Whether it must be seen even where logging is not configured: messages are lost, or none are sent.

        The record has the attributes ``trouble`` (the kind) and ``suppressed``, for structured logging.
        """
        suppressed = self._claim(kind, self._clock())
        if suppressed is None:
            return
        if suppressed:
            message += " (and %d more like it since the last line)"
            args = (*args, suppressed)
        _emit(level, message, args, {"trouble": kind, "suppressed": suppressed}, loud=loud)

    def _claim(self, kind: str, now: float) -> int | None:
        """Return how many lines were suppressed since the last one, or None if this one is suppressed, too."""
        new = _Line(now)
        last = self._lines.setdefault(kind, new)
        if last is new:
            return 0
        while True:
            # Another call may have claimed the next line without having noted it yet.
            while (following := last.__dict__.get("next")) is not None:
                last = following
            if now - last.time < self._interval:
                next(last.suppressed)
                return None
            following = last.__dict__.setdefault("next", new)
            if following is new:
                self._lines[kind] = new
                return next(last.suppressed)


def log_or_stderr(level: int, message: str, *args: object) -> None:
    """
    Log a line; where logging is not configured, write it to standard error.

    A NullHandler alone would swallow it, and a script that loses messages would never show it. Not rate-limited: for
    what happens once in the life of an agent.
    """
    _emit(level, message, args, {}, loud=True)


# Seconds for which a thread of the package waits for a handler; the next lines do not wait until it is free again.
HANDLER_SECONDS: Final = 0.25

# `now` is set in a thread that is writing a line: a handler that tracks must not cause another line, without end.
# `patience` is set in a thread of the package: the seconds for which it waits for a handler. `apart` is set in one that
# must use no handler at all.
_emitting = threading.local()


def be_brief(*, apart: bool = False) -> None:
    """
    Leave a line out, in this thread, rather than wait for a handler that another thread holds.

    A signal handler that closes the agent may have interrupted that thread in the middle of the handler, and would wait
    for this thread.

    Args:
        apart: Whether this thread can share no locks with those of the application. Its lines, and those of asyncio in
            it, are then written to standard error.
    """
    _emitting.patience = HANDLER_SECONDS
    _emitting.apart = apart
    logging.getLogger("asyncio").addFilter(_guard)


def _guard(record: logging.LogRecord) -> bool:
    """
    Let a line of asyncio pass, but write one of a thread of the package here.

    asyncio logs while it makes an event loop, and a handler that raises would keep the thread from having one.
    """
    if getattr(_emitting, "patience", None) is None:
        return True
    if _emitting.apart:
        _write_apart(record.levelno, str(record.msg), record.args or ())
        return False
    of = logging.getLogger(record.name)
    with free_handlers(of) as free, suppress(Exception):
        if free:
            of.callHandlers(record)
    return False


@contextmanager
def free_handlers(of: logging.Logger = logger) -> Generator[bool]:
    """Hold the handlers that a line reaches; False if that would take too long, in such a thread."""
    patience = getattr(_emitting, "patience", None)
    if patience is None:
        yield True
        return
    if _emitting.apart:
        yield False
        return
    with ExitStack() as stack:
        for lock in _handler_locks(of):
            if not lock.acquire(timeout=patience):
                _emitting.patience = 0
                yield False
                return
            stack.callback(lock.release)
        _emitting.patience = HANDLER_SECONDS
        yield True


def _handler_locks(of: logging.Logger) -> Iterator[Any]:
    current: logging.Logger | None = of
    handlers: list[logging.Handler | None] = [logging.lastResort]
    while current is not None:
        handlers += current.handlers
        current = current.parent if current.propagate else None
    for handler in handlers:
        if handler is not None and handler.lock is not None:
            yield handler.lock


def _emit(level: int, message: str, args: tuple[object, ...], extra: dict[str, object], *, loud: bool) -> None:
    """Write one line. A handler or filter of the application that raises must neither end a sender nor reach a call."""
    if getattr(_emitting, "now", False):
        return
    try:
        _emitting.now = True
        with free_handlers() as free:
            if free:
                _write(level, message, args, extra, loud=loud)
            elif _emitting.apart:
                _write_apart(level, message, args)
    finally:
        _emitting.now = False


def _write(level: int, message: str, args: tuple[object, ...], extra: dict[str, object], *, loud: bool) -> None:
    with suppress(Exception):
        logger.log(level, message, *args, extra=extra)
    if loud and not _is_heard(level) and logging.lastResort is not None:
        # Standard error may be closed, or full.
        with suppress(Exception):
            text = f"salesmachine_async: {message}"
            logging.lastResort.handle(logger.makeRecord(logger.name, level, __file__, 0, text, args, None))


def _write_apart(level: int, message: str, args: object) -> None:
    """Write one line to standard error without any lock; `isEnabledFor` would take one."""
    if level > logger.manager.disable and level >= logger.getEffectiveLevel():
        with suppress(Exception):
            text = message % args if args else message
            os.write(2, f"salesmachine_async: {text}\n".encode(errors="backslashreplace"))


def _is_heard(level: int) -> bool:
    """Return whether a handler takes the lines of the package, or the application has chosen that none should."""
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
        count: The number of suppressed lines.
    """

    __slots__ = ("_lock", "_log", "count")

    def __init__(self, log: RateLimitedLogger) -> None:
        self._log = log
        self._lock = RLock()
        self.count = 0

    def __call__(self, path: str, problem: str) -> None:
        """Count and log one; *path* says where it stands. The value itself is never logged."""
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
