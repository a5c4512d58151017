"""The agent of one application: made, started and closed so that nothing of it can harm the application."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
from contextvars import Context
from typing import Any, Final
from weakref import WeakSet

from salesmachine_async._core.batch import Batch
from salesmachine_async._core.wire import Outcome
from salesmachine_async._delivery.settings import TOKEN_VARIABLE
from salesmachine_async._log import TroubleLog, logger
from salesmachine_async.agent import Agent
from salesmachine_async.errors import ConfigError, ConnectionFailed

__all__ = ["Life", "Nowhere", "guard_log", "nothing", "say_off"]

# Of all integrations: their own failures, which never reach the application.
guard_log: Final = TroubleLog()

# Those that were started by a request, not by a lifespan: nobody will stop them before the process ends.
_unattended: WeakSet[Life] = WeakSet()


class Life:
    """
    Holds an application's agent: the one it is given, or one of its own, made anew for every lifespan.

    Args:
        agent: Given: it is started, and flushed at the end, but closing it is its owner's affair.
            None: one of its own, from the environment. If that is not possible, tracking is off and a log line says so.
    """

    __slots__ = ("__weakref__", "_given", "_loop", "_own")

    def __init__(self, agent: Agent | None) -> None:
        self._given = agent
        self._own: Agent | None = None
        # Where the agent was started last; compared, never called.
        self._loop: object = None

    @property
    def agent(self) -> Agent:
        """The agent."""
        if self._given is not None:
            return self._given
        if self._own is None:
            self._own = agent_of_the_environment()
        return self._own

    async def start(self, *, attended: bool) -> Agent:
        """
        Have the agent deliver on the running loop. Logs what goes wrong; never raises.

        Args:
            attended: Whether `stop` will be called.
        """
        agent = self.agent
        try:
            loop = asyncio.get_running_loop()
            if self._loop is not loop:
                # In a context of its own: the tasks live long and must keep neither a request nor its trace.
                await loop.create_task(agent.start(), context=Context())
                self._loop = loop
                if self._given is None and not attended:
                    _unattended.add(self)
        except Exception as exc:  # noqa: BLE001 (the application comes first)
            guard_log("start", logging.ERROR, "the agent could not be started: %s", exc)
        return agent

    async def stop(self) -> None:
        """Deliver what is left within the agent's own deadline; close the agent if it is ours. Never raises."""
        own, self._own, self._loop = self._own, None, None
        _unattended.discard(self)
        try:
            if own is not None:
                await own.aclose()
            elif self._given is not None:
                seconds = self._given._timeouts.close  # pyright: ignore[reportPrivateUsage]
                await self._given.flush(seconds)
        except Exception as exc:  # noqa: BLE001
            guard_log("stop", logging.ERROR, "the agent could not be closed: %s", exc)


def agent_of_the_environment() -> Agent:
    """Return an agent configured by the environment; one that refuses everything if that cannot be, and say so."""
    try:
        return Agent()
    except ConfigError as exc:
        say_off(exc)
        return Agent(transport=Nowhere(), before_send=nothing)


def say_off(exc: ConfigError) -> None:
    """Log that nothing is tracked. That there is no token is usual on a developer's machine."""
    level = logging.ERROR if os.environ.get(TOKEN_VARIABLE) else logging.WARNING
    logger.log(level, "tracking is off: %s", exc)


class Nowhere:
    """A carrier that carries nothing."""

    async def send(self, batch: Batch) -> Outcome:  # noqa: ARG002 (the protocol)
        """Fail: nothing is ever queued for it, but somebody may `ping`."""
        return Outcome.failed(ConnectionFailed("tracking is off"))

    async def aclose(self) -> None:
        """Do nothing."""


def nothing(_message: dict[str, Any]) -> None:
    """Drop every message, after it was checked as always."""


@atexit.register
def _drain_unattended() -> None:
    """Deliver what is left where no lifespan did it. Registered after, and so run before, the agent's last warning."""
    for life in list(_unattended):
        asyncio.run(life.stop())
