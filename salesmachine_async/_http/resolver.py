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

_Key = tuple[str, int, int]
# The result of getaddrinfo, or the error instead: an exception set on a future without a waiter would be logged.
_Answer = list[Any] | OSError


@dataclass(frozen=True, slots=True)
class _Lookup:
    answer: asyncio.Future[_Answer]
    thread: Thread | None

    def can_answer(self) -> bool:
        """Return whether an answer has come or may still come."""
        return self.answer.done() or self.thread is None or self.thread.is_alive()


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
        lookup = self._lookups.get(key)
        # A thread may end without an answer, for example for want of memory.
        if lookup is None or not lookup.can_answer():
            lookup = self._look_up(key)
        # Shielded, because the answer is shared: a request that is cancelled must not cancel it.
        answer = await asyncio.shield(lookup.answer)
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

        thread = Thread(target=run, name="salesmachine-dns", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:
            # At the limit of threads the request fails and is repeated later. At the interpreter's end no thread can
            # be started any more, and nothing else is left to do than to wait for the answer.
            answer.set_result(OSError(str(exc)) if main_thread().is_alive() else _getaddrinfo(*key))
            return _Lookup(answer, None)
        lookup = self._lookups[key] = _Lookup(answer, thread)
        answer.add_done_callback(lambda _: self._forget(key, lookup))
        return lookup

    def _forget(self, key: _Key, lookup: _Lookup) -> None:
        if self._lookups.get(key) is lookup:
            del self._lookups[key]


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
    future.set_result(answer)


def _numeric(address: Any) -> str:
    """Return the address as text, of a link-local IPv6 address with its zone."""
    host = str(address[0])
    if len(address) == 4 and address[3] and "%" not in host:
        return f"{host}%{address[3]}"
    return host
