"""
A Django project in one file that tracks: ``uvicorn examples.django_app:application``, or under WSGI ``…:wsgi``.

Who is logged in is the contact; there is nothing to say in the views.
"""

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from salesmachine_async.integrations.asgi import SalesmachineMiddleware
from salesmachine_async.integrations.django import current_tracker

settings.configure(
    SECRET_KEY="an example",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    # No database: the session is a signed cookie, and the user is found by the backend below.
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    AUTHENTICATION_BACKENDS=[f"{__name__}.Everybody"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "salesmachine_async.integrations.django.SalesmachineMiddleware",
    ],
    SALESMACHINE={"pageviews": True},
)
django.setup()

# Only now are there models.
from django.contrib.auth import alogin
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in

# There is no database to note the last login in.
user_logged_in.disconnect(dispatch_uid="update_last_login")


class Everybody(BaseBackend):
    """Knows everybody by number."""

    def get_user(self, user_id: int) -> User:
        """Return who has a number."""
        return User(pk=user_id)


async def login(request: HttpRequest, number: int) -> HttpResponse:
    """Log in."""
    await alogin(request, User(pk=number), f"{__name__}.Everybody")
    return HttpResponse("welcome")


async def home(request: HttpRequest) -> HttpResponse:
    """Just answer: the pageview is automatic."""
    return HttpResponse("home")


def order(request: HttpRequest, order_id: str) -> HttpResponse:
    """Track from a plain view."""
    current_tracker().track("order_created", {"order": order_id})
    return HttpResponse("ok")


urlpatterns = [
    path("login/<int:number>/", login),
    path("home/", home),
    path("orders/<str:order_id>/", order),
]

application = SalesmachineMiddleware(get_asgi_application(), pageviews=True)
wsgi = get_wsgi_application()
