"""Graceful shutdown on SIGINT, SIGTERM or the end of stdin."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator


@contextlib.contextmanager
def stop_requested(*, until_eof: bool) -> Generator[asyncio.Event]:
    """
    Yield an event of the running loop that is set when the command should end.

    It uses ``signal.signal``, because Windows lacks ``loop.add_signal_handler``.

    Args:
        until_eof: Whether the end of stdin sets it too, which is also what happens when the parent process dies.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def wake(*_: object) -> None:
        # A closed loop has nothing left to stop.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)

    before = {number: signal.signal(number, wake) for number in (signal.SIGINT, signal.SIGTERM)}
    if until_eof:
        threading.Thread(target=_wait_for_eof, args=(wake,), daemon=True).start()
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_for_eof(then: Callable[[], None]) -> None:
    # os.read() is used because a daemon thread that holds the lock of sys.stdin aborts the interpreter at its exit.
    with contextlib.suppress(OSError):
        while os.read(sys.stdin.fileno(), 4096):
            pass
    then()
