"""An event loop in a thread: submitting, stopping, failures, exits."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from unittest.mock import MagicMock

import pytest

from salesmachine_async._delivery import loop_thread as module
from salesmachine_async._delivery.loop_thread import LoopThread, in_loop_thread, run_here, run_on
from salesmachine_async._log import RateLimitedLogger


async def here() -> threading.Thread:
    return threading.current_thread()


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    loop = LoopThread()
    loop.start()
    yield loop
    loop.stop()
    loop.join(30)


def end(loop: LoopThread) -> None:
    loop.stop()
    loop.join(30)


def test_coroutines_run_in_the_thread_until_it_is_stopped(loop: LoopThread) -> None:
    """The thread is a daemon; after its end a submission fails at once."""
    thread = loop.submit(here).result(30)
    assert thread is not threading.current_thread()
    assert thread.daemon
    assert thread.name == "salesmachine"
    end(loop)
    assert not thread.is_alive()
    with pytest.raises(RuntimeError, match="ended"):
        loop.submit(here).result(30)
    end(loop)


def test_what_was_submitted_before_the_end_is_done(loop: LoopThread) -> None:
    """Work submitted before the end is done."""
    pending = [loop.submit(here) for _ in range(100)]
    end(loop)
    assert all(each.result(0).name == "salesmachine" for each in pending)


def test_what_is_submitted_before_the_start_is_done() -> None:
    """The thread finds it in its inbox."""
    loop = LoopThread()
    pending = loop.submit(here)
    with pytest.raises(TimeoutError):
        pending.result(0)
    loop.start()
    assert pending.result(30) is pending.result(0)
    end(loop)


def test_one_thread_serves_however_many_callers_start_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler may start it again in the middle of a start."""
    loop = LoopThread()
    before = threading.active_count()
    start = threading.Thread.start

    def interrupted(self: threading.Thread) -> None:
        start(self)
        monkeypatch.setattr(threading.Thread, "start", start)
        loop.start()

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    loop.start()
    thread = loop.submit(here).result(30)
    others = {each for each in threading.enumerate() if each.name == "salesmachine"} - {thread}
    for other in others:
        other.join(30)
    assert threading.active_count() == before + 1
    end(loop)
    assert not thread.is_alive()


def test_what_comes_first_runs_before_all_that_was_submitted() -> None:
    """A failure of the first callback is logged and does not end the thread."""
    seen: list[str] = []

    async def first() -> None:
        seen.append("first")
        raise RuntimeError

    async def second() -> None:
        seen.append("second")

    loop = LoopThread(first)
    pending = loop.submit(second)
    loop.start()
    pending.result(30)
    end(loop)
    assert seen == ["first", "second"]


def test_the_thread_must_not_wait_for_itself(loop: LoopThread) -> None:
    """A wait of the thread for itself would never end, so it raises."""

    async def inside() -> None:
        loop.submit(here)

    with pytest.raises(RuntimeError, match="must not wait for its agent"):
        loop.submit(inside).result(30)


def test_a_loop_that_is_held_is_left_behind(loop: LoopThread) -> None:
    """Joining it is bounded; it ends when it is released."""
    held, leave = threading.Event(), threading.Event()

    async def hold() -> threading.Thread:
        held.set()
        leave.wait(30)
        return await here()

    holding = loop.submit(hold)
    held.wait(30)
    loop.stop()
    loop.join(0.01)
    leave.set()
    thread = holding.result(30)
    thread.join(30)
    assert not thread.is_alive()


def test_a_loop_that_cannot_be_made_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Earlier submissions fail, and later ones are done."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(module, "_log", RateLimitedLogger())

    def fail(*_: object) -> None:
        raise OSError("no more file descriptors")

    loop = LoopThread()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_try_descriptors", fail)
        pending = loop.submit(here)
        loop.start()
        with pytest.raises(OSError, match="descriptors"):
            pending.result(30)
    while True:
        try:
            thread = loop.submit(here).result(30)
            break
        except OSError:
            continue
    end(loop)
    assert not thread.is_alive()
    assert "no event loop could be made to deliver messages (no more file descriptors)" in caplog.text
    assert len(caplog.records) == 1


def test_each_submission_is_a_try_to_make_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A submission tries at once to make the loop, and posted work stays until it exists."""

    def fail(*_: object) -> None:
        raise OSError("no more file descriptors")

    monkeypatch.setattr(module, "RETRY_SECONDS", 3600.0)
    monkeypatch.setattr(module, "_log", RateLimitedLogger())
    loop, done = LoopThread(), threading.Event()

    async def posted() -> None:
        done.set()

    with monkeypatch.context() as patch:
        patch.setattr(module, "_try_descriptors", fail)
        loop.start()
        loop.post(posted)
        for _ in range(3):
            with pytest.raises(OSError, match="descriptors"):
                loop.submit(here).result(30)
    assert loop.submit(here).result(30).name == "salesmachine"
    assert done.wait(30)
    end(loop)


def test_a_replaced_socket_makes_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """With sockets that carry nothing, as a test's mocks, nothing could wake the loop; it is made after them."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 3600.0)
    monkeypatch.setattr(module, "_log", RateLimitedLogger())
    loop = LoopThread()
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", MagicMock())
        pending = loop.submit(here)
        loop.start()
        with pytest.raises(OSError, match="carry nothing"):
            pending.result(30)
    assert loop.submit(here).result(30).name == "salesmachine"
    end(loop)


def test_a_thread_without_a_loop_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop ends the wait for the next try."""

    def fail(*_: object) -> None:
        raise OSError("no more file descriptors")

    monkeypatch.setattr(module, "RETRY_SECONDS", 3600.0)
    monkeypatch.setattr(module, "_try_descriptors", fail)
    loop = LoopThread()
    pending = loop.submit(here)
    loop.start()
    with pytest.raises(OSError, match="descriptors"):
        pending.result(30)
    end(loop)
    assert loop.ended


@pytest.mark.parametrize("how", ["stop", "cancel"])
def test_a_loop_that_a_hook_breaks_off_is_run_again(
    loop: LoopThread, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The loop runs again after a hook that stops it or cancels all tasks."""

    async def break_off() -> None:
        if how == "stop":
            asyncio.get_running_loop().stop()
        else:
            for task in asyncio.all_tasks():
                task.cancel()
            await asyncio.sleep(0)

    with suppress(asyncio.CancelledError):
        loop.submit(break_off).result(30)
    assert loop.submit(here).result(30).is_alive()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_an_exit_in_a_task_does_not_end_it(
    error: type[BaseException],
    loop: LoopThread,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An exit in a task or callback does not end the loop, because it would end no program from there."""
    monkeypatch.setattr(module, "_log", RateLimitedLogger(interval=-1.0))

    def leave() -> None:
        raise error

    async def die() -> None:
        asyncio.get_running_loop().call_soon(leave)
        await asyncio.sleep(0)
        leave()

    with pytest.raises(error):
        loop.submit(die).result(30)
    thread = loop.submit(here).result(30)
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        f"the event loop of an agent was broken off by {error.__name__}"
    ]
    end(loop)
    assert not thread.is_alive()


def test_a_clock_that_raises_does_not_end_it(
    loop: LoopThread, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop is run again after a clock that a test has replaced has raised in it."""
    monkeypatch.setattr(module, "_log", RateLimitedLogger(interval=-1.0))

    async def replace_clock() -> None:
        running = asyncio.get_running_loop()
        clock = running.time

        def time() -> float:
            running.time = clock  # type: ignore[method-assign]
            raise StopIteration

        running.time = time  # type: ignore[method-assign]
        await asyncio.sleep(0)

    loop.submit(replace_clock).result(30)
    assert loop.submit(here).result(30).is_alive()
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        "the event loop of an agent was broken off by StopIteration"
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_a_task_forks_may_end(loop: LoopThread) -> None:
    """In a forked child the thread is the main one, so an exit ends the loop."""

    async def fork() -> int:
        child = os.fork()
        if not child:
            try:
                assert not in_loop_thread()
                run_on(asyncio.new_event_loop(), leave())
            except SystemExit:
                os._exit(7)
            finally:
                os._exit(1)
        return child

    async def leave() -> None:
        raise SystemExit

    assert os.waitstatus_to_exitcode(os.waitpid(loop.submit(fork).result(30), 0)[1]) == 7
    assert loop.submit(here).result(30).is_alive()


def test_an_exit_in_another_thread_is_raised() -> None:
    """An exit is raised where a main thread runs the loop, as in a forked child."""

    async def leave() -> None:
        raise SystemExit

    loop = asyncio.new_event_loop()
    with pytest.raises(SystemExit):
        run_on(loop, leave())
    loop.close()


def test_a_coroutine_can_run_in_the_calling_thread() -> None:
    """A coroutine can run in the caller's thread if no other starts, except inside an event loop."""
    assert run_here(here) is threading.current_thread()

    async def inside() -> None:
        run_here(here)

    with pytest.raises(RuntimeError, match="event loop runs"):
        asyncio.run(inside())
