"""The agent without an event loop, in this process: calls, waiting, starts that fail, closes."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import logging
import multiprocessing.process
import multiprocessing.util
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from salesmachine_async import (
    Agent,
    AgentClosed,
    Batch,
    Batching,
    HttpTransport,
    LossReason,
    Outcome,
    QueueLimits,
    Report,
    Retry,
    ThreadedAgent,
    Timeouts,
    _process,
)
from salesmachine_async import _background as module
from salesmachine_async._delivery import loop_thread
from salesmachine_async._log import RateLimitedLogger
from salesmachine_async.access import AccessClient
from salesmachine_async.errors import ConfigError, DeliveryError
from salesmachine_async.sandbox import Fault, Sandbox
from salesmachine_async.testing import Recorder, Workspace, serve
from salesmachine_async.threaded import Options
from tests.support.carriers import Carrier, Hanging

DEAD = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def fresh_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of one kind come once a minute: the test sees the first."""
    monkeypatch.setattr(module, "_log", RateLimitedLogger())


@pytest.fixture(scope="module")
def server() -> Iterator[Sandbox]:
    with serve() as sandbox:
        yield sandbox


@pytest.fixture
def workspace(server: Sandbox) -> Workspace:
    return Workspace(server)


def test_everything_arrives(workspace: Workspace) -> None:
    """Calls of all kinds within a block are delivered."""
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
    """Return the thread of an agent, once it runs."""
    if agent._background.process != os.getpid():
        return None
    thread = agent._background.thread()
    if thread._thread is None:
        thread.submit(nothing).result(30)
    return thread._thread


async def nothing() -> None:
    pass


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
    """No thread is started for it."""
    agent = ThreadedAgent(transport=Carrier())
    agent.track("u", "e")
    report = agent.close()
    assert agent.close() is report
    assert agent.flush() == report
    agent.drain()
    for call in (lambda: agent.track("u", "e"), agent.start, agent.ping):
        with pytest.raises(AgentClosed):
            call()
    assert running_thread(agent) is None
    assert repr(agent) == "<ThreadedAgent [closed | 0 queued, 0 bytes | 0 in flight]>"


def test_closing_what_was_never_used_is_fine() -> None:
    """A close without any call has an empty report."""
    assert ThreadedAgent(transport=Carrier()).close().ok


def test_many_threads_share_it(workspace: Workspace) -> None:
    """Many threads call at the same time, from the first call on."""
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
    """An infinite timeout is accepted, although locks of the standard library have a limit."""
    agent = ThreadedAgent(transport=Carrier())
    agent.track("u", "e")
    assert agent.flush(float("inf")).ok
    assert agent.close(float("inf")).ok


def test_close_at_a_dead_host_ends_by_its_deadline(caplog: pytest.LogCaptureFixture) -> None:
    """The close returns a report and writes a line to the log."""
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
    """Faults of the server are handled as by `Agent`."""
    workspace.faults(503, Fault(drop="after"), 429)
    agent = workspace.threaded_agent(retry=Retry(wait_initial=0.01))
    agent.track("u", "e")
    assert agent.flush().ok
    assert agent.stats().retries == 3
    assert len(workspace.events()) == 1
    agent.close()


def test_ping_raises_what_went_wrong() -> None:
    """A failed ping raises its error in the thread of the caller."""
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
    """A SystemExit in a task leaves the event loop past all that awaits the task."""

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
    assert "as if a hook held it: 1 messages are undelivered" in caplog.text
    leave.set()
    thread.join(30)
    assert not thread.is_alive()
    report = agent.close()
    assert (report.delivered, report.pending) == (2, 0)
    assert agent.close() is report


def test_a_hook_that_holds_the_loop_does_not_hold_a_flush_with_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flush returns the counts of its deadline."""
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
    """A hook runs in the thread for which the close would wait."""
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
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_signal_handler_may_use_it_while_it_starts(monkeypatch: pytest.MonkeyPatch, wait: str, when: str) -> None:
    """A handler that runs in the middle of a start finds the same agent, and one thread remains."""
    carrier = Carrier()
    agent = ThreadedAgent(transport=carrier)
    before = threading.active_count()
    start = threading.Thread.start

    def interrupted(self: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, "start", start)
        if when == "after":
            start(self)
        agent.track("u", "of the handler")
        if wait != "track":
            assert getattr(agent, wait)().delivered == 1
        if when == "before":
            start(self)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    if wait == "close":
        with pytest.raises(AgentClosed):
            agent.track("u", "e")
    else:
        agent.track("u", "e")
        agent.flush()
    assert agent.close().ok
    assert carrier.events()[0] == "of the handler"
    for thread in threading.enumerate():
        if thread.name == "salesmachine":
            thread.join(30)
    assert threading.active_count() == before


def test_a_hook_may_track_while_the_agent_starts() -> None:
    """Queued messages are delivered at once, and the start and the hook do not wait for each other."""

    def hook(_delivery: object) -> None:
        agent.track("u", "from the hook")

    agent = ThreadedAgent(transport=Carrier(), on_delivered=hook)
    for _ in range(100):
        agent._agent.track("u", "queued")
    agent.start()
    assert agent.flush().delivered >= 100
    agent.close()


def test_a_start_that_is_interrupted_is_done_by_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of it, before or after the thread has begun."""
    start = threading.Thread.start
    for begun in (False, True):
        agent = ThreadedAgent(transport=Carrier())
        before = threading.active_count()

        def interrupted(self: threading.Thread, begun: bool = begun) -> None:
            if begun:
                start(self)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", interrupted)
            with pytest.raises(KeyboardInterrupt):
                agent.track("u", "e")
        assert agent.track("u", "e")
        assert agent.close().delivered == 1
        for thread in threading.enumerate():
            if thread.name == "salesmachine":
                thread.join(30)
        assert threading.active_count() == before


def test_closing_in_many_threads_at_once_while_others_wait() -> None:
    """All callers get the same report, and none waits for a loop that has ended."""
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
    """Bad arguments raise the same errors as for `Agent`."""
    with pytest.raises(ConfigError):
        ThreadedAgent("to:ken")
    with pytest.raises(ConfigError):
        ThreadedAgent(transport=Carrier(), concurrency=0)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), OSError("no descriptors"), MemoryError()])
def test_no_thread_to_be_had_is_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """Calls keep their messages, with one line for all of them; a later call tries again."""
    agent = ThreadedAgent(transport=Carrier())
    tried = 0

    def refuse(self: object) -> None:
        nonlocal tried
        tried += 1
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(5000):
            assert agent.track("u", "e")
    assert len(caplog.records) == 1
    assert f"no thread could be started to deliver messages ({error})" in caplog.text
    assert tried < 10
    assert agent.stats().queued == 5000
    monkeypatch.setattr(agent._background, "_retry_at", 0.0)
    assert agent.track("u", "e")
    assert running_thread(agent) is not None
    assert agent.close().delivered == 5001


def test_a_close_without_a_thread_delivers_in_the_calling_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A close delivers in its own thread if no other can be started."""
    agent = ThreadedAgent(transport=Carrier())

    def refuse(self: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert agent.track("u", "e")
    with pytest.raises(RuntimeError, match="start new thread"):
        agent.flush()
    report = agent.close()
    assert (report.delivered, report.ok) == (1, True)
    assert agent.close() is report


async def test_a_close_without_a_thread_on_an_event_loop_reports(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The rest is pending in the report, and the next close delivers it."""
    agent = ThreadedAgent(transport=Carrier())

    def refuse(self: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert agent.track("u", "e")
        assert agent.close().pending == 1
    assert "an agent could not be closed" in caplog.text
    assert agent.close().delivered == 1


def test_without_descriptors_calls_go_on_and_waiting_answers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread tries again until it has its loop."""
    monkeypatch.setattr(loop_thread, "RETRY_SECONDS", 3600.0)  # each call is a try of its own
    monkeypatch.setattr(loop_thread, "_log", RateLimitedLogger())

    def fail() -> None:
        raise OSError("no more file descriptors")

    agent = ThreadedAgent(transport=Carrier())
    with monkeypatch.context() as patch:
        patch.setattr(loop_thread, "_try_descriptors", fail)
        assert agent.track("u", "e")
        for call in (agent.start, agent.ping, agent.drain):
            with pytest.raises(OSError, match="descriptors"):
                call()
        assert agent.flush().pending == 1
        assert agent.flush(30).pending == 1
        assert agent.close(30).pending == 1
    assert "no event loop could be made" in caplog.text
    assert "does not answer" not in caplog.text
    assert agent.track("u", "e")
    assert agent.close(30).delivered == 2


def test_a_forgotten_agent_without_descriptors_delivers_and_ends_once_there_are_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failure to make the loop fails waiting calls, but not the end of the thread."""
    monkeypatch.setattr(loop_thread, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(loop_thread, "_log", RateLimitedLogger())
    tried = [threading.Event(), threading.Event()]
    carrier = Carrier()

    def fail() -> None:
        tried[tried[0].is_set()].set()
        raise OSError("no more file descriptors")

    with monkeypatch.context() as patch:
        patch.setattr(loop_thread, "_try_descriptors", fail)
        agent = ThreadedAgent(transport=carrier)
        assert agent.track("u", "e")
        thread = agent._background.thread()
        assert tried[0].wait(30)
        with pytest.warns(ResourceWarning, match="unclosed ThreadedAgent"):
            del agent
        tried[1].clear()
        assert tried[1].wait(30)  # once more, after the end was submitted
    assert thread._ending.acquire(timeout=30)
    assert carrier.events() == ["e"]


def test_a_task_factory_with_two_arguments_is_no_obstacle() -> None:
    """A task factory without the parameter for a context is supported."""

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coroutine, loop=loop)

    async def main() -> Report:
        asyncio.get_running_loop().set_task_factory(factory)
        async with Agent(transport=Carrier()) as agent:
            agent.track("u", "e")
        return await agent.flush()

    assert asyncio.run(main()).delivered == 1


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy, pickle.dumps])
def test_no_handle_can_be_copied(copying: Callable[[object], object]) -> None:
    """The end of a copy would end the delivery, or close what the other still uses."""
    closed = ThreadedAgent(transport=Carrier())
    closed.close()
    for handle in (closed, Agent(transport=Carrier()), Recorder(), HttpTransport("t"), AccessClient("t"), Sandbox()):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copying(handle)


@pytest.mark.parametrize("number", [1, 5])
def test_a_logging_handler_may_make_the_first_call(number: int) -> None:
    """The new thread's asyncio logs, which needs the lock that the caller holds."""
    carrier = Carrier()
    agent = ThreadedAgent(transport=carrier)
    root = logging.getLogger()
    done: list[bool] = []

    class Tracking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name == "application":
                done.extend(agent.track("u", "logged") for _ in range(number))

    handler = Tracking()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        thread = threading.Thread(target=logging.getLogger("application").error, args=("trouble",), daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
    assert done == [True] * number
    assert agent.close().delivered == number


def test_several_agents_that_are_held_are_given_up_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the exit all agents have the same deadline."""
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.05)
    monkeypatch.setattr(module, "_running", set())
    leave = threading.Event()
    entered: list[threading.Event] = []
    agents = []
    for _ in range(8):
        held = threading.Event()

        def hook(_delivery: object, held: threading.Event = held) -> None:
            held.set()
            leave.wait(30)

        agent = ThreadedAgent(
            transport=Carrier(), on_delivered=hook, batching=Batching(linger=0), timeouts=Timeouts(close=1.5)
        )
        agent.track("u", "e")
        entered.append(held)
        agents.append(agent)
    for held in entered:
        assert held.wait(30)
    for agent in agents:
        agent.track("u", "left")
    threads = [running for agent in agents for running in (agent._background.thread()._thread,) if running]
    began = time.monotonic()
    with pytest.warns(RuntimeWarning, match="8 messages were not delivered before the process ended"):
        module.close_all()
    assert time.monotonic() - began < 10  # one after the other would take 12
    leave.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed ThreadedAgent:ResourceWarning")
def test_a_forgotten_agent_delivers_ends_its_thread_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """A collected agent delivers and ends its thread, and no caller waits for it."""
    carrier = Carrier()
    agent = ThreadedAgent(transport=carrier, batching=Batching(linger=3600.0))
    agent.track("u", "e")
    thread = running_thread(agent)
    assert thread is not None
    del agent
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()
    assert carrier.events() == ["e"]
    assert carrier.closed == 1
    assert "a ThreadedAgent was not closed: its last 1 messages are being delivered" in caplog.text


@pytest.mark.slow
def test_a_forgotten_agent_that_was_never_used_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """An agent without a call has no thread and causes no warning."""
    agent = ThreadedAgent(transport=Carrier())
    del agent
    gc.collect()
    assert not caplog.records


@pytest.mark.parametrize(
    ("options", "warned"),
    [({}, True), ({"enable-threads": True}, False), ({b"threads": b"2"}, False), ({"master": True}, True)],
)
def test_uwsgi_without_threads_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, options: Any, warned: bool
) -> None:
    """uWSGI without --enable-threads starts no thread, so the agent logs it."""
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(opt=options, worker_id=lambda: 1))
    agent = ThreadedAgent(transport=Carrier())
    agent.track("u", "e")
    assert ("Start it with --enable-threads" in caplog.text) is warned
    agent.close()


def test_after_the_exit_calls_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that still track while the process ends get False, not a traceback."""
    used, unused = ThreadedAgent(transport=Carrier()), ThreadedAgent(transport=Carrier())
    used.track("u", "e")
    used.close()
    monkeypatch.setattr(_process, "_over", True)
    for agent in (used, unused):
        assert not agent.contact("u")
        assert not agent.account("a")
        assert not agent.track("u", "e")
        assert not agent.pageview("u")
        assert not agent.alias("u", "v")
    assert unused.stats().accepted == 0
    assert running_thread(unused) is None


def test_the_signatures_are_the_agents() -> None:
    """Arguments and calls: what one takes, the other takes."""
    keywords = {
        name
        for name, parameter in inspect.signature(Agent).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert set(Options.__annotations__) == keywords
    for name in ("contact", "account", "track", "pageview", "alias", "bind", "flush", "drain", "ping", "stats"):
        ours, theirs = (inspect.signature(getattr(kind, name)) for kind in (ThreadedAgent, Agent))
        assert list(ours.parameters) == list(theirs.parameters), name


def test_celerys_worker_processes_close_it_at_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery's signal closes the agent, because the processes end by os._exit; an example has a real one."""
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
    monkeypatch.setattr(_process, "_exits", [module.close_all])
    monkeypatch.setattr(_process, "_over", False)
    receiver()
    assert agent.close().delivered == 1
    assert running_thread(agent) is None


def test_the_callback_of_multiprocessing_is_registered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child registers one callback for all its agents, and so does a child of a child."""
    util: Any = multiprocessing.util
    monkeypatch.setattr(_process, "_finalizer", None)
    before = dict(util._finalizer_registry)
    _process.prepare_exit()
    assert util._finalizer_registry == before
    monkeypatch.setattr(multiprocessing.process, "parent_process", lambda: object())
    monkeypatch.setattr(util, "_finalizer_registry", {})
    for _ in range(3):
        _process.prepare_exit()
    assert len(util._finalizer_registry) == 1
    util._finalizer_registry.clear()
    _process.prepare_exit()
    assert len(util._finalizer_registry) == 1


def test_a_broken_handler_of_asyncios_lines_keeps_nothing_from_being_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio logs in the middle of making an event loop, where a handler that raises would leave half of one."""
    seen: list[str] = []

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(threading.current_thread().name)
            raise RuntimeError("the handler is broken")

    asyncio_logger = logging.getLogger("asyncio")
    monkeypatch.setattr(asyncio_logger, "handlers", [Broken()])
    monkeypatch.setattr(asyncio_logger, "level", logging.DEBUG)
    asyncio_logger.manager._clear_cache()  # type: ignore[attr-defined]
    try:
        with ThreadedAgent(transport=(carrier := Carrier())) as agent:
            assert agent.track("u", "e")
            assert agent.flush().delivered == 1
    finally:
        monkeypatch.undo()
        asyncio_logger.manager._clear_cache()  # type: ignore[attr-defined]
    assert len(carrier.delivered) == 1
    assert "salesmachine" in seen
