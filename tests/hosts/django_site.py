"""A Django site with a database and the admin; ``python -m tests.hosts.django_site`` makes the database."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

APPS = ("admin", "auth", "contenttypes", "sessions", "messages")

settings.configure(
    SECRET_KEY="tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="tests.hosts.django_site",
    INSTALLED_APPS=[f"django.contrib.{name}" for name in APPS],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ["DATABASE"],
            "OPTIONS": {"timeout": 20},
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "salesmachine_async.integrations.django.SalesmachineMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    SALESMACHINE={"pageviews": True, "exclude": ["/admin/*"]},
)
django.setup()

from django.contrib import admin  # noqa: E402
from django.contrib.auth import user_logged_in  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.dispatch import receiver  # noqa: E402

from salesmachine_async import ThreadedAgent  # noqa: E402
from salesmachine_async.integrations.django import current_tracker, identify  # noqa: E402

second = ThreadedAgent()


def _visited(number: int) -> None:
    identify(f"u{number}")
    current_tracker().track("visited")
    second.track(f"u{number}", "second")


def orm(request: HttpRequest, number: int) -> HttpResponse:
    """Ask the database, which Django refuses where it sees a running event loop."""
    _visited(number)
    return HttpResponse(str(User.objects.count()))


async def _run() -> str:
    await asyncio.sleep(0)
    return "ran"


def loop(request: HttpRequest, number: int) -> HttpResponse:
    """Run an event loop of the view's own."""
    _visited(number)
    return HttpResponse(asyncio.run(_run()))


@receiver(user_logged_in)
def logged_in(user: User, **_: Any) -> None:
    """Track the login, in the middle of a view of Django's own."""
    identify(user.pk)
    current_tracker().track("logged_in")


urlpatterns = [
    path("orm/<int:number>/", orm),
    path("loop/<int:number>/", loop),
    path("admin/", admin.site.urls),
]
application = get_wsgi_application()


def make_database() -> None:
    """Make the tables, and one user who may enter the admin."""
    call_command("migrate", verbosity=0)
    User.objects.create_superuser("boss", "boss@example.com", "boss")


if __name__ == "__main__":
    make_database()
