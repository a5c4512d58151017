"""Names are looked up in daemon threads: shared, cancellable, never in the way of an exit."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from threading import Event, Thread
from threading import enumerate as threads
from typing import Any

import pytest

from salesmachine_async._http.resolver import DaemonResolver
from tests.support.waiting import until

FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))]


class Lookup:
    """A `socket.getaddrinfo` that answers when it is let."""

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
    """A result carries the name asked for, and the address as text that needs no further lookup."""
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
    """The name of this machine is found for real."""
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
    """An fe80:: address means nothing without the interface."""
    lookup = Lookup(lambda: [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", address)])
    lookup.let.set()
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    (result,) = await DaemonResolver().resolve("router.local", 443, socket.AF_INET6)
    assert result["host"] == host


async def test_one_name_is_looked_up_once_at_a_time(lookup: Lookup) -> None:
    """Who asks while a lookup is under way waits for the same; other names, ports and families have their own."""
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
    """The resolver has no cache: asked again, it looks again."""
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
    ],
)
async def test_failure_is_an_oserror_for_everybody(monkeypatch: pytest.MonkeyPatch, exc: Exception) -> None:
    """All who wait are told; the next one who asks causes a new lookup."""
    failing(monkeypatch, exc)
    resolver = DaemonResolver()
    told = await asyncio.gather(*(resolver.resolve("nosuch.invalid") for _ in range(3)), return_exceptions=True)
    assert all(isinstance(each, OSError) for each in told)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: FOUND)
    assert await resolver.resolve("nosuch.invalid")


async def test_cancelled_waiter_does_not_disturb_the_others(lookup: Lookup) -> None:
    """The lookup goes on, for the others and for those to come."""
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


async def test_failure_that_nobody_waits_for_is_not_complained_about(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When all waiters have gone, a late failure leaves no 'exception was never retrieved'."""

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


async def test_thread_that_cannot_start_is_a_failed_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit of threads, or at the interpreter's end, the name is just not found."""

    def start(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", start)
    with pytest.raises(OSError, match="can't start new thread"):
        await DaemonResolver().resolve("a.example")


def test_loop_closed_meanwhile_does_no_harm(lookup: Lookup) -> None:
    """A lookup that ends after its loop did just ends: with warnings as errors, not a word."""
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
def test_hanging_lookup_does_not_hold_up_the_exit(who: str) -> None:
    """asyncio.run returns and the interpreter ends, long before a name server that takes a minute."""
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


async def test_name_that_cannot_be_encoded_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A label that no name server could know is not valid; that is not an outage."""
    failing(monkeypatch, UnicodeError("label too long"))
    with pytest.raises(OSError, match=r"^the host name is not valid$"):
        await DaemonResolver().resolve("nosuch.invalid")
