"""
A worker that tracks each line of its input, as fast as the network allows: ``… | python -m examples.consumer``.

``await agent.drain()`` holds it back while the queue is nearly full, so that nothing is refused however long the input.
"""

import asyncio
import signal
import sys

from salesmachine_async import Agent, Batching


async def main() -> None:
    """Consume until the input ends or SIGTERM comes."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    loop.add_signal_handler(signal.SIGTERM, lines.feed_eof)

    async with Agent(batching=Batching(max_messages=500)) as agent:
        async for line in lines:
            agent.track(line.decode().strip(), "line_read")
            await agent.drain()
    print(agent.stats().delivered, "delivered")


if __name__ == "__main__":
    asyncio.run(main())
