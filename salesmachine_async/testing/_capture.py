"""Capture of the calls of all agents in one recorder, without a network."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final, NoReturn
from unittest.mock import patch
from weakref import WeakKeyDictionary

from salesmachine_async._core.batch import Batch
from salesmachine_async._core.response import Outcome, Verdict
from salesmachine_async._delivery.transport import HttpTransport
from salesmachine_async._http.config import SECRET_VARIABLE, SPOOL_VARIABLE, TOKEN_VARIABLE, URL_VARIABLE
from salesmachine_async._spool.spooler import Recovered, Spooler
from salesmachine_async.access.calls import Caller
from salesmachine_async.agent import Agent
from salesmachine_async.errors import AgentClosed, ConnectionFailed
from salesmachine_async.report import Endpoint, Report, Stats
from salesmachine_async.testing._recorder import Recorder

__all__ = ["capture"]

CALLS: Final = ("contact", "account", "track", "alias")
PROBLEM: Final = "nothing is sent while a test captures"
# For agents that the application creates during a capture. One that is used after its end reaches no server.
ENVIRONMENT: Final = {
    TOKEN_VARIABLE: "captured",
    SECRET_VARIABLE: "captured",
    URL_VARIABLE: "https://salesmachine.invalid",
    SPOOL_VARIABLE: "",
}


@contextmanager
def capture() -> Generator[Recorder]:
    """
    Record the calls of all agents of this process, existing and new ones, threaded ones too, without a network.

    Each agent keeps its own policies: its treatment of invalid arguments, its ``before_send``, its closed state.
    """
    recorder = Recorder()
    shadows = _Shadows(recorder)
    with (
        patch.dict(os.environ, ENVIRONMENT),
        patch.object(HttpTransport, "send", _send_nothing),
        patch.object(Caller, "make", _ask_nothing),
        patch.object(Spooler, "recover", _recover_nothing),
    ):
        patches: list[Any] = [patch.object(Agent, name, shadows.divert(getattr(Agent, name))) for name in CALLS]
        patches += [
            patch.object(Agent, "stats", shadows.stats(Agent.stats)),
            patch.object(Agent, "flush", shadows.flush(Agent.flush)),
            patch.object(Agent, "aclose", shadows.aclose(Agent.aclose)),
        ]
        for each in patches:
            each.start()
        try:
            yield recorder
        finally:
            for each in reversed(patches):
                each.stop()


class _Shadows:
    """A recorder for each agent, with the policies of the agent; all of them record into one."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._shadows: WeakKeyDictionary[Agent, Recorder] = WeakKeyDictionary()

    def of(self, agent: Agent) -> Recorder:
        shadow = self._shadows.get(agent)
        if shadow is None:
            shadow = self._shadows[agent] = self._recorder.alike(agent)
        return shadow

    def divert(self, original: Callable[..., bool]) -> Callable[..., bool]:
        @wraps(original)
        def call(agent: Agent, *args: Any, **kwargs: Any) -> bool:
            if isinstance(agent, Recorder) or _is_closed(agent):
                return original(agent, *args, **kwargs)
            return original(self.of(agent), *args, **kwargs)

        return call

    def stats(self, original: Callable[[Agent], Stats]) -> Callable[[Agent], Stats]:
        @wraps(original)
        def stats(agent: Agent) -> Stats:
            return original(agent if isinstance(agent, Recorder) else self.of(agent))

        return stats

    def flush(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        async def flush(agent: Agent, timeout: float | None = None) -> Report:
            return await self.of(agent).flush(timeout)

        return flush

    def aclose(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        async def aclose(agent: Agent, timeout: float | None = None) -> Report:  # noqa: ARG001
            # Messages queued before the capture are not waited for, because nothing is sent.
            await original(agent, 0)
            return await self.of(agent).aclose()

        return aclose


def _is_closed(agent: Agent) -> bool:
    try:
        agent._check_open()  # pyright: ignore[reportPrivateUsage]
    except AgentClosed:
        return True
    return False


def _recover_nothing(_spooler: Spooler, _n_bytes: int) -> Future[list[Recovered]]:
    """Leave what an earlier process left on disk, because nothing is sent."""
    nothing: Future[list[Recovered]] = Future()
    nothing.set_result([])
    return nothing


async def _ask_nothing(*_: Any, **__: Any) -> NoReturn:
    """Replace requests to the Access API, whose answers a recorder cannot know, by a failure."""
    raise ConnectionFailed(PROBLEM)


async def _send_nothing(_transport: HttpTransport, batch: Batch) -> Outcome:
    """Replace the network: a ping succeeds, and messages queued before the capture stay queued."""
    if batch.endpoint is Endpoint.PING:
        return Outcome(verdict=Verdict.DELIVERED, status=200)
    return Outcome.failed(ConnectionFailed(PROBLEM))
