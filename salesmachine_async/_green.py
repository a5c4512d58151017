"""
Threads and locks of the operating system, also where gevent or eventlet have replaced those of Python.

The patched `threading` makes greenlets. An event loop in one of them would be the running loop of the application's own
thread: its `asyncio.run` would fail, and Django would take its views for asynchronous ones.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from threading import Lock, Thread  # and not looked up later, when a test may have put a mock there
from typing import Any, Final

__all__ = ["acquire", "allocate_lock", "shares_locks", "start_thread", "switches_greenlets"]

# Seconds between two looks at a lock that a greenlet waits for; other greenlets run in between.
POLL_SECONDS: Final = 0.002


def start_thread(target: Callable[[], None], name: str) -> None:
    """
    Start a daemon thread. It is a daemon because the interpreter waits for all others before it runs exit callbacks.

    Raises:
        RuntimeError: No thread can be started.
    """
    start = _original("_thread", "start_new_thread")
    if start is None:
        Thread(target=target, name=name, daemon=True).start()
    else:
        start(target, ())


def allocate_lock() -> Any:
    """Return a lock that threads of the operating system can share."""
    allocate = _original("_thread", "allocate_lock")
    return Lock() if allocate is None else allocate()


def acquire(lock: Any, timeout: float) -> bool:
    """Acquire a lock of `allocate_lock` in at most *timeout* seconds (-1: without a bound), and let greenlets run."""
    if not switches_greenlets():
        return bool(lock.acquire(timeout=timeout))
    deadline = float("inf") if timeout < 0 else time.monotonic() + timeout
    while not lock.acquire(False):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)  # the patched one, which lets other greenlets run
    return True


def switches_greenlets() -> bool:
    """Return whether threads have been replaced by greenlets."""
    return _original("_thread", "start_new_thread") is not None


def shares_locks() -> bool:
    """
    Return whether threads of the operating system may wait for locks of the application, such as those of logging.

    eventlet's locks are for the greenlets of one thread: released in another, they wake none of those that wait.
    """
    eventlet: Any = sys.modules.get("eventlet.patcher")
    return eventlet is None or not eventlet.is_monkey_patched("thread")


def _original(module: str, name: str) -> Any:
    """Return what gevent or eventlet has replaced; None: nothing was replaced."""
    gevent: Any = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        return gevent.get_original(module, name)
    eventlet: Any = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return getattr(eventlet.original(module), name)
    return None
