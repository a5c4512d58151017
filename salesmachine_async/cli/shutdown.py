"""Graceful shutdown on SIGINT, SIGTERM or the end of stdin."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator

from salesmachine_async.cli.signal_handlers import signal_handlers


@contextlib.contextmanager
def stop_requested(*, until_eof: bool) -> Generator[asyncio.Event]:
    """
    Yield an event of the running loop that is set when the command should end.

    Args:
        until_eof: Whether the end of stdin sets it too, which is also what happens when the parent process dies.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def at_eof() -> None:
        # A closed loop has nothing left to stop.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)

    with signal_handlers((signal.SIGINT, signal.SIGTERM), lambda _: stop.set()):
        if until_eof:
            threading.Thread(target=_wait_for_eof, args=(at_eof,), daemon=True).start()
        yield stop


def _wait_for_eof(then: Callable[[], None]) -> None:
    # os.read() is used because a daemon thread that holds the lock of sys.stdin aborts the interpreter at its exit.
    with contextlib.suppress(OSError):
        while os.read(sys.stdin.fileno(), 4096):
            pass
    then()
