"""Connections to the server: opening them, calling scripts, and the meaning of errors."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

import redis
from redis import exceptions as redis_errors
from redis.asyncio import Redis
from redis.asyncio.retry import Retry as ClientRetry
from redis.backoff import NoBackoff

from salesmachine_async._core.response import Outcome, Verdict
from salesmachine_async._process import process_id, watch
from salesmachine_async.engines.redis.scripts import LuaScript
from salesmachine_async.errors import (
    ConfigError,
    ConnectionFailed,
    DeliveryError,
    Rejected,
    RequestTimeout,
    ServerFailure,
    Unauthorized,
)

__all__ = [
    "TIMEOUT",
    "ClientHolder",
    "RedisClient",
    "as_text",
    "check_server",
    "failure",
    "on_server",
    "outcome_of",
    "pairs_of",
    "run",
]

# Seconds for a connection, and for an answer.
TIMEOUT = 5.0
# Temporary errors: the server is loading, failing over, full, or cannot save to its disk.
_TRANSIENT = ("OOM", "LOADING", "READONLY", "MASTERDOWN", "MISCONF", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN", "BUSY")
_NOT_ALLOWED = ("NOAUTH", "NOPERM", "WRONGPASS")


class RedisClient(Protocol):
    """The methods used of a client, which every client of ``redis.asyncio`` has."""

    def execute_command(self, *args: Any, **options: Any) -> Awaitable[Any]:
        """Send a command and return the reply."""
        ...


class ClientHolder:
    """
    Opens clients from a URL for each event loop and process; one that was given belongs to the application.

    Each client opened here has one connection, which carries one call at a time: a pool costs more than a call. It has
    no limit for the time of an answer, so the caller has to set one, which the time in the queue counts against.

    Args:
        server: A URL, as of ``redis.asyncio.Redis.from_url``, or a client.
        connections: How many connections may be opened here.

    Raises:
        ConfigError: *server* is neither a URL nor a client, or the URL is malformed.
    """

    def __init__(self, server: str | RedisClient, *, connections: int) -> None:
        self._given: RedisClient | None = None
        # The process that has used the client that was given.
        self._user: int | None = None
        self._open: Callable[[], Redis] | None = None
        self._connections = connections
        self._clients: dict[int, Redis] = {}
        self._owner: tuple[asyncio.AbstractEventLoop, int] | None = None
        if not isinstance(server, str):
            blocks = isinstance(server, redis.Redis | redis.RedisCluster)
            if blocks or not callable(getattr(server, "execute_command", None)):
                raise ConfigError(f"the server must be a URL or a client of redis.asyncio, not {type(server).__name__}")
            self._given = server
            return
        watch(self, ClientHolder._after_fork_in_child)

        def open_client() -> Redis:
            return Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
                server,
                single_connection_client=True,
                socket_connect_timeout=TIMEOUT,
                socket_timeout=None,
                retry=ClientRetry(NoBackoff(), 1),
            )

        try:
            # Only a connection knows the options.
            open_client().connection_pool.make_connection()  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, redis_errors.RedisError):
            # Not the error's own text, which may quote the password.
            raise ConfigError(
                "the server's URL is malformed: expected redis://, rediss:// or unix://, and options that redis-py has"
            ) from None
        self._open = open_client

    def client(self, number: int = 0) -> RedisClient:
        """
        Return a client for the running event loop; calls with different numbers share no connection, if they can.

        Raises:
            ConfigError: The client that was given has connections of the process before a fork.
        """
        process = process_id()
        if self._open is None:
            assert self._given is not None
            if self._user not in (None, process):
                raise ConfigError("a client of Redis cannot be used after a fork: pass a URL, or make it in the child")
            self._user = process
            return self._given
        owner = asyncio.get_running_loop(), process
        if self._owner != owner:
            # Connections of another loop are left alone.
            self._clients, self._owner = {}, owner
        number %= self._connections
        client = self._clients.get(number)
        if client is None:
            client = self._clients[number] = self._open()
        return client

    async def aclose(self) -> None:
        """Close the connections that were opened here in this event loop."""
        own = self._owner == (asyncio.get_running_loop(), process_id())
        clients, self._clients = self._clients, {}
        if own:
            # All at once, because an agent that ends waits only a moment for its transport.
            await asyncio.gather(*(client.aclose() for client in clients.values()))

    def _after_fork_in_child(self) -> None:
        """Drop the parent's connections without closing them."""
        if self._clients:
            _never_collect(self._clients)
            self._clients = {}


def _never_collect(inherited: object) -> None:
    """
    Keep an object of the parent process beyond the end of this one.

    redis-py and asyncio close connections that are collected, also while the interpreter ends. That would unregister
    them from the selector, which this process shares with its parent, and the parent would never receive its answers.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


async def run(client: RedisClient, script: LuaScript, keys: tuple[str, ...], *arguments: object) -> Any:
    """Call a script; send its text if the server does not know it yet, as after a restart or a failover."""
    try:
        return await client.execute_command("EVALSHA", script.sha, len(keys), *keys, *arguments)
    except redis_errors.NoScriptError:
        return await client.execute_command("EVAL", script.text, len(keys), *keys, *arguments)


def as_text(reply: Any) -> str:
    """Return a string of a reply, whether the client decodes replies or not."""
    return reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)


def on_server(exc: BaseException) -> bool:
    """Return whether *exc* is a failure of the server or of the way to it, which `failure` can describe."""
    kinds = redis_errors.RedisError, redis_errors.RedisClusterException, OSError, asyncio.TimeoutError
    return isinstance(exc, kinds)


def failure(exc: BaseException) -> DeliveryError:
    """Describe a failure of the server. The text of its errors holds no value of a command."""
    text = str(exc)
    # redis-py raises a ConnectionError for a refusal while it connects, with the refusal as its cause.
    refused = isinstance(exc.__cause__ or exc, redis_errors.AuthenticationError)
    if refused or _begins(exc, _NOT_ALLOWED):
        return Unauthorized(f"the Redis server refuses access: {text}")
    if isinstance(exc, (redis_errors.TimeoutError, TimeoutError)):
        return RequestTimeout("the Redis server did not answer in time")
    if _is_transient(exc):
        return ServerFailure(f"the Redis server cannot be written to now: {text}")
    if isinstance(exc, redis_errors.ResponseError):
        return Rejected(f"the Redis server answered {text}")
    return ConnectionFailed(f"no connection to the Redis server: {_reason(exc)}")


def _reason(exc: BaseException) -> str:
    """Return the text of the operating system, or of TLS, that redis-py has wrapped; else the type of the error."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.strerror or str(cause)
        cause = cause.__cause__ or cause.__context__
    return type(exc).__name__


def outcome_of(exc: BaseException) -> Outcome:
    """Return the outcome of a request that failed like this. It says nothing about its batch, which is never lost."""
    error = failure(exc)
    if _is_transient(exc):
        return Outcome(verdict=Verdict.PAUSE, error=error, retry_after=0.0)
    if isinstance(error, Unauthorized | Rejected):
        return Outcome.failed(error, Verdict.PARKED)
    return Outcome.failed(error, Verdict.UNREACHABLE)


def _is_transient(exc: BaseException) -> bool:
    kinds = (
        redis_errors.OutOfMemoryError,
        redis_errors.ReadOnlyError,
        redis_errors.BusyLoadingError,
        redis_errors.ClusterDownError,
        redis_errors.TryAgainError,
    )
    return isinstance(exc, kinds) or _begins(exc, _TRANSIENT)


def _begins(exc: BaseException, codes: tuple[str, ...]) -> bool:
    """Return whether the server's error has one of these codes. redis-py cuts off those for which it has a class."""
    if isinstance(exc, redis_errors.NoPermissionError):
        return codes is _NOT_ALLOWED
    return isinstance(exc, redis_errors.ResponseError) and str(exc).startswith(codes)


async def check_server(client: RedisClient, *, synced: bool = False) -> None:
    """
    Check that the server can keep a queue.

    Args:
        client: To it; of a cluster, every node that answers is checked.
        synced: Whether it must write each command to its disk before it answers.

    Raises:
        ConfigError: Its version or its configuration does not allow it.
    """
    for info in _by_node(await client.execute_command("INFO")):
        version = as_text(info.get("redis_version", "0"))
        if int(version.partition(".")[0] or 0) < 7:
            raise ConfigError(f"the Redis server has version {version}; 7.0 is needed (or any Valkey)")
        policy = as_text(info.get("maxmemory_policy", "noeviction"))
        if policy != "noeviction":
            raise ConfigError(
                f"the Redis server would evict messages and leases: set maxmemory-policy to noeviction, not {policy}"
            )
    if synced:
        await _check_synced(client)


async def _check_synced(client: RedisClient) -> None:
    settings: dict[str, str] = {}
    for name in ("appendonly", "appendfsync"):
        reply: Any = await client.execute_command("CONFIG GET", name)
        settings |= {as_text(key): as_text(value) for key, value in pairs_of(reply)}
    if settings != {"appendonly": "yes", "appendfsync": "always"}:
        found = ", ".join(f"{name} {value}" for name, value in settings.items())
        raise ConfigError(
            f'confirm="synced" needs a Redis server with appendonly yes, appendfsync always; it has {found}'
        )


def pairs_of(reply: Any) -> Iterable[tuple[Any, Any]]:
    """Return the pairs of a reply, which is a mapping or a flat list, by the protocol of the client."""
    return reply.items() if hasattr(reply, "items") else zip(reply[::2], reply[1::2], strict=False)


def _by_node(reply: Any) -> list[Mapping[str, Any]]:
    """Return the answers of the nodes: a client of a cluster answers with one for each, any other with the only one."""
    if reply and all(isinstance(value, Mapping) for value in reply.values()):
        return [*reply.values()]
    return [reply]
