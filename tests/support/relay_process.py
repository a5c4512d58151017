"""A relay in a process of its own, to be killed: ``python -m tests.support.relay_process SERVER NAME API LEASE``."""

from __future__ import annotations

import asyncio
import signal
import sys

from salesmachine_async import Batching, HttpTransport, Timeouts
from salesmachine_async.engines.redis import RedisEngine
from salesmachine_async.relay import Relay
from tests.support.relays import FAST

TIMEOUTS = Timeouts(request=1.0)


async def main(server: str, name: str, api: str, lease: str) -> None:
    """Relay until SIGTERM."""
    engine = RedisEngine(server, name=name, lease=float(lease))
    transport = HttpTransport("token", "secret", base_url=api, timeouts=TIMEOUTS)
    relay = Relay(engine, transport, batching=Batching(max_messages=20, linger=0.02), retry=FAST, timeouts=TIMEOUTS)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, relay.stop)
    await relay.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
