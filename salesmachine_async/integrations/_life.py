"""The agent of one application: made, started and closed so that nothing of it can harm the application."""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context
from typing import Final

from salesmachine_async._log import RateLimitedLogger
from salesmachine_async.agent import Agent
from salesmachine_async.errors import WrongLoop
from salesmachine_async.integrations._environment import agent_of_the_environment, fallback_agent
from salesmachine_async.tracker import Calls

__all__ = ["Life", "guard_log"]

# Of all integrations: their own failures, which never reach the application.
guard_log: Final = RateLimitedLogger()


class Life:
    """
    Holds an application's agent: the one it is given, or one of its own, made anew for every lifespan.

    Args:
        agent: Given: it is started, and flushed at the end, but closing it is its owner's affair.
            None: one of its own, from the environment. If that is not possible, tracking is off and a log line says so.
    """

    __slots__ = ("_agent", "_given", "_loop")

    def __init__(self, agent: Agent | None) -> None:
        self._given = agent
        # Of the lifespan, while one runs; else the given one.
        self._agent = agent
        # Where the agent was started last; compared, never called.
        self._loop: object = None

    async def begin(self) -> Agent:
        """Start the agent with the application, which `end` will be told the end of. Never raises."""
        agent = self._agent
        if agent is None:
            self._agent = agent = agent_of_the_environment()
        await self._start(agent)
        return agent

    async def serve(self) -> Calls:
        """
        Return the agent for a request, and have it deliver. Never raises.

        Where no lifespan runs, each request may come with an event loop that ends with it (test clients): an agent
        of our own then has a loop of its own.
        """
        agent = self._agent
        if agent is None:
            return fallback_agent()
        await self._start(agent)
        return agent

    async def end(self) -> None:
        """Deliver what is left within the agent's own deadline; close the agent if it is ours. Never raises."""
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
            await loop.create_task(agent.start(), context=Context())
            self._loop = loop
        except WrongLoop:
            pass  # it delivers there what is tracked here
        except Exception as exc:  # noqa: BLE001 (the application comes first)
            guard_log("start", logging.ERROR, "the agent could not be started: %s", exc, loud=True)
