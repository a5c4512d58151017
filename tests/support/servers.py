"""
Servers that misbehave, down to the bytes and the socket.

A `RawServer` plays a script of *turns*: one for each connection, and one for each further request on a connection
that was kept. A turn is an async function of an `Exchange`; it returns true to keep the connection. When the script
is played, the last turn (*then*) is repeated.

```python
async with RawServer(reset(), garbage(b"SMTP"), then=ok()) as server:
    ...
assert server.committed == ["id-1", "id-2"]
```

As a program, ``python servers.py PORT FILE``, it is a server to be killed: it writes the ids of each batch to FILE
before it answers. Only the standard library, so that it starts quickly.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import trustme

HOST = "127.0.0.1"
# Linger zero makes close() send a reset at once.
LINGER_ZERO = struct.pack("ii", 1, 0)
REASONS = {200: "OK", 201: "Created", 302: "Found", 400: "Bad Request", 429: "Too Many Requests"}


@dataclass(frozen=True, slots=True)
class Seen:
    """
    One request that was read to its end.

    Attributes:
        method: As sent.
        path: As sent, absolute if it came for a proxy.
        headers: By lower-case name.
        body: Its bytes.
        connection: Which connection it came on, from 0.
        at: When its head was read, on the loop's clock.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int
    at: float

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages of a batch; of an alias the one; of a ping none."""
        sent = json.loads(self.body or b"[]")
        return sent if isinstance(sent, list) else [sent]

    @property
    def ids(self) -> list[str]:
        """The ``messageId`` of each message."""
        return [message["messageId"] for message in self.messages if "messageId" in message]


class Exchange:
    """
    A connection in the hands of a turn.

    Attributes:
        server: Whose it is.
        reader: What the client sends.
        writer: To the client.
        connection: Its number, from 0.
    """

    def __init__(
        self, server: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.connection = connection
        self._begun = b""  # of the next request

    async def more(self, seconds: float | None) -> bool:
        """Wait, at most *seconds*, for a further request; returns whether one has begun."""
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(seconds):
                self._begun = await self.reader.read(1)
        return bool(self._begun)

    async def head(self) -> tuple[str, str, dict[str, str]]:
        """Read a request's head; returns method, path and headers by lower-case name."""
        begun, self._begun = self._begun, b""
        first, *lines = (begun + await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = first.split(" ")
        return method, path, {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    async def request(self) -> Seen:
        """Read a whole request, and note it."""
        method, path, headers = await self.head()
        at = asyncio.get_running_loop().time()
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        seen = Seen(method, path, headers, body, self.connection, at)
        self.server.seen.append(seen)
        return seen

    async def send(self, data: bytes) -> None:
        """Send bytes, and wait until the socket has taken them."""
        self.writer.write(data)
        await self.writer.drain()

    async def leave(self) -> None:
        """Close the connection once everything is sent, and wait until the client has closed it, too."""
        with suppress(OSError, NotImplementedError):  # TLS cannot be half-closed
            self.writer.write_eof()
            while await self.reader.read(2**16):
                pass

    def reset(self) -> None:
        """End the connection with a reset."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        self.writer.transport.abort()

    async def forever(self) -> None:
        """Do nothing, until the server stops. The connection stays open."""
        await asyncio.Event().wait()


Turn = Callable[[Exchange], Awaitable[object]]


class RawServer:
    """
    A server on 127.0.0.1 that plays a script of turns.

    Args:
        script: Turns to be played once each.
        then: The turn to be played when the script is over; default: `ok`.
        sock: A bound socket to listen on; default: a free port.
        idle: Seconds until a kept connection without a request is closed; None: never.
        idle_reset: Reset it instead.
        tls: Speak TLS on all connections. See also `secure`.

    Attributes:
        seen: The requests read to their end, in the order of their bodies' ends.
        committed: The ids of the messages answered 2xx by `ok` and those like it.
        connections: How many were accepted.
        turns: How many were begun.
    """

    def __init__(
        self,
        *script: Turn,
        then: Turn | None = None,
        sock: socket.socket | None = None,
        idle: float | None = None,
        idle_reset: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.seen: list[Seen] = []
        self.committed: list[str] = []
        self.connections = self.turns = 0
        self._script = list(script)
        self._then = then or ok()
        self._sock = sock or bound()
        self._idle = idle
        self._idle_reset = idle_reset
        self._tls = tls
        self._port: int = self._sock.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._listening = False
        self._open: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Listen; after `aclose` again, on the same port."""
        if self._sock.fileno() < 0:
            self._sock = bound(self._port)
        self._listening = True
        self._server = await asyncio.start_server(self._connected, sock=self._sock, ssl=self._tls)

    async def aclose(self) -> None:
        """Stop listening and cut all connections."""
        server, self._server, self._listening = self._server, None, False
        if server is None:
            self._sock.close()
            return
        server.close()
        tasks = list(self._open)
        for task, writer in self._open.items():
            writer.transport.abort()
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await server.wait_closed()

    @property
    def port(self) -> int:
        """The port of the server."""
        return self._port

    @property
    def url(self) -> str:
        """The base URL of the server."""
        return f"http://{HOST}:{self._port}"

    @property
    def paths(self) -> list[str]:
        """The paths of the requests seen."""
        return [seen.path for seen in self.seen]

    @property
    def received(self) -> Counter[str]:
        """The number of arrivals of each message id, answered or not."""
        return Counter(message for seen in self.seen for message in seen.ids)

    def play(self, *script: Turn, then: Turn | None = None) -> None:
        """Replace the script, and if given what follows it."""
        self._script = list(script)
        self._then = then or self._then

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if not self._listening:  # accepted in the moment of the stop, which would wait for it
            writer.transport.abort()
            return
        self._open[task] = writer
        exchange = Exchange(self, reader, writer, self.connections)
        self.connections += 1
        try:
            while await self._next_turn()(exchange):
                if not await exchange.more(self._idle):
                    if self._idle_reset:
                        exchange.reset()
                    break
        except (ConnectionError, EOFError, ssl.SSLError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # the client left, or the server stops
        finally:
            del self._open[task]
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await asyncio.wait_for(writer.wait_closed(), 0.5)
            writer.transport.abort()

    def _next_turn(self) -> Turn:
        self.turns += 1
        return self._script.pop(0) if self._script else self._then


def bound(port: int = 0) -> socket.socket:
    """Return a socket bound to a free port (or *port*) that does not listen: connections to it are refused."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((HOST, port))
    return sock


@contextmanager
def refusing() -> Iterator[str]:
    """Hold a port that refuses all connections; gives the base URL."""
    with bound() as sock:
        yield f"http://{HOST}:{sock.getsockname()[1]}"


@contextmanager
def half_open() -> Iterator[str]:
    """Hold a port on which connections are completed by the kernel and never accepted; gives the base URL."""
    with bound() as sock:
        sock.listen()
        yield f"http://{HOST}:{sock.getsockname()[1]}"


@contextmanager
def in_thread(server: RawServer) -> Iterator[RawServer]:
    """Run *server* on an event loop of its own, in another thread."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.aclose(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def http(status: int, body: bytes = b"{}", /, **headers: str) -> bytes:
    """Write an HTTP answer; in the names of headers underscores stand for hyphens."""
    lines = {"Content-Length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} {REASONS.get(status, 'Something')}\r\n{head}\r\n".encode() + body


def chunked(status: int, *chunks: bytes, **headers: str) -> bytes:
    """Write an HTTP answer in chunks, without the last empty one: it never ends."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} Something\r\nTransfer-Encoding: chunked\r\n{lines}\r\n".encode()
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


# Turns.


def ok(status: int = 200, body: bytes = b"{}") -> Turn:
    """Accept the request as the API does, and keep the connection."""

    async def turn(exchange: Exchange) -> bool:
        seen = await exchange.request()
        exchange.server.committed += seen.ids
        await exchange.send(http(status, body))
        return True

    return turn


def answers(answer: Callable[[Seen], bytes]) -> Turn:
    """Answer what *answer* writes, commit if that is 2xx, and keep the connection."""

    async def turn(exchange: Exchange) -> bool:
        seen = await exchange.request()
        written = answer(seen)
        if written.startswith(b"HTTP/1.1 2"):
            exchange.server.committed += seen.ids
        await exchange.send(written)
        return True

    return turn


def says(status: int, body: bytes = b"{}", /, **headers: str) -> Turn:
    """Answer *status* to whatever comes."""
    return answers(lambda _: http(status, body, **headers))


def raw(data: bytes, *, commit: bool = False, reset: bool = False, hold: bool = False, bytewise: int = 0) -> Turn:
    """
    Read the request, send *data* instead of an answer, and close.

    Args:
        data: The bytes; none: just close.
        commit: The messages are accepted nevertheless.
        reset: End with a reset.
        hold: Keep the connection open, without a further word.
        bytewise: Send that many bytes of *data* one by one, then the rest.
    """

    async def turn(exchange: Exchange) -> None:
        seen = await exchange.request()
        if commit:
            exchange.server.committed += seen.ids
        for at in range(bytewise):
            await exchange.send(data[at : at + 1])
            await asyncio.sleep(0)
        if data[bytewise:]:
            await exchange.send(data[bytewise:])
        if reset:
            # What was sent must be read first: a reset overtakes it.
            await asyncio.sleep(0.02 if data else 0)
            exchange.reset()
        elif hold:
            await exchange.forever()

    return turn


def at_accept(*, reset: bool = False, hold: bool = False, data: bytes = b"") -> Turn:
    """Close, reset or hold a connection without reading from it; *data* is sent first."""

    async def turn(exchange: Exchange) -> None:
        if data:
            await exchange.send(data)
            await exchange.leave()
        if reset:
            exchange.reset()
        elif hold:
            await exchange.forever()

    return turn


def reset_inside_request(count: int = 1024) -> Turn:
    """Read *count* bytes of the request, then reset."""

    async def turn(exchange: Exchange) -> None:
        await exchange.reader.readexactly(count)
        exchange.reset()

    return turn


def never_read() -> Turn:
    """Read nothing at all, not even into a buffer of the server's."""

    async def turn(exchange: Exchange) -> None:
        exchange.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await exchange.forever()

    return turn


def early(data: bytes, *, hold: bool = False, reset: bool = False, commit: bool = False) -> Turn:
    """Answer *data* after the head, with the body unread; then close, reset or hold."""

    async def turn(exchange: Exchange) -> None:
        await exchange.head()
        exchange.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await exchange.send(data)
        if hold:
            await exchange.forever()
        elif reset:
            await asyncio.sleep(0.02)
            exchange.reset()
        else:
            exchange.writer.transport.resume_reading()  # type: ignore[attr-defined]
            await exchange.leave()

    return turn


def drip(data: bytes, *, every: float = 0.02, commit: bool = False, after: bytes = b"") -> Turn:
    """Read the request, send *after*, then one byte of *data* at a time, over and over."""

    async def turn(exchange: Exchange) -> None:
        seen = await exchange.request()
        if commit:
            exchange.server.committed += seen.ids
        await exchange.send(after)
        while True:
            for byte in data:
                await asyncio.sleep(every)
                await exchange.send(bytes([byte]))

    return turn


def flood(head: bytes, chunk: bytes, *, commit: bool = False) -> Turn:
    """Read the request, send *head*, then *chunk* for ever."""

    async def turn(exchange: Exchange) -> None:
        seen = await exchange.request()
        if commit:
            exchange.server.committed += seen.ids
        await exchange.send(head)
        while True:
            await exchange.send(chunk)

    return turn


def secure(context: ssl.SSLContext, turn: Turn) -> Turn:
    """Begin TLS on the connection, if that is not done, then play *turn*."""

    async def secured(exchange: Exchange) -> object:
        if exchange.writer.get_extra_info("sslcontext") is None:
            await exchange.writer.start_tls(context)
        return await turn(exchange)

    return secured


def server_context(authority: trustme.CA, *names: str, **kwargs: Any) -> ssl.SSLContext:
    """Make a server's TLS context, with a certificate for *names* (default: this machine's address)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or (HOST,)), **kwargs).configure_cert(context)
    return context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    """Make a client's TLS context that trusts *authority*."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def proxy() -> Turn:
    """Accept a request that came for a proxy, on behalf of its host."""

    async def turn(exchange: Exchange) -> bool:
        seen = await exchange.request()
        assert seen.path.startswith("http://"), seen.path
        exchange.server.committed += seen.ids
        await exchange.send(http(200))
        return True

    return turn


# The server to be killed.


@asynccontextmanager
async def mortal(port: int, file: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run this file as a program, wait until it listens; at the end it is killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-S", __file__, str(port), file, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"listening\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def _serve(port: int, file: str) -> None:
    notes = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def note_then_answer(exchange: Exchange) -> bool:
        seen = await exchange.request()
        os.write(notes, b"".join(id_.encode() + b"\n" for id_ in seen.ids))
        await exchange.send(http(200))
        return True

    async with RawServer(then=note_then_answer, sock=bound(port)):
        print("listening", flush=True)  # noqa: T201 (the parent waits for it)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2]))
