"""Plays the server to a WSGI application, by the letter of PEP 3333."""

from __future__ import annotations

from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator


class Server:
    """Makes requests; notes what it was answered."""

    def __init__(self, app: Any, *, check: bool = True) -> None:
        self.app = validator(app) if check else app
        self.status = ""
        self.headers: list[tuple[str, str]] = []

    def start(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        self.status, self.headers = status, headers
        return lambda _data: None

    def open(self, path: str = "/things/1", method: str = "GET", **more: Any) -> Any:
        environ: dict[str, Any] = {
            "PATH_INFO": path,
            "REQUEST_METHOD": method,
            "REMOTE_ADDR": "203.0.113.7",
            "SCRIPT_NAME": "",
        }
        environ.update(more)
        setup_testing_defaults(environ)
        environ.setdefault("HTTP_USER_AGENT", "Mozilla/5.0")
        environ.setdefault("QUERY_STRING", "")
        return self.app(environ, self.start)

    def get(self, path: str = "/things/1", method: str = "GET", **more: Any) -> bytes:
        answer = self.open(path, method, **more)
        try:
            return b"".join(answer)
        finally:
            answer.close()
