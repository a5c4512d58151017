"""The run of the fleet: the same load without relays and with them; a relay, a worker and the engine are killed."""

import asyncio
import contextlib
import dataclasses
import os
import secrets
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable

from salesmachine_async.cli.demo.children import Child, ChildError, child
from salesmachine_async.cli.demo.control import Control
from salesmachine_async.cli.demo.fleet.server import EngineServer
from salesmachine_async.cli.demo.fleet.worker import FleetOrder
from salesmachine_async.cli.demo.screen import Screen

WORKER = "salesmachine_async.cli.demo.fleet.worker"
COMMAND = "salesmachine_async"
WORKERS = 4
RELAYS = 2
# Calls a second of each worker: with batches of ten, six times as many requests as the server allows.
RATE = 600
RATE_LIMIT = "40/s"
DIRECT_SECONDS = 4.0
FLEET_SECONDS = 8.0
# Times of the kills, in seconds from the start of the fleet.
RELAY_KILL, WORKER_KILL, ENGINE_KILL = 2.0, 3.5, 5.0
CLOSE_SECONDS = 60.0
DRAIN_SECONDS = 60.0
QUEUE = "demo"
LEASE = ("--lease", "4", "--request-timeout", "2", "--linger", "0.1", "--every", "0.5")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FleetResults:
    """
    Outcomes of the fleet's messages.

    Attributes:
        published: Messages that the workers have tracked.
        confirmed: Of them, those that `Agent.sync` had confirmed.
        recovered: Messages that the restarted worker read from the spool of the killed one.
        delivered: Different messages that the server holds.
        repeated: Messages that it got twice, and recognised.
        lost: Confirmed messages that it does not hold.
        unwritten: Others that it does not hold: the kill of their worker came before their commit.
        disordered: Messages that it got before an older one of the same contact.
        requests: Requests of the relays that the server answered.
        limited: How many of these it answered with 429.
        direct_requests: The same of the fleet without relays, in half the time.
        direct_limited: How many of these were answered with 429.
        seconds: The duration.
    """

    published: int
    confirmed: int
    recovered: int
    delivered: int
    repeated: int
    lost: int
    unwritten: int
    disordered: int
    requests: int
    limited: int
    direct_requests: int
    direct_limited: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing that was confirmed is lost, and the order of each contact was kept."""
        return not self.lost and not self.disordered and self.delivered + self.unwritten == self.published


@dataclasses.dataclass(slots=True)
class _Counted:
    """Progress of a worker, as it reports it: numbers of calls."""

    tracked: int = 0
    synced: int = 0
    recovered: int = 0
    ended: bool = False
    kept: int = 0


async def run(screen: Screen) -> FleetResults:
    """
    Run the fleet.

    Raises:
        EngineError: No engine is installed.
        ChildError: A process ended too early.
        TimeoutError: The workers did not hand over everything in time, or the relays did not deliver it.
    """
    begun = time.monotonic()
    screen.step("Starting the engine and a sandbox that allows 40 requests a second")
    arguments = ("sandbox", "--port", "0", "--json", "--until-eof", "--quiet", "--rate-limit", RATE_LIMIT)
    with tempfile.TemporaryDirectory(prefix="salesmachine-demo-") as folder:
        async with EngineServer() as engine, child(COMMAND, *arguments) as sandbox:
            url: str = (await sandbox.receive())["url"]
            screen.step(f"{WORKERS} workers without a relay, for {DIRECT_SECONDS:g} s")
            direct = await _direct(url)
            fleet = _Fleet(engine, url, folder, screen)
            return dataclasses.replace(
                await fleet.run(),
                direct_requests=sum(direct.values()),
                direct_limited=direct.get("429", 0),
                seconds=time.monotonic() - begun,
            )


async def _direct(url: str) -> dict[str, int]:
    """Run workers that send straight to the sandbox; returns the number of requests by status."""
    token = secrets.token_hex(8)
    order = FleetOrder(
        worker=0,
        first=0,
        rate=RATE,
        seconds=DIRECT_SECONDS,
        close_seconds=0.0,
        engine=None,
        name="",
        url=url,
        token=token,
        spool="",
    )
    async with contextlib.AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(child(WORKER)) for _ in range(WORKERS)]
        for index, each in enumerate(workers):
            await each.send(dataclasses.asdict(dataclasses.replace(order, worker=index)))
        await asyncio.gather(*(_follow(each, _Counted()) for each in workers))
    async with Control(url, token) as control:
        answers: dict[str, int] = (await control.summary())["requests"]
    return answers


class _Fleet:
    def __init__(self, engine: EngineServer, url: str, folder: str, screen: Screen) -> None:
        self._engine = engine
        self._url = url
        self._token = secrets.token_hex(8)
        self._folder = folder
        self._screen = screen
        self._counted = [_Counted() for _ in range(WORKERS)]
        # Of the worker that is killed: what was confirmed by then, and the numbers that the next one leaves out.
        self._confirmed_at_kill = 0
        self._unused = range(0)

    async def run(self) -> FleetResults:
        self._screen.step(f"{WORKERS} workers publish to the engine, {RELAYS} relays deliver, for {FLEET_SECONDS:g} s")
        async with contextlib.AsyncExitStack() as stack:
            relays = [await stack.enter_async_context(self._relay()) for _ in range(RELAYS)]
            workers = [await self._worker(stack, index, 0, FLEET_SECONDS) for index in range(WORKERS)]
            following = [asyncio.create_task(self._watch(index, each)) for index, each in enumerate(workers)]
            try:
                await asyncio.sleep(RELAY_KILL)
                self._screen.step("SIGKILL for a relay")
                os.kill(relays[0].pid, signal.SIGKILL)
                await asyncio.sleep(WORKER_KILL - RELAY_KILL)
                self._screen.step("SIGKILL for a worker; another one starts on its spool")
                following.append(await self._replace_worker(stack, workers[0], following[0]))
                await asyncio.sleep(ENGINE_KILL - WORKER_KILL)
                self._screen.step("SIGKILL for the engine; it starts again")
                self._engine.kill()
                await self._engine.start()
                await asyncio.gather(*following[1:])
                _require_handed_over(self._counted)
            finally:
                for task in following:
                    task.cancel()
            self._screen.step("Delivering the rest, reading everything back")
            await self._drained()
        async with Control(self._url, self._token) as control:
            return await self._compare(control)

    async def _replace_worker(
        self, stack: contextlib.AsyncExitStack, worker: Child, following: asyncio.Task[None]
    ) -> asyncio.Task[None]:
        os.kill(worker.pid, signal.SIGKILL)
        with contextlib.suppress(ChildError):
            await following
        counted = self._counted[0]
        # Calls of its last moment were not counted any more, so the next one begins a little higher.
        first = counted.tracked + RATE
        self._confirmed_at_kill = counted.synced
        self._unused = range(counted.tracked, first)
        successor = await self._worker(stack, 0, first, FLEET_SECONDS - WORKER_KILL)
        return asyncio.create_task(self._watch(0, successor))

    @contextlib.asynccontextmanager
    async def _relay(self) -> AsyncGenerator[Child]:
        environment = {
            "SALESMACHINE_API_TOKEN": self._token,
            "SALESMACHINE_API_SECRET": "",
            "SALESMACHINE_API_URL": self._url,
            "SALESMACHINE_ENGINE": self._engine.url,
            "SALESMACHINE_ENGINE_NAME": QUEUE,
        }
        async with child(COMMAND, "relay", *LEASE, env=environment) as relay:
            await relay.receive()  # its first report
            reading = asyncio.create_task(_read_all(relay))
            try:
                yield relay
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(relay.pid, signal.SIGTERM)
                reading.cancel()

    async def _worker(self, stack: contextlib.AsyncExitStack, index: int, first: int, seconds: float) -> Child:
        worker = await stack.enter_async_context(child(WORKER))
        order = FleetOrder(
            worker=index,
            first=first,
            rate=RATE,
            seconds=seconds,
            close_seconds=CLOSE_SECONDS,
            engine=self._engine.url,
            name=QUEUE,
            url=self._url,
            token="",
            spool=os.path.join(self._folder, f"worker-{index}"),
        )
        await worker.send(dataclasses.asdict(order))
        return worker

    async def _watch(self, index: int, worker: Child) -> None:
        await _follow(worker, self._counted[index])

    async def _drained(self) -> None:
        """Wait until the engine's queue is empty."""
        from salesmachine_async.engines.redis import RedisEngine  # noqa: PLC0415 - needs an extra

        engine = RedisEngine(self._engine.url, name=QUEUE)
        try:
            await engine.start()
            async with asyncio.timeout(DRAIN_SECONDS):
                while (await engine.lag()).messages:  # noqa: ASYNC110 (the engine has no event)
                    await asyncio.sleep(0.1)
        finally:
            await engine.aclose()

    async def _compare(self, control: Control) -> FleetResults:
        seen: dict[int, set[int]] = defaultdict(set)
        last: dict[str, int] = {}
        disordered = 0
        async for event in control.events():
            number: int = event["params"]["n"]
            disordered += number < last.get(event["contact_uid"], -1)
            last[event["contact_uid"]] = number
            seen[event["params"]["worker"]].add(number)
        summary = await control.summary()
        tracked = {index: set(self._numbers(index, seen[index])) for index in range(WORKERS)}
        missing = [(index, number) for index, numbers in tracked.items() for number in numbers - seen[index]]
        lost = sum(self._is_confirmed(index, number) for index, number in missing)
        answers: dict[str, int] = summary["requests"]
        return FleetResults(
            published=sum(map(len, tracked.values())),
            confirmed=sum(map(len, tracked.values())) - len(missing) + lost,
            recovered=sum(counted.recovered for counted in self._counted),
            delivered=sum(map(len, seen.values())),
            repeated=summary["duplicates"],
            lost=lost,
            unwritten=len(missing) - lost,
            disordered=disordered,
            requests=sum(answers.values()),
            limited=answers.get("429", 0),
            direct_requests=0,
            direct_limited=0,
            seconds=0.0,
        )

    def _is_confirmed(self, index: int, number: int) -> bool:
        killed = index == 0 and number < self._unused.stop
        return number < (self._confirmed_at_kill if killed else self._counted[index].synced)

    def _numbers(self, index: int, seen: Iterable[int]) -> Iterable[int]:
        """Return the numbers of the calls of a worker, those of its last moment included that the server holds."""
        unused = self._unused if index == 0 else range(0)
        yield from (number for number in range(self._counted[index].tracked) if number not in unused)
        yield from (number for number in seen if number in unused)


async def _follow(worker: Child, counted: _Counted) -> None:
    """Record the reports of a worker until it has ended its work."""
    while not counted.ended:
        line = await worker.receive()
        counted.tracked = max(counted.tracked, line.get("tracked", 0), line.get("ended", 0))
        counted.synced = max(counted.synced, line.get("synced", 0))
        counted.recovered = max(counted.recovered, line.get("recovered", 0))
        counted.kept = line.get("kept", 0)
        counted.ended = "ended" in line


def _require_handed_over(counted: Iterable[_Counted]) -> None:
    """Raise if messages are still in the spools of workers that have ended: they are neither delivered nor lost."""
    if kept := sum(each.kept for each in counted):
        raise TimeoutError(f"the engine took too long: {kept:,} messages are still in the spools of the workers")


async def _read_all(relay: Child) -> None:
    with contextlib.suppress(ChildError):
        while True:
            await relay.receive()
