"""
What happens, live: Server-Sent Events at `GET /_sandbox/stream`.

Each event is an `update`, whose data is an object of `era`, `summary`, `messages`, `messages_skipped`, `requests`,
`requests_skipped` and `reset`. The first comes at once, further ones when something happened, at most four a second.
`messages` and `requests` are what is new since the event before, oldest first, as `/_sandbox/wait` and
`/_sandbox/requests` show them; when there is more than a page can show, the latest, and how many were skipped. `reset`
is true when what was shown before is void. A listener that reconnects with `Last-Event-ID` gets what it missed, as far
as it is kept.

Source: WHATWG HTML, Server-sent events.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from salesmachine_async.sandbox.inspection import Inspection
from salesmachine_async.sandbox.requests import read_query, requested_workspace
from salesmachine_async.sandbox.state import STATE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from salesmachine_async.sandbox.state import SandboxState
    from salesmachine_async.sandbox.storage.message_log import Listener

# Proxies and browsers give up silent connections after half a minute or more.
KEEP_ALIVE_SECONDS = 15.0
# No eye follows more; and under load it is one event for hundreds of requests.
PACE_SECONDS = 0.25
MAX_ITEMS = 100
# Of one event: messages may be large, and a slow listener holds one event at most.
MAX_BYTES = 256 * 1024

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    # nginx would collect events otherwise.
    "X-Accel-Buffering": "no",
}
ID = re.compile(r"([0-9a-f]{8}-[0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,18})")


async def stream(request: web.Request) -> web.StreamResponse:
    """Answer updates until the client leaves or the server stops."""
    read_query(request)
    state = request.app[STATE]
    response = web.StreamResponse(headers=HEADERS)
    with state.message_log.listening() as news:
        view = _StreamCursor(state, requested_workspace(request), request.headers.get("Last-Event-ID", ""))
        # The client may leave at any time; a page that is reloaded does so before the answer begins.
        with suppress(ConnectionError):
            await response.prepare(request)
            await _tell(response, view, news, state)
    return response


async def _tell(response: web.StreamResponse, view: _StreamCursor, news: Listener, state: SandboxState) -> None:
    # Browsers are told to come back quickly: the server is on the same machine.
    await response.write(b"retry: 1000\n\n" + view.update())
    while not state.message_log.closed:
        if await news.wait(KEEP_ALIVE_SECONDS):
            # Written only as fast as it is read: nothing piles up here meanwhile, see `Listener`.
            if not state.message_log.closed:
                await response.write(view.update())
                with suppress(TimeoutError):
                    await asyncio.wait_for(state.closing.wait(), PACE_SECONDS)
        else:
            await response.write(b": keep-alive\n\n")


class _StreamCursor:
    """What one listener has seen of the workspace it looks at."""

    def __init__(self, state: SandboxState, workspace: str | None, last_id: str) -> None:
        self._state = state
        self._workspace = workspace
        self._era = state.message_log.era
        self._message = state.message_log.last
        self._request = state.request_log.last
        self._reset = False
        told = ID.fullmatch(last_id)
        if told is not None:
            self._reset = told[1] != self._era
            if not self._reset:
                self._request, self._message = min(int(told[2]), self._request), min(int(told[3]), self._message)

    def update(self) -> bytes:
        """Show what is new."""
        state = self._state
        reset = self._reset or state.message_log.era != self._era
        messages, messages_skipped = state.message_log.latest(self._message, self._workspace, MAX_ITEMS)
        requests, requests_skipped = state.request_log.latest(self._request, self._workspace, MAX_ITEMS)
        few, cut = _within(messages)
        self._era, self._message, self._request, self._reset = (
            state.message_log.era,
            state.message_log.last,
            state.request_log.last,
            False,
        )
        data = {
            "era": self._era,
            "summary": Inspection(state).summary(self._workspace),
            "messages": few,
            "messages_skipped": messages_skipped + cut,
            "requests": requests,
            "requests_skipped": requests_skipped,
            "reset": reset,
        }
        name = f"{self._era}.{self._request}.{self._message}"
        # JSON by orjson holds no line ends, which would end the field.
        return b"id: %b\nevent: update\ndata: %b\n\n" % (name.encode(), orjson.dumps(data))


def _within(messages: Sequence[dict[str, Any]]) -> tuple[list[orjson.Fragment], int]:
    """Keep the latest messages that fit into one event; tell how many do not."""
    kept: list[orjson.Fragment] = []
    room = MAX_BYTES
    for message in reversed(messages):
        text = orjson.dumps(message)
        if len(text) <= room:
            room -= len(text)
            kept.append(orjson.Fragment(text))
    return kept[::-1], len(messages) - len(kept)
