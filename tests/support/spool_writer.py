"""
A process with an agent that only writes to a spool: ``python -m tests.support.spool_writer PATH NAME``.

It tracks numbered events until stdin ends, then closes the agent and prints how many there were.
"""

import asyncio
import sys

from salesmachine_async import Agent, Spool


async def write(path: str, name: str) -> int:
    """Track about 1,000 events a second."""
    number = 0
    ending = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    async with Agent(spool=Spool(path, deliver=False, commit=0.02), enabled=True) as agent:
        while not ending.done():
            for _ in range(10):
                agent.track(name, "written", {"n": number})
                number += 1
            await asyncio.sleep(0.01)
    return number


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(write(*sys.argv[1:]))}\n")
