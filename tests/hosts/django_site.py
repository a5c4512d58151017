"""A Django site with a database, for the servers under test."""

from __future__ import annotations

import asyncio
import os

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

settings.configure(
    SECRET_KEY="tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"]}},
    MIDDLEWARE=["salesmachine_async.integrations.django.SalesmachineMiddleware"],
    SALESMACHINE={"pageviews": True},
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.db import connection  # noqa: E402

from salesmachine_async.integrations.django import current_tracker, identify  # noqa: E402


def orm(request: HttpRequest, number: int) -> HttpResponse:
    """Ask the database, which Django refuses where it sees a running event loop."""
    identify(f"u{number}")
    current_tracker().track("visited")
    if User._meta.db_table not in connection.introspection.table_names():
        return HttpResponse(str(number))
    return HttpResponse(str(User.objects.count()))


async def _run() -> str:
    await asyncio.sleep(0)
    return "ran"


def loop(request: HttpRequest, number: int) -> HttpResponse:
    """Run an event loop of the view's own."""
    identify(f"u{number}")
    current_tracker().track("visited")
    return HttpResponse(asyncio.run(_run()))


urlpatterns = [path("orm/<int:number>/", orm), path("loop/<int:number>/", loop)]
application = get_wsgi_application()
