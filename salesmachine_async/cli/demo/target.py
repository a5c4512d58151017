"""The server of the demo: an embedded sandbox, another sandbox, or any server of the API."""

import contextlib
import dataclasses
import os
import secrets
from collections.abc import AsyncGenerator

import aiohttp

from salesmachine_async.cli.demo.children import child
from salesmachine_async.cli.demo.control import Control

# The URL is not shown, because it may hold a password.
NO_URL = "--url is not a URL like https://api.example.com"


class TargetError(Exception):
    """A server that cannot be used."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    The server that receives.

    Attributes:
        url: Its base URL.
        token: The token; None for the one in the environment.
        control: Its control endpoints; None if it is not a sandbox.
        embedded: Whether it is the embedded sandbox, which may get faults.
    """

    url: str
    token: str | None = dataclasses.field(repr=False)
    control: Control | None
    embedded: bool


@contextlib.asynccontextmanager
async def open_target(url: str | None) -> AsyncGenerator[Target]:
    """
    Start a sandbox in a child process, or connect to the server at *url*.

    In a sandbox a random token makes an empty workspace.

    Raises:
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
        async with _connect(url, token) as control:
            if await _is_sandbox(control):
                yield Target(url=url, token=token, control=control, embedded=False)
            else:
                yield Target(url=url, token=None, control=None, embedded=False)


def _connect(url: str, token: str) -> Control:
    try:
        return Control(url, token)
    except ValueError:
        raise TargetError(NO_URL) from None


async def _is_sandbox(control: Control) -> bool:
    try:
        return await control.is_sandbox()
    except (ValueError, aiohttp.NonHttpUrlClientError):
        raise TargetError(NO_URL) from None
    except TimeoutError:
        raise TargetError("the server at --url does not answer") from None
    except (aiohttp.ClientError, OSError) as error:
        raise TargetError(f"the server at --url cannot be reached: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    # The text of aiohttp for a failed connection has internal details.
    if not isinstance(error, aiohttp.ClientConnectorError):
        return str(error) or type(error).__name__
    number = error.os_error.errno
    # Negative numbers are those of the resolver.
    reason = os.strerror(number) if number is not None and number > 0 else error.os_error.strerror
    return f"{error.host} port {error.port}: {reason}"
