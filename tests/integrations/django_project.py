"""A Django project for the tests: users without a database, views of both kinds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from io import BytesIO

import django
from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from salesmachine_async.integrations.django import current_tracker, identify
from tests.support.visitors import act

if not settings.configured:
    settings.configure(
        SECRET_KEY="tests",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        AUTHENTICATION_BACKENDS=[f"{__name__}.Everybody"],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "salesmachine_async.integrations.django.SalesmachineMiddleware",
        ],
    )
    django.setup()

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import User
from django.contrib.sessions.backends.signed_cookies import SessionStore


class Everybody(BaseBackend):
    def get_user(self, user_id: int) -> User:
        if user_id == 13:
            raise RuntimeError("no database")
        return User(pk=user_id)


def cookie_of(number: int) -> tuple[bytes, bytes]:
    """Return the Cookie header of a user who is logged in."""
    session = SessionStore()
    session[SESSION_KEY] = str(number)
    session[BACKEND_SESSION_KEY] = f"{__name__}.Everybody"
    session[HASH_SESSION_KEY] = User(pk=number).get_session_auth_hash()
    session.save()
    return b"cookie", f"{settings.SESSION_COOKIE_NAME}={session.session_key}".encode()


def sync_page(request: HttpRequest, number: int) -> HttpResponse:
    current_tracker().track("seen in a thread")
    return HttpResponse("ok")


async def async_page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


async def async_tracking(request: HttpRequest) -> HttpResponse:
    user = await request.auser()
    assert user.is_authenticated
    current_tracker().track("seen on the loop")
    return HttpResponse("ok")


async def identified(request: HttpRequest) -> HttpResponse:
    identify("by hand", "acme")
    return HttpResponse("ok")


def broken(request: HttpRequest) -> HttpResponse:
    identify("u")
    raise RuntimeError("boom")


def streamed(request: HttpRequest) -> StreamingHttpResponse:
    def rows() -> Iterator[bytes]:
        for part in (b"a", b"b"):
            current_tracker().track("row")
            yield part

    return StreamingHttpResponse(rows())


async def streamed_async(request: HttpRequest) -> StreamingHttpResponse:
    async def rows() -> AsyncIterator[bytes]:
        for part in (b"a", b"b"):
            current_tracker().track("row")
            yield part

    return StreamingHttpResponse(rows())


def uploaded(request: HttpRequest) -> HttpResponse:
    identify("u")
    return HttpResponse(str(len(request.body)))


def acting(request: HttpRequest, action: str, user: str = "") -> HttpResponse:
    return HttpResponse("ok", headers=act(action, user))


def sent_file(request: HttpRequest) -> FileResponse:
    identify("u")
    return FileResponse(BytesIO(b"file"), filename="file.txt")


urlpatterns = [
    path("sync/<int:number>/", sync_page),
    path("async/", async_page),
    path("tracking/", async_tracking),
    path("identified/", identified),
    path("broken/", broken),
    path("streamed/", streamed),
    path("streamed-async/", streamed_async),
    path("uploaded/", uploaded),
    path("file/", sent_file),
    path("<str:action>", acting),
    path("<str:action>/<str:user>", acting),
]
