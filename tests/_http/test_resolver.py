"""Name resolution in daemon threads: shared, cancellable, and without effect on the exit."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import aclosing
from threading import Event, Thread, get_ident
from threading import enumerate as threads
from typing import Any

import pytest

from salesmachine_async._core.batch import Batch
from salesmachine_async._core.response import Verdict
from salesmachine_async._delivery.transport import HttpTransport
from salesmachine_async._http import resolver as module
from salesmachine_async._http.resolver import DaemonResolver
from salesmachine_async.errors import ConnectionFailed
from tests.support.servers import RawServer
from tests.support.waiting import until

FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))]


class Lookup:
    """A `socket.getaddrinfo` that returns when the test allows it."""

    def __init__(self, answer: Callable[[], Any] = lambda: FOUND) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.let = Event()
        self._answer = answer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((*args, kwargs))
        assert self.let.wait(30)
        return self._answer()


@pytest.fixture
def lookup(monkeypatch: pytest.MonkeyPatch) -> Lookup:
    lookup = Lookup()
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return lookup


def failing(monkeypatch: pytest.MonkeyPatch, exc: BaseException) -> None:
    def fail() -> Any:
        raise exc

    lookup = Lookup(fail)
    lookup.let.set()
    monkeypatch.setattr(socket, "getaddrinfo", lookup)


async def test_addresses_have_the_form_that_aiohttp_expects(lookup: Lookup) -> None:
    """A result holds the requested name and a numeric address that needs no further lookup."""
    lookup.let.set()
    (result,) = await DaemonResolver().resolve("api.example.com", 443, socket.AF_UNSPEC)
    assert result == {
        "hostname": "api.example.com",
        "host": "192.0.2.1",
        "port": 443,
        "family": socket.AF_INET,
        "proto": 6,
        "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    }
    assert lookup.calls == [
        (
            "api.example.com",
            443,
            {"type": socket.SOCK_STREAM, "family": socket.AF_UNSPEC, "flags": socket.AI_ADDRCONFIG},
        )
    ]


async def test_real_lookup() -> None:
    """The name of this machine is resolved without a patch."""
    results = await DaemonResolver().resolve("localhost", 80, socket.AF_INET)
    assert {result["host"] for result in results} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (("2001:db8::1", 443, 0, 0), "2001:db8::1"),
        (("fe80::1", 443, 0, 2), "fe80::1%2"),
        (("fe80::1%eth0", 443, 0, 2), "fe80::1%eth0"),
    ],
)
async def test_link_local_address_keeps_its_zone(monkeypatch: pytest.MonkeyPatch, address: Any, host: str) -> None:
    """A link-local address keeps its zone."""
    lookup = Lookup(lambda: [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", address)])
    lookup.let.set()
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    (result,) = await DaemonResolver().resolve("router.local", 443, socket.AF_INET6)
    assert result["host"] == host


async def test_one_name_is_looked_up_once_at_a_time(lookup: Lookup) -> None:
    """Requests during a lookup share its result; other names, ports and families have their own lookup."""
    resolver = DaemonResolver()
    async with asyncio.TaskGroup() as group:
        same = [group.create_task(resolver.resolve("a.example", 443)) for _ in range(50)]
        other = group.create_task(resolver.resolve("b.example", 443))
        await until(lambda: len(lookup.calls) == 2)
        lookup.let.set()
    assert len(lookup.calls) == 2
    assert {task.result()[0]["hostname"] for task in same} == {"a.example"}
    assert other.result()[0]["hostname"] == "b.example"


async def test_answers_are_not_kept(lookup: Lookup) -> None:
    """A result is not cached."""
    lookup.let.set()
    resolver = DaemonResolver()
    await resolver.resolve("a.example")
    await asyncio.sleep(0)
    await resolver.resolve("a.example")
    assert len(lookup.calls) == 2


@pytest.mark.parametrize(
    "exc",
    [
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        OSError("no route"),
        UnicodeError("label too long"),
        LookupError("unknown encoding: idna"),
        RuntimeError("boom"),
        ValueError("embedded null character"),
        TypeError("boom"),
        MemoryError(),
        RecursionError(),
        AssertionError(),
        SystemExit(1),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
    ],
    ids=lambda exc: type(exc).__name__,
)
async def test_failure_is_an_oserror_for_every_request(monkeypatch: pytest.MonkeyPatch, exc: BaseException) -> None:
    """An exception of getaddrinfo fails all waiting requests; the next request starts a new lookup."""
    failing(monkeypatch, exc)
    resolver = DaemonResolver()
    errors = await asyncio.gather(*(resolver.resolve("nosuch.invalid") for _ in range(3)), return_exceptions=True)
    assert all(isinstance(each, OSError) for each in errors)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: FOUND)
    assert await resolver.resolve("nosuch.invalid")


async def test_cancelled_waiter_does_not_disturb_the_others(lookup: Lookup) -> None:
    """A cancelled request does not cancel the lookup for other requests."""
    resolver = DaemonResolver()
    first, second = (asyncio.create_task(resolver.resolve("a.example")) for _ in range(2))
    await until(lambda: lookup.calls)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    third = asyncio.create_task(resolver.resolve("a.example"))
    await asyncio.sleep(0)
    lookup.let.set()
    assert await second == await third
    assert len(lookup.calls) == 1


async def test_failure_without_a_waiter_is_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A late failure without a waiter logs no 'exception was never retrieved'."""

    def fail() -> Any:
        raise OSError("late")

    lookup = Lookup(fail)
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    resolver = DaemonResolver()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(resolver.resolve("a.example"), 0.01)
    lookup.let.set()
    await until(lambda: not any(thread.name == "salesmachine-dns" for thread in threads()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not caplog.records
    await resolver.close()


@pytest.mark.parametrize("result", [None, 7, "x", [None], [()], [(socket.AF_INET, 1, 6, "", ())]])
async def test_invalid_result_fails_only_its_request(monkeypatch: pytest.MonkeyPatch, result: Any) -> None:
    """A patched getaddrinfo may return anything; the next request starts a new lookup."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: result)
    resolver = DaemonResolver()
    with pytest.raises(Exception):  # noqa: B017, PT011 (aiohttp's session is the one that handles it)
        await resolver.resolve("a.example")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: FOUND)
    assert await resolver.resolve("a.example")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_thread_that_ends_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that dies fails all waiting requests, in a real session too; the next request starts a new lookup."""
    monkeypatch.setattr(module, "ALIVE_SECONDS", 0.01)
    real, dead = module._getaddrinfo, [True]

    def fail_once(*args: Any) -> Any:
        if dead:
            dead.clear()
            raise MemoryError
        return real(*args)

    monkeypatch.setattr(module, "_getaddrinfo", fail_once)
    async with RawServer() as server:
        transport = HttpTransport("t", base_url=server.url.replace("127.0.0.1", "localhost"))
        async with aclosing(transport), asyncio.timeout(10):
            failed = await asyncio.gather(*(transport.send(Batch.ping()) for _ in range(3)))
            assert {(outcome.verdict, type(outcome.error)) for outcome in failed} == {(Verdict.RETRY, ConnectionFailed)}
            assert (await transport.send(Batch.ping())).status == 200


async def test_slow_lookup_is_waited_for(lookup: Lookup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request waits while the thread of its lookup is alive."""
    monkeypatch.setattr(module, "ALIVE_SECONDS", 0.001)
    waiting = asyncio.create_task(DaemonResolver().resolve("a.example"))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    lookup.let.set()
    assert await waiting


@pytest.mark.parametrize("exc", [RuntimeError("can't start new thread"), MemoryError()], ids=["limit", "memory"])
async def test_thread_that_cannot_start_is_a_failed_lookup(monkeypatch: pytest.MonkeyPatch, exc: Exception) -> None:
    """At the limit of threads a request fails without blocking the loop; the next one may succeed."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: FOUND)
    resolver = DaemonResolver()

    def start(_: Thread) -> None:
        assert get_ident() == loop_thread
        raise exc

    loop_thread = get_ident()
    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", start)
        with pytest.raises((OSError, MemoryError)):
            await resolver.resolve("a.example")
    assert await resolver.resolve("a.example")


async def test_interpreter_that_ends_looks_up_in_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the end of the main thread no thread can be started, so the lookup blocks."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: FOUND)

    class Ended:
        def is_alive(self) -> bool:
            return False

    def start(_: Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(module, "main_thread", Ended)
    monkeypatch.setattr(Thread, "start", start)
    resolver = DaemonResolver()
    for _ in range(2):
        (result,) = await resolver.resolve("a.example")
        assert result["host"] == "192.0.2.1"


AT_EXIT = """
    import sys
    from salesmachine_async import Batching, ThreadedAgent

    agent = ThreadedAgent("t", base_url=sys.argv[1], batching=Batching(linger=60.0))
    for number in range(5):
        agent.track("u", "e", message_id=f"m{number}")
"""


@pytest.mark.slow
async def test_messages_left_at_exit_find_a_host_by_its_name() -> None:
    """CPython 3.12.0 to 3.12.2 start no threads in exit handlers, so the lookup runs without one."""
    async with RawServer() as server:
        url = server.url.replace("127.0.0.1", "localhost")
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", textwrap.dedent(AT_EXIT), url)
        assert await process.wait() == 0
    assert server.committed == [f"m{number}" for number in range(5)]


async def test_lookup_that_raised_once_does_not_kill_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a real session a failed lookup fails the request; the next request is answered."""
    real, raised = socket.getaddrinfo, [LookupError("once")]

    def getaddrinfo(*args: Any, **kwargs: Any) -> Any:
        if raised:
            raise raised.pop()
        return real(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with RawServer() as server:
        transport = HttpTransport("t", base_url=server.url.replace("127.0.0.1", "localhost"))
        async with aclosing(transport):
            outcome = await transport.send(Batch.ping())
            assert (outcome.verdict, type(outcome.error)) == (Verdict.RETRY, ConnectionFailed)
            assert (await transport.send(Batch.ping())).status == 200


def test_lookup_that_ends_after_its_loop_is_ignored(lookup: Lookup) -> None:
    """A lookup that ends after its loop was closed raises no warning."""
    died: list[object] = []

    async def ask() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(DaemonResolver().resolve("a.example"), 0.01)

    asyncio.run(ask())
    (thread,) = (thread for thread in threads() if thread.name == "salesmachine-dns")
    assert thread.daemon
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("threading.excepthook", died.append)
        lookup.let.set()
        thread.join(30)
    assert not thread.is_alive()
    assert not died


HANGING = """
    import asyncio, socket, sys, time

    def hang(*args, **kwargs):
        time.sleep(60)

    socket.getaddrinfo = hang
    from salesmachine_async import Agent, Retry, RequestTimeout, Timeouts
    from salesmachine_async._http.resolver import DaemonResolver

    async def resolver():
        try:
            await asyncio.wait_for(DaemonResolver().resolve("api.example.com"), 0.05)
        except TimeoutError:
            print("gave up")

    async def agent():
        times = Timeouts(connect=0.05, request=0.1, close=0.2)
        retry = Retry(wait_initial=0.01, wait_max=0.02)
        async with Agent("t", base_url="https://api.example.com", timeouts=times, retry=retry) as agent:
            agent.track("1", "x")
            try:
                await agent.ping()
            except RequestTimeout:
                print("gave up")

    asyncio.run(globals()[sys.argv[1]]())
    print("loop closed")
"""


@pytest.mark.slow
@pytest.mark.parametrize("who", ["resolver", "agent"])
def test_hanging_lookup_does_not_delay_the_exit(who: str) -> None:
    """asyncio.run and the interpreter end long before a name server that takes a minute."""
    began = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(HANGING), who],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert run.stdout == "gave up\nloop closed\n", run.stderr
    assert run.returncode == 0, run.stderr
    assert time.monotonic() - began < 30
    assert "Traceback" not in run.stderr


async def test_name_that_cannot_be_encoded_is_not_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalid host name is an error of the name, not an outage."""
    failing(monkeypatch, UnicodeError("label too long"))
    with pytest.raises(OSError, match=r"^the host name is not valid$"):
        await DaemonResolver().resolve("nosuch.invalid")
