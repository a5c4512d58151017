"""A Celery application whose tasks use Django's database, an event loop of their own and two agents."""

import asyncio
from importlib import import_module
from typing import Any

from django.contrib.auth import get_user_model

from salesmachine_async import ThreadedAgent
from tests.hosts import django_site

# Not imported by name: Celery has no types.
Celery = import_module("celery").Celery
app: Any = Celery("shop")
app.config_from_object("celeryconfig")
agent, second = ThreadedAgent(), ThreadedAgent()


async def _nap() -> int:
    await asyncio.sleep(0.001)
    return 1


@app.task
def ship(order: int) -> None:
    """Ship an order."""
    assert get_user_model().objects.count() == asyncio.run(_nap())
    agent.track("123456", "order_shipped", {"order": order})
    second.track("123456", "second", {"order": order})


def send(count: int) -> None:
    """Make the database, and send so many tasks."""
    django_site.make_database()
    for order in range(count):
        ship.delay(order)
