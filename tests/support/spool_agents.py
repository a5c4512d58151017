"""
Processes with agents and a spool, for the tests that kill them: ``python -m tests.support.spool_agents WHAT PATH …``.

The address of the API is in the environment. What they print is unbuffered, one JSON document a line.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
import time

from salesmachine_async import Agent, Batching, QueueLimits, Retry, Spool, SpoolFailed, ThreadedAgent, Timeouts
from tests.support.spool_process import say

BATCHING = Batching(linger=0.05)
RETRY = Retry(wait_initial=0.02, wait_max=0.05)
CONTACTS = 5


def _track(agent: Agent | ThreadedAgent, number: int) -> None:
    assert agent.track(f"c{number % CONTACTS}", "e", {"n": number}, message_id=f"m{number}")


def peak_kb() -> int:
    """
    Return the most memory that this program has taken.

    Not ``ru_maxrss``: it begins with what the process took that started this one.
    """
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def flood(path: str, first: str) -> None:
    """Track about 5,000 messages a second, and say after each sync how many are on disk or delivered."""

    async def main() -> None:
        async with Agent(spool=Spool(path, commit=0.05), batching=BATCHING, retry=RETRY, concurrency=2) as agent:
            number = int(first)
            while True:
                for _ in range(100):
                    _track(agent, number)
                    number += 1
                accepted = number
                await agent.sync()
                say(synced=accepted)
                await asyncio.sleep(0.02)

    asyncio.run(main())


def drain(path: str) -> None:
    """Deliver what is there when the word is given, and say how much it was."""

    async def main() -> None:
        agent = Agent(spool=Spool(path, commit=0.02), batching=BATCHING, retry=RETRY)
        say(ready=True)
        await asyncio.to_thread(sys.stdin.readline)
        async with agent:
            while any(sender.held for sender in agent._flusher._senders[:-1]):
                await asyncio.sleep(0.01)
        say(recovered=agent.stats().recovered, delivered=agent.stats().delivered)

    asyncio.run(main())


def plan(path: str, plan: str) -> None:
    """Set the plan of a contact; wait until that is on disk, then be killed or deliver."""

    async def main() -> None:
        agent = Agent(spool=path, batching=BATCHING, retry=RETRY)
        agent.contact("c", {"plan": plan})
        await agent.sync()
        say(ready=True)
        if plan == "free":
            signal.pause()
        async with agent:
            await agent.flush()

    asyncio.run(main())


def unclosed(path: str) -> None:
    """Track, and end without a close."""
    agent = Agent(spool=Spool(path, commit=60))
    for number in range(7):
        _track(agent, number)
    say(done=True)


def threaded(path: str) -> None:
    """Track in a threaded agent, which the exit closes."""
    agent = ThreadedAgent(spool=Spool(path, commit=60), batching=BATCHING, timeouts=Timeouts(close=1.0))
    for number in range(7):
        _track(agent, number)
    say(done=True)


def forgotten(path: str) -> None:
    """Forget an agent, and end."""
    agent = Agent(spool=Spool(path, commit=60))
    for number in range(7):
        _track(agent, number)
    del agent
    gc.collect()
    say(done=True)


def prefork(path: str) -> None:
    """Load the application before the fork, as ``gunicorn --preload`` does, and serve in four children."""
    agent = ThreadedAgent(spool=Spool(path, commit=0.02), batching=BATCHING, timeouts=Timeouts(close=0.5))
    children: list[int] = []
    for worker in range(4):
        pid = os.fork()
        if not pid:
            for number in range(worker * 1000, worker * 1000 + 200):
                _track(agent, number)
            agent.sync()
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            say(worker=worker)
            while True:
                time.sleep(0.05)  # not signal.pause(), which a signal that comes just before it does not end
        children.append(pid)
    for number in range(4000, 4100):
        _track(agent, number)
    agent.sync()
    say(children=children)
    sys.stdin.readline()
    for pid in children[:2]:
        os.kill(pid, signal.SIGKILL)
    for pid in children[2:]:
        os.kill(pid, signal.SIGTERM)
    for pid in children:
        os.waitpid(pid, 0)
    say(closed=agent.close(0.5).kept)


def hoard(path: str, max_bytes: str) -> None:
    """Track until the spool is full, and more; say when, and after the word how much is kept."""

    async def main() -> None:
        spool = Spool(path, commit=0.01, max_bytes=int(max_bytes))
        agent = Agent(spool=spool, queue=QueueLimits(max_messages=2000), batching=BATCHING, retry=RETRY)
        async with agent:
            number = full = 0
            while full < 20:
                for _ in range(40):
                    number += agent.track("c", "e", {"n": number, "filler": "x" * 3000})
                try:
                    await agent.sync()
                except SpoolFailed:
                    full += 1
                await asyncio.sleep(0.01)
            state = agent.stats().spool
            say(state=state.state if state else None)
            await asyncio.to_thread(sys.stdin.readline)
            say(kept=(await agent.aclose(2)).kept)

    asyncio.run(main())


def backlog(path: str, count: str) -> None:
    """Leave many messages on disk, without them in memory."""

    async def main() -> None:
        agent = Agent(spool=Spool(path, commit=0.01, sync=False), queue=QueueLimits(max_messages=20_000), retry=RETRY)
        async with agent:
            for number in range(int(count)):
                while not agent.track("c", "e", {"n": number}):
                    await asyncio.sleep(0.01)
                if number % 500 == 0:
                    await asyncio.sleep(0)
            say(kept=(await agent.aclose(2)).kept)

    asyncio.run(main())


def start(path: str) -> None:
    """Start on a backlog; say how long that took, and how much memory it takes to deliver it in order."""

    class Order:
        def __init__(self) -> None:
            self.next = 0

        async def send(self, batch: object) -> object:
            numbers = [message["params"]["n"] for message in batch.messages()]  # type: ignore[attr-defined]
            assert numbers == [*range(self.next, self.next + len(numbers))]
            self.next += len(numbers)
            return OK

        async def aclose(self) -> None:
            pass

    from salesmachine_async._delivery.transport import HttpTransport
    from tests.support.carriers import OK

    async def main() -> None:
        order = Order()
        order.destination = HttpTransport().destination  # type: ignore[attr-defined]
        began = time.monotonic()
        agent = Agent(transport=order, spool=Spool(path, sync=False))  # type: ignore[arg-type]
        await agent.start()
        started = time.monotonic() - began
        await asyncio.sleep(0)
        while any(sender.held for sender in agent._flusher._senders[:-1]):
            await asyncio.sleep(0.01)
        await agent.aclose()
        say(started=started, delivered=order.next, peak_mb=peak_kb() / 1024, seconds=time.monotonic() - began)

    asyncio.run(main())


def limited(path: str) -> None:
    """Track below a limit of the size of files, which the disk's segments exceed."""

    async def main() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        async with Agent(spool=Spool(path, commit=0.01), batching=BATCHING) as agent:
            _track(agent, 1)
            await agent.flush()
            try:
                _track(agent, 2)
                await agent.sync()
            except Exception as exc:
                say(error=str(exc))
            report = await agent.aclose()
        say(delivered=report.delivered)

    asyncio.run(main())


if __name__ == "__main__":
    programs = (flood, drain, plan, unclosed, threaded, forgotten, prefork, hoard, backlog, start, limited)
    {each.__name__: each for each in programs}[sys.argv[1]](*sys.argv[2:])
