"""
Litestar.

::

    from salesmachine_async.integrations.litestar import SalesmachinePlugin, Tracker

    @post("/orders/{order_id:str}")
    async def order(order_id: str, salesmachine: Tracker) -> None:
        salesmachine.identify("123456")
        salesmachine.track("order_created", {"order": order_id})

    app = Litestar([order], plugins=[SalesmachinePlugin()])
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from litestar.di import Provide
from litestar.middleware import DefineMiddleware
from litestar.plugins import InitPlugin

from salesmachine_async.agent import Agent
from salesmachine_async.integrations._agent_lifespan import AgentLifespan
from salesmachine_async.integrations._anonymous import AnonymousCookie, AnonymousId, AnonymousVisitors
from salesmachine_async.integrations._callables import Uid
from salesmachine_async.integrations._context import current_tracker, identify, tracking
from salesmachine_async.integrations._environment import AgentOptions
from salesmachine_async.integrations._pageviews import METHODS
from salesmachine_async.integrations.asgi import SalesmachineMiddleware
from salesmachine_async.policy import Invalid
from salesmachine_async.threaded import ThreadedAgent
from salesmachine_async.tracker import Tracker as _Tracker

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.config.app import AppConfig

    from salesmachine_async.tracker import Tracker
else:
    try:
        from litestar.di import NamedDependency
    except ImportError:  # before 2.23, which knows a dependency by its name alone
        Tracker = _Tracker
    else:
        Tracker = NamedDependency[_Tracker]

__all__ = ["AnonymousCookie", "SalesmachinePlugin", "Tracker", "current_tracker", "get_agent", "identify", "tracking"]


class SalesmachinePlugin(InitPlugin):
    """
    Gives every request a tracker, as the dependency ``salesmachine``, and the application an agent.

    Args:
        agent: A given agent is started, flushed at the application's end, never closed. None: one of its own, from the
            environment, which starts and ends with the application.
        pageviews: Whether every answered request of an identified contact is a pageview.
        contact: Returns the contact's uid for a scope, for requests in which `identify` is not called.
        account: Returns the account's uid likewise.
        anonymous_id: The uid of visitors before `identify`, and an alias of the contact from then on: an
            `AnonymousCookie`, or a callable that returns it like *contact*. None: they are not tracked.
        exclude: Routes or paths that are no pageviews, where ``*`` is anything: ``("/health", "/static/*")``.
        methods: The HTTP methods that are pageviews.
        client_ip: Whether pageviews carry the client's address (as ``visit_ip``).
        user_agent: Whether pageviews carry its User-Agent (as ``visit_agent``).
        on_invalid: Policy of the agent made here for arguments that cannot be sent. By default calls report
            them and never raise, because what a visitor types in must not become an error of the request.
        params: Sent with every message of the agent made here.
        enabled: Whether the agent made here sends anything; None: as ``SALESMACHINE_ENABLED`` says.
        debug: Whether the agent made here logs messages and answers; None: as ``SALESMACHINE_DEBUG`` says.

    Raises:
        ConfigError: An argument is unusable: a text as *enabled*, say.
    """

    def __init__(
        self,
        agent: Agent | None = None,
        *,
        pageviews: bool = False,
        contact: Callable[[Any], Uid] | None = None,
        account: Callable[[Any], Uid] | None = None,
        anonymous_id: AnonymousId | None = None,
        exclude: Collection[str] = (),
        methods: Collection[str] = METHODS,
        client_ip: bool = False,
        user_agent: bool = False,
        on_invalid: Invalid = Invalid.REPORT,
        params: Mapping[str, Any] | None = None,
        enabled: bool | None = None,
        debug: bool | None = None,
    ) -> None:
        # Litestar makes one middleware per route and passes the lifespan to none of them, so that they share this.
        options = AgentOptions(on_invalid=on_invalid, params=params, enabled=enabled, debug=debug)
        self._lifespan = AgentLifespan(agent, options)
        # Litestar describes scopes and messages more closely than ASGI does.
        middleware: Any = SalesmachineMiddleware
        self._middleware = partial(
            DefineMiddleware,
            middleware,
            agent=self._lifespan,
            pageviews=pageviews,
            contact=contact,
            account=account,
            anonymous_id=AnonymousVisitors.of(anonymous_id),
            exclude=exclude,
            methods=methods,
            client_ip=client_ip,
            user_agent=user_agent,
        )

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the middleware, the lifespan and the dependency."""
        app_config.middleware.insert(0, self._middleware())  # outermost
        # Lifespans begin before all startup hooks, and shutdown hooks end after all lifespans: first and last of all.
        app_config.lifespan.insert(0, self._start)  # pyright: ignore[reportUnknownMemberType]
        app_config.on_shutdown.append(self._lifespan.end)
        app_config.dependencies["salesmachine"] = Provide(current_tracker, sync_to_thread=False)
        return app_config

    @property
    def agent(self) -> Agent | ThreadedAgent:
        """The agent that carries messages now."""
        return self._lifespan.agent

    @asynccontextmanager
    async def _start(self, _app: Litestar) -> AsyncGenerator[None]:
        await self._lifespan.begin()
        yield


def get_agent(app: Litestar) -> Agent | ThreadedAgent:
    """
    Return the agent of an application, for what is not about a request: metrics, ``flush``, signals.

    While the application runs, it is the agent of its lifespan; else the one that the process falls back on.

    Raises:
        LookupError: The plug-in was not added to the application.
    """
    try:
        return app.plugins.get(SalesmachinePlugin).agent
    except KeyError:
        raise LookupError("no agent for this application: add the SalesmachinePlugin") from None
