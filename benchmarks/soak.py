"""
How much is lost or doubled in bad weather?

An agent tracks into a server that, by a seed, fails before accepting (5 %), accepts and then resets the connection
(3 %), answers 429 or 503 (5 %), is slow (5 %), talks garbage (1 %), and is killed and started again every few seconds.
Checked every second: the law ``accepted == delivered + lost + queued + in_flight``. Checked at the end: everything
accepted is in the server's journal; what is there twice was in an attempt whose answer never came.

    python -m benchmarks.soak --seconds 60

The exit status is 1 when a message is missing, doubled without reason, or the law did not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from salesmachine_async import Agent, Batch, Batching, HttpTransport, Outcome, QueueLimits, Retry, Timeouts, Verdict

RATE = 2000  # messages a second


class Server:
    """The faulty server's process; the port stays the same over its lives."""

    def __init__(self, journal: Path, seed: int) -> None:
        self._journal = journal
        self._seed = seed
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0
        self.kills = 0

    async def start(self, *, faulty: bool = True) -> None:
        self._seed += 1
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.soak_server",
            str(self.port),
            str(self._journal),
            str(self._seed if faulty else 0),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.port = int(await self._process.stdout.readline())

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        self.kills += 1


class Witness:
    """An HttpTransport that notes which messages may have been accepted although the attempt failed."""

    def __init__(self, inner: HttpTransport) -> None:
        self._inner = inner
        self.possibly_sent: set[str] = set()

    async def send(self, batch: Batch) -> Outcome:
        outcome = await self._inner.send(batch)
        if outcome.verdict in (Verdict.RETRY, Verdict.STALE) and outcome.status is None:
            self.possibly_sent.update(message["messageId"] for message in batch.messages())
        return outcome

    async def aclose(self) -> None:
        await self._inner.aclose()


def law_holds(agent: Agent) -> bool:
    stats = agent.stats()
    return stats.accepted == stats.delivered + sum(stats.lost.values()) + stats.queued + stats.in_flight


async def produce(agent: Agent, seconds: float) -> bool:
    """Track for so many seconds; returns whether the law held at every one."""
    loop = asyncio.get_running_loop()
    end, held, next_check = loop.time() + seconds, True, loop.time() + 1
    while loop.time() < end:
        for number in range(RATE // 100):
            agent.track(f"u{number % 50}", "soak", {"n": number})
        await agent.drain()
        await asyncio.sleep(0.01)
        if loop.time() >= next_check:
            next_check += 1
            held &= law_holds(agent)
    return held


async def disturb(server: Server, dice: random.Random) -> None:
    """Kill the server now and then, and leave it dead for a moment."""
    while True:
        await asyncio.sleep(dice.uniform(1, 4))
        await server.kill()
        await asyncio.sleep(dice.uniform(0, 0.5))
        await server.start()


async def soak(seconds: float, seed: int, concurrency: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal"
        server = Server(journal, seed * 1_000_000)
        await server.start()
        base_url = f"http://127.0.0.1:{server.port}"
        timeouts = Timeouts(connect=1, request=2, close=60)
        witness = Witness(HttpTransport("soak", base_url=base_url, timeouts=timeouts))
        agent = Agent(
            transport=witness,
            concurrency=concurrency,
            batching=Batching(linger=0.02),
            queue=QueueLimits(max_messages=50_000),
            retry=Retry(wait_initial=0.02, wait_max=0.5),
            timeouts=timeouts,
        )
        await agent.start()
        disturber = asyncio.ensure_future(disturb(server, random.Random(seed)))
        held = await produce(agent, seconds)
        disturber.cancel()
        await asyncio.wait({disturber})
        await server.kill()
        await server.start(faulty=False)
        report = await agent.aclose()
        await server.kill()
        return _result(agent, witness, server, Counter(journal.read_text().split()), held=held and report.ok)


def _result(agent: Agent, witness: Witness, server: Server, journal: Counter[str], *, held: bool) -> dict[str, object]:
    stats = agent.stats()
    doubled = {name for name, count in journal.items() if count > 1}
    return {
        "accepted": stats.accepted,
        "delivered": stats.delivered,
        "in the server's journal": len(journal),
        "missing": stats.accepted - len(journal),
        "refused": sum(stats.dropped.values()),
        "doubled, possibly sent": len(doubled & witness.possibly_sent),
        "doubled without reason": len(doubled - witness.possibly_sent),
        "requests": stats.requests,
        "retries": stats.retries,
        "servers killed": server.kills,
        "law held every second": held and law_holds(agent),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip())
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = asyncio.run(soak(options.seconds, options.seed, options.concurrency))
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:>26}  {value}")
    good = not result["missing"] and not result["doubled without reason"] and result["law held every second"]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
