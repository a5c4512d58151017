"""The part of the demo in which a worker is killed in the middle, and another one starts on its spool."""

import contextlib
import dataclasses
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Iterable, Mapping

from salesmachine_async.cli.demo.children import Child, ChildError, child
from salesmachine_async.cli.demo.control import Control
from salesmachine_async.cli.demo.worker import LAST, WorkerOrder

WORKER = "salesmachine_async.cli.demo.worker"
# Calls before the server fails, and before the kill.
HEALTHY_CALLS = 500
CALLS = 1500
# One batch is applied and its answer cut off, so that it is sent twice; then the server is away.
OUTAGE = ({"path": "/v1/batch", "drop": "after", "times": 1}, {"status": 503, "times": None})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CrashResult:
    """
    What became of the calls of a killed worker.

    Attributes:
        calls: Its calls.
        synced: Of them, those that `Agent.sync` had confirmed.
        recovered: Messages that the next worker read from the spool.
        repeated: Messages that the server got twice, and recognised.
        lost: Confirmed calls that the server does not hold.
        unwritten: Other calls that it does not hold: the kill came before their commit.
        unwritten_seconds: The age of the oldest of those at the kill.
        delivered: Whether the next worker delivered everything it had.
    """

    calls: int
    synced: int
    recovered: int
    repeated: int
    lost: int
    unwritten: int
    unwritten_seconds: float
    delivered: bool

    @property
    def ok(self) -> bool:
        """Whether no confirmed call is lost, and the rest was delivered."""
        return not self.lost and self.delivered


async def crash(url: str) -> CrashResult:
    """
    Kill a worker in the middle, start another one, and compare the sandbox at *url* with the calls.

    Raises:
        ChildError: If a worker ended too early.
    """
    token = secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix="salesmachine-demo-") as folder:
        order = WorkerOrder(url=url, token=token, spool=os.path.join(folder, "spool"), recover=False)
        async with Control(url, token) as control:
            async with child(WORKER) as first:
                await first.send(dataclasses.asdict(order))
                killed = await _kill(first, control)
            await control.set_faults(())
            async with child(WORKER) as second:
                await second.send(dataclasses.asdict(dataclasses.replace(order, recover=True)))
                report = await second.receive()
            held = {event["params"]["n"] async for event in control.events()}
            lost, unwritten, seconds = killed.missing(held)
            return CrashResult(
                calls=len(killed.calls),
                synced=killed.synced,
                recovered=report["recovered"],
                repeated=(await control.summary())["duplicates"],
                lost=lost,
                unwritten=unwritten,
                unwritten_seconds=seconds,
                delivered=report["ok"] and LAST in held,
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Killed:
    """
    What a killed worker has said.

    Attributes:
        calls: The time of each call, by its number.
        synced: The number up to which calls are confirmed.
        at: When it was killed.
    """

    calls: Mapping[int, float]
    synced: int
    at: float

    def missing(self, held: Iterable[int]) -> tuple[int, int, float]:
        """Count the calls that a server does not hold: confirmed ones, others, and the age of the oldest of these."""
        absent = self.calls.keys() - set(held)
        lost = sum(number < self.synced for number in absent)
        ages = [self.at - self.calls[number] for number in absent if number >= self.synced]
        return lost, len(ages), max(ages, default=0.0)


async def _kill(worker: Child, control: Control) -> Killed:
    calls: dict[int, float] = {}
    synced, killed_at = 0, 0.0
    with contextlib.suppress(ChildError):
        while True:
            line = await worker.receive()
            synced = line.get("synced", synced)
            if "n" not in line:
                continue
            calls[line["n"]] = line["at"]
            if line["n"] == HEALTHY_CALLS:
                await control.set_faults(OUTAGE)
            if line["n"] >= CALLS and synced > HEALTHY_CALLS and not killed_at:
                os.kill(worker.pid, signal.SIGKILL)
                killed_at = time.monotonic()
    if not killed_at:
        raise ChildError("a worker of the demo ended before it was killed")
    return Killed(calls, synced, killed_at)
