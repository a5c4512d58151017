"""An event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from salesmachine_async._delivery.loop_thread import LoopThread, _run_on, in_loop_thread


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

    async def halt() -> None:
        asyncio.get_running_loop().stop()

    loop.submit(halt())
    loop._thread.join(30)
    loop.stop(30)
    assert [type(exc) for exc in seen] == [RuntimeError]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_an_exit_in_a_task_does_not_end_it(error: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    """Nor one in a callback: it would end no program from there."""
    loop = LoopThread()

    def leave() -> None:
        raise error

    async def die() -> None:
        asyncio.get_running_loop().call_soon(leave)
        await asyncio.sleep(0)
        leave()

    with pytest.raises(error):
        loop.submit(die()).result(30)
    thread = loop.submit(here()).result(30)
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        f"the thread of an agent goes on after {error.__name__}"
    ] * 2
    loop.stop(30)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_a_task_forks_may_end() -> None:
    """It has no thread of ours, but one loop too many, which must not go on there."""
    loop = LoopThread()

    async def fork() -> int:
        child = os.fork()
        if not child:
            try:
                assert not in_loop_thread()
                _run_on(asyncio.new_event_loop(), leave())
            except SystemExit:
                os._exit(7)
            finally:
                os._exit(1)
        return child

    async def leave() -> None:
        raise SystemExit

    assert os.waitstatus_to_exitcode(os.waitpid(loop.submit(fork()).result(30), 0)[1]) == 7
    assert loop.submit(here()).result(30).is_alive()
    loop.stop(30)


def test_an_exit_in_another_thread_goes_on() -> None:
    """As in that child, where a main thread runs the loop."""

    async def leave() -> None:
        raise SystemExit

    loop = asyncio.new_event_loop()
    with pytest.raises(SystemExit):
        _run_on(loop, leave())
    loop.close()
