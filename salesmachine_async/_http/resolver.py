"""Host names are looked up in daemon threads, so that a name server that hangs never holds up an exit."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from threading import Thread
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

__all__ = ["DaemonResolver"]

_FLAGS: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV

# What getaddrinfo returns, or the error instead: an exception set on a future that nobody waits for any more would be
# logged as never retrieved.
_Answer = list[Any] | OSError


class DaemonResolver(AbstractResolver):
    """
    Resolves with `socket.getaddrinfo`, as the event loop does, but not in its thread pool.

    Threads of the pool are waited for when the loop's default executor shuts down (up to 300 s since Python
    3.12) and again when the interpreter exits: a hanging lookup would hang both. There is one thread for one
    name at most: who asks again while a lookup is under way waits for the same.
    """

    def __init__(self) -> None:
        self._lookups: dict[tuple[str, int, int], asyncio.Future[_Answer]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """
        Return the addresses of a host.

        Raises:
            OSError: The name is not known, or the name server is out of reach.
        """
        key = (host, port, family)
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = self._lookups[key] = asyncio.get_running_loop().create_future()
            lookup.add_done_callback(lambda _: self._lookups.pop(key))
            self._start(lookup, host, port, family)
        # Shielded: who gives up does not take the answer from the others.
        answer = await asyncio.shield(lookup)
        if isinstance(answer, OSError):
            raise answer
        return [
            ResolveResult(
                hostname=host, host=_numeric(address), port=address[1], family=found, proto=proto, flags=_FLAGS
            )
            for found, _, proto, _, address in answer
        ]

    async def close(self) -> None:
        """Nothing to give back: a lookup under way ends by itself."""

    def _start(self, lookup: asyncio.Future[_Answer], host: str, port: int, family: int) -> None:
        loop = lookup.get_loop()

        def look_up() -> None:
            answer: _Answer
            try:
                answer = socket.getaddrinfo(
                    host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG
                )
            except OSError as exc:
                answer = exc
            except UnicodeError:  # a label that IDNA cannot encode
                answer = OSError("the host name is not valid")
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(_answer, lookup, answer)

        try:
            Thread(target=look_up, name="salesmachine-dns", daemon=True).start()
        except RuntimeError as exc:  # no more threads, or the interpreter is shutting down
            _answer(lookup, OSError(str(exc)))


def _answer(lookup: asyncio.Future[_Answer], answer: _Answer) -> None:
    lookup.set_result(answer)


def _numeric(address: Any) -> str:
    """Return the address as text, of a link-local IPv6 address with its zone."""
    host = str(address[0])
    if len(address) == 4 and address[3] and "%" not in host:
        return f"{host}%{address[3]}"
    return host
