"""The server of the demo: an embedded sandbox, another sandbox, or any server of the API."""

import contextlib
import dataclasses
import os
import secrets
import ssl
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import aiohttp

from salesmachine_async.cli.demo.children import child
from salesmachine_async.cli.demo.control import Control
from salesmachine_async.cli.options import ServerOptions

# The URL is not shown, because it may hold a password.
NO_URL = "--url is not a URL like https://api.example.com"


class TargetError(Exception):
    """A server that cannot be used."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    The server that receives.

    Attributes:
        url: The base URL.
        token: The token; None for the one in the environment.
        control: The control endpoints; None if the server is not a sandbox.
        embedded: Whether it is the embedded sandbox, which may get faults.
        transport: Further arguments of `HttpTransport`.
    """

    url: str
    token: str | None = dataclasses.field(repr=False)
    control: Control | None
    embedded: bool
    transport: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any], repr=False)


@contextlib.asynccontextmanager
async def open_target(url: str | None, server: ServerOptions) -> AsyncGenerator[Target]:
    """
    Start a sandbox in a child process, or connect to the server at *url* with the options *server*.

    In a sandbox a random token makes an empty workspace.

    Raises:
        ConfigError: If *url* or the environment is unusable.
        TargetError: If there is no usable server at *url*.
        ChildError: If the sandbox did not start.
    """
    token = secrets.token_hex(8)
    if url is None:
        arguments = ("sandbox", "--port", "0", "--json", "--until-eof")
        async with child("salesmachine_async", *arguments) as sandbox:
            own: str = (await sandbox.receive())["url"]
            async with Control(own, token) as control:
                yield Target(url=own, token=token, control=control, embedded=True)
    else:
        async with _connect(url, token, server) as control:
            if await _is_sandbox(control):
                yield Target(url=url, token=token, control=control, embedded=False, transport=server.transport())
            else:
                yield Target(url=url, token=None, control=None, embedded=False, transport=server.transport())


def _connect(url: str, token: str, server: ServerOptions) -> Control:
    network = server.network(url)
    try:
        return Control(url, token, proxy=network.proxy, ssl=network.ssl)
    except ValueError:
        raise TargetError(NO_URL) from None


async def _is_sandbox(control: Control) -> bool:
    try:
        return await control.is_sandbox()
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError):
        raise TargetError(NO_URL) from None
    except TimeoutError:
        raise TargetError("the server at --url does not answer") from None
    except (aiohttp.ClientError, OSError) as error:
        raise TargetError(f"the server at --url cannot be reached: {_reason(error)}") from None
    except ValueError:  # after ClientError, because an error of a certificate is both
        raise TargetError(NO_URL) from None


def _reason(error: Exception) -> str:
    # The text of aiohttp for a failed connection has internal details.
    if not isinstance(error, aiohttp.ClientConnectorError):
        return str(error) or type(error).__name__
    if isinstance(error.os_error, ssl.SSLError):
        return f"{error.host} port {error.port}: {error.os_error.strerror}"
    number = error.os_error.errno
    # Negative numbers are those of the resolver.
    reason = os.strerror(number) if number is not None and number > 0 else error.os_error.strerror
    return f"{error.host} port {error.port}: {reason}"
