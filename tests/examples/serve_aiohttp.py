"""Serves the aiohttp example on a free port, and says which."""

import socket

from aiohttp import web

from examples.aiohttp_app import create_app

with socket.create_server(("127.0.0.1", 0)) as listener:
    web.run_app(
        create_app(),
        sock=listener,
        print=lambda *_: print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True),  # noqa: T201
    )
