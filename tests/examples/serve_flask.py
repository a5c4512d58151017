"""The Flask example under the server of the standard library, until SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading
from wsgiref.simple_server import make_server

from examples.flask_app import app

if __name__ == "__main__":
    with make_server("127.0.0.1", 0, app) as server:
        # Not sys.exit(): wsgiref answers that as any other exception when it comes in the middle of a request.
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
        sys.stdout.flush()
        server.serve_forever()
