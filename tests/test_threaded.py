"""The agent without an event loop: calls, waiting, exits, forks."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from salesmachine_async import (
    Agent,
    AgentClosed,
    Batch,
    Batching,
    LossReason,
    Outcome,
    QueueLimits,
    Report,
    Retry,
    ThreadedAgent,
    Timeouts,
)
from salesmachine_async import threaded as module
from salesmachine_async._delivery.loop_thread import LoopThread
from salesmachine_async.errors import ConfigError, DeliveryError
from salesmachine_async.sandbox import Fault, Sandbox
from salesmachine_async.testing import Workspace, serve
from tests.support.carriers import Carrier, Hanging

DEAD = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def server() -> Iterator[Sandbox]:
    with serve() as sandbox:
        yield sandbox


@pytest.fixture
def workspace(server: Sandbox) -> Workspace:
    return Workspace(server)


# In this process.


def test_everything_arrives(workspace: Workspace) -> None:
    """All calls, in a block."""
    with workspace.threaded_agent() as agent:
        assert agent.contact("u", {"email": "e"})
        assert agent.account("acme", {"name": "Acme"})
        assert agent.track("u", "ordered", {"order": 9})
        assert agent.pageview("u", {"visit_url": "/"})
        assert agent.alias("u", "other")
        agent.ping()
        report = agent.flush()
        assert (report.delivered, report.ok) == (5, True)
        assert agent.stats().delivered == 5
    assert [event["event_uid"] for event in workspace.events()] == ["ordered", "pageview"]
    assert workspace.contact("other")["params"] == {"email": "e"}


def running_thread(agent: ThreadedAgent) -> threading.Thread | None:
    return agent._thread._thread if agent._thread is not None else None


def test_the_first_call_starts_the_thread_and_close_ends_it() -> None:
    """No thread before, none after."""
    agent = ThreadedAgent(transport=Carrier())
    assert running_thread(agent) is None
    agent.track("u", "e")
    thread = running_thread(agent)
    assert thread is not None
    assert thread.is_alive()
    assert thread.daemon
    assert agent.close().ok
    assert not thread.is_alive()
    assert running_thread(agent) is None


def test_after_the_close_calls_raise_and_waiting_answers() -> None:
    """No thread comes back for it."""
    agent = ThreadedAgent(transport=Carrier())
    agent.track("u", "e")
    report = agent.close()
    assert agent.close() is report
    assert agent.flush() == report
    agent.drain()
    for call in (lambda: agent.track("u", "e"), agent.start, agent.ping):
        with pytest.raises(AgentClosed):
            call()
    assert agent._thread is None
    assert repr(agent) == "<ThreadedAgent [closed | 0 queued, 0 bytes | 0 in flight]>"


def test_closing_what_was_never_used_is_fine() -> None:
    """It ends as empty as it was."""
    assert ThreadedAgent(transport=Carrier()).close().ok


def test_many_threads_share_it(workspace: Workspace) -> None:
    """Also the first call, at the same time."""
    agent = workspace.threaded_agent(batching=Batching(max_messages=50))
    barrier = threading.Barrier(8)

    def work(index: int) -> None:
        barrier.wait()
        for number in range(250):
            assert agent.track(f"u{index}", "e", {"n": number})
        agent.drain()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert agent.close().delivered == 2000
    for index in range(8):
        assert [event["params"]["n"] for event in workspace.events(contact_uid=f"u{index}")] == list(range(250))


def test_flush_with_a_timeout_reports_what_is_pending() -> None:
    """The host hangs; the caller does not."""
    agent = ThreadedAgent(transport=Hanging())
    agent.track("u", "e")
    assert agent.flush(0).pending == 1
    assert agent.close(0).lost == {LossReason.CLOSED: 1}


def test_a_timeout_may_be_infinite() -> None:
    """As for the agent; the locks of the standard library know no such time."""
    agent = ThreadedAgent(transport=Carrier())
    agent.track("u", "e")
    assert agent.flush(float("inf")).ok
    assert agent.close(float("inf")).ok


def test_close_at_a_dead_host_ends_by_its_deadline(caplog: pytest.LogCaptureFixture) -> None:
    """With a report, and a line in the log."""
    lost: list[int] = []
    agent = ThreadedAgent(
        "t", base_url=DEAD, timeouts=Timeouts(close=0.05), on_lost=lambda loss: lost.append(loss.count)
    )
    for _ in range(230):
        agent.track("u", "e")
    began = time.monotonic()
    report = agent.close()
    assert time.monotonic() - began < 5
    assert report.lost == {LossReason.CLOSED: 230}
    assert sum(lost) == 230
    assert "lost 230 messages (closed)" in caplog.text


@pytest.mark.slow
def test_drain_holds_the_producer_back(workspace: Workspace) -> None:
    """A queue of 100 takes 5,000."""
    agent = workspace.threaded_agent(queue=QueueLimits(max_messages=100), batching=Batching(max_messages=20))
    for _ in range(5000):
        assert agent.track("u", "e")
        agent.drain()
    assert agent.close().delivered == 5000


def test_faults_are_met_as_by_the_agent(workspace: Workspace) -> None:
    """It is the agent."""
    workspace.faults(503, Fault(drop="after"), 429)
    agent = workspace.threaded_agent(retry=Retry(wait_initial=0.01))
    agent.track("u", "e")
    assert agent.flush().ok
    assert agent.stats().retries == 3
    assert len(workspace.events()) == 1
    agent.close()


def test_ping_raises_what_went_wrong() -> None:
    """In the caller's thread."""
    agent = ThreadedAgent("t", base_url=DEAD)
    with pytest.raises(DeliveryError):
        agent.ping()
    agent.close()


def test_a_hook_may_track_and_must_not_wait() -> None:
    """Waiting in the loop's own thread would wait for itself; that is an error, logged as any of a hook."""
    problems: list[BaseException] = []
    carrier = Carrier()

    def hook(_delivery: object) -> None:
        agent.track("u", "from the hook") if len(carrier.delivered) == 1 else None
        try:
            agent.flush()
        except RuntimeError as exc:
            problems.append(exc)

    agent = ThreadedAgent(transport=carrier, on_delivered=hook)
    agent.track("u", "e")
    agent.flush()
    agent.close()
    assert carrier.events() == ["e", "from the hook"]
    assert problems


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_an_exit_in_a_hook_does_not_end_the_thread(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """``sys.exit()`` there would end nothing but the delivery."""

    def hook(_delivery: object) -> None:
        raise error

    carrier = Carrier([error()])
    with ThreadedAgent(transport=carrier, on_delivered=hook, retry=Retry(wait_initial=0.01)) as agent:
        for name in ("first", "second"):
            agent.track("u", name)
            assert agent.flush().ok
    assert carrier.events() == ["first", "second"]
    assert f"the on_delivered hook raised {error.__name__}" in caplog.text
    assert f"the transport raised {error.__name__}" in caplog.text


def test_an_exit_in_a_task_of_the_transport_does_not_end_the_thread() -> None:
    """It is raised past all that awaits the task, out of the event loop."""

    class Parallel(Carrier):
        async def send(self, batch: Batch) -> Outcome:
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(super().send(batch))
            return sending.result()

    carrier = Parallel([SystemExit()])
    with ThreadedAgent(transport=carrier, retry=Retry(wait_initial=0.01)) as agent:
        for name in ("first", "second"):
            agent.track("u", name)
            assert agent.flush().ok
    assert carrier.events() == ["first", "second"]


@pytest.mark.parametrize("error", [SystemExit, pytest.fail.Exception])
@pytest.mark.parametrize("at_once", [False, True])
def test_a_transport_that_exits_while_it_closes(error: type[BaseException], at_once: bool) -> None:
    """The close says what is left, like any other."""

    async def aclose() -> None:
        raise error

    def fail() -> None:
        raise error

    carrier = Hanging()
    carrier.aclose = fail if at_once else aclose  # type: ignore[assignment]
    agent = ThreadedAgent(transport=carrier)
    agent.track("u", "e")
    assert agent.close(0).lost == {LossReason.CLOSED: 1}
    assert running_thread(agent) is None


def test_a_hook_that_holds_the_loop_does_not_hold_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The close gives up on it, and says so."""
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.01)
    entered, leave = threading.Event(), threading.Event()

    def hook(_delivery: object) -> None:
        entered.set()
        leave.wait(30)

    agent = ThreadedAgent(transport=Carrier(), on_delivered=hook, batching=Batching(linger=0))
    agent.track("u", "first")
    entered.wait(30)
    agent.track("u", "second")
    thread = running_thread(agent)
    assert thread is not None
    report = agent.close(0)
    assert (report.delivered, report.pending) == (1, 1)
    assert "held by a hook: 1 messages are undelivered" in caplog.text
    leave.set()
    thread.join(30)
    assert not thread.is_alive()


def test_a_hook_that_holds_the_loop_does_not_hold_a_flush_with_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """It returns what is known by then."""
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.01)
    entered, leave = threading.Event(), threading.Event()

    def hook(_delivery: object) -> None:
        entered.set()
        leave.wait(30)

    with ThreadedAgent(transport=Carrier(), on_delivered=hook, batching=Batching(linger=0)) as agent:
        agent.track("u", "first")
        entered.wait(30)
        agent.track("u", "second")
        assert agent.flush(0).pending == 1
        leave.set()
        assert agent.flush().delivered == 2


def test_a_hook_must_not_close_its_agent() -> None:
    """It runs in the thread that the close would wait for."""
    problems: list[BaseException] = []

    def hook(_delivery: object) -> None:
        try:
            agent.close()
        except RuntimeError as exc:
            problems.append(exc)

    agent = ThreadedAgent(transport=Carrier(), on_delivered=hook)
    agent.track("u", "e")
    agent.flush()
    assert "must not wait" in str(problems[0])
    assert agent.close().ok


@pytest.mark.parametrize("wait", ["track", "flush", "close"])
def test_a_signal_handler_may_use_it_while_it_starts(monkeypatch: pytest.MonkeyPatch, wait: str) -> None:
    """Starting waits for the thread; a handler that runs meanwhile finds the same agent, and one thread remains."""
    carrier = Carrier()
    agent = ThreadedAgent(transport=carrier)
    threads = threading.active_count()

    class Interrupted(LoopThread):
        def __init__(self) -> None:
            super().__init__()
            monkeypatch.setattr(module, "LoopThread", LoopThread)
            agent.track("u", "of the handler")
            if wait != "track":
                assert getattr(agent, wait)().delivered == 1

    monkeypatch.setattr(module, "LoopThread", Interrupted)
    if wait == "close":
        with pytest.raises(AgentClosed):
            agent.track("u", "e")
    else:
        agent.track("u", "e")
        assert threading.active_count() == threads + 1
    assert agent.close().ok
    assert carrier.events()[0] == "of the handler"
    assert threading.active_count() == threads


def test_a_hook_may_track_while_the_agent_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was queued before is delivered at once; the start does not wait for the hook, nor the hook for it."""

    def hook(_delivery: object) -> None:
        agent.track("u", "from the hook")

    agent = ThreadedAgent(transport=Carrier(), on_delivered=hook)
    with monkeypatch.context() as patch:
        patch.setattr(agent, "_need_thread", lambda: None)
        for _ in range(100):
            agent.track("u", "queued")
    agent.start()
    assert agent.flush().delivered >= 100
    agent.close()


def test_a_start_that_is_interrupted_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while waiting; the next call starts anew."""
    agent = ThreadedAgent(transport=Carrier())
    threads = threading.active_count()

    class Interrupted(LoopThread):
        def submit(self, coroutine: Any) -> Any:
            super().submit(coroutine).result()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "LoopThread", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            agent.track("u", "e")
    assert threading.active_count() == threads
    assert agent.track("u", "e")
    assert agent.close().delivered == 1


def test_closing_in_many_threads_at_once_while_others_wait() -> None:
    """All get the same report; nobody is left waiting for a loop that has ended."""
    for _ in range(30):
        agent = ThreadedAgent(transport=Carrier())
        for _ in range(10):
            agent.track("u", "e")
        barrier = threading.Barrier(6)
        reports: list[Report] = []

        def work(call: Callable[[], Report], barrier: threading.Barrier = barrier, reports: Any = reports) -> None:
            barrier.wait()
            reports.append(call())

        threads = [threading.Thread(target=work, args=(call,)) for call in (agent.close, agent.flush) * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [report.delivered for report in reports] == [10] * 6


def test_unusable_arguments_are_refused_at_once() -> None:
    """As by the agent."""
    with pytest.raises(ConfigError):
        ThreadedAgent("to:ken")
    with pytest.raises(ConfigError):
        ThreadedAgent(transport=Carrier(), concurrency=0)


def test_no_thread_to_be_had_is_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The call accepts its message all the same; the next one tries again."""
    agent = ThreadedAgent(transport=Carrier())

    def refuse(self: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(threading.Thread, "start", refuse)
        assert agent.track("u", "e")
    assert "no thread could be started" in caplog.text
    assert agent.track("u", "e")
    assert agent.close().delivered == 2


def test_a_loop_that_cannot_be_made_is_told_to_the_caller(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """Not swallowed in the thread."""

    def fail(*_: object) -> None:
        raise OSError("no more file descriptors")

    agent = ThreadedAgent(transport=Carrier())
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "Runner", fail)
        with pytest.raises(OSError, match="descriptors"):
            agent.start()
    agent.close()


def test_the_signatures_are_the_agents() -> None:
    """Arguments and calls: what one takes, the other takes."""
    keywords = {
        name
        for name, parameter in inspect.signature(Agent).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert set(module.Options.__annotations__) == keywords
    for name in ("contact", "account", "track", "pageview", "alias", "bind", "flush", "drain", "ping", "stats"):
        ours, theirs = (inspect.signature(getattr(kind, name)) for kind in (ThreadedAgent, Agent))
        assert list(ours.parameters) == list(theirs.parameters), name


def test_celerys_worker_processes_close_it_at_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """They end by os._exit; Celery's signal is the last that is heard. The example's test does it for real."""
    connected: dict[str, Callable[[], None]] = {}

    class Signal:
        def connect(self, receiver: Callable[[], None], *, weak: bool, dispatch_uid: str) -> None:
            assert not weak
            connected[dispatch_uid] = receiver

    monkeypatch.setitem(sys.modules, "celery.signals", SimpleNamespace(worker_process_shutdown=Signal()))
    monkeypatch.setattr(module, "_running", set())
    agent = ThreadedAgent(transport=Carrier())
    agent.track("u", "e")
    (receiver,) = connected.values()
    receiver()
    assert agent.close().delivered == 1
    assert running_thread(agent) is None


def test_a_forked_child_forgets_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing runs that would have to be closed at its exit."""
    monkeypatch.setattr(module, "_running", set())
    agent = ThreadedAgent(transport=Carrier())
    agent.start()
    thread = agent._thread
    assert module._running == {agent}
    monkeypatch.setattr(module, "_agents", {agent})
    monkeypatch.setattr(module, "_inherited", [])
    module._all_after_fork_in_child()
    assert running_thread(agent) is None
    assert module._running == set()
    assert module._inherited == [thread]
    agent._thread = thread
    agent.close()


# In processes of their own.


def run(url: str, source: str, *, token: str = "exits", status: int = 0, **environment: str) -> tuple[str, str]:
    """Run a script to its end; returns what it wrote on stdout and stderr."""
    prelude = "import os, sys, threading\nfrom salesmachine_async import *\n"
    ended = subprocess.run(
        [sys.executable, "-c", prelude + textwrap.dedent(source)],
        env={
            **os.environ,
            "SALESMACHINE_API_TOKEN": token,
            "SALESMACHINE_API_URL": url,
            "PYTHONPATH": str(Path(__file__).parent.parent),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ended.returncode == status, ended.stderr
    return ended.stdout, ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise RuntimeError('the program failed')"])
def test_an_exit_delivers_what_is_left(workspace: Workspace, end: str) -> None:
    """However the program ends, without a close; also what a forgotten agent still has."""
    _, err = run(
        workspace.url,
        f"""
        agent = ThreadedAgent()
        for n in range(230):
            agent.track("u", "e")
        ThreadedAgent().track("u", "forgotten")
        {end}
        """,
        token=workspace.token,
        status=3 if "exit" in end else bool(end),
    )
    assert len(workspace.events()) == 231
    assert ("Error: the program failed" in err) if "raise" in end else not err


@pytest.mark.slow
def test_an_exit_at_a_dead_host_ends_in_time_and_says_how_much_was_left() -> None:
    """On stderr, although nobody has configured logging."""
    began = time.monotonic()
    _, err = run(
        DEAD,
        """
        agents = [ThreadedAgent(timeouts=Timeouts(close=0.5)) for _ in range(3)]
        for agent in agents:
            agent.track("u", "e")
        """,
    )
    assert time.monotonic() - began < 20
    assert "RuntimeWarning: 3 messages were not delivered before the process ended" in err


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


BREAKING = """
    agents = [ThreadedAgent() for _ in range(9)]
    for n, agent in enumerate(agents):
        agent.track("u", n)
    def stop(delivery):
        import asyncio
        asyncio.get_running_loop().stop()
    broken = ThreadedAgent(on_delivered=stop, batching=Batching(linger=0))
    threading.excepthook = lambda args: None
    broken.track("u", "broken")
    broken._thread._thread.join()
    broken.track("u", "lost")
"""


def test_an_agent_whose_loop_was_stopped_does_not_keep_the_others_from_delivering(workspace: Workspace) -> None:
    """At the exit; what the broken one holds is told."""
    _, err = run(workspace.url, BREAKING, token=workspace.token)
    assert sorted(event["event_uid"] for event in workspace.events()) == [*map(str, range(9)), "broken"]
    assert "an agent is broken (RuntimeError" in err
    assert "1 messages are undelivered" in err


@needs_fork
def test_a_child_of_multiprocessing_with_a_broken_agent_tells_it(workspace: Workspace) -> None:
    """Its exit runs no other callbacks."""
    source = (
        "import multiprocessing\ndef work():\n"
        + textwrap.indent(textwrap.dedent(BREAKING), "    ")
        + "child = multiprocessing.get_context('fork').Process(target=work)\nchild.start()\nchild.join()\n"
    )
    _, err = run(workspace.url, source, token=workspace.token)
    assert sorted(event["event_uid"] for event in workspace.events()) == [*map(str, range(9)), "broken"]
    assert "1 messages are undelivered" in err


def test_an_exit_with_other_threads_still_tracking_ends(workspace: Workspace) -> None:
    """A daemon that never stops tracking does not keep the process."""
    run(
        workspace.url,
        """
        agent = ThreadedAgent()
        def work():
            while agent.track("u", "e"):
                agent.drain()
        threading.Thread(target=work, daemon=True).start()
        agent.flush()
        threading.excepthook = lambda args: None
        """,
        token=workspace.token,
    )


def test_a_call_at_exit_is_still_delivered(workspace: Workspace) -> None:
    """Callbacks registered after the agent's start run before its end."""
    run(
        workspace.url,
        """
        import atexit
        agent = ThreadedAgent()
        agent.start()
        atexit.register(agent.track, "u", "goodbye")
        """,
        token=workspace.token,
    )
    assert [event["event_uid"] for event in workspace.events()] == ["goodbye"]


@needs_fork
def test_after_a_fork_both_deliver_their_own(workspace: Workspace) -> None:
    """The child begins empty, with a thread of its own; nothing comes twice."""
    out, err = run(
        workspace.url,
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12's, of a fork beside threads
        agent = ThreadedAgent(batching=Batching(linger=30))
        agent.track("u", "of the parent")
        if os.fork() == 0:
            assert agent.stats().queued == 0
            agent.track("u", "of the child")
            print(agent.close().delivered)
            sys.stdout.flush()
            os._exit(0)
        assert os.wait()[1] == 0
        agent.track("u", "of the parent, later")
        print(agent.close().delivered)
        """,
        token=workspace.token,
    )
    assert (out.split(), err) == (["1", "2"], "")
    assert sorted(event["event_uid"] for event in workspace.events()) == [
        "of the child",
        "of the parent",
        "of the parent, later",
    ]
    assert workspace.summary()["duplicates"] == 0


@needs_fork
def test_children_of_multiprocessing_deliver_at_their_end(workspace: Workspace) -> None:
    """They run no atexit callbacks before Python 3.13; the agent of the module is all they use."""
    run(
        workspace.url,
        """
        import multiprocessing
        agent = ThreadedAgent()
        def work(n):
            agent.track(f"u{n}", "in a child")
        agent.track("u", "in the parent")
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=work, args=(n,)) for n in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
            assert child.exitcode == 0
        """,
        token=workspace.token,
    )
    assert sorted(event["contact_uid"] for event in workspace.events()) == ["u", "u0", "u1", "u2"]


@needs_fork
def test_a_child_of_a_closed_agent_finds_it_closed(workspace: Workspace) -> None:
    """As the parent left it."""
    out, _ = run(
        workspace.url,
        """
        agent = ThreadedAgent()
        agent.close()
        if os.fork() == 0:
            try:
                agent.track("u", "e")
            except AgentClosed:
                print("closed", flush=True)
            os._exit(0)
        os.wait()
        """,
        token=workspace.token,
    )
    assert out.split() == ["closed"]


@needs_fork
def test_a_fork_while_another_thread_holds_the_lock_leaves_the_child_usable(workspace: Workspace) -> None:
    """The thread that would release it does not exist in the child."""
    out, _ = run(
        workspace.url,
        """
        agent = ThreadedAgent()
        held, go = threading.Event(), threading.Event()
        def hold():
            with agent._lock:
                held.set()
                go.wait()
        threading.Thread(target=hold).start()
        held.wait()
        if os.fork() == 0:
            agent.track("u", "e")
            print(agent.close().delivered, flush=True)
            os._exit(0)
        os.wait()
        go.set()
        """,
        token=workspace.token,
    )
    assert out.split() == ["1"]
