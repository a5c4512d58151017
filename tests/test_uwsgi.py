"""What the agent does within uWSGI, without uWSGI: its module is replaced. tests/hosts has the real one."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from salesmachine_async import SpoolFailed, ThreadedAgent, _background, _process, _uwsgi
from salesmachine_async._uwsgi import Inheritance
from tests.support.carriers import Carrier


@pytest.fixture
def uwsgi(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The module as a master has it that was started without hooks."""
    pid = os.getpid()
    module = SimpleNamespace(opt={"enable-threads": True}, worker_id=lambda: 0, masterpid=lambda: pid)
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    return module


def forked(work: Callable[[], str]) -> str:
    """Return what a forked process says."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the test runner has threads
        child = os.fork()
    if not child:
        try:
            os.write(write, work().encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


def test_no_thread_runs_in_the_master(uwsgi: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    """Calls keep their messages; what waits for an answer says what to do; a close delivers in the calling thread."""
    agent = ThreadedAgent(transport=Carrier())
    for _ in range(3):
        assert agent.track("u", "e")
    assert agent._background.process == 0
    for call in (agent.start, agent.flush, agent.drain, agent.ping):
        with pytest.raises(RuntimeError, match="py-call-uwsgi-fork-hooks"):
            call()
    assert not caplog.records
    assert agent.close().delivered == 3


def test_no_thread_of_a_spool_runs_in_the_master(uwsgi: SimpleNamespace, tmp_path: Path) -> None:
    """A call and `sync` start none and write nothing; the close delivers."""
    agent = ThreadedAgent(transport=Carrier(), spool=tmp_path)
    assert agent.track("u", "e")
    with pytest.raises(SpoolFailed, match="py-call-uwsgi-fork-hooks"):
        agent.sync()
    assert not agent._agent._spooler._committer._running  # type: ignore[union-attr]
    assert not [*tmp_path.glob("*/lock")]
    assert agent.close().delivered == 1


@pytest.mark.parametrize(
    "change", [{"worker_id": lambda: 1}, {"masterpid": lambda: 1}, {"opt": {b"py-call-uwsgi-fork-hooks": b"1"}}]
)
def test_elsewhere_a_thread_runs(uwsgi: SimpleNamespace, change: dict[str, Any]) -> None:
    """In a worker, in a mule, and where the fork is seen."""
    vars(uwsgi).update(change)
    with ThreadedAgent(transport=Carrier()) as agent:
        assert agent.track("u", "e")
        assert agent._background.process == os.getpid()


@pytest.mark.usefixtures("uwsgi")
def test_one_worker_inherits_what_the_master_has_accepted() -> None:
    """The first one that looks, at its exit at the latest; a worker that the master forks later begins empty."""
    agent = ThreadedAgent(transport=Carrier())
    for _ in range(3):
        agent.track("u", "imported")

    def work() -> str:
        exits = agent._background in _background._running
        agent.track("u", "own")
        return f"{agent.close().delivered} {exits}"

    def silent() -> str:
        _process._end()
        return str(agent.stats().delivered)

    assert forked(silent) == "3"
    assert [forked(work), forked(work)] == ["1 False", "1 False"]
    assert agent.stats().queued == 3

    another = ThreadedAgent(transport=Carrier())
    another.track("u", "imported")
    agent = another
    assert [forked(work), forked(work)] == ["2 True", "1 False"]
    for each in (agent, another):
        each.close()


@pytest.mark.usefixtures("uwsgi")
def test_a_spool_is_written_by_the_worker(tmp_path: Path) -> None:
    """Its thread would hang the workers as well."""
    agent = ThreadedAgent(transport=Carrier(), spool=tmp_path / "spool")
    agent.track("u", "imported")
    assert not any(thread.name == "salesmachine-spool" for thread in threading.enumerate())

    def work() -> str:
        agent.track("u", "own")
        return str(agent.close().delivered)

    assert [forked(work), forked(work)] == ["2", "1"]
    agent.close()


def test_the_process_itself_may_become_the_first_worker(uwsgi: SimpleNamespace) -> None:
    """Without a master: what another worker has inherited is not delivered twice."""
    for inherited in (False, True):
        uwsgi.worker_id = lambda: 0
        agent = ThreadedAgent(transport=Carrier())
        agent.track("u", "imported")
        if inherited:
            assert forked(lambda agent=agent: str(agent.close().delivered)) == "1"  # type: ignore[misc]
        uwsgi.worker_id = lambda: 1
        agent.track("u", "own")
        assert agent.close().delivered == (1 if inherited else 2)


def test_no_descriptor_for_an_inheritance_is_a_line_in_the_log(
    uwsgi: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The call keeps its message, as without a thread."""

    def fail() -> None:
        raise OSError("no more file descriptors")

    agent = ThreadedAgent(transport=Carrier())
    with monkeypatch.context() as patch:
        patch.setattr(os, "pipe", fail)
        assert agent.track("u", "e")
    assert "no more file descriptors" in caplog.text
    assert agent.close().delivered == 1


def test_an_inheritance_whose_descriptor_was_closed_is_not_taken() -> None:
    """A daemon closes all that it does not know."""
    inheritance = Inheritance()
    os.close(inheritance._end)
    assert not inheritance.take()


@pytest.mark.parametrize("own", [False, True])
def test_the_exit_callback_of_uwsgi_is_shared(uwsgi: SimpleNamespace, own: bool) -> None:
    """That of the application runs first, whatever it raises; ours is set once, and only where it is needed."""
    seen: list[str] = []

    def application() -> None:
        seen.append("application")
        raise ValueError("the application's")

    if own:
        uwsgi.atexit = application
    _uwsgi.call_at_exit(lambda: seen.append("agent"))
    assert getattr(uwsgi, "atexit", None) is (application if own else None)
    uwsgi.opt["skip-atexit-teardown"] = True
    for _ in range(2):
        _uwsgi.call_at_exit(lambda: seen.append("agent"))
    if own:
        with pytest.raises(ValueError, match="the application's"):
            uwsgi.atexit()
    else:
        uwsgi.atexit()
    assert seen == ["application"] * own + ["agent"]


def test_a_fork_that_python_has_not_seen_is_renewed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the renewal itself calls, and although another thread comes at the same time."""
    renewed: list[int] = []

    class Member:
        pass

    def renew(member: Member) -> None:
        renewed.append(_process.process_id())

    member = Member()
    monkeypatch.setattr(_process, "_watched", {member: renew})
    monkeypatch.setattr(_process, "_pid", 1)
    _process.check_fork()
    _process.check_fork()
    assert renewed == [1]
    assert _process.process_id() == os.getpid()
