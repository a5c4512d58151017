"""A Litestar application that tracks: ``uvicorn examples.litestar_app:app``."""

from litestar import Litestar, post
from litestar.params import FromPath

from salesmachine_async.integrations.litestar import SalesmachinePlugin, Tracker


@post("/users/{user_id:str}/orders/{order_id:str}")
async def order(user_id: FromPath[str], order_id: FromPath[str], salesmachine: Tracker) -> str:
    """Track an order."""
    salesmachine.identify(user_id)
    salesmachine.track("order_created", {"order": order_id})
    return "ok"


@post("/users/{user_id:str}/letters", sync_to_thread=True)
def letter(user_id: FromPath[str], salesmachine: Tracker) -> str:
    """Track from a thread."""
    salesmachine.identify(user_id)
    salesmachine.track("letter_sent")
    return "ok"


app = Litestar([order, letter], plugins=[SalesmachinePlugin(pageviews=True)])
