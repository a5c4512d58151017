"""The agents an application has without making one: configured by the environment, or off where that cannot be."""

from __future__ import annotations

import logging
import os
import threading
from typing import Any, Final

from salesmachine_async._core.batch import Batch
from salesmachine_async._core.response import Outcome
from salesmachine_async._http.config import SECRET_VARIABLE, TOKEN_VARIABLE, URL_VARIABLE
from salesmachine_async._log import log_or_stderr
from salesmachine_async.agent import Agent
from salesmachine_async.errors import ConfigError, ConnectionFailed
from salesmachine_async.threaded import ThreadedAgent

__all__ = ["agent_of_the_environment", "fallback_agent", "nothing"]

VARIABLES: Final = (TOKEN_VARIABLE, SECRET_VARIABLE, URL_VARIABLE)

# The one there is, by the environment it was made in.
_stand_ins: dict[tuple[str | None, ...], ThreadedAgent] = {}


def agent_of_the_environment() -> Agent:
    """Return a new agent; one that refuses everything if the environment has no usable keys, and say so."""
    try:
        return Agent()
    except ConfigError as exc:
        _say_off(exc)
        return Agent(transport=_Nowhere(), before_send=nothing)


def fallback_agent() -> ThreadedAgent:
    """
    Return the one agent of the process for requests around which no event loop is sure to live: without a lifespan.

    In tests the environment changes; then so does the agent.
    """
    environment = tuple(map(os.environ.get, VARIABLES))
    agent = _stand_ins.get(environment)
    return _made(environment) if agent is None else agent


def _made(environment: tuple[str | None, ...]) -> ThreadedAgent:
    for other in list(_stand_ins):
        # Another thread may have made ours since we looked.
        old = _stand_ins.pop(other, None) if other != environment else None
        if old is not None:
            # Not waited for: a request is being answered. What is left of it by the exit is waited for there.
            threading.Thread(target=old.close, name="salesmachine-close", daemon=True).start()
    try:
        agent = ThreadedAgent()
    except ConfigError as exc:
        _say_off(exc)
        agent = ThreadedAgent(transport=_Nowhere(), before_send=nothing)
    # Without a lock, which a fork could leave locked. Of two made at once one is kept; the other has no thread yet.
    return _stand_ins.setdefault(environment, agent)


def _say_off(exc: ConfigError) -> None:
    """
    Log that nothing is tracked. That there is no token is usual on a developer's machine.

    Loudly: web servers configure no logging but their own, and who forgot the keys would wonder.
    """
    level = logging.ERROR if os.environ.get(TOKEN_VARIABLE) else logging.WARNING
    log_or_stderr(level, "tracking is off: %s", exc)


class _Nowhere:
    """A carrier that carries nothing."""

    async def send(self, batch: Batch) -> Outcome:  # noqa: ARG002 (the protocol)
        """Fail: nothing is ever queued for it, but somebody may `ping`."""
        return Outcome.failed(ConnectionFailed("tracking is off"))

    async def aclose(self) -> None:
        """Do nothing."""


def nothing(_message: dict[str, Any]) -> None:
    """Drop every message, after it was checked as always."""
