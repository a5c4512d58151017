"""An aiohttp application that tracks: ``python -m aiohttp.web examples.aiohttp_app:create_app``."""

from aiohttp import web

from salesmachine_async.integrations import aiohttp as salesmachine


async def order(request: web.Request) -> web.Response:
    """Track an order."""
    sm = salesmachine.tracker(request)
    sm.identify(request.match_info["user_id"])
    sm.track("order_created", {"order": request.match_info["order_id"]})
    return web.Response(text="ok")


async def news(request: web.Request) -> web.Response:
    """Use the agent itself."""
    agent = request.config_dict[salesmachine.AGENT]
    agent.account("acme", {"name": "Acme"})
    return web.Response(text="ok")


def create_app(_arguments: list[str] | None = None) -> web.Application:
    """Make the application."""
    app = web.Application()
    salesmachine.setup(app, pageviews=True, exclude=("/news",))
    app.router.add_post("/users/{user_id}/orders/{order_id}", order)
    app.router.add_get("/news", news)
    return app
