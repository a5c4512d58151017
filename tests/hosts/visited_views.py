"""The views of the site of `tests.hosts.visited_sites` in Django."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from salesmachine_async.integrations.django import current_tracker
from tests.hosts.visited_sites import TOO_LARGE, parts, parts_async


@csrf_exempt
def upload(request: HttpRequest) -> HttpResponse:
    """Read the body."""
    return HttpResponse(str(len(request.body)))


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Answer without an end, in the way that the server takes it."""
    return StreamingHttpResponse(parts_async() if hasattr(request, "scope") else parts())


def feedback(_: HttpRequest) -> HttpResponse:
    """Track what is too large."""
    current_tracker().track("feedback", TOO_LARGE)
    return HttpResponse("ok")


urlpatterns = [path("upload", upload), path("stream", stream), path("feedback", feedback)]
