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

# Interval of the check that the thread of a lookup is alive.
ALIVE_SECONDS: Final = 1.0

_Key = tuple[str, int, int]
# The result of getaddrinfo or its error, as a value because asyncio logs an exception of a future without a waiter.
_Answer = list[Any] | OSError


@dataclass(frozen=True, slots=True)
class _Lookup:
    answer: asyncio.Future[_Answer]
    thread: Thread


class DaemonResolver(AbstractResolver):
    """
    Resolves with `socket.getaddrinfo`, as the event loop does, but not in its thread pool.

    The event loop joins the threads of its pool when its default executor shuts down (up to 300 s since Python 3.12),
    and the interpreter joins them at its exit, so a hanging lookup would delay both. A name has at most one live
    thread; further requests for the name wait for the same answer. Answers are not cached.
    """

    def __init__(self) -> None:
        self._lookups: dict[_Key, _Lookup] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """
        Return the addresses of a host.

        Raises:
            OSError: The name is unknown, or the lookup failed.
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
            # At the limit of threads the request fails and is retried later. At the exit of the interpreter no thread
            # can be started, so the lookup has to block.
            _set(answer, OSError(str(exc)) if main_thread().is_alive() else _getaddrinfo(*key))
        else:
            self._lookups[key] = lookup
            answer.add_done_callback(lambda _: self._lookups.pop(key))
        return lookup

    async def _answer(self, lookup: _Lookup) -> _Answer:
        # `asyncio.wait` leaves the future alone when this request is cancelled, because others may wait for it.
        while not lookup.answer.done():
            await asyncio.wait([lookup.answer], timeout=ALIVE_SECONDS)
            if not lookup.thread.is_alive():
                # A thread may end without an answer, for example when memory runs out.
                await asyncio.sleep(0)
                _set(lookup.answer, OSError("the lookup ended without an answer"))
        return lookup.answer.result()


def _getaddrinfo(host: str, port: int, family: int) -> _Answer:
    """Return the result of `socket.getaddrinfo`, or an OSError for any exception."""
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
    """Return the address as a string; a link-local IPv6 address with its zone."""
    host = str(address[0])
    if len(address) == 4 and address[3] and "%" not in host:
        return f"{host}%{address[3]}"
    return host
