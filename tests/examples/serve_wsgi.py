"""Serves the Django example under WSGI on a free port, and says which; ends at SIGTERM as servers do."""

import signal
import sys
from wsgiref.simple_server import make_server

from examples.django_app import wsgi

signal.signal(signal.SIGTERM, lambda *_: sys.exit())
server = make_server("127.0.0.1", 0, wsgi)
print(f"http://127.0.0.1:{server.server_port}", flush=True)  # noqa: T201
with server:
    server.serve_forever()
