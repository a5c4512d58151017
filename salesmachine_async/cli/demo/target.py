"""Where the demo tracks into: a sandbox of its own, another sandbox, or any server that speaks the API."""

import contextlib
import dataclasses
import os
import secrets
from collections.abc import AsyncGenerator

import aiohttp

from salesmachine_async.cli.demo.children import child
from salesmachine_async.cli.demo.control import Control

# It is not echoed: it may hold a password.
NO_URL = "--url is not a URL like https://api.example.com"


class TargetError(Exception):
    """The server that was asked for cannot be used."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    The server that receives.

    Attributes:
        url: Its base URL.
        token: The token to use; None: the one in the environment.
        control: Its control endpoints; None: it is not a sandbox, nothing can be read back.
        embedded: Whether it is our own, so that we may break it.
    """

    url: str
    token: str | None = dataclasses.field(repr=False)
    control: Control | None
    embedded: bool


@contextlib.asynccontextmanager
async def open_target(url: str | None) -> AsyncGenerator[Target]:
    """
    Start a sandbox in a child process, or look at what is at *url*.

    In a sandbox a fresh random token makes a fresh workspace: what others have put there stays apart.

    Raises:
        TargetError: There is nothing at *url*.
        ChildError: The sandbox did not start.
    """
    token = secrets.token_hex(8)
    if url is None:
        arguments = ("sandbox", "--port", "0", "--json", "--until-eof")
        async with child("salesmachine_async", *arguments) as sandbox:
            own: str = (await sandbox.receive())["url"]
            async with Control(own, token) as control:
                yield Target(url=own, token=token, control=control, embedded=True)
    else:
        async with _look_at(url, token) as control:
            if await _is_sandbox(control):
                yield Target(url=url, token=token, control=control, embedded=False)
            else:
                yield Target(url=url, token=None, control=None, embedded=False)


def _look_at(url: str, token: str) -> Control:
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
    # aiohttp's text for a failed connection shows its internals.
    if not isinstance(error, aiohttp.ClientConnectorError):
        return str(error) or type(error).__name__
    number = error.os_error.errno
    # Negative: the resolver's own numbers.
    said = os.strerror(number) if number is not None and number > 0 else error.os_error.strerror
    return f"{error.host} port {error.port}: {said}"
