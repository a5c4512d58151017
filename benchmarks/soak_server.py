"""
The server of the soak: it errs, drops, dawdles and talks garbage, by a seed, and journals what it has accepted.

Run by `benchmarks.soak` in a process of its own, which it kills and starts again. What was accepted is in the journal
file before the answer is sent, so that it survives the kill.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import sys
from contextlib import suppress

import orjson


class FaultyServer:
    """
    Args:
        journal: File descriptor; one accepted messageId a line.
        seed: Of the faults; 0 plays none.
    """

    def __init__(self, journal: int, seed: int) -> None:
        self._journal = journal
        self._random = random.Random(seed) if seed else None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._answer_one(reader, writer):
                pass
        writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        match self._fault():
            case "error before accepting":
                return await self._send(writer, 500)
            case "throttled":
                return await self._send(writer, 429, "Retry-After: 0.05\r\n")
            case "maintenance":
                return await self._send(writer, 503)
            case "slow":
                await asyncio.sleep(0.2)
            case "garbage":
                writer.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
                await writer.drain()
                return False
            case "reset after accepting":
                self._accept(body)
                _reset(writer)
                return False
            case _:
                pass
        self._accept(body)
        return await self._send(writer, 201)

    def _fault(self) -> str | None:
        if self._random is None:
            return None
        kinds = {
            "error before accepting": 5,
            "reset after accepting": 3,
            "throttled": 2.5,
            "maintenance": 2.5,
            "slow": 5,
            "garbage": 1,
        }
        (kind,) = self._random.choices([*kinds, None], [*kinds.values(), 100 - sum(kinds.values())])
        return kind

    def _accept(self, body: bytes) -> None:
        ids = "".join(f"{message['messageId']}\n" for message in orjson.loads(body))
        os.write(self._journal, ids.encode())

    async def _send(self, writer: asyncio.StreamWriter, status: int, headers: str = "") -> bool:
        answer = b'{"status":"success"}' if status == 201 else b'{"error":"on purpose"}'
        head = (
            f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n{headers}\r\n"
        )
        writer.write(head.encode() + answer)
        await writer.drain()
        return True


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def main(port: int, journal: str, seed: int) -> None:
    descriptor = os.open(journal, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    faulty = FaultyServer(descriptor, seed)
    server = await asyncio.start_server(faulty.serve, "127.0.0.1", port, limit=2**22)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The parent's end of standard input closes when it ends, however it ends.
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
