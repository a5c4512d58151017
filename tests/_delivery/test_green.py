"""Threads and locks where gevent or eventlet have replaced those of Python; tests/hosts has the real ones."""

from __future__ import annotations

import _thread
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from salesmachine_async import ThreadedAgent
from salesmachine_async import _green as green
from tests.support.carriers import Carrier


def gevent(patched: bool) -> dict[str, Any]:
    return {
        "gevent.monkey": SimpleNamespace(
            is_module_patched=lambda module: patched and module == "threading",
            get_original=lambda module, name: getattr(sys.modules[module], name),
        )
    }


def eventlet(patched: bool) -> dict[str, Any]:
    return {
        "eventlet.patcher": SimpleNamespace(
            is_monkey_patched=lambda what: patched and what == "thread", original=lambda module: sys.modules[module]
        )
    }


@pytest.mark.parametrize("library", [gevent, eventlet])
@pytest.mark.parametrize("patched", [False, True])
def test_an_agent_delivers_from_a_thread_of_the_system(
    monkeypatch: pytest.MonkeyPatch, library: Any, patched: bool
) -> None:
    """The original start of a thread is used, and waiting lets greenlets run."""
    for name, module in library(patched).items():
        monkeypatch.setitem(sys.modules, name, module)
    assert green.switches_greenlets() is patched
    naps: list[float] = []
    sleep = time.sleep

    def nap(seconds: float) -> None:
        naps.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", nap)
    if patched:
        monkeypatch.setattr(threading.Thread, "start", lambda self: pytest.fail("a greenlet"))
    agent = ThreadedAgent(transport=Carrier(takes=0.01))
    assert agent.track("u", "e")
    assert agent.flush().delivered == 1
    assert agent.close().ok
    assert bool(naps) is patched


def test_waiting_for_a_lock_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for a lock ends in time, with greenlets and without."""
    lock = _thread.allocate_lock()
    lock.acquire()
    assert not green.acquire(lock, 0.0)
    for name, module in gevent(True).items():
        monkeypatch.setitem(sys.modules, name, module)
    assert not green.acquire(lock, 0.01)
    lock.release()
    assert green.acquire(lock, -1)
