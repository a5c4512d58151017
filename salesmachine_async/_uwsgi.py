"""
uWSGI, whose processes fork and end in C.

Unless it is started with ``--py-call-uwsgi-fork-hooks``, it forks its workers whatever Python does in that moment. If a
thread of the master is running then, it has the interpreter's lock, which the copy in the worker can never release: the
worker hangs before its first request (seen with uWSGI 2.0.30). So no thread may run in the master. What is accepted
there, while the application is imported, waits for the fork, and one worker inherits it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["Inheritance", "call_at_exit", "is_about_to_fork", "runs_no_threads"]


def is_about_to_fork() -> bool:
    """Return whether this is a master that has loaded the application and is going to fork without Python's hooks."""
    uwsgi = _module()
    return (
        uwsgi is not None
        and uwsgi.worker_id() == 0
        and uwsgi.masterpid() == os.getpid()
        and "py-call-uwsgi-fork-hooks" not in _options(uwsgi)
    )


def runs_no_threads() -> bool:
    """Return whether only uWSGI's own threads are run, unless an option says otherwise."""
    uwsgi = _module()
    return uwsgi is not None and not {"enable-threads", "threads"} & _options(uwsgi)


def call_at_exit(function: Callable[[], None]) -> None:
    """Have *function* called at the end of a worker that ends without Python's exit callbacks; repeatable."""
    uwsgi = _module()
    if uwsgi is None or "skip-atexit-teardown" not in _options(uwsgi):
        return
    before = getattr(uwsgi, "atexit", None)
    if isinstance(before, _AtExit):
        return
    uwsgi.atexit = _AtExit(before, function)


class _AtExit:
    """The application's own callback, which may still track, and then ours."""

    def __init__(self, before: Callable[[], object] | None, function: Callable[[], None]) -> None:
        self._before = before
        self._function = function

    def __call__(self) -> None:
        try:
            if self._before is not None:
                self._before()
        finally:
            self._function()


class Inheritance:
    """
    What a process leaves to exactly one of those that are forked from it, whenever they come.

    It is a pipe with one byte, because a read takes that from all processes at once.
    """

    def __init__(self) -> None:
        self._end, write = os.pipe()
        os.write(write, b"1")
        os.close(write)

    def take(self) -> bool:
        """Return whether this process is the first to take it."""
        with suppress(OSError):  # the application has closed the descriptors that it does not know
            taken = os.read(self._end, 1)
            os.close(self._end)
            return taken == b"1"
        return False


def _module() -> Any:
    """Return the module that uWSGI makes in its own interpreter; None elsewhere, or where only its stubs are."""
    uwsgi = sys.modules.get("uwsgi")
    return uwsgi if hasattr(uwsgi, "opt") else None


def _options(uwsgi: Any) -> set[str]:
    return {name.decode() if isinstance(name, bytes) else name for name in uwsgi.opt}
