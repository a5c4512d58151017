"""How a command that runs until told otherwise is told: SIGINT, SIGTERM, or the end of stdin."""

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

    ``signal.signal`` rather than ``loop.add_signal_handler``, which Windows lacks.

    Args:
        until_eof: Also set it when stdin ends, as it does when the parent that holds its other end dies.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def wake(*_: object) -> None:
        # The loop may have ended meanwhile: then there is nothing left to stop.
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
    # os.read, not sys.stdin: a daemon thread that holds the lock of sys.stdin aborts the interpreter at its exit.
    with contextlib.suppress(OSError):
        while os.read(sys.stdin.fileno(), 4096):
            pass
    then()
