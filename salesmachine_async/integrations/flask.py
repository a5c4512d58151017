"""
Flask.

::

    from salesmachine_async.integrations.flask import Salesmachine, current_tracker

    app = Flask(__name__)
    Salesmachine(app, pageviews=True)

    @app.post("/orders/<order_id>")
    def order(order_id):
        tracker = current_tracker()
        tracker.identify("123456")
        tracker.track("order_created", {"order": order_id})
        return "ok"
"""

from __future__ import annotations

from typing import Any, Final

from flask import Flask, request

from salesmachine_async.integrations._anonymous import AnonymousCookie
from salesmachine_async.integrations._context import RequestTracker, current_tracker, identify, tracking
from salesmachine_async.integrations.wsgi import KEY, SalesmachineMiddleware
from salesmachine_async.tracker import Calls

__all__ = ["AnonymousCookie", "Salesmachine", "current_tracker", "get_agent", "identify", "tracking"]

EXTENSION: Final = "salesmachine"


class Salesmachine:
    """
    Gives every request of a Flask application a tracker that knows its route, and the application an agent.

    Args:
        app: The application; None: call `init_app` later.
        options: As of `salesmachine_async.integrations.wsgi.SalesmachineMiddleware`, without *route*. ``contact``,
            ``account`` and ``anonymous_id`` are called with the WSGI environ, inside the request's context.
    """

    def __init__(self, app: Flask | None = None, **options: Any) -> None:
        self._options = options
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Add the extension to an application."""
        middleware = SalesmachineMiddleware(app.wsgi_app, **self._options)
        app.extensions[EXTENSION] = middleware
        app.wsgi_app = middleware  # type: ignore[method-assign]
        # Before the request's own functions: one of them may answer. After them nothing is known that is not known now.
        app.before_request_funcs.setdefault(None, []).insert(0, _note_route)
        app.teardown_request(_note_contact)


def get_agent(app: Flask) -> Calls:
    """
    Return the agent of an application, for what is not about a request: metrics, ``flush``, signals.

    Raises:
        LookupError: The extension was not added to the application.
    """
    middleware: SalesmachineMiddleware | None = app.extensions.get(EXTENSION)
    if middleware is None:
        raise LookupError("no agent for this application: call Salesmachine(app)")
    return middleware.agent


def _note_route() -> None:
    tracker = request.environ.get(KEY)
    if isinstance(tracker, RequestTracker) and request.url_rule is not None:
        tracker.route = request.url_rule.rule


def _note_contact(_exc: BaseException | None) -> None:
    """Ask for the contact while the session and the user are there; the pageview comes after them."""
    tracker = request.environ.get(KEY)
    if isinstance(tracker, RequestTracker) and tracker.expects_pageview:
        _ = tracker.contact_uid, tracker.account_uid
