"""Forks and exits of the process: the one place that notices them, on behalf of every agent."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from salesmachine_async._log import describe_exception, log_or_stderr
from salesmachine_async._uwsgi import call_at_exit

__all__ = ["after_exit", "at_exit", "check_fork", "keep", "living", "prepare_exit", "process_id", "watch"]

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[[], None])

_pid: int = os.getpid()
# Held while the state is renewed, so that no call of another thread is lost with the old one. `_renewing_for` lets the
# renewal itself pass.
_renewing = threading.RLock()
_renewing_for = 0
# Every object that has state to renew in a forked child, and the function that renews it.
_watched: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()
# Callbacks that end the agents, in the order of registration; the last one runs first, as with atexit.
_exits: list[Callable[[], None]] = []
# Objects that a child has inherited and must not collect, because closing an event loop or a connection would touch
# the parent's.
_inherited: list[object] = []
# Whether the exit of the process has begun to end its agents.
_over = False
# The callback that multiprocessing runs at the end of its children.
_finalizer: Any = None


def watch(member: T, after_fork: Callable[[T], None]) -> None:
    """Call *after_fork* with *member* in each forked child, for as long as *member* lives."""
    _watched[member] = after_fork


def living(kind: type[T]) -> list[T]:
    """Return the watched objects of one type that have not been collected."""
    return [member for member, _ in _members() if isinstance(member, kind)]


def keep(inherited: object) -> None:
    """Keep what a child has inherited, unused, until the child ends."""
    _inherited.append(inherited)


def check_fork() -> None:
    """Renew the state of all agents in a child whose fork Python has not seen: of uWSGI, of a C extension."""
    if os.getpid() != _pid:
        with _renewing:
            if os.getpid() not in (_pid, _renewing_for):
                _renew()


def process_id() -> int:
    """Return the id of this process, after `check_fork`."""
    check_fork()
    return _pid


def at_exit(function: Function) -> Function:
    """Call *function* when the process exits; may be used as a decorator."""
    _exits.append(function)
    return function


def after_exit() -> bool:
    """Return whether it is too late to begin a delivery: the exit has begun to end the agents of the process."""
    return _over or sys.is_finalizing()


def prepare_exit() -> None:
    """
    Register for the exits that run no atexit callbacks: children of multiprocessing, worker processes of Celery.

    Cheap and repeatable. It is called whenever a thread starts, because both may have been imported, and a child of
    multiprocessing may have been forked, since the last time.
    """
    global _finalizer  # noqa: PLW0603
    util, process = sys.modules.get("multiprocessing.util"), sys.modules.get("multiprocessing.process")
    # Not in the main process, where it would run before atexit callbacks that were registered after this module.
    in_child = util is not None and process is not None and process.parent_process() is not None
    # A child forgets the finalizers of its parent.
    if in_child and (_finalizer is None or not _finalizer.still_active()):
        _finalizer = util.Finalize(None, _end, exitpriority=0)  # type: ignore[union-attr]
    signals = sys.modules.get("celery.signals")
    if signals is not None:
        # Celery's worker processes end by os._exit right after this signal.
        signals.worker_process_shutdown.connect(_worker_ends, weak=False, dispatch_uid="salesmachine_async")
    call_at_exit(_end)


# At the import of this module, so that it runs after all callbacks of the application that may still track.
@atexit.register
def _end() -> None:
    """End the agents of this process."""
    global _over  # noqa: PLW0603
    check_fork()
    _over = True
    for function in reversed(_exits):
        try:
            function()
        except Exception as exc:  # noqa: BLE001 (the next one must run)
            log_or_stderr(logging.ERROR, "an agent could not be ended: %s", describe_exception(exc))


def _worker_ends(**_: object) -> None:
    _end()


def _after_fork_in_child() -> None:
    global _renewing  # noqa: PLW0603
    _renewing = threading.RLock()  # a thread that the child does not have may have held it
    _renew()


def _renew() -> None:
    global _over, _pid, _renewing_for
    _renewing_for, _over = os.getpid(), False
    try:
        for member, after_fork in _members():
            after_fork(member)
    finally:
        _pid, _renewing_for = _renewing_for, 0


def _members() -> list[tuple[Any, Callable[[Any], None]]]:
    while True:
        try:
            return list(_watched.items())
        except RuntimeError:  # another thread has made or dropped an agent; the list is short
            continue


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
