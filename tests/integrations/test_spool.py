"""``SALESMACHINE_SPOOL`` is for the agents that the integrations make, too."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from salesmachine_async import SpoolFailed, SpoolState, ThreadedAgent
from salesmachine_async.integrations import asgi, wsgi
from salesmachine_async.integrations._environment import fallback_agent
from salesmachine_async.sandbox import Fault
from salesmachine_async.testing import Workspace
from tests.support.asgi_driver import call, running
from tests.support.wsgi_driver import Server

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


async def page(scope: Any, receive: Any, send: Any) -> None:
    """Answer requests, and know no lifespan."""
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def integration(name: str) -> Any:
    """Return the module of an integration; skip the test where its framework is not installed."""
    pytest.importorskip(name)
    return import_module(f"salesmachine_async.integrations.{name}")


def asgi_agent() -> tuple[Any, Callable[[], Any]]:
    app = asgi.SalesmachineMiddleware(page)
    return app, lambda: asgi.get_agent(app)


def fastapi_agent() -> tuple[Any, Callable[[], Any]]:
    module = integration("fastapi")
    app = import_module("fastapi").FastAPI()
    app.add_middleware(module.SalesmachineMiddleware)
    return app, lambda: module.get_agent(app)


def litestar_agent() -> tuple[Any, Callable[[], Any]]:
    module = integration("litestar")
    app = import_module("litestar").Litestar([], plugins=[module.SalesmachinePlugin()])
    return app, lambda: module.get_agent(app)


def django_agent() -> tuple[Any, Callable[[], Any]]:
    module = integration("django")
    import_module("tests.integrations.django_project")
    app = asgi.SalesmachineMiddleware(import_module("django.core.handlers.asgi").ASGIHandler())
    return app, lambda: module.get_agent(app)


@asynccontextmanager
async def running_aiohttp(app: Any) -> AsyncIterator[None]:
    runner = import_module("aiohttp.web").AppRunner(app)
    await runner.setup()
    yield
    await runner.cleanup()


def aiohttp_agent() -> tuple[Any, Callable[[], Any]]:
    module = integration("aiohttp")
    app = import_module("aiohttp.web").Application()
    module.setup(app)
    return app, lambda: module.get_agent(app)


def flask_agent() -> Any:
    module = integration("flask")
    app = import_module("flask").Flask("shop")
    module.Salesmachine(app)
    return module.get_agent(app)


def django_agent_of_the_middleware() -> Any:
    module = integration("django")
    import_module("tests.integrations.django_project")
    return module.get_agent()


def wsgi_agent() -> Any:
    return wsgi.get_agent(wsgi.SalesmachineMiddleware(lambda environ, start: [b""]))


def held(path: Path) -> bytes:
    """Return what all segments below a path hold."""
    return b"".join(each.read_bytes() for each in path.glob("*/*.seg"))


@pytest.mark.parametrize(
    ("make", "lives"),
    [
        (asgi_agent, running),
        (fastapi_agent, running),
        (litestar_agent, running),
        (django_agent, running),
        (aiohttp_agent, running_aiohttp),
    ],
)
async def test_the_agent_of_a_lifespan(
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[], tuple[Any, Callable[[], Any]]],
    lives: Lifespan,
) -> None:
    """What a lifespan cannot deliver is on disk, and the next one delivers it."""
    monkeypatch.setenv("SALESMACHINE_SPOOL", str(tmp_path))
    workspace.faults(Fault(status=503, times=None))
    app, get_agent = make()
    async with lives(app):
        agent = get_agent()
        assert not isinstance(agent, ThreadedAgent)
        assert agent.track("u", "kept for later")
        await agent.sync()
        assert b"kept for later" in held(tmp_path)
        assert (await agent.aclose(0)).kept == 1
    workspace.faults()
    app, get_agent = make()
    async with lives(app):
        await workspace.wait_for_async("kept for later", timeout=50)  # as below
        assert get_agent().stats().recovered == 1
    assert os.listdir(tmp_path) == ["quota.lock"]


@pytest.mark.parametrize("make", [wsgi_agent, flask_agent, django_agent_of_the_middleware, fallback_agent])
def test_the_agent_of_the_process(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]
) -> None:
    """An event is on disk before a request is answered that waits for it."""
    monkeypatch.setenv("SALESMACHINE_SPOOL", str(tmp_path))
    workspace.faults(Fault(status=503, times=None))
    agent = make()
    assert agent.track("u", "kept for later")
    agent.sync()
    assert b"kept for later" in held(tmp_path)
    assert agent.close(0).kept == 1
    workspace.faults()
    with ThreadedAgent() as next_agent:
        workspace.wait_for("kept for later", timeout=50)  # the lock may be released behind close(0)
    assert next_agent.stats().recovered == 1


async def test_an_unusable_path_is_no_reason_to_track_nothing(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The agents of integrations run without the spool, and log that once each."""
    tmp_path.chmod(0o777)
    monkeypatch.setenv("SALESMACHINE_SPOOL", str(tmp_path))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            asgi.identify("u")
            asgi.current_tracker().track("seen", {"kind": "asgi"})
        await page(scope, receive, send)

    def application(environ: Any, start_response: Any) -> list[bytes]:
        wsgi.identify("u")
        wsgi.current_tracker().track("seen", {"kind": "wsgi"})
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    middleware = asgi.SalesmachineMiddleware(app)
    async with running(middleware):
        assert (await call(middleware, "/")).status == 200
        state = asgi.get_agent(middleware).stats().spool
        assert state is not None
        assert state.state is SpoolState.UNAVAILABLE
    assert Server(wsgi.SalesmachineMiddleware(application)).get() == b"ok"
    with pytest.raises(SpoolFailed):
        fallback_agent().sync()
    await workspace.wait_for_async("seen", kind="asgi")
    await workspace.wait_for_async("seen", kind="wsgi")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert all(line.startswith("running without a spool: Spool.path ") for line in lines)
