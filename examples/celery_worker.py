"""
A Celery worker that tracks: ``celery -A examples.celery_worker worker``.

The agent is made once, before the workers are forked. Each of them starts a thread of its own at its first message,
and delivers what is left when Celery ends it.
"""

import os

from celery import Celery

from salesmachine_async import ThreadedAgent

app = Celery("shop", broker=os.environ.get("CELERY_BROKER_URL", "amqp://"))
agent = ThreadedAgent()


@app.task
def ship(order: int) -> None:
    """Ship an order."""
    agent.track("123456", "order_shipped", {"order": order})
