"""Name resolution in daemon threads, so that a name server that hangs never delays an exit."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread, main_thread
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

__all__ = ["DaemonResolver"]

_FLAGS: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV

# Seconds between two looks at whether the thread of a lookup is alive.
ALIVE_SECONDS: Final = 1.0

_Key = tuple[str, int, int]
# The result of getaddrinfo, or the error instead: an exception set on a future without a waiter would be logged.
_Answer = list[Any] | OSError


@dataclass(frozen=True, slots=True)
class _Lookup:
    answer: asyncio.Future[_Answer]
    thread: Thread


class DaemonResolver(AbstractResolver):
    """
    Resolves with `socket.getaddrinfo`, as the event loop does, but not in its thread pool.

    The pool's threads are waited for when the loop's default executor shuts down (up to 300 s since Python 3.12) and
    again when the interpreter exits: a hanging lookup would hang both. A name has at most one thread that is alive;
    further requests for the name wait for the same answer. An answer is not kept.
    """

    def __init__(self) -> None:
        self._lookups: dict[_Key, _Lookup] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """
        Return the addresses of a host.

        Raises:
            OSError: The name is not known, or cannot be looked up now.
        """
        key = (host, port, int(family))
        answer = await self._answer(self._lookups.get(key) or self._look_up(key))
        if isinstance(answer, OSError):
            raise answer
        return [
            ResolveResult(
                hostname=host, host=_numeric(address), port=address[1], family=found, proto=proto, flags=_FLAGS
            )
            for found, _, proto, _, address in answer
        ]

    async def close(self) -> None:
        """Do nothing: a lookup under way ends by itself."""

    def _look_up(self, key: _Key) -> _Lookup:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Answer] = loop.create_future()

        def run() -> None:
            found = _getaddrinfo(*key)
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(_set, answer, found)

        lookup = _Lookup(answer, Thread(target=run, name="salesmachine-dns", daemon=True))
        try:
            lookup.thread.start()
        except RuntimeError as exc:
            # At the limit of threads the request fails and is repeated later. At the interpreter's end no thread can
            # be started any more, and nothing else is left to do than to wait for the answer.
            _set(answer, OSError(str(exc)) if main_thread().is_alive() else _getaddrinfo(*key))
        else:
            self._lookups[key] = lookup
            answer.add_done_callback(lambda _: self._lookups.pop(key))
        return lookup

    async def _answer(self, lookup: _Lookup) -> _Answer:
        # A request that is cancelled must leave the answer to the others, as `asyncio.wait` does.
        while not lookup.answer.done():
            await asyncio.wait([lookup.answer], timeout=ALIVE_SECONDS)
            if not lookup.thread.is_alive():
                # A thread may end without an answer, for example for want of memory.
                await asyncio.sleep(0)
                _set(lookup.answer, OSError("the lookup ended without an answer"))
        return lookup.answer.result()


def _getaddrinfo(host: str, port: int, family: int) -> _Answer:
    """Return what `socket.getaddrinfo` returns, or whatever it raises as an OSError."""
    try:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG))
    except OSError as exc:
        return exc
    except UnicodeError:  # a label that IDNA cannot encode
        return OSError("the host name is not valid")
    except BaseException as exc:  # noqa: BLE001 (a thread that ended without an answer would leave requests waiting)
        return OSError(f"the lookup raised {type(exc).__name__}")


def _set(future: asyncio.Future[_Answer], answer: _Answer) -> None:
    if not future.done():
        future.set_result(answer)


def _numeric(address: Any) -> str:
    """Return the address as text, of a link-local IPv6 address with its zone."""
    host = str(address[0])
    if len(address) == 4 and address[3] and "%" not in host:
        return f"{host}%{address[3]}"
    return host
