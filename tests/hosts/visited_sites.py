"""
The same site in each framework.

``/upload`` reads its body, ``/stream`` has no end, ``/feedback`` tracks a message that is too large.

``python -m tests.hosts.visited_sites NAME`` serves the ones of WSGI and of aiohttp without another server.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from typing import Any

TOO_LARGE = {"text": "x" * 600_000}


def parts() -> Iterator[bytes]:
    """An answer without an end."""
    while True:
        yield b"hello\n"
        time.sleep(0.02)


async def parts_async() -> AsyncIterator[bytes]:
    while True:
        yield b"hello\n"
        await asyncio.sleep(0.02)


def plain() -> Any:
    from salesmachine_async.integrations.wsgi import SalesmachineMiddleware, current_tracker, identify

    def app(environ: Any, start_response: Any) -> Any:
        identify("u")
        path = environ["PATH_INFO"]
        if path == "/upload":
            environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        if path == "/feedback":
            current_tracker().track("feedback", TOO_LARGE)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return parts() if path == "/stream" else [b"ok"]

    return SalesmachineMiddleware(app, pageviews=True, route=lambda environ: environ["PATH_INFO"])


def flask() -> Any:
    from flask import Flask, Response, request

    from salesmachine_async.integrations.flask import Salesmachine, current_tracker, identify

    app = Flask(__name__)
    Salesmachine(app, pageviews=True)
    app.before_request(lambda: identify("u"))

    @app.post("/upload")
    def upload() -> str:
        return str(len(request.get_data()))

    @app.get("/stream")
    def stream() -> Response:
        return Response(parts())

    @app.get("/feedback")
    def feedback() -> str:
        current_tracker().track("feedback", TOO_LARGE)
        return "ok"

    return app


def django(kind: str) -> Any:
    import django as framework
    from django.conf import settings

    settings.configure(
        SECRET_KEY="tests",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="tests.hosts.visited_views",
        MIDDLEWARE=["salesmachine_async.integrations.django.SalesmachineMiddleware"],
        SALESMACHINE={"pageviews": True, "contact": lambda request: "u"},
    )
    framework.setup()
    return getattr(import_module(f"django.core.{kind}"), f"get_{kind}_application")()


def django_wsgi() -> Any:
    return django("wsgi")


def django_asgi() -> Any:
    from salesmachine_async.integrations.asgi import SalesmachineMiddleware

    return SalesmachineMiddleware(django("asgi"), pageviews=True)


def starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Route

    from salesmachine_async.integrations.asgi import SalesmachineMiddleware, current_tracker, identify

    async def upload(request: Request) -> PlainTextResponse:
        identify("u")
        return PlainTextResponse(str(len(await request.body())))

    async def stream(request: Request) -> StreamingResponse:
        identify("u")
        return StreamingResponse(parts_async())

    async def feedback(request: Request) -> PlainTextResponse:
        identify("u")
        current_tracker().track("feedback", TOO_LARGE)
        return PlainTextResponse("ok")

    routes = [
        Route("/upload", upload, methods=["POST"]),
        Route("/stream", stream),
        Route("/feedback", feedback),
    ]
    return SalesmachineMiddleware(Starlette(routes=routes), pageviews=True)


def fastapi() -> Any:
    from fastapi import Body, Depends, FastAPI
    from fastapi.responses import StreamingResponse

    from salesmachine_async.integrations.fastapi import SalesmachineMiddleware, current_tracker, identify

    async def known() -> None:
        identify("u")

    app = FastAPI(dependencies=[Depends(known)])
    app.add_middleware(SalesmachineMiddleware, pageviews=True, contact=lambda scope: "u")

    async def upload(body: Any = Body()) -> str:  # noqa: B008
        return str(body)

    async def stream() -> StreamingResponse:
        return StreamingResponse(parts_async())

    async def feedback() -> str:
        current_tracker().track("feedback", TOO_LARGE)
        return "ok"

    app.post("/upload")(upload)
    app.get("/stream")(stream)
    app.get("/feedback")(feedback)
    return app


def litestar() -> Any:
    from litestar import Litestar, Request, get, post
    from litestar.response import Stream

    from salesmachine_async.integrations.litestar import SalesmachinePlugin, current_tracker, identify

    async def upload(request: Request[Any, Any, Any]) -> str:
        identify("u")
        return str(len(await request.body()))

    async def stream() -> Stream:
        identify("u")
        return Stream(parts_async())

    async def feedback() -> str:
        identify("u")
        current_tracker().track("feedback", TOO_LARGE)
        return "ok"

    upload.__annotations__.update({"request": Request, "return": str})
    stream.__annotations__["return"] = Stream
    feedback.__annotations__["return"] = str
    handlers = [post("/upload")(upload), get("/stream")(stream), get("/feedback")(feedback)]
    return Litestar(handlers, plugins=[SalesmachinePlugin(pageviews=True)])


def aiohttp() -> Any:
    from aiohttp import web

    from salesmachine_async.integrations.aiohttp import setup, tracker

    async def upload(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for part in parts_async():
            await response.write(part)
        return response

    async def feedback(request: web.Request) -> web.Response:
        tracker(request).track("feedback", TOO_LARGE)
        return web.Response(text="ok")

    app = web.Application()
    setup(app, pageviews=True, contact=lambda request: "u")
    app.add_routes(
        [web.post("/upload", upload), web.get("/stream", stream), web.get("/feedback", feedback)],
    )
    return app


def say(port: int) -> None:
    sys.stdout.write(f"http://127.0.0.1:{port}\n")
    sys.stdout.flush()


def serve_wsgi(app: Any) -> None:
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIServer, make_server

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    with make_server("127.0.0.1", 0, app, server_class=Server) as server:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        say(server.server_port)
        server.serve_forever()


async def serve_aiohttp(app: Any) -> None:
    from aiohttp import web

    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    say(runner.addresses[0][1])
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await runner.cleanup()


if __name__ == "__main__":
    if sys.argv[1] == "aiohttp":
        asyncio.run(serve_aiohttp(aiohttp()))
    else:
        serve_wsgi(globals()[sys.argv[1]]())
