"""
The server that all contestants deliver to: in a process of its own, and faster than any of them.

It answers at once, keeps every body as it came and reads none before the request for a tally. Only then are
messages counted, by the number in each one's params (`_messages.numbered`), so that what was lost, and what came
twice, is known exactly. `capacity` says how fast it is.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import http.client
import json
import re
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from benchmarks._worker import ROOT

# One body that every contestant takes for success.
_BODY: Final = b'{"status":1,"code":200,"success":true}'
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
# JSON, JSON inside of JSON, and JSON in a form.
_NUMBER: Final = re.compile(rb'(?:"|\\"|%22)seq(?:"|\\"|%22)(?::|%3A) ?\+?(\d+)')


@dataclass(slots=True)
class _State:
    """
    What the sink does and what it has got.

    Attributes:
        status: Of its answers; -1: it never answers.
        delay: Seconds before each answer.
        bodies: What was accepted, with the time of acceptance.
        refused: Requests that were not accepted.
    """

    status: int = 200
    delay: float = 0.0
    bodies: list[tuple[float, bytes]] = field(default_factory=list)
    refused: int = 0


class _Connection(asyncio.Protocol):
    """One connection: as little HTTP as a client needs."""

    def __init__(self, state: _State) -> None:
        self._state = state
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(buffer, 0, end)
            size = int(length[1]) if length else 0
            if len(buffer) < end + 4 + size:
                return
            head, body = bytes(buffer[:end]), bytes(buffer[end + 4 : end + 4 + size])
            del buffer[: end + 4 + size]
            self._request(head, body)

    def _request(self, head: bytes, body: bytes) -> None:
        path = head.split(b" ", 2)[1]
        state = self._state
        if path.startswith(b"/_sink/"):
            self._write(200, json.dumps(_control(state, path.decode())).encode())
        elif state.status == -1:
            state.refused += 1
        elif state.delay:
            asyncio.get_running_loop().call_later(state.delay, self._accept, head, body)
        else:
            self._accept(head, body)

    def _accept(self, head: bytes, body: bytes) -> None:
        state = self._state
        if state.status > 299:
            state.refused += 1
            self._write(state.status, b"{}")
            return
        if b"gzip" in head and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        state.bodies.append((time.monotonic(), body))
        # Salesmachine answers 201 to a batch, but some of the others, on the same path, take only 200 for success.
        self._write(200, _BODY)

    def _write(self, status: int, body: bytes) -> None:
        assert self._transport is not None
        self._transport.write(
            b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (status, len(body), body)
        )


def _control(state: _State, path: str) -> Any:
    """Do what a request to ``/_sink/...`` asks for."""
    target = urlsplit(path)
    query = {name: values[0] for name, values in parse_qs(target.query).items()}
    match target.path.removeprefix("/_sink/"):
        case "behave":
            state.status = int(query.get("status", 200))
            state.delay = float(query.get("delay", 0))
        case "reset":
            state.bodies.clear()
            state.refused = 0
        case "tally":
            return _tally(state)
    return {}


def _tally(state: _State) -> dict[str, Any]:
    numbers = [int(number) for _, body in state.bodies for number in _NUMBER.findall(body)]
    return {
        "requests": len(state.bodies),
        "refused": state.refused,
        "bytes": sum(len(body) for _, body in state.bodies),
        "messages": len(numbers),
        "unique": len(set(numbers)),
        "times": [when for when, _ in state.bodies],
    }


class Sink:
    """The parent's side: starts the server's process, controls it, ends it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._sink"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], 30.0)
        if not ready:
            self.close()
            raise TimeoutError("the sink has not started")
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def behave(self, *, status: int = 200, delay: float = 0.0) -> None:
        """Answer with *status* (-1: never) after *delay* seconds from now on."""
        ask_sink(self.port, f"behave?status={status}&delay={delay}")

    def reset(self) -> None:
        """Forget everything received."""
        ask_sink(self.port, "reset")

    def tally(self) -> dict[str, Any]:
        """Count what was accepted: ``requests``, ``refused``, ``bytes``, ``messages``, ``unique``, ``times``."""
        counted: dict[str, Any] = ask_sink(self.port, "tally")
        return counted

    def capacity(self, body: bytes, seconds: float = 0.5) -> float:
        """Return how many such requests per second one connection gets answered, one after the other."""
        request = b"POST /v1/batch HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        with socket.create_connection(("127.0.0.1", self.port), 5.0) as connection:
            count, deadline = 0, time.perf_counter() + seconds
            while time.perf_counter() < deadline:
                connection.sendall(request)
                connection.recv(4096)
                count += 1
        self.reset()
        return count / seconds

    def close(self) -> None:
        """End the server."""
        self._process.kill()
        self._process.wait()


def ask_sink(port: int, what: str) -> Any:
    """Send one control request to the sink on *port* and return its answer; blocks."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60.0)
    try:
        connection.request("GET", f"/_sink/{what}")
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


async def _serve() -> None:
    state = _State()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(state), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    # It ends when its parent does, however that ends.
    await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    argparse.ArgumentParser(description="The server of the benchmarks; prints its port.").parse_args()
    asyncio.run(_serve())
