"""Whole processes: signals, forks, exits. Each script is a real interpreter that tracks into a real sandbox."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from typing import Any

import pytest

from salesmachine_async.sandbox import Sandbox

pytestmark = pytest.mark.slow

TOKEN = "processes"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


class Script:
    """A Python process under test."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        """The next line it prints."""
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), 20)).decode().strip()

    async def end(self) -> tuple[int, str, str]:
        """Wait for the end; return the exit status, and the rest of stdout and stderr."""
        try:
            out, err = await asyncio.wait_for(self.process.communicate(), 40)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            raise
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


async def start(
    sandbox_url: str, source: str, *options: str, arguments: tuple[str, ...] = (), dev: bool = True
) -> Script:
    """Run a script; it finds `asyncio`, `os`, `sys`, `Agent` and friends, and the sandbox in its environment."""
    prelude = "import asyncio, logging, os, signal, sys, threading, time\nfrom salesmachine_async import *\n"
    # In -X dev asyncio warns of every step that a busy machine makes slow; what it says of errors is still seen.
    prelude += 'logging.getLogger("asyncio").setLevel(logging.ERROR)\n'
    environment = {
        # Not measured: what coverage does in a forked child may hang on a lock of a thread that is not there.
        **{name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
        "SALESMACHINE_API_URL": sandbox_url,
        "SALESMACHINE_API_TOKEN": TOKEN,
        "PYTHONUNBUFFERED": "1",
    }
    return Script(
        await asyncio.create_subprocess_exec(
            sys.executable,
            *(("-X", "dev") if dev else ()),
            *options,
            "-c",
            prelude + textwrap.dedent(source),
            *arguments,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    )


def events(sandbox: Sandbox) -> list[Any]:
    return [event["event_uid"] for event in sandbox.events(TOKEN)]


async def test_sigint_drains_before_the_process_ends(sandbox: Sandbox) -> None:
    """Ctrl-C under asyncio.run: the block is left through the drain."""
    script = await start(
        sandbox.url,
        """
        async def main():
            async with Agent() as agent:
                agent.track("u", "last words")
                print("ready")
                await asyncio.sleep(60)
        asyncio.run(main())
        """,
    )
    assert await script.line() == "ready"
    script.process.send_signal(signal.SIGINT)
    status, _, err = await script.end()
    assert status != 0
    assert "KeyboardInterrupt" in err
    assert "Warning" not in err
    assert events(sandbox) == ["last words"]


@pytest.mark.parametrize("end", ["", "asyncio.run(agent.aclose())"])
async def test_one_agent_serves_one_loop_after_the_other(sandbox: Sandbox, end: str) -> None:
    """A function whose runtime makes an event loop for each invocation: all is delivered, and nothing is said."""
    script = await start(
        sandbox.url,
        f"""
        agent = Agent()
        async def handler(event):
            for n in range(150):
                agent.track("u", f"{{event}} {{n}}")
            assert (await agent.flush(30)).ok
        for event in range(3):
            asyncio.run(handler(event))
        {end}
        """,
        "-W",
        "always",
        dev=True,
    )
    assert await script.end() == (0, "", "")
    assert events(sandbox) == [f"{event} {number}" for event in range(3) for number in range(150)]


async def test_sigterm_with_a_handler_of_the_loop_drains(sandbox: Sandbox) -> None:
    """The usual service: SIGTERM sets an event, the block ends, the drain runs."""
    script = await start(
        sandbox.url,
        """
        async def main():
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
            async with Agent() as agent:
                for n in range(1000):
                    agent.track("u", f"e{n}")
                print("ready")
                await stop.wait()
        asyncio.run(main())
        """,
    )
    assert await script.line() == "ready"
    script.process.send_signal(signal.SIGTERM)
    status, _, err = await script.end()
    assert (status, err) == (0, "")
    assert events(sandbox) == [f"e{number}" for number in range(1000)]


@pytest.mark.parametrize("dev", [False, True])
async def test_a_script_that_forgets_to_close_says_so_at_its_end(sandbox: Sandbox, dev: bool) -> None:
    """Exit with messages left: a line on stderr with their number, even if no logging is configured."""
    script = await start(
        sandbox.url,
        """
        agent = Agent()
        for n in range(230):
            agent.track("u", "e")
        """,
        dev=dev,
    )
    status, _, err = await script.end()
    assert status == 0
    assert "an agent was not closed: 230 messages are lost" in err
    assert ("ResourceWarning" in err) is dev
    assert events(sandbox) == []


async def test_a_script_that_loses_messages_says_so_unless_told_not_to(sandbox: Sandbox) -> None:
    """A loss is written to stderr where no logging is configured; who silences the logger has silence."""
    source = """
        import logging
        if len(sys.argv) > 1:
            logging.getLogger("salesmachine_async").propagate = False
        async def main():
            async with Agent(base_url="http://127.0.0.1:9", timeouts=Timeouts(close=0.1)) as agent:
                agent.track("u", "e")
        asyncio.run(main())
        """
    loud = await (await start(sandbox.url, source)).end()
    # Why, it can say only if the first attempt has failed by the deadline.
    assert loud[2].splitlines()[-1].startswith("salesmachine_async: lost 1 messages (closed)")
    silent = await (await start(sandbox.url, source, arguments=("silent",))).end()
    assert silent == (0, "", "")


async def test_an_outage_does_not_hang_the_exit(sandbox: Sandbox) -> None:
    """Without a server the process ends at the close deadline and reports the lost messages."""
    script = await start(
        "http://127.0.0.1:9",
        """
        import logging; logging.basicConfig()
        async def main():
            async with Agent(timeouts=Timeouts(close=0.3)) as agent:
                agent.track("u", "e")
        asyncio.run(main())
        """,
    )
    status, _, err = await script.end()
    assert status == 0
    assert "lost 1 messages (closed)" in err
    assert TOKEN not in err


FORKED = """
        def child(agent):
            assert agent.stats().accepted == 0, agent
            assert repr(agent).startswith("<Agent [new"), agent
            agent.track("u", "child")
            async def main():
                async with agent:
                    pass
                print("child", agent.stats().delivered)
            asyncio.run(main())
"""


async def test_a_fork_with_messages_queued_duplicates_nothing(sandbox: Sandbox) -> None:
    """gunicorn's preload: tracked before the fork, delivered by the parent alone; the child begins empty."""
    script = await start(
        sandbox.url,
        FORKED
        + """
        agent = Agent()
        for n in range(150):
            agent.track("u", f"parent{n}")
        pid = os.fork()
        if not pid:
            child(agent)
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        async def main():
            async with agent:
                pass
            print("parent", agent.stats().delivered)
        asyncio.run(main())
        """,
    )
    status, out, err = await script.end()
    assert (status, err) == (0, "")
    assert sorted(out.split("\n")[:2]) == ["child 1", "parent 150"]
    assert sorted(events(sandbox)) == sorted(["child", *(f"parent{number}" for number in range(150))])


async def test_a_fork_of_a_running_agent_leaves_the_parent_alone(sandbox: Sandbox) -> None:
    """multiprocessing's fork from a live service: the parent's connections and queue stay as they were."""
    script = await start(
        sandbox.url,
        FORKED
        + """
        import multiprocessing
        async def main():
            agent = Agent(concurrency=2)
            async with agent:
                for n in range(20):
                    agent.track(f"u{n}", "before")
                assert (await agent.flush()).ok
                for n in range(20):
                    agent.track(f"u{n}", "queued")
                process = multiprocessing.get_context("fork").Process(target=in_child, args=(agent,))
                process.start()
                await asyncio.to_thread(process.join)
                assert process.exitcode == 0, process.exitcode
                for n in range(20):
                    agent.track(f"u{n}", "after")
                assert (await agent.flush(timeout=5)).ok
                assert agent.stats().retries == 0, agent.stats()
            print("parent", agent.stats().delivered)
        def in_child(agent):
            # In a thread: the loop of the parent is still marked as running in the one that forked.
            thread = threading.Thread(target=child, args=(agent,))
            thread.start()
            thread.join()
        asyncio.run(main())
        """,
        "-W",
        "ignore::DeprecationWarning",
    )
    status, out, err = await script.end()
    assert (status, err) == (0, "")
    assert sorted(out.split("\n")[:2]) == ["child 1", "parent 60"]
    found = events(sandbox)
    assert [found.count(name) for name in ("before", "queued", "after", "child")] == [20, 20, 20, 1]


async def test_a_fork_while_another_thread_tracks_does_not_deadlock(sandbox: Sandbox) -> None:
    """A child forked during a call of another thread finds no lock taken."""
    script = await start(
        sandbox.url,
        """
        import logging
        logging.disable()  # of the full queue
        agent = Agent()
        stop = threading.Event()
        def work():
            while not stop.is_set():
                agent.track("u", "parent")
        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(20):
            pid = os.fork()
            if not pid:
                agent.track("u", "child")
                os._exit(0 if agent.stats().accepted == 1 else 1)
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        thread.join()
        print("done")
        os._exit(0)
        """,
        "-W",
        "ignore::DeprecationWarning",
    )
    status, out, err = await script.end()
    assert (status, out, err) == (0, "done\n", "")


async def test_a_closed_agent_stays_closed_in_a_child(sandbox: Sandbox) -> None:
    """A fork does not bring an agent back to life."""
    script = await start(
        sandbox.url,
        """
        agent = Agent()
        asyncio.run(agent.aclose())
        pid = os.fork()
        if not pid:
            try:
                agent.track("u", "e")
            except AgentClosed:
                os._exit(7)
            os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """,
    )
    assert await script.end() == (0, "7\n", "")


async def test_a_signal_handler_may_track_at_any_moment(sandbox: Sandbox) -> None:
    """A handler that runs in the middle of a call neither deadlocks nor loses a message."""
    script = await start(
        sandbox.url,
        """
        agent = Agent(batching=Batching(max_messages=3), queue=QueueLimits(max_messages=10_000_000, max_bytes=2**30))
        count = 0
        def handler(*_):
            global count
            accepted = agent.track("u", "signal")
            count += accepted
            if going:
                signal.setitimer(signal.ITIMER_REAL, 0.0001)
        going = True
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0001)
        for n in range(20_000):
            agent.track("u", "call")
        going = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        time.sleep(0.01)  # a signal that came before the timer was stopped
        stats = agent.stats()
        assert stats.accepted == 20_000 + count == stats.queued, (stats, count)
        print(count > 0)
        os._exit(0)
        """,
    )
    assert await script.end() == (0, "True\n", "")


async def test_a_signal_handler_may_raise_at_any_moment(sandbox: Sandbox) -> None:
    """An exception that a handler raises in the middle of a call leaves no lock taken and no count wrong."""
    script = await start(
        sandbox.url,
        """
        agent = Agent(batching=Batching(max_messages=3), queue=QueueLimits(max_messages=10_000_000, max_bytes=2**30))
        class Interrupted(Exception): ...
        def handler(*_):
            raise Interrupted
        signal.signal(signal.SIGALRM, handler)
        done = interrupted = 0
        while interrupted < 3_000:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00002)
                for _ in range(200):
                    done += agent.track("u", "call")
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupted:
                interrupted += 1
        accepted = agent.stats().accepted
        assert done <= accepted <= done + interrupted, (done, accepted, interrupted)
        other = threading.Thread(target=agent.track, args=("u", "from another thread"), daemon=True)
        other.start()
        other.join(20)
        print(agent.stats().accepted - accepted)
        os._exit(0)
        """,
    )
    assert await script.end() == (0, "1\n", "")


async def test_an_import_stays_light(sandbox: Sandbox) -> None:
    """The package pulls in neither a server nor the command line, and touches no logging."""
    script = await start(
        sandbox.url,
        """
        heavy = {"aiohttp.web", "click", "rich", "salesmachine_async.sandbox", "salesmachine_async.cli"}
        print(sorted(heavy & set(sys.modules)))
        """,
    )
    assert await script.end() == (0, "[]\n", "")
