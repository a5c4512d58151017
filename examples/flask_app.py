"""
Flask.

    flask --app examples.flask_app run
"""

from __future__ import annotations

from flask import Flask

from salesmachine_async.integrations.flask import Salesmachine, current_tracker

app = Flask(__name__)
Salesmachine(app, pageviews=True)


@app.post("/users/<user_id>/orders/<order_id>")
def order(user_id: str, order_id: str) -> str:
    """Track an order of the contact in the path."""
    tracker = current_tracker()
    tracker.identify(user_id)
    tracker.track("order_created", {"order": order_id})
    return "ok"
