"""An event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from salesmachine_async._delivery.loop_thread import LoopThread


async def here() -> threading.Thread:
    return threading.current_thread()


def test_coroutines_run_in_the_thread_until_it_is_stopped() -> None:
    """A daemon, which does not keep the interpreter; after its end nothing is taken, and nothing hangs or warns."""
    loop = LoopThread()
    thread = loop.submit(here()).result(30)
    assert thread is not threading.current_thread()
    assert thread.daemon
    loop.stop(30)
    assert not thread.is_alive()
    with pytest.raises(RuntimeError, match="closed"):
        loop.submit(here())
    loop.stop(30)


def test_what_was_begun_before_the_end_is_done() -> None:
    """It is ahead of the end in the loop's queue."""
    loop = LoopThread()
    futures = [loop.submit(here()) for _ in range(100)]
    loop.stop(30)
    assert all(future.result(0).name == "salesmachine" for future in futures)


def test_the_thread_must_not_wait_for_itself() -> None:
    """It would wait for ever."""
    loop = LoopThread()

    async def inside() -> Future[Any]:
        return loop.submit(here())

    with pytest.raises(RuntimeError, match="must not wait for its agent"):
        loop.submit(inside()).result(30)
    loop.stop(30)


def test_a_loop_that_is_held_is_left_behind() -> None:
    """The end does not wait for it; it ends when it is let go."""
    loop = LoopThread()
    held, leave = threading.Event(), threading.Event()

    async def hold() -> threading.Thread:
        held.set()
        leave.wait(30)
        return await here()

    holding = loop.submit(hold())
    held.wait(30)
    loop.stop(0.01)
    leave.set()
    thread = holding.result(30)
    thread.join(30)
    assert not thread.is_alive()


def test_a_loop_that_cannot_be_made_is_told_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not swallowed in the thread."""

    def fail(*_: object) -> None:
        raise OSError("no more file descriptors")

    monkeypatch.setattr(asyncio, "Runner", fail)
    with pytest.raises(OSError, match="descriptors"):
        LoopThread()


def test_an_end_that_fails_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes to threading's excepthook."""

    seen: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_value))
    loop = LoopThread()

    async def die() -> None:
        raise SystemExit

    loop.submit(die())
    loop.stop(30)
    assert [type(exc) for exc in seen] == [SystemExit]
