"""
A process of greenlets with a spool: ``python -m tests.hosts.spooled_greenlets gevent|eventlet write|recover``.

All of its greenlets wait for the disk at the same time, while another one counts its turns; then it is killed.
"""

import importlib
import sys

if sys.argv[1] == "gevent":
    importlib.import_module("gevent.monkey").patch_all()
else:
    importlib.import_module("eventlet").monkey_patch()

import json
import os
import signal
import threading
import time

from salesmachine_async import ThreadedAgent

WRITERS, EVENTS = 20, 20
turns = 0


def write(agent: ThreadedAgent, name: int) -> None:
    """Track events, each of which is on disk before the next one."""
    for number in range(EVENTS):
        assert agent.track(f"greenlet {name}", "written", {"pid": name, "n": number})
        agent.sync()


def count_turns() -> None:
    """Count how often other greenlets let this one run."""
    global turns
    while True:
        turns += 1
        time.sleep(0)


def say(**what: object) -> None:
    """Print a document."""
    os.write(1, f"{json.dumps(what)}\n".encode())


def write_all() -> None:
    """Write until all is on disk, say so, and be killed."""
    agent = ThreadedAgent()
    threading.Thread(target=count_turns, daemon=True).start()
    writers = [threading.Thread(target=write, args=(agent, name)) for name in range(WRITERS)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    state = agent.stats().spool
    assert state is not None
    say(turns=turns, delivered=agent.stats().delivered, state=state.state.value)
    os.kill(os.getpid(), signal.SIGKILL)


def recover_all() -> None:
    """Deliver what was left, and say how much that was."""
    with ThreadedAgent() as agent:
        while (stats := agent.stats()).queued or stats.in_flight or not (stats.spool and stats.spool.searches):
            time.sleep(0.01)
    say(recovered=agent.stats().recovered)


if __name__ == "__main__":
    {"write": write_all, "recover": recover_all}[sys.argv[2]]()
