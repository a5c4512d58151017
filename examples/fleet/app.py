"""An application of a fleet: its agent publishes to the engine, and has no API token. SIGTERM ends it."""

from __future__ import annotations

import asyncio
import os
import signal
from itertools import count

from salesmachine_async import Agent
from salesmachine_async.engines.redis import RedisTransport


async def main() -> None:
    """Track a visit each second until SIGTERM or Ctrl-C."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    transport = RedisTransport(
        os.environ["SALESMACHINE_ENGINE"], name=os.environ.get("SALESMACHINE_ENGINE_NAME", "default")
    )
    async with Agent(transport=transport, spool=os.environ.get("SPOOL_DIRECTORY")) as agent:
        for visit in count():
            agent.track("123456", "visit", {"number": visit})
            try:
                async with asyncio.timeout(1.0):
                    await stopped.wait()
                return
            except TimeoutError:
                pass


if __name__ == "__main__":
    asyncio.run(main())
