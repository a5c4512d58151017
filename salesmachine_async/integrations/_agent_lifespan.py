"""The agent of one application: made, started and closed so that no failure of it can harm the application."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from contextvars import Context
from typing import Any, Final
from weakref import WeakKeyDictionary

from salesmachine_async._log import RateLimitedLogger
from salesmachine_async.agent import Agent
from salesmachine_async.errors import WrongLoop
from salesmachine_async.integrations._environment import (
    DEFAULT,
    AgentOptions,
    agent_of_the_environment,
    fallback_agent,
)
from salesmachine_async.threaded import ThreadedAgent
from salesmachine_async.tracker import Calls

__all__ = ["AgentLifespan", "get_agent", "guard_log", "register"]

# The failures of all integrations, which never reach the application.
guard_log: Final = RateLimitedLogger()

# By application: where its agent is.
_lifespans: WeakKeyDictionary[Any, AgentLifespan] = WeakKeyDictionary()


class AgentLifespan:
    """
    Holds an application's agent: a given one, or one that it makes for every lifespan.

    Args:
        agent: A given one is started, and flushed at the end; its owner closes it. None: one of its own, from the
            environment. If that is not possible, tracking is off, which is logged.
        options: For one of its own.
    """

    __slots__ = ("_agent", "_given", "_loop", "_options")

    def __init__(self, agent: Agent | None, options: AgentOptions = DEFAULT) -> None:
        self._given = agent
        self._options = options
        # The agent of the lifespan, while one runs; else the given one.
        self._agent = agent
        # The event loop that the agent was started on last; compared, never called.
        self._loop: object = None

    @property
    def agent(self) -> Agent | ThreadedAgent:
        """The agent that carries messages now."""
        return self._agent or fallback_agent(self._options)

    def has_ended(self, agent: Calls) -> bool:
        """Return whether *agent* belongs to a lifespan that is over, although a request of it may still live."""
        return self._given is None and isinstance(agent, Agent) and agent is not self._agent

    async def begin(self) -> Agent:
        """Start the agent with the application, whose end calls `end`. Never raises."""
        agent = self._agent
        if agent is None:
            self._agent = agent = agent_of_the_environment(self._options)
        await self._start(agent)
        return agent

    async def serve(self) -> Calls:
        """
        Return the agent for a request, delivering. Never raises.

        Where no lifespan runs, each request may come with an event loop that ends with it (test clients): an agent
        of our own then has a loop of its own.
        """
        agent = self._agent
        if agent is None:
            return fallback_agent(self._options)
        await self._start(agent)
        return agent

    async def end(self) -> None:
        """Deliver what is left within the agent's own deadline; close the agent if it was made here. Never raises."""
        agent, self._agent, self._loop = self._agent, self._given, None
        try:
            if self._given is not None:
                seconds = self._given._timeouts.close  # pyright: ignore[reportPrivateUsage]
                await self._given.flush(seconds)
            elif agent is not None:
                await agent.aclose()
        except Exception as exc:  # noqa: BLE001
            guard_log("stop", logging.ERROR, "the agent could not be closed: %s", exc)

    async def _start(self, agent: Agent) -> None:
        try:
            loop = asyncio.get_running_loop()
            if self._loop is loop:
                return
            # In a context of its own: the tasks live long and must keep neither a request nor its trace.
            await _create_task(loop, agent)
            self._loop = loop
        except WrongLoop:
            pass  # it delivers there what is tracked here
        except Exception as exc:  # noqa: BLE001 (the application comes first)
            guard_log("start", logging.ERROR, "the agent could not be started: %s", exc, loud=True)


def register(app: object, lifespan: AgentLifespan) -> None:
    """Let `get_agent` find the agent of *app*."""
    with suppress(TypeError):  # it is no object that can be referred to weakly
        _lifespans[app] = lifespan


def get_agent(app: object) -> Agent | ThreadedAgent:
    """
    Return the agent of an application, for what is not about a request: metrics, ``flush``, signals.

    While the application runs, it is the agent of its lifespan; else the one that the process falls back on.

    Raises:
        LookupError: The integration was not added to the application, or the application has not been started yet.
    """
    with suppress(TypeError):
        lifespan = _lifespans.get(app)
        if lifespan is not None:
            return lifespan.agent
    raise LookupError("no agent for this application: add the integration to it, and start it")


async def _create_task(loop: asyncio.AbstractEventLoop, agent: Agent) -> None:
    # Not `create_task(context=...)`, which task factories written before Python 3.11 do not take.
    await Context().run(loop.create_task, agent.start())
