"""Signals that a command handles: each ends the wait of the event loop, at whatever moment it arrives."""

from __future__ import annotations

import asyncio
import ctypes
import operator
import os
import signal
import sys
from functools import partial
from typing import Any

import pytest

from salesmachine_async.cli.importing.progress import status_signal
from salesmachine_async.cli.sandbox.signal_forwarding import signals_forwarded
from salesmachine_async.cli.shutdown import stop_requested
from salesmachine_async.cli.signal_handlers import signal_handlers

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="plays a signal within epoll")


class SignalWithinPoll:
    """An epoll object to which a signal comes behind the last step of Python and ahead of the wait."""

    def __init__(self, epoll: Any, number: int) -> None:
        self._epoll = epoll
        self._signals = [number]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)

    def poll(self, timeout: float, maxevents: int) -> Any:
        """Send the signal once, and wait. list() and map() run both calls without a step of Python between them."""
        calls = [partial(self._epoll.poll, timeout, maxevents)]
        if self._signals:
            calls.insert(0, partial(ctypes.CDLL(None).kill, os.getpid(), self._signals.pop()))
        return list(map(operator.call, calls))[-1]


def signal_within_next_wait(number: int) -> asyncio.Event:
    """
    Let a signal come to this process just before the loop waits the next time.

    Returns:
        An event that is set if nothing else ends a wait of the loop for half a minute from then on.
    """
    loop: Any = asyncio.get_running_loop()
    selector, late = loop._selector, asyncio.Event()

    def play() -> None:
        loop.call_later(30, late.set)
        selector._selector = SignalWithinPoll(selector._selector, number)

    # Two steps later nothing is ready, so that the loop waits.
    loop.call_soon(loop.call_soon, play)
    return late


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
async def test_a_request_to_stop_ends_the_wait(number: int) -> None:
    """A command that has nothing to do still stops at once."""
    with stop_requested(until_eof=False) as stop:
        late = signal_within_next_wait(number)
        await stop.wait()
    assert not late.is_set()


async def test_a_question_for_the_status_ends_the_wait() -> None:
    """`import` answers SIGUSR1 while it waits for its server."""
    answered = asyncio.Event()
    with status_signal(answered.set):
        late = signal_within_next_wait(signal.SIGUSR1)
        await answered.wait()
    assert not late.is_set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGRTMAX], ids=str)
async def test_a_forwarded_signal_ends_the_wait(number: int) -> None:
    """`sandbox exec` forwards a signal while its command runs."""
    with signals_forwarded() as forward_to:
        child = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
        forward_to(child)
        late = signal_within_next_wait(number)
        await child.wait()
    assert not late.is_set()
    assert child.returncode == -number


async def test_the_handlers_from_before_are_back() -> None:
    """The handlers of the program are set again, also that of a signal which it ignores."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        numbers = (signal.SIGUSR1, signal.SIGINT, signal.SIGTERM)
        handlers = [signal.getsignal(number) for number in numbers]
        with signal_handlers(numbers, print):
            assert [signal.getsignal(number) for number in numbers] != handlers
        assert [signal.getsignal(number) for number in numbers] == handlers
    finally:
        signal.signal(signal.SIGUSR1, before)


async def test_a_loop_that_knows_no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where loop.add_signal_handler is missing, as on Windows, signal.signal calls the handler in the loop."""

    def missing(*_: object) -> bool:
        raise NotImplementedError

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "add_signal_handler", missing)
    monkeypatch.setattr(loop, "remove_signal_handler", missing)
    before = signal.getsignal(signal.SIGTERM)
    with stop_requested(until_eof=False) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
    assert signal.getsignal(signal.SIGTERM) is before
