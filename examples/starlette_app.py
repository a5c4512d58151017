"""A Starlette application that tracks: ``uvicorn examples.starlette_app:app``."""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from salesmachine_async.integrations.asgi import SalesmachineMiddleware, current_tracker, identify


async def order(request: Request) -> PlainTextResponse:
    """Track an order."""
    identify(request.path_params["user_id"])
    current_tracker().track("order_created", {"order": request.path_params["order_id"]})
    return PlainTextResponse("ok")


app = Starlette(
    routes=[Mount("/users/{user_id}", routes=[Route("/orders/{order_id}", order, methods=["POST"])])],
    middleware=[Middleware(SalesmachineMiddleware, pageviews=True)],
)
