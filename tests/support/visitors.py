"""What the handlers of the tests of anonymous visitors do, in each framework."""

from __future__ import annotations

from salesmachine_async.integrations.asgi import current_tracker, identify


def act(action: str, user: str = "") -> dict[str, str]:
    """What a handler does; returns the headers of its answer."""
    match action:
        case "seen":
            current_tracker().track("seen")
        case "login":
            identify(user)
            current_tracker().track("logged in")
        case "logout":
            identify(None)
        case "broken":
            raise RuntimeError("boom")
        case "cached":
            return {"Cache-Control": "public, max-age=60"}
    return {}
