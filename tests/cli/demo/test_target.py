"""The server of the demo."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from salesmachine_async.cli.demo.control import Control
from salesmachine_async.cli.demo.target import TargetError, _reason, open_target
from salesmachine_async.cli.options import ServerOptions
from salesmachine_async.errors import ConfigError
from salesmachine_async.sandbox import Sandbox

NO_OPTIONS = ServerOptions()


@pytest.mark.slow
async def test_own_sandbox() -> None:
    """Without a URL a sandbox is started, which may get faults; it ends with the demo."""
    async with open_target(None, NO_OPTIONS) as target:
        assert target.embedded
        assert target.control is not None
        assert await target.control.is_sandbox()
        assert target.token is not None
        assert target.token not in repr(target)
    async with Control(target.url, "token") as control:
        with pytest.raises(aiohttp.ClientConnectionError):
            await control.is_sandbox()


async def test_another_sandbox() -> None:
    """Another sandbox keeps its state, and gets an unused workspace."""
    async with Sandbox() as sandbox:
        async with open_target(sandbox.url, NO_OPTIONS) as one, open_target(sandbox.url, NO_OPTIONS) as other:
            assert not one.embedded
            assert one.control is not None
            assert one.token != other.token


async def redirect(_: web.Request) -> web.Response:
    raise web.HTTPFound("/login")


async def page(_: web.Request) -> web.Response:
    return web.Response(text="<h1>Welcome</h1>", content_type="text/html")


@pytest.mark.parametrize("answer", [redirect, page])
async def test_not_a_sandbox(answer: Callable[[web.Request], Awaitable[web.Response]]) -> None:
    """Any other server is used with the credentials of the environment, without a comparison."""
    app = web.Application()
    app.router.add_get("/_sandbox/health", answer)
    async with TestServer(app) as server, open_target(str(server.make_url("/")), NO_OPTIONS) as target:
        assert (target.control, target.token, target.embedded) == (None, None, False)


@pytest.mark.parametrize(
    "url", ["nonsense", "http://[::1", "http://", "https://a..b", "ftp://user:pass@host", "http://user:pass@localhost"]
)
async def test_unusable_url(url: str) -> None:
    """An invalid URL is an error that does not show it."""
    with pytest.raises((TargetError, ConfigError), match=r"^(?!.*pass@).*URL"):
        async with open_target(url, NO_OPTIONS):
            pass


async def test_no_server() -> None:
    """A URL without a server is one clear line with host, port and reason."""
    port = unused_port()
    with pytest.raises(TargetError, match=rf"cannot be reached: 127\.0\.0\.1 port {port}: Connection refused$"):
        async with open_target(f"http://127.0.0.1:{port}", NO_OPTIONS):
            pass


async def test_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never answers is a timeout."""

    async def never(_: Control) -> bool:
        raise TimeoutError

    monkeypatch.setattr(Control, "is_sandbox", never)
    with pytest.raises(TargetError, match="does not answer"):
        async with open_target("http://127.0.0.1:1", NO_OPTIONS):
            pass


async def test_no_http() -> None:
    """A server of another protocol is described by the error of the client."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(TargetError, match="cannot be reached: "):
            async with open_target(f"http://127.0.0.1:{port}", NO_OPTIONS):
                pass


def test_reasons() -> None:
    """An error without a text is named by its type."""
    assert _reason(aiohttp.ServerDisconnectedError("bye")) == "bye"
    assert _reason(OSError()) == "OSError"
