"""
Forwards signals to a child process that shares the process group: each signal reaches the child exactly once.

A signal that was sent to the whole group (Ctrl-C in a terminal, ``kill %1`` in a shell) has reached the child already.
One that was sent to this process alone (``kill -INT PID``) has not. The handler of a signal cannot see the difference.
So a third process, the witness, stays in the group with all signals blocked: what is pending there was sent to all.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator

from salesmachine_async.cli.signal_handlers import signal_handlers

Forward = Callable[[asyncio.subprocess.Process], None]

# SIGKILL and SIGSTOP cannot be caught; the others report a fault, a limit or a timer of this process, or an event
# of its own children, pipes and terminal.
_NOT_FORWARDED = (
    *(
        "SIGKILL",
        "SIGSTOP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGILL",
        "SIGSEGV",
        "SIGSYS",
        "SIGTRAP",
        "SIGPROF",
        "SIGVTALRM",
    ),
    *("SIGXCPU", "SIGXFSZ", "SIGCHLD", "SIGPIPE", "SIGTTIN", "SIGTTOU", "SIGURG"),
)
# Signals that the keys of a terminal send.
_KEYS = frozenset(getattr(signal, name) for name in ("SIGINT", "SIGQUIT", "SIGTSTP") if hasattr(signal, name))

# Answers the number of each signal on stdin with whether it is pending, and clears it. A signal to a group reaches its
# processes one after the other, so that it may come here a little later.
_WITNESS = """
import os, signal, time
while number := os.read(0, 1):
    until = time.monotonic() + 0.1
    while not (pending := number[0] in signal.sigpending()) and time.monotonic() < until:
        time.sleep(0.002)
    if pending:
        signal.sigwait(number)
    os.write(1, bytes((pending,)))
"""


class _Witness:
    """A process in this group that knows which signals were sent to the whole group."""

    def __init__(self) -> None:
        # Blocked before it starts, so that it is a witness from its first moment, and never dies of a signal itself.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._process = subprocess.Popen(  # noqa: S603 (a constant)
                (sys.executable, "-I", "-S", "-c", _WITNESS),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def saw(self, number: int) -> bool:
        """Return whether the signal was sent to the whole group since the last question about it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # It may have been stopped with the group, and this process continued alone. Not for SIGTSTP, which the witness
        # blocks, and which SIGCONT would remove from what is pending there.
        if number != signal.SIGTSTP:
            self._process.send_signal(signal.SIGCONT)
        try:
            self._process.stdin.write(bytes((number,)))
            return self._process.stdout.read(1) == b"\x01"
        except OSError:  # it was killed
            return False

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


class _Forwarder:
    """Sends what this process receives to its child, unless the child has received it too."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._child: asyncio.subprocess.Process | None = None
        self._waiting: set[int] = set()
        self._early: list[int] = []
        self._witness = _Witness() if hasattr(signal, "pthread_sigmask") else None

    def handle(self, number: int) -> None:
        """Handle a signal soon, once however often it arrives before that, as the kernel does."""
        if number not in self._waiting:
            self._waiting.add(number)
            self._loop.call_soon(self._forward, number)

    def start(self, child: asyncio.subprocess.Process) -> None:
        """Set the child, and send it what came before."""
        self._child = child
        for number in self._early:
            self._send(number)

    def close(self) -> None:
        """End the witness."""
        if self._witness is not None:
            self._witness.close()

    def _forward(self, number: int) -> None:
        self._waiting.discard(number)
        received = self._has_received(number)
        if self._child is None:
            self._early.append(number)
        elif not received:
            self._send(number)
        if number == getattr(signal, "SIGTSTP", None):
            _stop()

    def _has_received(self, number: int) -> bool:
        if self._witness is None:
            return number in _KEYS  # a console of Windows sends them to all its processes
        if number == signal.SIGCONT:
            return False  # a second one changes nothing
        to_group = self._witness.saw(number)
        # A child that has left the group has left the keys of the terminal behind; other signals are still for it.
        return to_group and (number in _KEYS or (self._child is not None and _in_this_group(self._child.pid)))

    def _send(self, number: int) -> None:
        assert self._child is not None
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(number)


@contextlib.contextmanager
def signals_forwarded() -> Generator[Forward]:
    """
    Forward the signals that this process receives to a child, and survive them until the child has ended.

    Yields a function that sets the child. Signals that came before it are then sent to it.
    """
    own = {getattr(signal, name, None) for name in _NOT_FORWARDED}
    # A signal that is ignored from the start (nohup does that) stays ignored, in the child too.
    numbers = [
        number for number in signal.valid_signals() - own if signal.getsignal(number) not in (signal.SIG_IGN, None)
    ]
    forwarder = _Forwarder()
    try:
        with signal_handlers(numbers, forwarder.handle):
            yield forwarder.start
    finally:
        forwarder.close()


def _in_this_group(child: int) -> bool:
    try:
        return os.getpgid(child) == os.getpgrp()
    except ProcessLookupError:
        return False


def _stop() -> None:
    """Stop this process, as SIGTSTP does where it is not handled; return when it continues."""
    handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    # To this thread: it stops here, before the handler is set again.
    signal.pthread_kill(threading.get_ident(), signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, handler)
