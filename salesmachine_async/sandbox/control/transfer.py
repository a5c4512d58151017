"""Export and replay of a workspace as NDJSON."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from aiohttp import web

from salesmachine_async.sandbox.control.export import export
from salesmachine_async.sandbox.http.content_type import sends_json
from salesmachine_async.sandbox.http.responses import ApiError, answer
from salesmachine_async.sandbox.messages import MessageError, ParsedMessage, now, parse_json
from salesmachine_async.sandbox.pacing import paced, strides
from salesmachine_async.sandbox.requests import read_chunks, read_query, requested_workspace, single_workspace
from salesmachine_async.sandbox.state import STATE, SandboxState
from salesmachine_async.sandbox.storage.ndjson import NdjsonLine, parse_line
from salesmachine_async.sandbox.storage.seeds import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from salesmachine_async.sandbox.pacing import Steps
    from salesmachine_async.sandbox.views import ReplayResult

NDJSON = "application/x-ndjson"
# Lines applied in one transaction; one that moves rows, such as an alias, takes a quarter of a millisecond.
PART = 50


class ReplayError(ValueError):
    """A line that cannot be applied; `so_far` is the result of the lines before it."""

    def __init__(self, number: int, problem: str, so_far: ReplayResult) -> None:
        super().__init__(f"line {number}: {problem}; the {so_far['lines']} lines before it are applied")
        self.so_far = so_far


class Replay:
    """
    Applies lines to a workspace in batches.

    Args:
        state: The state of the sandbox.
        workspace: The public name; created if it is unknown.
    """

    def __init__(self, state: SandboxState, workspace: str) -> None:
        state.open_workspace(workspace)
        self._state = state
        self._workspace = workspace
        self._waiting: list[tuple[int, NdjsonLine]] = []
        self._number = 0
        self.result: ReplayResult = {"lines": 0, "accepted": 0, "duplicates": 0}

    def add(self, lines: Iterable[bytes]) -> Steps[None]:
        """
        Add lines.

        Raises:
            ReplayError: If a line, also a pending one, cannot be applied.
        """
        for part in strides(lines):
            for text in part:
                self._number += 1
                if text.strip():
                    yield from self._add(text)
            yield

    def _add(self, text: bytes) -> Steps[None]:
        try:
            line = parse_line(parse_json(text))
        except MessageError as error:
            yield from self.finish()
            raise ReplayError(self._number, str(error), self.result) from None
        self._waiting.append((self._number, line))
        if len(self._waiting) == PART:
            yield from self.finish()

    def finish(self) -> Steps[None]:
        """
        Apply the pending lines.

        Raises:
            ReplayError: A line refers to an object that does not exist.
        """
        waiting, self._waiting = self._waiting, []
        try:
            self._load(line for _, line in waiting)
            yield
        except MessageError:
            # None of the lines was applied; apply them one by one to find the invalid one.
            for number, line in waiting:
                try:
                    self._load([line])
                except MessageError as error:
                    raise ReplayError(number, str(error), self.result) from None
                yield

    def _load(self, lines: Iterable[NdjsonLine]) -> None:
        state, received = self._state, now()
        batch = list(lines)
        most = state.limits.max_events
        with state.store.writing():
            applied = load(state.store, state.v2_store, self._workspace, batch, received, max_events=most)
        self.result["lines"] += len(batch)
        self.result["accepted"] += applied.accepted
        self.result["duplicates"] += applied.duplicates
        messages = [line.content for line in batch if isinstance(line.content, ParsedMessage)]
        first = state.message_log.last + 1
        state.message_log.add(self._workspace, received, messages)
        for number, message in enumerate(messages, first):
            state.plan_results.add(self._workspace, number, message)
        state.message_log.notify()


async def export_lines(request: web.Request) -> web.StreamResponse:
    """Send a workspace as NDJSON in parts."""
    read_query(request)
    state, workspace = request.app[STATE], single_workspace(request)
    response = web.StreamResponse(headers={"Content-Type": NDJSON, "X-Content-Type-Options": "nosniff"})
    await response.prepare(request)
    for part in export(state, workspace):
        await response.write(part)
        await asyncio.sleep(0)
    return response


async def replay_lines(request: web.Request) -> web.StreamResponse:
    """Apply a body of NDJSON line by line as it arrives; a compressed one only up to the limit of other bodies."""
    read_query(request)
    workspace = requested_workspace(request)
    if workspace is None:
        raise ApiError(401, "no workspace selected; send an API token, or ?workspace=")
    # A browser sends these types across origins only after a preflight request.
    if not sends_json(request) and request.content_type not in (NDJSON, "application/jsonlines"):
        raise ApiError(406, f"the Content-Type must be {NDJSON}")
    state = request.app[STATE]
    replay = Replay(state, workspace)
    try:
        async for lines in _lines(request):
            async with state.turn(workspace):
                await paced(replay.add(lines))
        async with state.turn(workspace):
            await paced(replay.finish())
    except ReplayError as error:
        return answer({"error": str(error), **error.so_far}, 400)
    return answer(replay.result)


async def _lines(request: web.Request) -> AsyncIterator[list[bytes]]:
    """Split the body into lines, each within the limit of a whole body, and yield those of each chunk."""
    most = request.app[STATE].limits.max_body_bytes
    compressed = request.headers.get("Content-Encoding", "identity").strip().lower() != "identity"
    too_large = ApiError(413, f"the uncompressed body is larger than the limit of {most} bytes")
    rest = bytearray()
    async for chunk in read_chunks(request, most if compressed else math.inf, too_large):
        *lines, tail = chunk.split(b"\n")
        if lines:
            yield [bytes(rest) + lines[0], *lines[1:]]
            rest.clear()
        rest += tail
        if len(rest) > most:
            raise ApiError(413, f"a line is longer than the limit of {most} bytes")
    if rest:
        yield [bytes(rest)]
