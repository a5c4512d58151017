"""
Live updates: Server-Sent Events at `GET /_sandbox/stream`.

Each event is an `update`, whose data is an object of `era`, `summary`, `messages`, `messages_skipped`, `requests`,
`requests_skipped` and `reset`. The first is sent at once, further ones after changes, at most four per second.
`messages` and `requests` are the new entries since the last event, oldest first, in the form of `/_sandbox/wait` and
`/_sandbox/requests`; beyond a limit only the latest are sent, with the number of skipped ones. `reset` is true when
earlier entries are void. A listener that reconnects with `Last-Event-ID` receives the entries it missed, as far as they
are kept.

Source: WHATWG HTML, Server-sent events.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from salesmachine_async.sandbox.http.responses import encode
from salesmachine_async.sandbox.inspection import Inspection
from salesmachine_async.sandbox.requests import read_query, requested_workspace
from salesmachine_async.sandbox.state import STATE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from salesmachine_async.sandbox.state import SandboxState
    from salesmachine_async.sandbox.storage.message_log import Listener

# Proxies and browsers close silent connections after half a minute or more.
KEEP_ALIVE_SECONDS = 15.0
# Faster updates are not readable; under load one event covers hundreds of requests.
PACE_SECONDS = 0.25
MAX_ITEMS = 100
# Limit of one event, because messages may be large; a slow listener holds at most one event.
MAX_BYTES = 256 * 1024

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    # Disables the buffering of nginx.
    "X-Accel-Buffering": "no",
}
ID = re.compile(r"([0-9a-f]{8}-[0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,18})")


async def stream(request: web.Request) -> web.StreamResponse:
    """Send updates until the client disconnects or the server stops."""
    read_query(request)
    state = request.app[STATE]
    response = web.StreamResponse(headers=HEADERS)
    with state.message_log.listening() as news:
        cursor = _StreamCursor(state, requested_workspace(request), request.headers.get("Last-Event-ID", ""))
        # The client may disconnect at any time; a reloaded page does so before the response begins.
        with suppress(ConnectionError):
            await response.prepare(request)
            await _send_updates(response, cursor, news, state)
    return response


async def _send_updates(
    response: web.StreamResponse, cursor: _StreamCursor, news: Listener, state: SandboxState
) -> None:
    # A short reconnection delay, because the server is on the same machine.
    await response.write(b"retry: 1000\n\n" + cursor.update())
    while not state.message_log.closed:
        if await news.wait(KEEP_ALIVE_SECONDS):
            # write() waits for a slow reader; nothing accumulates in that time, see `Listener`.
            if not state.message_log.closed:
                await response.write(cursor.update())
                with suppress(TimeoutError):
                    await asyncio.wait_for(state.closing.wait(), PACE_SECONDS)
        else:
            await response.write(b": keep-alive\n\n")


class _StreamCursor:
    """The position of one listener in the logs."""

    def __init__(self, state: SandboxState, workspace: str | None, last_id: str) -> None:
        self._state = state
        self._workspace = workspace
        self._era = state.message_log.era
        self._message = state.message_log.last
        self._request = state.request_log.last
        self._reset = False
        position = ID.fullmatch(last_id)
        if position is not None:
            self._reset = position[1] != self._era
            if not self._reset:
                self._request = min(int(position[2]), self._request)
                self._message = min(int(position[3]), self._message)

    def update(self) -> bytes:
        """Return the next event, and advance."""
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
        # orjson writes no line breaks, which would end the field.
        return b"id: %b\nevent: update\ndata: %b\n\n" % (name.encode(), orjson.dumps(data))


def _within(messages: Sequence[dict[str, Any]]) -> tuple[list[orjson.Fragment], int]:
    """Return the latest messages that fit into one event, and the number of those that do not."""
    kept: list[orjson.Fragment] = []
    room = MAX_BYTES
    for message in reversed(messages):
        text = encode(message)
        if len(text) <= room:
            room -= len(text)
            kept.append(orjson.Fragment(text))
    return kept[::-1], len(messages) - len(kept)
