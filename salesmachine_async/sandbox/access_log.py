"""One line of text for each request, for a terminal or a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from salesmachine_async.sandbox.views import RequestView

MAX_PATH = 100


def access_line(request: RequestView) -> str:
    """
    Describe a request: time, method, path, status, messages and error.

    Control characters in the path, which a client chooses, are replaced, so that they cannot control a terminal.
    """
    path = "".join(character if character.isprintable() else "?" for character in request["path"][:MAX_PATH])
    status = "dropped" if request["status"] is None else str(request["status"])
    items = request["items"]
    line = f"{request['received_at'][11:19]} {request['method'][:10]} {path} {status} "
    line += f"{items} message{'' if items == 1 else 's'}"
    if request["duplicates"]:
        line += f" ({request['duplicates']} known already)"
    return f"{line}: {request['error']}" if request["error"] else line
