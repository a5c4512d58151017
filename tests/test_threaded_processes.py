"""The agent without an event loop in processes of their own: exits, forks, signals, interpreters that end."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from salesmachine_async import Batching, Retry, ThreadedAgent
from salesmachine_async import _log as log_module
from salesmachine_async.sandbox import Sandbox
from salesmachine_async.testing import Workspace, serve
from tests.support.carriers import Carrier

DEAD = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def server() -> Iterator[Sandbox]:
    with serve() as sandbox:
        yield sandbox


@pytest.fixture
def workspace(server: Sandbox) -> Workspace:
    return Workspace(server)


def run(
    url: str, source: str, *, before: str = "", token: str = "exits", status: int = 0, **environment: str
) -> tuple[str, str]:
    """Run a script to its end; returns what it wrote on stdout and stderr."""
    prelude = f"{before}\nimport os, sys, threading\nfrom salesmachine_async import *\n"
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
    """Any end of the program without a close delivers all messages, those of a collected agent too."""
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
    assert ("Error: the program failed" in err) == ("raise" in end)
    assert "salesmachine_async: a ThreadedAgent was not closed: its last 1 messages are being delivered" in err


@pytest.mark.slow
def test_an_exit_at_a_dead_host_ends_in_time_and_says_how_much_was_left() -> None:
    """The lines appear on stderr although no logging is configured."""
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@needs_fork
def test_children_of_multiprocessing_deliver_at_their_end(workspace: Workspace) -> None:
    """Children without atexit callbacks (before Python 3.13) deliver the messages of the module's agent."""
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


@pytest.mark.slow
@needs_fork
def test_a_child_of_a_closed_agent_finds_it_closed(workspace: Workspace) -> None:
    """An agent that was closed in the parent is closed in the child."""
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


# The ends of processes: starts that fail, calls that come late, forks that Python does not see.


@pytest.mark.slow
def test_the_first_call_in_an_exit_handler_is_delivered(workspace: Workspace) -> None:
    """The first call in an exit handler is delivered, also by CPython 3.12.0 to 3.12.2, which start no thread."""
    out, err = run(
        workspace.url,
        """
        import atexit
        agent = ThreadedAgent()
        atexit.register(lambda: print(agent.track("u", "goodbye")))
        """,
        token=workspace.token,
    )
    assert out == "True\n"
    assert not err or "no thread could be started" in err
    assert [event["event_uid"] for event in workspace.events()] == ["goodbye"]


@pytest.mark.slow
def test_a_call_in_an_exit_handler_after_the_end_returns_false(workspace: Workspace) -> None:
    """A call in a handler registered before the import returns False, without a traceback or a silent loss."""
    out, err = run(
        workspace.url,
        """
        agent, unused = ThreadedAgent(), ThreadedAgent()
        agent.track("u", "in time")
        """,
        before="import atexit; atexit.register(lambda: print(agent.track('u', 'late'), unused.track('u', 'late')))",
        token=workspace.token,
    )
    assert (out, err) == ("False False\n", "")
    assert [event["event_uid"] for event in workspace.events()] == ["in time"]


@pytest.mark.slow
@pytest.mark.parametrize("used", [True, False])
def test_a_finalizer_at_the_end_of_the_interpreter_returns(workspace: Workspace, used: bool) -> None:
    """A call at the end of the interpreter returns, where CPython 3.11 waited for a new thread for ever."""
    out, err = run(
        workspace.url,
        f"""
        agent = ThreadedAgent()
        if {used}:
            agent.track("u", "in time")
        class Last:
            def __del__(self, agent=agent, write=os.write):
                write(1, repr([agent.track("u", "late"), agent.contact("u"), agent.stats().accepted]).encode())
        last = Last()
        """,
        token=workspace.token,
    )
    assert (out, err) == (f"[False, False, {int(used)}]", "")


@pytest.mark.slow
def test_threads_that_track_while_the_interpreter_ends_see_no_exception(workspace: Workspace) -> None:
    """Daemon threads that track until the very end see no exception."""
    _, err = run(
        workspace.url,
        """
        agent, fresh = ThreadedAgent(), [ThreadedAgent() for _ in range(200)]
        def work(n):
            while True:
                agent.track("u", "e")
                if fresh:
                    fresh.pop().track("u", "fresh")
        for n in range(4):
            threading.Thread(target=work, args=(n,), daemon=True).start()
        agent.flush()
        """,
        token=workspace.token,
    )
    assert "Traceback" not in err


@pytest.mark.slow
def test_without_descriptors_the_message_is_kept_until_there_are_some(workspace: Workspace) -> None:
    """A call raises nothing; the thread tries again; what was tracked is delivered."""
    out, err = run(
        workspace.url,
        """
        import resource
        agent = ThreadedAgent()
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limit[1]))
        for n in range(1000):
            assert agent.track("u", "e")
        assert agent.flush(30).pending == 1000
        assert agent.close(30).pending == 1000
        assert agent.track("u", "e")
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        while (report := agent.close(30)).pending:
            pass  # the thread was in the middle of a try
        print(report.delivered)
        """,
        token=workspace.token,
    )
    assert out == "1001\n"
    assert err.splitlines()[0].startswith(
        "salesmachine_async: no event loop could be made to deliver messages ([Errno 24]"
    )
    assert len(err.splitlines()) == 2, err


@pytest.mark.slow
def test_without_descriptors_an_exit_says_how_much_is_left(workspace: Workspace) -> None:
    """The exit reports the number of messages, and does not hang."""
    _, err = run(
        workspace.url,
        """
        import resource
        agent = ThreadedAgent()
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        agent.track("u", "e")
        """,
        token=workspace.token,
    )
    assert "salesmachine_async: an agent could not be closed" in err
    assert "1 messages were not delivered before the process ended" in err


@pytest.mark.slow
def test_without_threads_an_exit_delivers_all_the_same(workspace: Workspace) -> None:
    """The exit delivers in the main thread."""
    out, err = run(
        workspace.url,
        """
        def refuse(*_, **__):
            raise RuntimeError("can't start new thread")
        threading.Thread.start = refuse
        agent = ThreadedAgent()
        print(all([agent.track("u", "e") for n in range(5000)]))
        """,
        token=workspace.token,
    )
    assert out == "True\n"
    assert err == (
        "salesmachine_async: no thread could be started to deliver messages (can't start new thread); "
        "it will be tried again\n"
    )
    assert len(workspace.events()) == 5000


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize("first", ["track", "flush", "close"])
def test_a_fork_by_c_starts_a_thread_anew(workspace: Workspace, first: str) -> None:
    """No hook of Python's runs: the first call of the child notices it, and drops what it has inherited."""
    out, err = run(
        workspace.url,
        f"""
        import ctypes, time
        agent = ThreadedAgent(batching=Batching(linger=30))
        agent.track("u", "of the parent")
        agent._background.thread().join(0.05)
        pid = ctypes.PyDLL(None).fork()
        if pid == 0:
            if {first!r} == "track":
                assert agent.track("u", "of the child")
                assert agent.flush(20).delivered == 1, agent.stats()
            assert getattr(agent, {first if first != "track" else "close"!r})().ok
            assert agent.stats().accepted == {int(first == "track")}, agent.stats()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        agent.track("u", "of the parent, later")
        print(agent.close().delivered)
        """,
        token=workspace.token,
    )
    assert (out, err) == ("2\n", "")
    wanted = ["of the child"] * (first == "track") + ["of the parent", "of the parent, later"]
    assert sorted(event["event_uid"] for event in workspace.events()) == wanted
    assert workspace.summary()["duplicates"] == 0


@pytest.mark.slow
@needs_fork
def test_a_child_forked_while_another_thread_logs_is_not_stuck(workspace: Workspace) -> None:
    """The package holds no lock in the child while another thread logs at the fork."""
    run(
        workspace.url,
        """
        import logging, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from salesmachine_async._log import RateLimitedLogger
        class Handler(logging.Handler):
            def emit(self, record):
                pass
        logging.getLogger("salesmachine_async").addHandler(Handler())
        log = RateLimitedLogger(interval=0.0)
        def work():
            while True:
                log("kind", logging.WARNING, "text")
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        for n in range(60):
            if (pid := os.fork()) == 0:
                log("kind", logging.WARNING, "text")
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        os._exit(0)
        """,
        token=workspace.token,
    )


@pytest.mark.slow
@pytest.mark.parametrize("call", ["close()", "flush()", "flush(10)"])
def test_a_signal_handler_may_wait_in_the_middle_of_any_call(workspace: Workspace, call: str) -> None:
    """A busy producer, interrupted at a random point: everything accepted is delivered."""
    out, err = run(
        workspace.url,
        f"""
        import random, signal
        def handler(*_):
            report = agent.{call}
            os.write(1, f"{{report.ok}} {{report.delivered == agent.stats().accepted}}\\n".encode())
            os._exit(0)
        signal.signal(signal.SIGALRM, handler)
        agent = ThreadedAgent(queue=QueueLimits(max_messages=10**7, max_bytes=2**30), timeouts=Timeouts(close=30))
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.1))
        while True:
            agent.track("u", "e")
        """,
        token=workspace.token,
    )
    assert (out, err) == ("True True\n", "")


@pytest.mark.slow
def test_lines_are_left_out_while_their_handler_is_held_by_another_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread waits for the first of them alone; once the handler is free, the next ones are written."""
    monkeypatch.setattr(log_module, "HANDLER_SECONDS", 0.01)
    caplog.set_level(logging.DEBUG, "salesmachine_async")
    carrier = Carrier([ValueError()])
    with ThreadedAgent(transport=carrier, retry=Retry(wait_initial=0.01), batching=Batching(linger=0)) as agent:
        handler = caplog.handler
        handler.acquire()
        try:
            agent.track("u", "held")
            assert agent.flush().ok
            assert not [record for record in caplog.records if "delivered" in record.getMessage()]
        finally:
            handler.release()
        agent.track("u", "free")
        assert agent.flush().ok
    assert [record for record in caplog.records if "delivered after" in record.getMessage()]


@pytest.mark.slow
@pytest.mark.parametrize("call", ["close(30)", "flush()", "close(0)"])
def test_a_signal_handler_may_wait_while_its_thread_holds_a_logging_handler(workspace: Workspace, call: str) -> None:
    """The agent's own thread leaves its lines out rather than wait for the handler; those behind are written."""
    out, err = run(
        workspace.url,
        f"""
        import logging, signal
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        logging.getLogger("salesmachine_async").setLevel(logging.DEBUG)
        agent = ThreadedAgent(batching=Batching(linger=30))

        class Interrupting(logging.Handler):
            def emit(self, record):
                if record.name == "application":
                    os.kill(os.getpid(), signal.SIGTERM)  # its lock is held

        logging.getLogger().addHandler(Interrupting())
        signal.signal(signal.SIGTERM, lambda *_: reports.append(agent.{call}))
        reports = []
        agent.start()
        for n in range(50):
            agent.track("u", "e")
        logging.getLogger("application").error("interrupted")
        assert len(reports) == 1
        while agent.close(30).pending:
            pass
        print(agent.close().delivered, reports[0].pending if "close(0)" == "{call}" else reports[0].ok)
        """,
        token=workspace.token,
    )
    assert out in {"close(0)": ("50 0\n", "0 0\n")}.get(call, ("50 True\n",)), err


@pytest.mark.slow
def test_a_signal_handler_may_close_while_the_program_waits(workspace: Workspace) -> None:
    """A handler closes the agent during a flush of the main thread."""
    out, err = run(
        workspace.url,
        """
        import signal
        def handler(*_):
            print(agent.close(0).lost)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        agent = ThreadedAgent(base_url="http://127.0.0.1:9")
        agent.track("u", "e")
        print(agent.flush().lost)
        """,
        token=workspace.token,
    )
    assert out == "Counter({<LossReason.CLOSED: 'closed'>: 1})\n" * 2
    assert "lost 1 messages (closed)" in err
