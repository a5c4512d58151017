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

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from litestar.di import Provide
from litestar.middleware import DefineMiddleware
from litestar.plugins import InitPlugin

from salesmachine_async.agent import Agent
from salesmachine_async.integrations._context import Uid, current_tracker, identify
from salesmachine_async.integrations._life import Life
from salesmachine_async.integrations._pageviews import METHODS
from salesmachine_async.integrations.asgi import SalesmachineMiddleware
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

__all__ = ["SalesmachinePlugin", "Tracker", "current_tracker", "identify"]


class SalesmachinePlugin(InitPlugin):
    """
    Gives every request a tracker, as the dependency ``salesmachine``, and the application an agent.

    Args:
        agent: As of `SalesmachineMiddleware`.
        pageviews: As of `SalesmachineMiddleware`; so are the rest.
        contact: See there.
        account: See there.
        exclude: See there.
        methods: See there.
        client_ip: See there.
        user_agent: See there.
    """

    def __init__(
        self,
        agent: Agent | None = None,
        *,
        pageviews: bool = False,
        contact: Callable[[Any], Uid] | None = None,
        account: Callable[[Any], Uid] | None = None,
        exclude: Collection[str] = (),
        methods: Collection[str] = METHODS,
        client_ip: bool = False,
        user_agent: bool = False,
    ) -> None:
        # Litestar makes one middleware per route and tells none of them of the lifespan: they share this.
        self._life = Life(agent)
        # Litestar describes scopes and messages more closely than ASGI does.
        middleware: Any = SalesmachineMiddleware
        self._middleware = partial(
            DefineMiddleware,
            middleware,
            agent=self._life,
            pageviews=pageviews,
            contact=contact,
            account=account,
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
        app_config.on_shutdown.append(self._life.end)
        app_config.dependencies["salesmachine"] = Provide(current_tracker, sync_to_thread=False)
        return app_config

    @asynccontextmanager
    async def _start(self, _app: Litestar) -> AsyncGenerator[None]:
        await self._life.begin()
        yield
