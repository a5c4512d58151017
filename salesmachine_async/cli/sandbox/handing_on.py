"""Signals that reach us while another program runs in our place."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Generator

Hand = Callable[[asyncio.subprocess.Process], None]

# What a terminal sends to all programs in its foreground: the child gets these by itself.
_OF_THE_TERMINAL = ("SIGINT", "SIGQUIT")
_OTHERS = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")


@contextlib.contextmanager
def signals_handed_on() -> Generator[Hand]:
    """
    Hand on the signals we get to a child, and live on until it has ended.

    Yields a function that takes the child. What came before is then handed on to it.
    """
    loop = asyncio.get_running_loop()
    child: asyncio.subprocess.Process | None = None
    early: list[int] = []

    def handle(number: int, _frame: object) -> None:
        # Ctrl-C must not come twice: many programs take the second for "at once".
        if signal.Signals(number).name in _OF_THE_TERMINAL and _in_the_foreground():
            return
        loop.call_soon_threadsafe(send, number)

    def send(number: int) -> None:
        if child is None:
            early.append(number)
            return
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)

    def take(process: asyncio.subprocess.Process) -> None:
        nonlocal child
        child = process
        for number in early:
            send(number)

    numbers = [getattr(signal, name) for name in (*_OF_THE_TERMINAL, *_OTHERS) if hasattr(signal, name)]
    # What is ignored from the start, as nohup does it, stays so, for the child too.
    before = {each: signal.getsignal(each) for each in numbers if signal.getsignal(each) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, handle)
    try:
        yield take
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_the_foreground() -> bool:
    """Whether we are in the foreground of a terminal, so that its Ctrl-C has reached the child too."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except (OSError, AttributeError):
        return False
    finally:
        os.close(terminal)
